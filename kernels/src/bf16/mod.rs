//! Arithmetic of bfloat16: activations and weights are rounded to it, products are summed up in f32.
//!
//! Two neighbouring channels share a word, and `vdpbf16ps` multiplies and adds up both. A pixel of a plane is 32 channels, one cache
//! line; see [`Layout`](crate::Layout).
//!
//! What is the same bits everywhere and what is not: conversions to bf16 (to nearest, ties to even) and maxima are, but that
//! `vcvtneps2bf16` takes denormals for zero; and so are results on any number of threads. Sums are not the same on every instruction set:
//! `vdpbf16ps` takes denormals for zero too, inputs and results alike, and whether it rounds between the two products is up to the
//! processor. Where it is missing, both products of a word are fused
//! multiply-adds, the second channel's first, which is what Intel documents for the instruction.

mod conversion;
mod table;

pub use conversion::Bf16Conversion;
pub use table::Bf16Table;
pub(crate) use table::instantiate;
#[cfg(feature = "testing")]
pub(crate) use table::row_entry;

use crate::conv::grouped_row::{Channelwise, GroupedArgs};
use crate::conv::tile::{Products, Store, TileArgs};
use crate::row::Stored;
use crate::simd::F32x16;
use std::marker::PhantomData;

/// The nearest bfloat16, ties to even; NaN stays NaN.
pub fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        // Of a NaN whose payload is in the lower half alone, the upper half would be infinity.
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The float that a bfloat16 is.
pub fn bf16_value(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// What an instruction set does with bfloat16.
///
/// # Safety
/// Every method may be called only where the processor has the instruction set of the implementing type. Pointers need not be
/// aligned, but must be valid for what is read or written.
pub(crate) trait Bf16: Copy {
    /// Whether an instruction multiplies pairs of bfloat16, and they are not widened to f32 first.
    const DOT_PRODUCTS: bool = false;
    /// Sixteen floats.
    type Float: F32x16;
    /// Two weights for each of sixteen outputs.
    type Column: Copy;
    /// Two inputs, for all outputs.
    type Spread: Copy;
    /// Reads sixteen words of weights.
    unsafe fn column(p: *const f32) -> Self::Column;
    /// Reads one word.
    unsafe fn spread(p: *const f32) -> Self::Spread;
    /// Adds to each sum the two products of its weights and the inputs.
    unsafe fn multiply_add(column: Self::Column, x: Self::Spread, sums: Self::Float) -> Self::Float;
    /// Reads sixteen bfloat16.
    unsafe fn widen(p: *const u16) -> Self::Float;
    /// Writes sixteen floats as bfloat16.
    unsafe fn narrow(values: Self::Float, p: *mut u16);
    /// Writes 32.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn narrow_line([first, second]: [Self::Float; 2], p: *mut u16) {
        // SAFETY: the caller says that 32 are valid.
        unsafe {
            Self::narrow(first, p);
            Self::narrow(second, p.add(16));
        }
    }
}

/// Bfloat16 multiplied and stored by the instructions of B.
#[derive(Clone, Copy)]
pub(crate) struct Halves<B>(PhantomData<B>);

impl<B: Bf16> Stored for Halves<B> {
    type Vector = B::Float;
    const WORDS: usize = 8;
    #[inline(always)]
    unsafe fn read(p: *const f32) -> B::Float {
        // SAFETY: the trait's contract gives the instruction set and the pointer.
        unsafe { B::widen(p.cast()) }
    }
    #[inline(always)]
    unsafe fn write(values: B::Float, p: *mut f32) {
        // SAFETY: as above.
        unsafe { B::narrow(values, p.cast()) }
    }
}

/// Bias, residual, activation and the only store of sixteen outputs, in words from `output` and `residual`.
#[inline(always)]
unsafe fn finish<B: Bf16>(sum: B::Float, bias: B::Float, clamp: (f32, f32), store: Store, residual: *const f32, output: *mut f32) {
    // SAFETY: the caller has the instruction set, and sixteen elements at the output, and at the residual if it is not null.
    unsafe {
        let mut x = sum.add(bias);
        let wide = store == Store::F32;
        if !residual.is_null() {
            x = x.add(if wide { B::Float::load(residual) } else { B::widen(residual.cast()) });
        }
        let x = x.at_least(B::Float::splat(clamp.0)).at_most(B::Float::splat(clamp.1));
        if wide { x.store(output) } else { B::narrow(x, output.cast()) }
    }
}

/// The epilogue of a register tile of N blocks and some pixels from `first` on, whose sums are those of a block and a pixel.
#[inline(always)]
unsafe fn finish_tile<B: Bf16, const N: usize>(args: &TileArgs, first: usize, pixels: usize, sum: impl Fn(usize, usize) -> B::Float) {
    // SAFETY: TileFn's contract covers bias, residual and output.
    unsafe {
        for n in 0..N {
            let bias = B::Float::load(args.bias.add(n * 16));
            for p in 0..pixels {
                let mut residual = args.residual;
                if !residual.is_null() {
                    residual = residual.add(*args.residual_pixels.add(first + p) + args.residual_blocks[n]);
                }
                let output = args.output.add(*args.output_pixels.add(first + p) + args.output_blocks[n]);
                finish::<B>(sum(n, p), bias, args.epilogue.clamp, args.epilogue.store, residual, output);
            }
        }
    }
}

/// The same, from sums that wait in `args.sums`.
///
/// # Safety
/// As [`TileFn`](crate::conv::tile::TileFn) says; the sums are those of the pixels.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) unsafe fn finish_waiting<B: Bf16, const N: usize>(args: &TileArgs, pixels: usize) {
    // SAFETY: the caller's promises.
    unsafe {
        match (args.epilogue.store, args.residual.is_null()) {
            (Store::Bf16, true) => finish_pairs::<B, N, false>(args, pixels),
            (Store::Bf16, false) => finish_pairs::<B, N, true>(args, pixels),
            _ => finish_tile::<B, N>(args, 0, pixels, |n, p| B::Float::load(args.sums.add((n * pixels + p) * 16))),
        }
    }
}

/// Where outputs are bfloat16, with or without a residual: two blocks that are one cache line are one store. A last
/// block without another is its own second, and is written twice.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn finish_pairs<B: Bf16, const N: usize, const RESIDUAL: bool>(args: &TileArgs, pixels: usize) {
    // SAFETY: TileFn's contract covers sums, bias, residual and output.
    unsafe {
        let (low, high) = (B::Float::splat(args.epilogue.clamp.0), B::Float::splat(args.epilogue.clamp.1));
        for first in (0..N).step_by(2) {
            let blocks = [first, (first + 1).min(N - 1)];
            let [to, to_second] = blocks.map(|n| args.output_blocks[n]);
            let bias = [B::Float::load(args.bias.add(blocks[0] * 16)), B::Float::load(args.bias.add(blocks[1] * 16))];
            for p in 0..pixels {
                let mut values = bias;
                for i in 0..2 {
                    values[i] = B::Float::load(args.sums.add((blocks[i] * pixels + p) * 16)).add(bias[i]);
                    if RESIDUAL {
                        let residual = args.residual.add(*args.residual_pixels.add(p) + args.residual_blocks[blocks[i]]);
                        values[i] = values[i].add(B::widen(residual.cast()));
                    }
                    values[i] = values[i].at_least(low).at_most(high);
                }
                let pixel = args.output.add(*args.output_pixels.add(p));
                if to_second.wrapping_sub(to) == 8 {
                    B::narrow_line(values, pixel.add(to).cast());
                } else {
                    B::narrow(values[0], pixel.add(to).cast());
                    B::narrow(values[1], pixel.add(to_second).cast());
                }
            }
        }
    }
}

impl<B: Bf16> Products for Halves<B> {
    type Sums = B::Float;
    type Column = B::Column;
    type Spread = B::Spread;
    #[inline(always)]
    unsafe fn zero() -> B::Float {
        // SAFETY: the trait's contract gives the instruction set, here and below, and the pointers.
        unsafe { B::Float::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn start(_: *const f32) -> B::Float {
        // SAFETY: as above.
        unsafe { B::Float::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn column(p: *const f32) -> B::Column {
        // SAFETY: as above.
        unsafe { B::column(p) }
    }
    #[inline(always)]
    unsafe fn spread(p: *const f32) -> B::Spread {
        // SAFETY: as above.
        unsafe { B::spread(p) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: B::Column, x: B::Spread, sums: B::Float) -> B::Float {
        // SAFETY: as above.
        unsafe { B::multiply_add(column, x, sums) }
    }
    #[inline(always)]
    unsafe fn load_sums(p: *const f32) -> B::Float {
        // SAFETY: as above.
        unsafe { B::Float::load(p) }
    }
    #[inline(always)]
    unsafe fn store_sums(sums: B::Float, p: *mut f32) {
        // SAFETY: as above.
        unsafe { sums.store(p) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: B::Float, b: B::Float) -> B::Float {
        // SAFETY: as above.
        unsafe { a.add(b) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        // SAFETY: as above.
        unsafe { <B::Float as F32x16>::prefetch(p) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        // SAFETY: as above.
        unsafe { <B::Float as F32x16>::prefetch_far(p) }
    }
    #[inline(always)]
    unsafe fn finish<const P: usize, const N: usize>(args: &TileArgs, first: usize, _: *mut f32, sums: &[[B::Float; P]; N]) -> bool {
        // SAFETY: TileFn's contract covers bias, residual and output.
        unsafe {
            finish_tile::<B, N>(args, first, P, |n, p| sums[n][p]);
        }
        false
    }
}

impl<B: Bf16> Channelwise for Halves<B> {
    type Value = B::Float;
    type Sums = B::Float;
    const REGISTERS: usize = <B::Float as F32x16>::REGISTERS;
    // What is read is widened first.
    const OPERANDS_IN_MEMORY: bool = false;
    #[inline(always)]
    unsafe fn zero() -> B::Float {
        // SAFETY: the trait's contract gives the instruction set, here and below, and the pointers.
        unsafe { B::Float::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn value(p: *const f32) -> B::Float {
        // SAFETY: as above.
        unsafe { B::widen(p.cast()) }
    }
    #[inline(always)]
    unsafe fn weight(p: *const f32) -> B::Float {
        // SAFETY: as above.
        unsafe { B::Float::load(p) }
    }
    #[inline(always)]
    unsafe fn spread<const G: usize>(value: B::Float, j: usize) -> B::Float {
        // SAFETY: as above.
        unsafe { value.spread::<G>(j) }
    }
    #[inline(always)]
    unsafe fn multiply_add(weight: B::Float, value: B::Float, sums: B::Float) -> B::Float {
        // SAFETY: as above.
        unsafe { weight.fma(value, sums) }
    }
    #[inline(always)]
    unsafe fn finish<const P: usize>(args: &GroupedArgs, sums: &[B::Float; P], at: [usize; P]) {
        // SAFETY: GroupedFn's contract covers bias, residual and output at the pixels' places.
        unsafe {
            let bias = B::Float::load(args.bias);
            for p in 0..P {
                let residual = if args.residual.is_null() { args.residual } else { args.residual.add(at[p]) };
                finish::<B>(sums[p], bias, args.epilogue.clamp, args.epilogue.store, residual, args.output.add(at[p]));
            }
        }
    }
}
