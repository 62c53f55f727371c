//! Softmax and its logarithm along an axis, the maximum subtracted first.

use super::{check, elements};
use crate::function::reduce::{EXP_SUM, MAX, ReduceArgs};
use crate::function::rows::{BinaryArgs, Operand, UnaryArgs};
use crate::function::{Binary, FunctionKernels, Kind, Unary};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{Error, KernelTable};

/// Columns that are computed together where the axis is not the last.
const COLUMNS: usize = 64;

/// Softmax, or its logarithm, with everything decided. What holds NaN becomes NaN along the axis.
pub struct Softmax {
    log: bool,
    outer: usize,
    len: usize,
    inner: usize,
    functions: &'static FunctionKernels,
}

impl Softmax {
    /// Prepares softmax along an axis; its logarithm if `log`.
    ///
    /// # Errors
    /// When the tensor has no such axis, or is too large.
    pub fn new(shape: &[usize], axis: usize, log: bool, table: &'static KernelTable) -> Result<Softmax, Error> {
        elements(shape)?;
        if axis >= shape.len() {
            return Err(Error::Problem { problem: format!("softmax of {shape:?}"), reason: format!("there is no axis {axis}") });
        }
        let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        Ok(Softmax { log, outer, len: shape[axis], inner, functions: &table.functions })
    }

    /// Computes it.
    ///
    /// # Errors
    /// When a slice has another length than the tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        let total = self.outer * self.len * self.inner;
        check("input of softmax", total, input.len())?;
        check("output of softmax", total, output.len())?;
        if total == 0 {
            return Ok(());
        }
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        let groups = self.inner.div_ceil(COLUMNS);
        parts.run(&|thread| {
            for item in parts.range(self.outer * groups, thread) {
                let (outer, group) = (item / groups, item % groups);
                let column = group * COLUMNS;
                let at = outer * self.len * self.inner + column;
                // SAFETY: the lengths are checked above; items are shared out to the threads, and their columns do not overlap.
                unsafe {
                    let (from, to) = (input.as_ptr().add(at), shared.as_ptr().add(at));
                    if self.inner == 1 { self.row(from, to) } else { self.columns(from, to, COLUMNS.min(self.inner - column)) }
                }
            }
        })
    }

    /// # Safety
    /// `from` and `to` are valid for a row, and no other thread touches `to`.
    unsafe fn row(&self, from: *const f32, to: *mut f32) {
        let f = self.functions;
        let len = self.len;
        // SAFETY: the caller says so.
        unsafe {
            let maximum = (f.reduce[MAX])(&ReduceArgs { input: from, len, shift: 0.0, output: to });
            let sum = (f.reduce[EXP_SUM])(&ReduceArgs { input: from, len, shift: maximum, output: to });
            let combine = |function: Binary, a: *const f32, b: f32| {
                let b = [b; 16];
                let b = Operand { data: b.as_ptr(), step: 0, splat: true };
                (f.binary[function as usize])(&BinaryArgs { a: Operand::vectors(a), b, output: to, len });
            };
            if self.log {
                combine(Binary::Sub, from, maximum);
                combine(Binary::Sub, to, Unary::Log.apply(sum));
            } else {
                combine(Binary::Div, to, sum);
            }
        }
    }

    /// # Safety
    /// `from` and `to` are valid for `count` columns, at most [`COLUMNS`], of all rows, and no other thread touches those of `to`.
    unsafe fn columns(&self, from: *const f32, to: *mut f32, count: usize) {
        let f = self.functions;
        let (mut maximum, mut sum) = ([f32::NEG_INFINITY; COLUMNS], [0.0f32; COLUMNS]);
        let combine = |function: Binary, a: *const f32, b: *const f32, output: *mut f32| {
            // SAFETY: called below, on rows of `count` elements.
            unsafe {
                (f.binary[function as usize])(&BinaryArgs { a: Operand::vectors(a), b: Operand::vectors(b), output, len: count });
            }
        };
        let map = |kind: Kind, data: *mut f32| {
            // SAFETY: called below, on rows of `count` elements.
            unsafe { (f.unary[kind as usize])(&UnaryArgs { input: data.cast_const(), output: data, len: count, params: [0.0; 3] }) }
        };
        // SAFETY: the caller says so.
        let rows = || (0..self.len).map(|i| unsafe { (from.add(i * self.inner), to.add(i * self.inner)) });
        for (x, _) in rows() {
            combine(Binary::Max, x, maximum.as_ptr(), maximum.as_mut_ptr());
        }
        for (x, y) in rows() {
            combine(Binary::Sub, x, maximum.as_ptr(), y);
            map(Kind::Exp, y);
            combine(Binary::Add, sum.as_ptr(), y.cast_const(), sum.as_mut_ptr());
        }
        if self.log {
            map(Kind::Log, sum.as_mut_ptr());
        }
        for (x, y) in rows() {
            if self.log {
                combine(Binary::Sub, x, maximum.as_ptr(), y);
                combine(Binary::Sub, y.cast_const(), sum.as_ptr(), y);
            } else {
                combine(Binary::Div, y.cast_const(), sum.as_ptr(), y);
            }
        }
    }
}
