//! Walking several strided operands at once, row by row.

use std::ops::Range;

/// Most dimensions of a tensor.
pub const MAX_RANK: usize = 16;

/// Nested loops over a shape, and for each operand how far it is from one element to the next along each dimension.
/// Dimensions that all operands go through as one are merged; the last is the row.
pub(crate) struct Loops<const S: usize> {
    dims: Vec<usize>,
    strides: Vec<[isize; S]>,
}

impl<const S: usize> Loops<S> {
    /// `strides` has one stride for each operand, for each dimension; at most [`MAX_RANK`] dimensions.
    pub(crate) fn new(shape: &[usize], strides: &[[isize; S]]) -> Loops<S> {
        let mut loops = Loops { dims: Vec::new(), strides: Vec::new() };
        for (&dim, &stride) in shape.iter().zip(strides) {
            if dim == 1 {
                continue;
            }
            match (loops.dims.last_mut(), loops.strides.last_mut()) {
                // The outer dimension's step is the whole of the inner one.
                (Some(outer), Some(step)) if (0..S).all(|s| step[s] == stride[s] * dim as isize) => {
                    *outer *= dim;
                    *step = stride;
                }
                _ => {
                    loops.dims.push(dim);
                    loops.strides.push(stride);
                }
            }
        }
        if loops.dims.is_empty() {
            loops.dims.push(1);
            loops.strides.push([0; S]);
        }
        loops
    }

    /// Elements of a row.
    pub(crate) fn row(&self) -> usize {
        self.dims[self.dims.len() - 1]
    }

    /// Each operand's step within a row.
    pub(crate) fn steps(&self) -> [isize; S] {
        self.strides[self.strides.len() - 1]
    }

    /// Calls `each` for every stretch of a row that lies in a range of elements, numbered through in order: each operand's offset
    /// at the first element, that element's number, and how many they are.
    pub(crate) fn for_rows(&self, range: Range<usize>, mut each: impl FnMut([isize; S], usize, usize)) {
        let outer = self.dims.len() - 1;
        let row = self.row();
        if range.is_empty() || row == 0 {
            return;
        }
        let mut index = [0; MAX_RANK];
        let mut offsets = [0isize; S];
        let mut rest = range.start / row;
        for axis in (0..outer).rev() {
            index[axis] = rest % self.dims[axis];
            rest /= self.dims[axis];
            for s in 0..S {
                offsets[s] += index[axis] as isize * self.strides[axis][s];
            }
        }
        let steps = self.steps();
        let mut at = range.start;
        loop {
            let x = at % row;
            let count = (row - x).min(range.end - at);
            let mut first = offsets;
            for s in 0..S {
                first[s] += x as isize * steps[s];
            }
            each(first, at, count);
            at += count;
            if at >= range.end {
                return;
            }
            for axis in (0..outer).rev() {
                index[axis] += 1;
                for s in 0..S {
                    offsets[s] += self.strides[axis][s];
                }
                if index[axis] < self.dims[axis] {
                    break;
                }
                for s in 0..S {
                    offsets[s] -= self.dims[axis] as isize * self.strides[axis][s];
                }
                index[axis] = 0;
            }
        }
    }
}
