//! Convolution, pooling and GEMM kernels for AVX2, AVX-512, NEON and portable Rust, chosen at run time.
//!
//! Kernels know shapes, pointers and epilogues; they have never heard of a graph. Each works on buffers whose layout a
//! [`Geometry`] describes, on the threads of an [`Executor`], and gives the same bits for any number of threads and, in f32 and bytes, on
//! every instruction set of a machine; sums of products of bfloat16 differ where the processor has instructions for them.

// Const-generic tiles are written as index loops: the compiler unrolls them into registers, which iterators would hide.
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod aligned;
#[cfg_attr(not(feature = "bf16"), allow(dead_code, unused_imports, unused_macros))]
pub mod bf16;
pub mod blocked;
mod cache;
pub mod conv;
pub mod denormals;
pub mod dense;
pub mod elementwise;
mod error;
pub mod function;
mod gemm;
mod geometry;
#[cfg_attr(not(feature = "int8"), allow(dead_code, unused_imports, unused_macros))]
pub mod int8;
mod isa;
pub mod layout;
mod parallel;
pub mod peak;
pub mod pool;
mod portable;
mod processor;
pub mod reference;
pub mod resize;
mod row;
mod shared;
mod simd;
pub mod softmax;
mod table;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing;
mod winograd_transform;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use aligned::AlignedBuffer;
pub use conv::ConvProblem;
pub use error::Error;
pub use function::{Binary, Unary};
pub use geometry::{BLOCK, Element, Geometry, Halo, Layout};
pub use isa::Isa;
pub use parallel::{Executor, Inline, MAX_THREADS};
pub use processor::processor;
pub use shared::SharedSlice;
pub use table::{Kernel, KernelTable};
