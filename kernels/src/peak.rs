//! The machine's peaks, measured: the FMA rate, what every "% of peak" is a percentage of, and how fast memory is read.

use crate::bf16::Bf16Table;
use crate::int8::Int8Table;
use crate::simd::F32x16;
use crate::{Error, Isa, KernelTable};
use std::hint::black_box;
use std::sync::OnceLock;
#[cfg(feature = "int8")]
use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Instant;

/// The f32 FMA rate of one core with this instruction set's vectors, in FLOP/s: the best of several short runs (about 60 ms).
///
/// # Errors
/// When the instruction set is not available here.
pub fn measure_fma_peak(isa: Isa) -> Result<f64, Error> {
    let rounds = if isa == Isa::Portable && !Isa::Avx2.is_available() { 20_000 } else { 1_000_000 };
    let mut best = 0f64;
    for _ in 0..9 {
        let start = Instant::now();
        let flop = multiply_add(isa, rounds)?;
        best = best.max(flop as f64 / start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Multiplies and adds in registers, `rounds` times as many vectors as hide the latency; returns the number of operations, two for
/// each multiply-add of a lane. What [`measure_fma_peak`] times.
///
/// # Errors
/// When the instruction set is not available here.
pub fn multiply_add(isa: Isa, rounds: u64) -> Result<u64, Error> {
    let table = KernelTable::get(isa)?;
    // SAFETY: `KernelTable::get` gave the table, so the instruction set is there.
    black_box(unsafe { (table.fma_chain)(black_box(rounds)) });
    Ok(rounds.saturating_mul(2 * 16 * table.fma_chains as u64))
}

/// The sum of all elements, each read once, in order, with the widest loads of the instruction set: a measure of the memory that
/// holds them.
///
/// # Errors
/// When the instruction set is not available here.
pub fn read(isa: Isa, data: &[f32]) -> Result<f32, Error> {
    let table = KernelTable::get(isa)?;
    let (rounds, round) = (data.len() / (table.fma_chains * 16), table.fma_chains * 16);
    // SAFETY: `KernelTable::get` gave the table, so the instruction set is there; the slice holds as many rounds.
    let sum = unsafe { (table.read_sum)(data.as_ptr(), rounds) };
    Ok(sum + data[rounds * round..].iter().sum::<f32>())
}

/// The rate of products of bytes of one core, in operations a second (two a product): the best of several short runs (about 60 ms).
pub fn measure_int8_peak(table: &'static Int8Table) -> f64 {
    let rounds = if table.isa() == Isa::Portable { 20_000 } else { 1_000_000 };
    let mut best = 0f64;
    for _ in 0..9 {
        let start = Instant::now();
        let operations = multiply_bytes(table, rounds);
        best = best.max(operations as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// Multiplies bytes in registers and adds them up, `rounds` times as many vectors as hide the latency; returns the number of
/// operations, two for each product. What [`measure_int8_peak`] times.
pub fn multiply_bytes(table: &'static Int8Table, rounds: u64) -> u64 {
    // SAFETY: nobody has a table but of an instruction set that is there.
    black_box(unsafe { (table.chain)(black_box(rounds)) });
    rounds.saturating_mul(2 * 64 * table.chains as u64)
}

/// The rate of products of bfloat16 of one core, in operations a second (two a product): the best of several short runs (about 60 ms).
pub fn measure_bf16_peak(table: &'static Bf16Table) -> f64 {
    let rounds = if table.isa() == Isa::Portable { 20_000 } else { 1_000_000 };
    let mut best = 0f64;
    for _ in 0..9 {
        let start = Instant::now();
        // SAFETY: nobody has a table but of an instruction set that is there.
        black_box(unsafe { (table.chain)(black_box(rounds)) });
        best = best.max((rounds * 2 * 32 * table.chains as u64) as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// How many times as many products of bfloat16 as of f32 a core of this processor multiplies in a time, where it has an instruction for
/// them: measured once, within a few milliseconds, and rounded to a power of two, so that no plan hangs on a measurement's noise. Two on
/// AMD's; on Intel's with AMX one half with vectors, and sixteen with tiles. 1 where bfloat16 is widened first.
pub fn bf16_gain(table: &'static Bf16Table) -> f64 {
    static GAIN: OnceLock<f64> = OnceLock::new();
    if !table.has_dot_products() {
        return 1.0;
    }
    *GAIN.get_or_init(|| {
        let rounds = 4_000;
        let mut rates = [0f64; 2];
        for _ in 0..9 {
            let start = Instant::now();
            // SAFETY: nobody has a table but of an instruction set that is there.
            black_box(unsafe { (table.chain)(black_box(rounds)) });
            rates[0] = rates[0].max((2 * table.chains) as f64 / start.elapsed().as_secs_f64());
            let start = Instant::now();
            let Ok(operations) = multiply_add(table.isa(), rounds) else { return 1.0 };
            rates[1] = rates[1].max((operations / (2 * 16 * rounds)) as f64 / start.elapsed().as_secs_f64());
        }
        (rates[0] / rates[1]).log2().round().exp2()
    })
}

/// `rounds` times C vectors of dot products of bfloat16 that do not wait for each other.
///
/// # Safety
/// The processor has the instruction set of B.
#[cfg(feature = "bf16")]
#[inline(always)]
pub(crate) unsafe fn bf16_chain<B: crate::bf16::Bf16, const C: usize>(rounds: u64) -> f32 {
    // SAFETY: the caller says that the instruction set is there; the arrays hold sixteen words.
    unsafe {
        // Pairs of 2 and ½.
        let words = black_box([f32::from_bits(0x3f00_4000); 16]);
        let (column, x) = (B::column(words.as_ptr()), B::spread(words.as_ptr()));
        let mut acc = [B::Float::splat(0.0); C];
        for (i, a) in acc.iter_mut().enumerate() {
            *a = B::Float::splat(black_box(i as f32));
        }
        for _ in 0..rounds {
            for a in &mut acc {
                *a = B::multiply_add(column, x, *a);
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

/// `rounds` times C vectors of dot products that do not wait for each other.
///
/// # Safety
/// The processor has the instruction set of I.
#[cfg(feature = "int8")]
#[inline(always)]
pub(crate) unsafe fn dot_chain<I: crate::int8::Int8, const C: usize>(rounds: u64) -> i32 {
    // SAFETY: the caller says that the instruction set is there; the arrays hold sixteen words.
    unsafe {
        let words = black_box([0x0102_0304i32; 16]);
        let (column, x) = (I::column(words.as_ptr()), I::spread(words.as_ptr()));
        let x = black_box(&x);
        let mut sums = black_box(std::array::from_fn::<_, C, _>(|i| [i as i32; 16]));
        let mut acc = [I::zero(); C];
        for (a, sums) in acc.iter_mut().zip(&sums) {
            *a = I::load_sums(sums.as_ptr());
        }
        for _ in 0..rounds {
            for a in &mut acc {
                // Another word, for all that the compiler knows: it otherwise takes the products once, and sums are what is timed.
                if !I::FUSED {
                    compiler_fence(Ordering::SeqCst);
                }
                *a = I::multiply_add(column, *x, *a);
            }
        }
        // Each to memory, and that opaque: of plain Rust the compiler otherwise adds up single numbers.
        for (a, sums) in acc.iter().zip(&mut sums) {
            I::store_sums(*a, sums.as_mut_ptr());
        }
        black_box(sums).iter().flatten().fold(0, |sum, s| sum.wrapping_add(*s))
    }
}

/// The sum of `rounds` times C vectors.
///
/// # Safety
/// The processor has the instruction set of V; `data` is valid for `rounds · C · 16` elements.
#[inline(always)]
pub(crate) unsafe fn read_sum<V: F32x16, const C: usize>(data: *const f32, rounds: usize) -> f32 {
    // SAFETY: the caller says that instruction set and elements are there; `sum` is valid for sixteen elements.
    unsafe {
        let mut acc = [V::splat(0.0); C];
        for round in 0..rounds {
            for (i, a) in acc.iter_mut().enumerate() {
                *a = a.add(V::load(data.add((round * C + i) * 16)));
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

/// `rounds` times C vector FMAs that do not wait for each other: enough of them to hide a latency of four cycles at two
/// registers a cycle, and few enough to stay in registers.
///
/// # Safety
/// The processor has the instruction set of V.
#[inline(always)]
pub(crate) unsafe fn fma_chain<V: F32x16, const C: usize>(rounds: u64) -> f32 {
    // SAFETY: the caller says that the instruction set is there; the arrays hold sixteen elements.
    unsafe {
        // Opaque, and another start for each chain: otherwise the compiler computes the result itself. From memory and back to it, sixteen
        // elements at a time: of plain Rust it otherwise makes one instruction an element.
        let (factor, summand) = (V::load(black_box([0.999; 16]).as_ptr()), V::load(black_box([0.003; 16]).as_ptr()));
        let mut acc = [V::splat(0.0); C];
        for (i, a) in acc.iter_mut().enumerate() {
            *a = V::load(black_box([i as f32; 16]).as_ptr());
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
        black_box(sum).iter().sum()
    }
}
