//! What a kernel refuses, and why.

/// A problem, buffer or instruction set that a kernel refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The problem itself is malformed or its sizes overflow.
    Problem {
        /// The problem string, as far as it could be written.
        problem: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A slice has another length than the problem needs.
    Length {
        /// Which slice.
        what: &'static str,
        /// Elements needed.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// An [`Executor`](crate::Executor) did not do all of what it was given.
    Executor {
        /// Parts it was given.
        expected: usize,
        /// Parts that it ran to their end.
        finished: usize,
    },
    /// The system has no memory for a buffer.
    OutOfMemory {
        /// Its size.
        bytes: usize,
    },
    /// No instruction set has this name.
    UnknownIsa {
        /// The name.
        name: String,
    },
    /// This build has no kernels for a kind of elements.
    NotBuilt {
        /// The cargo feature that they come with.
        feature: &'static str,
    },
    /// This processor, or this build, lacks the instruction set.
    IsaUnavailable {
        /// What was asked for.
        isa: crate::Isa,
    },
    /// An environment variable has a value that is refused.
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong with its value.
        error: Box<Error>,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |isas: &[crate::Isa]| isas.iter().map(|i| i.name()).collect::<Vec<_>>().join(", ");
        match self {
            Error::Problem { problem, reason } => write!(f, "problem {problem}: {reason}"),
            Error::Length { what, expected, found } => write!(f, "{what}: expected {expected} elements, found {found}"),
            Error::Executor { expected, finished } => write!(f, "the executor finished {finished} of {expected} parts"),
            Error::OutOfMemory { bytes } => write!(f, "no memory for a buffer of {bytes} bytes"),
            Error::NotBuilt { feature } => write!(f, "this build has no {feature} kernels: they come with the cargo feature `{feature}`"),
            Error::UnknownIsa { name } => write!(f, "unknown instruction set `{name}`; known: {}", list(&crate::Isa::ALL)),
            Error::IsaUnavailable { isa } => {
                write!(f, "instruction set {isa} is not available here; available: {}", list(crate::Isa::available()))
            }
            Error::Variable { name, error } => write!(f, "{name}: {error}"),
        }
    }
}

impl std::error::Error for Error {}
