//! While a convolution computes, the weights of the next one come from memory into cache: a network whose weights are larger
//! than the cache would otherwise wait for them in its last stages, where each weight is used for few pixels.

use super::tile::{PIXELS, TileArgs};
use super::{BLOCK, Conv, PackedWeights};
use crate::parallel::range_of_part;
use std::sync::Arc;

/// Most cache lines that are asked for during a segment, some two hundred cycles: memory gives no more.
const MAX_LINES: usize = 12;

/// Weights to ask for, and how fast.
pub(super) struct Ahead {
    weights: Arc<PackedWeights>,
    lines_per_segment: usize,
}

impl Conv {
    /// Lets this convolution bring the weights of another one, which runs next, into cache. The result does not change.
    pub fn prefetch(&mut self, next: Arc<PackedWeights>) {
        let [along_oc, along_pixels] = self.partition;
        let groups = self.pixels().div_ceil(PIXELS) / along_pixels;
        let segments: usize = self.weights.tiles().iter().map(|tile| tile.segments.len()).sum();
        let segments = (segments / along_oc).saturating_mul(groups).saturating_mul(self.weights.positions());
        let lines = next.len() / BLOCK / (along_oc * along_pixels);
        let lines_per_segment = lines.div_ceil(segments.max(1)).min(MAX_LINES);
        self.ahead = Some(Ahead { weights: next, lines_per_segment });
    }

    /// What is left to ask for in one of the partition's shares.
    pub(super) fn prefetcher(&self, share: usize) -> Prefetcher<'_> {
        let Some(ahead) = &self.ahead else { return Prefetcher { left: &[], lines_per_segment: 0 } };
        let weights = ahead.weights.data();
        let part = range_of_part(weights.len() / BLOCK, self.partition[0] * self.partition[1], share);
        Prefetcher { left: &weights[part.start * BLOCK..part.end * BLOCK], lines_per_segment: ahead.lines_per_segment }
    }
}

/// The lines that a thread still has to ask for.
pub(super) struct Prefetcher<'a> {
    left: &'a [f32],
    lines_per_segment: usize,
}

impl Prefetcher<'_> {
    /// Gives the next register tile its lines.
    pub fn enter(&mut self, args: &mut TileArgs) {
        let elements = self.lines_per_segment * args.segment_count * BLOCK;
        args.ahead = self.left.as_ptr();
        args.ahead_lines = if self.left.is_empty() { 0 } else { self.lines_per_segment };
        self.left = self.left.get(elements..).unwrap_or(&[]);
    }
}
