//! What networks are loaded and sessions are made with.
//!
//! Structs of options grow at their end. Each begins with the size that the program was compiled with, by which fields that it does not
//! know have their defaults; 0 and NULL are those of all fields.

use crate::pool::{Pool, optional};
use crate::status::text;
use crate::tensor::{InputShape, named_shapes};
use std::ffi::c_char;
use std::mem::offset_of;
use std::sync::Arc;
use stridewise::session::Tuning;
use stridewise::{Arch, Error};

/// How convolutions may sum.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numerics {
    /// Winograd where it is faster.
    Fast = 0,
    /// Direct summation only.
    Exact = 1,
}

/// What activations and weights are rounded to while a network runs. Inputs and outputs are f32 all the same.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    /// Nothing is rounded further.
    F32 = 0,
    /// bfloat16, with sums in f32.
    Bf16 = 1,
    /// Bytes, with exact sums; for networks that `stridewise quantize` wrote.
    Int8 = 2,
}

/// What a session is made for. `{.struct_size = sizeof(StridewiseSessionOptions)}` are the defaults: in every other field, 0 and NULL mean
/// the default. Programs compiled with an older header, whose struct is shorter, go on; another size than one that the struct has had
/// is refused.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SessionOptions {
    /// `sizeof(StridewiseSessionOptions)`, which tells the library what the program was compiled with.
    pub struct_size: usize,
    /// Threads of a pool of the session's own, the calling one included. 0 and 1: everything runs on the calling thread.
    pub threads: usize,
    /// A pool instead; `threads` is then 0.
    pub pool: *const Pool,
    /// The name of an instruction set, such as `avx2`; NULL for the best.
    pub isa: *const c_char,
    /// One of `StridewiseNumerics`.
    pub numerics: u32,
    /// One of `StridewisePrecision`.
    pub precision: u32,
    /// Most bytes of activations, scratch, packed weights and tables together; 0 for 8 GiB.
    pub max_memory: usize,
    /// Images in a batch; 0 for 1.
    pub batch: usize,
    /// H of the input; 0 for the size that the network was made for, and then `width` is 0 too.
    pub height: usize,
    /// W of the input.
    pub width: usize,
    /// Shapes of inputs by name, where batch, height and width do not say it all; `shape_count` of them. Those of inputs that are not
    /// named follow from the network, batch, height and width.
    pub shapes: *const InputShape,
    /// How many shapes there are.
    pub shape_count: usize,
    /// A file of measured times that `stridewise tune` wrote, by which algorithms are chosen; NULL for the rules of shape. With it,
    /// results are no longer the same for every number of threads and on every machine.
    pub tuning: *const c_char,
}

/// The sizes that [`SessionOptions`] has had.
const SESSION_SIZES: [usize; 2] = [offset_of!(SessionOptions, shapes), size_of::<SessionOptions>()];

const SESSION_DEFAULTS: SessionOptions = SessionOptions {
    struct_size: size_of::<SessionOptions>(),
    threads: 0,
    pool: std::ptr::null(),
    isa: std::ptr::null(),
    numerics: Numerics::Fast as u32,
    precision: Precision::F32 as u32,
    max_memory: 0,
    batch: 0,
    height: 0,
    width: 0,
    shapes: std::ptr::null(),
    shape_count: 0,
    tuning: std::ptr::null(),
};

/// How a network is read. `{.struct_size = sizeof(StridewiseLoadOptions)}` are the defaults, and sizes are as with
/// `StridewiseSessionOptions`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LoadOptions {
    /// `sizeof(StridewiseLoadOptions)`, which tells the library what the program was compiled with.
    pub struct_size: usize,
    /// The name of the architecture of a safetensors file, such as `resnet50`; NULL for the one that the file names or that its tensors
    /// tell. A packed network must be of this one; an ONNX file has none.
    pub arch: *const c_char,
    /// Shapes of inputs by name, of an ONNX file that does not fit batch 1, images of 224x224 and other dimensions of 1; `shape_count` of
    /// them. Sessions may be made for other ones. Other files than of ONNX are refused with them.
    pub shapes: *const InputShape,
    /// How many shapes there are.
    pub shape_count: usize,
    /// Most bytes that constants of an ONNX file may take which are computed from constants, or of which a run needs a copy in f32; 0 for
    /// 8 GiB.
    pub max_memory: usize,
}

/// The sizes that [`LoadOptions`] has had.
const LOAD_SIZES: [usize; 1] = [size_of::<LoadOptions>()];

const LOAD_DEFAULTS: LoadOptions =
    LoadOptions { struct_size: size_of::<LoadOptions>(), arch: std::ptr::null(), shapes: std::ptr::null(), shape_count: 0, max_memory: 0 };

/// The caller's options, and the defaults for what its struct has no place for.
///
/// # Safety
/// `given` is NULL or begins with a `usize`; when that is one of `sizes`, so many bytes may be read. `T` is `repr(C)`, begins with that
/// `usize`, is at least as long as the largest of `sizes`, and any bits are good for it.
unsafe fn versioned<T: Copy>(given: *const T, sizes: &[usize], defaults: T) -> Result<T, Error> {
    if given.is_null() {
        return Ok(defaults);
    }
    // SAFETY: not NULL, and this function's contract.
    let size = unsafe { given.cast::<usize>().read() };
    if !sizes.contains(&size) {
        let known: Vec<String> = sizes.iter().map(usize::to_string).collect();
        let reason = format!("{size}, where this library knows {}: expected the struct's own size", known.join(" and "));
        return Err(Error::InvalidArgument { argument: "options.struct_size".into(), reason });
    }
    let mut own = defaults;
    // SAFETY: so many bytes are there by this function's contract, and fit `T`, for which any bits are good.
    unsafe { std::ptr::copy_nonoverlapping(given.cast::<u8>(), (&raw mut own).cast::<u8>(), size) };
    Ok(own)
}

fn refuse(argument: &str, reason: String) -> Error {
    Error::InvalidArgument { argument: argument.into(), reason }
}

/// Options of a session as the library has them.
///
/// # Safety
/// `given` is NULL or points to options of the size that they say, and what they point to is there.
pub(crate) unsafe fn session_options(given: *const SessionOptions) -> Result<stridewise::SessionOptions, Error> {
    // SAFETY: this function's contract; all fields are numbers and pointers.
    let given = unsafe { versioned(given, &SESSION_SIZES, SESSION_DEFAULTS)? };
    let mut options = stridewise::SessionOptions::default();
    // SAFETY: this function's contract.
    let (pool, isa, tuning) = unsafe { (optional(given.pool), text(given.isa, "options.isa")?, text(given.tuning, "options.tuning")?) };
    options.threads = match (pool, given.threads) {
        (Some(pool), 0) => pool.0.clone().into(),
        (Some(_), threads) => return Err(refuse("options.threads", format!("{threads}, and there is a pool: expected 0"))),
        (None, threads) => threads.max(1).into(),
    };
    options.isa = isa.map(|name| name.parse().map_err(Error::Kernel)).transpose()?;
    options.numerics = match given.numerics {
        0 => stridewise::Numerics::Fast,
        1 => stridewise::Numerics::Exact,
        other => return Err(refuse("options.numerics", format!("{other}: expected one of StridewiseNumerics"))),
    };
    options.precision = match given.precision {
        0 => stridewise::Precision::F32,
        1 => stridewise::Precision::Bf16,
        2 => stridewise::Precision::Int8,
        other => return Err(refuse("options.precision", format!("{other}: expected one of StridewisePrecision"))),
    };
    options.tuning = tuning.map(Tuning::load).transpose()?.map(Arc::new);
    if given.max_memory > 0 {
        options.max_memory = given.max_memory;
    }
    options.batch = given.batch.max(1);
    options.size = match (given.height, given.width) {
        (0, 0) => None,
        (h, w) => Some([h, w]),
    };
    // SAFETY: this function's contract.
    options.shapes = unsafe { named_shapes(given.shapes, given.shape_count)? };
    Ok(options)
}

/// Options of loading as the library has them.
///
/// # Safety
/// As [`session_options`].
pub(crate) unsafe fn load_options(given: *const LoadOptions) -> Result<stridewise::LoadOptions, Error> {
    // SAFETY: this function's contract; all fields are numbers and pointers.
    let given = unsafe { versioned(given, &LOAD_SIZES, LOAD_DEFAULTS)? };
    let mut options = stridewise::LoadOptions::default();
    // SAFETY: this function's contract.
    unsafe {
        options.arch = text(given.arch, "options.arch")?.map(str::parse::<Arch>).transpose()?;
        options.shapes = named_shapes(given.shapes, given.shape_count)?;
    }
    if given.max_memory > 0 {
        options.max_memory = given.max_memory;
    }
    Ok(options)
}
