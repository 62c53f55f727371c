//! One number of many: sums, means, extremes along some axes. Sums are made in f64, in the order of the elements, and rounded once:
//! plain Rust, the same bits everywhere.

use super::loops::Loops;
use super::{check, elements, strides};
use crate::Error;
use crate::function::{exp, log};
use crate::parallel::{Executor, Parts, SharedPointer};

/// What the elements become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reduction {
    /// Σ x
    Sum,
    /// Σ x / n
    Mean,
    /// The greatest; NaN if there is one; −∞ of nothing.
    Max,
    /// The least; NaN if there is one; ∞ of nothing.
    Min,
    /// Π x
    Prod,
    /// Σ |x|
    L1,
    /// √Σ x²
    L2,
    /// ln Σ x
    LogSum,
    /// ln Σ e^x
    LogSumExp,
    /// Σ x²
    SumSquare,
}

/// Results that lie side by side and are computed together.
const COLUMNS: usize = 64;

/// A reduction along some axes, with everything decided.
pub struct Reduce {
    reduction: Reduction,
    input: usize,
    output: usize,
    /// How many elements become one.
    count: usize,
    /// Over the results.
    kept: Loops<1>,
    /// Over the elements of one.
    reduced: Loops<1>,
}

impl Reduce {
    /// Prepares a reduction along `axes`. Whether they stay as dimensions of 1 makes no difference to the elements.
    ///
    /// # Errors
    /// When an axis is not one of the tensor or comes twice, or the tensor is too large.
    pub fn new(reduction: Reduction, shape: &[usize], axes: &[usize]) -> Result<Reduce, Error> {
        let input = elements(shape)?;
        if axes.iter().enumerate().any(|(i, axis)| *axis >= shape.len() || axes[..i].contains(axis)) {
            let problem = format!("{reduction:?} of {shape:?} along {axes:?}");
            return Err(Error::Problem { problem, reason: "an axis is not one of its axes, or comes twice".into() });
        }
        let from = strides(shape);
        let loops = |is_reduced: bool| {
            let own = || (0..shape.len()).filter(|axis| axes.contains(axis) == is_reduced);
            let dims: Vec<usize> = own().map(|axis| shape[axis]).collect();
            let steps: Vec<[isize; 1]> = own().map(|axis| [from[axis]]).collect();
            (dims.iter().product(), Loops::new(&dims, &steps))
        };
        let ((output, kept), (count, reduced)) = (loops(false), loops(true));
        Ok(Reduce { reduction, input, output, count, kept, reduced })
    }

    /// Reduces.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check("input of a reduction", self.input, input.len())?;
        check("output of a reduction", self.output, output.len())?;
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        let together = if self.kept.steps()[0] == 1 { COLUMNS } else { 1 };
        // The same groups of results for any number of threads.
        let groups = self.output.div_ceil(together);
        parts.run(&|thread| {
            let range = parts.range(groups, thread);
            let range = (range.start * together).min(self.output)..(range.end * together).min(self.output);
            self.kept.for_rows(range, |[offset], at, len| {
                // SAFETY: the output's length is checked above; ranges are shared out to the threads without overlap.
                let results = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(at), len) };
                let step = self.kept.steps()[0];
                for (i, chunk) in results.chunks_mut(together).enumerate() {
                    self.reduce(input, offset + (i * together) as isize * step, chunk);
                }
            });
        })
    }

    /// Computes results that lie side by side.
    fn reduce(&self, input: &[f32], offset: isize, results: &mut [f32]) {
        let n = results.len();
        let mut acc = [0.0f64; COLUMNS];
        let greater = |a: f64, x: f64| if a.is_nan() || a > x { a } else { x };
        match self.reduction {
            Reduction::Sum | Reduction::Mean | Reduction::LogSum => self.fold(input, offset, n, &mut acc, 0.0, |a, x, _| a + x),
            Reduction::Max => self.fold(input, offset, n, &mut acc, f64::NEG_INFINITY, |a, x, _| greater(a, x)),
            Reduction::Min => self.fold(input, offset, n, &mut acc, f64::INFINITY, |a, x, _| -greater(-a, -x)),
            Reduction::Prod => self.fold(input, offset, n, &mut acc, 1.0, |a, x, _| a * x),
            Reduction::L1 => self.fold(input, offset, n, &mut acc, 0.0, |a, x, _| a + x.abs()),
            Reduction::L2 | Reduction::SumSquare => self.fold(input, offset, n, &mut acc, 0.0, |a, x, _| a + x * x),
            Reduction::LogSumExp => {
                let mut maximum = [0.0f64; COLUMNS];
                self.fold(input, offset, n, &mut maximum, f64::NEG_INFINITY, |a, x, _| greater(a, x));
                // An infinite maximum is the result itself.
                let shift = maximum.map(|m| if m.is_infinite() { 0.0 } else { m });
                self.fold(input, offset, n, &mut acc, 0.0, |a, x, i| a + exp(x - shift[i]));
                for i in 0..n {
                    acc[i] = if maximum[i].is_infinite() { maximum[i] } else { log(acc[i]) + shift[i] };
                }
            }
        }
        for (result, acc) in results.iter_mut().zip(acc) {
            *result = match self.reduction {
                Reduction::Mean => acc / self.count as f64,
                Reduction::L2 => acc.sqrt(),
                Reduction::LogSum => log(acc),
                _ => acc,
            } as f32;
        }
    }

    fn fold(&self, input: &[f32], offset: isize, n: usize, acc: &mut [f64; COLUMNS], start: f64, f: impl Fn(f64, f64, usize) -> f64) {
        acc.fill(start);
        let step = self.reduced.steps()[0];
        self.reduced.for_rows(0..self.count, |[at], _, len| {
            for i in 0..len {
                let first = (offset + at + i as isize * step) as usize;
                for (k, x) in input[first..first + n].iter().enumerate() {
                    acc[k] = f(acc[k], f64::from(*x), k);
                }
            }
        });
    }
}
