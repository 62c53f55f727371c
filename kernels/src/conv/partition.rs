//! How a convolution's work is split: among threads, along tiles of OC and along pixels, never along K; a thread's share into pieces that
//! another may take; and pixels into blocks that all tiles of OC pass over.

use super::{Algorithm, BLOCK, Conv, winograd};
use crate::parallel::{PIECES, range_of_part};
use std::ops::Range;

/// How a share is cut.
#[derive(Clone, Copy)]
pub(super) struct Pieces {
    /// Along tiles of OC, not along pixels.
    pub of_tiles: bool,
    /// Into so many.
    pub count: usize,
}

impl Conv {
    /// Shares that [`Conv::partition`] makes.
    pub(super) fn shares(&self) -> usize {
        self.partition[0] * self.partition[1]
    }

    /// The tiles of OC and the pixels of a share.
    pub(super) fn share(&self, share: usize) -> (Range<usize>, Range<usize>) {
        self.piece(share, 0, 1)
    }

    /// Those of the `index`-th of `count` pieces of a share.
    pub(super) fn piece(&self, share: usize, index: usize, count: usize) -> (Range<usize>, Range<usize>) {
        let [along_oc, along_pixels] = self.partition;
        let [of_tiles, of_pixels] = if self.pieces.of_tiles { [count, 1] } else { [1, count] };
        let part = |total: usize, parts: usize, part: usize, pieces: usize| {
            let whole = range_of_part(total, parts, part);
            let piece = range_of_part(whole.len(), pieces, if pieces == 1 { 0 } else { index });
            whole.start + piece.start..whole.start + piece.end
        };
        let tiles = part(self.weights.tiles().len(), along_oc, share / along_pixels, of_tiles);
        let pixels = self.pixels();
        let groups = part(pixels.div_ceil(self.group), along_pixels, share % along_pixels, of_pixels);
        (tiles, groups.start * self.group..(groups.end * self.group).min(pixels))
    }

    /// How shares are cut into pieces that another thread may take: along the loop that is outermost, where that makes nothing come from
    /// memory once more, and no finer than handing a piece over costs.
    pub(super) fn choose_pieces(&self) -> Pieces {
        /// Multiply-adds of a piece, at least: some microseconds.
        const FEWEST: u64 = 1 << 18;
        let (tiles, pixels) = self.share(0);
        let groups = pixels.len().div_ceil(self.group);
        let work = self.problem.macs() / self.shares() as u64;
        let count = usize::try_from(work / FEWEST).unwrap_or(usize::MAX).clamp(1, PIECES);
        let (of_tiles, count) = match self.algorithm {
            // A strip reads all weights, and the transformed input is every tile's.
            Algorithm::Winograd(variant) => (false, count.min(winograd::pieces(self, variant, groups))),
            _ if tiles.len() > 1 && pixels.len() <= self.pixel_block => (true, count.min(tiles.len())),
            _ => (false, count.min(groups)),
        };
        Pieces { of_tiles, count }
    }

    /// What the work is shared out by: output pixels, or Winograd's tiles of them.
    pub(super) fn pixels(&self) -> usize {
        let [oh, ow] = match self.algorithm {
            Algorithm::Winograd(variant) => self.output_size.map(|size| size.div_ceil(variant.outputs())),
            _ => self.output_size,
        };
        self.problem.n * oh * ow
    }

    /// The split whose largest share takes least time: register tiles, and words that come from further away than the thread's own cache.
    /// Those are its weights and, where several threads have tiles of OC, what other threads have written of the input and will read of
    /// the output: layers tend to be split along pixels.
    pub(super) fn choose_partition(&self, threads: usize) -> [usize; 2] {
        /// Cycles of a word from another core, or from the cache that cores share.
        const REMOTE: f64 = 0.25;
        let (tiles, groups) = (self.weights.tiles().len(), self.pixels().div_ceil(self.group));
        let steps = self.weights.tiles().iter().map(|tile| tile.segments.len()).max().unwrap_or(0) * self.weights.run();
        // Two multiply-adds a cycle of a vector of 16, or a tile of AMX in the time of eight.
        let accumulators = self.group * self.weights.conv_tile().len();
        let step = accumulators as f64 / if self.line.is_some() { 32.0 } else { 2.0 };
        let pass = step * steps.saturating_mul(self.weights.positions()) as f64;
        let channelwise = matches!(self.algorithm, Algorithm::Depthwise | Algorithm::Grouped);
        let cost = |along_oc: usize| {
            let along_pixels = (threads / along_oc).min(groups);
            let [o, p] = [along_oc, along_pixels].map(|n| n as f64);
            let largest = tiles.div_ceil(along_oc) as f64 * groups.div_ceil(along_pixels) as f64;
            let input = self.input.len() as f64 / if channelwise { o * p } else { p };
            let others = (input + self.output.len() as f64 / (o * p)) * (1.0 - 1.0 / o);
            // Each share along OC transforms its whole input.
            let transformed = if let Algorithm::Winograd(variant) = self.algorithm {
                self.pixels() as f64 * (variant.positions() * self.input.planes() * BLOCK) as f64 / p
            } else {
                0.0
            };
            largest * pass + REMOTE * (others + transformed + self.weights.len() as f64 / o)
        };
        let along_oc = (1..=threads.min(tiles)).min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(1);
        [along_oc, (threads / along_oc).min(groups)]
    }

    /// All pixels, or as many as have their input in half of a 512 KiB cache if that moves fewer bytes: either the weights
    /// come again for every block of pixels, or the input comes again for every tile of OC.
    pub(super) fn choose_pixel_block(&self) -> usize {
        const CACHE: usize = 64 * 1024;
        let pixels = self.pixels();
        let per_pixel = (self.input.len() / pixels).max(1);
        let block = (CACHE / per_pixel).max(4 * self.group).next_multiple_of(self.group);
        let reread = |len: usize, times: usize| if len > 2 * CACHE { len.saturating_mul(times) } else { 0 };
        let [along_oc, along_pixels] = self.partition;
        let whole = reread(self.input.len() / along_pixels, self.weights.tiles().len().div_ceil(along_oc));
        let blocked = reread(self.weights.len() / along_oc, pixels.div_ceil(block * along_pixels));
        if blocked < whole { block } else { pixels.next_multiple_of(self.group) }
    }
}
