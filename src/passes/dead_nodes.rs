//! Removes what computes nothing, and what nobody reads.

use crate::graph::{Activation, Graph, Op, ValueId};

/// Readers of an identity, a dropout or an empty activation read its input instead.
pub(super) fn remove_identities(graph: &mut Graph) {
    let mut replaced: Vec<ValueId> = (0..graph.values.len()).map(ValueId).collect();
    for node in &mut graph.nodes {
        for input in &mut node.inputs {
            *input = replaced[input.0];
        }
        if let (Op::Identity | Op::Dropout | Op::Activation(Activation::None), &[input]) = (&node.op, node.inputs.as_slice()) {
            replaced[node.output.0] = input;
        }
    }
    for output in &mut graph.outputs {
        *output = replaced[output.0];
    }
    graph.nodes.retain(|n| replaced[n.output.0] == n.output);
}

/// Which values reach an output; inputs do, read or not.
fn needed(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.values.len()];
    graph.inputs.iter().for_each(|input| needed[input.value.0] = true);
    graph.outputs.iter().for_each(|output| needed[output.0] = true);
    for node in graph.nodes.iter().rev() {
        if needed[node.output.0] {
            node.inputs.iter().for_each(|v| needed[v.0] = true);
        }
    }
    needed
}

/// Removes nodes whose value reaches no output.
pub(super) fn drop_unread(graph: &mut Graph) {
    let needed = needed(graph);
    graph.nodes.retain(|n| needed[n.output.0]);
}

/// Removes nodes whose value reaches no output, then numbers the values anew.
pub(super) fn remove_unread(graph: &mut Graph) {
    let needed = needed(graph);
    graph.nodes.retain(|n| needed[n.output.0]);

    let mut renumbered = vec![ValueId(0); graph.values.len()];
    for (next, (id, _)) in needed.iter().enumerate().filter(|(_, n)| **n).enumerate() {
        renumbered[id] = ValueId(next);
    }
    let mut needed = needed.iter();
    graph.values.retain(|_| needed.next() == Some(&true));
    let renumber = |v: &mut ValueId| *v = renumbered[v.0];
    graph.inputs.iter_mut().for_each(|input| renumber(&mut input.value));
    graph.outputs.iter_mut().for_each(renumber);
    for node in &mut graph.nodes {
        node.inputs.iter_mut().for_each(renumber);
        renumber(&mut node.output);
    }
}
