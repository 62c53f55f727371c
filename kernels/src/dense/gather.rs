//! Elements at indices that are known only when the op runs: whole numbers in f32, exact below 2^24.

use super::combine::grains;
use super::{check, elements, strides};
use crate::Error;
use crate::parallel::{Executor, Parts, SharedPointer};
use std::sync::atomic::{AtomicU64, Ordering};

/// Which of the three ops.
enum Kind {
    /// Slices of `inner` elements along an axis.
    Slices,
    /// One element for each index, with the index's own place along the other axes.
    Elements,
    /// Slices at tuples of indices.
    Tuples { width: usize, batch: usize },
}

/// ONNX's Gather, GatherElements and GatherND.
pub struct Gather {
    kind: Kind,
    data: Vec<usize>,
    strides: Vec<isize>,
    axis: usize,
    indices: Vec<usize>,
    shape: Vec<usize>,
    lens: [usize; 3],
    /// Elements of a slice.
    inner: usize,
}

/// From here on f32 lacks whole numbers.
const MAX_INDEX: usize = 1 << 24;

impl Gather {
    fn new(kind: Kind, data: &[usize], axis: usize, indices: &[usize], shape: Vec<usize>, inner: usize) -> Result<Gather, Error> {
        if data.iter().any(|&dim| dim > MAX_INDEX) {
            let problem = format!("gathering from {data:?}");
            return Err(Error::Problem { problem, reason: "an axis is too long for indices in f32".into() });
        }
        let lens = [elements(data)?, elements(indices)?, elements(&shape)?];
        Ok(Gather { kind, data: data.to_vec(), strides: strides(data), axis, indices: indices.to_vec(), shape, lens, inner })
    }

    /// Slices along an axis, which becomes the dimensions of the indices.
    ///
    /// # Errors
    /// When there is no such axis, it is longer than 2^24, or the result is too large.
    pub fn slices(data: &[usize], indices: &[usize], axis: usize) -> Result<Gather, Error> {
        elements(data)?;
        if axis >= data.len() {
            return Err(refuse(data, indices, format!("there is no axis {axis}")));
        }
        let shape = [&data[..axis], indices, &data[axis + 1..]].concat();
        Gather::new(Kind::Slices, data, axis, indices, shape, data[axis + 1..].iter().product())
    }

    /// For each index the element that has it along the axis, and the index's own place along the others.
    ///
    /// # Errors
    /// When there is no such axis, it is longer than 2^24, or the indices lie outside along another one.
    pub fn elements(data: &[usize], indices: &[usize], axis: usize) -> Result<Gather, Error> {
        elements(data)?;
        let inside = data.len() == indices.len() && (0..data.len()).all(|i| i == axis || indices[i] <= data[i]);
        if axis >= data.len() || !inside {
            return Err(refuse(data, indices, format!("there is no axis {axis}, or they do not fit along another one")));
        }
        Gather::new(Kind::Elements, data, axis, indices, indices.to_vec(), 1)
    }

    /// Slices at tuples of indices: the last dimension of the indices is a tuple, the first `batch` dimensions are common.
    ///
    /// # Errors
    /// When the shapes do not fit, an axis is longer than 2^24, or the result is too large.
    pub fn tuples(data: &[usize], indices: &[usize], batch: usize) -> Result<Gather, Error> {
        elements(data)?;
        let Some((&width, outer)) = indices.split_last() else { return Err(refuse(data, indices, "there is no tuple")) };
        let depth = width.checked_add(batch).filter(|&d| width > 0 && d <= data.len() && batch <= outer.len());
        let Some(depth) = depth.filter(|_| data[..batch] == outer[..batch.min(outer.len())]) else {
            return Err(refuse(data, indices, format!("tuples of {width} behind {batch} common dimensions do not fit")));
        };
        let shape = [outer, &data[depth..]].concat();
        let inner = data[depth..].iter().product();
        Gather::new(Kind::Tuples { width, batch }, data, 0, indices, shape, inner)
    }

    /// The shape of the result.
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Gathers. Negative indices count from behind.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, an index is out of range or no whole number (the output then holds
    /// whatever), or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, data: &[f32], indices: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check("data to gather from", self.lens[0], data.len())?;
        check("indices", self.lens[1], indices.len())?;
        check("gathered output", self.lens[2], output.len())?;
        if self.lens[2] == 0 {
            return Ok(());
        }
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        // The bits of an index that is out of range; more than an f32 has for none.
        let wrong = AtomicU64::new(u64::MAX);
        parts.run(&|thread| {
            let range = grains(self.lens[2], &parts, thread);
            let mut at = range.start;
            while at < range.end {
                let (item, x) = (at / self.inner, at % self.inner);
                let len = (self.inner - x).min(range.end - at);
                // SAFETY: the output's length is checked above; ranges are shared out to the threads without overlap.
                let to = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(at), len) };
                match self.offset(item, indices) {
                    Ok(offset) => to.copy_from_slice(&data[offset + x..][..len]),
                    Err(index) => wrong.store(index.to_bits().into(), Ordering::Relaxed),
                }
                at += len;
            }
        })?;
        match u32::try_from(wrong.into_inner()) {
            Ok(bits) => Err(refuse(&self.data, &self.indices, format!("index {} is out of range", f32::from_bits(bits)))),
            Err(_) => Ok(()),
        }
    }

    /// Where the slice of an item begins, or the index that is wrong.
    fn offset(&self, item: usize, indices: &[f32]) -> Result<usize, f32> {
        let index = |value: f32, axis: usize| {
            let dim = self.data[axis];
            let at = if value < 0.0 { value + dim as f32 } else { value };
            // Also false for NaN.
            if at >= 0.0 && at < dim as f32 && at == at as usize as f32 {
                Ok(at as usize * self.strides[axis] as usize)
            } else {
                Err(value)
            }
        };
        match self.kind {
            Kind::Slices => {
                let count = self.lens[1];
                let outer = item / count * self.data[self.axis] * self.inner;
                Ok(outer + index(indices[item % count], self.axis)?)
            }
            Kind::Elements => {
                let (mut rest, mut offset) = (item, index(indices[item], self.axis)?);
                for axis in (0..self.data.len()).rev() {
                    if axis != self.axis {
                        offset += rest % self.indices[axis] * self.strides[axis] as usize;
                    }
                    rest /= self.indices[axis];
                }
                Ok(offset)
            }
            Kind::Tuples { width, batch } => {
                // Tuples of one common index.
                let together: usize = self.indices[batch..self.indices.len() - 1].iter().product();
                let mut offset = match batch {
                    0 => 0,
                    _ => item / together * self.strides[batch - 1] as usize,
                };
                for (i, value) in indices[item * width..][..width].iter().enumerate() {
                    offset += index(*value, batch + i)?;
                }
                Ok(offset)
            }
        }
    }
}

fn refuse(data: &[usize], indices: &[usize], reason: impl Into<String>) -> Error {
    Error::Problem { problem: format!("gathering from {data:?} at indices {indices:?}"), reason: reason.into() }
}
