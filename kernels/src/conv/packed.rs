//! Weights in the order in which the register tile reads them, with the segments of K that they belong to.

use super::segments::{MAX_ENTRIES, OcTile, Segment};
use super::tile::{ByRuns, TileFn, Tiles};
use super::winograd::Winograd;
use super::{Algorithm, ConvProblem, WeightSource};
use crate::bf16::Bf16Table;
use crate::int8::Int8Table;
use crate::parallel::Executor;
use crate::shared::{ALIGNMENT, SharedSlice};
use crate::{AlignedBuffer, BLOCK, Element, Error, Isa, KernelTable, Layout};
use std::ops::Range;

/// The kernels that weights are packed for.
#[derive(Clone, Copy)]
pub(super) enum Kernels {
    F32(&'static KernelTable),
    Bf16(&'static Bf16Table),
    Int8(&'static Int8Table),
}

impl Kernels {
    fn tiles(self) -> Tiles {
        match self {
            Kernels::F32(table) => Tiles::new(table.conv_tile),
            Kernels::Bf16(table) => table.conv_tile,
            Kernels::Int8(table) => table.conv_tile,
        }
    }

    fn isa(self) -> Isa {
        match self {
            Kernels::F32(table) => table.isa,
            Kernels::Bf16(table) => table.isa,
            Kernels::Int8(table) => table.isa,
        }
    }

    fn element(self) -> Element {
        match self {
            Kernels::F32(_) => Element::F32,
            Kernels::Bf16(_) => Element::Bf16,
            Kernels::Int8(_) => Element::U8,
        }
    }
}

/// Goes up whenever the order or the values of packed weights change, so that what was packed and stored before is refused.
/// `kernels/tests/packing.rs` fails when they change without it.
pub const PACKING_VERSION: u32 = 1;

/// What packed weights are, and in which order. Algorithms of one order share them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
    pub(super) kernels: Kernels,
    pub(super) layout: Layout,
    pub(super) order: Order,
    pub(super) channels: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) unit_dilation: bool,
    pub(super) groups: usize,
    pub(super) run: usize,
    pub(super) segments: Vec<Segment>,
    pub(super) tiles: Vec<OcTile>,
    /// The byte that stands for zero in the input, where that is bytes: the bias makes up for it.
    zero: u8,
    pub(super) weight_scales: Vec<f32>,
    pub(super) data: Data,
    bias: AlignedBuffer,
}

/// Packed weights in memory of their own, or of someone else's.
pub(super) enum Data {
    Own(AlignedBuffer),
    Shared(SharedSlice),
}

impl std::ops::Deref for Data {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Data::Own(buffer) => buffer,
            Data::Shared(slice) => slice.as_slice(),
        }
    }
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
        check_weights(problem, weight.len())?;
        PackedWeights::pack_from(table, problem, algorithm, layout, weight, bias, executor)
    }

    /// Likewise, from weights that are read piece by piece: never more than the rows of one tile of output channels a thread. For an
    /// input of bf16 they are rounded as [`PackedWeights::pack_bf16`] says.
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
        let kernels = if layout.element() == Element::Bf16 { Kernels::Bf16(table.bf16()?) } else { Kernels::F32(table) };
        PackedWeights::pack_floats(kernels, problem, algorithm, layout, source, bias, executor)
    }

    /// Weights for an input of f32 or bf16 that were packed before, under the same [`PACKING_VERSION`](super::PACKING_VERSION) and for a
    /// table of the same [`KernelTable::max_blocks_of`] its element, and the bias that goes with them. Nothing is copied but the bias.
    ///
    /// # Errors
    /// When the input is of bytes, the problem is malformed, has too many channels or taps or is not one for the algorithm, a slice has another length, or
    /// the weights do not start at a cache line.
    pub fn from_packed(
        table: &'static KernelTable,
        problem: &ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
        data: SharedSlice,
        bias: Option<&[f32]>,
    ) -> Result<PackedWeights, Error> {
        let kernels = match layout.element() {
            Element::F32 => Kernels::F32(table),
            Element::Bf16 => Kernels::Bf16(table.bf16()?),
            Element::U8 => {
                let reason = "weights of bytes go with scales that packed weights alone do not have".into();
                return Err(Error::Problem { problem: problem.to_string(), reason });
            }
        };
        check_kernels(kernels, problem, algorithm, layout)?;
        let mut packed = PackedWeights::laid_out(kernels, problem, algorithm, layout)?;
        packed.set_bias(problem, bias)?;
        let (expected, found) = (packed.len_needed(), data.as_slice().len());
        if expected != found {
            return Err(Error::Length { what: "packed convolution weights", expected, found });
        }
        if !data.as_slice().as_ptr().addr().is_multiple_of(ALIGNMENT) {
            let reason = format!("packed weights must start at a multiple of {ALIGNMENT} bytes");
            return Err(Error::Problem { problem: problem.to_string(), reason });
        }
        packed.data = Data::Shared(data);
        Ok(packed)
    }

    fn set_bias(&mut self, problem: &ConvProblem, bias: Option<&[f32]>) -> Result<(), Error> {
        self.bias = AlignedBuffer::zeros(problem.oc.next_multiple_of(BLOCK))?;
        if let Some(b) = bias {
            check_bias(problem, b.len())?;
            self.bias[..problem.oc].copy_from_slice(b);
        }
        Ok(())
    }

    /// Packs weights `[OC, C/groups, KH, KW]`, which are rounded to bf16 (those of depthwise and narrow groups stay f32), and a bias
    /// `[OC]` for an input of bf16.
    ///
    /// # Errors
    /// As [`PackedWeights::pack`].
    pub fn pack_bf16(
        table: &'static Bf16Table,
        problem: &ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
        weight: &[f32],
        bias: Option<&[f32]>,
        executor: &dyn Executor,
    ) -> Result<PackedWeights, Error> {
        algorithm.check(problem, layout)?;
        check_weights(problem, weight.len())?;
        PackedWeights::pack_floats(Kernels::Bf16(table), problem, algorithm, layout, weight, bias, executor)
    }

    /// Packs weights `[OC, C/groups, KH, KW]` and a bias `[OC]`, in units of what a product of one step of the input and one of the
    /// weights is worth, for an input of bytes in which `zero` stands for zero.
    ///
    /// # Errors
    /// As [`PackedWeights::pack`], and when a sum could be more than 32 bits hold.
    #[allow(clippy::too_many_arguments)]
    pub fn pack_int8(
        table: &'static Int8Table,
        problem: &ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
        weight: &[i8],
        bias: Option<&[i32]>,
        zero: u8,
        executor: &dyn Executor,
    ) -> Result<PackedWeights, Error> {
        check_kernels(Kernels::Int8(table), problem, algorithm, layout)?;
        check_weights(problem, weight.len())?;
        if let Some(b) = bias {
            check_bias(problem, b.len())?;
        }
        let mut packed = PackedWeights::laid_out(Kernels::Int8(table), problem, algorithm, layout)?;
        packed.set_bias(problem, None)?;
        packed.zero = zero;
        packed.fill_bytes(weight, executor)?;
        // Where the tile takes signed bytes only, they come less an offset.
        let offset = if packed.order == Order::Tiles { i64::from(table.offset) } else { 0 };
        let row = weight.len() / problem.oc;
        let words: &mut [i32] = bytemuck::cast_slice_mut(&mut packed.bias);
        for (o, (weights, word)) in weight.chunks_exact(row).zip(words).enumerate() {
            let sum: i64 = weights.iter().map(|w| i64::from(*w)).sum();
            let magnitude: i64 = weights.iter().map(|w| i64::from(*w).abs()).sum();
            let (bias, zero) = (bias.map_or(0, |b| i64::from(b[o])), i64::from(zero));
            if magnitude * 255 + (bias - zero * sum).abs() > i64::from(i32::MAX) {
                let reason = format!("the sum of output channel {o} may be more than 32 bits hold");
                return Err(Error::Problem { problem: problem.to_string(), reason });
            }
            // It wraps, as the products and sums of the kernels do: what the offset adds here, they take off again.
            *word = (bias + (offset - zero) * sum) as i32;
        }
        Ok(packed)
    }

    fn pack_floats<S: WeightSource + ?Sized>(
        kernels: Kernels,
        problem: &ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
        source: &S,
        bias: Option<&[f32]>,
        executor: &dyn Executor,
    ) -> Result<PackedWeights, S::Error> {
        check_kernels(kernels, problem, algorithm, layout)?;
        let mut packed = PackedWeights::laid_out(kernels, problem, algorithm, layout)?;
        packed.set_bias(problem, bias)?;
        packed.fill(source, executor)?;
        Ok(packed)
    }

    /// Bytes that the weights of a problem take when packed for an algorithm.
    ///
    /// # Errors
    /// When the problem is malformed, has too many channels or taps or is not one for the algorithm.
    pub fn bytes_needed(table: &'static KernelTable, problem: &ConvProblem, algorithm: Algorithm, layout: Layout) -> Result<usize, Error> {
        let kernels = match layout.element() {
            Element::F32 => Kernels::F32(table),
            Element::Bf16 => Kernels::Bf16(table.bf16()?),
            Element::U8 => Kernels::Int8(table.int8()?),
        };
        check_kernels(kernels, problem, algorithm, layout)?;
        Ok(PackedWeights::laid_out(kernels, problem, algorithm, layout)?.len_needed().saturating_mul(size_of::<f32>()))
    }

    fn laid_out(kernels: Kernels, problem: &ConvProblem, algorithm: Algorithm, layout: Layout) -> Result<PackedWeights, Error> {
        let mut packed = PackedWeights {
            kernels,
            layout,
            order: algorithm.weight_order(),
            channels: [problem.c, problem.oc],
            kernel: problem.kernel,
            unit_dilation: problem.dilation[1] == 1,
            groups: problem.groups,
            run: 1,
            segments: Vec::new(),
            tiles: Vec::new(),
            zero: 0,
            weight_scales: Vec::new(),
            data: Data::Own(AlignedBuffer::empty()),
            bias: AlignedBuffer::empty(),
        };
        if packed.lay_out().is_none() {
            let reason =
                format!("its weights have more than {MAX_ENTRIES} blocks of output channels or segments of input channels and taps");
            return Err(Error::Problem { problem: problem.to_string(), reason });
        }
        Ok(packed)
    }

    pub(super) fn len_needed(&self) -> usize {
        self.positions().saturating_mul(self.position_len())
    }

    /// How many times the tiles' weights are there: for each position of a Winograd tile.
    pub(super) fn positions(&self) -> usize {
        match self.order {
            Order::Winograd(variant) => variant.positions(),
            _ => 1,
        }
    }

    /// Words of all tiles at one position.
    pub(super) fn position_len(&self) -> usize {
        self.tiles.last().map_or(0, |t| t.weights + self.tile_len(t))
    }

    /// Words of the packed weights.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Never true: a problem has weights.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    pub(super) fn kernels(&self) -> Kernels {
        self.kernels
    }

    /// Register tiles, by blocks − 1, then pixels − 1.
    pub(super) fn conv_tile(&self) -> &'static [&'static [TileFn]] {
        let tiles = self.kernels.tiles();
        tiles.by_runs.filter(|_| !self.reads_by_runs()).map_or(tiles.kernels, |by_runs| by_runs.others)
    }

    /// What goes with the register tiles, where they read pixels by the run.
    pub(super) fn by_runs(&self) -> Option<ByRuns> {
        self.kernels.tiles().by_runs.filter(|_| self.reads_by_runs())
    }

    /// Whether register tiles that read pixels by the run can read these: segments are short enough, and their input is an image.
    fn reads_by_runs(&self) -> bool {
        self.run <= BLOCK && !matches!(self.order, Order::Winograd(_))
    }

    pub(super) fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// The byte that stands for zero in an input of bytes.
    pub(super) fn zero_point(&self) -> u8 {
        self.zero
    }

    /// How many neighbouring channels share a word: 1 where lanes are channels.
    pub(super) fn per_word(&self) -> usize {
        if matches!(self.order, Order::Depthwise | Order::Grouped) { 1 } else { self.layout.element().per_word() }
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

    /// All packed weights, as [`PackedWeights::from_packed`] takes them.
    pub fn data(&self) -> &[f32] {
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
}

/// Checks that kernels can compute a problem from an input of a layout.
fn check_kernels(kernels: Kernels, problem: &ConvProblem, algorithm: Algorithm, layout: Layout) -> Result<(), Error> {
    algorithm.check(problem, layout)?;
    if layout.element() == kernels.element() {
        return Ok(());
    }
    let reason = format!("kernels for {:?} do not read {layout:?}", kernels.element());
    Err(Error::Problem { problem: problem.to_string(), reason })
}

fn check_bias(problem: &ConvProblem, found: usize) -> Result<(), Error> {
    if found == problem.oc { Ok(()) } else { Err(Error::Length { what: "convolution bias", expected: problem.oc, found }) }
}

fn check_weights(problem: &ConvProblem, found: usize) -> Result<(), Error> {
    let expected = problem.weight_len();
    if found == expected { Ok(()) } else { Err(Error::Length { what: "convolution weights", expected, found }) }
}
