//! `TensorProto` to [`Constant`], in every encoding: raw bytes, typed lists, and bytes in another file of the model's folder.

use super::constant::{Constant, Data, StoredNumbers};
use super::element::ElementType;
use super::proto::TensorProto;
use crate::error::{Error, Result};
use crate::formats::mapped;
use half::{bf16, f16};
use prost::bytes::Bytes;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use stridewise_kernels::dense::MAX_RANK;

/// How often the bytes of another file may be decoded: tensors may share them.
const MOST_DECODED: usize = 2;

/// Bytes of other files that may be decoded however often: exporters write a short list once for all that have it.
const SHORT: usize = 1 << 20;

/// The files that tensors may lie in: those of the model's folder. A model in memory has none.
pub(super) struct Files {
    pub model: PathBuf,
    pub folder: Option<PathBuf>,
    mapped: HashMap<PathBuf, Bytes>,
    /// Bytes of them that may still be decoded.
    decodable: usize,
}

impl Files {
    pub fn new(model: &Path, folder: Option<PathBuf>) -> Files {
        Files { model: model.into(), folder, mapped: HashMap::new(), decodable: SHORT }
    }

    pub fn refuse(&self, reason: String) -> Error {
        Error::Format { path: self.model.clone(), reason }
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// When its type is unknown, its elements are not as many as its dimensions say, or its file is not to be had; the error names it.
    pub fn read(&mut self, proto: &TensorProto) -> Result<Constant> {
        let name = if proto.name.is_empty() { "a constant" } else { &proto.name };
        let model = self.model.clone();
        let refuse = |reason: String| Error::Format { path: model.clone(), reason: format!("tensor `{name}`: {reason}") };
        let ty = ElementType::from_number(proto.data_type)
            .ok_or_else(|| refuse(format!("its element type {} is not supported", type_name(proto.data_type))))?;
        let mut dims = Vec::with_capacity(proto.dims.len().min(MAX_RANK));
        for &dim in &proto.dims {
            dims.push(usize::try_from(dim).map_err(|_| refuse(format!("it has the dimension {dim}")))?);
        }
        if dims.len() > MAX_RANK {
            return Err(refuse(format!("it has {} dimensions, and {MAX_RANK} are the most", dims.len())));
        }
        // Without the zeros: strides are products of dimensions too.
        let whole = dims.iter().try_fold(ty.size(), |product, &dim| product.checked_mul(dim.max(1))).filter(|b| *b <= isize::MAX as usize);
        let whole = whole.ok_or_else(|| refuse(format!("its shape {dims:?} overflows")))?;
        let bytes = if dims.contains(&0) { 0 } else { whole };
        let count = bytes / ty.size();
        let raw = match (&proto.raw_data, proto.data_location) {
            (_, 1) => Some(self.external(proto, name, bytes)?),
            (raw, _) => raw.clone(),
        };
        let length = |found: usize, what: &str| match found == count {
            true => Ok(()),
            false => Err(refuse(format!("its shape {dims:?} has {count} elements, and there are {found} {what}"))),
        };
        let data = match raw {
            Some(raw) => {
                if raw.len() != bytes {
                    return Err(refuse(format!("its shape {dims:?} of {ty} needs {bytes} bytes, and there are {}", raw.len())));
                }
                if (ty.is_float() || matches!(ty, ElementType::Uint8 | ElementType::Int8)) && count > 0 {
                    let stored = StoredNumbers { path: self.model.clone(), name: name.into(), ty, bytes: raw, levels: None };
                    Data::Stored(Arc::new(stored))
                } else if ty.is_float() {
                    Data::Floats(Arc::default())
                } else {
                    if proto.data_location == 1 {
                        let shared = "too many tensors before it are the same bytes of other files: give each its own, or share one tensor";
                        self.decodable = self.decodable.checked_sub(bytes).ok_or_else(|| refuse(shared.into()))?;
                    }
                    Data::Ints(Arc::new(whole_numbers(ty, &raw)))
                }
            }
            None => match ty {
                ElementType::Float => {
                    length(proto.float_data.len(), "floats")?;
                    Data::Floats(Arc::new(proto.float_data.clone()))
                }
                ElementType::Double => {
                    length(proto.double_data.len(), "doubles")?;
                    Data::Floats(Arc::new(proto.double_data.iter().map(|&v| v as f32).collect()))
                }
                ElementType::Float16 | ElementType::Bfloat16 => {
                    length(proto.int32_data.len(), "numbers")?;
                    let widen = |bits: &i32| match ty {
                        ElementType::Float16 => f16::from_bits(*bits as u16).to_f32(),
                        _ => bf16::from_bits(*bits as u16).to_f32(),
                    };
                    Data::Floats(Arc::new(proto.int32_data.iter().map(widen).collect()))
                }
                ElementType::Int64 => {
                    length(proto.int64_data.len(), "numbers")?;
                    Data::Ints(Arc::new(proto.int64_data.clone()))
                }
                ElementType::Uint64 | ElementType::Uint32 => {
                    length(proto.uint64_data.len(), "numbers")?;
                    Data::Ints(Arc::new(proto.uint64_data.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX)).collect()))
                }
                _ => {
                    length(proto.int32_data.len(), "numbers")?;
                    Data::Ints(Arc::new(proto.int32_data.iter().map(|&v| narrow(ty, i64::from(v))).collect()))
                }
            },
        };
        Ok(Constant { ty, dims, data })
    }

    /// A part of another file of the model's folder.
    fn external(&mut self, proto: &TensorProto, name: &str, expected: usize) -> Result<Bytes> {
        let model = self.model.clone();
        let refuse = |reason: String| Error::Format { path: model.clone(), reason: format!("tensor `{name}`: {reason}") };
        let entry = |key: &str| proto.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let number = |key: &str, default: usize| match entry(key) {
            None => Ok(default),
            Some(text) => text.trim().parse().map_err(|_| refuse(format!("its external {key} `{text}` is no number"))),
        };
        let location = entry("location").ok_or_else(|| refuse("its external data has no location".into()))?;
        let folder = self.folder.clone().ok_or_else(|| refuse("its data is in another file, and the model is in memory".into()))?;
        let relative = Path::new(location);
        // Neither up nor elsewhere; a link out of the folder is found below.
        if location.is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(refuse(format!("its external data `{location}` is outside the model's folder")));
        }
        let path = folder.join(relative);
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { path, source }
        };
        let real = path.canonicalize().map_err(io(&path))?;
        if !real.starts_with(folder.canonicalize().map_err(io(&folder))?) {
            return Err(refuse(format!("its external data `{location}` is outside the model's folder")));
        }
        if self.model.canonicalize().is_ok_and(|model| model == real) {
            return Err(refuse(format!("its external data `{location}` is the model's own file: keep it in another, or in the tensor")));
        }
        let (offset, length) = (number("offset", 0)?, number("length", expected)?);
        let file = match self.mapped.get(&real) {
            Some(bytes) => bytes.clone(),
            None => {
                let bytes = Bytes::from_owner(mapped::map(&real)?);
                self.decodable = self.decodable.saturating_add(bytes.len().saturating_mul(MOST_DECODED));
                self.mapped.insert(real, bytes.clone());
                bytes
            }
        };
        let end = offset.checked_add(length).filter(|end| *end <= file.len());
        let end = end.ok_or_else(|| {
            refuse(format!("its external data `{location}` has {} bytes, and {length} from {offset} on are needed", file.len()))
        })?;
        Ok(file.slice(offset..end))
    }
}

/// What a number of `TensorProto.DataType` is called, for messages.
pub(super) fn type_name(number: i32) -> String {
    let name = match number {
        8 => "string",
        14 => "complex64",
        15 => "complex128",
        17..=20 => "float8",
        21 => "uint4",
        22 => "int4",
        23 => "float4",
        24 => "float8e8m0",
        _ => return ElementType::from_number(number).map_or_else(|| format!("{number}"), |ty| ty.name().into()),
    };
    name.into()
}

/// Keeps what the type has of a number.
pub(super) fn narrow(ty: ElementType, value: i64) -> i64 {
    match ty {
        ElementType::Uint8 => i64::from(value as u8),
        ElementType::Int8 => i64::from(value as i8),
        ElementType::Uint16 => i64::from(value as u16),
        ElementType::Int16 => i64::from(value as i16),
        ElementType::Int32 => i64::from(value as i32),
        ElementType::Uint32 => i64::from(value as u32),
        ElementType::Bool => i64::from(value != 0),
        _ => value,
    }
}

fn whole_numbers(ty: ElementType, raw: &[u8]) -> Vec<i64> {
    match ty.size() {
        1 => raw.iter().map(|&byte| narrow(ty, i64::from(byte))).collect(),
        2 => raw.as_chunks::<2>().0.iter().map(|bytes| narrow(ty, i64::from(u16::from_le_bytes(*bytes)))).collect(),
        4 => raw.as_chunks::<4>().0.iter().map(|bytes| narrow(ty, i64::from(u32::from_le_bytes(*bytes)))).collect(),
        _ => {
            let number = |bytes: &[u8; 8]| match ty {
                ElementType::Uint64 => i64::try_from(u64::from_le_bytes(*bytes)).unwrap_or(i64::MAX),
                _ => i64::from_le_bytes(*bytes),
            };
            raw.as_chunks::<8>().0.iter().map(number).collect()
        }
    }
}
