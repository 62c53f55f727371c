//! How kernels are handed to threads.

use crate::Error;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Most parts that a kernel is cut into: an executor's threads beyond them stay idle.
pub const MAX_THREADS: usize = 1024;

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn ranges_of_parts_follow_each_other_and_differ_by_one_at_most() {
        for total in 0..40 {
            for parts in 1..20 {
                let ranges: Vec<_> = (0..parts).map(|i| range_of_part(total, parts, i)).collect();
                assert_eq!((ranges[0].start, ranges[parts - 1].end), (0, total));
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                let longest = ranges.iter().map(|r| r.len()).max().unwrap();
                assert!(ranges.iter().all(|r| r.len() + 1 >= longest));
            }
        }
    }

    /// Goes on after a part panicked.
    struct Swallower;

    impl Executor for Swallower {
        fn threads(&self) -> usize {
            3
        }

        fn run(&self, part: &(dyn Fn(usize) + Sync)) {
            for index in 0..3 {
                let _ = catch_unwind(AssertUnwindSafe(|| part(index)));
            }
        }
    }

    #[test]
    fn a_part_that_panicked_is_not_finished() {
        let result = Parts::of(&Swallower).run(&|index| assert_ne!(index, 1, "meant to panic"));
        assert_eq!(result, Err(Error::Executor { expected: 3, finished: 2 }));
    }
}
