//! Planned networks: what runs.

use crate::model::{Model, model};
use crate::pool::{Pool, Token, optional};
use crate::status::{Status, give_text, guard, hand_out, missing, take_back, text};
use crate::tensor::{Dtype, STRIDEWISE_MAX_RANK, Tensor, slice};
use arrayvec::ArrayVec;
use std::ffi::{CString, c_char};
use std::time::Duration;
use stridewise::tensor::TensorViewMut;
use stridewise::{Error, Shape, TensorView};

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

/// What a session is made for. `stridewise_session_options` fills in the defaults, which every 0 and NULL means too.
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
    /// Most bytes of activations, scratch and packed weights together; 0 for 8 GiB.
    pub max_memory: usize,
    /// Images in a batch; 0 for 1.
    pub batch: usize,
    /// H of the input; 0 for the size that the network was made for, and then `width` is 0 too.
    pub height: usize,
    /// W of the input.
    pub width: usize,
}

const DEFAULTS: SessionOptions = SessionOptions {
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
};

/// The default options: one thread, the best instruction set, batch 1, the network's own size.
#[unsafe(no_mangle)]
pub extern "C" fn stridewise_session_options() -> SessionOptions {
    DEFAULTS
}

/// A running network: its plan, its memory, its threads. One thread at a time may use it, any thread.
pub struct Session {
    session: stridewise::Session,
    names: [Vec<CString>; 2],
}

/// The options as the library has them.
///
/// # Safety
/// What the options point to is there.
unsafe fn options(given: &SessionOptions) -> Result<stridewise::SessionOptions, Error> {
    let refuse = |argument: &str, reason: String| Error::InvalidArgument { argument: argument.into(), reason };
    if given.struct_size != size_of::<SessionOptions>() {
        let reason = format!("{}, where this library has {}: header and library differ", given.struct_size, size_of::<SessionOptions>());
        return Err(refuse("options.struct_size", reason));
    }
    let mut options = stridewise::SessionOptions::default();
    // SAFETY: this function's contract.
    let (pool, isa) = unsafe { (optional(given.pool), text(given.isa, "options.isa")?) };
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
    if given.max_memory > 0 {
        options.max_memory = given.max_memory;
    }
    options.batch = given.batch.max(1);
    options.size = match (given.height, given.width) {
        (0, 0) => None,
        (h, w) => Some([h, w]),
    };
    Ok(options)
}

/// Plans, packs and allocates: everything that a run needs. `options` may be NULL for the defaults.
///
/// # Safety
/// `model` is a model; `options` is NULL or points to options whose pointers are valid; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_new(model: *const Model, options: *const SessionOptions, out: *mut *mut Session) -> Status {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        hand_out(out, || {
            let options = self::options(options.as_ref().unwrap_or(&DEFAULTS))?;
            let session = self::model(model)?.session(&options)?;
            let text = |name: &str| CString::new(name.replace('\0', "\\0")).unwrap_or_default();
            let inputs = session.input_names().into_iter().map(text).collect();
            let outputs = session.output_names().iter().map(|name| text(name)).collect();
            Ok(Session { session, names: [inputs, outputs] })
        })
    }
}

/// Frees a session. NULL is let through.
///
/// # Safety
/// `session` is NULL or a session that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_free(session: *mut Session) {
    // SAFETY: the caller's promise.
    unsafe { take_back(session) }
}

/// Inputs of the network; 0 for NULL.
///
/// # Safety
/// `session` is NULL or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_input_count(session: *const Session) -> usize {
    // SAFETY: the caller's promise.
    unsafe { session.as_ref() }.map_or(0, |s| s.names[0].len())
}

/// Outputs of the network; 0 for NULL.
///
/// # Safety
/// `session` is NULL or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_output_count(session: *const Session) -> usize {
    // SAFETY: the caller's promise.
    unsafe { session.as_ref() }.map_or(0, |s| s.names[1].len())
}

/// The name of an input, until the session is freed; NULL when there is none of this number.
///
/// # Safety
/// `session` is NULL or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_input_name(session: *const Session, index: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { session.as_ref() }.and_then(|s| s.names[0].get(index)).map_or(std::ptr::null(), |name| name.as_ptr())
}

/// The name of an output, until the session is freed; NULL when there is none of this number.
///
/// # Safety
/// `session` is NULL or a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_output_name(session: *const Session, index: usize) -> *const c_char {
    // SAFETY: the caller's promise.
    unsafe { session.as_ref() }.and_then(|s| s.names[1].get(index)).map_or(std::ptr::null(), |name| name.as_ptr())
}

/// Describes the input of a number: type, rank and dimensions are written to `tensor`, and NULL for its data.
///
/// # Safety
/// `session` is a session; `tensor` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_input(session: *const Session, index: usize, tensor: *mut Tensor) -> Status {
    // SAFETY: the caller's promises are passed on.
    unsafe { describe(session, index, tensor, "input", |s| s.input_shapes()) }
}

/// Describes the output of a number, as `stridewise_session_input` does.
///
/// # Safety
/// `session` is a session; `tensor` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_output(session: *const Session, index: usize, tensor: *mut Tensor) -> Status {
    // SAFETY: the caller's promises are passed on.
    unsafe { describe(session, index, tensor, "output", |s| s.output_shapes()) }
}

/// Writes a shape to the caller's tensor.
///
/// # Safety
/// `session` and `tensor` are NULL or may be read and written to.
unsafe fn describe(
    session: *const Session,
    index: usize,
    tensor: *mut Tensor,
    kind: &str,
    shapes: impl FnOnce(&stridewise::Session) -> Vec<Shape>,
) -> Status {
    guard(|| {
        // SAFETY: this function's contract.
        let session = unsafe { session.as_ref() }.ok_or_else(|| missing("session"))?;
        let shapes = shapes(&session.session);
        let none = || Error::InvalidArgument { argument: format!("{kind} {index}"), reason: format!("there are {}", shapes.len()) };
        let dims = shapes.get(index).ok_or_else(none)?.dims();
        if tensor.is_null() {
            return Err(missing("tensor"));
        }
        let mut padded = [0; STRIDEWISE_MAX_RANK];
        padded[..dims.len()].copy_from_slice(dims);
        // SAFETY: not NULL, and this function's contract.
        unsafe { tensor.write(Tensor { data: std::ptr::null_mut(), dtype: Dtype::F32 as u32, rank: dims.len(), dims: padded }) };
        Ok(())
    })
}

/// Most inputs, and most outputs, of a run through this interface.
const MAX_PORTS: usize = 16;

/// Runs the network. Inputs and outputs stand in the network's order, and have the shapes that are planned; the outputs are written.
/// Allocates nothing. At most 16 of each.
///
/// # Safety
/// `session` is a session that no other thread uses meanwhile; `inputs` and `outputs` point to so many tensors, whose data is as long
/// as their dimensions say; nobody else uses that of the outputs, or writes to that of the inputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_run(
    session: *mut Session,
    inputs: *const Tensor,
    input_count: usize,
    outputs: *const Tensor,
    output_count: usize,
) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let session = unsafe { session.as_mut() }.ok_or_else(|| missing("session"))?;
        // Before the tensors are looked at: so many there must be.
        for (kind, names, found) in [("inputs", &session.names[0], input_count), ("outputs", &session.names[1], output_count)] {
            if names.len() != found {
                let (expected, found) = (format!("{} tensors", names.len()), format!("{found} tensors"));
                return Err(Error::Shape { what: format!("the {kind} of the network"), expected, found });
            }
        }
        // SAFETY: the caller's promises.
        let (inputs, outputs) = unsafe { (slice(inputs, input_count, "inputs")?, slice(outputs, output_count, "outputs")?) };
        let mut views = ArrayVec::<TensorView<'_, f32>, MAX_PORTS>::new();
        for (index, tensor) in inputs.iter().enumerate() {
            let what = port("input", &session.names[0], index);
            // SAFETY: the caller's promise about the inputs.
            let view = unsafe { tensor.view(&what)? };
            views.try_push(view).map_err(|_| too_many("inputs", inputs.len()))?;
        }
        let mut targets = ArrayVec::<TensorViewMut<'_, f32>, MAX_PORTS>::new();
        for (index, tensor) in outputs.iter().enumerate() {
            let what = port("output", &session.names[1], index);
            // SAFETY: the caller's promise about the outputs.
            let target = unsafe { tensor.view_mut(&what)? };
            targets.try_push(target).map_err(|_| too_many("outputs", outputs.len()))?;
        }
        session.session.run_all_into(&views, &mut targets)
    })
}

fn too_many(kind: &str, count: usize) -> Error {
    Error::TooLarge { what: format!("the number of {kind}"), requested: count.to_string(), limit: MAX_PORTS.to_string() }
}

/// What an input or output is called in messages: by its name where there are several.
struct Port<'a> {
    kind: &'a str,
    name: Option<&'a CString>,
}

fn port<'a>(kind: &'a str, names: &'a [CString], index: usize) -> Port<'a> {
    Port { kind, name: names.get(index).filter(|_| names.len() > 1) }
}

impl std::fmt::Display for Port<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name {
            Some(name) => write!(f, "{} `{}`", self.kind, name.to_string_lossy()),
            None => f.write_str(self.kind),
        }
    }
}

/// The token that cancels a session's runs, looked at before each layer; NULL for none.
///
/// # Safety
/// `session` is a session that no other thread uses meanwhile; `token` is NULL or a token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_set_token(session: *mut Session, token: *const Token) -> Status {
    guard(|| {
        // SAFETY: the caller's promises.
        let (session, token) = unsafe { (session.as_mut().ok_or_else(|| missing("session"))?, optional(token)) };
        session.session.set_cancel_token(token.map(|t| t.0.clone()));
        Ok(())
    })
}

/// Most nanoseconds that a run may take, looked at before each layer; 0 for no limit.
///
/// # Safety
/// `session` is a session that no other thread uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_set_time_limit(session: *mut Session, nanoseconds: u64) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let session = unsafe { session.as_mut() }.ok_or_else(|| missing("session"))?;
        session.session.set_time_limit((nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds)));
        Ok(())
    })
}

/// The plan as a table for people, to be freed by `stridewise_string_free`.
///
/// # Safety
/// `session` is a session; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_explain(session: *const Session, out: *mut *mut c_char) -> Status {
    // SAFETY: the caller's promises are passed on.
    unsafe { give_text(out, || Ok(session.as_ref().ok_or_else(|| missing("session"))?.session.explain())) }
}

/// Bytes that a session holds: `memory` its activations and scratch, `weights` the packed weights that it shares with other sessions of
/// its model. Either may be NULL.
///
/// # Safety
/// `session` is a session; the others are NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_bytes(session: *const Session, memory: *mut usize, weights: *mut usize) -> Status {
    guard(|| {
        // SAFETY: the caller's promises.
        unsafe {
            let session = &session.as_ref().ok_or_else(|| missing("session"))?.session;
            for (place, bytes) in [(memory, session.memory_required()), (weights, session.weight_bytes())] {
                if !place.is_null() {
                    place.write(bytes);
                }
            }
        }
        Ok(())
    })
}
