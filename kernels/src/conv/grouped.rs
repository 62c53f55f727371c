//! Depthwise convolution and convolution in groups of 4 or 8 channels, row by row: see [`super::grouped_row`].

use super::grouped_row::{GROUPS, GroupedArgs, GroupedFn, SHAPES};
use super::{BLOCK, Buffers, Conv, ConvProblem};
use std::ops::Range;

/// Which of [`GROUPS`] a problem's groups are: as many channels out as in.
pub(super) fn width_index(problem: &ConvProblem) -> Option<usize> {
    let [width, outputs] = [problem.c, problem.oc].map(|channels| channels / problem.groups);
    GROUPS.iter().position(|g| *g == width && *g == outputs)
}

/// The kernel for the problem's groups and shape: its own, or the one for any.
fn kernel(conv: &Conv) -> GroupedFn {
    if let Some(index) = width_index(&conv.problem) {
        return conv.table.groups[index];
    }
    let shape = (conv.problem.kernel[1], conv.problem.stride[1]);
    match SHAPES.iter().position(|s| *s == shape && conv.problem.dilation[1] == 1) {
        Some(index) => conv.table.depthwise_shaped[index],
        None => conv.table.depthwise_any,
    }
}

/// Computes the blocks in `tiles` for the output pixels in `pixels`, numbered through all images.
pub(super) fn run(conv: &Conv, buffers: &Buffers<'_>, tiles: Range<usize>, pixels: Range<usize>) {
    let kernel = kernel(conv);
    debug_assert_eq!(conv.input.layout.lanes(), BLOCK);
    for tile in &conv.weights.tiles()[tiles] {
        let [from, over, to] = [&conv.input, &buffers.residual_geometry, &conv.output].map(|g| tile.first * g.plane_stride());
        let mut cursor = conv.cursor(pixels.start, true);
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let count = (pixels.end - pixel).min(cursor.left_in_row(conv));
            let residual = match buffers.residual.is_null() {
                true => buffers.residual,
                false => buffers.residual.wrapping_add(over + cursor.residual),
            };
            let args = GroupedArgs {
                input: buffers.input[from + cursor.input..].as_ptr(),
                taps: conv.offsets.as_ptr(),
                kh: conv.problem.kernel[0],
                kw: conv.problem.kernel[1],
                step: conv.problem.stride[1] * BLOCK,
                count,
                weights: conv.weights.tile_weights(tile, 0).as_ptr(),
                bias: conv.weights.tile_bias(tile).as_ptr(),
                residual,
                output: buffers.output.wrapping_add(to + cursor.output),
                clamp: conv.clamp,
            };
            // SAFETY: `Conv::new` checked that the halo holds every tap of every pixel, and that weights and geometries are
            // the problem's; `Conv::run` checked the slices' lengths and gives each thread other outputs.
            unsafe { kernel(&args) };
            cursor.advance(conv, count);
            pixel += count;
        }
    }
}
