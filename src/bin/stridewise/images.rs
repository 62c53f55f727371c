//! Inputs from `.npy` files: float32 as it is, bytes normalised as the model wants it; and from folders of pictures.

use crate::output::Failure;
use std::ops::Range;
use std::path::Path;
use stridewise::tensor::npy::NpyTensor;
use stridewise::{Error, Model, Shape, Tensor, TensorView};

/// A set of images `[N, C, H, W]`, of which batches are taken.
pub struct Images<'m> {
    model: &'m Model,
    dims: [usize; 4],
    pixels: Pixels,
}

enum Pixels {
    F32(Tensor<f32>),
    U8(Tensor<u8>),
}

impl<'m> Images<'m> {
    /// Reads a file of float32 or uint8 images with as many channels as the model reads.
    pub fn open(path: &Path, model: &'m Model) -> Result<Images<'m>, Failure> {
        let file = NpyTensor::read(path)?;
        let what = path.display().to_string();
        let channels = model.graph().input().channels();
        let dims = match *file.dims() {
            [n, c, h, w] if c == channels && ![n, h, w].contains(&0) => [n, c, h, w],
            ref other => {
                let (expected, found) = (format!("[N, {channels}, H, W]"), format!("{other:?}"));
                return Err(Error::Shape { what, expected, found }.into());
            }
        };
        let pixels = match file {
            NpyTensor::F32(tensor) => Pixels::F32(tensor),
            NpyTensor::U8(tensor) => Pixels::U8(tensor),
            other => {
                let expected = "float32 (as the network reads it) or uint8 (pixels, normalised as the model wants it)".into();
                return Err(Error::DType { what, expected, found: other.dtype().into() }.into());
            }
        };
        Ok(Images { model, dims, pixels })
    }

    /// Reads as [`Images::open`] does, or the first pictures by name, no more than `most`, of a folder; other files of it are passed over.
    pub fn open_or_decode(path: &Path, model: &'m Model, most: usize) -> Result<Images<'m>, Failure> {
        if !path.is_dir() {
            return Images::open(path, model);
        }
        let io = |source| Error::Io { path: path.into(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(path).map_err(io)? {
            let file = entry.map_err(io)?.path();
            let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
            if ["jpg", "jpeg", "png"].contains(&extension.as_str()) {
                files.push(file);
            }
        }
        files.sort();
        files.truncate(most);
        if files.is_empty() {
            return Err(Failure::Usage(format!("{}: there is no picture (.jpg, .jpeg or .png) in it", path.display())));
        }
        let mut pixels = Vec::new();
        let mut dims = [files.len(), 0, 0, 0];
        for file in &files {
            let picture = model.preprocessing().load_image(file)?;
            pixels.extend_from_slice(picture.as_slice());
            dims[1..].copy_from_slice(&picture.dims()[1..]);
        }
        Ok(Images { model, dims, pixels: Pixels::F32(Tensor::from_slice(Shape::new(&dims)?, &pixels)?) })
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.dims[0]
    }

    /// H and W.
    pub fn size(&self) -> [usize; 2] {
        [self.dims[2], self.dims[3]]
    }

    /// Some of the images, as the network reads them.
    pub fn batch(&self, range: Range<usize>) -> stridewise::Result<Tensor<f32>> {
        let [_, c, h, w] = self.dims;
        let shape = Shape::new(&[range.len(), c, h, w])?;
        let elements = range.start * c * h * w..range.end * c * h * w;
        match &self.pixels {
            Pixels::F32(tensor) => Tensor::from_slice(shape, &tensor.as_slice()[elements]),
            Pixels::U8(tensor) => self.model.preprocessing().normalise_u8(TensorView::new(shape, &tensor.as_slice()[elements])?),
        }
    }

    /// All images.
    pub fn whole(&self) -> stridewise::Result<Tensor<f32>> {
        self.batch(0..self.len())
    }

    /// The ranges of batches of at most `size` images.
    pub fn batches(&self, size: usize) -> impl Iterator<Item = Range<usize>> {
        let (size, len) = (size.max(1), self.len());
        (0..len).step_by(size).map(move |start| start..len.min(start.saturating_add(size)))
    }
}

/// Refuses an output that does not have the images of a batch one behind the other.
pub fn check_batch(dims: &[usize], batch: usize) -> Result<(), Failure> {
    if dims.first() == Some(&batch) {
        return Ok(());
    }
    let expected = format!("{batch} first: a part for each image");
    Err(Error::Shape { what: "the network's output".into(), expected, found: format!("{dims:?}") }.into())
}
