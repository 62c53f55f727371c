//! What became of a call.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use stridewise::Error;
use stridewise::error::ErrorKind;

/// What became of a call.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A file could not be opened, read, mapped or written.
    Io = 1,
    /// A file is not what its format demands.
    Format = 2,
    /// Weights that an architecture needs are missing, unexpected, of another shape, or not finite.
    Weights = 3,
    /// The architecture is unknown, or not that of the file.
    Arch = 4,
    /// A tensor or buffer has another shape than the one that is needed.
    Shape = 5,
    /// A tensor has another element type than the one that is needed.
    Dtype = 6,
    /// A size is over a limit; nothing was allocated.
    TooLarge = 7,
    /// An argument means nothing, is NULL where it must not be, or is no UTF-8.
    InvalidArgument = 8,
    /// A graph is malformed.
    Graph = 9,
    /// A kernel refused, an executor broke its word, or an instruction set is not available.
    Kernel = 10,
    /// The run was cancelled.
    Cancelled = 11,
    /// The run took longer than its limit.
    TimedOut = 12,
    /// A pool from before a fork was used behind it.
    Forked = 13,
    /// A defect of this library: please report it.
    Internal = 14,
    /// A network has ops that this library does not run; the message lists all of them.
    Unsupported = 15,
}

impl Status {
    fn of(error: &Error) -> Status {
        match error.kind() {
            ErrorKind::Io => Status::Io,
            ErrorKind::Format => Status::Format,
            ErrorKind::Weights => Status::Weights,
            ErrorKind::Arch => Status::Arch,
            ErrorKind::Shape => Status::Shape,
            ErrorKind::DType => Status::Dtype,
            ErrorKind::TooLarge => Status::TooLarge,
            ErrorKind::InvalidArgument => Status::InvalidArgument,
            ErrorKind::Unsupported => Status::Unsupported,
            ErrorKind::Graph => Status::Graph,
            ErrorKind::Kernel => Status::Kernel,
            ErrorKind::Cancelled => Status::Cancelled,
            ErrorKind::TimedOut => Status::TimedOut,
            ErrorKind::Forked => Status::Forked,
        }
    }
}

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// What was wrong in the last call of this thread that failed: file, tensor, node or argument, what was expected and what was found.
/// Empty before the first. The text stays until the next call of this thread that fails.
#[unsafe(no_mangle)]
pub extern "C" fn stridewise_last_error() -> *const c_char {
    MESSAGE.try_with(|message| message.try_borrow().map_or(c"".as_ptr(), |text| text.as_ptr())).unwrap_or(c"".as_ptr())
}

/// Runs what may fail: its error becomes a status and this thread's message, a panic too.
pub(crate) fn guard(call: impl FnOnce() -> Result<(), Error>) -> Status {
    let (status, text) = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(())) => return Status::Ok,
        Ok(Err(error)) => (Status::of(&error), error.to_string()),
        Err(payload) => {
            let said = payload.downcast_ref::<&str>().map(|s| s.to_string()).or_else(|| payload.downcast_ref::<String>().cloned());
            (Status::Internal, format!("a defect of this library, please report it: {}", said.unwrap_or_default()))
        }
    };
    let text = c_text(&text);
    // A thread that is ending has no message any more; the status says enough.
    let _ = MESSAGE.try_with(|message| message.replace(text));
    status
}

/// Runs what has no error to tell, and nothing instead if it panics.
pub(crate) fn quietly<T>(call: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).ok().flatten()
}

/// A text of the library's for the caller.
pub(crate) fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).unwrap_or_default()
}

/// What must not be NULL, by the argument's name.
pub(crate) fn missing(argument: &str) -> Error {
    Error::InvalidArgument { argument: argument.into(), reason: "it is NULL".into() }
}

/// A text argument.
///
/// # Safety
/// `text` is NULL or points to a string that ends with a zero and stays unchanged while the result is used.
pub(crate) unsafe fn text<'a>(text: *const c_char, argument: &str) -> Result<Option<&'a str>, Error> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, so by this function's contract a string with an end.
    let text = unsafe { CStr::from_ptr(text) };
    let refuse = |_| Error::InvalidArgument { argument: argument.into(), reason: "it is not UTF-8".into() };
    text.to_str().map(Some).map_err(refuse)
}

/// Gives a new handle to the caller.
///
/// # Safety
/// `out` is NULL or may be written to.
pub(crate) unsafe fn hand_out<T>(out: *mut *mut T, make: impl FnOnce() -> Result<T, Error>) -> Status {
    guard(|| {
        if out.is_null() {
            return Err(missing("out"));
        }
        // SAFETY: not NULL, so by this function's contract a place to write to.
        unsafe { out.write(std::ptr::null_mut()) };
        let handle = Box::into_raw(Box::new(make()?));
        // SAFETY: as above.
        unsafe { out.write(handle) };
        Ok(())
    })
}

/// Takes a handle back.
///
/// # Safety
/// `handle` is NULL or came from [`hand_out`], and is not used again.
pub(crate) unsafe fn take_back<T>(handle: *mut T) {
    if !handle.is_null() {
        // SAFETY: the handle is one of `hand_out`'s boxes, given back once.
        let owned = unsafe { Box::from_raw(handle) };
        // What a drop panics with has nobody to go to.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(owned)));
    }
}

/// Frees a text that a function of this library gave away. NULL is let through.
///
/// # Safety
/// `text` is NULL or such a text, and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_string_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: the caller's promise: it came from `CString::into_raw`.
        drop(unsafe { CString::from_raw(text) });
    }
}

/// Gives a text to the caller.
///
/// # Safety
/// `out` is NULL or may be written to.
pub(crate) unsafe fn give_text(out: *mut *mut c_char, make: impl FnOnce() -> Result<String, Error>) -> Status {
    guard(|| {
        if out.is_null() {
            return Err(missing("out"));
        }
        let text = c_text(&make()?);
        // SAFETY: not NULL, so by this function's contract a place to write to.
        unsafe { out.write(text.into_raw()) };
        Ok(())
    })
}
