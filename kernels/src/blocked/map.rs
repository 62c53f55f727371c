//! A function of every element.

use super::{for_stretches, is_gapless};
use crate::function::Unary;
use crate::function::rows::{UnaryArgs, UnaryFn};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{Element, Error, Geometry, KernelTable};

/// `f(x)` for every element of a buffer of either layout.
pub struct Map {
    kernel: UnaryFn,
    params: [f32; 3],
    keeps_zero: bool,
    input: Geometry,
    output: Geometry,
}

impl Map {
    /// Prepares the function over `input` into `output`.
    ///
    /// # Errors
    /// When the two have not the same layout and dimensions.
    pub fn new(function: Unary, input: Geometry, output: Geometry, table: &'static KernelTable) -> Result<Map, Error> {
        if input.layout != output.layout || input.layout.element() != Element::F32 || input.dims() != output.dims() {
            let problem = format!("{function:?} of {input:?} into {output:?}");
            return Err(Error::Problem { problem, reason: "the buffers are not f32 of one layout and shape".into() });
        }
        let (kind, params) = function.kernel();
        Ok(Map { kernel: table.functions.unary[kind as usize], params, keeps_zero: function.keeps_zero(), input, output })
    }

    /// Computes the function.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of a function", input.len())?;
        self.output.check("output of a function", output.len())?;
        self.launch(executor, input.as_ptr(), output.as_mut_ptr())
    }

    /// Replaces every element by the function of it.
    ///
    /// # Errors
    /// When input and output were not prepared with one geometry, the slice has another length, or the executor leaves a part out.
    pub fn run_in_place(&self, executor: &dyn Executor, data: &mut [f32]) -> Result<(), Error> {
        if self.input != self.output {
            let problem = format!("a function of {:?} into {:?}, in place", self.input, self.output);
            return Err(Error::Problem { problem, reason: "the geometries differ".into() });
        }
        self.output.check("buffer of a function", data.len())?;
        let data = data.as_mut_ptr();
        self.launch(executor, data.cast_const(), data)
    }

    fn launch(&self, executor: &dyn Executor, input: *const f32, output: *mut f32) -> Result<(), Error> {
        let (from, to) = (SharedPointer::from_ptr(input.cast_mut()), SharedPointer::from_ptr(output));
        let row = self.output.w * self.output.layout.lanes();
        let joined = is_gapless(&self.input) && is_gapless(&self.output);
        let parts = Parts::of(executor);
        parts.share_out_rows(self.output.n * self.output.planes() * self.output.h, &|rows| {
            for_stretches(&self.output, rows, joined, |n, plane, y, count| {
                // SAFETY: the callers checked that both buffers are of their geometries, whose dimensions are the same; rows are
                // shared out to the threads without overlap.
                unsafe {
                    (self.kernel)(&UnaryArgs {
                        input: from.as_ptr().add(self.input.offset(n, plane, y, 0)),
                        output: to.as_ptr().add(self.output.offset(n, plane, y, 0)),
                        len: row * count,
                        params: self.params,
                    });
                    if !self.keeps_zero && plane + 1 == self.output.planes() {
                        for y in y..y + count {
                            self.output.clear_padding(to.as_ptr(), n, y, 0, self.output.w);
                        }
                    }
                    if y == 0 {
                        self.output.clear_halo(to.as_ptr(), n, plane);
                    }
                }
            });
        })
    }
}
