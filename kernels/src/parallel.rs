//! How kernels are handed to threads.

use crate::Error;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most parts that a kernel is cut into: an executor's threads beyond them stay idle.
pub const MAX_THREADS: usize = 1024;

/// Lists of pieces of work: threads beyond them share one with another.
const MAX_LISTS: usize = 64;

/// Pieces that a thread's share of the work is cut into, for others to take: a quarter of a layer is what a thread may be late.
pub(crate) const PIECES: usize = 4;

/// Runs a piece of work on a fixed number of threads.
///
/// Memory safety does not rest on an implementation. A part that is called again, or whose index is not below
/// [`Executor::threads`], does nothing, and a run that leaves a part out is an [`Error::Executor`].
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

/// The parts that one run is cut into: what an executor says of itself, asked once, and held to.
pub(crate) struct Parts<'a> {
    executor: &'a dyn Executor,
    count: usize,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(executor: &'a dyn Executor) -> Parts<'a> {
        Parts { executor, count: executor.threads().clamp(1, MAX_THREADS) }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The `index`-th part of `0..total`, for an index that [`Parts::run`] gave.
    pub(crate) fn range(&self, total: usize, index: usize) -> Range<usize> {
        range_of_part(total, self.count, index)
    }

    /// Calls `piece` with a thread's index and each number below `total` once. Each thread has its own pieces, neighbours, in order; one
    /// that is done with its own takes those that others have not begun, so that a thread that is slow, or late, does fewer.
    ///
    /// # Errors
    /// As [`Parts::run`].
    pub(crate) fn share_out(&self, total: usize, piece: &(dyn Fn(usize, usize) + Sync)) -> Result<(), Error> {
        let lists = self.count.min(MAX_LISTS);
        let taken = [const { AtomicUsize::new(0) }; MAX_LISTS];
        self.run(&|thread| {
            for list in (0..lists).map(|turn| (thread + turn) % lists) {
                let range = range_of_part(total, lists, list);
                while taken[list].load(Ordering::Relaxed) < range.len() {
                    let index = taken[list].fetch_add(1, Ordering::Relaxed);
                    if index < range.len() {
                        piece(thread, range.start + index);
                    }
                }
            }
        })
    }

    /// Calls `rows` with ranges that make up `0..total`, each of them once, as [`Parts::share_out`] does.
    ///
    /// # Errors
    /// As [`Parts::run`].
    pub(crate) fn share_out_rows(&self, total: usize, rows: &(dyn Fn(Range<usize>) + Sync)) -> Result<(), Error> {
        let pieces = if self.count == 1 { 1 } else { total.min(self.count * PIECES) };
        self.share_out(pieces, &|_, piece| rows(range_of_part(total, pieces, piece)))
    }

    /// Calls `part` with indices below [`Parts::count`] and with none of them twice, whatever the executor does: unsafe code
    /// may rely on it.
    ///
    /// # Errors
    /// When a part was not called or did not come to its end.
    pub(crate) fn run(&self, part: &(dyn Fn(usize) + Sync)) -> Result<(), Error> {
        let taken = [const { AtomicU64::new(0) }; MAX_THREADS / 64];
        let finished = AtomicUsize::new(0);
        self.executor.run(&|index| {
            let bit = 1 << (index % 64);
            if index < self.count && taken[index / 64].fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                part(index);
                finished.fetch_add(1, Ordering::Release);
            }
        });
        let finished = finished.load(Ordering::Acquire);
        if finished == self.count { Ok(()) } else { Err(Error::Executor { expected: self.count, finished }) }
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
