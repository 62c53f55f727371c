//! A function of every element.

use super::check;
use crate::function::Unary;
use crate::function::rows::{UnaryArgs, UnaryFn};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{Error, KernelTable};

/// Elements that work is shared out by.
pub(super) const GRAIN: usize = 256;

/// `f(x)` for every element.
pub struct Map {
    kernel: UnaryFn,
    params: [f32; 3],
    len: usize,
}

impl Map {
    /// Prepares the function over tensors of `len` elements.
    pub fn new(function: Unary, len: usize, table: &'static KernelTable) -> Map {
        let (kind, params) = function.kernel();
        Map { kernel: table.functions.unary[kind as usize], params, len }
    }

    /// Computes the function.
    ///
    /// # Errors
    /// When a slice has another length, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check("input of a function", self.len, input.len())?;
        check("output of a function", self.len, output.len())?;
        self.launch(executor, input.as_ptr(), output.as_mut_ptr())
    }

    /// Replaces every element by the function of it.
    ///
    /// # Errors
    /// When the slice has another length, or the executor leaves a part out.
    pub fn run_in_place(&self, executor: &dyn Executor, data: &mut [f32]) -> Result<(), Error> {
        check("tensor of a function", self.len, data.len())?;
        let data = data.as_mut_ptr();
        self.launch(executor, data.cast_const(), data)
    }

    fn launch(&self, executor: &dyn Executor, input: *const f32, output: *mut f32) -> Result<(), Error> {
        let (from, to) = (SharedPointer::from_ptr(input.cast_mut()), SharedPointer::from_ptr(output));
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            let range = parts.range(self.len.div_ceil(GRAIN), thread);
            let (start, end) = (range.start * GRAIN, (range.end * GRAIN).min(self.len));
            if start < end {
                // SAFETY: the callers checked both lengths; ranges are shared out to the threads without overlap.
                unsafe {
                    (self.kernel)(&UnaryArgs {
                        input: from.as_ptr().add(start),
                        output: to.as_ptr().add(start),
                        len: end - start,
                        params: self.params,
                    });
                }
            }
        })
    }
}
