//! What a model wants done to a picture.

use super::picture::{MAX_SIDE, Picture};
use super::resize::resize_and_crop;
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor, TensorView};
use std::collections::HashMap;

const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Most bytes of the tensor that a picture becomes: a model's file may say any size of it.
const MAX_TENSOR: usize = 256 << 20;

/// Shorter side to a size, centre crop, bytes to `(x / 255 - mean) / std`: the steps between a picture and an input tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    resize: usize,
    crop: [usize; 2],
    mean: [f32; 3],
    std: [f32; 3],
}

impl Preprocessing {
    /// The shorter side after resizing, height and width of the crop, and per channel what is subtracted and divided by.
    ///
    /// # Errors
    /// When a size is zero or over [`MAX_SIDE`], a number is not finite, or a `std` is not a positive normal number.
    pub fn new(resize: usize, crop: [usize; 2], mean: [f32; 3], std: [f32; 3]) -> Result<Preprocessing> {
        let bad = |argument: &str, reason: String| Err(Error::InvalidArgument { argument: argument.into(), reason });
        for (argument, size) in [("resize", resize), ("crop height", crop[0]), ("crop width", crop[1])] {
            if !(1..=MAX_SIDE).contains(&size) {
                return bad(argument, format!("expected 1 to {MAX_SIDE} pixels, found {size}"));
            }
        }
        if !mean.iter().all(|m| m.is_finite()) {
            return bad("mean", format!("expected three finite numbers, found {mean:?}"));
        }
        if !std.iter().all(|&s| s > 0.0 && s.is_normal()) {
            return bad("std", format!("expected three finite numbers above zero, found {std:?}"));
        }
        Ok(Preprocessing { resize, crop, mean, std })
    }

    /// What fits an input of `[height, width]`: torchvision's 256 to 224 for ImageNet, and in that proportion for other sizes;
    /// up to 64 pixels (CIFAR) no margin. The metadata of a weights file can bring its own `mean` and `std`, each written as
    /// Python prints three numbers: `(0.4914, 0.4822, 0.4465)`. Without, they are ImageNet's.
    ///
    /// # Errors
    /// When the size is zero or over [`MAX_SIDE`], or a key of the metadata does not hold three such numbers; the error names it.
    pub fn for_model(size: [usize; 2], metadata: &HashMap<String, String>) -> Result<Preprocessing> {
        let longer = size[0].max(size[1]);
        let resize = if longer <= 64 { longer } else { longer.saturating_mul(256).saturating_add(112) / 224 };
        let mean = triple(metadata, "mean", |v| v.is_finite())?.unwrap_or(IMAGENET_MEAN);
        let std = triple(metadata, "std", |v| v > 0.0 && v.is_normal())?.unwrap_or(IMAGENET_STD);
        Preprocessing::new(resize, size, mean, std)
    }

    /// The shorter side after resizing.
    pub fn resize(&self) -> usize {
        self.resize
    }

    /// Height and width of the crop: of the input tensor.
    pub fn crop(&self) -> [usize; 2] {
        self.crop
    }

    /// Subtracted from red, green and blue between 0 and 1.
    pub fn mean(&self) -> [f32; 3] {
        self.mean
    }

    /// What red, green and blue are divided by after that.
    pub fn std(&self) -> [f32; 3] {
        self.std
    }

    /// Resizes and crops, in bytes. Where the crop is larger than the resized picture, the rest is black.
    ///
    /// # Errors
    /// When the crop's tensor would take more than 256 MiB, or there is no memory for the crop.
    pub fn resize_and_crop(&self, picture: &Picture) -> Result<Picture> {
        let [height, width] = self.crop;
        if height.saturating_mul(width).saturating_mul(3 * size_of::<f32>()) > MAX_TENSOR {
            return Err(Error::TooLarge {
                what: "the input of a picture".into(),
                requested: format!("a crop of {width}×{height} pixels"),
                limit: format!("{MAX_TENSOR} bytes of its tensor"),
            });
        }
        resize_and_crop(picture, self.resize, self.crop)
    }

    /// The input tensor `[1, 3, H, W]` of a picture.
    ///
    /// # Errors
    /// As [`Preprocessing::resize_and_crop`], and when there is no memory for the tensor.
    pub fn apply(&self, picture: &Picture) -> Result<Tensor<f32>> {
        let crop = self.resize_and_crop(picture)?;
        let mut tensor = Tensor::zeros(Shape::new(&[1, 3, crop.height(), crop.width()])?)?;
        let planes = tensor.as_mut_slice().chunks_exact_mut(crop.height() * crop.width());
        for (channel, (plane, values)) in planes.zip(self.values()).enumerate() {
            for (value, pixel) in plane.iter_mut().zip(crop.pixels().chunks_exact(3)) {
                *value = values[usize::from(pixel[channel])];
            }
        }
        Ok(tensor)
    }

    /// Normalises images that have the input's size already: `[N, 3, H, W]` of bytes, for example a test set. Nothing is
    /// resized.
    ///
    /// # Errors
    /// When the shape is another, or there is no memory for the result.
    pub fn normalise_u8(&self, images: TensorView<'_, u8>) -> Result<Tensor<f32>> {
        let &[_, 3, height, width] = images.dims() else {
            return Err(Error::Shape { what: "images".into(), expected: "[N, 3, H, W]".into(), found: images.shape().to_string() });
        };
        let mut tensor = Tensor::zeros(images.shape().not_empty()?)?;
        let sources = images.as_slice().chunks_exact(height * width);
        let targets = tensor.as_mut_slice().chunks_exact_mut(height * width);
        for ((source, target), values) in sources.zip(targets).zip(self.values().iter().cycle()) {
            for (value, &byte) in target.iter_mut().zip(source) {
                *value = values[usize::from(byte)];
            }
        }
        Ok(tensor)
    }

    /// What each byte becomes, per channel. In `f32` and in torchvision's order: divide, subtract, divide.
    fn values(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[c]) / self.std[c]))
    }

    /// Reads a JPEG or PNG file and makes the input tensor `[1, 3, H, W]` of it.
    ///
    /// # Errors
    /// As [`Picture::open`] and [`Preprocessing::apply`].
    #[cfg(feature = "vision")]
    pub fn load_image(&self, path: impl AsRef<std::path::Path>) -> Result<Tensor<f32>> {
        self.apply(&Picture::open(path)?)
    }

    /// Decodes the bytes of a JPEG or PNG file and makes the input tensor `[1, 3, H, W]` of it. Errors call the file `name`.
    ///
    /// # Errors
    /// As [`Picture::decode`] and [`Preprocessing::apply`].
    #[cfg(feature = "vision")]
    pub fn decode_image(&self, bytes: &[u8], name: &str) -> Result<Tensor<f32>> {
        self.apply(&Picture::decode(bytes, name)?)
    }
}

/// Three numbers of the metadata, each of which `accept` accepts.
fn triple(metadata: &HashMap<String, String>, key: &str, accept: impl Fn(f32) -> bool) -> Result<Option<[f32; 3]>> {
    let Some(text) = metadata.get(key) else { return Ok(None) };
    let trimmed = text.trim();
    let inner = [('(', ')'), ('[', ']')].into_iter().find_map(|(open, close)| trimmed.strip_prefix(open)?.strip_suffix(close));
    // As Python does: the nearest f64, then the nearest f32.
    let numbers = inner.unwrap_or(trimmed).split(',').map(|number| Some(number.trim().parse::<f64>().ok()? as f32));
    let numbers: Option<Vec<f32>> = numbers.take(4).collect();
    match numbers.as_deref() {
        Some(&[a, b, c]) if [a, b, c].into_iter().all(&accept) => Ok(Some([a, b, c])),
        _ => Err(Error::InvalidArgument {
            argument: format!("metadata `{key}`"),
            reason: format!(
                "expected three finite numbers{} like \"(0.485, 0.456, 0.406)\", found {:?}",
                if key == "std" { " above zero" } else { "" },
                text.chars().take(80).collect::<String>()
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|&(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn sizes_follow_the_input() {
        for (size, resize) in [(224, 256), (299, 342), (256, 293), (65, 74), (64, 64), (32, 32), (28, 28), (1, 1)] {
            let preprocessing = Preprocessing::for_model([size, size], &HashMap::new()).unwrap();
            assert_eq!((preprocessing.resize(), preprocessing.crop()), (resize, [size, size]));
            assert_eq!((preprocessing.mean(), preprocessing.std()), (IMAGENET_MEAN, IMAGENET_STD));
        }
        assert_eq!(Preprocessing::for_model([224, 320], &HashMap::new()).unwrap().resize(), 366);
        for size in [[0, 224], [224, 0], [MAX_SIDE + 1, 1], [usize::MAX, usize::MAX]] {
            assert!(matches!(Preprocessing::for_model(size, &HashMap::new()), Err(Error::InvalidArgument { .. })), "{size:?}");
        }
    }

    #[test]
    fn metadata_brings_its_own_numbers() {
        let own = metadata(&[("mean", "(0.4914, 0.4822, 0.4465)"), ("std", " [0.247,0.2435 , 2616e-4]"), ("arch", "x")]);
        let preprocessing = Preprocessing::for_model([32, 32], &own).unwrap();
        assert_eq!(preprocessing.mean(), [0.4914, 0.4822, 0.4465]);
        assert_eq!(preprocessing.std(), [0.247, 0.2435, 0.2616]);
    }

    #[test]
    fn malformed_metadata_is_named() {
        let bad = ["", "()", "(1, 2)", "(1, 2, 3, 4)", "(1, 2, x)", "(nan, 1, 1)", "(1, inf, 1)", "(1, 1e39, 1)", "(1, 2, 3", "[1, 2, 3)"];
        for key in ["mean", "std"] {
            for value in bad {
                let error = Preprocessing::for_model([32, 32], &metadata(&[(key, value)])).unwrap_err().to_string();
                assert!(error.contains(&format!("`{key}`")) && error.contains(&format!("found {value:?}")), "{error}");
            }
        }
        for value in ["(0, 1, 1)", "(1, -1, 1)", "(1, 1, 1e-46)"] {
            assert!(Preprocessing::for_model([32, 32], &metadata(&[("mean", value)])).is_ok());
            let error = Preprocessing::for_model([32, 32], &metadata(&[("std", value)])).unwrap_err().to_string();
            assert!(error.contains("`std`: expected three finite numbers above zero"), "{error}");
        }
        let error = Preprocessing::for_model([32, 32], &metadata(&[("std", &"9".repeat(100_000))])).unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
    }

    #[test]
    fn direct_construction_is_checked() {
        assert!(Preprocessing::new(256, [224, 224], IMAGENET_MEAN, IMAGENET_STD).is_ok());
        for (argument, result) in [
            ("resize", Preprocessing::new(0, [1, 1], IMAGENET_MEAN, IMAGENET_STD)),
            ("crop height", Preprocessing::new(1, [MAX_SIDE + 1, 1], IMAGENET_MEAN, IMAGENET_STD)),
            ("crop width", Preprocessing::new(1, [1, 0], IMAGENET_MEAN, IMAGENET_STD)),
            ("mean", Preprocessing::new(1, [1, 1], [0.0, f32::NAN, 0.0], IMAGENET_STD)),
            ("std", Preprocessing::new(1, [1, 1], IMAGENET_MEAN, [1.0, 0.0, 1.0])),
        ] {
            assert!(result.unwrap_err().to_string().starts_with(&format!("{argument}: ")));
        }
        // A network may be for larger images, which then are no pictures of ours.
        let vast = Preprocessing::new(256, [MAX_SIDE, MAX_SIDE], IMAGENET_MEAN, IMAGENET_STD).unwrap();
        let error = vast.apply(&Picture::black(1, 1).unwrap()).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }) && error.to_string().contains("65535×65535"), "{error}");
    }

    #[test]
    fn bytes_are_normalised_per_channel() {
        let preprocessing = Preprocessing::new(2, [1, 2], [0.5, 0.25, 0.0], [0.5, 2.0, 1.0]).unwrap();
        let bytes = [0, 255, 0, 255, 0, 51, 255, 0, 255, 0, 51, 0];
        let images = TensorView::new(Shape::new(&[2, 3, 1, 2]).unwrap(), &bytes).unwrap();
        let tensor = preprocessing.normalise_u8(images).unwrap();
        assert_eq!(tensor.dims(), [2, 3, 1, 2]);
        assert_eq!(tensor.as_slice(), [-1.0, 1.0, -0.125, 0.375, 0.0, 0.2, 1.0, -1.0, 0.375, -0.125, 0.2, 0.0]);
        for shape in [&[4, 3][..], &[1, 4, 3, 1], &[12], &[3, 2, 2, 1]] {
            let view = TensorView::new(Shape::new(shape).unwrap(), &bytes).unwrap();
            let error = preprocessing.normalise_u8(view).unwrap_err().to_string();
            assert!(error.contains("[N, 3, H, W]") && error.contains(&format!("{shape:?}")), "{error}");
        }
    }

    #[test]
    fn a_picture_becomes_planes() {
        let preprocessing = Preprocessing::new(1, [1, 2], [0.0; 3], [1.0; 3]).unwrap();
        let picture = Picture::from_rgb(2, 1, vec![255, 0, 51, 0, 255, 102]).unwrap();
        let tensor = preprocessing.apply(&picture).unwrap();
        assert_eq!(tensor.dims(), [1, 3, 1, 2]);
        assert_eq!(tensor.as_slice(), [1.0, 0.0, 0.0, 1.0, 0.2, 0.4]);
    }
}
