//! Puts an activation into the epilogue of the convolution, linear layer, sum or BatchNorm before it.

use super::fold_affine::scale_shift_of;
use super::{Producers, retain};
use crate::graph::{Activation, Graph, Op, TensorOp};
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;
use stridewise_kernels::Unary;

pub(super) fn run(graph: &mut Graph) {
    let mut producers = Producers::of(graph);
    let mut fused = vec![false; graph.nodes.len()];
    for (index, fused) in fused.iter_mut().enumerate() {
        let (before, rest) = graph.nodes.split_at_mut(index);
        let (Some(after), &[input]) = (activation_of(&rest[0].op), rest[0].inputs.as_slice()) else { continue };
        let Some(producer) = producers.sole(input) else { continue };
        let producer_node = &mut before[producer];
        match &mut producer_node.op {
            Op::Conv { activation, .. } | Op::Gemm { activation, .. } | Op::Add(activation) | Op::ScaleShift { activation, .. } => {
                if *activation != Activation::None {
                    continue;
                }
                *activation = after;
            }
            // One that no convolution took.
            op @ Op::BatchNormalization { .. } => match scale_shift(op, after) {
                Some(with) => *op = with,
                None => continue,
            },
            _ => continue,
        }
        producer_node.output = rest[0].output;
        producers.moved(rest[0].output, producer);
        *fused = true;
    }
    retain(graph, &fused);
}

/// A BatchNorm with an activation behind it.
fn scale_shift(batch_norm: &Op, activation: Activation) -> Option<Op> {
    let (factors, summands) = scale_shift_of(batch_norm)?;
    let shape = Shape::new(&[factors.len()]).ok()?;
    let tensor = |values: Vec<f64>| {
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        Tensor::from_slice(shape, &values).ok().map(Arc::new)
    };
    Some(Op::ScaleShift { scale: tensor(factors)?, shift: tensor(summands)?, activation })
}

fn activation_of(op: &Op) -> Option<Activation> {
    match *op {
        Op::Activation(activation) => Some(activation),
        Op::Tensor(TensorOp::Map(Unary::Relu)) => Some(Activation::Relu),
        Op::Tensor(TensorOp::Map(Unary::Clip { low, high })) => Some(Activation::Clamp(low, high)),
        _ => None,
    }
}
