//! Winograd convolution for 3×3 kernels of stride 1: F(M×M, 3×3) computes a tile of M×M outputs from (M + 2)² products a
//! channel pair instead of 9·M² (Lavin and Gray, Fast algorithms for convolutional neural networks, 2015).
//!
//! For a strip of tiles, the input transform writes V `[position][tile][C]`, one GEMM a position multiplies it by the
//! transformed weights into M `[position][tile][OC]`, and the output transform adds bias and residual and applies the
//! activation. A strip is short enough for V and M to stay in cache. The GEMMs are the register tile of the direct
//! convolution, the tiles of the strip being its pixels. Of an input of bf16, V and the weights are bf16 and M is f32.

use super::packed::Kernels;
use super::prefetch::Prefetcher;
use super::segments::OcTile;
use super::tile::{BATCH, Epilogue, MAX_BLOCKS, PIXELS, Store, tile_pixels};
use super::{BLOCK, Buffers, Conv, Sums};
use crate::winograd_transform::{InputArgs, InputFn, OutputArgs, OutputFn, kernel_transform};
use std::ops::Range;

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Winograd {
    /// F(2×2, 3×3): 4 products an output instead of 9; in f32 less rounding error than direct summation, in bf16 more.
    F2,
    /// F(4×4, 3×3): 2.25 products an output, about twice the rounding error of direct summation.
    F4,
}

impl Winograd {
    /// Rows and columns of outputs of a tile.
    pub fn outputs(self) -> usize {
        match self {
            Winograd::F2 => 2,
            Winograd::F4 => 4,
        }
    }

    /// Products of a tile for a pair of channels.
    pub fn positions(self) -> usize {
        (self.outputs() + 2) * (self.outputs() + 2)
    }

    /// G g Gᵀ of a 3×3 kernel: computed in f64, rounded once; behind the last position zeros.
    pub(super) fn transform_kernel(self, kernel: &[f32]) -> [f32; 36] {
        let inputs = self.outputs() + 2;
        let at = |index: usize| f64::from(kernel[index]);
        // Rows of the kernel first, then columns of what they became.
        let rows = [0, 3, 6].map(|r| kernel_transform(inputs, [at(r), at(r + 1), at(r + 2)]));
        let mut transformed = [0.0; 36];
        for x in 0..inputs {
            let column = kernel_transform(inputs, [rows[0][x], rows[1][x], rows[2][x]]);
            for y in 0..inputs {
                transformed[y * inputs + x] = column[y] as f32;
            }
        }
        transformed
    }
}

/// Elements that V and M of a strip may take together (2 MiB, which a level-3 cache streams at no loss), unless six tiles need
/// more.
const STRIP_ELEMENTS: usize = 512 * 1024;

/// Words of a tile in V, whose planes of channels are whole, and in M, whose blocks are.
fn widths(conv: &Conv) -> [usize; 2] {
    [conv.input.planes() * BLOCK, conv.problem.oc.next_multiple_of(BLOCK)]
}

/// As many tiles as the strip may have; more where all the weights, which come again for every strip, are larger than that.
fn strip_tiles(conv: &Conv, variant: Winograd) -> usize {
    let [c, oc] = widths(conv);
    let budget = STRIP_ELEMENTS.max(conv.weights.len() / 4);
    let longest = (budget / (variant.positions() * (c + oc)) / PIXELS).max(1) * PIXELS;
    longest.min(conv.pixels().div_ceil(conv.partition[1]).next_multiple_of(PIXELS))
}

/// Pieces that a share of groups of tiles may be cut into: as many as there are strips, or more where all weights stay in the level-2
/// cache, but none of a few tiles, which would use each weight a few times only.
pub(super) fn pieces(conv: &Conv, variant: Winograd, groups: usize) -> usize {
    const CACHED: usize = 256 * 1024;
    let strips = (groups * PIXELS).div_ceil(strip_tiles(conv, variant));
    if conv.weights.len() <= CACHED { strips.max(groups / 4) } else { strips }.max(1)
}

/// Elements of scratch memory for one thread.
pub(super) fn scratch_len(conv: &Conv, variant: Winograd) -> usize {
    let [c, oc] = widths(conv);
    strip_tiles(conv, variant) * variant.positions() * (c + oc)
}

/// Computes the tiles of OC in `oc_tiles` for the Winograd tiles in `tiles`, numbered through all images.
pub(super) fn run(conv: &Conv, variant: Winograd, buffers: &Buffers<'_>, oc_tiles: Range<usize>, tiles: Range<usize>) {
    let [c, oc] = widths(conv);
    let strip = strip_tiles(conv, variant);
    // SAFETY: `Conv::run` gives each thread `scratch_len` elements of its own.
    let scratch = unsafe { std::slice::from_raw_parts_mut(buffers.scratch, scratch_len(conv, variant)) };
    let (v, m) = scratch.split_at_mut(strip * variant.positions() * c);
    let oc_tiles = &conv.weights.tiles()[oc_tiles];
    let mut prefetcher = conv.prefetcher(buffers.share, buffers.piece);
    let mut start = tiles.start;
    while start < tiles.end {
        let end = tiles.end.min(start + strip);
        transform_input(conv, variant, buffers, start..end, v);
        multiply(conv, variant, buffers, oc_tiles, &mut prefetcher, v, &mut m[..(end - start) * variant.positions() * oc]);
        transform_output(conv, variant, buffers, oc_tiles, start..end, m);
        start = end;
    }
}

/// The transforms that go with the kernels which the weights were packed for.
fn transforms(conv: &Conv, variant: Winograd) -> (InputFn, OutputFn) {
    match (conv.weights.kernels(), variant) {
        (Kernels::F32(table), Winograd::F2) => table.winograd_f2,
        (Kernels::F32(table), Winograd::F4) => table.winograd_f4,
        (Kernels::Bf16(table), Winograd::F2) => table.winograd_f2,
        (Kernels::Bf16(_), Winograd::F4) | (Kernels::Int8(_), _) => unreachable!("`Algorithm::check` lets no such input through"),
    }
}

/// Image, row and column of a tile's first output.
fn place(conv: &Conv, variant: Winograd, tile: usize) -> (usize, usize, usize) {
    let outputs = variant.outputs();
    let [rows, columns] = conv.output_size.map(|size| size.div_ceil(outputs));
    (tile / (rows * columns), tile / columns % rows * outputs, tile % columns * outputs)
}

fn transform_input(conv: &Conv, variant: Winograd, buffers: &Buffers<'_>, tiles: Range<usize>, v: &mut [f32]) {
    let [c, _] = widths(conv);
    let count = tiles.len();
    let (kernel, _) = transforms(conv, variant);
    let [top, left, _, _] = conv.problem.pads;
    for (index, tile) in tiles.enumerate() {
        let (n, y, x) = place(conv, variant, tile);
        // Less the padding, which the halo holds.
        let origin = conv.input.offset(n, 0, y, x) - top * conv.input.row_stride() - left * BLOCK;
        let args = InputArgs {
            input: buffers.input[origin..].as_ptr(),
            row: conv.input.row_stride(),
            plane: conv.input.plane_stride(),
            planes: c / BLOCK,
            output: v[index * c..].as_mut_ptr(),
            position: count * c,
        };
        // SAFETY: `Conv::new` checked that the halo holds the last tile and `Conv::run` the input's length; V has `count`
        // tiles of C words at each position, since a strip is no longer than `strip_tiles`.
        unsafe { kernel(&args) };
    }
}

fn multiply(
    conv: &Conv,
    variant: Winograd,
    buffers: &Buffers<'_>,
    oc_tiles: &[OcTile],
    prefetcher: &mut Prefetcher<'_>,
    v: &[f32],
    m: &mut [f32],
) {
    let [c, oc] = widths(conv);
    let count = m.len() / (variant.positions() * oc);
    let no_bias = [0.0f32; MAX_BLOCKS * BLOCK];
    let mut sums = Sums::new();
    let mut args = conv.tile_args(buffers, &mut sums);
    args.bias = no_bias.as_ptr();
    args.residual = std::ptr::null();
    args.epilogue = Epilogue::f32((f32::NEG_INFINITY, f32::INFINITY));
    args.output_blocks = [0, BLOCK, 2 * BLOCK, 3 * BLOCK];
    let inputs: [usize; BATCH] = std::array::from_fn(|i| i * c);
    let outputs: [usize; BATCH] = std::array::from_fn(|i| i * oc);
    (args.pixels, args.output_pixels) = (inputs.as_ptr(), outputs.as_ptr());
    for position in 0..variant.positions() {
        for tile in oc_tiles {
            args.segments = conv.offsets[tile.segments.clone()].as_ptr();
            args.segment_count = tile.segments.len();
            args.chunk = tile.chunk;
            (args.tail_segments, args.tail_run) = tile.tail;
            args.weights = conv.weights.tile_weights(tile, position).as_ptr();
            let kernels = conv.weights.conv_tile()[tile.blocks - 1];
            let mut first = 0;
            while first < count {
                let (pixels, tiles) = tile_pixels(count - first, kernels.len());
                args.input = v[(position * count + first) * c..].as_ptr();
                args.output = m[(position * count + first) * oc + tile.first * BLOCK..].as_mut_ptr();
                args.tiles = prefetcher.enter(&mut args, tiles.min(BATCH / pixels));
                // SAFETY: V and M hold `count` tiles of C and OC elements at each position, and `transform_input` has written
                // all of V; the weights' segments are the blocks of C, `tile` is a range of blocks of OC, and a tile has at
                // most MAX_BLOCKS blocks of bias.
                unsafe { kernels[pixels - 1](&args) };
                first += args.tiles * pixels;
            }
        }
    }
}

fn transform_output(conv: &Conv, variant: Winograd, buffers: &Buffers<'_>, oc_tiles: &[OcTile], tiles: Range<usize>, m: &[f32]) {
    let [_, oc] = widths(conv);
    let (Some(first), Some(last)) = (oc_tiles.first(), oc_tiles.last()) else { return };
    let count = tiles.len();
    let (_, kernel) = transforms(conv, variant);
    let [oh, ow] = conv.output_size;
    let residual = buffers.residual_geometry;
    for (index, tile) in tiles.enumerate() {
        let (n, y, x) = place(conv, variant, tile);
        let args = OutputArgs {
            input: m[index * oc..].as_ptr(),
            position: count * oc,
            blocks: first.first..last.first + last.blocks,
            bias: conv.weights.bias().as_ptr(),
            residual: if buffers.residual.is_null() {
                buffers.residual
            } else {
                buffers.residual.wrapping_add(residual.offset(n, 0, y, x))
            },
            residual_row: residual.row_stride(),
            residual_plane: residual.plane_stride(),
            clamp: conv.epilogue.clamp,
            wide: conv.epilogue.store == Store::F32,
            output: buffers.output.wrapping_add(conv.output.offset(n, 0, y, x)),
            row: conv.output.row_stride(),
            plane: conv.output.plane_stride(),
            rows: variant.outputs().min(oh - y),
            columns: variant.outputs().min(ow - x),
        };
        // SAFETY: `multiply` has written the blocks of `oc_tiles`, which follow each other, at every position; rows and columns
        // are cut to the image; `Conv::run` checked the lengths of residual and output and gives each thread other tiles.
        unsafe { kernel(&args) };
        if let Some(then) = &conv.then {
            for (block, row) in args.blocks.clone().flat_map(|block| (0..args.rows).map(move |row| (block, row))) {
                let outputs = args.output.wrapping_add(conv.output.block_offset(block) + row * args.row);
                // SAFETY: as above; these outputs were just written.
                unsafe { then.apply(outputs, args.columns * BLOCK) };
            }
        }
        if last.first + last.blocks == oc / BLOCK {
            for row in 0..args.rows {
                // SAFETY: as above; the last block is this thread's for these pixels.
                unsafe { conv.output.clear_padding(buffers.output, n, y + row, x, args.columns) };
            }
        }
    }
}
