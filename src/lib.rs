//! Stridewise runs convolutional networks on a CPU, inside your program: those of the ResNet, VGG and MobileNetV2 families from their
//! weights, and others from ONNX files.
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
//! - In f32 and int8, results have the same bits for any number of threads and on every instruction set of a machine.
//! - Every size is checked, and held against [`SessionOptions::max_memory`], before memory is asked for. Every [`Error`] names the
//!   file, tensor, node or argument that is to blame, what was expected and what was found.
//! - [`Numerics`] chooses between Winograd convolution where it is faster, and direct summation alone.
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `cli` (default) | the program; turns on `bf16`, `int8`, `vision`, `onnx`, `packed`, `npy` and `builtin-model` |
//! | `bf16`, `int8` | the kernels of `Precision::Bf16` and `Precision::Int8` |
//! | `vision` | JPEG and PNG decoding |
//! | `onnx` | ONNX files: `Model::from_onnx` |
//! | `packed` | packed networks: `Model::save_packed`, `Model::from_packed` |
//! | `ndarray` | views of the arrays of crate `ndarray`, and of tensors as such arrays |
//! | `affinity` | threads bound to cores, `ThreadPool::pinned` |
//! | `npy` | NumPy `.npy` files in and out of `Tensor` |
//! | `builtin-model` | the embedded CIFAR-10 ResNet-20, `Model::builtin` |
//!
//! A library needs none of them: without, it computes in f32 with weights from safetensors files.
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
mod regular_file;
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
