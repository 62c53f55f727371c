//! Rewrites a graph into the one that runs: nothing that does nothing, BatchNorm folded, activation and residual in epilogues.
//!
//! Each pass takes a valid graph and leaves a valid graph that computes the same function.

mod dead_nodes;
mod fold_batch_norm;
mod fuse_activation;
mod fuse_residual;

use crate::error::Result;
use crate::graph::{Graph, ValueId};

/// All passes, in the order in which each finds most to do.
///
/// # Errors
/// When the graph is malformed at its own input size; the error names the node.
pub fn optimise(mut graph: Graph) -> Result<Graph> {
    graph.infer_shapes(1, graph.input().size)?;
    dead_nodes::remove_identities(&mut graph);
    fold_batch_norm::run(&mut graph)?;
    fuse_residual::run(&mut graph);
    fuse_activation::run(&mut graph);
    dead_nodes::remove_unread(&mut graph);
    Ok(graph)
}

/// How often each value is read; being an output of the graph counts as being read.
fn uses(graph: &Graph) -> Vec<usize> {
    let mut uses = vec![0; graph.values.len()];
    for value in graph.nodes.iter().flat_map(|n| &n.inputs).chain(&graph.outputs) {
        uses[value.0] += 1;
    }
    uses
}

/// The index of the node that writes a value.
fn producers(graph: &Graph) -> Vec<Option<usize>> {
    let mut producers = vec![None; graph.values.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        producers[node.output.0] = Some(index);
    }
    producers
}

/// The node that writes `value`, when nothing else but one reader knows that value.
fn sole_producer(producers: &[Option<usize>], uses: &[usize], value: ValueId) -> Option<usize> {
    producers[value.0].filter(|_| uses[value.0] == 1)
}

#[cfg(test)]
mod tests;
