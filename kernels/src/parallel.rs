//! How kernels are handed to threads.

use std::ops::Range;

/// Runs a piece of work on a fixed number of threads.
pub trait Executor: Sync {
    /// How many parts [`Executor::run`] calls.
    fn threads(&self) -> usize;

    /// Calls `part` once for each index below [`Executor::threads`], each on one thread, and returns when all are done.
    fn run(&self, part: &(dyn Fn(usize) + Sync));
}

/// The calling thread alone.
pub struct Inline;

impl Executor for Inline {
    fn threads(&self) -> usize {
        1
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        part(0);
    }
}

/// The `index`-th of `parts` contiguous ranges that make up `0..total`; their lengths differ by one at most.
pub(crate) fn range_of_part(total: usize, parts: usize, index: usize) -> Range<usize> {
    let (share, rest) = (total / parts, total % parts);
    let start = index * share + index.min(rest);
    start..start + share + usize::from(index < rest)
}

/// A buffer that several threads read or write, each its own part of it.
pub(crate) struct SharedPointer(*mut f32);

impl SharedPointer {
    pub(crate) fn new(output: &mut [f32]) -> SharedPointer {
        SharedPointer(output.as_mut_ptr())
    }

    pub(crate) fn from_ptr(pointer: *mut f32) -> SharedPointer {
        SharedPointer(pointer)
    }

    pub(crate) fn as_ptr(&self) -> *mut f32 {
        self.0
    }
}

// SAFETY: the pointer is only dereferenced in unsafe blocks that state which part of the buffer their thread owns.
unsafe impl Sync for SharedPointer {}
