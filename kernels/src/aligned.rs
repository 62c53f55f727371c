//! Buffers of f32 that start at a cache line.

use crate::Error;
use bytemuck::try_zeroed_slice_box;

/// Elements of a cache line.
const LINE: usize = 16;

/// A fixed-size buffer of f32, 64-byte aligned, zero at first.
pub struct AlignedBuffer {
    memory: Box<[f32]>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    pub(crate) fn empty() -> AlignedBuffer {
        AlignedBuffer { memory: Box::new([]), start: 0, len: 0 }
    }

    /// `len` zeros. What is large the system may give page by page, each when it is first touched.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn zeros(len: usize) -> Result<AlignedBuffer, Error> {
        let out_of_memory = || Error::OutOfMemory { bytes: len.saturating_mul(size_of::<f32>()) };
        // Not memory of 64-byte aligned elements, which would be filled with zeros even where the system's pages have them.
        let count = len.checked_add(LINE - 1).filter(|count| *count <= isize::MAX as usize / size_of::<f32>()).ok_or_else(out_of_memory)?;
        let mut memory: Box<[f32]> = try_zeroed_slice_box(count).map_err(|()| out_of_memory())?;
        ask_for_huge_pages(&mut memory);
        let misplaced = memory.as_ptr().addr() / size_of::<f32>() % LINE;
        Ok(AlignedBuffer { memory, start: (LINE - misplaced) % LINE, len })
    }

    /// Makes the system give all pages now.
    pub fn touch(&mut self) {
        for page in self.chunks_mut(PAGE / size_of::<f32>()) {
            // A write that the compiler must leave in.
            page[0] = std::hint::black_box(page[0]);
        }
    }
}

/// Bytes of the smallest page; where pages are larger, some writes more.
const PAGE: usize = 4096;

/// Buffers from this size on are asked to lie in huge pages: walking through a network's weights, page by page of 4 KiB, costs
/// more in address translation than it does in bytes.
#[cfg(target_os = "linux")]
const HUGE_FROM: usize = 4 << 20;

/// Advises the system about memory before it is touched. Whether it follows makes no difference but in speed.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(memory: &mut [f32]) {
    const MADV_HUGEPAGE: i32 = 14;
    unsafe extern "C" {
        fn madvise(address: *mut std::ffi::c_void, length: usize, advice: i32) -> i32;
    }
    let bytes = size_of_val(memory);
    if bytes < HUGE_FROM {
        return;
    }
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(PAGE);
    let length = bytes.saturating_sub(skipped) / PAGE * PAGE;
    // SAFETY: the pages lie inside the slice, and the advice changes nothing but how the system backs them; an
    // address or length that it dislikes is an error that is returned and ignored.
    unsafe { madvise(start.wrapping_add(skipped).cast(), length, MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: &mut [f32]) {}

impl std::ops::Deref for AlignedBuffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..self.start + self.len]
    }
}
