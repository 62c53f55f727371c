//! Puts an activation into the epilogue of the convolution, linear layer or sum before it.

use super::{producers, sole_producer, uses};
use crate::graph::{Activation, Graph, Op};

pub(super) fn run(graph: &mut Graph) {
    let uses = uses(graph);
    let mut producers = producers(graph);
    let mut fused = vec![false; graph.nodes.len()];
    for (index, fused) in fused.iter_mut().enumerate() {
        let (before, rest) = graph.nodes.split_at_mut(index);
        let (&Op::Activation(after), &[input]) = (&rest[0].op, rest[0].inputs.as_slice()) else { continue };
        let Some(producer) = sole_producer(&producers, &uses, input) else { continue };
        let producer_node = &mut before[producer];
        let (Op::Conv { activation, .. } | Op::Gemm { activation, .. } | Op::Add(activation)) = &mut producer_node.op else { continue };
        if *activation != Activation::None {
            continue;
        }
        *activation = after;
        producer_node.output = rest[0].output;
        producers[rest[0].output.0] = Some(producer);
        *fused = true;
    }
    let mut fused = fused.iter();
    graph.nodes.retain(|_| fused.next() == Some(&false));
}
