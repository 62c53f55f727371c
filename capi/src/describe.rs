//! What a network says of itself before a session is made: its architecture, its inputs and outputs, its preprocessing, its labels.

use crate::model::{Model, model};
use crate::status::{Status, c_text, guard, missing, quietly};
use crate::tensor::Tensor;
use std::ffi::{CString, c_char};
use stridewise::Error;
use stridewise::graph::Dim;

/// Texts of a network.
pub(crate) struct Description {
    arch: Option<CString>,
    inputs: Vec<Input>,
    outputs: Vec<CString>,
    labels: Vec<CString>,
}

struct Input {
    name: CString,
    /// The names of dimensions that are not fixed.
    dims: Vec<Option<CString>>,
}

impl Description {
    fn of(model: &stridewise::Model) -> Description {
        let inputs = model.inputs().iter().map(|input| {
            let name = |dim: &Dim| match dim {
                Dim::Fixed(_) => None,
                Dim::Any(name) => Some(c_text(name)),
            };
            Input { name: c_text(&input.name), dims: input.dims.iter().map(name).collect() }
        });
        let labels = model.labels().unwrap_or_default().iter().map(|label| c_text(label));
        let outputs = model.output_names().iter().map(|name| c_text(name));
        let arch = model.arch().map(|arch| c_text(&arch.to_string()));
        Description { arch, inputs: inputs.collect(), outputs: outputs.collect(), labels: labels.collect() }
    }
}

/// What `find` finds in the description of a network.
///
/// # Safety
/// `model` is NULL or a model that is not freed while the result is used.
unsafe fn described<'a, T>(model: *const Model, find: impl FnOnce(&'a Description) -> Option<T>) -> Option<T> {
    // SAFETY: this function's contract.
    let model = unsafe { model.as_ref() }?;
    quietly(|| find(model.description.get_or_init(|| Description::of(&model.model))))
}

fn pointer(text: Option<&CString>) -> *const c_char {
    text.map_or(std::ptr::null(), |text| text.as_ptr())
}

/// The name of the network's architecture, such as `resnet50`, until the model is freed; NULL where it has none that is known, as an ONNX
/// file.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_arch(model: *const Model) -> *const c_char {
    // SAFETY: the caller's promise.
    pointer(unsafe { described(model, |d| d.arch.as_ref()) })
}

/// Inputs of the network; 0 for NULL.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_input_count(model: *const Model) -> usize {
    // SAFETY: the caller's promise.
    unsafe { described(model, |d| Some(d.inputs.len())) }.unwrap_or(0)
}

/// The name of an input, until the model is freed; NULL when there is none of this number.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_input_name(model: *const Model, index: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    pointer(unsafe { described(model, |d| Some(&d.inputs.get(index)?.name)) })
}

/// Describes the input of a number: type, rank and dimensions are written to `tensor`, and NULL for its data. Dimensions that are not
/// fixed are 0: `stridewise_model_input_dim_name` tells which they are.
///
/// # Safety
/// `model` is a model; `tensor` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_input(model: *const Model, index: usize, tensor: *mut Tensor) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let inputs = unsafe { self::model(model)? }.inputs();
        let none = || Error::InvalidArgument { argument: format!("input {index}"), reason: format!("there are {}", inputs.len()) };
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any(_) => 0,
        };
        let dims: Vec<usize> = inputs.get(index).ok_or_else(none)?.dims.iter().map(size).collect();
        if tensor.is_null() {
            return Err(missing("tensor"));
        }
        let described = Tensor::of(&dims, &format!("input {index}"))?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { tensor.write(described) };
        Ok(())
    })
}

/// The name of a dimension of an input that a session binds, until the model is freed: dimensions of one name are equal, but for those of
/// the empty name. NULL for a dimension that is fixed, and when there is none of these numbers.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_input_dim_name(model: *const Model, index: usize, axis: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    pointer(unsafe { described(model, |d| d.inputs.get(index)?.dims.get(axis)?.as_ref()) })
}

/// Outputs of the network; 0 for NULL.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_output_count(model: *const Model) -> usize {
    // SAFETY: the caller's promise.
    unsafe { described(model, |d| Some(d.outputs.len())) }.unwrap_or(0)
}

/// The name of an output, until the model is freed; NULL when there is none of this number.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_output_name(model: *const Model, index: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    pointer(unsafe { described(model, |d| d.outputs.get(index)) })
}

/// The names of classes that the network has, where the number of its outputs tells them: 1,000 of ImageNet or 10 of CIFAR-10. Else, and
/// for NULL, 0.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_label_count(model: *const Model) -> usize {
    // SAFETY: the caller's promise.
    unsafe { described(model, |d| Some(d.labels.len())) }.unwrap_or(0)
}

/// The name of a class, until the model is freed: that of the output of this index. NULL when it has none.
///
/// # Safety
/// `model` is NULL or a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_label(model: *const Model, index: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    pointer(unsafe { described(model, |d| d.labels.get(index)) })
}

/// What is done to a picture before it is the input of a network: its shorter side is resized to `resize` pixels, `crop_height` times
/// `crop_width` are cut out of the middle, and each byte `x` of red, green and blue becomes `(x / 255 - mean) / std`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Preprocessing {
    /// Pixels of the shorter side after resizing, which is bilinear and antialiased.
    pub resize: usize,
    /// H of the input.
    pub crop_height: usize,
    /// W of the input.
    pub crop_width: usize,
    /// Subtracted from red, green and blue between 0 and 1.
    pub mean: [f32; 3],
    /// What they are divided by after that.
    pub std: [f32; 3],
}

/// The preprocessing of a network: `mean` and `std` of the metadata of its file, where it has them, and else those of ImageNet.
///
/// # Safety
/// `model` is a model; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_preprocessing(model: *const Model, out: *mut Preprocessing) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let own = unsafe { self::model(model)? }.preprocessing();
        if out.is_null() {
            return Err(missing("out"));
        }
        let [crop_height, crop_width] = own.crop();
        // SAFETY: not NULL, and the caller's promise.
        unsafe { out.write(Preprocessing { resize: own.resize(), crop_height, crop_width, mean: own.mean(), std: own.std() }) };
        Ok(())
    })
}
