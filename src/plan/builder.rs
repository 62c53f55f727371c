//! The kernel of each call, with its weights packed.

use super::layout::{Form, Forms, problem_of};
use super::quantized::Layer;
use super::schedule::{Call, Operand, Schedule};
use super::step::{Compute, StepInfo};
use super::{Request, algorithm, blocked};
use crate::error::{Error, Result};
use crate::graph::dense::DenseKernel;
use crate::graph::{Activation, Graph, Node, Op, PackRequest, TensorOp, Weight};
use crate::model::PackedCache;
use crate::tensor::Shape;
use stridewise_kernels::bf16::Bf16Conversion;
use stridewise_kernels::conv::{Algorithm, Conv, Order};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::int8::{Dequantize, Quantize};
use stridewise_kernels::pool::{Pool, Reduction, Windows};
use stridewise_kernels::{ConvProblem, Element, Geometry, Isa, Layout};

/// What the steps of one plan are built from.
pub(super) struct Builder<'a> {
    pub graph: &'a Graph,
    pub shapes: &'a [Shape],
    pub forms: &'a Forms,
    pub schedule: &'a Schedule,
    pub request: &'a Request<'a>,
    pub packed: &'a PackedCache,
}

impl Builder<'_> {
    /// The kernel of a call, and what is to be said of it.
    pub fn step(&self, call: &Call) -> Result<(Compute, StepInfo)> {
        let output = self.schedule.buffers[call.output];
        let Some(index) = call.node else { return self.change_of_form(call, output) };
        let (mut compute, mut info) = self.node(call, index, &self.graph.nodes()[index], output)?;
        if let (Some((function, _)), Compute::Conv(conv)) = (self.forms.follower(self.graph, index), &mut compute) {
            conv.follow(function, self.request.table)?;
            info.epilogue = format!("{}+{}", info.epilogue, TensorOp::Map(function).name().to_lowercase());
        }
        Ok((compute, info))
    }

    fn change_of_form(&self, call: &Call, output: Geometry) -> Result<(Compute, StepInfo)> {
        let name = &self.graph.values[call.value.0].name;
        let input = call.inputs.first().and_then(|operand| self.schedule.geometry(operand));
        let input = input.ok_or_else(|| Error::Graph { node: name.clone(), reason: "no input".into() })?;
        let shape = self.shapes[call.value.0];
        let info =
            StepInfo { name: name.clone(), value: name.clone(), op: "Layout", isa: self.request.table.isa(), ..StepInfo::empty(shape) };
        let table = self.request.table;
        let compute = match (input.layout().element(), output.layout().element()) {
            (Element::F32, Element::F32) if output.layout() == Layout::Nchw => Compute::ToDense(input),
            (Element::F32, Element::F32) => Compute::ToLayout(output),
            (_, Element::U8) => Compute::Quantize(Quantize::new(input, output, self.scale(call.value)?.scale, table.int8()?)?),
            (Element::U8, _) => Compute::Dequantize(Dequantize::new(input, output, self.scale(call.value)?.scale, table.int8()?)?),
            _ => Compute::Bf16(Bf16Conversion::new(input, output, table)?),
        };
        Ok((compute, info))
    }

    fn node(&self, call: &Call, index: usize, node: &Node, output: Geometry) -> Result<(Compute, StepInfo)> {
        let refuse = |reason: String| Error::Graph { node: node.name.clone(), reason };
        let geometries: Vec<Geometry> = call.inputs.iter().filter_map(|operand| self.schedule.geometry(operand)).collect();
        let (Some(&x), Some(&input)) = (node.inputs.first(), geometries.first()) else { return Err(refuse("no input".into())) };
        let table = self.request.table;
        let mut info = StepInfo {
            name: node.name.clone(),
            value: self.graph.values[call.value.0].name.clone(),
            op: node.op.name(),
            input: self.shapes[x.0],
            output: self.shapes[node.output.0],
            isa: table.isa(),
            ..StepInfo::empty(self.shapes[x.0])
        };
        let windows = |axis: usize, pool: &crate::graph::PoolAttributes, size: usize, count: usize, padding: bool| {
            Windows::sliding(size, [pool.kernel[axis], pool.stride[axis]], [pool.pads[axis], pool.pads[axis + 2]], count, padding)
        };
        let pool = |reduction, rows, columns| -> Result<Compute> {
            if input.layout().element() == Element::U8 {
                return self.quantized_pool(node, reduction, input, output, rows, columns);
            }
            Ok(Compute::Pool(Pool::new(reduction, input, output, rows, columns, table)?))
        };
        let compute = match &node.op {
            Op::Conv { weight, bias, activation, .. } | Op::Gemm { weight, bias, activation } => {
                let problem = problem_of(node, input.dims())
                    .ok_or_else(|| refuse(format!("weights of shape {} are no convolution", weight.shape())))?;
                let bias = bias.as_ref().map(|b| b.as_slice());
                if input.layout().element() == Element::U8 {
                    let layer = Layer { node, weight, bias, activation: *activation, problem };
                    let compute = self.quantized_conv(call, &layer, &geometries, output, &mut info)?;
                    return Ok((compute, info));
                }
                let choice = algorithm::choose(&problem, input.layout(), self.request);
                let key = PackedKey::new(&node.name, weight, bias, table.isa(), &problem, choice.algorithm, input.layout());
                let (layout, executor) = (input.layout(), self.request.executor);
                let request = PackRequest { table, problem: &problem, algorithm: choice.algorithm, layout, bias, executor };
                let weights = self.packed.get_or_pack(key, &request, &weight.source(&node.name))?;
                let residual = geometries.get(1).copied();
                let threads = self.request.executor.threads();
                let conv = Conv::new(problem, choice.algorithm, input, output, residual, weights, clamp(*activation), threads)?;
                info.describe_conv(&conv, choice.reason, residual.is_some(), *activation);
                Compute::Conv(Box::new(conv))
            }
            Op::BatchNormalization { scale, bias, mean, variance, epsilon } => {
                let mut scales = Vec::with_capacity(input.c());
                let mut shifts = Vec::with_capacity(input.c());
                let columns = scale.as_slice().iter().zip(bias.as_slice()).zip(mean.as_slice().iter().zip(variance.as_slice()));
                for ((gamma, beta), (mean, variance)) in columns {
                    let factor = f64::from(*gamma) / (f64::from(*variance) + epsilon).sqrt();
                    scales.push(factor as f32);
                    shifts.push((f64::from(*beta) - f64::from(*mean) * factor) as f32);
                }
                Compute::Elementwise(Elementwise::affine(input, output, &scales, &shifts, clamp(Activation::None), table)?)
            }
            Op::ScaleShift { scale, shift, activation } => {
                let (scale, shift) = (scale.as_slice(), shift.as_slice());
                Compute::Elementwise(Elementwise::affine(input, output, scale, shift, clamp(*activation), table)?)
            }
            Op::Activation(activation) => Compute::Elementwise(Elementwise::clamp(input, output, clamp(*activation), table)?),
            Op::Add(activation) if input.layout().element() == Element::U8 => self.quantized_add(node, &geometries, output, *activation)?,
            Op::Add(activation) => {
                let &other = geometries.get(1).ok_or_else(|| refuse("a sum needs two inputs".into()))?;
                Compute::Elementwise(Elementwise::add(input, other, output, clamp(*activation), table)?)
            }
            Op::MaxPool(p) => {
                pool(Reduction::Maximum, windows(0, p, input.h(), output.h(), false)?, windows(1, p, input.w(), output.w(), false)?)?
            }
            Op::AveragePool { pool: p, count_include_pad } => pool(
                Reduction::Mean,
                windows(0, p, input.h(), output.h(), *count_include_pad)?,
                windows(1, p, input.w(), output.w(), *count_include_pad)?,
            )?,
            Op::GlobalAveragePool => pool(Reduction::Mean, Windows::adaptive(input.h(), 1)?, Windows::adaptive(input.w(), 1)?)?,
            Op::AdaptiveAveragePool([oh, ow]) => {
                pool(Reduction::Mean, Windows::adaptive(input.h(), *oh)?, Windows::adaptive(input.w(), *ow)?)?
            }
            Op::Slice { step } => Compute::Copy { from: input, step: *step, before: 0, to: output },
            Op::Pad { before, .. } => Compute::Copy { from: input, step: [1, 1], before: *before, to: output },
            Op::Softmax => Compute::Dense(Box::new(self.dense(call, &TensorOp::Softmax { axis: 1, log: false }, node)?)),
            Op::Tensor(op) if self.forms.node[index] == Form::Blocked => {
                blocked::compute(op, self.graph, self.shapes, node, &geometries, output, table)?
            }
            Op::Tensor(op) => Compute::Dense(Box::new(self.dense(call, op, node)?)),
            Op::Flatten | Op::Identity | Op::Dropout => return Err(refuse("shares its input's buffer and is no step".into())),
        };
        Ok((compute, info))
    }

    fn dense(&self, call: &Call, op: &TensorOp, node: &Node) -> Result<DenseKernel> {
        let shapes: Vec<&[usize]> = node.inputs.iter().map(|v| self.shapes[v.0].dims()).collect();
        let refuse = |e: stridewise_kernels::Error| Error::Graph { node: node.name.clone(), reason: e.to_string() };
        let kernel = DenseKernel::new(op, &shapes, self.request.table).map_err(refuse)?;
        let packed = call.inputs.iter().zip(&node.inputs).find(|(operand, _)| **operand == Operand::Packed);
        match packed.and_then(|(_, value)| self.graph.values[value.0].constant.as_deref()) {
            Some(right) => kernel.with_right(self.request.executor, right.as_slice()).map_err(refuse),
            None => Ok(kernel),
        }
    }
}

/// The bounds that an activation is to a kernel.
pub(super) fn clamp(activation: Activation) -> (f32, f32) {
    match activation {
        Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Clamp(low, high) => (low, high),
    }
}

/// Which weights a packing was made from, and for what.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PackedKey {
    node: String,
    /// Of what was folded into the weights, and of the bias: where shapes are part of a network's arithmetic, they may depend on them.
    fingerprint: u64,
    isa: Isa,
    order: Order,
    layout: Layout,
    kernel: [usize; 2],
    dilation: [usize; 2],
    groups: usize,
}

impl PackedKey {
    /// What of the key a file keeps: of the instruction set no more than weights depend on.
    #[cfg(feature = "packed")]
    pub fn packing(&self) -> crate::formats::packed::Packing {
        let &PackedKey { ref node, fingerprint, isa, order, layout, kernel, dilation, groups } = self;
        let table = stridewise_kernels::KernelTable::get(isa);
        let tile_blocks = table.and_then(|table| table.max_blocks_of(layout.element())).unwrap_or(0);
        crate::formats::packed::Packing { node: node.clone(), fingerprint, tile_blocks, order, layout, kernel, dilation, groups }
    }

    /// Takes more into account of what the weights were made from.
    pub(super) fn mix(&mut self, numbers: impl Iterator<Item = u64>) {
        self.fingerprint = numbers.fold(self.fingerprint, crate::graph::mixed);
    }

    pub(super) fn new(
        node: &str,
        weight: &Weight,
        bias: Option<&[f32]>,
        isa: Isa,
        problem: &ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
    ) -> PackedKey {
        let &ConvProblem { kernel, dilation, groups, .. } = problem;
        let fingerprint = weight.fingerprint(bias);
        PackedKey { node: node.into(), fingerprint, isa, order: algorithm.weight_order(), layout, kernel, dilation, groups }
    }
}
