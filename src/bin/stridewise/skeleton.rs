//! A network as it is written down, before any pass: its nodes and shapes, with zeros for weights.

use crate::output::Failure;
use stridewise::graph::Graph;
use stridewise::models::{Parameter, WeightSource};
use stridewise::{Arch, Error, Model, Tensor};

struct Zeros;

impl WeightSource for Zeros {
    fn tensor(&mut self, parameter: &Parameter) -> stridewise::Result<Tensor<f32>> {
        Tensor::zeros(parameter.shape)
    }
}

/// The graph of an architecture.
pub fn skeleton(arch: Arch, classes: usize) -> Result<Graph, Failure> {
    Ok(arch.graph(classes, &mut Zeros)?)
}

/// The classes that a model tells apart.
pub fn classes(model: &Model) -> Result<usize, Failure> {
    let graph = model.graph();
    let shapes = graph.infer_shapes(1, graph.input().size)?;
    let output = graph.outputs().first().and_then(|value| shapes.get(value.index()));
    let classes = output.and_then(|shape| shape.dims().last().copied());
    Ok(classes.ok_or_else(|| Error::Graph { node: graph.name.clone(), reason: "it has no output".into() })?)
}

/// The names of all values of a model before fusion.
pub fn names_before_fusion(model: &Model) -> Result<Vec<String>, Failure> {
    let Some(arch) = model.arch() else { return Ok(Vec::new()) };
    let graph = skeleton(arch, classes(model)?)?;
    Ok(graph.nodes().iter().map(|node| node.name.clone()).collect())
}
