//! Which instruction sets this processor has, and which one to use.

use crate::Error;
use std::sync::OnceLock;

/// An instruction set that kernels exist for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[non_exhaustive]
pub enum Isa {
    /// Plain Rust, any processor.
    Portable,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL (and all of [`Isa::Avx2`]).
    Avx512,
    /// AArch64 with NEON (every AArch64 processor that runs an operating system).
    Neon,
}

impl Isa {
    /// Every instruction set that this crate knows, on any processor.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The name used in options, logs and `STRIDEWISE_ISA`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// Those that this processor and this build have, slowest first.
    pub fn available() -> &'static [Isa] {
        static AVAILABLE: OnceLock<Vec<Isa>> = OnceLock::new();
        AVAILABLE.get_or_init(|| Isa::ALL.into_iter().filter(|isa| isa.detect()).collect())
    }

    /// True when this processor and this build have it.
    pub fn is_available(self) -> bool {
        Isa::available().contains(&self)
    }

    /// The one that `STRIDEWISE_ISA` names; the fastest that is available where it is not set, or empty.
    ///
    /// # Errors
    /// [`Error::Variable`] when the variable names no known instruction set, or one that is not available here.
    pub fn best() -> Result<Isa, Error> {
        const VARIABLE: &str = "STRIDEWISE_ISA";
        match std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
            Some(name) => {
                let named = name.to_string_lossy().parse().and_then(Isa::require);
                named.map_err(|error| Error::Variable { name: VARIABLE, error: Box::new(error) })
            }
            None => Ok(*Isa::available().last().unwrap_or(&Isa::Portable)),
        }
    }

    /// Itself when it is available here, else an error that lists what is.
    pub fn require(self) -> Result<Isa, Error> {
        if self.is_available() { Ok(self) } else { Err(Error::IsaUnavailable { isa: self }) }
    }

    fn detect(self) -> bool {
        match self {
            Isa::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                std::arch::is_x86_feature_detected!("avx2")
                    && std::arch::is_x86_feature_detected!("fma")
                    && std::arch::is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.detect()
                    && std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[allow(unreachable_patterns)]
            _ => false,
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Isa {
    type Err = Error;

    fn from_str(name: &str) -> Result<Isa, Error> {
        Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(name.trim())).ok_or_else(|| Error::UnknownIsa { name: name.into() })
    }
}
