//! Rows and columns cut out, or put around with a constant.

use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{BLOCK, Error, Geometry, Layout};

/// `output[y][x] = input[y·step − before][x·step − before]`, a constant outside the input: slices and constant pads.
pub struct Window {
    input: Geometry,
    output: Geometry,
    before: [isize; 2],
    step: [usize; 2],
    fill: f32,
}

impl Window {
    /// Prepares it. `before` is how many rows and columns are put in front of the input; less than nothing cuts so many off. With a
    /// step every so many pixels are taken.
    ///
    /// # Errors
    /// When the two are not NCHW16c of as many images and channels, a step is zero, or the sizes overflow.
    pub fn new(input: Geometry, output: Geometry, before: [isize; 2], step: [usize; 2], fill: f32) -> Result<Window, Error> {
        let refuse = |reason: &str| Error::Problem {
            problem: format!("window of {input:?} as {output:?} behind {before:?}"),
            reason: reason.into(),
        };
        if input.layout != Layout::Nchw16c || output.layout != Layout::Nchw16c || [input.n, input.c] != [output.n, output.c] {
            return Err(refuse("the buffers are not NCHW16c of as many images and channels"));
        }
        if step.contains(&0) {
            return Err(refuse("a step is zero"));
        }
        for (before, size, step) in [(before[0], output.h, step[0]), (before[1], output.w, step[1])] {
            let end = size.checked_mul(step).and_then(|s| isize::try_from(s).ok()).and_then(|s| s.checked_sub(before));
            if end.is_none() || before == isize::MIN {
                return Err(refuse("the sizes overflow"));
            }
        }
        Ok(Window { input, output, before, step, fill })
    }

    /// Moves the pixels.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of a window", input.len())?;
        self.output.check("output of a window", output.len())?;
        let shared = SharedPointer::new(output);
        let (planes, height) = (self.output.planes(), self.output.h);
        let inside = |at: usize, axis: usize, size: usize| {
            usize::try_from((at * self.step[axis]) as isize - self.before[axis]).ok().filter(|&i| i < size)
        };
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for row in parts.range(self.output.n * planes * height, thread) {
                let (n, plane, y) = (row / (planes * height), row / height % planes, row % height);
                let start = self.output.offset(n, plane, y, 0);
                // SAFETY: the output was checked; rows are shared out to the threads without overlap.
                let to = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(start), self.output.w * BLOCK) };
                match inside(y, 0, self.input.h) {
                    None => to.fill(self.fill),
                    Some(from) => {
                        let first = self.input.offset(n, plane, from, 0);
                        for (x, pixel) in to.chunks_exact_mut(BLOCK).enumerate() {
                            match inside(x, 1, self.input.w) {
                                Some(x) => pixel.copy_from_slice(&input[first + x * BLOCK..][..BLOCK]),
                                None => pixel.fill(self.fill),
                            }
                        }
                    }
                }
                // SAFETY: likewise; the first row's thread clears the plane's halo.
                unsafe {
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
