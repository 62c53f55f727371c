//! Local response normalisation.

use super::{check, elements};
use crate::function::rows::{BinaryArgs, Operand, UnaryArgs};
use crate::function::{Binary, FunctionKernels, Unary};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{Error, KernelTable};

/// Elements that are computed together.
const COLUMNS: usize = 64;

/// LRN of `[N, C, …]`: `x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` channels around each.
pub struct Lrn {
    images: usize,
    channels: usize,
    inner: usize,
    size: usize,
    affine: Unary,
    beta: f32,
    functions: &'static FunctionKernels,
}

impl Lrn {
    /// Prepares it.
    ///
    /// # Errors
    /// When the tensor has no channels, the size is zero, or the tensor is too large.
    pub fn new(shape: &[usize], size: usize, [alpha, beta, bias]: [f32; 3], table: &'static KernelTable) -> Result<Lrn, Error> {
        elements(shape)?;
        let (&[n, c, ..], 1..) = (shape, size) else {
            let problem = format!("local response normalisation of {shape:?}");
            return Err(Error::Problem { problem, reason: "it has no channels, or the size is zero".into() });
        };
        let affine = Unary::Affine { scale: alpha / size as f32, shift: bias };
        Ok(Lrn { images: n, channels: c, inner: shape[2..].iter().product(), size, affine, beta, functions: &table.functions })
    }

    /// Normalises.
    ///
    /// # Errors
    /// When a slice has another length than the tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        let total = self.images * self.channels * self.inner;
        check("input of a normalisation", total, input.len())?;
        check("output of a normalisation", total, output.len())?;
        let shared = SharedPointer::new(output);
        let groups = self.inner.div_ceil(COLUMNS);
        let (before, behind) = ((self.size - 1) / 2, self.size / 2);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for item in parts.range(self.images * self.channels * groups, thread) {
                let (plane, column) = (item / groups, item % groups * COLUMNS);
                let (image, channel) = (plane / self.channels * self.channels, plane % self.channels);
                let len = COLUMNS.min(self.inner - column);
                let mut sums = [0.0f32; COLUMNS];
                for neighbour in channel.saturating_sub(before)..channel.saturating_add(behind + 1).min(self.channels) {
                    let row = &input[(image + neighbour) * self.inner + column..][..len];
                    sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
                }
                let at = plane * self.inner + column;
                let data = sums.as_mut_ptr();
                // SAFETY: over buffers of `len` elements; the output was checked, and its rows are shared out without overlap.
                unsafe {
                    for function in [self.affine, Unary::Power { exponent: self.beta }] {
                        let (kind, params) = function.kernel();
                        (self.functions.unary[kind as usize])(&UnaryArgs { input: data.cast_const(), output: data, len, params });
                    }
                    (self.functions.binary[Binary::Div as usize])(&BinaryArgs {
                        a: Operand::vectors(input[at..].as_ptr()),
                        b: Operand::vectors(data.cast_const()),
                        output: shared.as_ptr().add(at),
                        len,
                    });
                }
            }
        })
    }
}
