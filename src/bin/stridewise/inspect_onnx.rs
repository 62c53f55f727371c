//! `inspect` of an ONNX file: its inputs, outputs and ops, and what of them is not supported.

use crate::output::{Done, Failure, Output, grouped, lines, table};
use serde::Serialize;
use std::path::Path;
use std::process::ExitCode;
use stridewise::formats::onnx::Network;
use stridewise::{Error, Model, OnnxOptions};

#[derive(Serialize)]
struct Report {
    model: String,
    opset: i64,
    parameters: u64,
    inputs: Vec<Value>,
    outputs: Vec<Value>,
    ops: Vec<Count>,
    unsupported: Vec<Unsupported>,
}

#[derive(Serialize)]
struct Value {
    name: String,
    element_type: &'static str,
    shape: String,
}

#[derive(Serialize)]
struct Count {
    op: String,
    nodes: usize,
}

#[derive(Serialize)]
struct Unsupported {
    node: String,
    op: String,
    reason: String,
}

pub fn show(path: &Path, shapes: Vec<(String, Vec<usize>)>, output: &Output) -> Done {
    let network = Network::load(path)?;
    let options = OnnxOptions { shapes, ..OnnxOptions::default() };
    let (shapes, unsupported) = match Model::from_onnx_with(path, &options) {
        Ok(model) => {
            let graph = model.graph();
            let inferred = graph.infer_shapes_for(&graph.input_shapes(1, None, &options.shapes)?)?;
            (graph.outputs().iter().filter_map(|v| inferred.get(v.index())).map(|shape| shape.to_string()).collect(), Vec::new())
        }
        Err(Error::Unsupported { nodes, .. }) => (Vec::new(), nodes),
        Err(error) => return Err(Failure::from(error)),
    };
    let shapes: Vec<String> = shapes;
    let inputs = network.inputs().iter().zip(network.input_types());
    let outputs = network.outputs().iter().enumerate();
    let report = Report {
        model: path.display().to_string(),
        opset: network.opset(),
        parameters: network.parameters(),
        inputs: inputs.map(|(input, ty)| Value { name: input.name.clone(), element_type: ty.name(), shape: input.dims_text() }).collect(),
        outputs: outputs
            .map(|(index, (name, ty))| Value {
                name: name.clone(),
                element_type: ty.name(),
                shape: shapes.get(index).cloned().unwrap_or_else(|| "?".into()),
            })
            .collect(),
        ops: network.op_counts().into_iter().map(|(op, nodes)| Count { op, nodes }).collect(),
        unsupported: unsupported.into_iter().map(|node| Unsupported { node: node.name, op: node.op, reason: node.reason }).collect(),
    };
    output.print(&report, || report.text())?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    fn text(&self) -> String {
        let mut values = table(&["", "name", "type", "shape"]);
        for (what, list) in [("input", &self.inputs), ("output", &self.outputs)] {
            for value in list {
                values.add_row([what.into(), value.name.clone(), value.element_type.into(), value.shape.clone()]);
            }
        }
        let mut ops = table(&["op", ">nodes"]);
        for count in &self.ops {
            ops.add_row([count.op.clone(), grouped(count.nodes as u64)]);
        }
        let mut text = format!(
            "{}: ONNX, opset {}, {} parameters\n\n{}\n{}",
            self.model,
            self.opset,
            grouped(self.parameters),
            lines(&values),
            lines(&ops)
        );
        if self.unsupported.is_empty() {
            text += "\nEvery node is supported.\n";
        } else {
            let mut unsupported = table(&["not supported", "op", "reason"]);
            for node in &self.unsupported {
                unsupported.add_row([node.node.clone(), node.op.clone(), node.reason.clone()]);
            }
            text += &format!("\n{}", lines(&unsupported));
        }
        text
    }
}
