//! Checksums of packed weights: XXH3 of the checksums of their pieces, so that several threads can work on one weight. They find
//! damage, not malice.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use stridewise_kernels::{Executor, MAX_THREADS};
use xxhash_rust::xxh3::xxh3_64;

/// Elements of a piece: 1 MiB.
const PIECE: usize = 1 << 18;

/// What reading a weight once tells.
pub(super) struct Finding {
    pub checksum: u64,
    pub finite: bool,
}

/// The checksum of bytes.
pub(super) fn of_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// Whether all of a piece are finite. Without a branch, so that it becomes SIMD code.
fn is_finite(piece: &[f32], pairs: bool) -> bool {
    // All ones in the exponent is what infinity and NaN have, in bf16 as in f32.
    // An f32 is looked at once: no finite one is all ones.
    let second = if pairs { 0x7f80 } else { u32::MAX };
    let finite = |bits: u32| (bits & 0x7f80_0000 != 0x7f80_0000) & (bits & second != second);
    piece.iter().fold(true, |all, v| all & finite(v.to_bits()))
}

/// Reads a weight, on all of the executor's threads. In pairs, a word is two bf16.
pub(super) fn of_weight(values: &[f32], pairs: bool, executor: &dyn Executor) -> Result<Finding> {
    let count = values.len().div_ceil(PIECE);
    let pieces: Vec<AtomicU64> = (0..count).map(|_| AtomicU64::new(0)).collect();
    let (next, done, finite) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(true));
    executor.run(&|_| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = pieces.get(index) else { return };
            let piece = &values[index * PIECE..values.len().min((index + 1) * PIECE)];
            place.store(xxh3_64(bytemuck::cast_slice(piece)), Ordering::Relaxed);
            if !is_finite(piece, pairs) {
                finite.store(false, Ordering::Relaxed);
            }
            done.fetch_add(1, Ordering::Release);
        }
    });
    let finished = done.load(Ordering::Acquire);
    if finished != count {
        let expected = executor.threads().clamp(1, MAX_THREADS);
        return Err(Error::Kernel(stridewise_kernels::Error::Executor { expected, finished: finished.min(expected - 1) }));
    }
    let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.load(Ordering::Relaxed).to_le_bytes()).collect();
    Ok(Finding { checksum: xxh3_64(&bytes), finite: finite.into_inner() })
}
