//! Reference activations: a safetensors file whose keys are torchvision's node names, as `tools/export_taps.py` writes it.

use crate::error::{Error, Result};
use crate::formats::mapped;
use crate::tensor::{Element, Shape, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// A file of activations, mapped into memory. Tensors are decoded one at a time.
///
/// The file must not change as long as this lives: a file that another program truncates ends the process, as with every memory
/// map.
pub struct TapFile {
    path: PathBuf,
    bytes: Mmap,
    names: Vec<String>,
}

/// One activation. Half-precision ones become f32, which is exact.
#[derive(Clone, Debug, PartialEq)]
pub enum Reference {
    /// From float32, float16 or bfloat16.
    F32(Tensor<f32>),
    /// From float64.
    F64(Tensor<f64>),
}

impl Reference {
    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        match self {
            Reference::F32(tensor) => tensor.dims(),
            Reference::F64(tensor) => tensor.dims(),
        }
    }
}

impl TapFile {
    /// Maps the file and checks its header.
    ///
    /// # Errors
    /// When it can't be read, is not a safetensors file, or holds a tensor that is not of a floating-point type.
    pub fn open(path: impl AsRef<Path>) -> Result<TapFile> {
        let path = path.as_ref().to_path_buf();
        let bytes = mapped::map(&path)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| Error::Format {
            path: path.clone(),
            reason: format!("not a safetensors file of activations, or a damaged one: {e}"),
        })?;
        for (name, tensor) in tensors.iter() {
            if !matches!(tensor.dtype(), Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16) {
                return Err(Error::DType {
                    what: format!("{}: tensor `{name}`", path.display()),
                    expected: "F32, F64, F16 or BF16".into(),
                    found: format!("{:?}", tensor.dtype()),
                });
            }
        }
        let mut names: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
        names.sort_unstable();
        Ok(TapFile { path, bytes, names })
    }

    /// The names of all activations, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// One activation; none when the file has no such name.
    ///
    /// # Errors
    /// When its shape has a zero dimension or more than six, or there is no memory for it.
    pub fn get(&self, name: &str) -> Result<Option<Reference>> {
        if self.names.binary_search_by(|n| n.as_str().cmp(name)).is_err() {
            return Ok(None);
        }
        let corrupt = |reason: String| Error::Format { path: self.path.clone(), reason };
        let tensors = SafeTensors::deserialize(&self.bytes).map_err(|e| corrupt(e.to_string()))?;
        let tensor = tensors.tensor(name).map_err(|e| corrupt(e.to_string()))?;
        let shape = Shape::new(tensor.shape()).and_then(Shape::not_empty).map_err(|e| corrupt(format!("tensor `{name}`: {e}")))?;
        let reference = match tensor.dtype() {
            Dtype::F64 => Reference::F64(decode(&tensor, shape, f64::from_le_bytes)?),
            Dtype::F32 => Reference::F32(decode(&tensor, shape, f32::from_le_bytes)?),
            Dtype::F16 => Reference::F32(decode(&tensor, shape, |b| f16::from_le_bytes(b).to_f32())?),
            _ => Reference::F32(decode(&tensor, shape, |b| bf16::from_le_bytes(b).to_f32())?),
        };
        Ok(Some(reference))
    }
}

fn decode<T: Element, const BYTES: usize>(tensor: &TensorView<'_>, shape: Shape, element: impl Fn([u8; BYTES]) -> T) -> Result<Tensor<T>> {
    let mut decoded = Tensor::zeros(shape)?;
    let (chunks, _) = tensor.data().as_chunks::<BYTES>();
    for (to, from) in decoded.as_mut_slice().iter_mut().zip(chunks) {
        *to = element(*from);
    }
    Ok(decoded)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use safetensors::serialize_to_file;

    /// A file of f32 activations in a folder of its own.
    pub fn tap_file(tensors: &[(&str, &[usize], &[f32])]) -> (tempfile::TempDir, TapFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taps.safetensors");
        let bytes: Vec<Vec<u8>> = tensors.iter().map(|t| t.2.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
        let views = tensors.iter().zip(&bytes).map(|(t, b)| (t.0, TensorView::new(Dtype::F32, t.1.to_vec(), b).unwrap()));
        serialize_to_file(views, None, &path).unwrap();
        let taps = TapFile::open(&path).unwrap();
        (folder, taps)
    }

    fn one(dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Result<Option<Reference>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taps.safetensors");
        serialize_to_file([("x", TensorView::new(dtype, shape.to_vec(), bytes).unwrap())], None, &path).unwrap();
        TapFile::open(&path)?.get("x")
    }

    #[test]
    fn every_floating_point_type_is_read() {
        let f32s = |x: &[f32]| Some(Reference::F32(Tensor::from_slice(Shape::new(&[2]).unwrap(), x).unwrap()));
        let bytes: Vec<u8> = [0.1f64, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let f64s = Reference::F64(Tensor::from_slice(Shape::new(&[2]).unwrap(), &[0.1, -2.0]).unwrap());
        assert_eq!(one(Dtype::F64, &[2], &bytes).unwrap(), Some(f64s));
        let bytes: Vec<u8> = [0.1f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        assert_eq!(one(Dtype::F32, &[2], &bytes).unwrap(), f32s(&[0.1, -2.0]));
        let bytes: Vec<u8> = [0.5, -2.0].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        assert_eq!(one(Dtype::F16, &[2], &bytes).unwrap(), f32s(&[0.5, -2.0]));
        let bytes: Vec<u8> = [0.5, -2.0].iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
        assert_eq!(one(Dtype::BF16, &[2], &bytes).unwrap(), f32s(&[0.5, -2.0]));
    }

    #[test]
    fn names_are_sorted_and_unknown_ones_are_none() {
        let (_folder, taps) = tap_file(&[("relu", &[1], &[1.0]), ("conv1", &[1], &[2.0])]);
        assert_eq!(taps.names().collect::<Vec<_>>(), ["conv1", "relu"]);
        assert_eq!(taps.get("fc").unwrap(), None);
    }

    #[test]
    fn what_is_no_file_of_activations_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taps.safetensors");
        assert!(matches!(TapFile::open(&path), Err(Error::Io { path: p, .. }) if p == path));
        assert!(TapFile::open(folder.path()).err().unwrap().to_string().contains("not a regular file"));
        std::fs::write(&path, b"not safetensors").unwrap();
        assert!(matches!(TapFile::open(&path), Err(Error::Format { path: p, .. }) if p == path));
        let error = one(Dtype::U8, &[2], &[0, 1]).unwrap_err().to_string();
        assert!(error.contains("tensor `x`") && error.contains("found U8"), "{error}");
        let error = one(Dtype::F32, &[2, 0], &[]).unwrap_err().to_string();
        assert!(error.contains("taps.safetensors: tensor `x`") && error.contains("dimension 1 is zero"), "{error}");
    }
}
