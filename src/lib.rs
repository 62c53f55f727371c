//! Stridewise runs convolutional networks on a CPU, inside your program.
#![forbid(unsafe_code)]

pub mod atomic_file;
pub mod error;
pub mod graph;
pub mod tensor;
pub mod vision;

pub use error::{Error, Result};
pub use tensor::{Shape, Tensor, TensorView};
