//! The register tile: up to [`MAX_PIXELS`] output pixels times B blocks of 16 output channels, all of K, epilogue included.
//!
//! K is a list of *segments*: at `segment` elements from a pixel's origin stand `run` floats, one for each step of K. Over
//! NCHW16c a segment is one (input block, kh, kw) and `run` is 16; over NCHW planes it is one (c, kh) and `run` is KW; over
//! im2col rows the segments lie one behind the other. A pixel's origin is any offset, so stride, dilation, the wrap from one
//! row of the image to the next, and from one image to the next, are nothing special here.
//!
//! Bound: a step of K is P·B fused multiply-adds for P + B loads. 6×4 blocks is 24 to 10: on a core with one 64-byte FMA
//! and one 64-byte load a cycle, the FMA unit is the limit.
//!
//! Order of accumulation, for every output: segments in order, one FMA chain from 0 for each chunk of segments; chunk sums
//! are added in order. Chunks bound the rounding error of a long K (Higham, Accuracy and Stability of Numerical Algorithms,
//! section 4.2: blocked summation).

use crate::simd::F32x16;

/// Pixels that work is shared out by: those of the tile with most blocks.
pub(crate) const PIXELS: usize = 6;

/// Most pixels of a tile: one with fewer blocks has registers for more.
pub(crate) const MAX_PIXELS: usize = 12;

/// Most accumulators of a tile, of 16 channels each.
pub(crate) const MAX_ACCUMULATORS: usize = 24;

/// Pixels of the next tile where `left` are left and it may have `widest`: the last few tiles are dealt out evenly, since one of a
/// single pixel costs as much as one of two.
pub(crate) fn tile_pixels(left: usize, widest: usize) -> usize {
    if left >= 8 * widest { widest } else { left.div_ceil(left.div_ceil(widest)) }
}

/// Most blocks of a tile on any instruction set.
pub(crate) const MAX_BLOCKS: usize = 4;

/// What a register tile reads and writes. Offsets and strides are in elements.
pub(crate) struct TileArgs {
    /// Where offsets of pixels count from.
    pub input: *const f32,
    /// Offset of each pixel's origin.
    pub pixels: [usize; MAX_PIXELS],
    /// Offset of each segment from a pixel's origin.
    pub segments: *const usize,
    /// Number of segments; at least 1.
    pub segment_count: usize,
    /// Segments in a chunk; at least 1.
    pub chunk: usize,
    /// Steps of K in a segment.
    pub run: usize,
    /// Where K ends, this many segments of 16 steps are of a block of channels that is not full, and their weights zero behind
    pub tail_segments: usize,
    /// this many steps.
    pub tail_run: usize,
    /// `[segment][run][B·16]`
    pub weights: *const f32,
    /// B·16 values.
    pub bias: *const f32,
    /// Where a residual is read from, or null.
    pub residual: *const f32,
    /// Offset of each pixel in the residual.
    pub residual_pixels: [usize; MAX_PIXELS],
    /// From a block of 16 channels to the next in the residual.
    pub residual_block: usize,
    /// Where outputs are written.
    pub output: *mut f32,
    /// Offset of each pixel in the output.
    pub output_pixels: [usize; MAX_PIXELS],
    /// From a block of 16 channels to the next in the output.
    pub output_block: usize,
    /// Bounds of the activation: −∞ and +∞ for none.
    pub clamp: (f32, f32),
    /// The first of the cache lines to ask for meanwhile; any address.
    pub ahead: *const f32,
    /// How many of them in each segment.
    pub ahead_lines: usize,
    /// `P · B · 16` elements for chunk sums.
    pub sums: *mut f32,
    /// Whether K begins with these segments. If not, the sums of what came before are in `sums`.
    pub begins: bool,
    /// Whether K ends with these segments. If not, the results are the sums so far, and go to `sums`.
    pub ends: bool,
}

/// A register tile of some number of pixels and blocks.
///
/// # Safety
/// The processor has the instruction set; every pointer in the arguments is valid for what the tile touches:
/// reads of `input` at `pixels[p] + segments[s] + 0..run`, of `weights`, `bias`, `residual`, and
/// writes of 16 elements at `output_pixels[p] + b · output_block`; no other thread writes any of them meanwhile.
pub(crate) type TileFn = unsafe fn(&TileArgs);

/// Convolution tile of P pixels × B blocks.
///
/// # Safety
/// As [`TileFn`] says.
#[inline(always)]
pub(crate) unsafe fn conv_tile<V: F32x16, const P: usize, const B: usize>(args: &TileArgs) {
    // SAFETY: the caller keeps TileFn's contract, which is that of every load and store below.
    unsafe {
        let mut origins = [args.input; P];
        for p in 0..P {
            origins[p] = args.input.add(args.pixels[p]);
        }
        let mut weights = args.weights;
        let mut acc = [[V::splat(0.0); P]; B];
        let full = if args.ends { args.segment_count.saturating_sub(args.tail_segments) } else { args.segment_count };
        let mut segment = 0;
        let mut line = args.ahead;
        loop {
            let end = args.segment_count.min(segment + args.chunk);
            for b in 0..B {
                for p in 0..P {
                    acc[b][p] = V::splat(0.0);
                }
            }
            let first = segment == 0 && args.begins;
            if args.run == 16 {
                while segment < end {
                    let offset = *args.segments.add(segment);
                    // The channels after next lie in another plane, where no hardware looks ahead.
                    let ahead = *args.segments.add((segment + 2).min(args.segment_count - 1));
                    for p in 0..P {
                        V::prefetch(origins[p].wrapping_add(ahead));
                    }
                    for _ in 0..args.ahead_lines {
                        V::prefetch_far(line);
                        line = line.wrapping_add(16);
                    }
                    if segment < full {
                        for k in 0..16 {
                            step::<V, P, B>(&origins, offset + k, weights.add(k * B * 16), &mut acc);
                        }
                    } else {
                        for k in 0..args.tail_run {
                            step::<V, P, B>(&origins, offset + k, weights.add(k * B * 16), &mut acc);
                        }
                    }
                    weights = weights.add(16 * B * 16);
                    segment += 1;
                }
            } else {
                while segment < end {
                    let offset = *args.segments.add(segment);
                    for k in 0..args.run {
                        step::<V, P, B>(&origins, offset + k, weights, &mut acc);
                        weights = weights.add(B * 16);
                    }
                    segment += 1;
                }
            }
            if !first {
                for b in 0..B {
                    for p in 0..P {
                        acc[b][p] = V::load(args.sums.add((b * P + p) * 16)).add(acc[b][p]);
                    }
                }
            }
            let done = segment == args.segment_count;
            if done && args.ends {
                break;
            }
            for b in 0..B {
                for p in 0..P {
                    acc[b][p].store(args.sums.add((b * P + p) * 16));
                }
            }
            if done {
                return;
            }
        }
        finish::<V, P, B>(args, &acc);
    }
}

/// One step of K: a column of weights times one input element of each pixel.
#[inline(always)]
unsafe fn step<V: F32x16, const P: usize, const B: usize>(
    origins: &[*const f32; P],
    offset: usize,
    weights: *const f32,
    acc: &mut [[V; P]; B],
) {
    // SAFETY: called from `conv_tile` alone, with offsets and weights that TileFn's contract covers.
    unsafe {
        let mut column = [V::splat(0.0); B];
        for b in 0..B {
            column[b] = V::load(weights.add(b * 16));
        }
        for p in 0..P {
            let x = V::splat(*origins[p].add(offset));
            for b in 0..B {
                acc[b][p] = column[b].fma(x, acc[b][p]);
            }
        }
    }
}

/// The epilogue, in registers: bias, residual, activation, then the only store.
#[inline(always)]
unsafe fn finish<V: F32x16, const P: usize, const B: usize>(args: &TileArgs, acc: &[[V; P]; B]) {
    // SAFETY: called from the tiles alone; TileFn's contract covers bias, residual and output.
    unsafe {
        let low = V::splat(args.clamp.0);
        let high = V::splat(args.clamp.1);
        for b in 0..B {
            let bias = V::load(args.bias.add(b * 16));
            for p in 0..P {
                let mut x = acc[b][p].add(bias);
                if !args.residual.is_null() {
                    x = x.add(V::load(args.residual.add(args.residual_pixels[p] + b * args.residual_block)));
                }
                x.at_least(low).at_most(high).store(args.output.add(args.output_pixels[p] + b * args.output_block));
            }
        }
    }
}
