//! im2col + GEMM: for a block of pixels the K values of each are gathered into a row, then the register tile multiplies the
//! rows by the weights. It needs no halo and handles every shape; gathering costs a copy of KH·KW times the input.
//!
//! Chellapilla et al., High performance convolutional neural networks for document processing (2006), section 3, blocked as
//! [`crate::gemm`] is: rows of one chunk of a long K at a time, for as many pixels as stay in the level-2 cache beside a tile's weights of
//! that chunk. Sums wait in scratch memory for the next chunk.

use super::places::Places;
use super::segments::{OcTile, Segment};
use super::tile::{BATCH, TileRegisters, WHOLE_TILES, tile_pixels, two_runs};
use super::{BLOCK, Buffers, Conv, Sums};
use crate::cache::Caches;
use std::ops::Range;

/// Output channels whose sums wait at a time; the rows are gathered anew for the next.
const COLUMNS: usize = 512;

/// Steps of K that are gathered at once; of a longer K, one chunk at a time.
const WHOLE_K: usize = 1024;

/// Elements between two rows, less those of K: rows then do not fall into the same cache sets.
const SKEW: usize = 16;

/// Segments of a tile that are gathered at once.
fn at_once(conv: &Conv, tile: &OcTile) -> usize {
    let all = tile.segments.len();
    if all * conv.weights.run() <= WHOLE_K { all } else { tile.chunk.min(all) }
}

/// Elements from a row of gathered values to the next.
fn pitch(conv: &Conv) -> usize {
    let longest = conv.weights.tiles().iter().map(|t| at_once(conv, t)).max().unwrap_or(0);
    longest * conv.weights.run() + SKEW
}

/// Pixels whose rows take a third of the level-2 cache, and a number of them that the tiles divide evenly.
fn block_pixels(conv: &Conv) -> usize {
    let rows = Caches::get().l2 / 3 / (pitch(conv) * size_of::<f32>());
    let most = conv.pixels().next_multiple_of(WHOLE_TILES).min(10 * WHOLE_TILES);
    (rows / WHOLE_TILES * WHOLE_TILES).clamp(WHOLE_TILES, most)
}

/// Elements for the sums of a block of pixels.
fn sums_len(conv: &Conv) -> usize {
    let waits = conv.weights.tiles().iter().any(|t| at_once(conv, t) < t.segments.len());
    let columns: usize = conv.weights.tiles().iter().map(|t| t.blocks * BLOCK).sum();
    if waits { block_pixels(conv) * columns.min(COLUMNS) } else { 0 }
}

/// Elements of scratch memory for one thread.
pub(super) fn scratch_len(conv: &Conv) -> usize {
    block_pixels(conv) * pitch(conv) + sums_len(conv)
}

/// The first of the tiles that read the same K, and no more of them than have room for their sums, if those wait.
fn together(conv: &Conv, tiles: &[OcTile]) -> usize {
    let most = if at_once(conv, &tiles[0]) == tiles[0].segments.len() { usize::MAX } else { COLUMNS };
    let mut columns = 0;
    let fits = |tile: &&OcTile| {
        columns += tile.blocks * BLOCK;
        tile.segments == tiles[0].segments && columns <= most
    };
    tiles.iter().take_while(fits).count().max(1)
}

/// Computes the tiles of OC in `tiles` for the output pixels in `pixels`, numbered through all images.
pub(super) fn run(conv: &Conv, buffers: &Buffers<'_>, tiles: Range<usize>, pixels: Range<usize>) {
    let mut own = Sums::new();
    let mut args = conv.tile_args(buffers, &mut own);
    let mut prefetcher = conv.prefetcher(buffers.share, buffers.piece);
    let mut registers = TileRegisters::new(conv.weights.by_runs());
    let mut places = Places::new(false);
    let (run, pitch, block) = (conv.weights.run(), pitch(conv), block_pixels(conv));
    // SAFETY: `Conv::run` gives each thread `scratch_len` elements of its own.
    let scratch = unsafe { std::slice::from_raw_parts_mut(buffers.scratch, scratch_len(conv)) };
    let (rows, sums) = scratch.split_at_mut(block * pitch);
    let rows_of_tiles: [usize; BATCH] = std::array::from_fn(|i| i * pitch);
    (args.pixels, args.step) = (rows_of_tiles.as_ptr(), pitch);
    for start in pixels.clone().step_by(block) {
        let block = start..pixels.end.min(start + block);
        let mut left = &conv.weights.tiles()[tiles.clone()];
        while let Some(first) = left.first() {
            let (group, others) = left.split_at(together(conv, left));
            left = others;
            let segments = &conv.weights.segments()[first.segments.clone()];
            let at_once = at_once(conv, first);
            for part in (0..segments.len()).step_by(at_once) {
                let chunk = &segments[part..segments.len().min(part + at_once)];
                gather(conv, buffers.input, chunk, block.clone(), rows, pitch);
                let mut waiting = 0;
                for tile in group {
                    let width = tile.blocks * BLOCK;
                    conv.enter_tile(&mut args, buffers, tile);
                    args.segment_count = chunk.len();
                    args.weights = conv.weights.tile_weights(tile, 0)[part * run * width..].as_ptr();
                    args.begins = part == 0;
                    args.ends = part + chunk.len() == segments.len();
                    let kernels = conv.weights.conv_tile()[tile.blocks - 1];
                    let mut row = 0;
                    while row < block.len() {
                        let (count, tiles) = tile_pixels(block.len() - row, kernels.len());
                        // One where a tile reads by the run.
                        let tiles = if conv.line.is_some() { 1 } else { tiles.min(BATCH / count) };
                        let tiles = places.enter(&mut args, conv, block.start + row, count, tiles, pixels.end);
                        args.tiles = prefetcher.enter(&mut args, tiles);
                        args.input = rows[row * pitch..].as_ptr();
                        args.runs = two_runs(count);
                        registers.enter(&args);
                        args.sums = if at_once < segments.len() {
                            sums[waiting + row * width..][..args.tiles * count * width].as_mut_ptr()
                        } else {
                            own.as_mut_ptr()
                        };
                        // SAFETY: the rows of these pixels were just gathered; the rest as in `direct::run`.
                        unsafe { kernels[count - 1](&args) };
                        row += args.tiles * count;
                    }
                    waiting += block.len() * width;
                }
            }
            for tile in group {
                conv.finish(buffers, tile.first..tile.first + tile.blocks, block.clone());
            }
        }
    }
}

/// Copies the input elements under the windows of some output pixels, those of each into a row; zeros where a window hangs over the
/// border.
fn gather(conv: &Conv, input: &[f32], segments: &[Segment], pixels: Range<usize>, rows: &mut [f32], pitch: usize) {
    let run = conv.weights.run();
    let [oh, ow] = conv.output_size;
    for (index, segment) in segments.iter().enumerate() {
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            // Those that lie in one row of the output.
            let (n, y, x) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
            let count = (pixels.end - pixel).min(ow - x);
            let to = &mut rows[(pixel - pixels.start) * pitch + index * run..];
            let row = inside(conv, y, segment.kh, 0, conv.input.h);
            match (row, conv.input.layout.is_blocked()) {
                (None, _) => to.chunks_mut(pitch).take(count).for_each(|to| to[..run].fill(zero(conv))),
                (Some(row), true) => {
                    let at = conv.input.offset(n, segment.word / BLOCK, row, 0) + segment.word % BLOCK;
                    // A length that the compiler knows makes a copy one instruction.
                    if run == BLOCK {
                        gather_blocks::<BLOCK>(conv, &input[at..], segment, x..x + count, to, pitch, BLOCK);
                    } else {
                        gather_blocks::<0>(conv, &input[at..], segment, x..x + count, to, pitch, run);
                    }
                }
                (Some(row), false) => {
                    let at = conv.input.offset(n, segment.word, row, 0);
                    for (i, to) in to.chunks_mut(pitch).take(count).enumerate() {
                        for (step, value) in to[..run].iter_mut().enumerate() {
                            *value =
                                inside(conv, x + i, segment.kw + step, 1, conv.input.w).map_or(zero(conv), |column| input[at + column]);
                        }
                    }
                }
            }
            pixel += count;
        }
    }
}

/// A word of zeros.
fn zero(conv: &Conv) -> f32 {
    f32::from_ne_bytes([conv.input.zero_point(); 4])
}

/// Position of a tap along an axis, if it is inside the image.
fn inside(conv: &Conv, output: usize, tap: usize, axis: usize, size: usize) -> Option<usize> {
    let p = &conv.problem;
    (output * p.stride[axis] + tap * p.dilation[axis]).checked_sub(p.pads[axis]).filter(|&at| at < size)
}

/// Copies a tap's words, N or `run` of them, of output columns in one row.
#[inline(always)]
fn gather_blocks<const N: usize>(
    conv: &Conv,
    input: &[f32],
    segment: &Segment,
    columns: Range<usize>,
    to: &mut [f32],
    pitch: usize,
    run: usize,
) {
    let run = if N > 0 { N } else { run };
    for (x, to) in columns.zip(to.chunks_mut(pitch)) {
        match inside(conv, x, segment.kw, 1, conv.input.w) {
            Some(column) => to[..run].copy_from_slice(&input[column * BLOCK..][..run]),
            None => to[..run].fill(zero(conv)),
        }
    }
}
