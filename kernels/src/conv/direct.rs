//! Direct convolution: the register tile reads the input buffer itself, whose halo is the padding.

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
    let mut args = conv.tile_args(buffers, &mut sums);
    let mut prefetcher = conv.prefetcher(buffers.share, buffers.piece);
    let mut registers = TileRegisters::new(conv.weights.by_runs());
    let mut start = pixels.start;
    while start < pixels.end {
        let end = pixels.end.min(start + conv.pixel_block);
        for tile in &conv.weights.tiles()[tiles.clone()] {
            conv.enter_tile(&mut args, buffers, tile);
            let whole = segments_at_once(conv, tile) == tile.segments.len();
            // A function of the outputs finds those of a strip in cache.
            let strip = if whole && conv.then.is_none() { end - start } else { STRIP };
            for first in (start..end).step_by(strip) {
                let pixels = first..end.min(first + strip);
                if whole {
                    pass(conv, tile, &mut args, &mut prefetcher, &mut registers, pixels.clone(), None);
                } else {
                    pass_in_parts(conv, buffers, tile, &mut args, &mut prefetcher, &mut registers, pixels.clone());
                }
                conv.finish(buffers, tile.first..tile.first + tile.blocks, pixels);
            }
            (args.sums, args.begins, args.ends) = (sums.0.as_mut_ptr(), true, true);
        }
        start = end;
    }
}

/// A strip of pixels passes over a tile's K part by part.
fn pass_in_parts(
    conv: &Conv,
    buffers: &Buffers<'_>,
    tile: &OcTile,
    args: &mut TileArgs,
    prefetcher: &mut Prefetcher<'_>,
    registers: &mut TileRegisters,
    pixels: Range<usize>,
) {
    let at_once = segments_at_once(conv, tile);
    let weights = conv.weights.tile_weights(tile, 0);
    let offsets = &conv.offsets[tile.segments.clone()];
    let columns = conv.weights.run() * tile.blocks * BLOCK;
    for (part, segments) in offsets.chunks(at_once).enumerate() {
        let first = part * at_once;
        args.segments = segments.as_ptr();
        args.segment_count = segments.len();
        args.weights = weights[first * columns..].as_ptr();
        args.begins = first == 0;
        args.ends = first + segments.len() == offsets.len();
        pass(conv, tile, args, prefetcher, registers, pixels.clone(), Some(buffers.scratch));
    }
}

/// The pixels pass over the segments that the arguments point at. `sums` is where those of the pixels wait, one behind the other.
#[inline(always)]
fn pass(
    conv: &Conv,
    tile: &OcTile,
    args: &mut TileArgs,
    prefetcher: &mut Prefetcher<'_>,
    registers: &mut TileRegisters,
    pixels: Range<usize>,
    sums: Option<*mut f32>,
) {
    let kernels = conv.weights.conv_tile()[tile.blocks - 1];
    let mut cursor = conv.cursor(pixels.start, true);
    let mut pixel = pixels.start;
    while pixel < pixels.end {
        let left = pixels.end - pixel;
        let count = match conv.line {
            Some(line) => {
                args.runs = cursor.runs(conv, line, left);
                registers.enter(args);
                args.runs[0] + args.runs[1]
            }
            None => tile_pixels(left, kernels.len()),
        };
        prefetcher.enter(args);
        conv.place_pixels(args, &mut cursor, count);
        if let Some(sums) = sums {
            args.sums = sums.wrapping_add((pixel - pixels.start) * tile.blocks * BLOCK);
        }
        // SAFETY: `Conv::new` checked that the halo holds every tap of every pixel, and that weights and geometries are the
        // problem's; `Conv::run` checked the slices' lengths and gives each thread other outputs, and scratch for the sums of a
        // strip.
        unsafe { kernels[count - 1](args) };
        pixel += count;
    }
}

impl Conv {
    /// Output pixels whose windows lie one step apart in the input: a row of them, or all of an image where its rows follow each other
    /// without a gap.
    pub(super) fn line(&self) -> usize {
        let ([oh, ow], input) = (self.output_size, &self.input);
        let step = self.problem.stride[1] * input.layout.words();
        if input.row_stride() * self.problem.stride[0] == ow * step { oh * ow } else { ow }
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
    }

    /// Writes the offsets of the next `count` output pixels: in the output, the residual if there is one and, if the cursor was made
    /// for it, the input.
    #[inline(always)]
    pub(super) fn place_pixels(&self, args: &mut TileArgs, cursor: &mut Cursor, count: usize) {
        let mut placed = 0;
        while placed < count {
            // All that lie in one row are a step apart.
            let run = (count - placed).min(self.output_size[1] - cursor.x);
            for i in 0..run {
                args.output_pixels[placed + i] = cursor.output + i * BLOCK;
                args.pixels[placed + i] = cursor.input + i * cursor.input_step;
            }
            if self.residual.is_some() {
                for i in 0..run {
                    args.residual_pixels[placed + i] = cursor.residual + i * BLOCK;
                }
            }
            placed += run;
            cursor.advance(self, run);
        }
    }

    /// Stands at an output pixel, numbered through all images. `windows` says whether the cursor follows the
    /// pixels' windows in the input, too.
    pub(super) fn cursor(&self, pixel: usize, windows: bool) -> Cursor {
        let [oh, ow] = self.output_size;
        let input_step = if windows { self.problem.stride[1] * self.input.layout.words() } else { 0 };
        let mut cursor = Cursor { n: pixel / (oh * ow), y: pixel / ow % oh, x: pixel % ow, input_step, output: 0, residual: 0, input: 0 };
        cursor.locate(self);
        cursor
    }
}

/// An output pixel, and where it is. It moves on without dividing, which would cost as much as a step of a register tile.
pub(super) struct Cursor {
    n: usize,
    y: usize,
    x: usize,
    /// From a pixel's window to the next one's; 0 where nobody asks for windows.
    input_step: usize,
    /// Offset in the output.
    pub output: usize,
    /// Offset in the residual.
    pub residual: usize,
    /// Offset of the window's first tap in the input.
    pub input: usize,
}

impl Cursor {
    /// Pixels from here to the end of the row.
    pub(super) fn left_in_row(&self, conv: &Conv) -> usize {
        conv.output_size[1] - self.x
    }

    /// The pixels of the next tile that reads by the run: of one line, or where lines are short one run of each of two.
    #[inline(always)]
    fn runs(&self, conv: &Conv, line: usize, left: usize) -> [usize; 2] {
        let in_line = left.min(line - (self.y * conv.output_size[1] + self.x) % line);
        if line > RUN { two_runs(in_line.div_ceil(in_line.div_ceil(MAX_PIXELS))) } else { [in_line, line.min(left - in_line)] }
    }

    /// Moves on by pixels of the same row.
    #[inline(always)]
    pub(super) fn advance(&mut self, conv: &Conv, pixels: usize) {
        self.x += pixels;
        self.output += pixels * BLOCK;
        self.residual += pixels * BLOCK;
        self.input += pixels * self.input_step;
        if self.x == conv.output_size[1] {
            (self.x, self.y) = (0, self.y + 1);
            if self.y == conv.output_size[0] {
                (self.y, self.n) = (0, self.n + 1);
            }
            self.locate(conv);
        }
    }

    fn locate(&mut self, conv: &Conv) {
        // Behind the last pixel there is none to locate.
        if self.n == conv.problem.n {
            return;
        }
        self.output = conv.output.offset(self.n, 0, self.y, self.x);
        self.residual = conv.residual.map_or(0, |g| g.offset(self.n, 0, self.y, self.x));
        if self.input_step > 0 {
            let (input, p) = (&conv.input, &conv.problem);
            // Less the padding: `Conv::new` saw to it that the halo holds it, so that this does not go below zero.
            self.input = input.offset(self.n, 0, self.y * p.stride[0], self.x * p.stride[1])
                - p.pads[0] * input.row_stride()
                - p.pads[1] * input.layout.words();
        }
    }
}
