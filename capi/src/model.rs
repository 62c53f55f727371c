//! Networks with their weights.

use crate::status::{Status, guard, hand_out, missing, take_back, text};
use std::ffi::c_char;
use stridewise::{Arch, Error};

/// A network with its weights. Any number of sessions, on any threads, share it and its packed weights.
pub struct Model(pub(crate) stridewise::Model);

/// Reads a network from a file. `arch` names its architecture, such as `resnet50`; NULL for the one that the file names or that its
/// tensors tell. What else a file may be than safetensors is known by its first bytes.
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
            Ok(Model(stridewise::Model::load(arch, path)?))
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
            Ok(Model(stridewise::Model::random(arch, seed)?))
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
    unsafe { model.as_ref() }.map(|m| &m.0).ok_or_else(|| missing("model"))
}
