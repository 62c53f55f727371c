//! From f32 to bytes and back.

use super::Int8Table;
use super::ops::check_scale;
use super::rows::{ElementArgs, PlanesArgs};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{BLOCK, Element, Error, Geometry, Layout};

/// One float as a byte, as every kernel here does it: `x / scale`, bounded, rounded to the nearest integer, ties to even, plus the zero
/// point. NaN becomes the zero point.
pub fn quantize_value(x: f32, scale: f32, zero: u8) -> u8 {
    let quotient = x / scale;
    if quotient.is_nan() {
        return zero;
    }
    let zero = f32::from(zero);
    (quotient.clamp(-zero, 255.0 - zero).round_ties_even() + zero) as u8
}

/// f32 to bytes: from NCHW or NCHW16c to NCHW4c or NCHW64c.
pub struct Quantize {
    input: Geometry,
    output: Geometry,
    scale: f32,
    table: &'static Int8Table,
}

/// Bytes to f32: from NCHW4c or NCHW64c to NCHW or NCHW16c.
pub struct Dequantize {
    input: Geometry,
    output: Geometry,
    scale: f32,
    table: &'static Int8Table,
}

/// Where a channel of a pixel lies: the byte, or the word of an f32, from the buffer's beginning.
fn place(g: &Geometry, n: usize, c: usize, y: usize) -> (usize, usize) {
    let (lanes, per_word) = (g.layout.lanes(), g.layout.element().per_word());
    ((g.offset(n, c / lanes, y, 0)) * per_word + c % lanes, g.layout.words() * per_word)
}

fn check(what: &str, input: &Geometry, output: &Geometry, elements: [Element; 2], scale: f32) -> Result<(), Error> {
    let problem = format!("{what} of {input:?} into {output:?}");
    if [input.layout.element(), output.layout.element()] != elements || input.dims() != output.dims() {
        return Err(Error::Problem { problem, reason: format!("the buffers are not {elements:?} of one shape") });
    }
    check_scale(&problem, scale)
}

impl Quantize {
    /// Prepares quantisation by a scale and the output's zero point: see [`quantize_value`].
    ///
    /// # Errors
    /// When the two are not f32 and bytes of one shape, or the scale is out of range.
    pub fn new(input: Geometry, output: Geometry, scale: f32, table: &'static Int8Table) -> Result<Quantize, Error> {
        check("quantisation", &input, &output, [Element::F32, Element::U8], scale)?;
        Ok(Quantize { input, output, scale, table })
    }

    /// Quantises.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of a quantisation", input.len())?;
        self.output.check("output of a quantisation", output.len())?;
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
                        (Layout::Nchw, Layout::Nchw4c) => self.planes_row(input, shared.as_ptr(), n, plane, y),
                        (Layout::Nchw16c, Layout::Nchw64c) => self.blocks_row(input, shared.as_ptr(), n, plane, y),
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

    fn args(&self, a: *const f32, count: usize, output: *mut f32) -> ElementArgs {
        let zero = f32::from(self.output.zero_point());
        ElementArgs {
            a,
            b: std::ptr::null(),
            scales: [self.scale; 2],
            shift: 0.0,
            zero: i32::from(self.output.zero_point()),
            clamp: (-zero, 255.0 - zero),
            count,
            output,
        }
    }

    /// # Safety
    /// The output is a buffer of its geometry, and this row of it the caller's alone. So for the two below.
    unsafe fn blocks_row(&self, input: &[f32], output: *mut f32, n: usize, plane: usize, y: usize) {
        let blocks = self.output.layout.lanes() / BLOCK;
        for block in plane * blocks..self.output.blocks().min((plane + 1) * blocks) {
            let from = &input[self.input.offset(n, block, y, 0)..];
            let to = output.wrapping_add(self.output.offset(n, 0, y, 0) + self.output.block_offset(block));
            // SAFETY: a row of both, of one width.
            unsafe { (self.table.quantize)(&self.args(from.as_ptr(), self.output.w, to)) };
        }
    }

    /// # Safety
    /// As above.
    unsafe fn planes_row(&self, input: &[f32], output: *mut f32, n: usize, plane: usize, y: usize) {
        let width = self.output.w;
        let row = |c: usize| &input[self.input.offset(n, c, y, 0)..][..width];
        let channels = plane * 4..self.output.c.min(plane * 4 + 4);
        let mut planes = [std::ptr::null(); 4];
        for (plane, c) in planes.iter_mut().zip(channels.clone()) {
            *plane = row(c).as_ptr();
        }
        let to = output.wrapping_add(self.output.offset(n, plane, y, 0));
        // SAFETY: a row of each plane and of the output, of one width; what is left of sixteens is below.
        unsafe {
            (self.table.quantize_planes)(&PlanesArgs { planes, element: self.args(std::ptr::null(), width / 16, to) });
            for x in width / 16 * 16..width {
                let mut word = [self.output.zero_point(); 4];
                for (byte, c) in word.iter_mut().zip(channels.clone()) {
                    *byte = quantize_value(row(c)[x], self.scale, self.output.zero_point());
                }
                to.add(x).cast::<[u8; 4]>().write_unaligned(word);
            }
        }
    }

    /// # Safety
    /// As above.
    unsafe fn any_row(&self, input: &[f32], output: *mut f32, n: usize, plane: usize, y: usize) {
        let lanes = self.output.layout.lanes();
        for c in plane * lanes..self.output.c.min((plane + 1) * lanes) {
            let ((from, step_from), (to, step_to)) = (place(&self.input, n, c, y), place(&self.output, n, c, y));
            for x in 0..self.output.w {
                let byte = quantize_value(input[from + x * step_from], self.scale, self.output.zero_point());
                // SAFETY: a byte of the row.
                unsafe { output.cast::<u8>().add(to + x * step_to).write(byte) };
            }
        }
    }
}

impl Dequantize {
    /// Prepares `(byte − zero point) · scale`, with the input's zero point.
    ///
    /// # Errors
    /// When the two are not bytes and f32 of one shape, or the scale is out of range.
    pub fn new(input: Geometry, output: Geometry, scale: f32, table: &'static Int8Table) -> Result<Dequantize, Error> {
        check("dequantisation", &input, &output, [Element::U8, Element::F32], scale)?;
        Ok(Dequantize { input, output, scale, table })
    }

    /// Dequantises.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of a dequantisation", input.len())?;
        self.output.check("output of a dequantisation", output.len())?;
        let shared = SharedPointer::new(output);
        let bytes: &[u8] = bytemuck::cast_slice(input);
        let zero = i32::from(self.input.zero_point());
        let (planes, height) = (self.output.planes(), self.output.h);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for row in parts.range(self.output.n * planes * height, thread) {
                let (n, plane, y) = (row / (planes * height), row / height % planes, row % height);
                // SAFETY: the slices' lengths are checked above against geometries of one shape; rows of planes are shared out to
                // the threads without overlap.
                unsafe {
                    if self.input.layout.is_blocked() && self.output.layout.is_blocked() {
                        let from = self.input.offset(n, 0, y, 0) + self.input.block_offset(plane);
                        let to = shared.as_ptr().add(self.output.offset(n, plane, y, 0));
                        (self.table.dequantize)(&ElementArgs {
                            a: input[from..].as_ptr(),
                            b: std::ptr::null(),
                            scales: [self.scale; 2],
                            shift: 0.0,
                            zero,
                            clamp: (0.0, 0.0),
                            count: self.output.w,
                            output: to,
                        });
                    } else {
                        let lanes = self.output.layout.lanes();
                        for c in plane * lanes..self.output.c.min((plane + 1) * lanes) {
                            let ((from, step_from), (to, step_to)) = (place(&self.input, n, c, y), place(&self.output, n, c, y));
                            for x in 0..self.output.w {
                                let value = (i32::from(bytes[from + x * step_from]) - zero) as f32 * self.scale;
                                shared.as_ptr().add(to + x * step_to).write(value);
                            }
                        }
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
}
