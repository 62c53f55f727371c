//! A shape whose element count is known to fit: the product is checked once, here.

use crate::error::{Error, Result};

/// Most dimensions a [`Shape`] has.
pub const MAX_RANK: usize = 6;

/// Dimensions, outermost first. Every dimension is at least 1, and the number of elements times 16 bytes fits an `isize`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// One element without dimensions.
    pub(crate) const SCALAR: Shape = Shape { dims: [1; MAX_RANK], rank: 0 };

    /// Checks the dimensions: at most six, none zero, and their product within the address space.
    pub fn new(dims: &[usize]) -> Result<Shape> {
        if dims.len() > MAX_RANK {
            return Err(Error::TooLarge {
                what: format!("the rank of shape {dims:?}"),
                requested: dims.len().to_string(),
                limit: MAX_RANK.to_string(),
            });
        }
        if let Some(axis) = dims.iter().position(|&d| d == 0) {
            return Err(Error::InvalidArgument {
                argument: format!("shape {dims:?}"),
                reason: format!("dimension {axis} is zero; every dimension must be at least 1"),
            });
        }
        let elements = dims.iter().try_fold(1usize, |product, &d| product.checked_mul(d));
        if elements.is_none_or(|e| e > isize::MAX as usize / 16) {
            return Err(Error::TooLarge {
                what: format!("the number of elements of shape {dims:?}"),
                requested: "more than the address space holds".into(),
                limit: format!("{} elements", isize::MAX as usize / 16),
            });
        }
        let mut padded = [1; MAX_RANK];
        padded[..dims.len()].copy_from_slice(dims);
        Ok(Shape { dims: padded, rank: dims.len() })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// The product of the dimensions (1 for a scalar).
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl std::fmt::Debug for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}
