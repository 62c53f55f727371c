//! Functions of several tensors that are broadcast to one shape.

use super::loops::Loops;
use super::map::GRAIN;
use super::{broadcast, broadcast_strides, check, elements};
use crate::function::rows::{BinaryArgs, BinaryFn, Operand, UnaryArgs, UnaryFn};
use crate::function::{Binary, Kind, Unary};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{Error, KernelTable};

/// `then(f(a, b))`, broadcast as NumPy does it.
pub struct Combine {
    kernel: BinaryFn,
    then: Option<(UnaryFn, [f32; 3])>,
    lens: [usize; 3],
    shape: Vec<usize>,
    loops: Loops<2>,
}

impl Combine {
    /// Prepares the op over tensors of the shapes `a` and `b`.
    ///
    /// # Errors
    /// When the shapes cannot be broadcast to one, or that one is too large.
    pub fn new(function: Binary, a: &[usize], b: &[usize], then: Unary, table: &'static KernelTable) -> Result<Combine, Error> {
        let shape = broadcast(a, b)?;
        let strides: Vec<[isize; 2]> =
            broadcast_strides(a, &shape).into_iter().zip(broadcast_strides(b, &shape)).map(|(a, b)| [a, b]).collect();
        let (kind, params) = then.kernel();
        Ok(Combine {
            kernel: table.functions.binary[function as usize],
            then: (kind != Kind::Identity).then(|| (table.functions.unary[kind as usize], params)),
            lens: [elements(a)?, elements(b)?, elements(&shape)?],
            loops: Loops::new(&shape, &strides),
            shape,
        })
    }

    /// The shape of the result.
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Computes the op.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, a: &[f32], b: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check("first operand", self.lens[0], a.len())?;
        check("second operand", self.lens[1], b.len())?;
        check("output of two operands", self.lens[2], output.len())?;
        let shared = SharedPointer::new(output);
        let steps = self.loops.steps();
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            let range = grains(self.lens[2], &parts, thread);
            self.loops.for_rows(range, |[x, y], at, len| {
                let operand = |data: &[f32], offset: isize, step: isize| Operand {
                    data: data.as_ptr().wrapping_offset(offset),
                    step: if step == 0 { 0 } else { 16 },
                    splat: step == 0,
                };
                // SAFETY: the lengths are checked above; the offsets are those of elements, as the strides are the shapes'; an
                // operand's step within a row is 1 or 0. Ranges are shared out to the threads without overlap.
                unsafe {
                    let row = shared.as_ptr().add(at);
                    (self.kernel)(&BinaryArgs { a: operand(a, x, steps[0]), b: operand(b, y, steps[1]), output: row, len });
                    if let Some((kernel, params)) = self.then {
                        kernel(&UnaryArgs { input: row.cast_const(), output: row, len, params });
                    }
                }
            });
        })
    }
}

/// The range of elements that is one thread's, in multiples of [`GRAIN`].
pub(super) fn grains(len: usize, parts: &Parts<'_>, thread: usize) -> std::ops::Range<usize> {
    let range = parts.range(len.div_ceil(GRAIN), thread);
    (range.start * GRAIN).min(len)..(range.end * GRAIN).min(len)
}

/// ONNX's Where: `a` where the condition is not 0, else `b`, all broadcast.
pub struct Select {
    lens: [usize; 4],
    shape: Vec<usize>,
    loops: Loops<3>,
}

impl Select {
    /// Prepares the op over tensors of these shapes.
    ///
    /// # Errors
    /// When the shapes cannot be broadcast to one, or that one is too large.
    pub fn new(condition: &[usize], a: &[usize], b: &[usize]) -> Result<Select, Error> {
        let shape = broadcast(&broadcast(condition, a)?, b)?;
        let [c, x, y] = [condition, a, b].map(|s| broadcast_strides(s, &shape));
        let strides: Vec<[isize; 3]> = (0..shape.len()).map(|i| [c[i], x[i], y[i]]).collect();
        let lens = [elements(condition)?, elements(a)?, elements(b)?, elements(&shape)?];
        Ok(Select { lens, loops: Loops::new(&shape, &strides), shape })
    }

    /// The shape of the result.
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Computes the op.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, condition: &[f32], a: &[f32], b: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check("condition", self.lens[0], condition.len())?;
        check("first operand", self.lens[1], a.len())?;
        check("second operand", self.lens[2], b.len())?;
        check("output of a selection", self.lens[3], output.len())?;
        let shared = SharedPointer::new(output);
        let steps = self.loops.steps();
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            let range = grains(self.lens[3], &parts, thread);
            self.loops.for_rows(range, |offsets, at, len| {
                // SAFETY: the output's length is checked above; ranges are shared out to the threads without overlap.
                let row = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(at), len) };
                for (i, value) in row.iter_mut().enumerate() {
                    let index = |s: usize| (offsets[s] + i as isize * steps[s]) as usize;
                    *value = if condition[index(0)] != 0.0 { a[index(1)] } else { b[index(2)] };
                }
            });
        })
    }
}
