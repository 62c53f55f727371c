//! A shape whose element count is known to fit: the product is checked once, here.

use crate::error::{Error, Result};

/// Most dimensions a [`Shape`] has.
pub const MAX_RANK: usize = 6;

/// Dimensions, outermost first. One may be zero: a tensor of no elements. The product of all others times 16 bytes fits an `isize`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// One element without dimensions.
    pub(crate) const SCALAR: Shape = Shape { dims: [1; MAX_RANK], rank: 0 };

    /// Checks the dimensions: at most six, and the product of those that are not zero within the address space.
    pub fn new(dims: &[usize]) -> Result<Shape> {
        if dims.len() > MAX_RANK {
            return Err(Error::TooLarge {
                what: format!("the rank of shape {dims:?}"),
                requested: dims.len().to_string(),
                limit: MAX_RANK.to_string(),
            });
        }
        // Without the zeros: strides are products of dimensions too.
        let elements = dims.iter().try_fold(1usize, |product, &d| product.checked_mul(d.max(1)));
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

    /// Whether a dimension is zero, so that there are no elements.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// The shape, if no dimension is zero: for what must have elements.
    pub(crate) fn not_empty(self) -> Result<Shape> {
        match self.dims.iter().position(|&d| d == 0) {
            None => Ok(self),
            Some(axis) => Err(Error::InvalidArgument {
                argument: format!("shape {self}"),
                reason: format!("dimension {axis} is zero; every dimension must be at least 1"),
            }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dimension_may_be_zero_and_the_others_fit_the_address_space_all_the_same() {
        let shape = Shape::new(&[2, 0, 3]).unwrap();
        assert_eq!((shape.elements(), shape.is_empty(), shape.dims()), (0, true, &[2, 0, 3][..]));
        assert!(shape.not_empty().unwrap_err().to_string().contains("dimension 1 is zero"));
        assert!(!Shape::new(&[]).unwrap().is_empty() && Shape::new(&[1 << 40, 0]).is_ok());
        for dims in [[0, 1 << 40, 1 << 40], [1 << 40, 0, 1 << 40], [1 << 40, 1 << 40, 0]] {
            assert!(matches!(Shape::new(&dims), Err(Error::TooLarge { .. })), "{dims:?}");
        }
    }
}
