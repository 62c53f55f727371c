//! A network as data: named nodes in the order in which they run, each writing one value.
//!
//! `models` and `formats` write a graph, `passes` rewrite it, `plan` reads it. Ops and their attributes follow ONNX.

mod infer;
mod op;
mod weight;

pub use op::{Activation, ConvAttributes, Op, PoolAttributes};
pub(crate) use weight::ScaledWeight;
pub use weight::{StoredWeight, Weight};

use crate::error::{Error, Result};

/// Names one value of one [`Graph`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ValueId(pub(crate) usize);

impl ValueId {
    /// The value's place in lists over all values, such as that of [`Graph::infer_shapes`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// An op applied to values.
#[derive(Clone, Debug)]
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
pub struct Value {
    /// The name of the node that computed it before any pass ran, or of the graph's input.
    pub name: String,
}

/// What the graph's input may be.
#[derive(Clone, Debug)]
pub struct Input {
    /// The value that holds it.
    pub value: ValueId,
    /// C: fixed by the first convolution's weights.
    pub channels: usize,
    /// The H and W that the network was made for; other sizes are planned when a session asks for them.
    pub size: [usize; 2],
}

/// A directed acyclic graph of [`Node`]s, stored in topological order.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The architecture's name, for messages.
    pub name: String,
    pub(crate) values: Vec<Value>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) input: Input,
    pub(crate) outputs: Vec<ValueId>,
}

impl Graph {
    /// A graph with one NCHW input and nothing else.
    pub fn new(name: &str, channels: usize, size: [usize; 2]) -> Graph {
        Graph {
            name: name.into(),
            values: vec![Value { name: "input".into() }],
            nodes: Vec::new(),
            input: Input { value: ValueId(0), channels, size },
            outputs: Vec::new(),
        }
    }

    /// Appends a node that reads values that already exist; returns the value that it writes.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        let name = name.into();
        let refuse = |reason: String| Error::Graph { node: name.clone(), reason };
        if let Some(v) = inputs.iter().find(|v| v.0 >= self.values.len()) {
            return Err(refuse(format!("input {} does not exist", v.0)));
        }
        if self.nodes.iter().any(|n| n.name == name) {
            return Err(refuse("another node has the same name".into()));
        }
        let output = ValueId(self.values.len());
        self.values.push(Value { name: name.clone() });
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    /// Says which values a run returns, in order.
    pub fn set_outputs(&mut self, outputs: &[ValueId]) {
        self.outputs = outputs.to_vec();
    }

    /// The graph's input.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// The values that a run returns.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
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
}
