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

use crate::simd::F32x16;

/// Widths of depthwise kernels and strides along W that have a row kernel of their own.
pub(crate) const SHAPES: [(usize, usize); 4] = [(3, 1), (3, 2), (5, 1), (5, 2)];

/// Widths of groups, more than 1, that have a row kernel.
pub(crate) const GROUPS: [usize; 2] = [4, 8];

/// Most output pixels of a tile.
pub(crate) const TILE: usize = 8;

/// A row of output pixels of one block of channels. Offsets and strides are in elements.
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
    /// Bounds of the activation: −∞ and +∞ for none.
    pub clamp: (f32, f32),
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
pub(crate) unsafe fn any<V: F32x16>(args: &GroupedArgs) {
    // SAFETY: the caller keeps GroupedFn's contract.
    unsafe { tiles::<V, Depthwise>(args) }
}

/// Depthwise, a kernel KW wide with stride S along W and no dilation along W.
///
/// # Safety
/// As [`GroupedFn`] says.
#[inline(always)]
pub(crate) unsafe fn shaped<V: F32x16, const KW: usize, const S: usize>(args: &GroupedArgs) {
    // SAFETY: the caller keeps GroupedFn's contract.
    unsafe { tiles::<V, Shaped<KW, S>>(args) }
}

/// Groups of G channels, any kernel, stride and dilation.
///
/// # Safety
/// As [`GroupedFn`] says.
#[inline(always)]
pub(crate) unsafe fn groups<V: F32x16, const G: usize>(args: &GroupedArgs) {
    // SAFETY: the caller keeps GroupedFn's contract.
    unsafe { tiles::<V, Groups<G>>(args) }
}

/// How P pixels are summed up.
trait Taps<V: F32x16> {
    /// Pixels of a tile: as many as keep their sums, what they read and their weights in registers, which is seen in the compiled code
    /// (`tools/main_loops.py`).
    const TILE: usize;

    /// The sums of P pixels, the first tap of the first being at `origin`.
    ///
    /// # Safety
    /// As [`GroupedFn`] says, for these pixels.
    unsafe fn sum<const P: usize>(args: &GroupedArgs, origin: *const f32) -> [V; P];
}

struct Depthwise;
struct Shaped<const KW: usize, const S: usize>;
struct Groups<const G: usize>;

impl<V: F32x16> Taps<V> for Depthwise {
    const TILE: usize = if V::REGISTERS >= 32 { 8 } else { 4 };

    #[inline(always)]
    unsafe fn sum<const P: usize>(args: &GroupedArgs, origin: *const f32) -> [V; P] {
        // SAFETY: the caller keeps GroupedFn's contract for these pixels.
        unsafe {
            let mut acc = [V::splat(0.0); P];
            for t in 0..args.kh * args.kw {
                let weight = V::load(args.weights.add(t * 16));
                let from = origin.add(*args.taps.add(t));
                for p in 0..P {
                    acc[p] = weight.fma(V::load(from.add(p * args.step)), acc[p]);
                }
            }
            acc
        }
    }
}

impl<V: F32x16, const KW: usize, const S: usize> Taps<V> for Shaped<KW, S> {
    const TILE: usize = match (V::REGISTERS, V::OPERANDS_IN_MEMORY, KW, S) {
        (32.., ..) => 8,
        (_, true, 3, 2) | (_, _, _, 1) => 4,
        _ => 3,
    };

    #[inline(always)]
    unsafe fn sum<const P: usize>(args: &GroupedArgs, origin: *const f32) -> [V; P] {
        // SAFETY: the caller keeps GroupedFn's contract for these pixels.
        unsafe {
            let mut acc = [V::splat(0.0); P];
            for kh in 0..args.kh {
                let from = origin.add(*args.taps.add(kh * KW));
                let weights = args.weights.add(kh * KW * 16);
                let mut row = [V::splat(0.0); KW];
                // The columns that the pixel reads; it shares all but S of them with the one before.
                let mut window = [V::splat(0.0); KW];
                for kw in 0..KW {
                    row[kw] = V::load(weights.add(kw * 16));
                    window[kw] = V::load(from.add(kw * 16));
                }
                for p in 0..P {
                    if p > 0 {
                        for kw in 0..KW {
                            let shared = kw + S < KW;
                            window[kw] = if shared { window[kw + S] } else { V::load(from.add((p * S + kw) * 16)) };
                        }
                    }
                    for kw in 0..KW {
                        acc[p] = row[kw].fma(window[kw], acc[p]);
                    }
                }
            }
            acc
        }
    }
}

impl<V: F32x16, const G: usize> Taps<V> for Groups<G> {
    const TILE: usize = match (V::REGISTERS, V::OPERANDS_IN_MEMORY, G) {
        (32.., _, 4) => 8,
        (32.., ..) => 6,
        (_, true, 4) => 3,
        (_, true, _) => 4,
        (_, false, 4) => 2,
        _ => 3,
    };

    #[inline(always)]
    unsafe fn sum<const P: usize>(args: &GroupedArgs, origin: *const f32) -> [V; P] {
        // SAFETY: the caller keeps GroupedFn's contract for these pixels.
        unsafe {
            let mut acc = [V::splat(0.0); P];
            for t in 0..args.kh * args.kw {
                let from = origin.add(*args.taps.add(t));
                let mut weights = [V::splat(0.0); G];
                for j in 0..G {
                    weights[j] = V::load(args.weights.add((t * G + j) * 16));
                }
                for p in 0..P {
                    let x = V::load(from.add(p * args.step));
                    for j in 0..G {
                        acc[p] = weights[j].fma(x.spread::<G>(j), acc[p]);
                    }
                }
            }
            acc
        }
    }
}

/// Tiles of as many pixels as there are registers for, then one for the rest.
#[inline(always)]
unsafe fn tiles<V: F32x16, T: Taps<V>>(args: &GroupedArgs) {
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
unsafe fn tile_of<V: F32x16, T: Taps<V>>(args: &GroupedArgs, pixel: usize, count: usize) {
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
unsafe fn tile<V: F32x16, T: Taps<V>, const P: usize>(args: &GroupedArgs, pixel: usize) {
    // SAFETY: the caller keeps GroupedFn's contract for these pixels.
    unsafe {
        let acc: [V; P] = T::sum(args, args.input.add(pixel * args.step));
        let (low, high, bias) = (V::splat(args.clamp.0), V::splat(args.clamp.1), V::load(args.bias));
        for p in 0..P {
            let at = (pixel + p) * 16;
            let mut x = acc[p].add(bias);
            if !args.residual.is_null() {
                x = x.add(V::load(args.residual.add(at)));
            }
            x.at_least(low).at_most(high).store(args.output.add(at));
        }
    }
}
