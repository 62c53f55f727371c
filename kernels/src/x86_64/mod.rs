//! x86-64: AVX2 with FMA, AVX-512, and its companion AMX.

#[cfg(any(feature = "bf16", feature = "int8"))]
pub(crate) mod amx;
pub(crate) mod avx2;
pub(crate) mod avx512;
