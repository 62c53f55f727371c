//! Copies weights into the order of [`PackedWeights`], tile by tile.

use super::WeightSource;
use super::packed::{Data, Order, PackedWeights};
use super::segments::OcTile;
use super::winograd::Winograd;
use crate::bf16::bf16_bits;
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{AlignedBuffer, BLOCK, Element, Error};
use bytemuck::cast;
use std::ops::Range;
use std::sync::Mutex;

impl PackedWeights {
    /// From floats, rounded where the kernels multiply bfloat16.
    pub(super) fn fill<S: WeightSource + ?Sized>(&mut self, source: &S, executor: &dyn Executor) -> Result<(), S::Error> {
        let rounds = self.layout.element() == Element::Bf16 && self.per_word() == 2;
        self.fill_tiles(executor, |packed, tile, buffer, destinations| {
            let rows = packed.rows(tile);
            let weight = source.read(rows.clone(), buffer)?;
            if weight.len() != rows.len() {
                return Err(Error::Length { what: "convolution weights", expected: rows.len(), found: weight.len() }.into());
            }
            if let (true, Order::Winograd(variant)) = (rounds, packed.order) {
                packed.fill_transformed_halves(weight, variant, tile, destinations);
            } else if rounds {
                let word = |at: [Option<usize>; 2]| cast(at.map(|at| at.map_or(0, |i| bf16_bits(weight[i]))));
                packed.fill_words(tile, destinations[0], word);
            } else {
                packed.fill_tile(weight, tile, destinations);
            }
            Ok(())
        })
    }

    /// From bytes.
    pub(super) fn fill_bytes(&mut self, weight: &[i8], executor: &dyn Executor) -> Result<(), Error> {
        self.fill_tiles(executor, |packed, tile, _, destinations| {
            let weight = &weight[packed.rows(tile)];
            if packed.per_word() == 1 {
                packed.fill_words(tile, destinations[0], |[at]| at.map_or(0, |i| i32::from(weight[i]) as u32));
            } else {
                packed.fill_words(tile, destinations[0], |at: [Option<usize>; 4]| cast(at.map(|at| at.map_or(0, |i| weight[i]))));
            }
            Ok(())
        })
    }

    /// Lets `each` fill every tile: it is given the tile's place at every position, and a buffer for what it needs.
    fn fill_tiles<E: From<Error> + Send>(
        &mut self,
        executor: &dyn Executor,
        each: impl Fn(&PackedWeights, &OcTile, &mut Vec<f32>, &mut [&mut [f32]]) -> Result<(), E> + Sync,
    ) -> Result<(), E> {
        let mut data = AlignedBuffer::zeros(self.len_needed())?;
        let shared = SharedPointer::new(&mut data);
        let packed = &*self;
        let parts = Parts::of(executor);
        let refused = Mutex::new(None);
        let filled = parts.run(&|thread| {
            let mut buffer = Vec::new();
            for tile in &packed.tiles[parts.range(packed.tiles.len(), thread)] {
                let mut destinations = Vec::with_capacity(packed.positions());
                for position in 0..packed.positions() {
                    let offset = position * packed.position_len() + tile.weights;
                    // SAFETY: the buffer was made to hold every tile at every position; tiles do not overlap and are shared
                    // out to the threads.
                    destinations.push(unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(offset), packed.tile_len(tile)) });
                }
                if let Err(error) = each(packed, tile, &mut buffer, &mut destinations) {
                    *refused.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                    return;
                }
            }
        });
        self.data = Data::Own(data);
        match refused.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            Some(error) => Err(error),
            None => Ok(filled?),
        }
    }

    /// The elements of the original weights that a tile is packed from.
    fn rows(&self, tile: &OcTile) -> Range<usize> {
        let [c, oc] = self.channels;
        let row = c / self.groups * self.kernel[0] * self.kernel[1];
        let first = tile.first * BLOCK;
        first * row..(first + tile.blocks * BLOCK).min(oc) * row
    }

    /// Packs a tile from the weights of its own output channels.
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
                    let kernels = &weight[(lane * width + own) * window..(lane + 1) * width * window];
                    let first = at + steps.start * lanes;
                    if let Order::Winograd(variant) = self.order {
                        for (place, kernel) in (first..).step_by(lanes).zip(kernels.chunks_exact(window)).take(steps.len()) {
                            for (value, destination) in variant.transform_kernel(kernel).iter().zip(destinations.iter_mut()) {
                                destination[place] = *value;
                            }
                        }
                        continue;
                    }
                    // From a step to the next: another column of the kernel over NCHW, else another channel.
                    let next = if !self.layout.is_blocked() { 1 } else { window };
                    scatter(&kernels[segment.kh * columns + segment.kw..], next, &mut destinations[0][first..], lanes, steps.len());
                }
            }
            s += taps.len();
        }
    }

    /// Packs a tile from the weights of its own output channels: each word has the transformed kernels of two input channels, rounded.
    fn fill_transformed_halves(&self, weight: &[f32], variant: Winograd, tile: &OcTile, destinations: &mut [&mut [f32]]) {
        let [c, oc] = self.channels;
        let lanes = tile.blocks * BLOCK;
        for lane in 0..lanes.min(oc - tile.first * BLOCK) {
            let kernels = &weight[lane * c * 9..(lane + 1) * c * 9];
            for (s, segment) in self.segments[tile.segments.clone()].iter().enumerate() {
                let words = kernels.chunks(2 * 9).skip(segment.word).take(self.run);
                for (place, pair) in ((s * self.run * lanes + lane)..).step_by(lanes).zip(words) {
                    let mut transformed = [[0.0; 36]; 2];
                    for (transformed, kernel) in transformed.iter_mut().zip(pair.chunks_exact(9)) {
                        *transformed = variant.transform_kernel(kernel);
                    }
                    for (position, destination) in destinations.iter_mut().enumerate() {
                        destination[place] = cast(transformed.map(|values| bf16_bits(values[position])));
                    }
                }
            }
        }
    }

    /// Fills a tile with words of N channels. `word` makes one of the indices of weights among those of the tile's output channels;
    /// where a channel is none of the output's group, or behind the last, there is none.
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
                            Some(((lane * width + own) * rows + segment.kh) * columns + kw)
                        };
                        words[((s + tap) * self.run + step) * lanes + lane] = word(std::array::from_fn(index));
                    }
                }
            }
            s += taps.len();
        }
    }
}

/// Writes every `next`-th of `values` to every `lanes`-th place, `count` of them.
fn scatter(values: &[f32], next: usize, places: &mut [f32], lanes: usize, count: usize) {
    // Indices, not two stepping iterators, which take three times the instructions.
    let [mut from, mut to] = [0, 0];
    for _ in 0..count {
        places[to] = values[from];
        from += next;
        to += lanes;
    }
}
