//! Operands in the order in which the register tile reads them, padded with zeros.

use super::{Gemm, Matrix};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{AlignedBuffer, BLOCK as LANES, Error};
use std::ops::Range;

/// The steps `steps` of the rows `rows` of a matrix: each row `depth` elements, `pitch` apart.
pub(super) fn rows(a: Matrix<'_>, rows: Range<usize>, steps: Range<usize>, depth: usize, pitch: usize, packed: &mut [f32]) {
    let count = rows.len();
    if a.column == 1 {
        for (row, to) in rows.zip(packed.chunks_mut(pitch)) {
            let from = a.offset + row * a.row + steps.start;
            to[..steps.len()].copy_from_slice(&a.data[from..from + steps.len()]);
            to[steps.len()..depth].fill(0.0);
        }
        return;
    }
    // Squares of rows and steps, so that what is read and what is written stay in cache.
    for first in (0..count).step_by(LANES) {
        let width = (count - first).min(LANES);
        for start in (0..steps.len()).step_by(LANES) {
            for step in start..(start + LANES).min(steps.len()) {
                let from = a.offset + (rows.start + first) * a.row + (steps.start + step) * a.column;
                for (i, value) in a.data[from..].iter().step_by(a.row.max(1)).take(width).enumerate() {
                    packed[(first + i) * pitch + step] = *value;
                }
            }
        }
    }
    for to in packed.chunks_mut(pitch).take(count) {
        to[steps.len()..depth].fill(0.0);
    }
}

/// All K rows of the columns in `blocks` of sixteen: those of a row side by side.
pub(super) fn panel(b: Matrix<'_>, k: usize, n: usize, blocks: Range<usize>, packed: &mut [f32]) {
    let width = blocks.len() * LANES;
    let first = blocks.start * LANES;
    let used = (n - first).min(width);
    if b.column == 1 {
        for (row, to) in packed.chunks_exact_mut(width).enumerate() {
            if row < k {
                let from = b.offset + row * b.row + first;
                to[..used].copy_from_slice(&b.data[from..from + used]);
                to[used..].fill(0.0);
            } else {
                to.fill(0.0);
            }
        }
        return;
    }
    packed.fill(0.0);
    for start in (0..k).step_by(LANES) {
        let rows = (k - start).min(LANES);
        for column in 0..used {
            let from = b.offset + (first + column) * b.column + start * b.row;
            for (i, value) in b.data[from..].iter().step_by(b.row.max(1)).take(rows).enumerate() {
                packed[(start + i) * width + column] = *value;
            }
        }
    }
}

/// A right operand that is packed once, for many products.
pub(crate) struct Panels {
    data: AlignedBuffer,
    /// Where each panel begins, and where the last ends.
    starts: Vec<usize>,
}

impl Panels {
    /// Packs a matrix for products like `gemm`.
    ///
    /// # Errors
    /// When there is no memory for it, or the executor leaves a part out.
    pub(crate) fn new(gemm: &Gemm, b: Matrix<'_>, executor: &dyn Executor) -> Result<Panels, Error> {
        let mut starts = vec![0];
        let mut len = 0usize;
        for panel in 0..gemm.panels() {
            len = len.saturating_add(gemm.depth().saturating_mul(gemm.panel(panel).len() * LANES));
            starts.push(len);
        }
        let mut data = AlignedBuffer::zeros(len)?;
        let shared = SharedPointer::new(&mut data);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for index in parts.range(gemm.panels(), thread) {
                let (start, end) = (starts[index], starts[index + 1]);
                // SAFETY: the buffer holds all panels, which do not overlap and are shared out to the threads.
                let packed = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(start), end - start) };
                panel(b, gemm.k, gemm.n, gemm.panel(index), packed);
            }
        })?;
        Ok(Panels { data, starts })
    }

    pub(super) fn panel(&self, index: usize) -> &[f32] {
        &self.data[self.starts[index]..self.starts[index + 1]]
    }

    /// Bytes of all panels.
    pub(crate) fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }
}
