//! Arithmetic of bytes: activations are unsigned, weights signed, sums 32-bit integers.
//!
//! A byte x of an activation stands for `scale · (x − zero point)`; the zero point is a property of its [`Geometry`](crate::Geometry),
//! scales are known to the ops alone. Everything up to a sum is exact, and every operation behind it rounds once as IEEE 754 says, so
//! that results are the same bits on every instruction set.
//!
//! Layout: four neighbouring channels share a word, and a dot product of words multiplies and adds up all four: `vpdpbusd`, `sdot`, or
//! what comes to the same. A pixel of a plane is 64 channels, one cache line, as 16 channels of f32 are: the register tile walks over
//! both alike, and what it multiplies in a step costs as many loads and instructions for four times the products.

mod conversion;
mod ops;
pub(crate) mod rows;
mod table;

pub use conversion::{Dequantize, Quantize, quantize_value};
pub use ops::{QuantizedAdd, QuantizedPool};
pub use table::Int8Table;
pub(crate) use table::instantiate;
#[cfg(feature = "testing")]
pub(crate) use table::row_entry;

use crate::conv::grouped_row::{Channelwise, GroupedArgs};
use crate::conv::tile::{Epilogue, Products, Store, TileArgs};
use crate::function::lanes::Lanes;
use crate::simd::F32x16;
use std::marker::PhantomData;
use std::sync::atomic::{Ordering, compiler_fence};

/// What an instruction set does with bytes.
///
/// # Safety
/// Every method may be called only where the processor has the instruction set of the implementing type. Pointers need not be
/// aligned, but must be valid for what is read or written.
pub(crate) trait Int8: Copy {
    /// Sixteen floats.
    type Float: F32x16 + Lanes;
    /// Sixteen 32-bit integers.
    type Lanes: Copy;
    /// Sums of products, one for each of sixteen outputs.
    type Sums: Copy;
    /// Four signed bytes for each of sixteen outputs.
    type Column: Copy;
    /// Four unsigned bytes, for all outputs.
    type Spread: Copy;
    /// 64 bytes.
    type Line: Copy;
    /// What [`Int8::multiply_add`] takes the unsigned bytes less of.
    const OFFSET: i32;
    /// Whether [`Int8::multiply_add`] is instructions that multiply and add, which no compiler takes apart.
    const FUSED: bool = false;
    /// No sums.
    unsafe fn zero() -> Self::Sums;
    /// Reads sixteen sums.
    unsafe fn load_sums(p: *const i32) -> Self::Sums;
    /// Writes sixteen sums.
    unsafe fn store_sums(sums: Self::Sums, p: *mut i32);
    /// Sum of sums.
    unsafe fn add_sums(a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// The same sums, in registers.
    #[inline(always)]
    unsafe fn hold(sums: Self::Sums) -> Self::Sums {
        sums
    }
    /// Reads sixteen words of weights.
    unsafe fn column(p: *const i32) -> Self::Column;
    /// Reads one word.
    unsafe fn spread(p: *const i32) -> Self::Spread;
    /// Sixteen sums as integers.
    #[inline(always)]
    unsafe fn lanes(sums: Self::Sums) -> Self::Lanes {
        let mut lanes = [0; 16];
        // SAFETY: sixteen integers, here and there.
        unsafe {
            Self::store_sums(sums, lanes.as_mut_ptr());
            Self::load(lanes.as_ptr())
        }
    }
    /// Adds to each sum the four products of its weights and the bytes, less the offset.
    unsafe fn multiply_add(column: Self::Column, x: Self::Spread, sums: Self::Sums) -> Self::Sums;
    /// Reads sixteen integers.
    unsafe fn load(p: *const i32) -> Self::Lanes;
    /// Writes sixteen integers.
    unsafe fn store_lanes(lanes: Self::Lanes, p: *mut i32);
    /// Sum of integers.
    unsafe fn add(a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// Widens sixteen bytes.
    unsafe fn widen(p: *const u8) -> Self::Lanes;
    /// `weight · value + sum`, for weights of eight bits and values of a byte.
    unsafe fn multiply_add_lanes(weight: Self::Lanes, value: Self::Lanes, sum: Self::Lanes) -> Self::Lanes;
    /// Gives each lane the `j`-th lane of its group of G neighbours: G is 4 or 8, j below it.
    unsafe fn spread_lanes<const G: usize>(lanes: Self::Lanes, j: usize) -> Self::Lanes;
    /// The nearest floats, ties to even.
    unsafe fn to_f32(lanes: Self::Lanes) -> Self::Float;
    /// The nearest integers, ties to even, of floats that are no further from zero than 2²⁴.
    unsafe fn round(values: Self::Float) -> Self::Lanes;
    /// All lanes equal.
    unsafe fn splat(x: i32) -> Self::Lanes;
    /// Writes sixteen integers of 0 to 255 as bytes.
    unsafe fn narrow(lanes: Self::Lanes, p: *mut u8);
    /// Writes 64 of them.
    #[inline(always)]
    unsafe fn narrow_line(lanes: [Self::Lanes; 4], p: *mut u8) {
        for (i, lanes) in lanes.into_iter().enumerate() {
            // SAFETY: the caller says that 64 bytes are valid.
            unsafe { Self::narrow(lanes, p.add(i * 16)) };
        }
    }
    /// Rounds 64 floats to the nearest integers, ties to even, adds the zero point if it is SHIFTED, and writes what 0 to 255 have of the
    /// sums. The floats are no further from zero than 2³⁰.
    #[inline(always)]
    unsafe fn saturate_line<const SHIFTED: bool>(values: [Self::Float; 4], zero: i32, p: *mut u8) {
        // SAFETY: the caller says that 64 bytes are valid.
        unsafe {
            let zero = if SHIFTED { zero } else { 0 };
            let (low, high) = (Self::Float::splat(-zero as f32), Self::Float::splat((255 - zero) as f32));
            let bytes = |x: Self::Float| Self::add(Self::round(x.at_least(low).at_most(high)), Self::splat(zero));
            Self::narrow_line([bytes(values[0]), bytes(values[1]), bytes(values[2]), bytes(values[3])], p);
        }
    }
    /// Writes the words `a | b << 8 | c << 16 | d << 24` of integers of 0 to 255.
    unsafe fn interleave(lanes: [Self::Lanes; 4], p: *mut i32);
    /// Reads 64 bytes.
    unsafe fn load_line(p: *const u8) -> Self::Line;
    /// Writes 64 bytes.
    unsafe fn store_line(line: Self::Line, p: *mut u8);
    /// The greater of each two bytes.
    unsafe fn max_line(a: Self::Line, b: Self::Line) -> Self::Line;
}

/// Bytes multiplied and stored by the instructions of I.
#[derive(Clone, Copy)]
pub(crate) struct Bytes<I>(PhantomData<I>);

/// `round(x) + zero`, as bytes-to-be. The value lies within the bounds of [`Epilogue::clamp`] for bytes.
#[inline(always)]
unsafe fn to_bytes<I: Int8>(x: I::Float, zero: I::Lanes) -> I::Lanes {
    // SAFETY: the caller has the instruction set.
    unsafe { I::add(I::round(x), zero) }
}

/// A sum, scaled, with residual and activation.
#[inline(always)]
unsafe fn scaled<I: Int8>(lanes: I::Lanes, scale: I::Float, residual: *const f32, e: &Epilogue) -> I::Float {
    // SAFETY: the caller has the instruction set, and sixteen elements at `residual` if there is one.
    unsafe {
        let sum = I::to_f32(lanes);
        let x = if residual.is_null() {
            sum.mul(scale)
        } else if e.store == Store::U8 {
            let residual = I::to_f32(I::widen(residual.cast()));
            residual.fma(I::Float::splat(e.residual_scale), sum.fma(scale, I::Float::splat(e.residual_shift)))
        } else {
            sum.fma(scale, I::Float::load(residual))
        };
        x.at_least(I::Float::splat(e.clamp.0)).at_most(I::Float::splat(e.clamp.1))
    }
}

/// A sum, scaled, with a residual of bytes if there is one.
#[inline(always)]
unsafe fn with_residual<I: Int8, const RESIDUAL: bool>(lanes: I::Lanes, scale: I::Float, residual: *const f32, e: &Epilogue) -> I::Float {
    // SAFETY: the caller has the instruction set, and sixteen bytes at `residual` if there is one.
    unsafe {
        let sum = I::to_f32(lanes);
        if !RESIDUAL {
            return sum.mul(scale);
        }
        let residual = I::to_f32(I::widen(residual.cast()));
        residual.fma(I::Float::splat(e.residual_scale), sum.fma(scale, I::Float::splat(e.residual_shift)))
    }
}

/// Pixels whose sums wait: from `first` of the arguments' on, as many as `count`, in `sums`.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    pub first: usize,
    pub count: usize,
    pub sums: *const f32,
}

/// The epilogue of a register tile of B blocks, from sums that wait. `BIASED` says that they began with the bias.
///
/// # Safety
/// As [`TileFn`](crate::conv::tile::TileFn) says; the sums are those of the pixels.
#[inline(always)]
pub(crate) unsafe fn finish_waiting<I: Int8, const B: usize, const BIASED: bool>(args: &TileArgs, pixels: Waiting) {
    // SAFETY: TileFn's contract is the caller's.
    unsafe {
        // Asked once, and not for each vector.
        match (args.epilogue.store, args.residual.is_null()) {
            (Store::U8, true) => finish_pixels::<I, B, BIASED, false>(args, pixels),
            (Store::U8, false) => finish_pixels::<I, B, BIASED, true>(args, pixels),
            _ => finish_words::<I, B, BIASED>(args, pixels),
        }
    }
}

/// The sums of a pixel and a block, with their bias.
#[inline(always)]
unsafe fn biased<I: Int8, const BIASED: bool>(args: &TileArgs, pixels: Waiting, p: usize, b: usize) -> I::Lanes {
    // SAFETY: TileFn's contract covers sums and bias.
    unsafe {
        let sums = I::load(pixels.sums.add((b * pixels.count + p) * 16).cast());
        if BIASED { sums } else { I::add(sums, I::load(args.bias.add(b * 16).cast())) }
    }
}

/// Where outputs are bytes, with or without a residual.
#[inline(always)]
unsafe fn finish_pixels<I: Int8, const B: usize, const BIASED: bool, const RESIDUAL: bool>(args: &TileArgs, pixels: Waiting) {
    // SAFETY: TileFn's contract covers scales, residual and output.
    unsafe {
        let e = &args.epilogue;
        let zero = I::splat(e.zero);
        let (low, high) = (I::Float::splat(e.clamp.0), I::Float::splat(e.clamp.1));
        let mut scales = [I::Float::load(args.scales); B];
        for b in 1..B {
            scales[b] = I::Float::load(args.scales.add(b * 16));
        }
        // Four blocks that are one cache line are one store.
        let line = B == 4 && args.output_blocks[3].wrapping_sub(args.output_blocks[0]) == 12;
        for p in 0..pixels.count {
            let to = args.output.add(*args.output_pixels.add(pixels.first + p));
            let mut values = [low; B];
            for b in 0..B {
                let mut residual = args.residual;
                if RESIDUAL {
                    residual = residual.add(*args.residual_pixels.add(pixels.first + p) + args.residual_blocks[b]);
                }
                values[b] = with_residual::<I, RESIDUAL>(biased::<I, BIASED>(args, pixels, p, b), scales[b], residual, e);
            }
            if line && e.saturates {
                let values = [values[0], values[1 % B], values[2 % B], values[3 % B]];
                I::saturate_line::<true>(values, e.zero, to.add(args.output_blocks[0]).cast());
                continue;
            }
            let mut bytes = [zero; B];
            for b in 0..B {
                bytes[b] = to_bytes::<I>(values[b].at_least(low).at_most(high), zero);
            }
            if line {
                I::narrow_line([bytes[0], bytes[1 % B], bytes[2 % B], bytes[3 % B]], to.add(args.output_blocks[0]).cast());
            } else {
                for b in 0..B {
                    I::narrow(bytes[b], to.add(args.output_blocks[b]).cast());
                }
            }
        }
    }
}

/// Where outputs are words.
#[inline(always)]
unsafe fn finish_words<I: Int8, const B: usize, const BIASED: bool>(args: &TileArgs, pixels: Waiting) {
    // SAFETY: TileFn's contract covers sums, scales, residual and output.
    unsafe {
        for b in 0..B {
            for p in 0..pixels.count {
                let sums = biased::<I, BIASED>(args, pixels, p, b);
                let to = args.output.add(*args.output_pixels.add(pixels.first + p) + args.output_blocks[b]);
                if args.epilogue.store == Store::Sums {
                    I::store_lanes(sums, to.cast());
                    continue;
                }
                let mut residual = args.residual;
                if !residual.is_null() {
                    residual = residual.add(*args.residual_pixels.add(pixels.first + p) + args.residual_blocks[b]);
                }
                scaled::<I>(sums, I::Float::load(args.scales.add(b * 16)), residual, &args.epilogue).store(to);
            }
        }
    }
}

/// Where the outputs of a pixel's four blocks are one cache line of bytes that saturate, and so are those of a residual if there is one.
#[inline(always)]
unsafe fn finish_lines<I: Int8, const P: usize, const B: usize, const RESIDUAL: bool, const SHIFTED: bool>(
    args: &TileArgs,
    first: usize,
    sums: &[[I::Sums; P]; B],
) {
    // SAFETY: TileFn's contract covers scales, residual and output.
    unsafe {
        let output = args.output.add(args.output_blocks[0]);
        let residual = args.residual.wrapping_add(args.residual_blocks[0]);
        let e = &args.epilogue;
        for p in 0..P {
            // Sums take most registers. Scales are read where they are used, for each pixel anew, and do not push them out.
            compiler_fence(Ordering::SeqCst);
            let residual = if RESIDUAL { residual.add(*args.residual_pixels.add(first + p)) } else { residual };
            let mut values = [I::Float::splat(0.0); 4];
            for b in 0..B.min(4) {
                let scale = I::Float::load(args.scales.add(b * 16));
                values[b] = with_residual::<I, RESIDUAL>(I::lanes(sums[b][p]), scale, residual.wrapping_add(b * 4), e);
            }
            I::saturate_line::<SHIFTED>(values, e.zero, output.add(*args.output_pixels.add(first + p)).cast());
        }
    }
}

impl<I: Int8> Products for Bytes<I> {
    type Sums = I::Sums;
    type Column = I::Column;
    type Spread = I::Spread;
    const CHUNKS: bool = false;
    #[inline(always)]
    unsafe fn zero() -> I::Sums {
        // SAFETY: the trait's contract gives the instruction set, here and below, and the pointers.
        unsafe { I::zero() }
    }
    #[inline(always)]
    unsafe fn start(bias: *const f32) -> I::Sums {
        // SAFETY: as above.
        unsafe { I::load_sums(bias.cast()) }
    }
    #[inline(always)]
    unsafe fn column(p: *const f32) -> I::Column {
        // SAFETY: as above.
        unsafe { I::column(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(p: *const f32) -> I::Spread {
        // SAFETY: as above.
        unsafe { I::spread(p.cast()) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: I::Column, x: I::Spread, sums: I::Sums) -> I::Sums {
        // SAFETY: as above.
        unsafe { I::multiply_add(column, x, sums) }
    }
    #[inline(always)]
    unsafe fn hold(sums: I::Sums) -> I::Sums {
        // SAFETY: as above.
        unsafe { I::hold(sums) }
    }
    #[inline(always)]
    unsafe fn load_sums(p: *const f32) -> I::Sums {
        // SAFETY: as above.
        unsafe { I::load_sums(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_sums(sums: I::Sums, p: *mut f32) {
        // SAFETY: as above.
        unsafe { I::store_sums(sums, p.cast()) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: I::Sums, b: I::Sums) -> I::Sums {
        // SAFETY: as above.
        unsafe { I::add_sums(a, b) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        // SAFETY: as above.
        unsafe { <I::Float as F32x16>::prefetch(p) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        // SAFETY: as above.
        unsafe { <I::Float as F32x16>::prefetch_far(p) }
    }
    // Lines from registers: 24 stores cost 28 cycles on a Zen 5. What is no line waits for `finish_waiting`, which the tables' kernels call.
    #[inline(always)]
    unsafe fn finish<const P: usize, const B: usize>(args: &TileArgs, first: usize, waiting: *mut f32, sums: &[[I::Sums; P]; B]) -> bool {
        // SAFETY: TileFn's contract is the caller's.
        unsafe {
            if B == 4 && args.lines {
                match (args.residual.is_null(), args.epilogue.zero) {
                    (true, 0) => finish_lines::<I, P, B, false, false>(args, first, sums),
                    (true, _) => finish_lines::<I, P, B, false, true>(args, first, sums),
                    (false, _) => finish_lines::<I, P, B, true, false>(args, first, sums),
                }
                return false;
            }
            for b in 0..B {
                for p in 0..P {
                    I::store_sums(sums[b][p], waiting.add((b * P + p) * 16).cast());
                }
            }
        }
        true
    }
}

/// The epilogue of P pixels of a row of a depthwise convolution.
#[inline(always)]
unsafe fn finish_row<I: Int8, const P: usize>(args: &GroupedArgs, sums: &[I::Lanes; P], at: [usize; P]) {
    // SAFETY: GroupedFn's contract covers bias, scales, residual and output at the pixels' places.
    unsafe {
        let bias = I::load(args.bias.cast());
        for p in 0..P {
            let (sum, to) = (I::add(sums[p], bias), args.output.add(at[p]));
            if args.epilogue.store == Store::Sums {
                I::store_lanes(sum, to.cast());
                continue;
            }
            let residual = if args.residual.is_null() { args.residual } else { args.residual.add(at[p]) };
            let x = scaled::<I>(sum, I::Float::load(args.scales), residual, &args.epilogue);
            if args.epilogue.store == Store::U8 {
                I::narrow(to_bytes::<I>(x, I::splat(args.epilogue.zero)), to.cast());
            } else {
                x.store(to);
            }
        }
    }
}

impl<I: Int8> Channelwise for Bytes<I> {
    type Value = I::Lanes;
    type Sums = I::Lanes;
    const REGISTERS: usize = <I::Float as F32x16>::REGISTERS;
    // What is read is widened first.
    const OPERANDS_IN_MEMORY: bool = false;
    #[inline(always)]
    unsafe fn zero() -> I::Lanes {
        // SAFETY: the trait's contract gives the instruction set, here and below, and the pointers.
        unsafe { I::splat(0) }
    }
    #[inline(always)]
    unsafe fn value(p: *const f32) -> I::Lanes {
        // SAFETY: as above.
        unsafe { I::widen(p.cast()) }
    }
    #[inline(always)]
    unsafe fn weight(p: *const f32) -> I::Lanes {
        // SAFETY: as above.
        unsafe { I::load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread<const G: usize>(value: I::Lanes, j: usize) -> I::Lanes {
        // SAFETY: as above.
        unsafe { I::spread_lanes::<G>(value, j) }
    }
    #[inline(always)]
    unsafe fn multiply_add(weight: I::Lanes, value: I::Lanes, sums: I::Lanes) -> I::Lanes {
        // SAFETY: as above.
        unsafe { I::multiply_add_lanes(weight, value, sums) }
    }
    #[inline(always)]
    unsafe fn finish<const P: usize>(args: &GroupedArgs, sums: &[I::Lanes; P], at: [usize; P]) {
        // SAFETY: GroupedFn's contract is the caller's.
        unsafe { finish_row::<I, P>(args, sums, at) }
    }
}
