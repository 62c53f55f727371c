//! Tensors as arrays of crate `ndarray`, and the other way round, without copying.
//!
//! ```
//! use stridewise::{TensorView, TensorViewMut};
//!
//! let image = ndarray::Array4::<f32>::zeros((1, 3, 32, 32));
//! let mut logits = ndarray::Array2::<f32>::zeros((1, 10));
//! # let mut session = stridewise::Model::random(stridewise::Arch::ResNet20Cifar, 0)?.session(&Default::default())?;
//! session.run_all_into(&[TensorView::try_from(image.view())?], &mut [TensorViewMut::try_from(logits.view_mut())?])?;
//! assert!(logits.iter().all(|logit| logit.is_finite()));
//! # Ok::<(), stridewise::Error>(())
//! ```

use super::{Element, Shape, Tensor, TensorView, TensorViewMut};
use crate::error::{Error, Result};
use ndarray::{ArrayView, ArrayViewD, ArrayViewMut, ArrayViewMutD, Dimension, IxDyn};

fn not_contiguous(dims: &[usize]) -> Error {
    let reason = "it is not contiguous in row-major order (`as_standard_layout` copies it so)".into();
    Error::InvalidArgument { argument: format!("array of shape {dims:?}"), reason }
}

impl<'a, T: Element, D: Dimension> TryFrom<ArrayView<'a, T, D>> for TensorView<'a, T> {
    type Error = Error;

    /// An array that is contiguous in row-major order.
    fn try_from(array: ArrayView<'a, T, D>) -> Result<TensorView<'a, T>> {
        let shape = Shape::new(array.shape())?;
        let data = array.to_slice().ok_or_else(|| not_contiguous(array.shape()))?;
        TensorView::new(shape, data)
    }
}

impl<'a, T: Element, D: Dimension> TryFrom<ArrayViewMut<'a, T, D>> for TensorViewMut<'a, T> {
    type Error = Error;

    /// An array that is contiguous in row-major order.
    fn try_from(array: ArrayViewMut<'a, T, D>) -> Result<TensorViewMut<'a, T>> {
        let shape = Shape::new(array.shape())?;
        let dims = shape.dims().to_vec();
        let data = array.into_slice().ok_or_else(|| not_contiguous(&dims))?;
        TensorViewMut::new(shape, data)
    }
}

impl<'a, T: Element> From<TensorView<'a, T>> for ArrayViewD<'a, T> {
    fn from(view: TensorView<'a, T>) -> ArrayViewD<'a, T> {
        ArrayView::from_shape(IxDyn(view.dims()), view.as_slice()).expect("a view has as many elements as its shape says")
    }
}

impl<T: Element> Tensor<T> {
    /// The tensor as an array.
    pub fn as_array(&self) -> ArrayViewD<'_, T> {
        self.view().into()
    }

    /// The tensor as an array to write to.
    pub fn as_array_mut(&mut self) -> ArrayViewMutD<'_, T> {
        let shape = self.shape();
        ArrayViewMut::from_shape(IxDyn(shape.dims()), self.as_mut_slice()).expect("a tensor has as many elements as its shape says")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array3, s};

    #[test]
    fn arrays_and_tensors_are_the_same_memory() {
        let mut array = Array3::from_shape_fn((2, 3, 4), |(a, b, c)| (a * 100 + b * 10 + c) as f32);
        let view = TensorView::try_from(array.view()).unwrap();
        assert_eq!((view.dims(), view.as_slice().as_ptr()), (&[2, 3, 4][..], array.as_ptr()));
        assert_eq!(ArrayViewD::from(view)[[1, 2, 3]], 123.0);
        TensorViewMut::try_from(array.view_mut()).unwrap().as_mut_slice()[0] = 7.0;
        assert_eq!(array[[0, 0, 0]], 7.0);
        let mut tensor = TensorView::try_from(array.view()).unwrap().to_tensor().unwrap();
        tensor.as_array_mut()[[1, 0, 2]] = -1.0;
        assert_eq!((tensor.as_array()[[1, 0, 2]], tensor.as_slice()[14]), (-1.0, -1.0));
    }

    #[test]
    fn arrays_that_are_not_contiguous_are_refused() {
        let mut array = Array3::<f32>::zeros((2, 3, 4));
        let error = TensorView::try_from(array.slice(s![.., 1.., ..])).unwrap_err().to_string();
        assert!(error.contains("[2, 2, 4]") && error.contains("contiguous"), "{error}");
        assert!(TensorViewMut::try_from(array.view_mut().reversed_axes()).is_err());
        let nothing = Array3::<f32>::zeros((2, 0, 4));
        assert_eq!(TensorView::try_from(nothing.view()).unwrap().dims(), [2, 0, 4]);
    }
}
