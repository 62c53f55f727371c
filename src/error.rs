//! One error type for the whole crate; every variant names the offender, what was expected and what was found.

use std::path::PathBuf;

/// The result of every fallible public function.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, with the file, tensor, node or argument that is to blame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened, read, mapped or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file's content is not what its format demands (truncated, corrupt, lying about sizes, unsupported).
    #[error("{}: {reason}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and, where known, what to do.
        reason: String,
    },
    /// Tensors that an architecture needs are missing, unexpected or of another shape: all of them at once.
    #[error("{0}")]
    Weights(Box<WeightMismatch>),
    /// A weight is NaN or infinite.
    #[error("{}: tensor `{tensor}` holds {value} at element {index}; weights must be finite", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// Flat index of the first such element.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The architecture's name is unknown, none matches the names and shapes of a file, or a file holds another one.
    #[error("architecture {found}: {reason}")]
    Arch {
        /// What was asked for or found.
        found: String,
        /// Why it can't be used, with the known names.
        reason: String,
    },
    /// A tensor or argument has another shape than the one that is needed.
    #[error("{what}: expected shape {expected}, found {found}")]
    Shape {
        /// The tensor or argument.
        what: String,
        /// What was needed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A tensor or file has another element type than the one that is needed.
    #[error("{what}: expected element type {expected}, found {found}")]
    DType {
        /// The tensor, file or argument.
        what: String,
        /// What was needed.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A size is over a limit, or its product overflows; nothing was allocated.
    #[error("{what}: {requested} is over the limit of {limit}")]
    TooLarge {
        /// What would be too large.
        what: String,
        /// The size that was asked for, with its unit.
        requested: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// An argument or option has a value that means nothing.
    #[error("{argument}: {reason}")]
    InvalidArgument {
        /// The argument or option.
        argument: String,
        /// What is wrong with it and what is accepted.
        reason: String,
    },
    /// Nodes of a file's network that this crate can't run: all of them at once.
    #[error("{}: {}", path.display(), list(nodes))]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The nodes, in their order.
        nodes: Vec<UnsupportedNode>,
    },
    /// A node of the graph is malformed.
    #[error("node `{node}`: {reason}")]
    Graph {
        /// The node's name.
        node: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A run was cancelled through its [`CancelToken`](crate::CancelToken).
    #[error("the run was cancelled before step `{step}`")]
    Cancelled {
        /// The step that it did not go on to.
        step: String,
    },
    /// A run took longer than its session's time limit.
    #[error("the run took longer than its limit of {limit:?}: it ended before step `{step}`")]
    TimedOut {
        /// The step that it did not go on to.
        step: String,
        /// The limit.
        limit: std::time::Duration,
    },
    /// A pool's threads are in another process: they do not survive a fork.
    #[error(
        "the thread pool was started in process {started}, and its threads are not in this one, {process}; make pools and sessions after the fork"
    )]
    Forked {
        /// The process that has the threads.
        started: u32,
        /// The process that would use them.
        process: u32,
    },
    /// A kernel refused a problem or an instruction set.
    #[error(transparent)]
    Kernel(#[from] stridewise_kernels::Error),
}

/// What an [`Error`] is about. Unlike `Error` it can be matched without a wildcard, which the bindings do, so that no kind of error
/// is left out of their own lists of them.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorKind {
    Io,
    Format,
    Weights,
    Arch,
    Shape,
    DType,
    TooLarge,
    InvalidArgument,
    Unsupported,
    Graph,
    Cancelled,
    TimedOut,
    Forked,
    Kernel,
}

impl Error {
    /// For the bindings.
    #[doc(hidden)]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } => ErrorKind::Io,
            Error::Format { .. } => ErrorKind::Format,
            Error::Weights(_) | Error::NonFinite { .. } => ErrorKind::Weights,
            Error::Arch { .. } => ErrorKind::Arch,
            Error::Shape { .. } => ErrorKind::Shape,
            Error::DType { .. } => ErrorKind::DType,
            Error::TooLarge { .. } => ErrorKind::TooLarge,
            Error::InvalidArgument { .. } => ErrorKind::InvalidArgument,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::Graph { .. } => ErrorKind::Graph,
            Error::Cancelled { .. } => ErrorKind::Cancelled,
            Error::TimedOut { .. } => ErrorKind::TimedOut,
            Error::Forked { .. } => ErrorKind::Forked,
            Error::Kernel(_) => ErrorKind::Kernel,
        }
    }
}

/// One node of [`Error::Unsupported`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnsupportedNode {
    /// The node's name.
    pub name: String,
    /// Its op.
    pub op: String,
    /// What is not supported about it.
    pub reason: String,
}

fn list(nodes: &[UnsupportedNode]) -> String {
    let lines: Vec<String> = nodes.iter().map(|node| format!("\n  {} `{}`: {}", node.op, node.name, node.reason)).collect();
    format!("{} {} not supported:{}", nodes.len(), if nodes.len() == 1 { "node is" } else { "nodes are" }, lines.concat())
}

/// What [`Error::Weights`] lists. Shapes are as in the file, for example `[64, 3, 7, 7]`.
#[derive(Debug, Default)]
pub struct WeightMismatch {
    /// The file.
    pub path: PathBuf,
    /// The architecture that the tensors were held against.
    pub arch: String,
    /// Needed and not there: name and expected shape.
    pub missing: Vec<(String, Vec<usize>)>,
    /// There and not needed: name and found shape.
    pub unexpected: Vec<(String, Vec<usize>)>,
    /// There with another shape: name, expected, found.
    pub misshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl WeightMismatch {
    /// True when there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshaped.is_empty()
    }
}

impl std::fmt::Display for WeightMismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}: the tensors do not fit {}: {} missing, {} unexpected, {} of another shape",
            self.path.display(),
            self.arch,
            self.missing.len(),
            self.unexpected.len(),
            self.misshaped.len()
        )?;
        for (name, shape) in &self.missing {
            write!(f, "\n  missing     {name}: expected {shape:?}")?;
        }
        for (name, shape) in &self.unexpected {
            write!(f, "\n  unexpected  {name}: found {shape:?}")?;
        }
        for (name, expected, found) in &self.misshaped {
            write!(f, "\n  other shape {name}: expected {expected:?}, found {found:?}")?;
        }
        Ok(())
    }
}
