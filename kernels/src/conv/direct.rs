//! Direct convolution: the register tile reads the input buffer itself, whose halo is the padding.

use super::places::Places;
use super::prefetch::Prefetcher;
use super::segments::OcTile;
use super::tile::{MAX_PIXELS, RUN, TileArgs, TileRegisters, tile_pixels, two_runs};
use super::{BLOCK, Buffers, Conv, ConvProblem, PackedWeights, Sums};
use crate::{Element, Geometry};
use std::ops::Range;

/// Offset of each segment from the first tap of a pixel's window.
pub(super) fn segment_offsets(problem: &ConvProblem, input: &Geometry, weights: &PackedWeights) -> Vec<usize> {
    let words = input.layout.words();
    let offset = |s: &super::segments::Segment| {
        s.word / words * input.plane_stride()
            + s.word % words
            + s.kh * problem.dilation[0] * input.row_stride()
            + s.kw * problem.dilation[1] * words
    };
    weights.segments().iter().map(offset).collect()
}

/// Words of a tile's weights (256 KiB) that stay in a level-2 cache while the pixels pass over them. Where K is longer, the
/// pixels pass over a part of it before the next part's turn, and their sums wait in scratch memory.
const K_BLOCK: usize = 64 * 1024;

/// Pixels whose sums wait: their number bounds the scratch memory.
const STRIP: usize = 252;

/// Segments of a tile that the pixels pass over at once: all, or whole chunks; of bytes, whose sums are exact, any.
fn segments_at_once(conv: &Conv, tile: &OcTile) -> usize {
    let unit = if conv.input.layout.element() == Element::U8 { 1 } else { tile.chunk };
    let units = (K_BLOCK / (unit * conv.weights.run() * tile.blocks * BLOCK).max(1)).max(1);
    tile.segments.len().min(units * unit)
}

/// Elements of scratch memory for one thread.
pub(super) fn scratch_len(conv: &Conv) -> usize {
    let waits = |tile: &&OcTile| segments_at_once(conv, tile) < tile.segments.len();
    conv.weights.tiles().iter().filter(waits).map(|tile| STRIP * tile.blocks * BLOCK).max().unwrap_or(0)
}

/// Computes the tiles of OC in `tiles` for the output pixels in `pixels`, numbered through all images.
pub(super) fn run(conv: &Conv, buffers: &Buffers<'_>, tiles: Range<usize>, pixels: Range<usize>) {
    let mut sums = Sums::new();
    let mut walk = Walk {
        conv,
        args: conv.tile_args(buffers, &mut sums),
        prefetcher: conv.prefetcher(buffers.share, buffers.piece),
        registers: TileRegisters::new(conv.weights.by_runs()),
        places: Places::new(true),
        end: pixels.end,
    };
    for start in pixels.clone().step_by(conv.pixel_block) {
        let end = pixels.end.min(start + conv.pixel_block);
        for tile in &conv.weights.tiles()[tiles.clone()] {
            conv.enter_tile(&mut walk.args, buffers, tile);
            let whole = segments_at_once(conv, tile) == tile.segments.len();
            // A function of the outputs finds those of a strip in cache.
            let strip = if whole && conv.then.is_none() { end - start } else { STRIP };
            for first in (start..end).step_by(strip) {
                let pixels = first..end.min(first + strip);
                if whole {
                    walk.pass(tile, pixels.clone(), None);
                } else {
                    walk.pass_in_parts(buffers, tile, pixels.clone());
                }
                conv.finish(buffers, tile.first..tile.first + tile.blocks, pixels);
            }
            (walk.args.sums, walk.args.begins, walk.args.ends) = (sums.as_mut_ptr(), true, true);
        }
    }
}

/// A thread's way over its pixels.
struct Walk<'a> {
    conv: &'a Conv,
    args: TileArgs,
    prefetcher: Prefetcher<'a>,
    registers: TileRegisters,
    places: Places,
    /// Behind the last pixel.
    end: usize,
}

impl Walk<'_> {
    /// A strip of pixels passes over a tile's K part by part.
    fn pass_in_parts(&mut self, buffers: &Buffers<'_>, tile: &OcTile, pixels: Range<usize>) {
        let conv = self.conv;
        let at_once = segments_at_once(conv, tile);
        let weights = conv.weights.tile_weights(tile, 0);
        let offsets = &conv.offsets[tile.segments.clone()];
        let columns = conv.weights.run() * tile.blocks * BLOCK;
        for (part, segments) in offsets.chunks(at_once).enumerate() {
            let first = part * at_once;
            self.args.segments = segments.as_ptr();
            self.args.segment_count = segments.len();
            self.args.weights = weights[first * columns..].as_ptr();
            self.args.begins = first == 0;
            self.args.ends = first + segments.len() == offsets.len();
            self.pass(tile, pixels.clone(), Some(buffers.scratch));
        }
    }

    /// The pixels pass over the segments that the arguments point at. `sums` is where those of the pixels wait, one behind the other.
    #[inline(always)]
    fn pass(&mut self, tile: &OcTile, pixels: Range<usize>, sums: Option<*mut f32>) {
        let Walk { conv, args, prefetcher, registers, places, end } = self;
        let kernels = conv.weights.conv_tile()[tile.blocks - 1];
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let left = pixels.end - pixel;
            let (count, tiles) = match conv.line {
                Some(line) => {
                    args.runs = line_runs(line, pixel % line, left);
                    registers.enter(args);
                    (args.runs[0] + args.runs[1], 1)
                }
                None => tile_pixels(left, kernels.len()),
            };
            let tiles = places.enter(args, conv, pixel, count, tiles, *end);
            args.tiles = prefetcher.enter(args, tiles);
            if let Some(sums) = sums {
                args.sums = sums.wrapping_add((pixel - pixels.start) * tile.blocks * BLOCK);
            }
            // SAFETY: `Conv::new` checked that the halo holds every tap of every pixel, and that weights and geometries are the
            // problem's; `Conv::run` checked the slices' lengths and gives each thread other outputs, and scratch for the sums of a
            // strip.
            unsafe { kernels[count - 1](args) };
            pixel += args.tiles * count;
        }
    }
}

/// The pixels of a tile that reads by the run, `at` pixels behind the beginning of a line where `left` are left: of one line, or where
/// lines are short one run of each of two.
fn line_runs(line: usize, at: usize, left: usize) -> [usize; 2] {
    let in_line = left.min(line - at);
    if line > RUN { two_runs(in_line.div_ceil(in_line.div_ceil(MAX_PIXELS))) } else { [in_line, line.min(left - in_line)] }
}

impl Conv {
    /// Output pixels whose windows lie one step apart in the input: a row of them, or all of an image where its rows follow each other
    /// without a gap.
    pub(super) fn line(&self) -> usize {
        let ([oh, ow], input) = (self.output_size, &self.input);
        let step = self.problem.stride[1] * input.layout.words();
        // One row has no next, and its stride may be any.
        if input.row_stride().checked_mul(self.problem.stride[0]) == Some(ow * step) { oh * ow } else { ow }
    }

    /// Points the arguments at a tile of OC.
    pub(super) fn enter_tile(&self, args: &mut TileArgs, buffers: &Buffers<'_>, tile: &OcTile) {
        args.segments = self.offsets[tile.segments.clone()].as_ptr();
        args.segment_count = tile.segments.len();
        args.chunk = tile.chunk;
        (args.tail_segments, args.tail_run) = tile.tail;
        args.weights = self.weights.tile_weights(tile, 0).as_ptr();
        args.bias = self.weights.tile_bias(tile).as_ptr();
        args.scales = self.scales.get(tile.first * BLOCK..).unwrap_or(&[]).as_ptr();
        for block in 0..tile.blocks {
            args.output_blocks[block] = self.output.block_offset(tile.first + block);
            args.residual_blocks[block] = buffers.residual_geometry.block_offset(tile.first + block);
        }
        // The planes of a residual may lie elsewhere than the output's: four blocks of one plane of both.
        let line = |blocks: &[usize]| tile.blocks == 4 && blocks[3].wrapping_sub(blocks[0]) == 12;
        let residual = self.residual.is_none() || self.epilogue.zero == 0 && line(&args.residual_blocks);
        args.lines = line(&args.output_blocks) && residual && self.epilogue.saturates;
    }
}
