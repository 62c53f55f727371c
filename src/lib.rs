//! Stridewise runs convolutional networks on a CPU, inside your program.
#![deny(unsafe_code)]

pub mod atomic_file;
pub mod compare;
pub mod error;
pub mod formats;
pub mod graph;
mod model;
pub mod models;
#[cfg(feature = "cli")]
pub mod page;
pub mod passes;
mod plan;
pub mod session;
pub mod tensor;
pub mod vision;

pub use error::{Error, Result};
pub use model::Model;
pub use models::Arch;
pub use session::{Numerics, Session, SessionOptions, ThreadPool, Threads};
pub use stridewise_kernels::Isa;
pub use tensor::{Shape, Tensor, TensorView};
