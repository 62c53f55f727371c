//! Depthwise convolution: each lane is a channel with a kernel of its own, so nothing is broadcast and nothing is summed over
//! channels. Bound by loads: one for each multiply-add.

use super::tile::PIXELS;
use super::{BLOCK, Buffers, Conv, Sums};
use std::ops::Range;

/// Computes the blocks in `tiles` for the output pixels in `pixels`, numbered through all images.
pub(super) fn run(conv: &Conv, buffers: &Buffers<'_>, tiles: Range<usize>, pixels: Range<usize>) {
    let mut sums = Sums::new();
    let mut args = conv.tile_args(buffers, &mut sums);
    debug_assert_eq!(conv.input.layout.lanes(), BLOCK);
    for tile in &conv.weights.tiles()[tiles] {
        conv.enter_tile(&mut args, buffers, tile);
        args.input = buffers.input[tile.first * conv.input.plane_stride()..].as_ptr();
        let mut cursor = conv.cursor(pixels.start);
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let count = PIXELS.min(pixels.end - pixel);
            conv.place_pixels(&mut args, &mut cursor, count, Some(&conv.input));
            // SAFETY: `Conv::new` checked that the halo holds every tap of every pixel, and that weights and geometries are
            // the problem's; `Conv::run` checked the slices' lengths and gives each thread other outputs.
            unsafe { conv.table.depthwise_tile[count - 1](&args) };
            pixel += count;
        }
    }
}
