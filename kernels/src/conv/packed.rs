//! Weights in the order in which the register tile reads them, with the segments of K that they belong to.

use super::winograd::Winograd;
use super::{Algorithm, ConvProblem, WeightSource};
use crate::parallel::{Executor, Parts, SharedPointer, range_of_part};
use crate::{AlignedBuffer, BLOCK, Error, KernelTable, Layout};
use std::ops::Range;
use std::sync::Mutex;

/// A run of K: `run` channels at one tap (NCHW16c), or `run` taps of one row of one channel (NCHW).
#[derive(Clone, Copy)]
pub(super) struct Segment {
    /// First input channel.
    pub channel: usize,
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
    /// The last of the segments that are of a block of channels which is not full, and the steps of it that carry data.
    pub tail: (usize, usize),
    /// Where its weights begin.
    pub weights: usize,
}

/// Most steps of K that are accumulated in one chain; see [`super::tile`].
const CHUNK_STEPS: usize = 512;

/// Most segments of K, and most blocks of output channels: the lists of them are limited, to some hundred megabytes, before they are made.
const MAX_ENTRIES: usize = 1 << 22;

/// What packed weights are, and in which order. Algorithms of one order share them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Order {
    /// `[oc tile][segment][run][tile]`, for the register tile.
    Tiles,
    /// `[block][kh][kw][16]`.
    Depthwise,
    /// `[block][kh][kw][G][16]`, G being the channels of a group.
    Grouped,
    /// Transformed: `[position]` of what `Tiles` has for a 1×1 kernel.
    Winograd(Winograd),
}

impl Algorithm {
    /// The order of weights that the algorithm reads.
    pub fn weight_order(self) -> Order {
        match self {
            Algorithm::Direct | Algorithm::Im2colGemm => Order::Tiles,
            Algorithm::Depthwise => Order::Depthwise,
            Algorithm::Grouped => Order::Grouped,
            Algorithm::Winograd(variant) => Order::Winograd(variant),
        }
    }
}

/// Packed weights and bias of a convolution. They depend on the channels, kernel, dilation and groups of the problem, on the
/// layout of its input and on the instruction set's tile, but on no image size: sessions of any shape share them.
pub struct PackedWeights {
    table: &'static KernelTable,
    layout: Layout,
    order: Order,
    channels: [usize; 2],
    kernel: [usize; 2],
    unit_dilation: bool,
    groups: usize,
    run: usize,
    segments: Vec<Segment>,
    tiles: Vec<OcTile>,
    data: AlignedBuffer,
    bias: AlignedBuffer,
}

impl PackedWeights {
    /// Packs weights `[OC, C/groups, KH, KW]` and a bias `[OC]` for an algorithm and an input of the given layout, on all of the
    /// executor's threads.
    ///
    /// # Errors
    /// When the problem is malformed, has too many channels or taps or is not one for the algorithm, a slice has another length,
    /// there is no memory, or the executor leaves a part out.
    pub fn pack(
        table: &'static KernelTable,
        problem: &ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
        weight: &[f32],
        bias: Option<&[f32]>,
        executor: &dyn Executor,
    ) -> Result<PackedWeights, Error> {
        algorithm.check(problem, layout)?;
        if weight.len() != problem.weight_len() {
            return Err(Error::Length { what: "convolution weights", expected: problem.weight_len(), found: weight.len() });
        }
        PackedWeights::pack_from(table, problem, algorithm, layout, weight, bias, executor)
    }

    /// Likewise, from weights that are read piece by piece: never more than the rows of one tile of output channels a thread.
    ///
    /// # Errors
    /// As [`PackedWeights::pack`], and what the source refuses.
    pub fn pack_from<S: WeightSource + ?Sized>(
        table: &'static KernelTable,
        problem: &ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
        source: &S,
        bias: Option<&[f32]>,
        executor: &dyn Executor,
    ) -> Result<PackedWeights, S::Error> {
        algorithm.check(problem, layout)?;
        if let Some(b) = bias
            && b.len() != problem.oc
        {
            return Err(Error::Length { what: "convolution bias", expected: problem.oc, found: b.len() }.into());
        }
        let mut packed = PackedWeights::laid_out(table, problem, algorithm, layout)?;
        packed.bias = AlignedBuffer::zeros(problem.oc.next_multiple_of(BLOCK))?;
        if let Some(b) = bias {
            packed.bias[..problem.oc].copy_from_slice(b);
        }
        packed.data = AlignedBuffer::zeros(packed.len_needed())?;
        packed.fill(source, executor)?;
        Ok(packed)
    }

    /// Bytes that the weights of a problem take when packed for an algorithm.
    ///
    /// # Errors
    /// When the problem is malformed, has too many channels or taps or is not one for the algorithm.
    pub fn bytes_needed(table: &'static KernelTable, problem: &ConvProblem, algorithm: Algorithm, layout: Layout) -> Result<usize, Error> {
        algorithm.check(problem, layout)?;
        Ok(PackedWeights::laid_out(table, problem, algorithm, layout)?.len_needed().saturating_mul(size_of::<f32>()))
    }

    fn laid_out(table: &'static KernelTable, problem: &ConvProblem, algorithm: Algorithm, layout: Layout) -> Result<PackedWeights, Error> {
        let mut packed = PackedWeights {
            table,
            layout,
            order: algorithm.weight_order(),
            channels: [problem.c, problem.oc],
            kernel: problem.kernel,
            unit_dilation: problem.dilation[1] == 1,
            groups: problem.groups,
            run: 1,
            segments: Vec::new(),
            tiles: Vec::new(),
            data: AlignedBuffer::empty(),
            bias: AlignedBuffer::empty(),
        };
        if packed.lay_out().is_none() {
            let reason =
                format!("its weights have more than {MAX_ENTRIES} blocks of output channels or segments of input channels and taps");
            return Err(Error::Problem { problem: problem.to_string(), reason });
        }
        Ok(packed)
    }

    fn len_needed(&self) -> usize {
        self.positions().saturating_mul(self.position_len())
    }

    /// How many times the tiles' weights are there: for each position of a Winograd tile.
    pub(super) fn positions(&self) -> usize {
        match self.order {
            Order::Winograd(variant) => variant.positions(),
            _ => 1,
        }
    }

    /// Elements of all tiles at one position.
    fn position_len(&self) -> usize {
        self.tiles.last().map_or(0, |t| t.weights + self.tile_len(t))
    }

    /// Elements of the packed weights.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Never true: a problem has weights.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub(super) fn table(&self) -> &'static KernelTable {
        self.table
    }

    pub(super) fn run(&self) -> usize {
        self.run
    }

    pub(super) fn tiles(&self) -> &[OcTile] {
        &self.tiles
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    pub(super) fn tile_weights(&self, tile: &OcTile, position: usize) -> &[f32] {
        &self.data[position * self.position_len() + tile.weights..][..self.tile_len(tile)]
    }

    /// Where in [`PackedWeights::data`] the weights of neighbouring tiles lie at a position.
    pub(super) fn elements(&self, tiles: &Range<usize>, position: usize) -> Range<usize> {
        let start = position * self.position_len();
        let at = |tile: usize| self.tiles.get(tile).map_or(self.position_len(), |t| t.weights);
        start + at(tiles.start)..start + at(tiles.end)
    }

    /// All packed weights.
    pub(super) fn data(&self) -> &[f32] {
        &self.data
    }

    /// The bias, padded to blocks.
    pub(super) fn bias(&self) -> &[f32] {
        &self.bias
    }

    pub(super) fn tile_bias(&self, tile: &OcTile) -> &[f32] {
        &self.bias[tile.first * BLOCK..(tile.first + tile.blocks) * BLOCK]
    }

    /// Offsets of the segments in a row gathered by im2col: one behind the other, from the first segment of each tile.
    pub(super) fn row_offsets(&self) -> Vec<usize> {
        let mut offsets = vec![0; self.segments.len()];
        for tile in &self.tiles {
            for (i, segment) in tile.segments.clone().enumerate() {
                offsets[segment] = i * self.run;
            }
        }
        offsets
    }

    /// Checks that the weights are those of a problem.
    pub(super) fn check(&self, problem: &ConvProblem, layout: Layout, algorithm: Algorithm) -> Result<(), Error> {
        let same = self.channels == [problem.c, problem.oc]
            && self.kernel == problem.kernel
            && self.unit_dilation == (problem.dilation[1] == 1)
            && self.groups == problem.groups
            && self.layout == layout
            && self.order == algorithm.weight_order();
        if same {
            return Ok(());
        }
        let reason = format!("the weights were packed for another problem, layout or algorithm than {layout:?}, {}", algorithm.name());
        Err(Error::Problem { problem: problem.to_string(), reason })
    }

    /// The input channels that the output channels of a block need.
    fn inputs_of_block(&self, block: usize) -> Range<usize> {
        let [c, oc] = self.channels;
        let (width, outputs) = (c / self.groups, oc / self.groups);
        let first = block * BLOCK / outputs;
        let last = ((block + 1) * BLOCK).min(oc).div_ceil(outputs);
        first * width..last * width
    }

    /// Splits OC into tiles, and K of each tile into segments. Nothing when there are too many of either.
    fn lay_out(&mut self) -> Option<()> {
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
        self.run = match self.layout {
            Layout::Nchw if self.unit_dilation => self.kernel[1],
            Layout::Nchw => 1,
            // Where every block of outputs reads the same few lanes of one block of inputs, K is just those lanes.
            Layout::Nchw16c => {
                let width = inputs[0].len();
                let inside = |r: &Range<usize>| r.len() == width && r.start % BLOCK + width <= BLOCK;
                if inputs.iter().all(inside) { width } else { BLOCK }
            }
        };
        let mut first = 0;
        let mut weights = 0;
        while first < blocks {
            let alike = inputs[first..].iter().take_while(|r| **r == inputs[first]).count();
            let segments = self.append_segments(&inputs[first])?;
            let lanes = inputs[first].end % BLOCK;
            let taps = if let Order::Winograd(_) = self.order { 1 } else { self.kernel[0] * self.kernel[1] };
            let tail = if self.layout == Layout::Nchw16c && self.run == BLOCK && lanes > 0 { (taps, lanes) } else { (0, 0) };
            // Blocks that read the same inputs are dealt evenly to as few tiles as the registers allow.
            let tiles = alike.div_ceil(self.table.max_blocks());
            for tile in 0..tiles {
                let share = range_of_part(alike, tiles, tile);
                let chunks = (segments.len() * self.nominal_run()).div_ceil(CHUNK_STEPS);
                let chunk = segments.len().div_ceil(chunks);
                let tile = OcTile { first: first + share.start, blocks: share.len(), segments: segments.clone(), chunk, tail, weights };
                weights += self.tile_len(&tile);
                self.tiles.push(tile);
            }
            first += alike;
        }
        Some(())
    }

    /// Steps of a segment as the chunks count them: a block of 16 channels however many of them carry data, so that chunks,
    /// and with them the result's bits, do not depend on how the lanes are run through.
    fn nominal_run(&self) -> usize {
        if self.layout == Layout::Nchw16c { BLOCK } else { self.run }
    }

    fn append_segments(&mut self, inputs: &Range<usize>) -> Option<Range<usize>> {
        match self.layout {
            Layout::Nchw => self.append_taps(inputs.clone(), 1),
            Layout::Nchw16c if self.run == BLOCK => self.append_taps(inputs.start / BLOCK * BLOCK..inputs.end, BLOCK),
            Layout::Nchw16c => self.append_taps(inputs.clone(), inputs.len()),
        }
    }

    /// Appends the taps of every `step`-th channel, those of one after those of the other.
    fn append_taps(&mut self, channels: Range<usize>, step: usize) -> Option<Range<usize>> {
        let [rows, columns] = if let Order::Winograd(_) = self.order { [1, 1] } else { self.kernel };
        // Over NCHW a segment is `run` taps of a row.
        let width = if self.layout == Layout::Nchw { self.run } else { 1 };
        let count = channels.len().div_ceil(step).checked_mul(rows)?.checked_mul(columns / width)?;
        let start = self.segments.len();
        if start.checked_add(count)? > MAX_ENTRIES {
            return None;
        }
        for channel in channels.step_by(step) {
            for kh in 0..rows {
                self.segments.extend((0..columns).step_by(width).map(|kw| Segment { channel, kh, kw }));
            }
        }
        Some(start..self.segments.len())
    }

    fn tile_len(&self, tile: &OcTile) -> usize {
        tile.segments.len() * self.run * tile.blocks * BLOCK
    }

    fn fill<S: WeightSource + ?Sized>(&mut self, source: &S, executor: &dyn Executor) -> Result<(), S::Error> {
        let mut data = std::mem::replace(&mut self.data, AlignedBuffer::empty());
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
        self.data = data;
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
