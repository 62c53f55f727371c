//! Buffers of f32 that start at a cache line.

use crate::Error;
use bytemuck::{Pod, Zeroable};

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A fixed-size buffer of f32, 64-byte aligned, zero at first.
pub struct AlignedBuffer {
    lines: Vec<Line>,
    len: usize,
}

impl AlignedBuffer {
    pub(crate) fn empty() -> AlignedBuffer {
        AlignedBuffer { lines: Vec::new(), len: 0 }
    }

    /// `len` zeros, their pages touched.
    ///
    /// # Errors
    /// When the system has no memory for it.
    pub fn zeros(len: usize) -> Result<AlignedBuffer, Error> {
        let count = len.div_ceil(16);
        let mut lines = Vec::new();
        lines.try_reserve_exact(count).map_err(|_| Error::OutOfMemory { bytes: len.saturating_mul(size_of::<f32>()) })?;
        ask_for_huge_pages(&mut lines);
        lines.resize(count, Line::zeroed());
        Ok(AlignedBuffer { lines, len })
    }
}

/// Buffers from this size on are asked to lie in huge pages: walking through a network's weights, page by page of 4 KiB, costs
/// more in address translation than it does in bytes.
#[cfg(target_os = "linux")]
const HUGE_FROM: usize = 4 << 20;

/// Advises the system about a vector's reserved memory, before it is touched. Whether it follows makes no difference but in speed.
#[cfg(target_os = "linux")]
fn ask_for_huge_pages(lines: &mut Vec<Line>) {
    const PAGE: usize = 4096;
    const MADV_HUGEPAGE: i32 = 14;
    unsafe extern "C" {
        fn madvise(address: *mut std::ffi::c_void, length: usize, advice: i32) -> i32;
    }
    let bytes = lines.capacity() * size_of::<Line>();
    if bytes < HUGE_FROM {
        return;
    }
    let start = lines.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(PAGE);
    let length = bytes.saturating_sub(skipped) / PAGE * PAGE;
    // SAFETY: the pages lie inside the vector's allocation, and the advice changes nothing but how the system backs them; an
    // address or length that it dislikes is an error that is returned and ignored.
    unsafe { madvise(start.wrapping_add(skipped).cast(), length, MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn ask_for_huge_pages(_: &mut Vec<Line>) {}

impl std::ops::Deref for AlignedBuffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
