//! im2col + GEMM: for a block of pixels the K values of each are gathered into a row, then the register tile multiplies the
//! rows by the weights. It needs no halo and handles every shape; gathering costs a copy of KH·KW times the input.
//!
//! Chellapilla et al., High performance convolutional neural networks for document processing (2006), section 3, in blocks of
//! pixels so that the rows stay in cache.

use super::packed::Segment;
use super::tile::{PIXELS, tile_pixels};
use super::{Buffers, Conv, Sums};
use crate::Layout;
use std::ops::Range;

/// Elements that the rows of a block may take (256 KiB), unless K is so long that six rows need more.
const BLOCK_ELEMENTS: usize = 64 * 1024;

/// Elements of a row: the longest K of any tile.
fn row_len(conv: &Conv) -> usize {
    conv.weights.tiles().iter().map(|t| t.segments.len()).max().unwrap_or(0) * conv.weights.run()
}

fn block_pixels(conv: &Conv) -> usize {
    (BLOCK_ELEMENTS / row_len(conv).max(1) / PIXELS * PIXELS).clamp(PIXELS, 16 * PIXELS)
}

/// Elements of scratch memory for one thread.
pub(super) fn scratch_len(conv: &Conv) -> usize {
    block_pixels(conv) * row_len(conv)
}

/// Computes the tiles of OC in `tiles` for the output pixels in `pixels`, numbered through all images.
pub(super) fn run(conv: &Conv, buffers: &Buffers<'_>, tiles: Range<usize>, pixels: Range<usize>) {
    let mut sums = Sums::new();
    let mut args = conv.tile_args(buffers, &mut sums);
    let mut prefetcher = conv.prefetcher(buffers.share);
    let block = block_pixels(conv);
    // SAFETY: `Conv::run` gives each thread `scratch_len` elements of its own.
    let rows = unsafe { std::slice::from_raw_parts_mut(buffers.scratch, scratch_len(conv)) };
    let mut start = pixels.start;
    while start < pixels.end {
        let end = pixels.end.min(start + block);
        let mut gathered = 0..0;
        for tile in &conv.weights.tiles()[tiles.clone()] {
            let row = tile.segments.len() * conv.weights.run();
            if gathered != tile.segments {
                gathered = tile.segments.clone();
                for pixel in start..end {
                    let destination = &mut rows[(pixel - start) * row..][..row];
                    gather(conv, buffers.input, &conv.weights.segments()[gathered.clone()], pixel, destination);
                }
            }
            conv.enter_tile(&mut args, buffers, tile);
            args.input = rows.as_ptr();
            let kernels = conv.table.conv_tile[tile.blocks - 1];
            let mut cursor = conv.cursor(start);
            let mut pixel = start;
            while pixel < end {
                let count = tile_pixels(end - pixel, kernels.len());
                prefetcher.enter(&mut args);
                conv.place_pixels(&mut args, &mut cursor, count, None);
                for i in 0..count {
                    args.pixels[i] = (pixel - start + i) * row;
                }
                // SAFETY: the rows of these pixels were just gathered; the rest as in `direct::run`.
                unsafe { kernels[count - 1](&args) };
                pixel += count;
            }
        }
        start = end;
    }
}

/// Copies the input elements under one output pixel's window, zeros where it hangs over the border.
fn gather(conv: &Conv, input: &[f32], segments: &[Segment], pixel: usize, destination: &mut [f32]) {
    let problem = &conv.problem;
    let geometry = &conv.input;
    let run = conv.weights.run();
    let lanes = geometry.layout.lanes();
    let [oh, ow] = conv.output_size;
    let (n, y, x) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
    // Position of a tap along an axis, if it is inside the image.
    let inside = |output: usize, tap: usize, axis: usize, size: usize| {
        (output * problem.stride[axis] + tap * problem.dilation[axis]).checked_sub(problem.pads[axis]).filter(|&p| p < size)
    };
    for (segment, to) in segments.iter().zip(destination.chunks_exact_mut(run)) {
        let Some(row) = inside(y, segment.kh, 0, geometry.h) else {
            to.fill(0.0);
            continue;
        };
        let at = |column: usize| geometry.offset(n, segment.channel / lanes, row, column) + segment.channel % lanes;
        match geometry.layout {
            Layout::Nchw16c => match inside(x, segment.kw, 1, geometry.w) {
                Some(column) => to.copy_from_slice(&input[at(column)..][..run]),
                None => to.fill(0.0),
            },
            Layout::Nchw => {
                for (step, value) in to.iter_mut().enumerate() {
                    *value = inside(x, segment.kw + step, 1, geometry.w).map_or(0.0, |column| input[at(column)]);
                }
            }
        }
    }
}
