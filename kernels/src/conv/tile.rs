//! The register tile: up to [`MAX_PIXELS`] output pixels times B blocks of 16 output channels, all of K, epilogue included.
//!
//! K is a list of *segments*: at `segment` words from a pixel's origin stand `run` words, one for each step of K. Over blocked
//! layouts a segment is one (plane, kh, kw) and `run` is 16; over planes of one word a pixel it is one (plane, kh) and `run` is KW;
//! over im2col rows the segments lie one behind the other. A pixel's origin is any offset, so stride, dilation, the wrap from one
//! row of the image to the next, and from one image to the next, are nothing special here.
//!
//! A word is one f32, two bf16 or four u8 of neighbouring channels; [`Products`] says how a column of such words is multiplied by
//! one, and what is done to the sums in the end.
//!
//! Bound: a step of K is P·B multiply-adds for P + B loads, in every format. 6×4 blocks is 24 to 10: on a core with one 64-byte
//! FMA (or dot product of words) and one 64-byte load a cycle, and with two of each, the multiply-adds are the limit.
//!
//! Order of accumulation of f32, for every output: segments in order, one FMA chain from 0 for each chunk of segments; chunk sums
//! are added in order. Chunks bound the rounding error of a long K (Higham, Accuracy and Stability of Numerical Algorithms,
//! section 4.2: blocked summation).

use crate::BLOCK;
use crate::simd::F32x16;

/// How words are multiplied and summed up in a register tile. A pointer to words is one to f32, whatever the words hold.
///
/// # Safety
/// Every method may be called only where the processor has the instruction set of the implementing type. Pointers need not be
/// aligned, but must be valid for sixteen words where nothing else is said.
pub(crate) trait Products: Copy {
    /// Sixteen sums, one for each output channel of a block.
    type Sums: Copy;
    /// A word of weights for each of sixteen output channels.
    type Column: Copy;
    /// A word of the input, in all lanes.
    type Spread: Copy;
    /// Whether K is summed up in chunks. If not, a chunk is never shorter than the segments.
    const CHUNKS: bool = true;
    /// No sums.
    unsafe fn zero() -> Self::Sums;
    /// What sums begin with: the bias, where adding it first changes nothing.
    unsafe fn start(bias: *const f32) -> Self::Sums;
    /// Reads weights.
    unsafe fn column(p: *const f32) -> Self::Column;
    /// Reads one word.
    unsafe fn spread(p: *const f32) -> Self::Spread;
    /// Adds the products of the elements of two words to the sums.
    unsafe fn multiply_add(column: Self::Column, x: Self::Spread, sums: Self::Sums) -> Self::Sums;
    /// The same sums, which the compiler is to have in registers here: not elsewhere meanwhile because of what follows.
    #[inline(always)]
    unsafe fn hold(sums: Self::Sums) -> Self::Sums {
        sums
    }
    /// Reads sums that wait.
    unsafe fn load_sums(p: *const f32) -> Self::Sums;
    /// Lets sums wait.
    unsafe fn store_sums(sums: Self::Sums, p: *mut f32);
    /// Sum of sums.
    unsafe fn add_sums(a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// Asks for the cache line at an address, which may be any: nothing is read.
    unsafe fn prefetch(p: *const f32);
    /// Likewise, but for the second level of cache: it is needed later.
    unsafe fn prefetch_far(p: *const f32);
    /// The epilogue of P pixels from `first` on, in registers, then the only store: as [`TileFn`] says of outputs and of what is read for
    /// them. Or the sums wait in `waiting` for the kernel to do the same, and it returns true.
    unsafe fn finish<const P: usize, const B: usize>(args: &TileArgs, first: usize, waiting: *mut f32, sums: &[[Self::Sums; P]; B])
    -> bool;
}

/// Pixels that work is shared out by where tiles are of vectors: those of the tile with most blocks.
pub(crate) const PIXELS: usize = 6;

/// A number of pixels that tiles of vectors divide evenly, whatever their width.
pub(crate) const WHOLE_TILES: usize = 24;

/// Most pixels of a tile.
pub(crate) const MAX_PIXELS: usize = 32;

/// Pixels that are at least enough for one call of a kernel, where their places are multiples of a pitch.
pub(crate) const BATCH: usize = 2 * WHOLE_TILES;

/// Most accumulators of a tile, of 16 channels each.
pub(crate) const MAX_ACCUMULATORS: usize = MAX_PIXELS * MAX_BLOCKS;

/// Pixels of the next tile where `left` are left and it may have `widest`, and how many tiles have as many: the last few are dealt out
/// evenly, since one of a single pixel costs as much as one of two.
pub(crate) fn tile_pixels(left: usize, widest: usize) -> (usize, usize) {
    if left >= 8 * widest {
        return (widest, left / widest - 7);
    }
    let tiles = left.div_ceil(widest);
    let pixels = left.div_ceil(tiles);
    (pixels, left - (pixels - 1) * tiles)
}

/// The two runs that pixels which all lie one step apart are.
pub(crate) fn two_runs(pixels: usize) -> [usize; 2] {
    if pixels > RUN { [pixels.div_ceil(2), pixels / 2] } else { [pixels, 0] }
}

/// Most blocks of a tile on any instruction set.
pub(crate) const MAX_BLOCKS: usize = 4;

/// What is done to sums before they are stored, but for where: the part that depends on the format.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue {
    /// Bounds of the activation: −∞ and +∞ for none. Of bytes, those of the value before the zero point is added.
    pub clamp: (f32, f32),
    /// What is stored.
    pub store: Store,
    /// Of stored bytes: the zero point.
    pub zero: i32,
    /// Of stored bytes: that the bounds are those of a byte, and that values before them are no further from zero than 2³⁰.
    pub saturates: bool,
    /// Of a residual of bytes: what each is multiplied by.
    pub residual_scale: f32,
    /// And what is then added: less its zero point, scaled.
    pub residual_shift: f32,
}

/// What is stored: of f32, these; of bf16, F32 or Bf16; of bytes, any but Bf16.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Store {
    F32,
    Bf16,
    U8,
    /// Sums of products of bytes as they are: 32-bit integers.
    Sums,
}

impl Epilogue {
    /// Of f32.
    pub fn f32(clamp: (f32, f32)) -> Epilogue {
        Epilogue { clamp, store: Store::F32, zero: 0, saturates: false, residual_scale: 0.0, residual_shift: 0.0 }
    }
}

/// What a register tile reads and writes. Offsets and strides are in words.
pub(crate) struct TileArgs {
    /// Where offsets of pixels count from.
    pub input: *const f32,
    /// Tiles of as many pixels as the kernel's, one after the other, that pass over the same weights; one where it reads by the run.
    pub tiles: usize,
    /// Offset of each pixel's origin; as many as the tiles have pixels, as below.
    pub pixels: *const usize,
    /// For tiles that read by the run: the pixels are two runs, the second of none perhaps; those of a run lie
    pub runs: [usize; 2],
    /// this far apart.
    pub step: usize,
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
    pub residual_pixels: *const usize,
    /// Offset of each block of 16 channels in the residual.
    pub residual_blocks: [usize; MAX_BLOCKS],
    /// Where outputs are written.
    pub output: *mut f32,
    /// Offset of each pixel in the output.
    pub output_pixels: *const usize,
    /// Offset of each block of 16 channels in the output.
    pub output_blocks: [usize; MAX_BLOCKS],
    /// What is done to the sums.
    pub epilogue: Epilogue,
    /// Of bytes: that they saturate, and the four blocks of a pixel are a cache line, in the output as in a residual; and that the zero
    /// point is 0 if there is a residual.
    pub lines: bool,
    /// Of products of bytes: B·16 values that the sums are multiplied by.
    pub scales: *const f32,
    /// The first of the cache lines to ask for meanwhile; any address.
    pub ahead: *const f32,
    /// How many of them in each segment,
    pub ahead_lines: usize,
    /// while the first so many tiles are computed.
    pub ahead_tiles: usize,
    /// Elements from a tile's first line to the next tile's.
    pub ahead_tile: usize,
    /// Elements from one of a segment's lines to the next,
    pub ahead_stride: usize,
    /// and from the first of a segment to that of the next segment.
    pub ahead_step: usize,
    /// `P · B · 16` elements for chunk sums; where K does not begin and end with these segments, as many for each tile.
    pub sums: *mut f32,
    /// Whether K begins with these segments. If not, the sums of what came before are in `sums`.
    pub begins: bool,
    /// Whether K ends with these segments. If not, the results are the sums so far, and go to `sums`.
    pub ends: bool,
}

/// A register tile of some number of pixels and blocks.
///
/// # Safety
/// The processor has the instruction set, and [`TileRegisters`] were entered with the arguments; every pointer in the arguments is valid for what the tile touches:
/// reads of the offsets of its pixels, of `input` at `pixels[p] + segments[s] + 0..run`, of `weights`, `bias`, `scales`, `residual`, and
/// writes of 16 elements at `output_pixels[p] + output_blocks[b]`; no other thread writes any of them meanwhile. What is stored is
/// what the products' format can store.
pub(crate) type TileFn = unsafe fn(&TileArgs);

/// The register tiles of a table.
#[derive(Clone, Copy)]
pub(crate) struct Tiles {
    /// By blocks − 1, then pixels − 1.
    pub kernels: &'static [&'static [TileFn]],
    /// Of kernels that read pixels by the run.
    pub by_runs: Option<ByRuns>,
}

impl Tiles {
    pub const fn new(kernels: &'static [&'static [TileFn]]) -> Tiles {
        Tiles { kernels, by_runs: None }
    }
}

/// What goes with register tiles that read pixels by the run, in segments of at most 16 steps.
#[derive(Clone, Copy)]
pub(crate) struct ByRuns {
    /// Makes the registers of this thread those of tiles whose pixels are two such runs, of at most [`RUN`], and whose segments have so many
    /// steps.
    ///
    /// # Safety
    /// The processor has the kernels' instruction set.
    pub configure: unsafe fn([usize; 2], usize),
    /// Gives them back.
    ///
    /// # Safety
    /// As above.
    pub release: unsafe fn(),
    /// The kernels for longer segments.
    pub others: &'static [&'static [TileFn]],
}

/// Most pixels of a run.
pub(crate) const RUN: usize = MAX_PIXELS / 2;

/// The registers of this thread, while tiles that read by the run are computed; for other tiles it does nothing.
pub(crate) struct TileRegisters {
    by_runs: Option<ByRuns>,
    runs: [usize; 2],
}

impl TileRegisters {
    pub fn new(by_runs: Option<ByRuns>) -> TileRegisters {
        TileRegisters { by_runs, runs: [0; 2] }
    }

    /// Makes them those of the arguments' runs.
    #[inline(always)]
    pub fn enter(&mut self, args: &TileArgs) {
        if let Some(by_runs) = self.by_runs
            && self.runs != args.runs
        {
            self.runs = args.runs;
            assert!(args.runs.iter().all(|&run| run <= RUN) && args.run <= BLOCK);
            // SAFETY: nobody has tables but of instruction sets that are there; runs and segments are no longer than they may be.
            unsafe { (by_runs.configure)(args.runs, args.run) };
        }
    }
}

impl Drop for TileRegisters {
    fn drop(&mut self) {
        if let Some(by_runs) = self.by_runs {
            // SAFETY: as above.
            unsafe { (by_runs.release)() };
        }
    }
}

/// Convolution tiles of P pixels × B blocks, whose sums never wait.
///
/// # Safety
/// As [`TileFn`] says.
#[inline(always)]
pub(crate) unsafe fn conv_tile<A: Products, const P: usize, const B: usize>(args: &TileArgs) {
    // SAFETY: the caller keeps TileFn's contract.
    unsafe { conv_tile_then::<A, P, B>(args, |_, _| {}) }
}

/// Convolution tiles of P pixels × B blocks. `waiting` is called where the sums of P pixels, of which it is given the first, wait for
/// the kernel to finish them.
///
/// # Safety
/// As [`TileFn`] says.
#[inline(always)]
pub(crate) unsafe fn conv_tile_then<A: Products, const P: usize, const B: usize>(args: &TileArgs, waiting: impl Fn(usize, *mut f32)) {
    // SAFETY: the caller keeps TileFn's contract, which is that of every load and store below.
    unsafe {
        let last = args.segment_count - 1;
        let full = if args.ends { args.segment_count.saturating_sub(args.tail_segments) } else { args.segment_count };
        let mut sums = args.sums;
        let mut acc = [[A::zero(); P]; B];
        for tile in 0..args.tiles {
            let mut offset = *args.segments;
            // Where each pixel's segment begins.
            let mut at = [args.input; P];
            for p in 0..P {
                at[p] = args.input.wrapping_add(*args.pixels.add(tile * P + p)).wrapping_add(offset);
            }
            let mut weights = args.weights;
            let lines = if tile < args.ahead_tiles && args.run == 16 { args.ahead_lines } else { 0 };
            let mut line = args.ahead.wrapping_add(tile * args.ahead_tile);
            let mut segment = 0;
            let ended = loop {
                let end = if A::CHUNKS { args.segment_count.min(segment + args.chunk) } else { args.segment_count };
                let first = segment == 0 && args.begins;
                for b in 0..B {
                    let start = if first { A::start(args.bias.add(b * 16)) } else { A::zero() };
                    for p in 0..P {
                        acc[b][p] = start;
                    }
                }
                while segment < end {
                    // The channels after next lie in another plane, where no hardware looks ahead.
                    if args.run == 16 && segment + 1 < last {
                        let ahead = (*args.segments.add(segment + 2)).wrapping_sub(offset);
                        for p in 0..P {
                            A::prefetch(at[p].wrapping_add(ahead));
                        }
                    }
                    for i in 0..lines {
                        A::prefetch_far(line.wrapping_add(i * args.ahead_stride));
                    }
                    line = line.wrapping_add(args.ahead_step);
                    let steps = if segment < full { args.run } else { args.tail_run };
                    if steps == 16 {
                        // Small tiles are unrolled where this is known.
                        for k in 0..16 {
                            step::<A, P, B>(&at, k, weights.add(k * B * 16), &mut acc);
                        }
                    } else {
                        for k in 0..steps {
                            step::<A, P, B>(&at, k, weights.add(k * B * 16), &mut acc);
                        }
                    }
                    for b in 0..B {
                        for p in 0..P {
                            acc[b][p] = A::hold(acc[b][p]);
                        }
                    }
                    weights = weights.add(args.run * B * 16);
                    segment += 1;
                    let next = *args.segments.add(segment.min(last));
                    for p in 0..P {
                        at[p] = at[p].wrapping_add(next.wrapping_sub(offset));
                    }
                    offset = next;
                }
                if !first {
                    for b in 0..B {
                        for p in 0..P {
                            acc[b][p] = A::add_sums(A::load_sums(sums.add((b * P + p) * 16)), acc[b][p]);
                        }
                    }
                }
                let done = segment == args.segment_count;
                if done && args.ends {
                    break true;
                }
                for b in 0..B {
                    for p in 0..P {
                        A::store_sums(acc[b][p], sums.add((b * P + p) * 16));
                    }
                }
                if done {
                    break false;
                }
            };
            if ended && A::finish::<P, B>(args, tile * P, sums, &acc) {
                waiting(tile * P, sums);
            }
            if !(args.begins && args.ends) {
                sums = sums.add(P * B * 16);
            }
        }
    }
}

/// One step of K: a column of weights times one input word of each pixel.
#[inline(always)]
unsafe fn step<A: Products, const P: usize, const B: usize>(
    at: &[*const f32; P],
    k: usize,
    weights: *const f32,
    acc: &mut [[A::Sums; P]; B],
) {
    // SAFETY: called from `conv_tile` alone, with offsets and weights that TileFn's contract covers.
    unsafe {
        let mut column = [A::column(weights); B];
        for b in 1..B {
            column[b] = A::column(weights.add(b * 16));
        }
        for p in 0..P {
            let x = A::spread(at[p].add(k));
            for b in 0..B {
                acc[b][p] = A::multiply_add(column[b], x, acc[b][p]);
            }
        }
    }
}

impl<V: F32x16> Products for V {
    type Sums = V;
    type Column = V;
    type Spread = V;
    #[inline(always)]
    unsafe fn zero() -> V {
        // SAFETY: the trait's contract gives the instruction set, here and below, and the pointers.
        unsafe { V::splat(0.0) }
    }
    // Added last, where it rounds once with the whole sum.
    #[inline(always)]
    unsafe fn start(_: *const f32) -> V {
        // SAFETY: as above.
        unsafe { V::splat(0.0) }
    }
    #[inline(always)]
    unsafe fn column(p: *const f32) -> V {
        // SAFETY: as above.
        unsafe { V::load(p) }
    }
    #[inline(always)]
    unsafe fn spread(p: *const f32) -> V {
        // SAFETY: as above.
        unsafe { V::splat(*p) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: V, x: V, sums: V) -> V {
        // SAFETY: as above.
        unsafe { column.fma(x, sums) }
    }
    #[inline(always)]
    unsafe fn load_sums(p: *const f32) -> V {
        // SAFETY: as above.
        unsafe { V::load(p) }
    }
    #[inline(always)]
    unsafe fn store_sums(sums: V, p: *mut f32) {
        // SAFETY: as above.
        unsafe { sums.store(p) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: V, b: V) -> V {
        // SAFETY: as above.
        unsafe { a.add(b) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        // SAFETY: as above.
        unsafe { <V as F32x16>::prefetch(p) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        // SAFETY: as above.
        unsafe { <V as F32x16>::prefetch_far(p) }
    }
    /// Bias, residual, activation.
    #[inline(always)]
    unsafe fn finish<const P: usize, const B: usize>(args: &TileArgs, first: usize, _: *mut f32, acc: &[[V; P]; B]) -> bool {
        // SAFETY: TileFn's contract covers bias, residual and output.
        unsafe {
            let (outputs, residuals) = (args.output_pixels.add(first), args.residual_pixels.wrapping_add(first));
            let low = V::splat(args.epilogue.clamp.0);
            let high = V::splat(args.epilogue.clamp.1);
            for b in 0..B {
                let bias = V::load(args.bias.add(b * 16));
                for p in 0..P {
                    let mut x = acc[b][p].add(bias);
                    if !args.residual.is_null() {
                        let residual = V::load(args.residual.add(*residuals.add(p) + args.residual_blocks[b]));
                        x = x.add(residual);
                    }
                    x.at_least(low).at_most(high).store(args.output.add(*outputs.add(p) + args.output_blocks[b]));
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_dealt_out_to_tiles_evenly_at_the_end() {
        for widest in 1..=MAX_PIXELS {
            for all in 1..=20 * widest {
                let (mut left, mut sizes) = (all, Vec::new());
                while left > 0 {
                    let (pixels, tiles) = tile_pixels(left, widest);
                    assert!(pixels >= 1 && tiles >= 1 && pixels * tiles <= left, "{pixels} x {tiles} of {left}");
                    sizes.extend(std::iter::repeat_n(pixels, tiles));
                    left -= pixels * tiles;
                }
                assert_eq!(sizes.len(), all.div_ceil(widest), "{all} pixels, {widest} at most");
                let last = &sizes[sizes.len().saturating_sub(7)..];
                assert!(last.iter().max().unwrap() - last.iter().min().unwrap() <= 1, "{sizes:?}");
            }
        }
    }
}
