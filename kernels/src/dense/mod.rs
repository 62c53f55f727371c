//! Ops on dense row-major tensors of any rank.
//!
//! Each is prepared once, with all checks, and then run without allocating. A dimension may be zero: then there is nothing to do.
//! What is true or false is 1 or 0, and true is whatever is not 0; indices are whole numbers in f32, exact below 2^24.

mod along;
mod combine;
mod concat;
mod gather;
mod loops;
mod lrn;
mod map;
mod matmul;
mod norm;
mod pool;
mod rearrange;
mod reduce;
mod resize;
mod softmax;
mod transposed;

pub use along::{ArgReduce, CumSum, Extreme, TopK};
pub use combine::{Combine, Select};
pub use concat::Concat;
pub use gather::Gather;
pub use loops::MAX_RANK;
pub use lrn::Lrn;
pub use map::Map;
pub use matmul::MatMul;
pub use norm::{BatchNorm, Norm};
pub use pool::Pool;
pub use rearrange::{PadMode, Rearrange};
pub use reduce::{Reduce, Reduction};
pub use resize::Resize;
pub use softmax::Softmax;
pub use transposed::{ConvTranspose, ConvTransposeProblem};

use crate::Error;

/// Checks that a slice has the length of a tensor.
fn check(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}

/// Elements of a tensor.
///
/// # Errors
/// When it has too many dimensions, or does not fit the address space.
fn elements(shape: &[usize]) -> Result<usize, Error> {
    let refuse = |reason: &str| Error::Problem { problem: format!("tensor {shape:?}"), reason: reason.into() };
    if shape.len() > MAX_RANK {
        return Err(refuse("it has more than 16 dimensions"));
    }
    // Without the zeros: strides are products of dimensions too.
    let whole = shape.iter().try_fold(size_of::<f32>(), |product, &dim| product.checked_mul(dim.max(1)));
    match whole {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(shape.iter().product()),
        _ => Err(refuse("it does not fit the address space")),
    }
}

/// The row-major strides of a tensor that [`elements`] accepted.
fn strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1) as isize;
    }
    strides
}

/// The shape that two are broadcast to, as NumPy does it.
///
/// # Errors
/// When they cannot be, or the result has too many dimensions or elements.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Error> {
    let refuse = || Error::Problem { problem: format!("broadcasting of {a:?} and {b:?}"), reason: "the shapes do not fit".into() };
    let rank = a.len().max(b.len());
    let dim = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |i| shape[i]);
    let both = (0..rank).map(|axis| match (dim(a, axis), dim(b, axis)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(refuse()),
    });
    let shape = both.collect::<Result<Vec<usize>, Error>>()?;
    elements(&shape)?;
    Ok(shape)
}

/// Strides of a tensor as an operand of a shape that it is broadcast to: 0 along the axes that it lacks or has once.
fn broadcast_strides(shape: &[usize], to: &[usize]) -> Vec<isize> {
    let missing = to.len() - shape.len();
    let own = strides(shape);
    (0..to.len()).map(|axis| axis.checked_sub(missing).map_or(0, |i| if shape[i] == 1 { 0 } else { own[i] })).collect()
}
