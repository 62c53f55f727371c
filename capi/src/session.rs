//! Planned networks: what runs.

use crate::model::{Model, model};
use crate::options::{SessionOptions, session_options};
use crate::pool::{Token, optional};
use crate::status::{Status, c_text, give_text, guard, hand_out, missing, take_back};
use crate::tensor::{Tensor, slice};
use arrayvec::ArrayVec;
use std::ffi::{CString, c_char};
use std::time::Duration;
use stridewise::tensor::TensorViewMut;
use stridewise::{Error, Shape, TensorView};

/// A running network: its plan, its memory, its threads. One thread at a time may use it, any thread.
pub struct Session {
    session: stridewise::Session,
    /// Of inputs and outputs.
    names: [Vec<CString>; 2],
    /// Likewise. Runs through this interface do not change them.
    shapes: [Vec<Shape>; 2],
}

/// Plans, packs and allocates: everything that a run needs. `options` may be NULL for the defaults.
///
/// # Safety
/// `model` is a model; `options` is NULL or points to options of the size that they say, whose pointers are valid; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_new(model: *const Model, options: *const SessionOptions, out: *mut *mut Session) -> Status {
    // SAFETY: the caller's promises are passed on.
    unsafe {
        hand_out(out, || {
            let session = self::model(model)?.session(&session_options(options)?)?;
            let inputs = session.input_names().into_iter().map(c_text).collect();
            let outputs = session.output_names().iter().map(|name| c_text(name)).collect();
            let shapes = [session.input_shapes(), session.output_shapes()];
            Ok(Session { session, names: [inputs, outputs], shapes })
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
    unsafe { describe(session, index, tensor, 0) }
}

/// Describes the output of a number, as `stridewise_session_input` does.
///
/// # Safety
/// `session` is a session; `tensor` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_output(session: *const Session, index: usize, tensor: *mut Tensor) -> Status {
    // SAFETY: the caller's promises are passed on.
    unsafe { describe(session, index, tensor, 1) }
}

/// Writes a shape to the caller's tensor: with `side` 0 of an input, with 1 of an output.
///
/// # Safety
/// `session` and `tensor` are NULL or may be read and written to.
unsafe fn describe(session: *const Session, index: usize, tensor: *mut Tensor, side: usize) -> Status {
    guard(|| {
        // SAFETY: this function's contract.
        let session = unsafe { session.as_ref() }.ok_or_else(|| missing("session"))?;
        let (kind, shapes) = (["input", "output"][side], &session.shapes[side]);
        let none = || Error::InvalidArgument { argument: format!("{kind} {index}"), reason: format!("there are {}", shapes.len()) };
        let dims = shapes.get(index).ok_or_else(none)?.dims();
        if tensor.is_null() {
            return Err(missing("tensor"));
        }
        let described = Tensor::of(dims, &format_args!("{kind} {index}"))?;
        // SAFETY: not NULL, and this function's contract.
        unsafe { tensor.write(described) };
        Ok(())
    })
}

/// Most inputs, and most outputs, of a run through this interface.
const MAX_PORTS: usize = 16;

/// Runs the network. Inputs and outputs stand in the network's order, and have the shapes that are planned; the outputs are written, and
/// overlap no other tensor. Allocates nothing. At most 16 of each.
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
        // Before there are references to both.
        for (index, output) in outputs.iter().enumerate() {
            let what = port("output", &session.names[1], index);
            let place = output.place(&what)?;
            let before = outputs[..index].iter().enumerate().map(|(i, tensor)| (port("output", &session.names[1], i), tensor));
            for (other, tensor) in inputs.iter().enumerate().map(|(i, tensor)| (port("input", &session.names[0], i), tensor)).chain(before)
            {
                let taken = tensor.place(&other)?;
                if place.start.max(taken.start) < place.end.min(taken.end) {
                    let (argument, reason) = (format!("the data of {what}"), format!("it overlaps that of {other}"));
                    return Err(Error::InvalidArgument { argument, reason });
                }
            }
        }
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

/// The time limit of sessions that have none.
pub const STRIDEWISE_NO_TIME_LIMIT: u64 = u64::MAX;

/// Most nanoseconds that a run may take, looked at before each layer; `STRIDEWISE_NO_TIME_LIMIT` for no limit, as at first. With 0, which
/// is what is left when a deadline has passed, every run times out before its first layer.
///
/// # Safety
/// `session` is a session that no other thread uses meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_session_set_time_limit(session: *mut Session, nanoseconds: u64) -> Status {
    guard(|| {
        // SAFETY: the caller's promise.
        let session = unsafe { session.as_mut() }.ok_or_else(|| missing("session"))?;
        session.session.set_time_limit((nanoseconds != STRIDEWISE_NO_TIME_LIMIT).then(|| Duration::from_nanos(nanoseconds)));
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
