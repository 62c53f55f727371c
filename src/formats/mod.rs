//! Files to graphs. Whatever a file says is checked before it is believed.

pub(crate) mod mapped;
mod names;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod safetensors;
mod stored;
