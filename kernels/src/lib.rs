//! Convolution, pooling and GEMM kernels for AVX2, AVX-512, NEON and portable Rust, chosen at run time.

mod error;
mod isa;

pub use error::Error;
pub use isa::Isa;
