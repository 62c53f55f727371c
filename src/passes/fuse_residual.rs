//! Puts a sum into the epilogue of the convolution that computes one of its operands: the other operand becomes the residual.

use super::{Producers, retain};
use crate::graph::{Activation, Graph, Op, TensorOp, ValueId};
use crate::tensor::Shape;
use stridewise_kernels::{Binary, Unary};

pub(super) fn run(graph: &mut Graph, shapes: Option<&[Shape]>) {
    let mut producers = Producers::of(graph);
    let mut fused = vec![false; graph.nodes.len()];
    for index in 0..graph.nodes.len() {
        let Some((conv, residual)) = candidate(graph, shapes, &producers, index) else { continue };
        // The convolution takes the sum's place in the order, so that its residual is there when it runs.
        let (before, rest) = graph.nodes.split_at_mut(index);
        let (conv_node, sum) = (&mut before[conv], &mut rest[0]);
        if let (Op::Conv { activation, .. }, Some(after)) = (&mut conv_node.op, activation_of_sum(&sum.op)) {
            *activation = after;
        }
        std::mem::swap(&mut conv_node.op, &mut sum.op);
        std::mem::swap(&mut conv_node.name, &mut sum.name);
        sum.inputs = vec![conv_node.inputs[0], residual];
        producers.forget(conv_node.output);
        fused[conv] = true;
    }
    retain(graph, &fused);
}

/// The convolution to fuse the sum at `index` into, and what becomes its residual: that of the operand named first, or of the
/// other.
fn candidate(graph: &Graph, shapes: Option<&[Shape]>, producers: &Producers, index: usize) -> Option<(usize, ValueId)> {
    let node = &graph.nodes[index];
    let (Some(_), &[a, b]) = (activation_of_sum(&node.op), node.inputs.as_slice()) else { return None };
    // What is broadcast is no residual.
    if matches!(node.op, Op::Tensor(_)) && shapes.is_none_or(|shapes| shapes[a.0] != shapes[b.0]) {
        return None;
    }
    let conv = |v: ValueId| {
        let index = producers.sole(v)?;
        let producer = &graph.nodes[index];
        let plain = matches!(producer.op, Op::Conv { activation: Activation::None, .. }) && producer.inputs.len() == 1;
        plain.then_some(index)
    };
    // A constant is no residual: it is laid out for no epilogue.
    let computed = |v: ValueId| graph.values[v.0].constant.is_none();
    [(a, b), (b, a)].into_iter().filter(|(x, other)| x != other && computed(*other)).find_map(|(x, other)| Some((conv(x)?, other)))
}

/// The activation behind a sum of two values, if an op is one.
fn activation_of_sum(op: &Op) -> Option<Activation> {
    match op {
        Op::Add(activation) => Some(*activation),
        Op::Tensor(TensorOp::Combine { function: Binary::Add, then }) => match *then {
            Unary::Identity => Some(Activation::None),
            Unary::Relu => Some(Activation::Relu),
            Unary::Clip { low, high } => Some(Activation::Clamp(low, high)),
            _ => None,
        },
        _ => None,
    }
}
