//! Pooling over any number of spatial axes, with the places of maxima: plain Rust, for what pooling in blocks does not do.

use super::{MAX_RANK, check, elements};
use crate::Error;
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::pool::{Reduction, Sliding};

/// Pooling of `[N, C, …]` with everything decided.
pub struct Pool {
    reduction: Reduction,
    spatial: Vec<usize>,
    windows: Vec<Sliding>,
    shape: Vec<usize>,
    lens: [usize; 2],
    /// Whether places count through the first spatial axis first.
    column_major: bool,
}

/// From here on f32 lacks whole numbers.
const MAX_INDEX: usize = 1 << 24;

impl Pool {
    /// Prepares pooling with windows that slide along each spatial axis.
    ///
    /// # Errors
    /// When the tensor has not as many axes behind the second, the windows do not fit or one covers padding alone, or a tensor is too
    /// large.
    pub fn new(reduction: Reduction, shape: &[usize], windows: &[Sliding]) -> Result<Pool, Error> {
        let input = elements(shape)?;
        let refuse = |reason: &str| Error::Problem { problem: format!("pooling of {shape:?}"), reason: reason.into() };
        if shape.len() < 2 || shape.len() - 2 != windows.len() {
            return Err(refuse("there is not a window for each spatial axis"));
        }
        let spatial = shape[2..].to_vec();
        let mut result = shape[..2].to_vec();
        let mut bounded = windows.to_vec();
        for (sliding, &size) in bounded.iter_mut().zip(&spatial) {
            let count = sliding.count(size)?;
            sliding.dilation = sliding.dilation_within(size);
            let covers = |i: usize| {
                let (first, behind) = taps(sliding, i, size);
                first < behind
            };
            // The first window may lie before the input, the last behind it; any may step over an input that is shorter than a step, and of
            // more windows than the input has elements one does, or none.
            let between = if sliding.dilation > size { count.min(size.saturating_add(2)) } else { 0 };
            if !(0..between).chain([0, count - 1]).all(covers) {
                return Err(refuse("a window covers padding alone"));
            }
            result.push(count);
        }
        let lens = [input, elements(&result)?];
        Ok(Pool { reduction, spatial, windows: bounded, shape: result, lens, column_major: false })
    }

    /// Prepares places of maxima: numbers of elements of the whole tensor, in each plane counted through row by row, or column by column.
    ///
    /// # Errors
    /// When it is a mean, or the tensor has more than 2^24 elements.
    pub fn with_places(mut self, column_major: bool) -> Result<Pool, Error> {
        if self.reduction != Reduction::Maximum || self.lens[0] > MAX_INDEX {
            let problem = format!("places of maxima in {:?}", self.spatial);
            return Err(Error::Problem { problem, reason: "a mean has none, or the tensor is too large for indices in f32".into() });
        }
        self.column_major = column_major;
        Ok(self)
    }

    /// The shape of the result.
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Pools, and writes the places of maxima.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32], places: Option<&mut [f32]>) -> Result<(), Error> {
        check("pooling input", self.lens[0], input.len())?;
        check("pooling output", self.lens[1], output.len())?;
        if let Some(places) = &places {
            check("places of maxima", self.lens[1], places.len())?;
        }
        if self.lens[1] == 0 {
            return Ok(());
        }
        let shared = SharedPointer::new(output);
        let places = places.map(SharedPointer::new);
        let plane: usize = self.spatial.iter().product();
        let results: usize = self.shape[2..].iter().product();
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for item in parts.range(self.lens[1], thread) {
                let (outer, mut rest) = (item / results, item % results);
                let (mut ranges, mut divisor) = ([(0, 0, 0); MAX_RANK], 1.0);
                for axis in (0..self.spatial.len()).rev() {
                    let index = rest % self.shape[2 + axis];
                    rest /= self.shape[2 + axis];
                    let (sliding, size) = (&self.windows[axis], self.spatial[axis]);
                    let (first, behind) = taps(sliding, index, size);
                    let start = index * sliding.stride;
                    ranges[axis] = (start + first * sliding.dilation - sliding.pads[0], sliding.dilation, behind.saturating_sub(first));
                    let padded = size + sliding.pads[0] + sliding.pads[1];
                    let counted = padded.saturating_sub(start).div_ceil(sliding.dilation).min(sliding.kernel);
                    divisor *= if sliding.count_include_pad { counted } else { behind.saturating_sub(first) } as f64;
                }
                let (value, place) = self.window(&input[outer * plane..][..plane], &ranges[..self.spatial.len()], divisor);
                // SAFETY: both lengths are checked above; elements are shared out to the threads without overlap.
                unsafe {
                    shared.as_ptr().add(item).write(value);
                    if let Some(places) = &places {
                        places.as_ptr().add(item).write((outer * plane + place) as f32);
                    }
                }
            }
        })
    }

    /// The maximum or mean of a window, and the place of the maximum. A range is a first index, a step and a count.
    fn window(&self, plane: &[f32], ranges: &[(usize, usize, usize)], divisor: f64) -> (f32, usize) {
        let (mut best, mut place, mut sum) = (f32::NEG_INFINITY, 0, 0.0f64);
        let total: usize = ranges.iter().map(|r| r.2).product();
        for tap in 0..total {
            let (mut rest, mut at, mut stride) = (tap, 0, 1);
            for (axis, (first, step, count)) in ranges.iter().enumerate().rev() {
                at += (first + rest % count * step) * stride;
                rest /= count;
                stride *= self.spatial[axis];
            }
            let x = plane[at];
            sum += f64::from(x);
            // NaN wins, and the first of equals.
            if tap == 0 || (!best.is_nan() && (x > best || x.is_nan())) {
                (best, place) = (x, at);
            }
        }
        match self.reduction {
            Reduction::Mean => ((sum / divisor) as f32, 0),
            Reduction::Maximum if self.column_major => {
                let (mut rest, mut stride, mut other) = (place, plane.len(), 0);
                for size in self.spatial.iter().rev() {
                    stride /= size;
                    other += rest % size * stride;
                    rest /= size;
                }
                (best, other)
            }
            Reduction::Maximum => (best, place),
        }
    }
}

/// The taps of a window that are inside: the first, and the one behind the last.
fn taps(sliding: &Sliding, index: usize, size: usize) -> (usize, usize) {
    let start = index * sliding.stride;
    let first = sliding.pads[0].saturating_sub(start).div_ceil(sliding.dilation);
    let behind = (size + sliding.pads[0]).saturating_sub(start).div_ceil(sliding.dilation).min(sliding.kernel);
    (first, behind)
}
