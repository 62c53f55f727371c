//! Tensors one behind the other along an axis.

use super::combine::grains;
use super::{check, elements};
use crate::Error;
use crate::parallel::{Executor, Parts, SharedPointer};

/// Concatenation with everything decided.
pub struct Concat {
    shape: Vec<usize>,
    len: usize,
    /// Elements of a row of each input, from the axis on.
    rows: Vec<usize>,
}

impl Concat {
    /// Prepares concatenation of tensors of these shapes along an axis.
    ///
    /// # Errors
    /// When there are none, they differ along another axis, have no such axis, or the result is too large.
    pub fn new(shapes: &[&[usize]], axis: usize) -> Result<Concat, Error> {
        let refuse =
            |reason: &str| Error::Problem { problem: format!("concatenation of {shapes:?} along axis {axis}"), reason: reason.into() };
        let Some(first) = shapes.first() else { return Err(refuse("there are none")) };
        if axis >= first.len() {
            return Err(refuse("there is no such axis"));
        }
        let same = |s: &&[usize]| s.len() == first.len() && (0..s.len()).all(|i| i == axis || s[i] == first[i]);
        if !shapes.iter().all(same) {
            return Err(refuse("they differ along other axes"));
        }
        let mut shape = first.to_vec();
        let sum = shapes.iter().try_fold(0usize, |sum, s| sum.checked_add(s[axis]));
        shape[axis] = sum.ok_or_else(|| refuse("the result is too large"))?;
        let len = elements(&shape)?;
        Ok(Concat { rows: shapes.iter().map(|s| s[axis..].iter().product()).collect(), shape, len })
    }

    /// The shape of the result.
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Concatenates.
    ///
    /// # Errors
    /// When there are more or fewer inputs, a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, inputs: &[&[f32]], output: &mut [f32]) -> Result<(), Error> {
        check("inputs of a concatenation", self.rows.len(), inputs.len())?;
        check("output of a concatenation", self.len, output.len())?;
        let row: usize = self.rows.iter().sum();
        if row == 0 || self.len == 0 {
            return Ok(());
        }
        let count = self.len / row;
        for (input, own) in inputs.iter().zip(&self.rows) {
            check("input of a concatenation", count * own, input.len())?;
        }
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            let range = grains(self.len, &parts, thread);
            let mut at = range.start;
            while at < range.end {
                let (outer, mut x) = (at / row, at % row);
                for (input, &own) in inputs.iter().zip(&self.rows) {
                    if x >= own {
                        x -= own;
                        continue;
                    }
                    let len = (own - x).min(range.end - at);
                    // SAFETY: the output's length is checked above; ranges are shared out to the threads without overlap.
                    let to = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(at), len) };
                    to.copy_from_slice(&input[outer * own + x..][..len]);
                    at += len;
                    x = 0;
                    if at == range.end {
                        break;
                    }
                }
            }
        })
    }
}
