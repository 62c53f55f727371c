//! Depthwise convolution and convolution in groups of 4 or 8 channels, row by row: see [`super::grouped_row`].

use super::grouped_row::{GROUPS, GroupedArgs, GroupedFn, SHAPES};
use super::packed::Kernels;
use super::{BLOCK, Buffers, Conv};
use std::ops::Range;

/// Which of [`GROUPS`] groups of so many channels, in and out, are: as many out as in.
pub(super) fn width_index([width, outputs]: [usize; 2]) -> Option<usize> {
    GROUPS.iter().position(|g| *g == width && *g == outputs)
}

/// The kernel for the problem's groups and shape: its own, or the one for any.
fn kernel(conv: &Conv) -> GroupedFn {
    let kernels = match conv.weights.kernels() {
        Kernels::F32(table) => &table.grouped,
        Kernels::Bf16(table) => &table.grouped,
        Kernels::Int8(table) => &table.grouped,
    };
    if let Some(index) = width_index(conv.problem.group_channels()) {
        return kernels.groups[index];
    }
    let shape = (conv.problem.kernel[1], conv.problem.stride[1]);
    let index = SHAPES.iter().position(|s| *s == shape && conv.problem.dilation[1] == 1);
    index.and_then(|i| kernels.depthwise_shaped.get(i).copied()).unwrap_or(kernels.depthwise_any)
}

/// Computes the blocks in `tiles` for the output pixels in `pixels`, numbered through all images.
pub(super) fn run(conv: &Conv, buffers: &Buffers<'_>, tiles: Range<usize>, pixels: Range<usize>) {
    let kernel = kernel(conv);
    for tile in &conv.weights.tiles()[tiles] {
        let [from, over, to] = [&conv.input, &buffers.residual_geometry, &conv.output].map(|g| g.block_offset(tile.first));
        let scales = conv.scales.get(tile.first * BLOCK..).unwrap_or(&[]).as_ptr();
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
                epilogue: conv.epilogue,
                scales,
            };
            // SAFETY: `Conv::new` checked that the halo holds every tap of every pixel, and that weights and geometries are
            // the problem's; `Conv::run` checked the slices' lengths and gives each thread other outputs.
            unsafe {
                kernel(&args);
                if let Some(then) = &conv.then {
                    then.apply(args.output, count * BLOCK);
                }
            }
            cursor.advance(conv, count);
            pixel += count;
        }
    }
}
