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
        lines.resize(count, Line::zeroed());
        Ok(AlignedBuffer { lines, len })
    }
}

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
