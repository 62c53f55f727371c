//! Stridewise runs convolutional networks on a CPU, inside your program: those of the ResNet, VGG and MobileNetV2 families from their
//! weights, and any other from an ONNX file.
//!
//! ```
//! use stridewise::{Arch, Model, SessionOptions, Tensor};
//!
//! // Or weights from a file: Model::from_safetensors(Arch::ResNet50, "resnet50.safetensors")
//! let model = Model::random(Arch::ResNet20Cifar, 0)?;
//! let mut session = model.session(&SessionOptions { threads: 2.into(), ..Default::default() })?;
//! let image = Tensor::zeros(session.input_shape())?; // NCHW; model.preprocessing() makes one of a picture
//! let logits = session.run(&image)?;
//! assert_eq!(logits.dims(), [1, 10]);
//! println!("{}", session.explain()); // each step: problem, algorithm, tile, epilogue, and why
//! # Ok::<(), stridewise::Error>(())
//! ```
//!
//! Tensors from a file become a [`graph`], [`passes`] fold and fuse it, and a [`Model`] holds the result, immutable and shared.
//! [`Model::session`] decides, packs and allocates everything for one input shape; after that, [`Session::run_into`] allocates
//! nothing.
//!
//! - Results have the same bits for any number of threads and on every instruction set of a machine.
//! - Every size is checked, and held against [`SessionOptions::max_memory`], before memory is asked for. Every [`Error`] names the
//!   file, tensor, node or argument that is to blame, what was expected and what was found.
//! - [`Numerics`] chooses between Winograd convolution where it is faster, and direct summation alone.
//!
//! Features: `onnx` reads ONNX files, `vision` decodes JPEG and PNG files, `npy` reads and writes NumPy's arrays, `builtin-model` embeds a CIFAR-10 network,
//! and `cli`, the default, is the program with all of them. A library needs none.
#![deny(unsafe_code)]

pub mod atomic_file;
pub mod compare;
pub mod error;
pub mod formats;
pub mod graph;
mod load;
mod model;
pub mod models;
// For the program alone.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod page;
pub mod passes;
mod plan;
pub mod quantize;
pub mod session;
pub mod tensor;
pub mod vision;

pub use error::{Error, Result};
pub use load::LoadOptions;
pub use model::Model;
#[cfg(feature = "onnx")]
pub use model::OnnxOptions;
pub use models::Arch;
pub use session::{CancelToken, Numerics, Precision, Session, SessionOptions, ThreadPool, Threads};
pub use stridewise_kernels::{Executor, Isa};
pub use tensor::{Shape, Tensor, TensorView, TensorViewMut};
