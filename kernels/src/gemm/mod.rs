//! Matrix products of dense row-major operands: packed, blocked, and computed by the convolutions' register tile.
//!
//! Goto and van de Geijn, Anatomy of high-performance matrix multiplication (2008), with the roles of the two operands as the tile has
//! them: it broadcasts elements of a row of A and loads vectors of a panel of B. From the outside in:
//!
//! - NC columns of B are packed into panels as wide as the tile, for the whole of K: they stay in the level-3 cache;
//! - MC rows of A,
//! - KC steps of K: MC × KC of A are packed into rows that stay in the level-2 cache;
//! - a panel of B, KC deep, stays in the level-2 cache too while the tile goes down the MC rows.
//!
//! Where K is longer than KC, the sums of the MC × NC results wait in scratch memory until all of K was added. KC is fixed, as the
//! order of summation depends on it; MC and NC come from the sizes of the caches. No K is ever split between threads.

mod pack;

pub(crate) use pack::Panels;

use crate::BLOCK as LANES;
use crate::KernelTable;
use crate::cache::Caches;
use crate::conv::tile::{BATCH, Epilogue, MAX_ACCUMULATORS, MAX_BLOCKS, PIXELS, TileArgs, WHOLE_TILES, tile_pixels};
use crate::parallel::range_of_part;
use std::ops::Range;

/// Most steps of K that are added up in one chain of multiply-adds; sums of such chains are added in order.
pub(crate) const KC: usize = 512;

/// Most columns of B that are packed at once; A is packed anew for the next. Half as many where sums wait for them.
const NC: usize = 1024;

/// A matrix in a slice: element (i, j) at `offset + i·row + j·column`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub data: &'a [f32],
    pub offset: usize,
    pub row: usize,
    pub column: usize,
}

/// The right operand: as it is, or packed beforehand.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    Plain(Matrix<'a>),
    Packed(&'a Panels),
}

/// The product of an M × K and a K × N matrix, with everything decided.
pub(crate) struct Gemm {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Rows of A that are packed at once.
    mc: usize,
    table: &'static KernelTable,
}

/// The tile's writes behind the last column go here first.
const TAIL: usize = MAX_ACCUMULATORS * LANES;

/// Elements between two rows of packed A, less those of K: the rows then do not fall into the same cache sets.
const SKEW: usize = 16;

impl Gemm {
    /// No dimension is zero, and the products of two of them do not overflow.
    pub(crate) fn new(m: usize, n: usize, k: usize, table: &'static KernelTable) -> Gemm {
        // A quarter of the level-2 cache for A; the rest is for a panel of B and for sums.
        let rows = Caches::get().l2 / 4 / (KC.min(k) * size_of::<f32>());
        let mc = (rows / WHOLE_TILES * WHOLE_TILES).clamp(WHOLE_TILES, 480);
        Gemm { m, n, k, mc: mc.min(m), table }
    }

    /// Segments of sixteen steps in a chunk of K, as in a convolution's.
    fn chunk(&self) -> usize {
        let segments = self.k.div_ceil(LANES);
        segments.div_ceil((segments * LANES).div_ceil(KC))
    }

    /// K, padded with zeros.
    fn depth(&self) -> usize {
        self.k.next_multiple_of(LANES)
    }

    /// Panels of B.
    pub(crate) fn panels(&self) -> usize {
        self.n.div_ceil(LANES).div_ceil(self.table.max_blocks())
    }

    /// The blocks of sixteen columns in a panel.
    fn panel(&self, index: usize) -> Range<usize> {
        range_of_part(self.n.div_ceil(LANES), self.panels(), index)
    }

    /// Panels that are packed at once: they take no more than a quarter of the level-3 cache.
    fn panels_at_once(&self) -> usize {
        let most = if self.waits() { NC / 2 } else { NC };
        let columns = (Caches::get().l3 / 4 / (self.depth() * size_of::<f32>())).min(most);
        (columns / (LANES * self.table.max_blocks())).clamp(1, self.panels())
    }

    /// Whether sums wait for the rest of K.
    fn waits(&self) -> bool {
        self.chunk() * LANES < self.depth()
    }

    fn columns_at_once(&self) -> usize {
        self.panels_at_once() * self.table.max_blocks() * LANES
    }

    /// Elements of scratch memory for one thread.
    pub(crate) fn scratch_len(&self, packed: bool) -> usize {
        let pitch = self.chunk() * LANES + SKEW;
        let sums = if self.waits() { self.mc * self.columns_at_once() } else { 0 };
        let right = if packed { 0 } else { self.depth().saturating_mul(self.columns_at_once()) };
        (self.mc * pitch + TAIL + sums).saturating_add(right)
    }

    /// Into how many parts the columns and the rows are cut, for a number of threads that share one product: the cut whose largest part
    /// is smallest.
    pub(crate) fn partition(&self, threads: usize) -> [usize; 2] {
        let (panels, groups) = (self.panels(), self.m.div_ceil(PIXELS));
        let cost = |columns: usize| {
            let rows = (threads / columns).clamp(1, groups);
            panels.div_ceil(columns).saturating_mul(groups.div_ceil(rows))
        };
        // Among equals the one with fewest parts along the rows, each of which packs B for itself.
        let columns = (1..=threads.min(panels)).rev().min_by_key(|&c| cost(c)).unwrap_or(1);
        [columns, (threads / columns).clamp(1, groups)]
    }

    /// The panels and rows of one part.
    pub(crate) fn part(&self, [columns, rows]: [usize; 2], index: usize) -> (Range<usize>, Range<usize>) {
        let groups = range_of_part(self.m.div_ceil(PIXELS), rows, index % rows);
        (range_of_part(self.panels(), columns, index / rows), groups.start * PIXELS..(groups.end * PIXELS).min(self.m))
    }

    /// Computes some rows of the columns of some panels into `c`, the first element of the whole row-major product, with `scratch` of
    /// [`Gemm::scratch_len`].
    ///
    /// # Safety
    /// `c` is valid for M·N elements, and no other thread touches those rows of those columns.
    pub(crate) unsafe fn run(
        &self,
        a: Matrix<'_>,
        b: Right<'_>,
        c: *mut f32,
        panels: Range<usize>,
        rows: Range<usize>,
        scratch: &mut [f32],
    ) {
        let chunk = self.chunk();
        let pitch = chunk * LANES + SKEW;
        let (left, scratch) = scratch.split_at_mut(self.mc * pitch);
        let (tail, scratch) = scratch.split_at_mut(TAIL);
        let waits = self.waits();
        let (sums, right) = scratch.split_at_mut(if waits { self.mc * self.columns_at_once() } else { 0 });
        let segments: [usize; KC / LANES] = std::array::from_fn(|i| i * LANES);
        let mut first = panels.start;
        while first < panels.end {
            let group = first..panels.end.min(first + self.panels_at_once());
            first = group.end;
            if let Right::Plain(b) = b {
                let mut at = 0;
                for panel in group.clone() {
                    let blocks = self.panel(panel);
                    let len = self.depth() * blocks.len() * LANES;
                    pack::panel(b, self.k, self.n, blocks, &mut right[at..at + len]);
                    at += len;
                }
            }
            let mut top = rows.start;
            while top < rows.end {
                let band = top..rows.end.min(top + self.mc);
                top = band.end;
                let mut step = 0;
                while step < self.depth() {
                    let depth = (self.depth() - step).min(chunk * LANES);
                    pack::rows(a, band.clone(), step..(step + depth).min(self.k), depth, pitch, left);
                    let mut packed = 0;
                    let mut waiting = 0;
                    for panel in group.clone() {
                        let blocks = self.panel(panel);
                        let width = blocks.len() * LANES;
                        let weights = match b {
                            Right::Plain(_) => &right[packed..packed + self.depth() * width],
                            Right::Packed(panels) => panels.panel(panel),
                        };
                        packed += self.depth() * width;
                        let mut args = TileArgs {
                            input: left.as_ptr(),
                            tiles: 1,
                            pixels: std::ptr::null(),
                            runs: [0; 2],
                            step: 0,
                            segments: segments.as_ptr(),
                            segment_count: depth / LANES,
                            chunk,
                            run: LANES,
                            tail_segments: 0,
                            tail_run: 0,
                            weights: weights[step * width..].as_ptr(),
                            bias: NO_BIAS.as_ptr(),
                            residual: std::ptr::null(),
                            residual_pixels: std::ptr::null(),
                            residual_blocks: [0; MAX_BLOCKS],
                            output: c,
                            output_pixels: std::ptr::null(),
                            output_blocks: [0, LANES, 2 * LANES, 3 * LANES],
                            epilogue: Epilogue::f32((f32::NEG_INFINITY, f32::INFINITY)),
                            lines: false,
                            scales: std::ptr::null(),
                            ahead: std::ptr::null(),
                            ahead_lines: 0,
                            ahead_tiles: 0,
                            ahead_tile: 0,
                            ahead_stride: 0,
                            ahead_step: 0,
                            sums: tail.as_mut_ptr(),
                            begins: step == 0,
                            ends: step + depth == self.depth(),
                        };
                        let at = if waits { &mut sums[waiting..waiting + band.len() * width] } else { &mut [][..] };
                        waiting += at.len();
                        // SAFETY: the packed rows and panel are as deep as the segments; the caller gives the results' places.
                        unsafe { self.down(&mut args, blocks, band.clone(), pitch, at, tail) };
                    }
                    step += depth;
                }
            }
        }
    }

    /// The tile goes down the packed rows of a band.
    ///
    /// # Safety
    /// As [`Gemm::run`] says; the arguments point at packed rows and at a panel of the columns in `blocks`.
    unsafe fn down(&self, args: &mut TileArgs, blocks: Range<usize>, band: Range<usize>, pitch: usize, sums: &mut [f32], tail: &mut [f32]) {
        let kernels = self.table.conv_tile[blocks.len() - 1];
        let width = blocks.len() * LANES;
        let column = blocks.start * LANES;
        let whole = blocks.end * LANES <= self.n;
        let c = args.output;
        let a = args.input;
        let rows: [usize; BATCH] = std::array::from_fn(|i| i * pitch);
        let row_of_output = if whole { self.n } else { width };
        let outputs: [usize; BATCH] = std::array::from_fn(|i| i * row_of_output);
        (args.pixels, args.output_pixels) = (rows.as_ptr(), outputs.as_ptr());
        let mut row = 0;
        while row < band.len() {
            let (pixels, tiles) = tile_pixels(band.len() - row, kernels.len());
            // `tail` holds one tile.
            args.tiles = if whole { tiles.min(BATCH / pixels) } else { 1 };
            let count = args.tiles * pixels;
            if !sums.is_empty() {
                args.sums = sums[row * width..(row + count) * width].as_mut_ptr();
            }
            args.input = a.wrapping_add(row * pitch);
            args.output = if whole { c.wrapping_add((band.start + row) * self.n + column) } else { tail.as_mut_ptr() };
            // SAFETY: the caller's promises; a panel that hangs over the last column is written to `tail`, which holds a tile. What
            // `sums` points at holds a tile's sums, or is `tail` and then not used.
            unsafe { kernels[pixels - 1](args) };
            if !whole && args.ends {
                for i in 0..count {
                    let len = self.n - column;
                    // SAFETY: the rest of a row of the product, which the caller says is valid and ours.
                    unsafe {
                        let to = c.add((band.start + row + i) * self.n + column);
                        std::ptr::copy_nonoverlapping(tail[i * width..i * width + len].as_ptr(), to, len);
                    }
                }
            }
            row += count;
        }
    }
}

/// Negative zeros: what is added to any number without changing it.
static NO_BIAS: [f32; MAX_BLOCKS * LANES] = [-0.0; MAX_BLOCKS * LANES];
