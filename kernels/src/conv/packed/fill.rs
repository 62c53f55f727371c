//! Packing: weights into the order that their [`PackedWeights`] have laid out.

use super::{OcTile, Order, PackedWeights};
use crate::conv::WeightSource;
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{BLOCK, Error, Layout};
use std::ops::Range;
use std::sync::Mutex;

impl PackedWeights {
    /// Packs all tiles into `data`, which has room for them.
    pub(super) fn fill<S: WeightSource + ?Sized>(&self, source: &S, data: &mut [f32], executor: &dyn Executor) -> Result<(), S::Error> {
        let shared = SharedPointer::new(data);
        let packed = self;
        let parts = Parts::of(executor);
        let refused = Mutex::new(None);
        let filled = parts.run(&|thread| {
            let mut buffer = Vec::new();
            for tile in &packed.tiles[parts.range(packed.tiles.len(), thread)] {
                let mut destinations = Vec::with_capacity(packed.positions());
                for position in 0..packed.positions() {
                    let offset = position * packed.position_len() + tile.weights;
                    // SAFETY: `pack_from` made the buffer to hold every tile at every position; tiles do not overlap and are shared
                    // out to the threads.
                    destinations.push(unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(offset), packed.tile_len(tile)) });
                }
                let rows = packed.rows(tile);
                let read = source.read(rows.clone(), &mut buffer).and_then(|weight| match weight.len() == rows.len() {
                    true => Ok(weight),
                    false => Err(Error::Length { what: "convolution weights", expected: rows.len(), found: weight.len() }.into()),
                });
                match read {
                    Ok(weight) => packed.fill_tile(weight, tile, &mut destinations),
                    Err(error) => {
                        *refused.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                        return;
                    }
                }
            }
        });
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
        for taps in self.segments[tile.segments.clone()].chunk_by(|a, b| a.channel == b.channel) {
            for lane in 0..lanes.min(oc - first) {
                let o = first + lane;
                let group = o / outputs * width;
                for (tap, segment) in taps.iter().enumerate() {
                    let at = (s + tap) * self.run * lanes + lane;
                    // The channels of the segment that are in the lane's group, and the steps of K that they are.
                    let channel = match self.order {
                        Order::Depthwise | Order::Grouped => group,
                        _ => segment.channel,
                    };
                    let channels = if self.layout == Layout::Nchw { 1 } else { self.run };
                    let (begin, end) = (channel.max(group), (channel + channels).min(group + width));
                    if begin >= end {
                        continue;
                    }
                    let steps = if self.layout == Layout::Nchw { 0..self.run } else { begin - channel..end - channel };
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
                    let next = if self.layout == Layout::Nchw { 1 } else { window };
                    scatter(&kernels[segment.kh * columns + segment.kw..], next, &mut destinations[0][first..], lanes, steps.len());
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
