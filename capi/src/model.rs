//! Networks with their weights.

use crate::describe::Description;
use crate::options::{LoadOptions, load_options};
use crate::status::{Status, guard, hand_out, missing, take_back, text};
use crate::tensor::slice;
use std::ffi::{c_char, c_void};
use std::sync::OnceLock;
use stridewise::{Arch, Error};

/// A network with its weights. Any number of sessions, on any threads, share it and its packed weights.
pub struct Model {
    pub(crate) model: stridewise::Model,
    /// Texts that the caller has pointers to.
    pub(crate) description: OnceLock<Description>,
}

impl From<stridewise::Model> for Model {
    fn from(model: stridewise::Model) -> Model {
        Model { model, description: OnceLock::new() }
    }
}

/// Reads a network from a file. `arch` names its architecture, such as `resnet50`; NULL for the one that the file names or that its
/// tensors tell. What else a file may be than safetensors is known by its first bytes, and ONNX by its name: a packed network must be of
/// the architecture that is named, and an ONNX file has none.
///
/// # Safety
/// `path` is a string that ends with a zero, `arch` likewise or NULL; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_load(path: *const c_char, arch: *const c_char, out: *mut *mut Model) -> Status {
    // SAFETY: the caller's promise about `out` is passed on.
    unsafe {
        hand_out(out, || {
            let path = text(path, "path")?.ok_or_else(|| missing("path"))?;
            let arch = text(arch, "arch")?.map(str::parse::<Arch>).transpose()?;
            Ok(stridewise::Model::load(arch, path)?.into())
        })
    }
}

/// Reads a network from a file that more needs to be said about, such as an ONNX file that does not fit images of 224x224. `options` may
/// be NULL for the defaults.
///
/// # Safety
/// `path` is a string that ends with a zero; `options` is NULL or points to options of the size that they say, whose pointers are valid;
/// `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_load_with(path: *const c_char, options: *const LoadOptions, out: *mut *mut Model) -> Status {
    // SAFETY: the caller's promise about `out` is passed on.
    unsafe {
        hand_out(out, || {
            let path = text(path, "path")?.ok_or_else(|| missing("path"))?;
            Ok(stridewise::Model::load_with(path, &load_options(options)?)?.into())
        })
    }
}

/// Reads a network from the `size` bytes of a safetensors or an ONNX file that are in memory; which of them, the bytes tell. What the model
/// needs of them it copies: they may be freed at once. A packed network is refused, for it is mapped from its file; so is an ONNX network
/// with tensors in other files. `options` may be NULL for the defaults. Messages name the file as `bytes in memory`.
///
/// # Safety
/// `data` points to `size` bytes that nobody writes to meanwhile; `options` is NULL or points to options of the size that they say, whose
/// pointers are valid; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_load_bytes(
    data: *const c_void,
    size: usize,
    options: *const LoadOptions,
    out: *mut *mut Model,
) -> Status {
    // SAFETY: the caller's promise about `out` is passed on.
    unsafe {
        hand_out(out, || {
            let bytes = slice(data.cast::<u8>(), size, "data")?;
            Ok(stridewise::Model::load_bytes(bytes, &load_options(options)?)?.into())
        })
    }
}

/// A network with random weights, initialised as PyTorch does, the same for a seed on every machine: for trying things out.
///
/// # Safety
/// `arch` is a string that ends with a zero; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_random(arch: *const c_char, seed: u64, out: *mut *mut Model) -> Status {
    // SAFETY: the caller's promise about `out` is passed on.
    unsafe {
        hand_out(out, || {
            let arch: Arch = text(arch, "arch")?.ok_or_else(|| missing("arch"))?.parse()?;
            Ok(stridewise::Model::random(arch, seed)?.into())
        })
    }
}

/// Writes the network with the weights that its sessions have packed so far, for `stridewise_model_load` to map: a `.swp` file.
///
/// # Safety
/// `model` is a model; `path` is a string that ends with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_save_packed(model: *const Model, path: *const c_char) -> Status {
    guard(|| {
        // SAFETY: the caller's promises are passed on.
        let (model, path) = unsafe { (self::model(model)?, text(path, "path")?.ok_or_else(|| missing("path"))?) };
        model.save_packed(path)
    })
}

/// Frees a model. Sessions of it go on. NULL is let through.
///
/// # Safety
/// `model` is NULL or a model that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_model_free(model: *mut Model) {
    // SAFETY: the caller's promise.
    unsafe { take_back(model) }
}

/// The model behind a handle.
///
/// # Safety
/// `model` is NULL or a model that is not freed while the result is used.
pub(crate) unsafe fn model<'a>(model: *const Model) -> Result<&'a stridewise::Model, Error> {
    // SAFETY: NULL or, by this function's contract, a handle of `hand_out`.
    unsafe { model.as_ref() }.map(|m| &m.model).ok_or_else(|| missing("model"))
}
