//! safetensors: weights by name, F32, F16 or BF16.

use super::mapped;
use super::names::torchvision_name;
use crate::error::{Error, Result, WeightMismatch};
use crate::graph::Graph;
use crate::models::{Arch, Parameter, WeightSource};
use crate::tensor::half::{bf16_to_f32, f16_to_f32};
use crate::tensor::{Shape, Tensor};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;

/// What a file holds: a network that is not optimised yet.
pub struct Loaded {
    /// The architecture, named or inferred.
    pub arch: Arch,
    /// The network with its weights.
    pub graph: Graph,
    /// The file's own metadata.
    pub metadata: HashMap<String, String>,
}

/// Loads a network from a file, which is mapped into memory while this runs. Without an architecture it is the one that the
/// metadata's `arch` names, or else inferred from the tensors' names and shapes.
///
/// The file must not change while it is loaded: a file that another program truncates meanwhile ends the process, as with
/// every memory map.
///
/// # Errors
/// When the file can't be read, is corrupt, holds a tensor of another type or a value that is not finite, or does not fit
/// the architecture: one error lists every missing, unexpected and misshaped tensor.
pub fn load(arch: Option<Arch>, path: &Path) -> Result<Loaded> {
    load_bytes(arch, &mapped::map(path)?, path)
}

/// Loads a network from the bytes of a file; `path` names them in errors.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(arch: Option<Arch>, bytes: &[u8], path: &Path) -> Result<Loaded> {
    let file = WeightFile::parse(bytes, path)?;
    // The error with the file in it.
    let in_file = |error: Error, found: String| match error {
        Error::Arch { reason, .. } => Error::Arch { found: format!("{found} {}", path.display()), reason },
        other => other,
    };
    let arch = match (arch, file.metadata.get("arch")) {
        (Some(arch), _) => arch,
        (None, Some(name)) => name.parse::<Arch>().map_err(|e| in_file(e, format!("`{name}`, named by the metadata of")))?,
        (None, None) => Arch::infer(|name| file.tensors.get(name).map(|t| t.shape())).map_err(|e| in_file(e, "of".into()))?,
    };
    let classes = file.tensors.get(&format!("{}.weight", arch.classifier())).and_then(|t| t.shape().first()).copied();
    let classes = classes.unwrap_or(arch.default_classes());
    file.hold_against(&arch.to_string(), &arch.module(classes)?.parameters()?)?;
    let graph = arch.graph(classes, &mut &file)?;
    Ok(Loaded { arch, graph, metadata: file.metadata })
}

/// The tensors of a file by their torchvision names.
struct WeightFile<'a> {
    path: &'a Path,
    tensors: HashMap<String, safetensors::tensor::TensorView<'a>>,
    metadata: HashMap<String, String>,
}

impl<'a> WeightFile<'a> {
    fn parse(bytes: &'a [u8], path: &'a Path) -> Result<WeightFile<'a>> {
        let refuse = |reason: String| Error::Format { path: path.into(), reason };
        if let Some(advice) = pickle_advice(bytes, path) {
            return Err(refuse(advice));
        }
        let parsed = SafeTensors::deserialize(bytes).map_err(|e| refuse(format!("not a valid safetensors file: {e}")))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| refuse(format!("not a valid safetensors file: {e}")))?;
        let mut tensors = HashMap::new();
        for (name, view) in parsed.iter() {
            if name.ends_with("num_batches_tracked") {
                continue;
            }
            let name = torchvision_name(name);
            if tensors.insert(name.clone(), view).is_some() {
                return Err(refuse(format!("two tensors are both `{name}` by torchvision's names")));
            }
        }
        Ok(WeightFile { path, tensors, metadata: header.metadata().clone().unwrap_or_default() })
    }

    /// Compares all names and shapes with those needed, before any data is read.
    fn hold_against(&self, arch: &str, parameters: &[Parameter]) -> Result<()> {
        let mut mismatch = WeightMismatch { path: self.path.into(), arch: arch.into(), ..WeightMismatch::default() };
        for p in parameters {
            let expected = p.shape.dims();
            match self.tensors.get(&p.name).map(|t| t.shape()) {
                None => mismatch.missing.push((p.name.clone(), expected.to_vec())),
                Some(found) if !same_matrix(expected, found) => {
                    mismatch.misshaped.push((p.name.clone(), expected.to_vec(), found.to_vec()));
                }
                Some(_) => {}
            }
        }
        let needed: std::collections::HashSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
        let unexpected = self.tensors.iter().filter(|(name, _)| !needed.contains(name.as_str()));
        mismatch.unexpected = unexpected.map(|(name, t)| (name.clone(), t.shape().to_vec())).collect();
        mismatch.unexpected.sort();
        if mismatch.is_empty() { Ok(()) } else { Err(Error::Weights(Box::new(mismatch))) }
    }
}

/// Equal, or a linear layer stored as a convolution over the whole image, as timm does.
fn same_matrix(expected: &[usize], found: &[usize]) -> bool {
    expected == found
        || matches!((expected, found), (&[rows, columns], &[r, c, h, w]) if rows == r && c.checked_mul(h).and_then(|p| p.checked_mul(w)) == Some(columns))
}

impl WeightSource for &WeightFile<'_> {
    fn tensor(&mut self, parameter: &Parameter) -> Result<Tensor<f32>> {
        let refuse = |reason: String| Error::Format { path: self.path.into(), reason };
        let view = self.tensors.get(&parameter.name).ok_or_else(|| refuse(format!("tensor `{}` is missing", parameter.name)))?;
        read(self.path, &parameter.name, view, parameter.shape)
    }
}

/// Widens a tensor to f32; refuses values that are not finite.
fn read(path: &Path, name: &str, view: &safetensors::tensor::TensorView<'_>, shape: Shape) -> Result<Tensor<f32>> {
    let mut tensor = Tensor::zeros(shape)?;
    let destination = tensor.as_mut_slice();
    let data = view.data();
    let what = || format!("{}: tensor `{name}`", path.display());
    if !same_matrix(shape.dims(), view.shape()) {
        return Err(Error::Shape { what: what(), expected: shape.to_string(), found: format!("{:?}", view.shape()) });
    }
    match view.dtype() {
        Dtype::F32 => bytemuck::cast_slice_mut(destination).copy_from_slice(data),
        Dtype::F16 => widen(data, destination, f16_to_f32),
        Dtype::BF16 => widen(data, destination, bf16_to_f32),
        other => {
            let (expected, found) = ("F32, F16 or BF16".into(), format!("{other:?}"));
            return Err(Error::DType { what: what(), expected, found });
        }
    }
    if cfg!(target_endian = "big") && view.dtype() == Dtype::F32 {
        destination.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
    }
    // A piece at a time without a branch inside, which becomes SIMD code.
    let finite = |piece: &[f32]| piece.iter().fold(true, |all, v| all & v.is_finite());
    if destination.chunks(4096).all(finite) {
        return Ok(tensor);
    }
    match destination.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(Error::NonFinite { path: path.into(), tensor: name.into(), index, value: destination[index] }),
        None => Ok(tensor),
    }
}

/// Half-precision data may start at any byte, so it is copied through an aligned buffer, a piece at a time.
fn widen<H: bytemuck::Pod>(data: &[u8], destination: &mut [f32], convert: impl Fn(&[H], &mut [f32])) {
    const PIECE: usize = 4096;
    let mut halves = [H::zeroed(); PIECE];
    for (bytes, out) in data.chunks(PIECE * size_of::<H>()).zip(destination.chunks_mut(PIECE)) {
        let halves = &mut halves[..out.len()];
        let target: &mut [u8] = bytemuck::cast_slice_mut(halves);
        target.copy_from_slice(bytes);
        if cfg!(target_endian = "big") {
            target.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
        }
        convert(halves, out);
    }
}

/// What to do with a PyTorch pickle, if the file is one: zip archives begin with `PK`, older pickles with 0x80.
fn pickle_advice(bytes: &[u8], path: &Path) -> Option<String> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    let named_so = ["pth", "pt", "bin", "ckpt"].iter().any(|e| extension.eq_ignore_ascii_case(e));
    let is_pickle = bytes.starts_with(b"PK\x03\x04") || (bytes.first() == Some(&0x80) && named_so);
    if !is_pickle {
        return None;
    }
    let (from, to) = (quoted(path), quoted(&path.with_extension("safetensors")));
    Some(format!(
        "a PyTorch pickle, which can run code when it is loaded; convert it once with\n  python -c \"import sys, torch, safetensors.torch as s; \
         d = torch.load(sys.argv[1], map_location='cpu', weights_only=True); \
         s.save_file({{k: v.contiguous() for k, v in d.items()}}, sys.argv[2])\" {from} {to}"
    ))
}

/// A path as one word of the shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    if cfg!(windows) { format!("\"{text}\"") } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The element type of a file that [`save`] writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to the nearest, ties to even; values beyond 65,504 are refused.
    F16,
    /// Rounded to the nearest, ties to even.
    BF16,
}

/// Writes named tensors to a file; on failure there is no file, or the one that was there.
///
/// # Errors
/// When the file can't be written, or a value does not fit the precision.
pub fn save(path: &Path, tensors: &[(String, Tensor<f32>)], precision: Precision, metadata: HashMap<String, String>) -> Result<()> {
    let dtype = match precision {
        Precision::F32 => Dtype::F32,
        Precision::F16 => Dtype::F16,
        Precision::BF16 => Dtype::BF16,
    };
    let mut encoded = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        encoded.push((name, tensor.dims().to_vec(), encode(name, tensor.as_slice(), precision)?));
    }
    let refuse = |e: safetensors::SafeTensorError| Error::Format { path: path.into(), reason: e.to_string() };
    let mut views = Vec::with_capacity(encoded.len());
    for (name, dims, bytes) in &encoded {
        views.push((*name, safetensors::tensor::TensorView::new(dtype, dims.clone(), bytes).map_err(refuse)?));
    }
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(refuse)?;
    crate::atomic_file::write_atomically(path, |file| file.write_all(&bytes))
}

fn encode(name: &str, values: &[f32], precision: Precision) -> Result<Vec<u8>> {
    Ok(match precision {
        Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Precision::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        Precision::F16 => {
            if let Some(index) = values.iter().position(|v| v.is_finite() && f16::from_f32(*v).is_infinite()) {
                return Err(Error::InvalidArgument {
                    argument: format!("tensor `{name}`"),
                    reason: format!("{} at element {index} is over the range of F16; use BF16 or F32", values[index]),
                });
            }
            values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
        }
    })
}
