//! A row of output pixels of a convolution whose groups are narrow: depthwise, where each lane is a channel with a kernel of its own,
//! and groups of 4 or 8 channels, where a lane's inputs are the lanes of its group in the same block.
//!
//! Bound, depthwise: a tap is one multiply-add and one load, so loads are the limit, at half the multiply-adds' rate. Where KW and
//! the stride are known to the compiler each input pixel is loaded once for all the outputs of a tile that read it: 8 outputs of a
//! 3-wide kernel take 10 loads a kernel row instead of 24, and the multiply-adds are the limit.
//! Bound, groups of G: a tap is G multiply-adds and G shuffles of one load, where the register tile of other convolutions would do
//! 16 multiply-adds, most of them by zero.
//!
//! Order of accumulation, for every output: taps in order (kh, kw), within them channels of the group, one FMA chain from 0.

use super::tile::Epilogue;
use crate::simd::F32x16;

/// How lanes are multiplied where each is a channel.
///
/// # Safety
/// Every method may be called only where the processor has the instruction set of the implementing type. Pointers need not be
/// aligned, but must be valid for sixteen elements.
pub(crate) trait Channelwise: Copy {
    /// Values of sixteen channels.
    type Value: Copy;
    /// Sums of sixteen channels.
    type Sums: Copy;
    /// Sums that the registers hold.
    const REGISTERS: usize;
    /// Whether a multiply-add can take a value from memory, which then needs no register.
    const OPERANDS_IN_MEMORY: bool;
    /// No sums.
    unsafe fn zero() -> Self::Sums;
    /// Reads inputs.
    unsafe fn value(p: *const f32) -> Self::Value;
    /// Reads sixteen words, a weight each.
    unsafe fn weight(p: *const f32) -> Self::Value;
    /// Gives each lane the `j`-th lane of its group of G neighbours: G is 4 or 8, j below it.
    unsafe fn spread<const G: usize>(value: Self::Value, j: usize) -> Self::Value;
    /// Adds the products to the sums.
    unsafe fn multiply_add(weight: Self::Value, value: Self::Value, sums: Self::Sums) -> Self::Sums;
    /// The epilogue of P pixels and their only store: `at` says where, in the output and the residual.
    unsafe fn finish<const P: usize>(args: &GroupedArgs, sums: &[Self::Sums; P], at: [usize; P]);
}

impl<V: F32x16> Channelwise for V {
    type Value = V;
    type Sums = V;
    const REGISTERS: usize = <V as F32x16>::REGISTERS;
    const OPERANDS_IN_MEMORY: bool = <V as F32x16>::OPERANDS_IN_MEMORY;
    #[inline(always)]
    unsafe fn zero() -> V {
        // SAFETY: the trait's contract gives the instruction set, here and below, and the pointers.
        unsafe { V::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn value(p: *const f32) -> V {
        // SAFETY: as above.
        unsafe { V::load(p) }
    }
    #[inline(always)]
    unsafe fn weight(p: *const f32) -> V {
        // SAFETY: as above.
        unsafe { V::load(p) }
    }
    #[inline(always)]
    unsafe fn spread<const G: usize>(value: V, j: usize) -> V {
        // SAFETY: as above.
        unsafe { <V as F32x16>::spread::<G>(value, j) }
    }
    #[inline(always)]
    unsafe fn multiply_add(weight: V, value: V, sums: V) -> V {
        // SAFETY: as above.
        unsafe { weight.fma(value, sums) }
    }
    #[inline(always)]
    unsafe fn finish<const P: usize>(args: &GroupedArgs, sums: &[V; P], at: [usize; P]) {
        // SAFETY: GroupedFn's contract covers bias, residual and output at the pixels' places.
        unsafe {
            let (low, high) = (V::splat(args.epilogue.clamp.0), V::splat(args.epilogue.clamp.1));
            let bias = V::load(args.bias);
            for p in 0..P {
                let mut x = sums[p].add(bias);
                if !args.residual.is_null() {
                    x = x.add(V::load(args.residual.add(at[p])));
                }
                x.at_least(low).at_most(high).store(args.output.add(at[p]));
            }
        }
    }
}

/// The row kernels of one format and instruction set.
#[derive(Clone, Copy)]
pub(crate) struct GroupedKernels {
    /// Depthwise rows of any shape.
    pub depthwise_any: GroupedFn,
    /// Depthwise rows, in the order of [`SHAPES`]; none where it is not worth the code.
    pub depthwise_shaped: &'static [GroupedFn],
    /// Rows of groups of channels, in the order of [`GROUPS`].
    pub groups: [GroupedFn; GROUPS.len()],
}

/// Widths of depthwise kernels and strides along W that have a row kernel of their own.
pub(crate) const SHAPES: [(usize, usize); 4] = [(3, 1), (3, 2), (5, 1), (5, 2)];

/// Widths of groups, more than 1, that have a row kernel.
pub(crate) const GROUPS: [usize; 2] = [4, 8];

/// Most output pixels of a tile.
pub(crate) const TILE: usize = 8;

/// A row of output pixels of one block of channels. Offsets and strides are in words.
pub(crate) struct GroupedArgs {
    /// First tap of the first pixel.
    pub input: *const f32,
    /// Offset of each tap from a pixel's first, `[kh][kw]`.
    pub taps: *const usize,
    /// Rows of the kernel.
    pub kh: usize,
    /// Columns of the kernel.
    pub kw: usize,
    /// From a pixel's first tap to that of the next.
    pub step: usize,
    /// Output pixels.
    pub count: usize,
    /// `[kh][kw][G][16]`, with G channels in a group: 1 for a depthwise convolution.
    pub weights: *const f32,
    /// 16 values.
    pub bias: *const f32,
    /// Where a residual is read from, pixel after pixel, or null.
    pub residual: *const f32,
    /// Where outputs are written, pixel after pixel; may be the residual's own place.
    pub output: *mut f32,
    /// What is done to the sums.
    pub epilogue: Epilogue,
    /// Of products of bytes: 16 values that the sums are multiplied by.
    pub scales: *const f32,
}

/// A kernel over a row of output pixels.
///
/// # Safety
/// The processor has the instruction set; every pointer in the arguments is valid for what the row touches: reads of `input` at
/// `p · step + taps[t] + 0..16`, of `weights` and `bias`, of 16 elements of `residual` at each pixel and writes of `output` there;
/// no other thread writes any of them meanwhile. A kernel for a shape of [`SHAPES`] is given arguments of that shape: `kw`, and a
/// step of as many pixels, whose taps along a row are neighbours.
pub(crate) type GroupedFn = unsafe fn(&GroupedArgs);

/// Depthwise, any kernel, stride and dilation.
///
/// # Safety
/// As [`GroupedFn`] says.
#[inline(always)]
pub(crate) unsafe fn any<V: Channelwise>(args: &GroupedArgs) {
    // SAFETY: the caller keeps GroupedFn's contract.
    unsafe { tiles::<V, Depthwise>(args) }
}

/// Depthwise, a kernel KW wide with stride S along W and no dilation along W.
///
/// # Safety
/// As [`GroupedFn`] says.
#[inline(always)]
pub(crate) unsafe fn shaped<V: Channelwise, const KW: usize, const S: usize>(args: &GroupedArgs) {
    // SAFETY: the caller keeps GroupedFn's contract.
    unsafe { tiles::<V, Shaped<KW, S>>(args) }
}

/// Groups of G channels, any kernel, stride and dilation.
///
/// # Safety
/// As [`GroupedFn`] says.
#[inline(always)]
pub(crate) unsafe fn groups<V: Channelwise, const G: usize>(args: &GroupedArgs) {
    // SAFETY: the caller keeps GroupedFn's contract.
    unsafe { tiles::<V, Groups<G>>(args) }
}

/// How P pixels are summed up.
trait Taps<V: Channelwise> {
    /// Pixels of a tile: as many as keep their sums, what they read and their weights in registers, which is seen in the compiled code
    /// (`tools/main_loops.py`).
    const TILE: usize;

    /// The sums of P pixels, the first tap of the first being at `origin`.
    ///
    /// # Safety
    /// As [`GroupedFn`] says, for these pixels.
    unsafe fn sum<const P: usize>(args: &GroupedArgs, origin: *const f32) -> [V::Sums; P];
}

struct Depthwise;
struct Shaped<const KW: usize, const S: usize>;
struct Groups<const G: usize>;

impl<V: Channelwise> Taps<V> for Depthwise {
    const TILE: usize = if V::REGISTERS >= 32 { 8 } else { 4 };

    #[inline(always)]
    unsafe fn sum<const P: usize>(args: &GroupedArgs, origin: *const f32) -> [V::Sums; P] {
        // SAFETY: the caller keeps GroupedFn's contract for these pixels.
        unsafe {
            let mut acc = [V::zero(); P];
            for t in 0..args.kh * args.kw {
                let weight = V::weight(args.weights.add(t * 16));
                let from = origin.add(*args.taps.add(t));
                for p in 0..P {
                    acc[p] = V::multiply_add(weight, V::value(from.add(p * args.step)), acc[p]);
                }
            }
            acc
        }
    }
}

impl<V: Channelwise, const KW: usize, const S: usize> Taps<V> for Shaped<KW, S> {
    const TILE: usize = match (V::REGISTERS, V::OPERANDS_IN_MEMORY, KW, S) {
        (32.., ..) => 8,
        (_, true, 3, 2) | (_, _, _, 1) => 4,
        _ => 3,
    };

    #[inline(always)]
    unsafe fn sum<const P: usize>(args: &GroupedArgs, origin: *const f32) -> [V::Sums; P] {
        // SAFETY: the caller keeps GroupedFn's contract for these pixels.
        unsafe {
            let mut acc = [V::zero(); P];
            for kh in 0..args.kh {
                let from = origin.add(*args.taps.add(kh * KW));
                let weights = args.weights.add(kh * KW * 16);
                let mut row = [V::weight(weights); KW];
                // The columns that the pixel reads; it shares all but S of them with the one before.
                let mut window = [V::value(from); KW];
                for kw in 1..KW {
                    row[kw] = V::weight(weights.add(kw * 16));
                    window[kw] = V::value(from.add(kw * 16));
                }
                for p in 0..P {
                    if p > 0 {
                        for kw in 0..KW {
                            let shared = kw + S < KW;
                            window[kw] = if shared { window[kw + S] } else { V::value(from.add((p * S + kw) * 16)) };
                        }
                    }
                    for kw in 0..KW {
                        acc[p] = V::multiply_add(row[kw], window[kw], acc[p]);
                    }
                }
            }
            acc
        }
    }
}

impl<V: Channelwise, const G: usize> Taps<V> for Groups<G> {
    const TILE: usize = match (V::REGISTERS, V::OPERANDS_IN_MEMORY, G) {
        (32.., _, 4) => 8,
        (32.., ..) => 6,
        (_, true, 4) => 3,
        (_, true, _) => 4,
        (_, false, 4) => 2,
        _ => 3,
    };

    #[inline(always)]
    unsafe fn sum<const P: usize>(args: &GroupedArgs, origin: *const f32) -> [V::Sums; P] {
        // SAFETY: the caller keeps GroupedFn's contract for these pixels.
        unsafe {
            let mut acc = [V::zero(); P];
            for t in 0..args.kh * args.kw {
                let from = origin.add(*args.taps.add(t));
                let mut weights = [V::weight(args.weights.add(t * G * 16)); G];
                for j in 1..G {
                    weights[j] = V::weight(args.weights.add((t * G + j) * 16));
                }
                for p in 0..P {
                    let x = V::value(from.add(p * args.step));
                    for j in 0..G {
                        acc[p] = V::multiply_add(weights[j], V::spread::<G>(x, j), acc[p]);
                    }
                }
            }
            acc
        }
    }
}

/// Tiles of as many pixels as there are registers for, then one for the rest.
#[inline(always)]
unsafe fn tiles<V: Channelwise, T: Taps<V>>(args: &GroupedArgs) {
    // SAFETY: pixels below `count`, which GroupedFn's contract covers.
    unsafe {
        let mut pixel = 0;
        while pixel + T::TILE <= args.count {
            tile_of::<V, T>(args, pixel, T::TILE);
            pixel += T::TILE;
        }
        if pixel < args.count {
            tile_of::<V, T>(args, pixel, args.count - pixel);
        }
    }
}

/// A tile of `count` pixels from `pixel` on, at least one and no more than T's. Code for more is not made: it would spill.
#[inline(always)]
unsafe fn tile_of<V: Channelwise, T: Taps<V>>(args: &GroupedArgs, pixel: usize, count: usize) {
    const { assert!(0 < T::TILE && T::TILE <= TILE) };
    // SAFETY: the caller keeps GroupedFn's contract for these pixels.
    unsafe {
        match count {
            8 if T::TILE >= 8 => tile::<V, T, 8>(args, pixel),
            7 if T::TILE >= 7 => tile::<V, T, 7>(args, pixel),
            6 if T::TILE >= 6 => tile::<V, T, 6>(args, pixel),
            5 if T::TILE >= 5 => tile::<V, T, 5>(args, pixel),
            4 if T::TILE >= 4 => tile::<V, T, 4>(args, pixel),
            3 if T::TILE >= 3 => tile::<V, T, 3>(args, pixel),
            2 if T::TILE >= 2 => tile::<V, T, 2>(args, pixel),
            _ => tile::<V, T, 1>(args, pixel),
        }
    }
}

/// P pixels from `pixel` on, epilogue included.
#[inline(always)]
unsafe fn tile<V: Channelwise, T: Taps<V>, const P: usize>(args: &GroupedArgs, pixel: usize) {
    // SAFETY: the caller keeps GroupedFn's contract for these pixels.
    unsafe {
        let acc: [V::Sums; P] = T::sum(args, args.input.add(pixel * args.step));
        let mut at = [0; P];
        for p in 0..P {
            at[p] = (pixel + p) * 16;
        }
        V::finish(args, &acc, at);
    }
}
