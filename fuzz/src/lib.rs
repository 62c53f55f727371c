//! What is fuzzed: a module for each file of `targets/`, whose `run` takes an input of the fuzzer.

#[path = "../targets/convolution.rs"]
pub mod convolution;
#[path = "../targets/graph.rs"]
pub mod graph;
#[path = "../targets/image.rs"]
pub mod image;
#[path = "../targets/low_precision_convolution.rs"]
pub mod low_precision_convolution;
#[path = "../targets/low_precision_graph.rs"]
pub mod low_precision_graph;
#[path = "../targets/npy.rs"]
pub mod npy;
#[path = "../targets/onnx.rs"]
pub mod onnx;
#[path = "../targets/packed.rs"]
pub mod packed;
#[path = "../targets/safetensors.rs"]
pub mod safetensors;
#[path = "../targets/tuning.rs"]
pub mod tuning;
#[path = "../targets/weights.rs"]
pub mod weights;
