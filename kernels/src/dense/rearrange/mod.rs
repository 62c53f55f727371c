//! Ops that only move elements: every element of the output is one of the input, or a constant. Along each axis of the output there
//! is a rule of its own, and the offsets of the axes add up.

mod axis;
mod make;

pub use make::PadMode;

use super::combine::grains;
use super::{MAX_RANK, check};
use crate::Error;
use crate::parallel::{Executor, Parts, SharedPointer};
use axis::Axis;

/// An op that moves elements, with everything decided.
pub struct Rearrange {
    input: usize,
    shape: Vec<usize>,
    len: usize,
    first: isize,
    /// All axes but the last.
    outer: Vec<Axis>,
    /// The last axis, and its length.
    last: Axis,
    row: usize,
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
        let row = last.len();
        let unit = |axis: &Axis| matches!(axis, Axis::Strided(len, 1) if *len >= SIDE / 2);
        let far = matches!(last, Axis::Strided(len, stride) if stride.unsigned_abs() > 1 && len >= SIDE / 2);
        let square = merged.iter().position(unit).filter(|_| far && merged.iter().all(|a| matches!(a, Axis::Strided(..))));
        Rearrange { input, shape, len, first, outer: merged, last, row, fill, square }
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
            offset += axis.offset(i)?;
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
        while !row.is_empty() {
            let stretch = self.last.stretch(x);
            let count = stretch.count.min(row.len());
            let (to, behind) = std::mem::take(&mut row).split_at_mut(count);
            row = behind;
            match stretch.source {
                None => to.fill(self.fill),
                Some((first, stride)) => {
                    let at = offset + first;
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
        }
    }

    /// All axes are strided, and `axis` has stride 1 while the last has not: squares of both stay in cache while they are read
    /// along one and written along the other.
    fn run_squares(&self, axis: usize, input: &[f32], output: &SharedPointer, parts: &Parts<'_>, thread: usize) {
        let Axis::Strided(_, stride) = self.last else { return };
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
