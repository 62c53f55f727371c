//! A network as data: named nodes in the order in which they run, each writing one value.
//!
//! `models` and `formats` write a graph, `passes` rewrite it, `plan` reads it. Ops and their attributes follow ONNX.

pub(crate) mod dense;
mod infer;
mod input;
mod op;
#[cfg(feature = "packed")]
mod stored;
mod tensor_op;
mod weight;

pub use input::{Dim, Input};
pub(crate) use input::{bind_inputs, check_inputs, size_of};
pub use op::{Activation, ConvAttributes, Op, PoolAttributes};
#[cfg(feature = "packed")]
pub(crate) use stored::bounded_list;
pub use tensor_op::{ConvTransposeAttributes, TensorOp};
pub(crate) use weight::{PackRequest, ScaledWeight, mixed};
pub use weight::{StoredWeight, Weight};

use crate::error::{Error, Result};
use crate::quantize::Quantization;
use crate::tensor::Tensor;
use std::collections::HashSet;
use std::sync::Arc;

/// Names one value of one [`Graph`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct ValueId(pub(crate) usize);

impl ValueId {
    /// The value's place in lists over all values, such as that of [`Graph::infer_shapes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// An op applied to values.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Node {
    /// Unique; for networks of this crate the node name that torchvision's feature extraction gives (`layer1.0.conv1`).
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// The values read, in the op's order. A `Conv` with a second input adds it before its activation (the residual).
    pub inputs: Vec<ValueId>,
    /// The value written. Its name is that of the last node that was fused into this one.
    pub output: ValueId,
}

/// What is known of a value.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Value {
    /// The name of the node that computed it before any pass ran, or of an input, output or constant of the graph.
    pub name: String,
    /// What it is in every run, where that is known.
    pub constant: Option<Arc<Tensor<f32>>>,
}

/// A directed acyclic graph of [`Node`]s, stored in topological order.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "packed", derive(serde::Serialize, serde::Deserialize))]
pub struct Graph {
    /// The architecture's name, for messages.
    pub name: String,
    #[cfg_attr(feature = "packed", serde(deserialize_with = "bounded_list"))]
    pub(crate) values: Vec<Value>,
    #[cfg_attr(feature = "packed", serde(deserialize_with = "bounded_list"))]
    pub(crate) nodes: Vec<Node>,
    #[cfg_attr(feature = "packed", serde(deserialize_with = "bounded_list"))]
    pub(crate) inputs: Vec<Input>,
    #[cfg_attr(feature = "packed", serde(deserialize_with = "bounded_list"))]
    pub(crate) outputs: Vec<ValueId>,
    /// The names of the outputs, where they are not those of their values.
    #[cfg_attr(feature = "packed", serde(deserialize_with = "bounded_list"))]
    pub(crate) output_names: Vec<String>,
    #[cfg_attr(feature = "packed", serde(skip))]
    node_names: HashSet<String>,
    #[cfg_attr(feature = "packed", serde(skip))]
    input_names: HashSet<String>,
    /// How the network is computed in bytes, where its own file says so; packed networks say nothing of it.
    #[cfg_attr(feature = "packed", serde(skip))]
    pub(crate) quantization: Quantization,
}

impl Graph {
    /// A graph with one NCHW input of any batch and size, and nothing else. `size` is what the network was made for.
    pub fn new(name: &str, channels: usize, size: [usize; 2]) -> Graph {
        let mut graph = Graph::without_inputs(name);
        let [n, h, w] = ["N", "H", "W"].map(|axis| Dim::Any(axis.into()));
        let value = graph.add_value("input".into(), None);
        graph.input_names.insert("input".into());
        graph.inputs.push(Input { value, name: "input".into(), dims: vec![n, Dim::Fixed(channels), h, w], size });
        graph
    }

    /// A graph with nothing in it.
    pub fn without_inputs(name: &str) -> Graph {
        Graph {
            name: name.into(),
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            output_names: Vec::new(),
            node_names: HashSet::new(),
            input_names: HashSet::new(),
            quantization: Quantization::default(),
        }
    }

    /// Adds an input behind those that are there.
    ///
    /// # Errors
    /// When another input has the name.
    pub fn add_input(&mut self, name: impl Into<String>, dims: Vec<Dim>) -> Result<ValueId> {
        let name = name.into();
        if !self.input_names.insert(name.clone()) {
            return Err(Error::Graph { node: name, reason: "another input has the same name".into() });
        }
        let value = self.add_value(name.clone(), None);
        let size = size_of(&dims);
        self.inputs.push(Input { value, name, dims, size });
        Ok(value)
    }

    /// Adds a value that is the same in every run.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Arc<Tensor<f32>>) -> ValueId {
        self.add_value(name.into(), Some(tensor))
    }

    fn add_value(&mut self, name: String, constant: Option<Arc<Tensor<f32>>>) -> ValueId {
        self.values.push(Value { name, constant });
        ValueId(self.values.len() - 1)
    }

    /// Appends a node that reads values that already exist; returns the value that it writes.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        let name = name.into();
        let refuse = |reason: String| Error::Graph { node: name.clone(), reason };
        if let Some(v) = inputs.iter().find(|v| v.0 >= self.values.len()) {
            return Err(refuse(format!("input {} does not exist", v.0)));
        }
        if !self.node_names.insert(name.clone()) {
            return Err(refuse("another node has the same name".into()));
        }
        let output = self.add_value(name.clone(), None);
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Says which values a run returns, in order. They are called what their nodes are called.
    pub fn set_outputs(&mut self, outputs: &[ValueId]) {
        self.outputs = outputs.to_vec();
        self.output_names = outputs.iter().map(|v| self.values.get(v.0).map_or_else(String::new, |value| value.name.clone())).collect();
    }

    /// Says which values a run returns, in order, and what they are called.
    pub fn set_named_outputs(&mut self, outputs: &[(String, ValueId)]) {
        self.outputs = outputs.iter().map(|(_, value)| *value).collect();
        self.output_names = outputs.iter().map(|(name, _)| name.clone()).collect();
    }

    /// The first input: the only one of a network that reads images and nothing else. One without a name where there is none.
    pub fn input(&self) -> &Input {
        self.inputs.first().unwrap_or(&input::NONE)
    }

    /// All inputs, in order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The values that a run returns.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// What the outputs are called, in their order.
    pub fn output_names(&self) -> &[String] {
        &self.output_names
    }

    /// The nodes, each after all whose values it reads.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What is known of a value; `None` for one of another graph, where this one has none of that number.
    pub fn value(&self, id: ValueId) -> Option<&Value> {
        self.values.get(id.0)
    }

    /// The number of values; ids run from 0.
    pub fn value_count(&self) -> usize {
        self.values.len()
    }

    /// Whether a node has the name.
    pub(crate) fn has_node(&self, name: &str) -> bool {
        self.node_names.contains(name)
    }
}
