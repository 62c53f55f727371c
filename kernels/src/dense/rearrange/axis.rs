//! Where the elements along one axis come from.

use super::PadMode;

/// Where the elements along an axis of the output come from, relative to its first.
pub(in super::super) enum Axis {
    /// So many indices, each a stride further.
    Strided(usize, isize),
    /// An axis with something around it.
    Padded(Padded),
    /// For each index an offset; nothing for the constant.
    Table(Vec<Option<isize>>),
}

/// An index, and those behind it whose elements are equally far apart, or the constant.
pub(super) struct Stretch {
    /// How many indices.
    pub count: usize,
    /// Offset of the first, and stride; nothing for the constant.
    pub source: Option<(isize, isize)>,
}

impl Axis {
    pub fn len(&self) -> usize {
        match self {
            Axis::Strided(len, _) => *len,
            Axis::Padded(padded) => padded.len,
            Axis::Table(table) => table.len(),
        }
    }

    /// The offset of an index below the length; nothing for the constant.
    pub fn offset(&self, index: usize) -> Option<isize> {
        match self {
            Axis::Strided(_, stride) => Some(index as isize * stride),
            Axis::Padded(padded) => Some(padded.stretch(index).source?.0),
            Axis::Table(table) => table[index],
        }
    }

    /// The stretch that begins at an index below the length.
    pub fn stretch(&self, index: usize) -> Stretch {
        match self {
            Axis::Strided(len, stride) => Stretch { count: len - index, source: Some((index as isize * stride, *stride)) },
            Axis::Padded(padded) => padded.stretch(index),
            Axis::Table(table) => {
                let table = &table[index..];
                let Some(first) = table[0] else {
                    return Stretch { count: table.iter().take_while(|offset| offset.is_none()).count(), source: None };
                };
                let stride = table.get(1).copied().flatten().map_or(1, |second| second - first);
                let even = |(i, offset): &(usize, &Option<isize>)| **offset == Some(first + *i as isize * stride);
                Stretch { count: table.iter().enumerate().take_while(even).count(), source: Some((first, stride)) }
            }
        }
    }

    /// An axis, not empty, that is one stretch is a stride, from its first offset on.
    pub fn simplified(self) -> (Axis, isize) {
        match self.stretch(0) {
            Stretch { count, source: Some((first, stride)) } if count == self.len() => (Axis::Strided(count, stride), first),
            _ => (self, 0),
        }
    }
}

/// An axis of the input with elements added in front and behind, or left out.
pub(in super::super) struct Padded {
    len: usize,
    /// Elements of the input.
    dim: isize,
    /// What is added in front; less than nothing crops.
    before: isize,
    stride: isize,
    mode: PadMode,
}

impl Padded {
    /// `len` elements, the first `before` of which lie in front of the `dim` elements of the input. Only of a constant may the input
    /// have none where the result has some.
    pub fn new(len: usize, dim: usize, before: i64, stride: isize, mode: PadMode) -> Padded {
        // A single element has no neighbour to be mirrored.
        let mode = if dim == 1 && mode == PadMode::Reflect { PadMode::Edge } else { mode };
        // Of padding beyond any index, or of whole periods, as much as makes a difference: positions cannot overflow.
        let (before, period) = (before as isize, dim.max(1) as isize);
        let before = match mode {
            PadMode::Constant(_) | PadMode::Edge => before.clamp(-(dim as isize), len as isize),
            PadMode::Wrap => before.rem_euclid(period),
            PadMode::Reflect => before.rem_euclid((2 * period - 2).max(1)),
        };
        Padded { len, dim: dim as isize, before, stride, mode }
    }

    fn stretch(&self, index: usize) -> Stretch {
        let (at, dim) = (index as isize - self.before, self.dim);
        // The element, the way on, and for how long.
        let (element, step, count) = match self.mode {
            PadMode::Wrap => {
                let at = at.rem_euclid(dim);
                (at, 1, dim - at)
            }
            PadMode::Reflect => {
                let period = 2 * dim - 2;
                let at = at.rem_euclid(period);
                if at < dim { (at, 1, dim - at) } else { (period - at, -1, period - at) }
            }
            _ if (0..dim).contains(&at) => (at, 1, dim - at),
            PadMode::Constant(_) | PadMode::Edge if at < 0 => (0, 0, -at),
            PadMode::Constant(_) | PadMode::Edge => (dim - 1, 0, isize::MAX),
        };
        let outside = step == 0 && matches!(self.mode, PadMode::Constant(_));
        let source = (!outside).then_some((element * self.stride, step * self.stride));
        Stretch { count: (count as usize).min(self.len - index), source }
    }
}
