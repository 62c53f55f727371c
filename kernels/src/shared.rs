//! Values in memory that someone else owns, such as a mapped file.

use std::any::Any;
use std::sync::Arc;

/// What packed weights are aligned to: a cache line.
pub(crate) const ALIGNMENT: usize = 64;

/// A slice of f32 with a share in what keeps it alive.
#[derive(Clone)]
pub struct SharedSlice {
    pointer: *const f32,
    len: usize,
    _owner: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the slice is only read, and `SharedSlice::new` has the promise that nobody writes to it; its owner may be shared.
unsafe impl Send for SharedSlice {}
// SAFETY: as above.
unsafe impl Sync for SharedSlice {}

impl SharedSlice {
    /// A slice that `owner` keeps alive.
    ///
    /// # Safety
    /// Until `owner` is dropped, the slice stays where it is, may be read from any thread, and is not written to.
    pub unsafe fn new(slice: &[f32], owner: Arc<dyn Any + Send + Sync>) -> SharedSlice {
        SharedSlice { pointer: slice.as_ptr(), len: slice.len(), _owner: owner }
    }

    /// The values.
    pub fn as_slice(&self) -> &[f32] {
        // SAFETY: pointer and length are those of a slice that `new` was promised to stay readable while the owner lives, which
        // it does while `self` does.
        unsafe { std::slice::from_raw_parts(self.pointer, self.len) }
    }
}
