//! Direct convolution: the register tile reads the input buffer itself, whose halo is the padding.

use super::packed::OcTile;
use super::tile::tile_pixels;
use super::{BLOCK, Buffers, Conv, ConvProblem, PackedWeights, Sums};
use crate::{Geometry, Layout};
use std::ops::Range;

/// Offset of each segment from the first tap of a pixel's window.
pub(super) fn segment_offsets(problem: &ConvProblem, input: &Geometry, weights: &PackedWeights) -> Vec<usize> {
    let lanes = input.layout.lanes();
    let offset = |s: &super::packed::Segment| {
        s.channel / lanes * input.plane_stride()
            + s.channel % lanes
            + s.kh * problem.dilation[0] * input.row_stride()
            + s.kw * problem.dilation[1] * lanes
    };
    weights.segments().iter().map(offset).collect()
}

/// Computes the tiles of OC in `tiles` for the output pixels in `pixels`, numbered through all images.
pub(super) fn run(conv: &Conv, buffers: &Buffers<'_>, tiles: Range<usize>, pixels: Range<usize>) {
    let mut sums = Sums::new();
    let mut args = conv.tile_args(buffers, &mut sums);
    let mut prefetcher = conv.prefetcher(buffers.share);
    let mut start = pixels.start;
    while start < pixels.end {
        let end = pixels.end.min(start + conv.pixel_block);
        for tile in &conv.weights.tiles()[tiles.clone()] {
            conv.enter_tile(&mut args, buffers, tile);
            let kernels = conv.table.conv_tile[tile.blocks - 1];
            let mut cursor = conv.cursor(start);
            let mut pixel = start;
            while pixel < end {
                let count = tile_pixels(end - pixel, kernels.len());
                prefetcher.enter(&mut args);
                conv.place_pixels(&mut args, &mut cursor, count, Some(&conv.input));
                // SAFETY: `Conv::new` checked that the halo holds every tap of every pixel, and that weights and geometries
                // are the problem's; `Conv::run` checked the slices' lengths and gives each thread other outputs.
                unsafe { kernels[count - 1](&args) };
                pixel += count;
            }
        }
        start = end;
    }
}

impl Conv {
    /// Points the arguments at a tile of OC.
    pub(super) fn enter_tile(&self, args: &mut super::TileArgs, buffers: &Buffers<'_>, tile: &OcTile) {
        args.segments = self.offsets[tile.segments.clone()].as_ptr();
        args.segment_count = tile.segments.len();
        args.chunk = tile.chunk;
        args.weights = self.weights.tile_weights(tile, 0).as_ptr();
        args.bias = self.weights.tile_bias(tile).as_ptr();
        // The blocks of a tile lie `output_block` apart from here on.
        args.output = buffers.output.wrapping_add(tile.first * self.output.plane_stride());
        if !buffers.residual.is_null() {
            args.residual = buffers.residual.wrapping_add(tile.first * buffers.residual_geometry.plane_stride());
        }
        args.residual_block = buffers.residual_geometry.plane_stride();
    }

    /// Writes the offsets of the next `count` output pixels: in the output, the residual and, if given, the input.
    pub(super) fn place_pixels(&self, args: &mut super::TileArgs, cursor: &mut Cursor, count: usize, input: Option<&Geometry>) {
        let [oh, ow] = self.output_size;
        let [sh, sw] = self.problem.stride;
        let residual = self.residual.unwrap_or(self.output);
        let mut placed = 0;
        while placed < count {
            // All that lie in one row are a step apart.
            let Cursor { n, y, x } = *cursor;
            let run = (count - placed).min(ow - x);
            let output = self.output.offset(n, 0, y, x);
            let other = residual.offset(n, 0, y, x);
            for i in 0..run {
                args.output_pixels[placed + i] = output + i * BLOCK;
                args.residual_pixels[placed + i] = other + i * BLOCK;
            }
            if let Some(input) = input {
                let lanes = if input.layout == Layout::Nchw { 1 } else { BLOCK };
                // Less the padding: `Conv::new` saw to it that the halo holds it, so that this does not go below zero.
                let origin = input.offset(n, 0, y * sh, x * sw) - self.problem.pads[0] * input.row_stride() - self.problem.pads[1] * lanes;
                for i in 0..run {
                    args.pixels[placed + i] = origin + i * sw * lanes;
                }
            }
            placed += run;
            cursor.x += run;
            if cursor.x == ow {
                (cursor.x, cursor.y) = (0, y + 1);
            }
            if cursor.y == oh {
                (cursor.y, cursor.n) = (0, n + 1);
            }
        }
    }

    /// Stands at an output pixel, numbered through all images.
    pub(super) fn cursor(&self, pixel: usize) -> Cursor {
        let [oh, ow] = self.output_size;
        Cursor { n: pixel / (oh * ow), y: pixel / ow % oh, x: pixel % ow }
    }
}

/// An output pixel. It moves on without dividing, which would cost as much as a step of a register tile.
pub(super) struct Cursor {
    n: usize,
    y: usize,
    x: usize,
}
