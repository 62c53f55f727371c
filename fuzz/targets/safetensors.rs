//! The bytes of a safetensors file, whatever they are: a model, or an error that names them.

use stridewise::{Arch, Model};

pub fn run(bytes: &[u8]) {
    for arch in [None, Some(Arch::ResNet20Cifar)] {
        if let Err(error) = Model::from_safetensors_bytes(arch, bytes) {
            assert!(error.to_string().contains("bytes in memory"), "no file in: {error}");
        }
    }
}
