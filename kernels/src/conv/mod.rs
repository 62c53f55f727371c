//! Convolution: one register tile, fed by geometry. See [`Conv`].

mod direct;
mod fill;
mod follow;
mod grouped;
pub(crate) mod grouped_row;
mod im2col;
mod packed;
mod partition;
mod places;
mod prefetch;
mod problem;
mod quantize;
mod requantize;
mod segments;
pub(crate) mod tile;
mod weight_source;
mod winograd;

pub use packed::{Order, PACKING_VERSION, PackedWeights};
use partition::Pieces;
pub use prefetch::schedule_prefetch;
pub use problem::ConvProblem;
pub use quantize::QuantizedInput;
pub use requantize::Requantize;
pub use weight_source::WeightSource;
pub use winograd::Winograd;

use crate::parallel::{Executor, MAX_THREADS, Parts, SharedPointer};
use crate::{AlignedBuffer, BLOCK, Element, Error, Geometry, Halo, Isa, Layout};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::Arc;
use tile::{Epilogue, MAX_ACCUMULATORS, MAX_BLOCKS, MAX_PIXELS, PIXELS, RUN, Store, TileArgs};

/// How a convolution is computed. All but Winograd give the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Algorithm {
    /// Straight from the input buffer, whose halo is the padding.
    Direct,
    /// Straight from the input buffer; every channel has a kernel of its own.
    Depthwise,
    /// Straight from the input buffer; groups of 4 or 8 channels, as many out as in.
    Grouped,
    /// Rows of K values are gathered for a block of pixels, then multiplied by the weights: any padding, any halo.
    Im2colGemm,
    /// Fewer multiplications by interpolation, for 3×3 kernels of stride 1. Rounds differently than the others.
    Winograd(Winograd),
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Algorithm; 6] = [
        Algorithm::Direct,
        Algorithm::Depthwise,
        Algorithm::Grouped,
        Algorithm::Im2colGemm,
        Algorithm::Winograd(Winograd::F2),
        Algorithm::Winograd(Winograd::F4),
    ];

    /// The name used in `explain` and benches.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Direct => "direct",
            Algorithm::Depthwise => "depthwise",
            Algorithm::Grouped => "grouped",
            Algorithm::Im2colGemm => "im2col+gemm",
            Algorithm::Winograd(Winograd::F2) => "winograd F(2x2,3x3)",
            Algorithm::Winograd(Winograd::F4) => "winograd F(4x4,3x3)",
        }
    }

    /// Checks that the algorithm can compute a problem from an input of a layout.
    ///
    /// # Errors
    /// When the problem is malformed or not one for the algorithm.
    pub fn check(self, problem: &ConvProblem, layout: Layout) -> Result<(), Error> {
        problem.validate()?;
        let fits = match self {
            Algorithm::Direct | Algorithm::Im2colGemm => !layout.is_blocked() || !problem.is_depthwise(),
            Algorithm::Depthwise => layout.is_blocked() && problem.is_depthwise(),
            Algorithm::Grouped => layout.is_blocked() && grouped::width_index(problem.group_channels()).is_some(),
            Algorithm::Winograd(variant) => {
                let p = problem;
                // F(4×4) would lose too much in bf16.
                let read = layout == Layout::Nchw16c || layout == Layout::Nchw32c && variant == Winograd::F2;
                read && (p.kernel, p.stride, p.dilation, p.groups) == ([3, 3], [1, 1], [1, 1], 1)
            }
        };
        if fits {
            return Ok(());
        }
        let reason = format!("{} does not compute this from {layout:?}", self.name());
        Err(Error::Problem { problem: problem.to_string(), reason })
    }

    /// The border of zeros that a problem's input needs around it; of one that [`ConvProblem::validate`] refuses, as
    /// [`ConvProblem::output`] says.
    pub fn required_halo(self, problem: &ConvProblem) -> Halo {
        let output = problem.output();
        // What the last window, or the last tile of windows, reads beyond the input.
        let behind = |axis: usize, size: usize| {
            let end = match self {
                Algorithm::Winograd(variant) => {
                    output[axis].checked_next_multiple_of(variant.outputs()).unwrap_or(usize::MAX).saturating_add(2)
                }
                _ => output[axis].saturating_sub(1).saturating_mul(problem.stride[axis]).saturating_add(problem.extent(axis)),
            };
            end.saturating_sub(size.saturating_add(problem.pads[axis]))
        };
        match self {
            Algorithm::Im2colGemm => Halo::NONE,
            _ => Halo { top: problem.pads[0], left: problem.pads[1], bottom: behind(0, problem.h), right: behind(1, problem.w) },
        }
    }
}

/// What is added before the activation.
#[derive(Clone, Copy)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// A buffer of the geometry given to [`Conv::new`].
    Buffer(&'a [f32]),
    /// What the output buffer holds: the result replaces it.
    InPlace,
}

/// A convolution with everything decided: shapes, buffers, algorithm, partition, packed weights. Buffers are slices of 32-bit words,
/// whatever their elements: see [`Layout`].
///
/// NaN and infinities go through as in the textbook's sums, with two exceptions. Where channels of several groups share a block
/// of 16, those of the other groups are multiplied by zero, and what is not finite in one makes NaN of the others' outputs. And
/// Winograd's transforms mix a tile: what is not finite in it may make NaN of all its outputs.
pub struct Conv {
    problem: ConvProblem,
    algorithm: Algorithm,
    input: Geometry,
    output: Geometry,
    residual: Option<Geometry>,
    weights: Arc<PackedWeights>,
    epilogue: Epilogue,
    /// Of products of bytes: what the sums of each output channel are multiplied by, padded to blocks.
    scales: AlignedBuffer,
    /// Offset of each segment of K from a pixel's origin; parallel to the weights' segments.
    offsets: Vec<usize>,
    output_size: [usize; 2],
    /// Where register tiles read pixels by the run: how many lie one step apart.
    line: Option<usize>,
    /// Pixels that work is shared out by.
    group: usize,
    /// Threads along OC and along pixels.
    partition: [usize; 2],
    /// Pixels that all tiles of OC pass over before the next pixels' turn.
    pixel_block: usize,
    /// Of each share.
    pieces: Pieces,
    ahead: Option<prefetch::Ahead>,
    /// A function of every output.
    then: Option<follow::Then>,
}

impl Conv {
    /// Prepares a convolution of `input` into `output`, which is blocked. Both are f32; or the input is bf16, and the output bf16 or
    /// f32.
    ///
    /// `clamp` bounds the result (−∞, ∞ for no activation). `threads` is the number of threads that the work is cut up for.
    ///
    /// # Errors
    /// When the problem is malformed or not one for the algorithm, the geometries are not the problem's, the weights were packed for
    /// another problem, layout or algorithm, or the input's halo is smaller than [`Algorithm::required_halo`].
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        problem: ConvProblem,
        algorithm: Algorithm,
        input: Geometry,
        output: Geometry,
        residual: Option<Geometry>,
        weights: Arc<PackedWeights>,
        clamp: (f32, f32),
        threads: usize,
    ) -> Result<Conv, Error> {
        let stored = output.layout.element();
        if input.layout.element() == Element::U8 || stored != Element::F32 && stored != input.layout.element() {
            let reason = format!("no kernel computes {:?} from {:?}", output.layout, input.layout);
            return Err(Error::Problem { problem: problem.to_string(), reason });
        }
        let store = if stored == Element::F32 { Store::F32 } else { Store::Bf16 };
        Conv::assemble(problem, algorithm, input, output, residual, weights, Epilogue { store, ..Epilogue::f32(clamp) }, threads)
    }

    /// Prepares a convolution of bytes. See [`Requantize`] for what becomes of the sums.
    ///
    /// # Errors
    /// As [`Conv::new`], and when the bytes' zero points are not those of the weights and geometries, or a factor is out of range.
    #[allow(clippy::too_many_arguments)]
    pub fn quantized(
        problem: ConvProblem,
        algorithm: Algorithm,
        input: Geometry,
        output: Geometry,
        residual: Option<Geometry>,
        weights: Arc<PackedWeights>,
        requantize: &Requantize<'_>,
        threads: usize,
    ) -> Result<Conv, Error> {
        let refuse = |reason: String| Err(Error::Problem { problem: problem.to_string(), reason });
        if input.layout.element() != Element::U8 || !matches!(output.layout.element(), Element::U8 | Element::F32) {
            return refuse(format!("no kernel computes {:?} from {:?}", output.layout, input.layout));
        }
        let (epilogue, scales) = match requantize.epilogue(&problem, &output, residual.as_ref()) {
            Ok(epilogue) => epilogue,
            Err(reason) => return refuse(reason),
        };
        let mut conv = Conv::assemble(problem, algorithm, input, output, residual, weights, epilogue, threads)?;
        conv.scales = AlignedBuffer::zeros(problem.oc.next_multiple_of(BLOCK))?;
        conv.scales[..scales.len()].copy_from_slice(scales);
        Ok(conv)
    }

    #[allow(clippy::too_many_arguments)]
    fn assemble(
        problem: ConvProblem,
        algorithm: Algorithm,
        input: Geometry,
        output: Geometry,
        residual: Option<Geometry>,
        weights: Arc<PackedWeights>,
        epilogue: Epilogue,
        threads: usize,
    ) -> Result<Conv, Error> {
        algorithm.check(&problem, input.layout)?;
        let refuse = |reason: String| Err(Error::Problem { problem: problem.to_string(), reason });
        let output_size @ [oh, ow] = problem.output();
        if [input.n, input.c, input.h, input.w] != [problem.n, problem.c, problem.h, problem.w] {
            return refuse(format!("the input buffer is {input:?}"));
        }
        for buffer in [Some(output), residual].into_iter().flatten() {
            let dims = [buffer.n, buffer.c, buffer.h, buffer.w];
            if !buffer.layout.is_blocked() || buffer.layout != output.layout || dims != [problem.n, problem.oc, oh, ow] {
                return refuse(format!("an output or residual buffer is {buffer:?}"));
            }
        }
        weights.check(&problem, input.layout, algorithm)?;
        if weights.zero_point() != input.zero_point() {
            return refuse(format!("the weights were packed for the zero point {}, not {}", weights.zero_point(), input.zero_point()));
        }
        if threads == 0 {
            return refuse("no threads".into());
        }
        let needed = algorithm.required_halo(&problem);
        if input.halo.union(needed) != input.halo {
            return refuse(format!("the input's halo {:?} is smaller than {needed:?}, which {} needs", input.halo, algorithm.name()));
        }
        let offsets = match algorithm {
            Algorithm::Im2colGemm | Algorithm::Winograd(_) => weights.row_offsets(),
            Algorithm::Direct | Algorithm::Depthwise | Algorithm::Grouped => direct::segment_offsets(&problem, &input, &weights),
        };
        let mut conv = Conv {
            problem,
            algorithm,
            input,
            output,
            residual,
            weights,
            epilogue,
            scales: AlignedBuffer::empty(),
            offsets,
            output_size,
            line: None,
            group: PIXELS,
            partition: [1, 1],
            pixel_block: 0,
            pieces: Pieces { of_tiles: false, count: 1 },
            ahead: None,
            then: None,
        };
        if conv.weights.by_runs().is_some() {
            let line = conv.line();
            // Whole tiles: an even part of a line, or two lines.
            let tile = if line > RUN { line.div_ceil(line.div_ceil(MAX_PIXELS)) } else { 2 * line };
            (conv.line, conv.group) = (Some(line), tile.min(conv.pixels()));
        }
        conv.partition = conv.choose_partition(threads.min(MAX_THREADS));
        conv.pixel_block = conv.choose_pixel_block();
        conv.pieces = conv.choose_pieces();
        Ok(conv)
    }

    /// The problem.
    pub fn problem(&self) -> &ConvProblem {
        &self.problem
    }

    /// How the input lies in memory.
    pub fn input_layout(&self) -> Layout {
        self.input.layout
    }

    /// How it is computed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The register tile of most of the work, for example `6x64`.
    pub fn tile(&self) -> String {
        let blocks = self.weights.tiles().iter().map(|t| t.blocks).max().unwrap_or(1);
        let pixels = if matches!(self.algorithm, Algorithm::Depthwise | Algorithm::Grouped) {
            self.output_size[1]
        } else {
            self.weights.conv_tile()[blocks - 1].len()
        };
        format!("{pixels}x{}", BLOCK * blocks)
    }

    /// Threads along OC and along pixels.
    pub fn partition(&self) -> [usize; 2] {
        self.partition
    }

    /// The packed weights.
    pub fn weights(&self) -> &Arc<PackedWeights> {
        &self.weights
    }

    /// Bytes of the packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.weights.len() * size_of::<f32>()
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.weights.isa()
    }

    /// Words of scratch memory that one thread needs.
    pub fn scratch_per_thread(&self) -> usize {
        match self.algorithm {
            Algorithm::Im2colGemm => im2col::scratch_len(self),
            Algorithm::Winograd(variant) => winograd::scratch_len(self, variant),
            Algorithm::Direct => direct::scratch_len(self),
            Algorithm::Depthwise | Algorithm::Grouped => 0,
        }
    }

    /// Computes the convolution. Results do not depend on the executor's number of threads, nor does it have to be the one
    /// that [`Conv::new`] was told.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, `scratch` is shorter than [`Conv::scratch_per_thread`] for each
    /// thread, the residual is not what [`Conv::new`] was told, or the executor leaves a part out.
    pub fn run(
        &self,
        executor: &dyn Executor,
        input: &[f32],
        residual: Residual<'_>,
        output: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        self.input.check("convolution input", input.len())?;
        self.output.check("convolution output", output.len())?;
        let parts = Parts::of(executor);
        let per_thread = self.scratch_per_thread();
        let needed = per_thread.saturating_mul(parts.count());
        if scratch.len() < needed {
            return Err(Error::Length { what: "convolution scratch", expected: needed, found: scratch.len() });
        }
        let shared = SharedPointer::new(output);
        let (residual_data, residual_geometry) = match (residual, self.residual) {
            (Residual::None, None) => (std::ptr::null(), self.output),
            (Residual::Buffer(data), Some(geometry)) => {
                geometry.check("convolution residual", data.len())?;
                (data.as_ptr(), geometry)
            }
            (Residual::InPlace, Some(geometry)) if geometry == self.output => (shared.as_ptr().cast_const(), geometry),
            _ => {
                let reason = "the residual given is not the one that was planned".into();
                return Err(Error::Problem { problem: self.problem.to_string(), reason });
            }
        };
        let residual_data = SharedPointer::from_ptr(residual_data.cast_mut());
        let shared_scratch = SharedPointer::new(scratch);
        let pieces = if parts.count() == 1 { 1 } else { self.pieces.count };
        parts.share_out(self.shares() * pieces, &|thread, index| {
            let (tiles, pixels) = self.piece(index / pieces, index % pieces, pieces);
            let buffers = Buffers {
                share: index / pieces,
                piece: (index % pieces, pieces),
                input,
                residual: residual_data.as_ptr().cast_const(),
                residual_geometry,
                output: shared.as_ptr(),
                // SAFETY: scratch holds `per_thread` elements for each part, checked above, and no two threads have one index.
                scratch: unsafe { shared_scratch.as_ptr().add(thread * per_thread) },
            };
            if tiles.is_empty() || pixels.is_empty() {
                return;
            }
            self.clear_halo(&shared, &tiles, &pixels);
            match self.algorithm {
                Algorithm::Direct => direct::run(self, &buffers, tiles.clone(), pixels.clone()),
                Algorithm::Depthwise | Algorithm::Grouped => grouped::run(self, &buffers, tiles.clone(), pixels.clone()),
                Algorithm::Im2colGemm => im2col::run(self, &buffers, tiles.clone(), pixels.clone()),
                // Its tiles are no pixels; it clears the padding itself.
                Algorithm::Winograd(variant) => return winograd::run(self, variant, &buffers, tiles, pixels),
            }
            if tiles.end == self.weights.tiles().len() && self.clears_padding() {
                self.clear_padding(&shared, pixels);
            }
        })
    }

    /// Zeroes the halo of the planes of some tiles of OC, of the images whose first pixel is among some pixels: every plane's once, since
    /// a piece has whole tiles and whole pixels. Where several tiles are of one plane, it is the last one's.
    fn clear_halo(&self, output: &SharedPointer, tiles: &Range<usize>, pixels: &Range<usize>) {
        if self.output.halo == Halo::NONE {
            return;
        }
        let per_image = self.pixels() / self.problem.n;
        let blocks = self.output.layout.lanes() / BLOCK;
        let tiles = &self.weights.tiles()[tiles.clone()];
        let (Some(first), Some(last)) = (tiles.first(), tiles.last()) else { return };
        // Planes whose last block is among the tiles'.
        let end = last.first + last.blocks;
        let planes = first.first / blocks..if end == self.output.blocks() { self.output.planes() } else { end / blocks };
        for n in pixels.start.div_ceil(per_image)..pixels.end.div_ceil(per_image) {
            for plane in planes.clone() {
                // SAFETY: `run` checked the output's length against this geometry; no other piece has a plane's last block and an
                // image's first pixel.
                unsafe { self.output.clear_halo(output.as_ptr(), n, plane) };
            }
        }
    }

    /// Whether the last plane of the output has channels that carry no data.
    fn clears_padding(&self) -> bool {
        !self.problem.oc.is_multiple_of(self.output.layout.lanes())
    }

    /// Zeroes what pads the last plane of channels, of pixels numbered through all images. Their weights and bias are zero, but
    /// zero times infinity is not, and bounds may exclude zero.
    fn clear_padding(&self, output: &SharedPointer, pixels: Range<usize>) {
        let [oh, ow] = self.output_size;
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let (n, y, x) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
            let count = (pixels.end - pixel).min(ow - x);
            // SAFETY: `run` checked the output's length against this geometry; the share that the pixels and the last tile
            // belong to is this thread's alone.
            unsafe { self.output.clear_padding(output.as_ptr(), n, y, x, count) };
            pixel += count;
        }
    }

    /// What all tiles of one thread have in common.
    fn tile_args(&self, buffers: &Buffers<'_>, sums: &mut Sums) -> TileArgs {
        TileArgs {
            input: buffers.input.as_ptr(),
            tiles: 1,
            pixels: std::ptr::null(),
            runs: [0; 2],
            step: self.problem.stride[1] * self.input.layout.words(),
            segments: self.offsets.as_ptr(),
            segment_count: 0,
            chunk: 1,
            run: self.weights.run(),
            tail_segments: 0,
            tail_run: 0,
            weights: std::ptr::null(),
            bias: std::ptr::null(),
            residual: buffers.residual,
            residual_pixels: std::ptr::null(),
            residual_blocks: [0; MAX_BLOCKS],
            output: buffers.output,
            output_pixels: std::ptr::null(),
            output_blocks: [0; MAX_BLOCKS],
            epilogue: self.epilogue,
            lines: false,
            scales: std::ptr::null(),
            ahead: std::ptr::null(),
            ahead_lines: 0,
            ahead_tiles: 0,
            ahead_tile: 0,
            ahead_stride: 0,
            ahead_step: 0,
            sums: sums.as_mut_ptr(),
            begins: true,
            ends: true,
        }
    }
}

/// The buffers of a run, as one thread sees them.
struct Buffers<'a> {
    /// Which of the partition's shares is computed.
    share: usize,
    /// Which piece of it, of how many.
    piece: (usize, usize),
    input: &'a [f32],
    residual: *const f32,
    residual_geometry: Geometry,
    output: *mut f32,
    scratch: *mut f32,
}

/// Chunk sums of the largest register tile, which writes them before it reads them.
#[repr(align(64))]
struct Sums([MaybeUninit<f32>; MAX_ACCUMULATORS * BLOCK]);

impl Sums {
    fn new() -> Sums {
        Sums([const { MaybeUninit::uninit() }; MAX_ACCUMULATORS * BLOCK])
    }

    fn as_mut_ptr(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}
