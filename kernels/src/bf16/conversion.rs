//! From f32 to bfloat16 and back.

use super::{bf16_bits, bf16_value};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::row::{RowArgs, RowFn};
use crate::{BLOCK, Element, Error, Geometry, KernelTable, Layout};

/// f32 to bf16, to the nearest, ties to even, or bf16 to f32; from any layout of the one to any of the other.
pub struct Bf16Conversion {
    input: Geometry,
    output: Geometry,
    kernel: RowFn,
}

/// Where a channel of a row lies, and the step to the next pixel: in elements from the buffer's beginning.
fn place(g: &Geometry, n: usize, c: usize, y: usize) -> (usize, usize) {
    let (lanes, per_word) = (g.layout.lanes(), g.layout.element().per_word());
    (g.offset(n, c / lanes, y, 0) * per_word + c % lanes, g.layout.words() * per_word)
}

impl Bf16Conversion {
    /// Prepares a conversion.
    ///
    /// # Errors
    /// When the two are not f32 and bf16 of one shape.
    pub fn new(input: Geometry, output: Geometry, table: &'static KernelTable) -> Result<Bf16Conversion, Error> {
        let elements = [input.layout.element(), output.layout.element()];
        let fits = elements == [Element::F32, Element::Bf16] || elements == [Element::Bf16, Element::F32];
        if fits && input.dims() == output.dims() {
            let bf16 = table.bf16()?;
            let kernel = if output.layout.element() == Element::Bf16 { bf16.narrow } else { bf16.widen };
            return Ok(Bf16Conversion { input, output, kernel });
        }
        let problem = format!("conversion of {input:?} into {output:?}");
        Err(Error::Problem { problem, reason: "the buffers are not f32 and bf16 of one shape".into() })
    }

    /// The same conversion by the kernels of another table.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn with_table(self, table: &'static super::Bf16Table) -> Bf16Conversion {
        let kernel = if self.output.layout.element() == Element::Bf16 { table.narrow } else { table.widen };
        Bf16Conversion { kernel, ..self }
    }

    /// Converts.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of a conversion", input.len())?;
        self.output.check("output of a conversion", output.len())?;
        let shared = SharedPointer::new(output);
        let (planes, height) = (self.output.planes(), self.output.h);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for row in parts.range(self.output.n * planes * height, thread) {
                let (n, plane, y) = (row / (planes * height), row / height % planes, row % height);
                // SAFETY: the slices' lengths are checked above against geometries of one shape; rows of planes are shared out to
                // the threads without overlap.
                unsafe {
                    match (self.input.layout, self.output.layout) {
                        (Layout::Nchw, Layout::Nchw2c) => self.planes_row(input, shared.as_ptr(), n, plane, y),
                        (from, to) if from.is_blocked() && to.is_blocked() => self.blocks_row(input, shared.as_ptr(), n, plane, y),
                        _ => self.any_row(input, shared.as_ptr(), n, plane, y),
                    }
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

    /// # Safety
    /// The output is a buffer of its geometry, and this row of it the caller's alone. So for the two below.
    unsafe fn blocks_row(&self, input: &[f32], output: *mut f32, n: usize, plane: usize, y: usize) {
        let blocks = self.output.layout.lanes() / BLOCK;
        for block in plane * blocks..self.output.blocks().min((plane + 1) * blocks) {
            let at = |g: &Geometry| g.offset(n, 0, y, 0) + g.block_offset(block);
            let args = RowArgs {
                a: input[at(&self.input)..].as_ptr(),
                b: std::ptr::null(),
                scale: std::ptr::null(),
                shift: std::ptr::null(),
                clamp: (f32::NEG_INFINITY, f32::INFINITY),
                count: self.output.w,
                output: output.wrapping_add(at(&self.output)),
            };
            // SAFETY: a row of both, of one width.
            unsafe { (self.kernel)(&args) };
        }
    }

    /// # Safety
    /// As above.
    unsafe fn planes_row(&self, input: &[f32], output: *mut f32, n: usize, plane: usize, y: usize) {
        let row = |c: usize| &input[self.input.offset(n, c, y, 0)..][..self.output.w];
        let (first, second) = (row(2 * plane), (2 * plane + 1 < self.output.c).then(|| row(2 * plane + 1)));
        let to = output.wrapping_add(self.output.offset(n, plane, y, 0)).cast::<[u16; 2]>();
        for x in 0..self.output.w {
            let word = [bf16_bits(first[x]), second.map_or(0, |second| bf16_bits(second[x]))];
            // SAFETY: a word of the row.
            unsafe { to.add(x).write(word) };
        }
    }

    /// # Safety
    /// As above.
    unsafe fn any_row(&self, input: &[f32], output: *mut f32, n: usize, plane: usize, y: usize) {
        let lanes = self.output.layout.lanes();
        for c in plane * lanes..self.output.c.min((plane + 1) * lanes) {
            let ((from, step_from), (to, step_to)) = (place(&self.input, n, c, y), place(&self.output, n, c, y));
            for x in 0..self.output.w {
                let (from, to) = (from + x * step_from, to + x * step_to);
                // SAFETY: an element of the row.
                unsafe {
                    if self.output.layout.element() == Element::Bf16 {
                        output.cast::<u16>().add(to).write(bf16_bits(input[from]));
                    } else {
                        output.add(to).write(bf16_value(bytemuck::cast_slice::<f32, u16>(input)[from]));
                    }
                }
            }
        }
    }
}
