//! NumPy's arrays as tensors, without copying.

use crate::error::{OrRaise, raised};
use numpy::{
    PyArrayDescrMethods, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyReadwriteArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use stridewise::{Error, Shape, Tensor, TensorView, TensorViewMut};

/// An array of float32; any other element type is an error that names both.
fn typed<'py>(array: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    if let Ok(array) = array.cast::<PyArrayDyn<f32>>() {
        return Ok(array.clone());
    }
    let untyped = array.cast::<PyUntypedArray>()?;
    let name: String = untyped.dtype().getattr("name")?.extract()?;
    let found = match (name.as_str(), untyped.dtype().byteorder()) {
        ("float32", _) => "float32 of another byte order".into(),
        ("float64", _) => "f64".into(),
        ("float16", _) => "f16".into(),
        ("uint8", _) => "u8".into(),
        ("int8", _) => "i8".into(),
        ("int64", _) => "i64".into(),
        _ => name,
    };
    Err(raised(array.py(), &Error::DType { what: what.into(), expected: "f32".into(), found }))
}

/// A contiguous array that is read.
pub fn input<'py>(array: &Bound<'py, PyAny>, what: &str) -> PyResult<PyReadonlyArrayDyn<'py, f32>> {
    let array = typed(array, what)?;
    if !array.is_c_contiguous() {
        return Err(refused(&array, what, "it is not contiguous"));
    }
    array.try_readonly().map_err(|e| refused(&array, what, &e.to_string()))
}

/// A contiguous array that is written to.
pub fn output<'py>(array: &Bound<'py, PyAny>, what: &str) -> PyResult<PyReadwriteArrayDyn<'py, f32>> {
    let array = typed(array, what)?;
    if !array.is_c_contiguous() {
        return Err(refused(&array, what, "it is not contiguous"));
    }
    array.try_readwrite().map_err(|e| refused(&array, what, &e.to_string()))
}

fn refused(array: &Bound<'_, PyArrayDyn<f32>>, what: &str, reason: &str) -> PyErr {
    raised(array.py(), &Error::InvalidArgument { argument: what.into(), reason: reason.into() })
}

/// Refuses an output that overlaps the input: NumPy does not know of two arrays that were made from one buffer.
pub fn check_apart(input: &PyReadonlyArrayDyn<'_, f32>, output: &PyReadwriteArrayDyn<'_, f32>) -> PyResult<()> {
    let place = |array: &Bound<'_, PyArrayDyn<f32>>| array.data().addr()..array.data().addr() + size_of::<f32>() * array.len();
    let (read, written) = (place(input), place(output));
    if read.start.max(written.start) < read.end.min(written.end) {
        return Err(refused(output, "output", "it overlaps the input"));
    }
    Ok(())
}

/// The array as a tensor.
pub fn view<'a>(array: &'a PyReadonlyArrayDyn<'_, f32>) -> PyResult<TensorView<'a, f32>> {
    let py = array.py();
    let shape = Shape::new(array.shape()).or_raise(py)?;
    let elements = array.as_slice().map_err(|e| refused(array, "input", &e.to_string()))?;
    TensorView::new(shape, elements).or_raise(py)
}

/// The array as a tensor to write to.
pub fn view_mut<'a>(array: &'a mut PyReadwriteArrayDyn<'_, f32>) -> PyResult<TensorViewMut<'a, f32>> {
    let py = array.py();
    let shape = Shape::new(array.shape()).or_raise(py)?;
    if let Err(error) = array.as_slice() {
        return Err(refused(array, "output", &error.to_string()));
    }
    TensorViewMut::new(shape, array.as_slice_mut()?).or_raise(py)
}

/// A tensor as a new array.
pub fn array<'py>(py: Python<'py>, tensor: &Tensor<f32>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
    let array = PyArrayDyn::<f32>::zeros(py, tensor.dims(), false);
    array.readwrite().as_slice_mut()?.copy_from_slice(tensor.as_slice());
    Ok(array)
}
