//! An allocator that puts every buffer of numbers between two inaccessible pages: a stray access ends the test. A buffer ends
//! exactly at the page behind it, or begins exactly at the page before it; on its other side, up to the page, all bytes are set,
//! which are NaN to a kernel that reads them, and are checked for stray writes when the buffer is freed. Then all of it is set, and
//! checked when it is given out again.
//!
//! It is the allocator of the whole test, so it fences packed weights and tables of factors as well as what the test itself makes.

use std::cell::Cell;

/// Where a buffer touches an inaccessible page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// A read or write behind the buffer is caught.
    End,
    /// A read or write before it is.
    Start,
}

/// Runs something twice, with the buffers that this thread allocates fenced at one side, then at the other.
pub fn at_both_ends(mut run: impl FnMut(Side)) {
    for side in [Side::Start, Side::End] {
        fenced_at(side, || run(side));
    }
}

/// Runs something with the buffers that this thread allocates fenced at a side; without it they are at their end.
pub fn fenced_at<R>(side: Side, run: impl FnOnce() -> R) -> R {
    SIDE.set(side);
    let result = run();
    SIDE.set(Side::End);
    result
}

/// Runs something; returns also how many bytes were the most that this thread asked for in one piece.
pub fn largest_allocation<R>(run: impl FnOnce() -> R) -> (R, usize) {
    LARGEST.set(0);
    let result = run();
    (result, LARGEST.get())
}

thread_local! {
    static SIDE: Cell<Side> = const { Cell::new(Side::End) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Allocations that are fenced: of f32 and of whole cache lines. Of others there are too many at once.
#[cfg(unix)]
fn is_fenced(layout: std::alloc::Layout) -> bool {
    [4, 64].contains(&layout.align())
}

#[cfg(unix)]
mod allocator {
    use super::{LARGEST, SIDE, Side, is_fenced};
    use std::alloc::{GlobalAlloc, Layout, System};
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// What the bytes beside a buffer are set to.
    const CANARY: u8 = 0xff;

    /// Freed mappings of so many pages at most are kept for the next buffer of their size, so many of each: an emulator takes long for
    /// each change of its pages.
    const SIZES: usize = 64;
    const KEPT: usize = 16;

    /// Where the accessible pages of the kept mappings begin, and how many there are, by their number of pages less one.
    struct Free([([usize; KEPT], usize); SIZES]);

    static FREE: Mutex<Free> = Mutex::new(Free([([0; KEPT], 0); SIZES]));

    impl Free {
        fn take(&mut self, pages: usize) -> Option<*mut u8> {
            let (kept, count) = self.0.get_mut(pages.wrapping_sub(1))?;
            *count = count.checked_sub(1)?;
            Some(std::ptr::with_exposed_provenance_mut(kept[*count]))
        }

        /// Whether there was room.
        fn keep(&mut self, pages: usize, start: *mut u8) -> bool {
            let Some((kept, count)) = self.0.get_mut(pages.wrapping_sub(1)) else { return false };
            let room = kept.get_mut(*count).map(|place| *place = start.expose_provenance()).is_some();
            *count += usize::from(room);
            room
        }
    }

    fn free() -> MutexGuard<'static, Free> {
        FREE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accessible pages between two that are not, all bytes set; null where the system has none.
    fn map(inner: usize) -> *mut u8 {
        let page = page();
        // SAFETY: an anonymous private mapping of a non-zero length at an address of the system's choice.
        let map =
            unsafe { libc::mmap(std::ptr::null_mut(), inner + 2 * page, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if map == libc::MAP_FAILED {
            return std::ptr::null_mut();
        }
        // SAFETY: the first page behind the start lies in the mapping.
        let start = unsafe { map.cast::<u8>().add(page) };
        // SAFETY: the inner pages are those of the mapping just made but its first and last.
        if unsafe { libc::mprotect(start.cast(), inner, libc::PROT_READ | libc::PROT_WRITE) } != 0 {
            return std::ptr::null_mut();
        }
        // SAFETY: the inner pages are writable, and nobody else knows of them.
        unsafe { start.write_bytes(CANARY, inner) };
        start
    }

    fn untouched(bytes: &[u8]) -> bool {
        // SAFETY: any bytes are words.
        let (first, words, last) = unsafe { bytes.align_to::<u64>() };
        words.iter().all(|w| *w == u64::from_ne_bytes([CANARY; 8])) && first.iter().chain(last).all(|b| *b == CANARY)
    }

    struct Fences;

    #[global_allocator]
    static FENCES: Fences = Fences;

    fn page() -> usize {
        static PAGE: AtomicUsize = AtomicUsize::new(0);
        if PAGE.load(Ordering::Relaxed) == 0 {
            // SAFETY: sysconf has no preconditions.
            PAGE.store(unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize, Ordering::Relaxed);
        }
        PAGE.load(Ordering::Relaxed)
    }

    fn fail(message: &str) -> ! {
        // Nothing here may allocate, as a panic would.
        // SAFETY: writes bytes that are there to the standard error stream.
        unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        std::process::abort()
    }

    // SAFETY: what is fenced lies in a mapping of its own that is large enough and lives until it is freed; all else is the
    // system's. Which of both is a function of the layout, and so the same when it is freed.
    unsafe impl GlobalAlloc for Fences {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(layout.size())));
            if !is_fenced(layout) {
                // SAFETY: the caller's contract is the system allocator's.
                return unsafe { System.alloc(layout) };
            }
            let inner = layout.size().next_multiple_of(page());
            let kept = free().take(inner / page());
            let start = kept.unwrap_or_else(|| map(inner));
            if start.is_null() {
                return start;
            }
            // SAFETY: a kept mapping has as many accessible pages, which `dealloc` set.
            if kept.is_some() && !untouched(unsafe { std::slice::from_raw_parts(start, inner) }) {
                fail("something was written to a buffer after it was freed\n");
            }
            match SIDE.try_with(Cell::get) {
                Ok(Side::Start) => start,
                // SAFETY: the data is no longer than the inner pages.
                _ => unsafe { start.add(inner - layout.size().next_multiple_of(layout.align())) },
            }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's contract is that of `alloc`.
            let data = unsafe { self.alloc(layout) };
            if !data.is_null() {
                // SAFETY: `alloc` gave this many bytes.
                unsafe { data.write_bytes(0, layout.size()) };
            }
            data
        }

        unsafe fn dealloc(&self, data: *mut u8, layout: Layout) {
            if !is_fenced(layout) {
                // SAFETY: it was allocated by the system, since that depends on the layout alone.
                return unsafe { System.dealloc(data, layout) };
            }
            let page = page();
            let behind = data.addr() + layout.size();
            // The accessible pages around it.
            let (start, end) = (data.addr() / page * page, behind.next_multiple_of(page));
            // SAFETY: both lie in the inner pages of the buffer's mapping, which `alloc` initialised.
            let (before, after) = unsafe {
                (
                    std::slice::from_raw_parts(data.sub(data.addr() - start), data.addr() - start),
                    std::slice::from_raw_parts(data.add(layout.size()), end - behind),
                )
            };
            if !untouched(before) {
                fail("something was written before a buffer\n");
            }
            if !untouched(after) {
                fail("something was written behind a buffer\n");
            }
            let inner = end - start;
            // SAFETY: the accessible pages of the buffer's mapping, which the caller gives up.
            let start = unsafe {
                let start = data.sub(data.addr() - start);
                start.write_bytes(CANARY, inner);
                start
            };
            if !free().keep(inner / page, start) {
                // SAFETY: unmaps what `map` mapped.
                unsafe { libc::munmap(start.sub(page).cast(), inner + 2 * page) };
            }
        }
    }
}

/// Numbers in exactly as much memory as they take.
pub struct Guarded(Vec<f32>);

impl Guarded {
    /// `len` elements of one value.
    pub fn filled(len: usize, value: f32) -> Guarded {
        Guarded(vec![value; len])
    }

    /// A copy of a slice.
    pub fn of(values: &[f32]) -> Guarded {
        Guarded(values.to_vec())
    }
}

impl std::ops::Deref for Guarded {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl std::ops::DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
