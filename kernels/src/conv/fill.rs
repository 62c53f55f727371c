//! Copies weights into the order of [`PackedWeights`].

use super::packed::{OcTile, Order, PackedWeights};
use crate::bf16::bf16_bits;
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{AlignedBuffer, BLOCK, Error};
use bytemuck::cast;

/// Weights `[OC, C/groups, KH, KW]`, and what they become.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    F32(&'a [f32]),
    /// To be rounded.
    Bf16(&'a [f32]),
    I8(&'a [i8]),
}

impl Source<'_> {
    pub fn len(&self) -> usize {
        match self {
            Source::F32(weight) | Source::Bf16(weight) => weight.len(),
            Source::I8(weight) => weight.len(),
        }
    }
}

impl PackedWeights {
    pub(super) fn fill(&mut self, weight: Source<'_>, executor: &dyn Executor) -> Result<(), Error> {
        let mut data = std::mem::replace(&mut self.data, AlignedBuffer::empty());
        let shared = SharedPointer::new(&mut data);
        let packed = &*self;
        let parts = Parts::of(executor);
        let filled = parts.run(&|thread| {
            for tile in &packed.tiles[parts.range(packed.tiles.len(), thread)] {
                let mut destinations = Vec::with_capacity(packed.positions());
                for position in 0..packed.positions() {
                    let offset = position * packed.position_len() + tile.weights;
                    // SAFETY: the buffer was made to hold every tile at every position; tiles do not overlap and are shared
                    // out to the threads.
                    destinations.push(unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(offset), packed.tile_len(tile)) });
                }
                match weight {
                    Source::F32(weight) => packed.fill_tile(weight, tile, &mut destinations),
                    // Their lanes are channels, and f32.
                    Source::Bf16(weight) if packed.per_word() == 1 => packed.fill_tile(weight, tile, &mut destinations),
                    Source::Bf16(weight) => {
                        packed.fill_words::<2>(tile, destinations[0], |at| cast(at.map(|at| at.map_or(0, |i| bf16_bits(weight[i])))));
                    }
                    Source::I8(weight) if packed.per_word() == 1 => {
                        packed.fill_words::<1>(tile, destinations[0], |at| at[0].map_or(0, |i| i32::from(weight[i]) as u32));
                    }
                    Source::I8(weight) => packed.fill_words::<4>(tile, destinations[0], |at| cast(at.map(|at| at.map_or(0, |i| weight[i])))),
                }
            }
        });
        self.data = data;
        filled
    }

    fn fill_tile(&self, weight: &[f32], tile: &OcTile, destinations: &mut [&mut [f32]]) {
        let [c, oc] = self.channels;
        let [rows, columns] = self.kernel;
        let (width, outputs) = (c / self.groups, oc / self.groups);
        let lanes = tile.blocks * BLOCK;
        let window = rows * columns;
        let first = tile.first * BLOCK;
        // All taps of a block of channels at a time, and all of them for a lane before the next: the lanes' rows of weights lie so
        // far apart, often by a power of two, that a column of them would not stay in cache.
        let mut s = 0;
        for taps in self.segments[tile.segments.clone()].chunk_by(|a, b| a.word == b.word) {
            for lane in 0..lanes.min(oc - first) {
                let o = first + lane;
                let group = o / outputs * width;
                for (tap, segment) in taps.iter().enumerate() {
                    let at = (s + tap) * self.run * lanes + lane;
                    // The channels of the segment that are in the lane's group, and the steps of K that they are.
                    let channel = match self.order {
                        Order::Depthwise | Order::Grouped => group,
                        _ => segment.word,
                    };
                    let channels = if !self.layout.is_blocked() { 1 } else { self.run };
                    let (begin, end) = (channel.max(group), (channel + channels).min(group + width));
                    if begin >= end {
                        continue;
                    }
                    let steps = if !self.layout.is_blocked() { 0..self.run } else { begin - channel..end - channel };
                    let own = begin - group;
                    let kernels = &weight[(o * width + own) * window..(o + 1) * width * window];
                    let places = (at + steps.start * lanes..).step_by(lanes).take(steps.len());
                    if let Order::Winograd(variant) = self.order {
                        for (place, kernel) in places.zip(kernels.chunks_exact(window)) {
                            for (value, destination) in variant.transform_kernel(kernel).iter().zip(destinations.iter_mut()) {
                                destination[place] = *value;
                            }
                        }
                        continue;
                    }
                    // From a step to the next: another column of the kernel over NCHW, else another channel.
                    let next = if !self.layout.is_blocked() { 1 } else { window };
                    let values = kernels[segment.kh * columns + segment.kw..].iter().step_by(next);
                    for (place, value) in places.zip(values) {
                        destinations[0][place] = *value;
                    }
                }
            }
            s += taps.len();
        }
    }

    /// Fills a tile with words of N channels. `word` makes one of the weights' indices; where a channel is none of the output's group,
    /// or behind the last, there is none.
    fn fill_words<const N: usize>(&self, tile: &OcTile, destination: &mut [f32], word: impl Fn([Option<usize>; N]) -> u32) {
        let [c, oc] = self.channels;
        let [rows, columns] = self.kernel;
        let (width, outputs) = (c / self.groups, oc / self.groups);
        let lanes = tile.blocks * BLOCK;
        let first = tile.first * BLOCK;
        let words: &mut [u32] = bytemuck::cast_slice_mut(destination);
        let lane_is_channel = matches!(self.order, Order::Depthwise | Order::Grouped);
        let mut s = 0;
        for taps in self.segments[tile.segments.clone()].chunk_by(|a, b| a.word == b.word) {
            for lane in 0..lanes.min(oc - first) {
                let o = first + lane;
                let group = o / outputs * width;
                for (tap, segment) in taps.iter().enumerate() {
                    for step in 0..self.run {
                        let (channel, kw) = if lane_is_channel {
                            (group + step, segment.kw)
                        } else if self.layout.is_blocked() {
                            ((segment.word + step) * N, segment.kw)
                        } else {
                            (segment.word * N, segment.kw + step)
                        };
                        let index = |j: usize| {
                            let own = (channel + j).checked_sub(group).filter(|own| *own < width)?;
                            Some(((o * width + own) * rows + segment.kh) * columns + kw)
                        };
                        words[((s + tap) * self.run + step) * lanes + lane] = word(std::array::from_fn(index));
                    }
                }
            }
            s += taps.len();
        }
    }
}
