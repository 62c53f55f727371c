//! Threads, and what ends a run early.

use crate::status::{Status, hand_out, missing, take_back};
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use stridewise::{CancelToken, ThreadPool};

/// Threads that sessions run on. The thread that runs a session takes part.
pub struct Pool(pub(crate) ThreadPool);

/// Starts a pool of `threads` threads in all, the calling one included. They have ended when the pool and all its sessions are freed.
///
/// # Safety
/// `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_pool_new(threads: usize, out: *mut *mut Pool) -> Status {
    // SAFETY: the caller's promise about `out` is passed on.
    unsafe { hand_out(out, || Ok(Pool(ThreadPool::new(threads)?))) }
}

/// Starts a pool with one thread for each of `count` cores, bound there; the calling thread makes one more and stays as it is.
///
/// # Safety
/// `cores` points to `count` numbers; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_pool_pinned(cores: *const usize, count: usize, out: *mut *mut Pool) -> Status {
    // SAFETY: the caller's promises about both are passed on.
    unsafe { hand_out(out, || Ok(Pool(ThreadPool::pinned(crate::tensor::slice(cores, count, "cores")?)?))) }
}

/// One part of a layer's work: the library's, for the caller's executor to call. It does not throw.
pub type Part = Option<unsafe extern "C" fn(task: *mut c_void, index: usize)>;

/// The caller's threads.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Executor {
    /// Given to `run` as it is.
    pub context: *mut c_void,
    /// In how many parts layers are cut: as many as there are threads.
    pub threads: usize,
    /// Calls `part(task, i)` for each `i` below `threads`, each once and on any thread, and returns when all have returned. Sessions
    /// that share the executor call it from several threads at once. It must not throw. A part left out makes the run an error; one
    /// called twice changes nothing; one called after `run` has returned is undefined behaviour.
    pub run: Option<unsafe extern "C" fn(context: *mut c_void, part: Part, task: *mut c_void)>,
}

/// An executor with its function.
struct Hooks {
    context: *mut c_void,
    threads: usize,
    run: unsafe extern "C" fn(*mut c_void, Part, *mut c_void),
}

// SAFETY: the caller of `stridewise_pool_from_executor` promises that `run` may be called with the context from any thread.
unsafe impl Send for Hooks {}
// SAFETY: and from several at once.
unsafe impl Sync for Hooks {}

/// What `call_part` is given as its task.
struct Task<'a>(&'a (dyn Fn(usize) + Sync));

unsafe extern "C" fn call_part(task: *mut c_void, index: usize) {
    // SAFETY: the executor hands on the task that `Hooks::run` gave it, before that returns.
    let task = unsafe { &*task.cast::<Task<'_>>() };
    // A part that did not come to its end is missed when the parts are counted.
    let _ = catch_unwind(AssertUnwindSafe(|| (task.0)(index)));
}

impl stridewise::Executor for Hooks {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        let task = Task(part);
        // SAFETY: the function is the caller's, who promised what it does with these; the task outlives the call.
        unsafe { (self.run)(self.context, Some(call_part), std::ptr::from_ref(&task).cast_mut().cast()) }
    }
}

/// A pool of the caller's own threads.
///
/// # Safety
/// `executor` points to an executor whose `run` does as its description says, from any thread, until the pool and all its sessions
/// are freed; `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_pool_from_executor(executor: *const Executor, out: *mut *mut Pool) -> Status {
    // SAFETY: the caller's promises about both are passed on.
    unsafe {
        hand_out(out, || {
            let executor = executor.as_ref().ok_or_else(|| missing("executor"))?;
            let run = executor.run.ok_or_else(|| missing("executor.run"))?;
            let hooks = Hooks { context: executor.context, threads: executor.threads, run };
            Ok(Pool(ThreadPool::from_executor(Arc::new(hooks))?))
        })
    }
}

/// Threads of a pool in all; 0 for NULL.
///
/// # Safety
/// `pool` is NULL or a pool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_pool_threads(pool: *const Pool) -> usize {
    // SAFETY: the caller's promise.
    unsafe { pool.as_ref() }.map_or(0, |p| p.0.threads())
}

/// Frees a pool. Sessions on it go on. NULL is let through.
///
/// # Safety
/// `pool` is NULL or a pool that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_pool_free(pool: *mut Pool) {
    // SAFETY: the caller's promise.
    unsafe { take_back(pool) }
}

/// Cancels runs from another thread.
pub struct Token(pub(crate) CancelToken);

/// A token that is not cancelled.
///
/// # Safety
/// `out` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_token_new(out: *mut *mut Token) -> Status {
    // SAFETY: the caller's promise about `out` is passed on.
    unsafe { hand_out(out, || Ok(Token(CancelToken::new()))) }
}

/// Ends the runs of every session that has the token before their next layer, and refuses new ones until it is reset. From any
/// thread, and from a signal handler too.
///
/// # Safety
/// `token` is NULL or a token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_token_cancel(token: *const Token) {
    // SAFETY: the caller's promise.
    if let Some(token) = unsafe { token.as_ref() } {
        token.0.cancel();
    }
}

/// Lets runs begin again.
///
/// # Safety
/// `token` is NULL or a token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_token_reset(token: *const Token) {
    // SAFETY: the caller's promise.
    if let Some(token) = unsafe { token.as_ref() } {
        token.0.reset();
    }
}

/// Frees a token. Sessions that have it go on. NULL is let through.
///
/// # Safety
/// `token` is NULL or a token that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stridewise_token_free(token: *mut Token) {
    // SAFETY: the caller's promise.
    unsafe { take_back(token) }
}

/// The pool or token behind a handle; nothing for NULL.
///
/// # Safety
/// `handle` is NULL or one that is not freed while the result is used.
pub(crate) unsafe fn optional<'a, T>(handle: *const T) -> Option<&'a T> {
    // SAFETY: this function's contract.
    unsafe { handle.as_ref() }
}
