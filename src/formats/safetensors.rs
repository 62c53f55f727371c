//! safetensors: weights by name, F32, F16 or BF16.

use super::mapped;
use super::names::{is_hugging_face, torchvision_name};
use super::stored::{StoredFile, StoredTensor};
use crate::error::{Error, Result, WeightMismatch};
use crate::graph::{Graph, Weight};
use crate::models::{Arch, Parameter, WeightSource};
use crate::tensor::Tensor;
use crate::tensor::half::{bf16_to_f32, f16_to_f32};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What a file holds: a network that is not optimised yet.
pub struct Loaded {
    /// The architecture, named or inferred.
    pub arch: Arch,
    /// The network with its weights.
    pub graph: Graph,
    /// The file's own metadata.
    pub metadata: HashMap<String, String>,
}

/// Loads a network from a file. Without an architecture it is the one that the metadata's `arch` names, or else inferred from the
/// tensors' names and shapes.
///
/// The file is mapped into memory while this runs, and must not change meanwhile: if another program truncates it, the process
/// ends, as with every memory map. Afterwards it stays open, and large weights are read from it again when a session packs them;
/// a session is refused when the file has been written to by then. Replacing it by another file of its name does no harm.
///
/// # Errors
/// When the file can't be read, is corrupt, holds a tensor of another type or a value that is not finite, or does not fit
/// the architecture: one error lists every missing, unexpected and misshaped tensor.
pub fn load(arch: Option<Arch>, path: &Path) -> Result<Loaded> {
    let (file, map) = mapped::open_and_map(path)?;
    load_from(WeightFile::parse(&map, path, Some(Arc::new(StoredFile::new(path, file)?)))?, arch)
}

/// Loads a network from the bytes of a file; `path` names them in errors.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(arch: Option<Arch>, bytes: &[u8], path: &Path) -> Result<Loaded> {
    load_from(WeightFile::parse(bytes, path, None)?, arch)
}

fn load_from(file: WeightFile<'_>, arch: Option<Arch>) -> Result<Loaded> {
    let path = file.path;
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
    let module = arch.module(classes).map_err(|e| in_file(e, format!("{arch} of")))?;
    file.hold_against(&arch.to_string(), &module.parameters()?)?;
    let graph = arch.graph(classes, &mut &file)?;
    Ok(Loaded { arch, graph, metadata: file.metadata })
}

/// The tensors of a file by their torchvision names.
struct WeightFile<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    /// The file, where its tensors may be read later.
    stored: Option<Arc<StoredFile>>,
    tensors: HashMap<String, safetensors::tensor::TensorView<'a>>,
    metadata: HashMap<String, String>,
}

impl<'a> WeightFile<'a> {
    fn parse(bytes: &'a [u8], path: &'a Path, stored: Option<Arc<StoredFile>>) -> Result<WeightFile<'a>> {
        let refuse = |reason: String| Error::Format { path: path.into(), reason };
        if let Some(advice) = pickle_advice(bytes, path) {
            return Err(refuse(advice));
        }
        let parsed = SafeTensors::deserialize(bytes).map_err(|e| refuse(format!("not a valid safetensors file: {e}")))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| refuse(format!("not a valid safetensors file: {e}")))?;
        let hugging_face = parsed.iter().any(|(name, _)| is_hugging_face(name));
        let mut tensors = HashMap::new();
        for (name, view) in parsed.iter() {
            if name.ends_with("num_batches_tracked") {
                continue;
            }
            let name = torchvision_name(name, hugging_face);
            if tensors.insert(name.clone(), view).is_some() {
                return Err(refuse(format!("two tensors are both `{name}` by torchvision's names")));
            }
        }
        Ok(WeightFile { path, bytes, stored, tensors, metadata: header.metadata().clone().unwrap_or_default() })
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

/// Weights of fewer elements are kept in memory.
const STORED_FROM: usize = 1 << 16;

impl WeightSource for &WeightFile<'_> {
    fn tensor(&mut self, parameter: &Parameter) -> Result<Tensor<f32>> {
        let view = self.view(parameter)?;
        let mut tensor = Tensor::zeros(parameter.shape)?;
        decode(view.dtype(), view.data(), tensor.as_mut_slice());
        match first_not_finite(tensor.as_slice()) {
            None => Ok(tensor),
            Some((index, value)) => Err(self.not_finite(parameter, index, value)),
        }
    }

    fn weight(&mut self, parameter: &Parameter) -> Result<Weight> {
        let Some(file) = self.stored.clone().filter(|_| parameter.shape.elements() >= STORED_FROM) else {
            return Ok(self.tensor(parameter)?.into());
        };
        let view = self.view(parameter)?;
        let (dtype, data) = (view.dtype(), view.data());
        let mut values = [0.0; PIECE];
        for (piece, bytes) in data.chunks(PIECE * dtype.bitsize() / 8).enumerate() {
            let values = &mut values[..bytes.len() * 8 / dtype.bitsize()];
            decode(dtype, bytes, values);
            if let Some((index, value)) = first_not_finite(values) {
                return Err(self.not_finite(parameter, piece * PIECE + index, value));
            }
        }
        let offset = (data.as_ptr().addr() - self.bytes.as_ptr().addr()) as u64;
        let (name, shape) = (parameter.name.clone(), parameter.shape);
        Ok(Weight::stored(shape, Arc::new(StoredTensor { file, name, shape, dtype, offset })))
    }
}

impl WeightFile<'_> {
    /// The tensor of a parameter, of its shape and of a type that [`decode`] knows.
    fn view(&self, parameter: &Parameter) -> Result<&safetensors::tensor::TensorView<'_>> {
        let refuse = |reason: String| Error::Format { path: self.path.into(), reason };
        let view = self.tensors.get(&parameter.name).ok_or_else(|| refuse(format!("tensor `{}` is missing", parameter.name)))?;
        let what = || format!("{}: tensor `{}`", self.path.display(), parameter.name);
        if !same_matrix(parameter.shape.dims(), view.shape()) {
            let (expected, found) = (parameter.shape.to_string(), format!("{:?}", view.shape()));
            return Err(Error::Shape { what: what(), expected, found });
        }
        if !matches!(view.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            return Err(Error::DType { what: what(), expected: "F32, F16 or BF16".into(), found: format!("{:?}", view.dtype()) });
        }
        Ok(view)
    }

    fn not_finite(&self, parameter: &Parameter, index: usize, value: f32) -> Error {
        Error::NonFinite { path: self.path.into(), tensor: parameter.name.clone(), index, value }
    }
}

/// Elements that are decoded at a time.
const PIECE: usize = 4096;

/// Widens the elements of an F32, F16 or BF16 tensor, little-endian and at any address, to f32.
pub(super) fn decode(dtype: Dtype, bytes: &[u8], values: &mut [f32]) {
    match dtype {
        Dtype::F16 => widen(bytes, values, f16_to_f32),
        Dtype::BF16 => widen(bytes, values, bf16_to_f32),
        _ => {
            bytemuck::cast_slice_mut(values).copy_from_slice(bytes);
            from_little_endian(values);
        }
    }
}

/// Values whose bytes were read from a file, in this machine's order.
pub(super) fn from_little_endian(values: &mut [f32]) {
    if cfg!(target_endian = "big") {
        values.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
    }
}

/// The first NaN or infinity and where it is.
pub(super) fn first_not_finite(values: &[f32]) -> Option<(usize, f32)> {
    // A piece at a time without a branch inside, which becomes SIMD code.
    let finite = |piece: &[f32]| piece.iter().fold(true, |all, v| all & v.is_finite());
    let piece = values.chunks(PIECE).position(|piece| !finite(piece))?;
    values.iter().copied().enumerate().skip(piece * PIECE).find(|(_, v)| !v.is_finite())
}

/// Half-precision data may start at any byte, so it is copied through an aligned buffer, a piece at a time.
fn widen<H: bytemuck::Pod>(data: &[u8], destination: &mut [f32], convert: impl Fn(&[H], &mut [f32])) {
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

/// Copies a file, its tensors as they are, and adds to its metadata or replaces entries of it.
///
/// # Errors
/// When the one file can't be read or is corrupt, or the other can't be written.
pub fn with_metadata(from: &Path, to: &Path, entries: Vec<(String, String)>) -> Result<()> {
    let map = mapped::map(from)?;
    let refuse = |e: safetensors::SafeTensorError| Error::Format { path: from.into(), reason: e.to_string() };
    let (_, header) = SafeTensors::read_metadata(&map).map_err(refuse)?;
    let tensors = SafeTensors::deserialize(&map).map_err(refuse)?;
    let mut metadata = header.metadata().clone().unwrap_or_default();
    metadata.extend(entries);
    let bytes = safetensors::serialize(tensors.tensors(), Some(metadata)).map_err(refuse)?;
    crate::atomic_file::write_atomically(to, |file| file.write_all(&bytes))
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
