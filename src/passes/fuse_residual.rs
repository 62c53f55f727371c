//! Puts a sum into the epilogue of the convolution that computes one of its operands: the other operand becomes the residual.

use super::{producers, sole_producer, uses};
use crate::graph::{Activation, Graph, Op};

pub(super) fn run(graph: &mut Graph) {
    let uses = uses(graph);
    let mut index = 0;
    while index < graph.nodes.len() {
        if let Some(conv) = candidate(graph, &uses, index) {
            // The convolution takes the sum's place in the order, so that its residual is there when it runs.
            let mut node = graph.nodes.remove(conv);
            let add = &graph.nodes[index - 1];
            if let (Op::Conv { activation, .. }, Op::Add(after)) = (&mut node.op, &add.op) {
                *activation = *after;
            }
            let residual = add.inputs.iter().copied().find(|&v| v != node.output);
            node.inputs.extend(residual);
            node.output = add.output;
            graph.nodes[index - 1] = node;
        } else {
            index += 1;
        }
    }
}

/// The convolution to fuse the sum at `index` into: that of the operand named first, or of the other.
fn candidate(graph: &Graph, uses: &[usize], index: usize) -> Option<usize> {
    let node = &graph.nodes[index];
    let (Op::Add(_), &[a, b]) = (&node.op, node.inputs.as_slice()) else { return None };
    let producers = producers(graph);
    [a, b].into_iter().filter(|_| a != b).filter_map(|v| sole_producer(&producers, uses, v)).find(|&producer| {
        let producer = &graph.nodes[producer];
        matches!(producer.op, Op::Conv { activation: Activation::None, .. }) && producer.inputs.len() == 1
    })
}
