//! ONNX files to graphs, opset 6 and newer.
//!
//! A file is decoded and checked once, as a [`Network`] whose dimensions are symbols. For given shapes of its inputs it becomes a
//! [`Graph`](crate::graph::Graph): the arithmetic of shapes, which exporters write into the file as ops, is then arithmetic of
//! constants, and folded.

mod bind;
mod constant;
mod element;
mod fold;
mod ops;
mod proto;
mod tensor;
mod wire;

pub use element::ElementType;

use crate::error::{Error, Result, UnsupportedNode};
use crate::formats::mapped;
use crate::graph::{Dim, Input, ValueId, size_of};
use constant::Constant;
use prost::Message;
use prost::bytes::Bytes;
use proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use tensor::{Files, type_name};

/// The oldest opset that is read.
const OLDEST_OPSET: i64 = 6;

/// A decoded file.
pub struct Network {
    path: std::path::PathBuf,
    name: String,
    opset: i64,
    /// Each after all whose outputs it reads.
    nodes: Vec<NodeProto>,
    initializers: BTreeMap<String, Constant>,
    /// Tensors in attributes, by node and attribute.
    tensors: HashMap<(usize, String), Constant>,
    inputs: Vec<Input>,
    types: Vec<ElementType>,
    outputs: Vec<(String, ElementType)>,
    /// Inputs that are no tensors.
    unsupported_inputs: Vec<UnsupportedNode>,
}

impl Network {
    /// Reads a file, and those that its tensors lie in.
    ///
    /// # Errors
    /// When the file can't be read, is no ONNX file, or says what can't be.
    pub fn load(path: &Path) -> Result<Network> {
        let folder = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        let bytes = Bytes::from_owner(mapped::map(path)?);
        Network::decode(bytes, Files::new(path, folder.map(Path::to_path_buf)))
    }

    /// Reads a file's bytes.
    pub(crate) fn load_bytes(bytes: &[u8], name: &Path) -> Result<Network> {
        Network::decode(Bytes::copy_from_slice(bytes), Files::new(name, None))
    }

    fn decode(bytes: Bytes, mut files: Files) -> Result<Network> {
        let refuse = |reason: String| Error::Format { path: files.model.clone(), reason };
        wire::messages(&bytes).map_err(refuse)?;
        let model = ModelProto::decode(bytes).map_err(|e| refuse(format!("not an ONNX file, or a damaged one: {e}")))?;
        let Some(graph) = model.graph else { return Err(refuse("not an ONNX file, or a damaged one: it has no graph".into())) };
        let own = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        // A file without the version of a domain has the first; one without nodes of ONNX's own has nothing of any version.
        let opset = model.opset_import.iter().find(|set| own(&set.domain)).map_or(1, |set| set.version);
        if opset < OLDEST_OPSET && graph.node.iter().any(|node| own(&node.domain)) {
            return Err(refuse(format!("operators of version {opset} are not supported; {OLDEST_OPSET} is the oldest that is read")));
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(refuse("it has sparse initializers, which are not supported".into()));
        }
        let mut initializers = BTreeMap::new();
        for proto in &graph.initializer {
            if initializers.insert(proto.name.clone(), files.read(proto)?).is_some() {
                return Err(files.refuse(format!("two initializers are called `{}`", proto.name)));
            }
        }
        let GraphProto { node, name, input, output, .. } = graph;
        let nodes = in_order(node, &initializers, &input, &files)?;
        let mut tensors = HashMap::new();
        for (index, node) in nodes.iter().enumerate() {
            for attribute in &node.attribute {
                if let Some(tensor) = &attribute.t {
                    tensors.insert((index, attribute.name.clone()), read_attribute(&mut files, tensor, node)?);
                }
            }
        }
        let name = if name.is_empty() { files.model.display().to_string() } else { name };
        let mut network = Network {
            path: files.model.clone(),
            name,
            opset,
            nodes,
            initializers,
            tensors,
            inputs: Vec::new(),
            types: Vec::new(),
            outputs: Vec::new(),
            unsupported_inputs: Vec::new(),
        };
        // Files of old versions list initializers among the inputs.
        let given = input.iter().filter(|info| !network.initializers.contains_key(&info.name));
        let (mut inputs, mut names) = (Vec::new(), HashSet::new());
        for info in given {
            if !names.insert(&info.name) {
                return Err(files.refuse(format!("two inputs are called `{}`", info.name)));
            }
            match input_of(info, inputs.len(), &files)? {
                Ok((input, ty)) => {
                    inputs.push(input);
                    network.types.push(ty);
                }
                Err(reason) => network.unsupported_inputs.push(UnsupportedNode { name: info.name.clone(), op: "input".into(), reason }),
            }
        }
        network.inputs = inputs;
        for info in &output {
            let ty = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).and_then(|t| ElementType::from_number(t.elem_type));
            network.outputs.push((info.name.clone(), ty.unwrap_or(ElementType::Float)));
        }
        if network.outputs.is_empty() {
            return Err(files.refuse("its graph has no output".into()));
        }
        if !network.unsupported_inputs.is_empty() {
            return Err(Error::Unsupported { path: network.path, nodes: network.unsupported_inputs });
        }
        Ok(network)
    }

    /// Where it was read from.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the inputs may be.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The element types that the file gives the inputs.
    pub fn input_types(&self) -> &[ElementType] {
        &self.types
    }

    /// The outputs' names and the element types that the file gives them.
    pub fn outputs(&self) -> &[(String, ElementType)] {
        &self.outputs
    }

    /// How often each op occurs.
    pub fn op_counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for node in &self.nodes {
            *counts.entry(bind::op_name(node)).or_insert(0) += 1;
        }
        counts
    }

    /// The version of ONNX's operators.
    pub fn opset(&self) -> i64 {
        self.opset
    }

    /// Elements of all initializers.
    pub fn parameters(&self) -> u64 {
        self.initializers.values().map(|constant| constant.len() as u64).sum()
    }

    /// Nodes whose ops are not supported at all, whatever the shapes.
    pub fn unknown_ops(&self) -> Vec<UnsupportedNode> {
        let unknown = self.nodes.iter().enumerate().filter(|(_, node)| ops::find(node).is_none());
        let listed = unknown.map(|(index, node)| UnsupportedNode {
            name: self.node_name(index),
            op: bind::op_name(node),
            reason: "the op is not supported".into(),
        });
        listed.collect()
    }
}

/// A tensor in an attribute; one of a type that is not read is an error that names the node.
fn read_attribute(files: &mut Files, tensor: &TensorProto, node: &NodeProto) -> Result<Constant> {
    files.read(tensor).map_err(|error| match error {
        Error::Format { reason, .. } => files.refuse(format!("node `{}`: {reason}", node.name)),
        other => other,
    })
}

/// An input, or why it is none that can be read.
fn input_of(info: &ValueInfoProto, place: usize, files: &Files) -> Result<std::result::Result<(Input, ElementType), String>> {
    let Some(tensor) = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
        return Ok(Err("it is no tensor".into()));
    };
    let Some(ty) = ElementType::from_number(tensor.elem_type) else {
        return Ok(Err(format!("its element type {} is not supported", type_name(tensor.elem_type))));
    };
    let Some(shape) = &tensor.shape else { return Ok(Err("it has no shape".into())) };
    if shape.dim.len() > crate::tensor::MAX_RANK {
        return Ok(Err(format!("it has {} dimensions, and {} are the most", shape.dim.len(), crate::tensor::MAX_RANK)));
    }
    let mut dims = Vec::with_capacity(shape.dim.len());
    for dim in &shape.dim {
        dims.push(match (dim.dim_value, &dim.dim_param) {
            (Some(value), _) => {
                Dim::Fixed(usize::try_from(value).map_err(|_| files.refuse(format!("input `{}` has the dimension {value}", info.name)))?)
            }
            (None, Some(name)) => Dim::Any(name.clone()),
            (None, None) => Dim::Any(String::new()),
        });
    }
    let size = size_of(&dims);
    Ok(Ok((Input { value: ValueId(place), name: info.name.clone(), dims, size }, ty)))
}

/// The nodes, each after all whose outputs it reads.
fn in_order(
    nodes: Vec<NodeProto>,
    initializers: &BTreeMap<String, Constant>,
    inputs: &[ValueInfoProto],
    files: &Files,
) -> Result<Vec<NodeProto>> {
    let mut writer: HashMap<&str, usize> = HashMap::new();
    let outside: HashSet<&str> = inputs.iter().map(|info| &info.name[..]).chain(initializers.keys().map(String::as_str)).collect();
    for (index, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if writer.insert(output, index).is_some() || outside.contains(&output[..]) {
                return Err(files.refuse(format!("node `{}` ({}) writes `{output}`, which is written already", node.name, node.op_type)));
            }
        }
    }
    // Kahn's algorithm; of the nodes that are ready the first of the file comes first.
    let mut waits = vec![0usize; nodes.len()];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for input in &node.input {
            if let Some(&before) = writer.get(&input[..]) {
                waits[index] += 1;
                readers[before].push(index);
            }
        }
    }
    let mut ready: std::collections::BTreeSet<usize> = (0..nodes.len()).filter(|&index| waits[index] == 0).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for &reader in &readers[index] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.insert(reader);
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = (0..nodes.len()).find(|index| waits[*index] > 0).map(|index| &nodes[index]);
        let (name, op) = stuck.map_or(("", ""), |node| (&node.name[..], &node.op_type[..]));
        return Err(files.refuse(format!("node `{name}` ({op}) is part of a cycle, or behind one")));
    }
    let mut nodes: Vec<Option<NodeProto>> = nodes.into_iter().map(Some).collect();
    Ok(order.into_iter().filter_map(|index| nodes[index].take()).collect())
}

#[cfg(test)]
mod tests;
