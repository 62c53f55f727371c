//! Values that a file quantises (`Unary::FakeQuantize`) become values that a plan holds in bytes: which, and by what scales, is the
//! graph's [`Quantization`](crate::quantize::Quantization).
//!
//! A rounding goes into the op before it where that computes with bytes and something behind it reads bytes: the op then writes them.
//! Otherwise, where all that read it are convolutions and linear layers of quantised weights, they read the value before it, which is
//! rounded on its way into bytes. Elsewhere it stays an op of its own.

use super::{Producers, retain};
use crate::graph::{Activation, Graph, Node, Op, PoolAttributes, TensorOp, ValueId};
use crate::quantize::{ActivationScale, ValueScale};
use crate::tensor::Shape;
use stridewise_kernels::dense;
use stridewise_kernels::pool::Reduction;
use stridewise_kernels::{Binary, Unary};

/// Scale and zero point of a rounding to 256 levels.
fn rounding(op: &Op) -> Option<ActivationScale> {
    let &Op::Tensor(TensorOp::Map(Unary::FakeQuantize { step, low, high })) = op else { return None };
    let zero_point = (-low) as u8;
    let whole = f32::from(zero_point) == -low && high - low == 255.0 && (1e-12..=1e12).contains(&step);
    whole.then_some(ActivationScale { scale: step, zero_point })
}

fn is_quantized(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| rounding(&node.op).is_some())
}

/// In a network with quantised values, ops on tensors that bytes have kernels for become those of networks.
pub(super) fn name_ops(graph: &mut Graph, shapes: &[Shape]) {
    if !is_quantized(graph) {
        return;
    }
    super::dead_nodes::drop_unread(graph);
    for index in 0..graph.nodes.len() {
        if let Some(op) = named(graph, shapes, &graph.nodes[index]) {
            graph.nodes[index].op = op;
        }
    }
}

fn named(graph: &Graph, shapes: &[Shape], node: &Node) -> Option<Op> {
    let shape = |v: &ValueId| shapes[v.0].dims();
    let x = node.inputs.first()?;
    if shape(x).len() != 4 {
        return None;
    }
    match &node.op {
        Op::Tensor(TensorOp::Combine { function: Binary::Add, then }) => {
            let activation = match *then {
                Unary::Identity => Activation::None,
                Unary::Relu => Activation::Relu,
                Unary::Clip { low, high } => Activation::Clamp(low, high),
                _ => return None,
            };
            let alike = node.inputs.iter().all(|v| shape(v) == shape(x) && graph.values[v.0].constant.is_none());
            alike.then_some(Op::Add(activation))
        }
        Op::Tensor(TensorOp::Pool { reduction, windows }) => {
            let [rows, columns] = windows.as_slice() else { return None };
            if windows.iter().any(|w| w.dilation != 1 || w.ceil_mode) {
                return None;
            }
            let pool = PoolAttributes {
                kernel: [rows.kernel, columns.kernel],
                stride: [rows.stride, columns.stride],
                pads: [rows.pads[0], columns.pads[0], rows.pads[1], columns.pads[1]],
                ceil_mode: false,
            };
            match reduction {
                Reduction::Maximum => Some(Op::MaxPool(pool)),
                Reduction::Mean => Some(Op::AveragePool { pool, count_include_pad: rows.count_include_pad }),
            }
        }
        Op::Tensor(TensorOp::Reduce { reduction: dense::Reduction::Mean, axes, keep: true }) if axes == &[2, 3] => {
            Some(Op::GlobalAveragePool)
        }
        _ => None,
    }
}

/// A convolution or linear layer of weights that signed bytes hold.
fn multiplies_bytes(op: &Op) -> bool {
    matches!(op, Op::Conv { weight, .. } | Op::Gemm { weight, .. } if weight.steps().is_some())
}

struct Roundings<'a> {
    graph: &'a mut Graph,
    producers: Producers,
    /// The nodes that read each value, once for each time.
    readers: Vec<Vec<usize>>,
    scales: Vec<Option<ActivationScale>>,
    /// Which value stands for each.
    instead: Vec<ValueId>,
    fused: Vec<bool>,
}

pub(super) fn run(graph: &mut Graph) {
    if !is_quantized(graph) {
        return;
    }
    super::dead_nodes::drop_unread(graph);
    let count = graph.values.len();
    let mut readers = vec![Vec::new(); count];
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|v| readers[v.0].push(index));
    }
    let (producers, fused) = (Producers::of(graph), vec![false; graph.nodes.len()]);
    let (scales, instead) = (vec![None; count], (0..count).map(ValueId).collect());
    let mut roundings = Roundings { graph, producers, readers, scales, instead, fused };
    for index in 0..roundings.graph.nodes.len() {
        roundings.visit(index);
    }
    let Roundings { graph, instead, scales, fused, .. } = roundings;
    for output in &mut graph.outputs {
        *output = instead[output.0];
    }
    retain(graph, &fused);
    for (value, scale) in graph.values.iter().zip(&scales) {
        if let Some(scale) = *scale {
            graph.quantization.insert(&value.name, ValueScale { scale, means: Vec::new() });
        }
    }
    for node in &graph.nodes {
        if matches!(node.op, Op::Conv { .. } | Op::Gemm { .. }) && !multiplies_bytes(&node.op) {
            graph.quantization.keep_float(&node.name);
        }
    }
}

impl Roundings<'_> {
    fn visit(&mut self, index: usize) {
        for input in &mut self.graph.nodes[index].inputs {
            *input = self.instead[input.0];
        }
        let node = &self.graph.nodes[index];
        let (Some(&x), y) = (node.inputs.first(), node.output) else { return };
        let Some(scale) = rounding(&node.op) else {
            if matches!(node.op, Op::MaxPool(_) | Op::Flatten | Op::Tensor(TensorOp::Reshape(_))) {
                self.scales[y.0] = self.scales[x.0];
            }
            return;
        };
        let is_output = |value: ValueId| self.graph.outputs.contains(&value);
        if self.scales[x.0] == Some(scale) {
            self.replace(index, x, y);
        } else if self.scales[x.0].is_none()
            && let Some(producer) = self.producers.sole(x).filter(|producer| self.writes_bytes(*producer))
            && self.readers[y.0].iter().any(|reader| self.may_read_bytes(*reader))
        {
            self.graph.nodes[producer].output = y;
            self.producers.moved(y, producer);
            self.scales[y.0] = Some(scale);
            self.fused[index] = true;
        } else if self.scales[x.0].is_none() && !is_output(x) && self.is_rounded_alone(x, scale) && self.has_own_name(x) {
            self.scales[x.0] = Some(scale);
            self.replace(index, x, y);
        } else {
            self.scales[y.0] = Some(scale);
        }
    }

    /// Readers of y read x.
    fn replace(&mut self, index: usize, x: ValueId, y: ValueId) {
        self.instead[y.0] = x;
        self.fused[index] = true;
        let readers = std::mem::take(&mut self.readers[y.0]);
        self.readers[x.0].extend(readers);
        self.producers.uses[x.0] = (self.producers.uses[x.0] + self.producers.uses[y.0]).saturating_sub(1);
    }

    fn known(&self, value: ValueId) -> bool {
        self.scales[value.0].is_some()
    }

    /// Whether a node computes with bytes once what it writes has a scale.
    fn writes_bytes(&self, index: usize) -> bool {
        let node = &self.graph.nodes[index];
        let pools = matches!(node.op, Op::AveragePool { .. } | Op::GlobalAveragePool);
        (multiplies_bytes(&node.op) || pools || matches!(node.op, Op::Add(_))) && node.inputs.iter().all(|v| self.known(*v))
    }

    fn may_read_bytes(&self, index: usize) -> bool {
        let op = &self.graph.nodes[index].op;
        let moves = matches!(op, Op::MaxPool(_) | Op::Flatten | Op::Tensor(TensorOp::Reshape(_)));
        multiplies_bytes(op) || moves || matches!(op, Op::Add(_) | Op::AveragePool { .. } | Op::GlobalAveragePool)
    }

    /// Whether all that reads a value are roundings by one scale, and all that reads those are layers that multiply bytes.
    fn is_rounded_alone(&self, x: ValueId, scale: ActivationScale) -> bool {
        self.readers[x.0].iter().all(|&reader| {
            let node = &self.graph.nodes[reader];
            let multiplied = |&reader: &usize| {
                let (node, y) = (&self.graph.nodes[reader], self.graph.nodes[reader].inputs.first());
                multiplies_bytes(&node.op) && node.inputs.iter().filter(|v| Some(*v) == y).count() == 1
            };
            let output = node.output;
            let first = |&reader: &usize| self.graph.nodes[reader].inputs.first() == Some(&output);
            rounding(&node.op) == Some(scale)
                && !self.graph.outputs.contains(&output)
                && self.readers[output.0].iter().all(|reader| multiplied(reader) && first(reader))
        })
    }

    /// Scales are known by the names of values: no input of the network may share its own with a node.
    fn has_own_name(&self, value: ValueId) -> bool {
        let name = &self.graph.values[value.0].name;
        self.producers.of_value(value).is_some() || !self.graph.has_node(name)
    }
}
