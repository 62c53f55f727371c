//! Where the weights of a convolution are while they are packed.

use crate::Error;
use std::ops::Range;

/// Weights `[OC, C/groups, KH, KW]`, row-major, that are read piece by piece, by several threads at a time.
pub trait WeightSource: Sync {
    /// What reading fails with; the kernels' own errors become one of these.
    type Error: From<Error> + Send;

    /// The elements of a range: where they are, or else read into `buffer`, whatever it holds.
    ///
    /// # Errors
    /// When the elements can't be read.
    fn read<'a>(&'a self, elements: Range<usize>, buffer: &'a mut Vec<f32>) -> Result<&'a [f32], Self::Error>;
}

impl WeightSource for [f32] {
    type Error = Error;

    fn read<'a>(&'a self, elements: Range<usize>, _: &'a mut Vec<f32>) -> Result<&'a [f32], Error> {
        let missing = Error::Length { what: "convolution weights", expected: elements.end, found: self.len() };
        self.get(elements).ok_or(missing)
    }
}
