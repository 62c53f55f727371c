//! The model that comes with the library.

/// ResNet-20 with projection shortcuts, trained on CIFAR-10 by `tools/train_cifar.py`; f16, its log in the metadata.
pub(crate) const BYTES: &[u8] = include_bytes!("../../assets/resnet20_cifar10.safetensors");
