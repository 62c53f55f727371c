//! Resizing of rows and columns, by any interpolation that is separable.

use crate::function::resample::{ResampleArgs, ResampleFn};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::resize::AxisMap;
use crate::{Error, Geometry, Layout};

/// A resize with everything decided.
pub struct Resample {
    input: Geometry,
    output: Geometry,
    rows: AxisMap,
    /// Offsets of the rows' taps in a plane.
    offsets: Vec<usize>,
    columns: AxisMap,
    kernel: ResampleFn,
}

impl Resample {
    /// Prepares resizing by a map for the rows and one for the columns.
    ///
    /// # Errors
    /// When the two are not NCHW16c of as many images and channels, the maps are not of their sizes, or have constants outside.
    pub fn new(
        input: Geometry,
        output: Geometry,
        rows: AxisMap,
        columns: AxisMap,
        table: &'static crate::KernelTable,
    ) -> Result<Resample, Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("resizing of {input:?} to {output:?}"), reason: reason.into() };
        if input.layout != Layout::Nchw16c || output.layout != Layout::Nchw16c || [input.n, input.c] != [output.n, output.c] {
            return Err(refuse("the buffers are not NCHW16c of as many images and channels"));
        }
        if [rows.input, columns.input, rows.output(), columns.output()] != [input.h, input.w, output.h, output.w] {
            return Err(refuse("the maps are of other sizes"));
        }
        if rows.outside.iter().chain(&columns.outside).any(|outside| *outside) {
            return Err(refuse("elements outside the input are not interpolated in blocks"));
        }
        let mut offsets = Vec::with_capacity(rows.weights.len());
        offsets.extend(rows.starts.iter().flat_map(|&start| (0..rows.taps).map(move |tap| (start + tap) * input.row_stride())));
        Ok(Resample { input, output, rows, offsets, columns, kernel: table.functions.resample })
    }

    /// Resizes.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of a resize", input.len())?;
        self.output.check("output of a resize", output.len())?;
        let shared = SharedPointer::new(output);
        let (planes, height, taps) = (self.output.planes(), self.output.h, self.rows.taps);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for row in parts.range(self.output.n * planes * height, thread) {
                let (n, plane, y) = (row / (planes * height), row / height % planes, row % height);
                let args = ResampleArgs {
                    input: input[self.input.offset(n, plane, 0, 0)..].as_ptr(),
                    rows: self.offsets[y * taps..].as_ptr(),
                    row_weights: self.rows.weights[y * taps..].as_ptr(),
                    row_count: taps,
                    columns: self.columns.starts.as_ptr(),
                    column_weights: self.columns.weights.as_ptr(),
                    taps: self.columns.taps,
                    count: self.output.w,
                    output: shared.as_ptr().wrapping_add(self.output.offset(n, plane, y, 0)),
                };
                // SAFETY: the maps name pixels of the input's size only, which `new` checked; the slices' lengths are checked above;
                // rows are shared out to the threads without overlap.
                unsafe {
                    (self.kernel)(&args);
                    if plane + 1 == planes {
                        self.output.clear_padding(shared.as_ptr(), n, y, 0, self.output.w);
                    }
                    if y == 0 {
                        self.output.clear_halo(shared.as_ptr(), n, plane);
                    }
                }
            }
        })
    }
}
