//! Tensors that are known before a network runs: initializers, and what is folded from them.

use super::element::ElementType;
use crate::error::{Error, Result};
use crate::graph::StoredWeight;
use crate::tensor::{Shape, Tensor};
use half::{bf16, f16};
use prost::bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;

/// A known tensor of any shape, one of no elements included.
#[derive(Clone)]
pub(super) struct Constant {
    pub ty: ElementType,
    pub dims: Vec<usize>,
    pub data: Data,
}

#[derive(Clone)]
pub(super) enum Data {
    /// Of a floating-point type.
    Floats(Arc<Vec<f32>>),
    /// Of any other type.
    Ints(Arc<Vec<i64>>),
    /// Of a floating-point type or bytes, as the file has them.
    Stored(Arc<StoredNumbers>),
}

/// Numbers where they lie in a file.
pub(super) struct StoredNumbers {
    pub path: PathBuf,
    pub name: String,
    /// As the file has them.
    pub ty: ElementType,
    pub bytes: Bytes,
    /// What bytes stand for, if for other numbers than their own.
    pub levels: Option<Levels>,
}

/// Bytes stand for `scale · (byte − zero point)`, with a scale and a zero point for all, or for each index of an axis.
#[derive(Clone)]
pub(super) struct Levels {
    pub axis: usize,
    /// Elements that share a scale and lie side by side.
    pub run: usize,
    pub scales: Arc<[f32]>,
    /// As many as scales.
    pub zeros: Arc<[i32]>,
}

impl StoredNumbers {
    /// Decodes elements from the `start`-th on, as many as there are of both.
    fn decode(&self, start: usize, target: &mut [f32]) {
        let bytes = self.bytes.get(start.saturating_mul(self.ty.size())..).unwrap_or_default();
        match self.ty {
            ElementType::Uint8 | ElementType::Int8 => {
                let byte = |from: &u8| if self.ty == ElementType::Int8 { i32::from(*from as i8) } else { i32::from(*from) };
                for (index, (to, from)) in target.iter_mut().zip(bytes).enumerate() {
                    *to = match &self.levels {
                        None => byte(from) as f32,
                        Some(levels) => {
                            let place = (start + index) / levels.run.max(1) % levels.scales.len().max(1);
                            (byte(from) - levels.zeros[place]) as f32 * levels.scales[place]
                        }
                    };
                }
            }
            ElementType::Float16 => {
                for (to, from) in target.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *to = f16::from_le_bytes(*from).to_f32();
                }
            }
            ElementType::Bfloat16 => {
                for (to, from) in target.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *to = bf16::from_le_bytes(*from).to_f32();
                }
            }
            ElementType::Double => {
                for (to, from) in target.iter_mut().zip(bytes.as_chunks::<8>().0) {
                    *to = f64::from_le_bytes(*from) as f32;
                }
            }
            _ => {
                for (to, from) in target.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *to = f32::from_le_bytes(*from);
                }
            }
        }
    }
}

impl StoredWeight for StoredNumbers {
    fn read(&self, start: usize, values: &mut [f32]) -> Result<()> {
        let end = start.checked_add(values.len());
        if end.is_none_or(|end| end > self.bytes.len() / self.ty.size()) {
            let reason = format!("tensor `{}` has fewer elements than {} from the {start}-th on", self.name, values.len());
            return Err(Error::Format { path: self.path.clone(), reason });
        }
        self.decode(start, values);
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(index) => {
                let (path, tensor, value) = (self.path.clone(), self.name.clone(), values[index]);
                Err(Error::NonFinite { path, tensor, index: start + index, value })
            }
        }
    }
}

impl Constant {
    pub fn floats(dims: Vec<usize>, values: Vec<f32>) -> Constant {
        Constant { ty: ElementType::Float, dims, data: Data::Floats(Arc::new(values)) }
    }

    pub fn ints(dims: Vec<usize>, values: Vec<i64>) -> Constant {
        Constant { ty: ElementType::Int64, dims, data: Data::Ints(Arc::new(values)) }
    }

    pub fn with_type(mut self, ty: ElementType) -> Constant {
        self.ty = ty;
        self
    }

    /// Where its elements are: no other constant has it while they are kept.
    pub fn address(&self) -> usize {
        match &self.data {
            Data::Floats(values) => Arc::as_ptr(values).addr(),
            Data::Ints(values) => Arc::as_ptr(values).addr(),
            Data::Stored(stored) => Arc::as_ptr(stored).addr(),
        }
    }

    /// Whether its elements are in memory, and nothing else has them.
    pub fn is_sole(&self) -> bool {
        match &self.data {
            Data::Floats(values) => Arc::strong_count(values) == 1,
            Data::Ints(values) => Arc::strong_count(values) == 1,
            Data::Stored(_) => false,
        }
    }

    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// The elements as f32; whole numbers are rounded where f32 lacks them.
    pub fn to_floats(&self) -> Arc<Vec<f32>> {
        match &self.data {
            Data::Floats(values) => values.clone(),
            Data::Ints(values) => Arc::new(values.iter().map(|&v| v as f32).collect()),
            Data::Stored(stored) => {
                let mut values = vec![0.0; self.len()];
                stored.decode(0, &mut values);
                Arc::new(values)
            }
        }
    }

    /// The elements as whole numbers, if they are of such a type.
    pub fn to_ints(&self) -> Option<Arc<Vec<i64>>> {
        match &self.data {
            Data::Ints(values) => Some(values.clone()),
            Data::Stored(stored) if self.is_whole() => {
                let mut values = vec![0.0; self.len()];
                stored.decode(0, &mut values);
                Some(Arc::new(values.iter().map(|&v| v as i64).collect()))
            }
            _ => None,
        }
    }

    /// Whether the elements are whole numbers by their type.
    pub fn is_whole(&self) -> bool {
        match &self.data {
            Data::Floats(_) => false,
            Data::Ints(_) => true,
            Data::Stored(stored) => !stored.ty.is_float() && stored.levels.is_none(),
        }
    }

    /// What a step is worth for each index of an axis, where the elements are whole numbers of steps that signed bytes hold.
    pub fn steps(&self, axis: usize) -> Option<Arc<[f32]>> {
        let Data::Stored(stored) = &self.data else { return None };
        let levels = stored.levels.as_ref()?;
        let (low, high) = if stored.ty == ElementType::Int8 { (-128, 127) } else { (0, 255) };
        if levels.zeros.iter().any(|zero| low - zero < -128 || high - zero > 127) {
            return None;
        }
        if levels.scales.iter().any(|scale| !(scale.is_finite() && *scale > 0.0)) {
            return None;
        }
        match (&levels.scales[..], self.dims.get(axis)) {
            (&[scale], Some(&count)) => Some(vec![scale; count].into()),
            (scales, Some(&count)) if levels.axis == axis && scales.len() == count => Some(levels.scales.clone()),
            _ => None,
        }
    }

    /// Whether f32 has every element.
    pub fn is_exact(&self) -> bool {
        match &self.data {
            Data::Ints(values) => values.iter().all(|v| v.unsigned_abs() <= 1 << 24),
            _ => true,
        }
    }

    /// A tensor of it.
    ///
    /// # Errors
    /// When there are more dimensions or elements than a tensor may have.
    pub fn to_tensor(&self) -> Result<Tensor<f32>> {
        let shape = Shape::new(&self.dims)?;
        if let Data::Stored(stored) = &self.data {
            let mut tensor = Tensor::zeros(shape)?;
            stored.decode(0, tensor.as_mut_slice());
            return Ok(tensor);
        }
        Tensor::from_slice(shape, &self.to_floats())
    }
}
