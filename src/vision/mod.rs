//! Pictures become input tensors exactly as torchvision makes them from a Pillow image: `convert("RGB")`, `Resize` (bilinear,
//! antialiased), `CenterCrop`, `ToTensor`, `Normalize`. From the same pixels, the tensor is equal bit for bit to that of Pillow 13.
//! (Older Pillows resize pictures at least twice as tall as wide in another order, which changes a byte here and there by one.)
//!
//! Only [`Picture::open`] and [`Picture::decode`] need the feature `vision`; the rest has no dependency.

#[cfg(feature = "vision")]
mod decode;
pub mod labels;
mod picture;
mod preprocessing;
mod resize;

pub use picture::{MAX_SIDE, Picture};
pub use preprocessing::Preprocessing;
