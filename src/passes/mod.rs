//! Rewrites a graph into the one that runs: nothing that does nothing, BatchNorm folded, activation and residual in epilogues.
//!
//! Each pass takes a valid graph and leaves a valid graph that computes the same function.

mod dead_nodes;
mod fold_affine;
mod fuse_activation;
mod fuse_pad;
mod fuse_residual;
mod quantized;
mod reshapes;
mod spelled_out;

use crate::error::{Error, Result};
use crate::graph::{Dim, Graph, ValueId};
use crate::tensor::Shape;

/// All passes, in the order in which each finds most to do. What depends on shapes is done where all inputs have theirs.
///
/// # Errors
/// When the graph is malformed at its own input size; the error names the node.
pub fn optimise(mut graph: Graph) -> Result<Graph> {
    let shapes = check(&graph)?;
    let fixed = graph.inputs.iter().flat_map(|input| &input.dims).all(|dim| matches!(dim, Dim::Fixed(_)));
    let shapes = fixed.then_some(&shapes[..]);
    dead_nodes::remove_identities(&mut graph);
    if let Some(shapes) = shapes {
        quantized::name_ops(&mut graph, shapes);
        reshapes::run(&mut graph, shapes);
        fuse_pad::run(&mut graph);
    }
    fold_affine::run(&mut graph, shapes)?;
    if let Some(shapes) = shapes {
        spelled_out::run(&mut graph, shapes);
    }
    fuse_residual::run(&mut graph, shapes);
    fuse_activation::run(&mut graph);
    quantized::run(&mut graph);
    dead_nodes::remove_unread(&mut graph);
    Ok(graph)
}

/// Checks that a graph can be run: it has outputs, and every node fits the others at the graph's own input shapes.
///
/// # Errors
/// When it can't; the error names the node.
pub(crate) fn check(graph: &Graph) -> Result<Vec<Shape>> {
    if graph.outputs().is_empty() {
        return Err(Error::Graph { node: graph.name.clone(), reason: "the graph has no output".into() });
    }
    graph.infer_shapes_for(&graph.input_shapes(1, None, &[])?)
}

/// Who writes each value, and how often it is read. Kept up by the passes as they go, so that each looks at a node once.
struct Producers {
    node: Vec<Option<usize>>,
    /// Being an output of the graph counts as being read.
    uses: Vec<usize>,
}

impl Producers {
    fn of(graph: &Graph) -> Producers {
        let mut uses = vec![0; graph.values.len()];
        for value in graph.nodes.iter().flat_map(|n| &n.inputs).chain(&graph.outputs) {
            uses[value.0] += 1;
        }
        let mut node = vec![None; graph.values.len()];
        for (index, n) in graph.nodes.iter().enumerate() {
            node[n.output.0] = Some(index);
        }
        Producers { node, uses }
    }

    /// The node that writes a value, when nothing else but one reader knows that value.
    fn sole(&self, value: ValueId) -> Option<usize> {
        self.node[value.0].filter(|_| self.uses[value.0] == 1)
    }

    /// Another node writes the value now.
    fn moved(&mut self, value: ValueId, node: usize) {
        self.node[value.0] = Some(node);
    }

    /// No node writes the value any more.
    fn forget(&mut self, value: ValueId) {
        self.node[value.0] = None;
    }

    /// The node that writes a value, whoever reads it.
    fn of_value(&self, value: ValueId) -> Option<usize> {
        self.node[value.0]
    }

    /// A node reads the value no more.
    fn unread(&mut self, value: ValueId) {
        self.uses[value.0] = self.uses[value.0].saturating_sub(1);
    }

    /// One more node reads the value.
    fn read(&mut self, value: ValueId) {
        self.uses[value.0] += 1;
    }
}

/// Removes the nodes that were fused into others.
fn retain(graph: &mut Graph, fused: &[bool]) {
    let mut fused = fused.iter();
    graph.nodes.retain(|_| fused.next() == Some(&false));
}

#[cfg(test)]
mod tests;
