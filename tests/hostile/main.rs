//! Files from anyone: each is refused by an error that names it, or loads and runs; none makes the process ask for much memory.
//!
//! The memory that is asked for is counted by the allocator, so these tests take turns.
#![cfg(all(feature = "vision", feature = "npy", feature = "onnx"))]

mod images;
mod limits;
mod measured;
mod mutated;
mod npy;
mod onnx;
#[cfg(feature = "packed")]
mod packed;
#[cfg(unix)]
mod pipes;
mod safetensors;

use measured::Measured;

#[global_allocator]
static ALLOCATOR: Measured = Measured;

/// Bytes that reading a small file may take beside what its content needs: tables, messages, the decoder's own buffers.
const CONSTANT: usize = 4 << 20;
