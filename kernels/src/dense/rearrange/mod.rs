//! Ops that only move elements: every element of the output is one of the input, or a constant. Along each axis of the output there
//! is a rule of its own, a stride or a table of offsets, and the offsets of the axes add up.

mod make;

pub(super) use make::MAX_TABLE;
pub use make::PadMode;

use super::combine::grains;
use super::{MAX_RANK, check};
use crate::Error;
use crate::parallel::{Executor, Parts, SharedPointer};

/// Where the elements along an axis of the output come from, relative to its first.
pub(super) enum Axis {
    /// So many indices, each a stride further.
    Strided(usize, isize),
    /// For each index an offset; nothing for the constant.
    Table(Vec<Option<isize>>),
}

impl Axis {
    fn len(&self) -> usize {
        match self {
            Axis::Strided(len, _) => *len,
            Axis::Table(table) => table.len(),
        }
    }

    /// A table whose offsets are equally far apart is a stride, from its first offset on.
    fn simplified(self) -> (Axis, isize) {
        let Axis::Table(table) = &self else { return (self, 0) };
        let Some(Some(first)) = table.first().copied() else { return (self, 0) };
        let stride = match table.get(1) {
            None => 0,
            Some(Some(second)) => second - first,
            Some(None) => return (self, 0),
        };
        let even = table.iter().enumerate().all(|(i, offset)| *offset == Some(first + i as isize * stride));
        if even { (Axis::Strided(table.len(), stride), first) } else { (self, 0) }
    }
}

/// A stretch of a row whose elements are equally far apart, or the constant.
struct Run {
    /// Index of the first element behind it.
    end: usize,
    /// Offset that index 0 would have, and stride; nothing for the constant.
    source: Option<(isize, isize)>,
}

/// An op that moves elements, with everything decided.
pub struct Rearrange {
    input: usize,
    shape: Vec<usize>,
    len: usize,
    first: isize,
    /// All axes but the last.
    outer: Vec<Axis>,
    /// The last axis.
    row: usize,
    runs: Vec<Run>,
    fill: f32,
    /// The axis along which the input's elements lie side by side, where that is not the last: two axes are then gone through in
    /// squares.
    square: Option<usize>,
}

/// Elements along the side of a square.
const SIDE: usize = 16;

impl Rearrange {
    /// `axes` in the order of the output; their lengths multiply to those of `shape`. Every sum of offsets, plus `first`, is that
    /// of an element of the input.
    fn new(input: usize, shape: Vec<usize>, mut first: isize, axes: Vec<Axis>, fill: f32) -> Rearrange {
        let len = shape.iter().product();
        let mut merged: Vec<Axis> = Vec::new();
        for axis in axes {
            let (axis, offset) = if len == 0 { (axis, 0) } else { axis.simplified() };
            first += offset;
            if let (1, Axis::Strided(..)) = (axis.len(), &axis) {
                continue;
            }
            match (merged.last_mut(), &axis) {
                (Some(Axis::Strided(outer, step)), Axis::Strided(inner, stride)) if *step == stride * *inner as isize => {
                    *outer *= inner;
                    *step = *stride;
                }
                _ => merged.push(axis),
            }
        }
        let last = merged.pop().unwrap_or(Axis::Strided(1, 1));
        let (row, runs) = (last.len(), runs_of(&last));
        let unit = |axis: &Axis| matches!(axis, Axis::Strided(len, 1) if *len >= SIDE / 2);
        let far = matches!(last, Axis::Strided(len, stride) if stride.unsigned_abs() > 1 && len >= SIDE / 2);
        let square = merged.iter().position(unit).filter(|_| far && merged.iter().all(|a| matches!(a, Axis::Strided(..))));
        Rearrange { input, shape, len, first, outer: merged, row, runs, fill, square }
    }

    /// The shape of the result.
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Moves the elements.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        check("input of a rearrangement", self.input, input.len())?;
        check("output of a rearrangement", self.len, output.len())?;
        if self.len == 0 {
            return Ok(());
        }
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        parts.run(&|thread| match self.square {
            Some(axis) => self.run_squares(axis, input, &shared, &parts, thread),
            None => {
                let range = grains(self.len, &parts, thread);
                // SAFETY: the output's length is checked above; ranges are shared out to the threads without overlap.
                let part = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(range.start), range.len()) };
                self.run_rows(input, range.start, part);
            }
        })
    }

    /// Offset of an outer index in the input; nothing for the constant.
    fn offset(&self, index: &[usize; MAX_RANK_INNER]) -> Option<isize> {
        let mut offset = self.first;
        for (axis, &i) in self.outer.iter().zip(index) {
            offset += match axis {
                Axis::Strided(_, stride) => i as isize * stride,
                Axis::Table(table) => table[i]?,
            };
        }
        Some(offset)
    }

    fn run_rows(&self, input: &[f32], start: usize, output: &mut [f32]) {
        let mut index = [0; MAX_RANK_INNER];
        let mut rest = start / self.row;
        for axis in (0..self.outer.len()).rev() {
            index[axis] = rest % self.outer[axis].len();
            rest /= self.outer[axis].len();
        }
        let mut x = start % self.row;
        let mut left = output;
        while !left.is_empty() {
            let count = (self.row - x).min(left.len());
            let (row, behind) = left.split_at_mut(count);
            left = behind;
            match self.offset(&index) {
                Some(offset) => self.copy_row(input, offset, x, row),
                None => row.fill(self.fill),
            }
            x = 0;
            for axis in (0..self.outer.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.outer[axis].len() {
                    break;
                }
                index[axis] = 0;
            }
        }
    }

    /// Copies a row from its `x`-th element on.
    fn copy_row(&self, input: &[f32], offset: isize, mut x: usize, mut row: &mut [f32]) {
        let first = self.runs.partition_point(|run| run.end <= x);
        for run in &self.runs[first..] {
            let count = (run.end - x).min(row.len());
            let (to, behind) = std::mem::take(&mut row).split_at_mut(count);
            row = behind;
            match run.source {
                None => to.fill(self.fill),
                Some((base, stride)) => {
                    let at = offset + base + x as isize * stride;
                    match stride {
                        1 => to.copy_from_slice(&input[at as usize..][..count]),
                        0 => to.fill(input[at as usize]),
                        2.. => {
                            for (value, x) in to.iter_mut().zip(input[at as usize..].iter().step_by(stride as usize)) {
                                *value = *x;
                            }
                        }
                        _ => {
                            for (i, value) in to.iter_mut().enumerate() {
                                *value = input[(at + i as isize * stride) as usize];
                            }
                        }
                    }
                }
            }
            x += count;
            if row.is_empty() {
                return;
            }
        }
    }

    /// All axes are strided, and `axis` has stride 1 while the last has not: squares of both stay in cache while they are read
    /// along one and written along the other.
    fn run_squares(&self, axis: usize, input: &[f32], output: &SharedPointer, parts: &Parts<'_>, thread: usize) {
        let Some(Run { source: Some((_, stride)), .. }) = self.runs.first() else { return };
        let side = self.outer[axis].len();
        let inner: usize = self.outer[axis + 1..].iter().map(Axis::len).product();
        // Elements from an index of `axis` to the next in the output.
        let pitch = inner * self.row;
        let bands = side.div_ceil(SIDE);
        let outside: usize = self.outer[..axis].iter().map(Axis::len).product();
        for item in parts.range(outside * bands * inner, thread) {
            let (before, band, after) = (item / (bands * inner), item / inner % bands, item % inner);
            let mut index = [0; MAX_RANK_INNER];
            let mut rest = after;
            for i in (axis + 1..self.outer.len()).rev() {
                index[i] = rest % self.outer[i].len();
                rest /= self.outer[i].len();
            }
            rest = before;
            for i in (0..axis).rev() {
                index[i] = rest % self.outer[i].len();
                rest /= self.outer[i].len();
            }
            index[axis] = band * SIDE;
            let Some(offset) = self.offset(&index) else { return };
            let count = (side - band * SIDE).min(SIDE);
            let base = (before * side + band * SIDE) * pitch + after * self.row;
            let mut x = 0;
            while x < self.row {
                let width = (self.row - x).min(SIDE);
                for i in 0..count {
                    // SAFETY: the output's length was checked against the axes; the squares of an item are this thread's alone.
                    let row = unsafe { std::slice::from_raw_parts_mut(output.as_ptr().add(base + i * pitch + x), width) };
                    let from = offset + i as isize + x as isize * stride;
                    for (k, value) in row.iter_mut().enumerate() {
                        *value = input[(from + k as isize * stride) as usize];
                    }
                }
                x += width;
            }
        }
    }
}

/// Twice the rank of a tensor: an op may split axes in two.
const MAX_RANK_INNER: usize = 2 * MAX_RANK;

fn runs_of(axis: &Axis) -> Vec<Run> {
    let table = match axis {
        Axis::Strided(len, stride) => return vec![Run { end: *len, source: Some((0, *stride)) }],
        Axis::Table(table) => table,
    };
    let mut runs = Vec::new();
    let mut start = 0;
    while start < table.len() {
        let Some(first) = table[start] else {
            let count = table[start..].iter().take_while(|o| o.is_none()).count();
            start += count;
            runs.push(Run { end: start, source: None });
            continue;
        };
        let stride = table.get(start + 1).copied().flatten().map_or(1, |second| second - first);
        let count = table[start..].iter().enumerate().take_while(|(i, o)| **o == Some(first + *i as isize * stride)).count();
        runs.push(Run { end: start + count, source: Some((first - start as isize * stride, stride)) });
        start += count;
    }
    runs
}
