//! How packed weights are laid out: OC in tiles of blocks, K of each tile in segments, and these in chunks of the accumulation.

use super::grouped::width_index;
use super::packed::{Order, PackedWeights};
use crate::parallel::range_of_part;
use crate::{BLOCK, Element};
use std::ops::Range;

/// A run of K: `run` words of channels at one tap (blocked layouts), or `run` taps of one row of one word of channels (others).
#[derive(Clone, Copy)]
pub(super) struct Segment {
    /// First word of input channels.
    pub word: usize,
    /// Row of the kernel.
    pub kh: usize,
    /// First column of the kernel.
    pub kw: usize,
}

/// Blocks of 16 output channels that read the same input channels and are computed together.
pub(super) struct OcTile {
    /// First block.
    pub first: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Which segments make up K.
    pub segments: Range<usize>,
    /// Segments in a chunk of the accumulation.
    pub chunk: usize,
    /// The last of the segments that are of a plane of channels which is not full, and the steps of it that carry data.
    pub tail: (usize, usize),
    /// Where its weights begin.
    pub weights: usize,
}

/// Most steps of K that are accumulated in one chain; see [`super::tile`]. Sums of bytes are exact, however long.
fn chunk_steps(element: Element) -> usize {
    match element {
        Element::F32 => 128,
        Element::Bf16 => 512,
        Element::U8 => usize::MAX,
    }
}

/// Most segments of K, and most blocks of output channels: the lists of them are limited, to some hundred megabytes, before they are made.
pub(super) const MAX_ENTRIES: usize = 1 << 22;

impl PackedWeights {
    /// The words of input channels that the output channels of a block need.
    fn inputs_of_block(&self, block: usize) -> Range<usize> {
        let [c, oc] = self.channels;
        let (width, outputs) = (c / self.groups, oc / self.groups);
        let first = block * BLOCK / outputs;
        let last = ((block + 1) * BLOCK).min(oc).div_ceil(outputs);
        first * width / self.per_word()..(last * width).div_ceil(self.per_word())
    }

    /// Splits OC into tiles, and K of each tile into segments. Nothing when there are too many of either.
    pub(super) fn lay_out(&mut self) -> Option<()> {
        let blocks = self.channels[1].div_ceil(BLOCK);
        if blocks > MAX_ENTRIES {
            return None;
        }
        if matches!(self.order, Order::Depthwise | Order::Grouped) {
            self.run = self.channels[0] / self.groups;
            let count = self.append_taps(0..1, 1)?.len();
            let len = count * self.run * BLOCK;
            self.tiles = (0..blocks)
                .map(|first| OcTile { first, blocks: 1, segments: 0..count, chunk: count, tail: (0, 0), weights: first * len })
                .collect();
            return Some(());
        }
        let inputs: Vec<Range<usize>> = (0..blocks).map(|b| self.inputs_of_block(b)).collect();
        let blocked = self.layout.is_blocked();
        self.run = if blocked {
            // Where every block of outputs reads the same few words of one plane of inputs, K is just those words.
            let width = inputs[0].len();
            let inside = |r: &Range<usize>| r.len() == width && r.start % BLOCK + width <= BLOCK;
            if inputs.iter().all(inside) { width } else { BLOCK }
        } else if self.unit_dilation {
            self.kernel[1]
        } else {
            1
        };
        let mut first = 0;
        let mut weights = 0;
        while first < blocks {
            let alike = inputs[first..].iter().take_while(|r| **r == inputs[first]).count();
            let segments = self.append_segments(&inputs[first])?;
            let lanes = inputs[first].end % BLOCK;
            let taps = if let Order::Winograd(_) = self.order { 1 } else { self.kernel[0] * self.kernel[1] };
            let tail = if blocked && self.run == BLOCK && lanes > 0 { (taps, lanes) } else { (0, 0) };
            // Blocks that read the same inputs are dealt evenly to as few tiles as the registers allow.
            let tiles = alike.div_ceil(self.conv_tile().len());
            for tile in 0..tiles {
                let share = range_of_part(alike, tiles, tile);
                let steps = segments.len() * self.nominal_run();
                let chunks = if self.is_one_chain() { 1 } else { steps.div_ceil(chunk_steps(self.layout.element())) };
                let chunk = segments.len().div_ceil(chunks);
                let tile = OcTile { first: first + share.start, blocks: share.len(), segments: segments.clone(), chunk, tail, weights };
                weights += self.tile_len(&tile);
                self.tiles.push(tile);
            }
            first += alike;
        }
        Some(())
    }

    /// Whether groups are narrower than a block, or the only one is as wide as kernels of narrow groups take: these have a channel in each
    /// lane and sum them up in one chain, and so do all.
    fn is_one_chain(&self) -> bool {
        let [width, outputs] = self.channels.map(|channels| channels / self.groups);
        width < BLOCK && (self.groups > 1 || width_index([width, outputs]).is_some())
    }

    /// Steps of a segment as the chunks count them: a block of 16 words however many of them carry data, so that chunks,
    /// and with them the result's bits, do not depend on how the lanes are run through.
    fn nominal_run(&self) -> usize {
        if self.layout.is_blocked() { BLOCK } else { self.run }
    }

    fn append_segments(&mut self, inputs: &Range<usize>) -> Option<Range<usize>> {
        if !self.layout.is_blocked() {
            self.append_taps(inputs.clone(), 1)
        } else if self.run == BLOCK {
            self.append_taps(inputs.start / BLOCK * BLOCK..inputs.end, BLOCK)
        } else {
            self.append_taps(inputs.clone(), inputs.len())
        }
    }

    /// Appends the taps of every `step`-th word of channels, those of one after those of the other.
    fn append_taps(&mut self, words: Range<usize>, step: usize) -> Option<Range<usize>> {
        let [rows, columns] = if let Order::Winograd(_) = self.order { [1, 1] } else { self.kernel };
        // Over planes of one word a pixel a segment is `run` taps of a row.
        let width = if self.layout.is_blocked() { 1 } else { self.run };
        let count = words.len().div_ceil(step).checked_mul(rows)?.checked_mul(columns / width)?;
        let start = self.segments.len();
        if start.checked_add(count)? > MAX_ENTRIES {
            return None;
        }
        for word in words.step_by(step) {
            for kh in 0..rows {
                self.segments.extend((0..columns).step_by(width).map(|kw| Segment { word, kh, kw }));
            }
        }
        Some(start..self.segments.len())
    }

    pub(super) fn tile_len(&self, tile: &OcTile) -> usize {
        tile.segments.len() * self.run * tile.blocks * BLOCK
    }
}
