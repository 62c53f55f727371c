//! Normalisation by mean and variance: of a layer, of instances, of groups.

use super::{check, elements};
use crate::function::FunctionKernels;
use crate::function::reduce::{DEVIATION, NormalizeArgs, ReduceArgs, SUM};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{Error, KernelTable};

/// `(x − mean) / √(variance + ε) · scale + shift`, mean and variance those of a stretch of elements that lie side by side.
pub struct Norm {
    /// How many stretches.
    count: usize,
    /// Elements that have mean and variance in common.
    stretch: usize,
    /// Elements that have scale and shift in common; 0 where each has its own.
    common: usize,
    /// Scales and shifts.
    parameters: usize,
    epsilon: f32,
    functions: &'static FunctionKernels,
}

impl Norm {
    /// LayerNormalization over all dimensions from `axis` on, with a scale and a shift for each of their elements.
    ///
    /// # Errors
    /// When there is no such axis, or the tensor is too large.
    pub fn layer(shape: &[usize], axis: usize, epsilon: f32, table: &'static KernelTable) -> Result<Norm, Error> {
        let len = elements(shape)?;
        if axis >= shape.len() {
            return Err(refuse(shape, format!("there is no axis {axis}")));
        }
        let stretch: usize = shape[axis..].iter().product();
        Ok(Norm { count: len / stretch.max(1), stretch, common: 0, parameters: stretch, epsilon, functions: &table.functions })
    }

    /// InstanceNormalization of `[N, C, …]`: each channel of each image on its own, with a scale and a shift for each channel.
    ///
    /// # Errors
    /// When there are no channels, or the tensor is too large.
    pub fn instance(shape: &[usize], epsilon: f32, table: &'static KernelTable) -> Result<Norm, Error> {
        let channels = shape.get(1).copied().unwrap_or(0);
        Norm::group(shape, channels, epsilon, table)
    }

    /// GroupNormalization of `[N, C, …]`: as many groups of channels in each image, with a scale and a shift for each channel.
    ///
    /// # Errors
    /// When the channels are no multiple of the groups, or the tensor is too large.
    pub fn group(shape: &[usize], groups: usize, epsilon: f32, table: &'static KernelTable) -> Result<Norm, Error> {
        elements(shape)?;
        let &[n, c, ..] = shape else { return Err(refuse(shape, "it has no channels")) };
        if groups == 0 || !c.is_multiple_of(groups) {
            return Err(refuse(shape, format!("its channels are no multiple of {groups} groups")));
        }
        let common: usize = shape[2..].iter().product();
        let stretch = c / groups * common;
        Ok(Norm { count: if stretch == 0 { 0 } else { n * groups }, stretch, common, parameters: c, epsilon, functions: &table.functions })
    }

    /// Normalises.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], scale: &[f32], shift: &[f32], output: &mut [f32]) -> Result<(), Error> {
        let total = self.count * self.stretch;
        check("input of a normalisation", total, input.len())?;
        check("output of a normalisation", total, output.len())?;
        check("scale", self.parameters, scale.len())?;
        check("shift", self.parameters, shift.len())?;
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for item in parts.range(self.count, thread) {
                let at = item * self.stretch;
                // SAFETY: the lengths are checked above; stretches are shared out to the threads without overlap.
                unsafe {
                    let (from, to) = (input.as_ptr().add(at), shared.as_ptr().add(at));
                    let (mean, factor) = self.statistics(from);
                    let normalize = |at: usize, len: usize, scale: *const f32, shift: *const f32, step: usize| {
                        let (input, output) = (from.add(at), to.add(at));
                        (self.functions.normalize)(&NormalizeArgs { input, output, len, mean, factor, scale, shift, step });
                    };
                    if self.common == 0 {
                        normalize(0, self.stretch, scale.as_ptr(), shift.as_ptr(), 16);
                        continue;
                    }
                    let channels = self.stretch / self.common;
                    for i in 0..channels {
                        let channel = (item * channels + i) % self.parameters;
                        let (scale, shift) = ([scale[channel]; 16], [shift[channel]; 16]);
                        normalize(i * self.common, self.common, scale.as_ptr(), shift.as_ptr(), 0);
                    }
                }
            }
        })
    }

    /// Mean, and 1 / √(variance + ε), of a stretch.
    ///
    /// # Safety
    /// `data` is valid for a stretch.
    unsafe fn statistics(&self, data: *const f32) -> (f32, f32) {
        let sum = |kind: usize, shift: f32| {
            let args = ReduceArgs { input: data, len: self.stretch, shift, output: std::ptr::null_mut() };
            // SAFETY: the caller says so.
            unsafe { (self.functions.reduce[kind])(&args) }
        };
        let len = self.stretch as f32;
        let mean = sum(SUM, 0.0) / len;
        (mean, 1.0 / (sum(DEVIATION, mean) / len + self.epsilon).sqrt())
    }
}

fn refuse(shape: &[usize], reason: impl Into<String>) -> Error {
    Error::Problem { problem: format!("normalisation of {shape:?}"), reason: reason.into() }
}

/// BatchNormalization of `[N, C, …]` by statistics that are given.
pub struct BatchNorm {
    images: usize,
    channels: usize,
    inner: usize,
    epsilon: f32,
    functions: &'static FunctionKernels,
}

impl BatchNorm {
    /// Prepares it; a tensor of one dimension has one channel.
    ///
    /// # Errors
    /// When the tensor has no dimension, or is too large.
    pub fn new(shape: &[usize], epsilon: f32, table: &'static KernelTable) -> Result<BatchNorm, Error> {
        elements(shape)?;
        let (images, channels) = match shape {
            [] => return Err(refuse(shape, "it has no dimension")),
            [n] => (*n, 1),
            [n, c, ..] => (*n, *c),
        };
        Ok(BatchNorm { images, channels, inner: shape.iter().skip(2).product(), epsilon, functions: &table.functions })
    }

    /// `(x − mean) / √(variance + ε) · scale + shift`.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, the parameters are not one a channel, or the executor leaves a part out.
    pub fn run(
        &self,
        executor: &dyn Executor,
        input: &[f32],
        [scale, shift, mean, variance]: [&[f32]; 4],
        output: &mut [f32],
    ) -> Result<(), Error> {
        let total = self.images * self.channels * self.inner;
        check("input of a normalisation", total, input.len())?;
        check("output of a normalisation", total, output.len())?;
        for (what, values) in [("scale", scale), ("shift", shift), ("mean", mean), ("variance", variance)] {
            check(what, self.channels, values.len())?;
        }
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for item in parts.range(self.images * self.channels, thread) {
                let channel = item % self.channels;
                let (scale, shift) = ([scale[channel]; 16], [shift[channel]; 16]);
                let factor = 1.0 / (variance[channel] + self.epsilon).sqrt();
                // SAFETY: the lengths are checked above; planes are shared out to the threads without overlap.
                unsafe {
                    (self.functions.normalize)(&NormalizeArgs {
                        input: input.as_ptr().add(item * self.inner),
                        output: shared.as_ptr().add(item * self.inner),
                        len: self.inner,
                        mean: mean[channel],
                        factor,
                        scale: scale.as_ptr(),
                        shift: shift.as_ptr(),
                        step: 0,
                    });
                }
            }
        })
    }
}
