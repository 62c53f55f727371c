//! The machine's FMA peak, measured: what every "% of peak" is a percentage of.

use crate::simd::F32x16;
use crate::{Error, Isa, KernelTable};
use std::hint::black_box;
use std::time::Instant;

/// The f32 FMA rate of one core with this instruction set's vectors, in FLOP/s: the best of several short runs (about 60 ms).
///
/// # Errors
/// When the instruction set is not available here.
pub fn measure_fma_peak(isa: Isa) -> Result<f64, Error> {
    let table = KernelTable::get(isa)?;
    let rounds = if isa == Isa::Portable && !Isa::Avx2.is_available() { 20_000 } else { 1_000_000 };
    let flop = 2.0 * 16.0 * table.fma_chains as f64 * rounds as f64;
    let mut best = f64::INFINITY;
    for _ in 0..9 {
        let start = Instant::now();
        // SAFETY: `KernelTable::get` gave the table, so the instruction set is there.
        black_box(unsafe { (table.fma_chain)(black_box(rounds)) });
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(flop / best)
}

/// `rounds` times C vector FMAs that do not wait for each other: enough of them to hide a latency of four cycles at two
/// registers a cycle, and few enough to stay in registers.
///
/// # Safety
/// The processor has the instruction set of V.
#[inline(always)]
pub(crate) unsafe fn fma_chain<V: F32x16, const C: usize>(rounds: u64) -> f32 {
    // SAFETY: the caller says that the instruction set is there; `sum` is valid for sixteen elements.
    unsafe {
        // Opaque, and another start for each chain: otherwise the compiler computes the result itself.
        let (factor, summand) = (V::splat(black_box(0.999)), V::splat(black_box(0.003)));
        let mut acc = [V::splat(0.0); C];
        for (i, a) in acc.iter_mut().enumerate() {
            *a = V::splat(black_box(i as f32));
        }
        for _ in 0..rounds {
            for a in &mut acc {
                *a = a.fma(factor, summand);
            }
        }
        let mut total = acc[0];
        for a in &acc[1..] {
            total = total.add(*a);
        }
        let mut sum = [0.0; 16];
        total.store(sum.as_mut_ptr());
        sum.iter().sum()
    }
}
