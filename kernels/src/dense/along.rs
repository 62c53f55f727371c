//! Ops along one axis: the places of extremes, running sums, the k first.

use super::{check, elements};
use crate::Error;
use crate::parallel::{Executor, Parts, SharedPointer};

/// Which element is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Extreme {
    /// The greatest; NaN counts as greater than all.
    Max,
    /// The least; NaN counts as less than all.
    Min,
}

/// A shape, as seen from one of its axes.
struct Along {
    outer: usize,
    len: usize,
    inner: usize,
}

impl Along {
    fn new(op: &str, shape: &[usize], axis: usize) -> Result<Along, Error> {
        elements(shape)?;
        if axis >= shape.len() {
            return Err(Error::Problem { problem: format!("{op} of {shape:?}"), reason: format!("there is no axis {axis}") });
        }
        let (outer, inner) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        Ok(Along { outer, len: shape[axis], inner })
    }

    fn total(&self) -> usize {
        self.outer * self.len * self.inner
    }

    /// Calls `each` for every line along the axis with the line's number and the offset of its first element.
    fn for_lines(&self, executor: &dyn Executor, each: impl Fn(usize, usize) + Sync) -> Result<(), Error> {
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for line in parts.range(self.outer * self.inner, thread) {
                each(line, line / self.inner * self.len * self.inner + line % self.inner);
            }
        })
    }
}

/// From here on f32 lacks whole numbers.
const MAX_INDEX: usize = 1 << 24;

fn check_indices(op: &str, shape: &[usize], len: usize) -> Result<(), Error> {
    if len <= MAX_INDEX {
        return Ok(());
    }
    Err(Error::Problem { problem: format!("{op} of {shape:?}"), reason: "the axis is too long for indices in f32".into() })
}

/// ArgMax and ArgMin: the place of an extreme, as a whole number.
pub struct ArgReduce {
    extreme: Extreme,
    last: bool,
    along: Along,
}

impl ArgReduce {
    /// Prepares it along an axis; of equal elements it finds the first, or the last if `last`.
    ///
    /// # Errors
    /// When there is no such axis, it is empty or longer than 2^24, or the tensor is too large.
    pub fn new(extreme: Extreme, shape: &[usize], axis: usize, last: bool) -> Result<ArgReduce, Error> {
        let along = Along::new("place of an extreme", shape, axis)?;
        check_indices("place of an extreme", shape, along.len)?;
        if along.len == 0 && along.outer * along.inner > 0 {
            let problem = format!("place of an extreme of {shape:?} along axis {axis}");
            return Err(Error::Problem { problem, reason: "the axis is empty".into() });
        }
        Ok(ArgReduce { extreme, last, along })
    }

    /// Finds the places.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check("input of an extreme's place", self.along.total(), input.len())?;
        check("output of an extreme's place", self.along.outer * self.along.inner, output.len())?;
        let shared = SharedPointer::new(output);
        self.along.for_lines(executor, |line, at| {
            let values = input[at..].iter().step_by(self.along.inner).take(self.along.len);
            let (mut best, mut place) = (f32::NAN, 0);
            for (i, &x) in values.enumerate() {
                let beats = match self.extreme {
                    _ if i == 0 => true,
                    _ if best.is_nan() || x.is_nan() => x.is_nan() && (self.last || !best.is_nan()),
                    Extreme::Max => x > best || (self.last && x == best),
                    Extreme::Min => x < best || (self.last && x == best),
                };
                if beats {
                    (best, place) = (x, i);
                }
            }
            // SAFETY: the output's length is checked above, and a line is one thread's alone.
            unsafe { shared.as_ptr().add(line).write(place as f32) };
        })
    }
}

/// CumSum: the sums of all elements so far, made in f64.
pub struct CumSum {
    exclusive: bool,
    reverse: bool,
    along: Along,
}

impl CumSum {
    /// Prepares it along an axis: without the element itself if `exclusive`, from behind if `reverse`.
    ///
    /// # Errors
    /// When there is no such axis, or the tensor is too large.
    pub fn new(shape: &[usize], axis: usize, exclusive: bool, reverse: bool) -> Result<CumSum, Error> {
        Ok(CumSum { exclusive, reverse, along: Along::new("running sum", shape, axis)? })
    }

    /// Sums.
    ///
    /// # Errors
    /// When a slice has another length than the tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check("input of a running sum", self.along.total(), input.len())?;
        check("output of a running sum", self.along.total(), output.len())?;
        let shared = SharedPointer::new(output);
        self.along.for_lines(executor, |_, at| {
            let mut sum = 0.0f64;
            for i in 0..self.along.len {
                let i = if self.reverse { self.along.len - 1 - i } else { i };
                let place = at + i * self.along.inner;
                let before = sum;
                sum += f64::from(input[place]);
                // SAFETY: the output's length is checked above, and a line is one thread's alone.
                unsafe { shared.as_ptr().add(place).write(if self.exclusive { before } else { sum } as f32) };
            }
        })
    }
}

/// TopK: the k greatest or least elements, and their places.
pub struct TopK {
    k: usize,
    extreme: Extreme,
    along: Along,
}

impl TopK {
    /// Prepares it along an axis. The elements come in order, equal ones in the order of their places.
    ///
    /// # Errors
    /// When there is no such axis, it is shorter than `k` or longer than 2^24, or the tensor is too large.
    pub fn new(shape: &[usize], axis: usize, k: usize, extreme: Extreme) -> Result<TopK, Error> {
        let along = Along::new("first elements", shape, axis)?;
        check_indices("first elements", shape, along.len)?;
        if k > along.len {
            let problem = format!("the {k} first elements of {shape:?} along axis {axis}");
            return Err(Error::Problem { problem, reason: "there are not so many".into() });
        }
        Ok(TopK { k, extreme, along })
    }

    /// Finds them.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], values: &mut [f32], places: &mut [f32]) -> Result<(), Error> {
        let (found, inner) = (self.along.outer * self.k * self.along.inner, self.along.inner);
        check("input of the first elements", self.along.total(), input.len())?;
        check("first elements", found, values.len())?;
        check("places of the first elements", found, places.len())?;
        if found == 0 {
            return Ok(());
        }
        let (values, places) = (SharedPointer::new(values), SharedPointer::new(places));
        let comes_before = |a: (f32, usize), b: (f32, usize)| match self.extreme {
            _ if a.0 == b.0 || (a.0.is_nan() && b.0.is_nan()) => a.1 < b.1,
            _ if a.0.is_nan() || b.0.is_nan() => a.0.is_nan(),
            Extreme::Max => a.0 > b.0,
            Extreme::Min => a.0 < b.0,
        };
        self.along.for_lines(executor, |line, at| {
            let first = line / inner * self.k * inner + line % inner;
            // SAFETY: both lengths are checked above; the k places of a line, `inner` apart, are one thread's alone.
            let get = |i: usize| unsafe {
                (values.as_ptr().add(first + i * inner).read(), places.as_ptr().add(first + i * inner).read() as usize)
            };
            // SAFETY: likewise.
            let set = |i: usize, (value, place): (f32, usize)| unsafe {
                values.as_ptr().add(first + i * inner).write(value);
                places.as_ptr().add(first + i * inner).write(place as f32);
            };
            // A heap of those found so far, the last of them at its root, which in the end is taken off it from behind.
            let sink = |mut place: usize, count: usize, new: (f32, usize)| {
                loop {
                    let (left, right) = (2 * place + 1, 2 * place + 2);
                    let child = if right < count && comes_before(get(left), get(right)) { right } else { left };
                    if child >= count || comes_before(get(child), new) {
                        return set(place, new);
                    }
                    set(place, get(child));
                    place = child;
                }
            };
            let element = |i: usize| (input[at + i * inner], i);
            (0..self.k).for_each(|i| set(i, element(i)));
            (0..self.k / 2).rev().for_each(|place| sink(place, self.k, get(place)));
            for i in self.k..self.along.len {
                if comes_before(element(i), get(0)) {
                    sink(0, self.k, element(i));
                }
            }
            for count in (1..self.k).rev() {
                let first = get(count);
                set(count, get(0));
                sink(0, count, first);
            }
        })
    }
}
