//! One step of a plan: a kernel call with its buffers, and what `explain` says of it.

use crate::error::{Error, Result};
use crate::graph::dense::DenseKernel;
use crate::graph::{Activation, ValueId};
use crate::tensor::{Shape, TensorView};
use std::ops::Range;
use stridewise_kernels::bf16::Bf16Conversion;
use stridewise_kernels::blocked::{Channels, Combine, Depth, InstanceNorm, Lrn, Map, Resample, Window};
use stridewise_kernels::conv::{Conv, Residual};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::int8::{Dequantize, Quantize, QuantizedAdd, QuantizedPool};
use stridewise_kernels::pool::Pool;
use stridewise_kernels::{AlignedBuffer, Element, Executor, Geometry, Halo, Isa, KernelTable, Layout, layout};

/// What a step computes.
pub(crate) enum Compute {
    Conv(Box<Conv>),
    Pool(Pool),
    Elementwise(Elementwise),
    Copy {
        from: Geometry,
        step: [usize; 2],
        before: usize,
        to: Geometry,
    },
    Map(Map),
    Combine(Box<Combine>),
    Channels(Channels),
    Window(Window),
    Resample(Box<Resample>),
    Depth(Depth),
    InstanceNorm(Box<InstanceNorm>),
    Lrn(Lrn),
    Dense(Box<DenseKernel>),
    QuantizedPool(QuantizedPool),
    QuantizedAdd(QuantizedAdd),
    Quantize(Quantize),
    Dequantize(Dequantize),
    /// From f32 to bfloat16 or back.
    Bf16(Bf16Conversion),
    /// From row-major to another layout.
    ToLayout(Geometry),
    /// From another layout to row-major.
    ToDense(Geometry),
}

impl Compute {
    /// Elements of scratch memory for a number of threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        match self {
            Compute::Conv(conv) => conv.scratch_per_thread().saturating_mul(threads),
            Compute::Lrn(lrn) => lrn.scratch_len(threads),
            Compute::Dense(kernel) => kernel.scratch_len(threads),
            _ => 0,
        }
    }

    /// Bytes of weights that the kernel holds.
    pub fn weight_bytes(&self) -> usize {
        match self {
            Compute::Conv(conv) => conv.weight_bytes(),
            Compute::Dense(kernel) => kernel.packed_bytes(),
            _ => 0,
        }
    }
}

/// What a step reads.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A part of the arena.
    Arena(Range<usize>),
    /// The tensor that the caller gives for one of the inputs.
    Input(usize),
    /// One of the plan's constants.
    Constant(usize),
    /// What the kernel holds already.
    Packed,
}

/// A kernel call: which, from where, to where.
pub(crate) struct Step {
    pub compute: Compute,
    pub inputs: Vec<Source>,
    pub output: Range<usize>,
    /// The input in whose place the output is written.
    pub in_place: Option<usize>,
    /// Values that are whole behind this step.
    pub written: Vec<Written>,
    pub info: StepInfo,
}

/// A value, and where in the arena it is found.
pub(crate) struct Written {
    pub value: ValueId,
    pub shape: Shape,
    place: Range<usize>,
    geometry: Geometry,
    /// What a step of its bytes is worth; 1 of floats.
    scale: f32,
}

impl Written {
    pub fn new(value: ValueId, shape: Shape, place: Range<usize>, geometry: Geometry, scale: f32) -> Written {
        Written { value, shape, place, geometry, scale }
    }

    /// The value as a dense tensor of floats.
    pub fn read(&self, executor: &dyn Executor, table: &'static KernelTable, arena: &[f32], values: &mut [f32]) -> Result<()> {
        let dense = Geometry::new(Layout::Nchw, self.geometry.dims(), Halo::NONE)?;
        let buffer = arena.get(self.place.clone()).unwrap_or(&[]);
        match self.geometry.layout().element() {
            Element::F32 => layout::to_nchw(executor, buffer, &self.geometry, values)?,
            Element::Bf16 => Bf16Conversion::new(self.geometry, dense, table)?.run(executor, buffer, values)?,
            Element::U8 => Dequantize::new(self.geometry, dense, self.scale, table.int8()?)?.run(executor, buffer, values)?,
        }
        Ok(())
    }
}

/// What a plan decided for one step, for people and programs to read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepInfo {
    /// The node's name.
    pub name: String,
    /// The value written: the name of the last node that was fused into this step, and the key of its tap.
    pub value: String,
    /// The op, by its ONNX name.
    pub op: &'static str,
    /// The convolution problem in its one spelling; empty for other ops.
    pub problem: String,
    /// Shape of the first input.
    pub input: Shape,
    /// Shape of the output.
    pub output: Shape,
    /// Multiply-accumulates; 0 for ops that are not convolutions.
    pub macs: u64,
    /// The algorithm's name; empty for ops that have but one.
    pub algorithm: &'static str,
    /// Pixels × output channels of the register tile; empty for other ops.
    pub tile: String,
    /// What is done in registers before the store: `bias`, `residual`, `relu`, joined by `+`.
    pub epilogue: String,
    /// Threads along output channels and along pixels.
    pub partition: [usize; 2],
    /// The instruction set.
    pub isa: Isa,
    /// Why this algorithm.
    pub reason: &'static str,
    /// Bytes of packed weights.
    pub weight_bytes: usize,
    /// How the output lies in memory, and of what elements: a layout's name.
    pub layout: &'static str,
}

impl StepInfo {
    pub(super) fn empty(shape: Shape) -> StepInfo {
        StepInfo {
            name: String::new(),
            value: String::new(),
            op: "",
            problem: String::new(),
            input: shape,
            output: shape,
            macs: 0,
            algorithm: "",
            tile: String::new(),
            epilogue: String::new(),
            partition: [1, 1],
            isa: Isa::Portable,
            reason: "",
            weight_bytes: 0,
            layout: "",
        }
    }

    pub(super) fn describe_conv(&mut self, conv: &Conv, reason: &'static str, residual: bool, activation: Activation) {
        self.problem = conv.problem().to_string();
        self.macs = conv.problem().macs();
        self.algorithm = conv.algorithm().name();
        self.tile = conv.tile();
        self.partition = conv.partition();
        self.weight_bytes = conv.weight_bytes();
        self.reason = reason;
        let activation = match activation {
            Activation::None => None,
            Activation::Relu => Some("relu"),
            Activation::Clamp(..) => Some("clamp"),
        };
        self.epilogue = ["bias"].into_iter().chain(residual.then_some("residual")).chain(activation).collect::<Vec<_>>().join("+");
    }
}

/// Inputs that a step passes to its kernel without asking for memory.
const FEW: usize = 64;

impl Step {
    /// Runs the step on the arena; `given` are the caller's inputs.
    pub fn run(
        &self,
        executor: &dyn Executor,
        given: &[TensorView<'_, f32>],
        arena: &mut [f32],
        constants: &[AlignedBuffer],
        scratch: &mut [f32],
    ) -> Result<()> {
        let (before, output, after) = split(arena, &self.output)?;
        // A value that is not the output lies entirely on one side of it: the arena never overlaps values that live together.
        let input = |index: usize| -> Result<&[f32]> {
            let slice = match self.inputs.get(index).ok_or_else(|| self.corrupt())? {
                Source::Packed => return Ok(&[]),
                Source::Constant(constant) => constants.get(*constant).map(|buffer| &buffer[..]),
                Source::Input(index) => given.get(*index).map(|tensor| tensor.as_slice()),
                Source::Arena(range) => match range.start.checked_sub(self.output.end) {
                    Some(start) => after.get(start..start + range.len()),
                    None => before.get(range.clone()),
                },
            };
            slice.ok_or_else(|| self.corrupt())
        };
        match &self.compute {
            Compute::Conv(conv) => {
                let residual = match self.inputs.len() {
                    1 => Residual::None,
                    _ if self.in_place.is_some() => Residual::InPlace,
                    _ => Residual::Buffer(input(1)?),
                };
                conv.run(executor, input(0)?, residual, output, scratch)?;
            }
            Compute::Pool(pool) => pool.run(executor, input(0)?, output)?,
            Compute::Elementwise(op) => {
                let second = if self.inputs.len() > 1 { Some(input(1)?) } else { None };
                op.run(executor, input(0)?, second, output)?;
            }
            Compute::Copy { from, step, before, to } => layout::copy_strided(executor, input(0)?, from, *step, *before, output, to)?,
            Compute::Map(map) if self.in_place.is_some() => map.run_in_place(executor, output)?,
            Compute::Map(map) => map.run(executor, input(0)?, output)?,
            Compute::Combine(combine) if self.in_place.is_some() => combine.run_in_place(executor, output, input(1)?)?,
            Compute::Combine(combine) => combine.run(executor, input(0)?, input(1)?, output)?,
            Compute::Window(window) => window.run(executor, input(0)?, output)?,
            Compute::Resample(resample) => resample.run(executor, input(0)?, output)?,
            Compute::Depth(depth) => depth.run(executor, input(0)?, output)?,
            Compute::InstanceNorm(norm) => norm.run(executor, input(0)?, output)?,
            Compute::Lrn(lrn) => lrn.run(executor, input(0)?, output, scratch)?,
            Compute::QuantizedPool(pool) => pool.run(executor, input(0)?, output)?,
            Compute::QuantizedAdd(add) => add.run(executor, input(0)?, input(1)?, output)?,
            Compute::Quantize(op) => op.run(executor, input(0)?, output)?,
            Compute::Dequantize(op) => op.run(executor, input(0)?, output)?,
            Compute::Bf16(op) => op.run(executor, input(0)?, output)?,
            Compute::ToLayout(geometry) => layout::from_nchw(executor, input(0)?, geometry, output)?,
            Compute::ToDense(geometry) => layout::to_nchw(executor, input(0)?, geometry, output)?,
            Compute::Dense(kernel) if self.in_place.is_some() => kernel.run_in_place(executor, output)?,
            Compute::Channels(_) | Compute::Dense(_) => {
                let mut few: [&[f32]; FEW] = [&[]; FEW];
                let mut many;
                let inputs = match few.get_mut(..self.inputs.len()) {
                    Some(few) => few,
                    None => {
                        many = vec![&[][..]; self.inputs.len()];
                        &mut many[..]
                    }
                };
                for (index, slot) in inputs.iter_mut().enumerate() {
                    *slot = input(index)?;
                }
                match &self.compute {
                    Compute::Channels(channels) => channels.run(executor, inputs, output)?,
                    Compute::Dense(kernel) => kernel.run(executor, inputs, output, scratch)?,
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn corrupt(&self) -> Error {
        Error::Graph { node: self.info.name.clone(), reason: "its buffers overlap: the plan is wrong; please report this".into() }
    }
}

/// The arena before, in and behind a range.
fn split<'a>(arena: &'a mut [f32], range: &Range<usize>) -> Result<(&'a [f32], &'a mut [f32], &'a [f32])> {
    if range.start > range.end || range.end > arena.len() {
        return Err(Error::Shape { what: "arena".into(), expected: format!("{range:?}"), found: format!("{} elements", arena.len()) });
    }
    let (before, rest) = arena.split_at_mut(range.start);
    let (inside, after) = rest.split_at_mut(range.len());
    Ok((before, inside, after))
}
