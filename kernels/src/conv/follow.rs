//! A function of a convolution's outputs that is more than bounds: computed for some pixels of a tile at a time, while they are in
//! cache. The bits are those of the function over the whole buffer.

use super::{BLOCK, Buffers, Conv};
use crate::function::Unary;
use crate::function::rows::{UnaryArgs, UnaryFn};
use crate::{Element, Error, KernelTable};
use std::ops::Range;

/// The function's kernel.
pub(super) struct Then {
    kernel: UnaryFn,
    params: [f32; 3],
}

impl Then {
    /// Replaces some outputs by the function of each.
    ///
    /// # Safety
    /// `outputs` is valid for `len` elements, and no other thread touches them.
    pub(super) unsafe fn apply(&self, outputs: *mut f32, len: usize) {
        // SAFETY: the caller says so; the table that the kernel is from is one of this processor.
        unsafe { (self.kernel)(&UnaryArgs { input: outputs.cast_const(), output: outputs, len, params: self.params }) }
    }
}

impl Conv {
    /// Lets a function of every output follow the activation.
    ///
    /// # Errors
    /// When the outputs are not f32, or a function follows already.
    pub fn follow(&mut self, function: Unary, table: &'static KernelTable) -> Result<(), Error> {
        if self.output.layout.element() != Element::F32 || self.then.is_some() {
            let reason = format!("{function:?} can't follow: the outputs are {:?}, or another function follows", self.output.layout);
            return Err(Error::Problem { problem: self.problem.to_string(), reason });
        }
        let (kind, params) = function.kernel();
        self.then = Some(Then { kernel: table.functions.unary[kind as usize], params });
        Ok(())
    }

    /// Computes the function of the outputs of some blocks, of pixels numbered through all images, which this thread has just written.
    pub(super) fn finish(&self, buffers: &Buffers<'_>, blocks: Range<usize>, pixels: Range<usize>) {
        let Some(then) = &self.then else { return };
        for block in blocks {
            let plane = self.output.block_offset(block);
            let mut cursor = self.cursor(pixels.start, false);
            let mut pixel = pixels.start;
            while pixel < pixels.end {
                let count = (pixels.end - pixel).min(cursor.left_in_row(self));
                // SAFETY: `Conv::run` checked the output's length against its geometry, of which these are pixels of a block; they
                // are this thread's alone.
                unsafe { then.apply(buffers.output.wrapping_add(plane + cursor.output), count * BLOCK) };
                cursor.advance(self, count);
                pixel += count;
            }
        }
    }
}
