//! Puts an activation into the epilogue of the convolution, linear layer or sum before it.

use super::{Producers, retain};
use crate::graph::{Activation, Graph, Op, TensorOp};
use stridewise_kernels::Unary;

pub(super) fn run(graph: &mut Graph) {
    let mut producers = Producers::of(graph);
    let mut fused = vec![false; graph.nodes.len()];
    for (index, fused) in fused.iter_mut().enumerate() {
        let (before, rest) = graph.nodes.split_at_mut(index);
        let (Some(after), &[input]) = (activation_of(&rest[0].op), rest[0].inputs.as_slice()) else { continue };
        let Some(producer) = producers.sole(input) else { continue };
        let producer_node = &mut before[producer];
        let (Op::Conv { activation, .. } | Op::Gemm { activation, .. } | Op::Add(activation)) = &mut producer_node.op else { continue };
        if *activation != Activation::None {
            continue;
        }
        *activation = after;
        producer_node.output = rest[0].output;
        producers.moved(rest[0].output, producer);
        *fused = true;
    }
    retain(graph, &fused);
}

fn activation_of(op: &Op) -> Option<Activation> {
    match *op {
        Op::Activation(activation) => Some(activation),
        Op::Tensor(TensorOp::Map(Unary::Relu)) => Some(Activation::Relu),
        Op::Tensor(TensorOp::Map(Unary::Clip { low, high })) => Some(Activation::Clamp(low, high)),
        _ => None,
    }
}
