//! From a network whose dimensions are symbols to a [`Graph`] for given shapes of its inputs: nodes in order, constants folded, each
//! op lowered to the graph's.

use super::constant::{Constant, Data};
use super::element::ElementType;
use super::{Network, fold, ops};
use crate::error::{Error, Result, UnsupportedNode};
use crate::formats::onnx::proto::NodeProto;
use crate::graph::dense::output_dims;
use crate::graph::{Graph, Node, Op, TensorOp, ValueId, Weight};
use crate::tensor::{Shape, Tensor};
use std::collections::HashMap;
use std::sync::Arc;
use stridewise_kernels::dense::MAX_RANK;
use stridewise_kernels::{Isa, KernelTable};

/// Most characters of a node's name in the names of what it becomes, but for the first op.
const LONGEST_PREFIX: usize = 256;

/// What is known of a value of the network.
#[derive(Clone)]
pub(super) enum Known {
    Constant(Constant),
    /// It has elements: what has none is a constant, known by its shape.
    Computed {
        value: ValueId,
        dims: Vec<usize>,
        ty: ElementType,
        /// What its bytes stand for, if it is bytes that were quantised.
        quantized: Option<Quantized>,
    },
    /// An op that is not supported computes it.
    Unsupported,
}

/// A value of floats that are whole numbers of steps, and how bytes stand for them: those of `scale · (byte − zero point)`.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Quantized {
    pub real: ValueId,
    pub scale: f32,
    pub zero: i64,
}

/// Why a node was not lowered.
pub(super) enum Refusal {
    Unsupported(String),
    Invalid(Error),
}

pub(super) type Lowered<T> = std::result::Result<T, Refusal>;

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Invalid(error)
    }
}

/// An op that is not supported as it is used here.
pub(super) fn unsupported<T>(reason: impl Into<String>) -> Lowered<T> {
    Err(Refusal::Unsupported(reason.into()))
}

impl Known {
    /// A tensor of no elements.
    fn nothing(dims: Vec<usize>, ty: ElementType) -> Known {
        let constant = if ty.is_float() { Constant::floats(dims, Vec::new()) } else { Constant::ints(dims, Vec::new()) };
        Known::Constant(constant.with_type(ty))
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.dims().contains(&0)
    }

    pub fn dims(&self) -> &[usize] {
        match self {
            Known::Constant(constant) => &constant.dims,
            Known::Computed { dims, .. } => dims,
            Known::Unsupported => &[],
        }
    }

    pub fn ty(&self) -> ElementType {
        match self {
            Known::Constant(constant) => constant.ty,
            Known::Computed { ty, .. } => *ty,
            Known::Unsupported => ElementType::Float,
        }
    }

    pub fn constant(&self) -> Option<&Constant> {
        match self {
            Known::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    pub fn with_type(self, ty: ElementType) -> Known {
        match self {
            Known::Constant(constant) => Known::Constant(constant.with_type(ty)),
            Known::Computed { value, dims, quantized, .. } => Known::Computed { value, dims, ty, quantized },
            Known::Unsupported => Known::Unsupported,
        }
    }
}

/// A tensor, behind the elements that it was made of.
type Made = (Data, Arc<Tensor<f32>>);

/// A graph in the making.
pub(super) struct Binder {
    pub graph: Graph,
    /// Of the node that is being lowered, for the graph's nodes and for errors.
    node: String,
    /// Whether the name is taken.
    named: bool,
    table: &'static KernelTable,
    /// Bytes that constants may still take.
    budget: usize,
    /// Of constants that may be read again, by the address of their elements and the shape. The elements are kept, so that the address
    /// stays theirs.
    tensors: HashMap<(usize, Shape), Made>,
    /// By what stands before it in a name, the least number that may be free.
    numbers: HashMap<String, usize>,
}

impl Network {
    /// The graph for these shapes of the inputs, in the order of the network's.
    ///
    /// # Errors
    /// One that lists every node that is not supported; or the first that is malformed.
    pub(crate) fn bind(&self, shapes: &[Shape], max_memory: usize) -> Result<Graph> {
        let mut graph = Graph::without_inputs(&self.name);
        let mut known: HashMap<&str, Known> = HashMap::new();
        let mut listed: Vec<UnsupportedNode> = self.unsupported_inputs.clone();
        for (input, shape) in self.inputs.iter().zip(shapes) {
            let dims = shape.dims().iter().map(|&dim| crate::graph::Dim::Fixed(dim)).collect();
            let value = graph.add_input(input.name.clone(), dims)?;
            let (dims, ty) = (shape.dims().to_vec(), self.types[known.len()]);
            let nothing = shape.is_empty();
            let given = if nothing { Known::nothing(dims, ty) } else { Known::Computed { value, dims, ty, quantized: None } };
            known.insert(&input.name, given);
        }
        for (name, constant) in &self.initializers {
            known.entry(name).or_insert_with(|| Known::Constant(constant.clone()));
        }
        let mut binder = Binder {
            graph,
            node: String::new(),
            named: false,
            table: KernelTable::get(Isa::Portable)?,
            budget: max_memory,
            tensors: HashMap::new(),
            numbers: HashMap::new(),
        };
        for (index, node) in self.nodes.iter().enumerate() {
            let name = self.node_name(index);
            let mut inputs = Vec::with_capacity(node.input.len());
            let mut tainted = false;
            for input in &node.input {
                let value = if input.is_empty() { None } else { known.get(&input[..]).cloned() };
                if value.is_none() && !input.is_empty() {
                    let reason = format!("{} reads `{input}`, which no input, initializer or node before it is", node.op_type);
                    return Err(Error::Graph { node: name, reason });
                }
                tainted |= matches!(value, Some(Known::Unsupported));
                inputs.push(value);
            }
            let call = ops::Call { proto: node, index, opset: self.opset, network: self, inputs };
            (binder.node, binder.named) = (name.clone(), false);
            let outputs = match ops::find(node) {
                Some(lower) if !tainted => match ops::lower(&mut binder, &call, lower) {
                    Ok(outputs) => outputs,
                    Err(Refusal::Unsupported(reason)) => {
                        listed.push(UnsupportedNode { name, op: op_name(node), reason });
                        Vec::new()
                    }
                    Err(Refusal::Invalid(error)) => return Err(named(error, &name, &node.op_type)),
                },
                Some(_) => Vec::new(),
                None => {
                    listed.push(UnsupportedNode { name, op: op_name(node), reason: "the op is not supported".into() });
                    Vec::new()
                }
            };
            let mut outputs = outputs.into_iter();
            for output in &node.output {
                let value = outputs.next().unwrap_or(Known::Unsupported);
                if !output.is_empty() {
                    known.insert(output, value);
                }
            }
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for (name, _) in &self.outputs {
            binder.node = format!("output {name}");
            match known.get(&name[..]) {
                Some(Known::Unsupported) if listed.is_empty() => {
                    let reason = "it is an optional output of its op".into();
                    listed.push(UnsupportedNode { name: name.clone(), op: "output".into(), reason });
                }
                Some(Known::Unsupported) => {}
                Some(value) => match binder.value(value) {
                    Ok(value) => outputs.push((name.clone(), value)),
                    Err(Refusal::Invalid(error)) => return Err(error),
                    Err(Refusal::Unsupported(reason)) => {
                        listed.push(UnsupportedNode { name: name.clone(), op: "output".into(), reason });
                    }
                },
                None => {
                    let reason = format!("no input, initializer or node is the output `{name}`");
                    return Err(Error::Graph { node: self.name.clone(), reason });
                }
            }
        }
        if !listed.is_empty() {
            return Err(Error::Unsupported { path: self.path.clone(), nodes: listed });
        }
        binder.graph.set_named_outputs(&outputs);
        Ok(binder.graph)
    }

    /// A node's name, or where it has none what it writes.
    pub(super) fn node_name(&self, index: usize) -> String {
        let node = &self.nodes[index];
        match (node.name.is_empty(), node.output.iter().find(|output| !output.is_empty())) {
            (false, _) => node.name.clone(),
            (true, Some(output)) => format!("{} -> {output}", node.op_type),
            (true, None) => format!("{} {index}", node.op_type),
        }
    }
}

/// The op with its domain, where that is not ONNX's own.
pub(super) fn op_name(node: &NodeProto) -> String {
    if node.domain.is_empty() || node.domain == "ai.onnx" { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) }
}

/// An error that names node and op.
fn named(error: Error, name: &str, op: &str) -> Error {
    match error {
        Error::Graph { reason, .. } if reason.starts_with(op) => Error::Graph { node: name.into(), reason },
        Error::Graph { reason, .. } => Error::Graph { node: name.into(), reason: format!("{op}: {reason}") },
        other => Error::Graph { node: name.into(), reason: format!("{op}: {other}") },
    }
}

/// Why an op is refused that has an input of no elements and a result of some.
pub(super) const NOTHING: &str = "an input has no elements, and its result is not defined then";

/// More dimensions than a kernel computes with are not supported.
pub(super) fn check_rank(rank: usize) -> Lowered<()> {
    if rank > MAX_RANK { unsupported(format!("a tensor of {rank} dimensions: {MAX_RANK} are the most")) } else { Ok(()) }
}

/// A shape; too many dimensions are not supported, and no error of the network's.
fn within_rank(shape: Result<Shape>) -> Lowered<Shape> {
    match shape {
        Err(Error::TooLarge { what, requested, limit }) if what.starts_with("the rank") => {
            unsupported(format!("{what}: {requested} is over the limit of {limit}"))
        }
        shape => Ok(shape?),
    }
}

impl Binder {
    pub fn invalid<T>(&self, reason: impl Into<String>) -> Lowered<T> {
        Err(Refusal::Invalid(Error::Graph { node: self.node.clone(), reason: reason.into() }))
    }

    /// The value of the graph that a known one is: constants are added to it.
    pub fn value(&mut self, known: &Known) -> Lowered<ValueId> {
        match known {
            Known::Computed { value, .. } => Ok(*value),
            Known::Unsupported => unsupported("it reads what is not supported"),
            Known::Constant(constant) => {
                if !constant.is_exact() {
                    return unsupported("it reads whole numbers beyond 2^24 in a run");
                }
                let tensor = self.tensor(constant, &constant.dims)?;
                Ok(self.graph.add_constant(self.prefix().to_string(), tensor))
            }
        }
    }

    /// Takes the bytes of so many elements of a constant, before they are asked for.
    pub fn charge(&mut self, len: usize, each: usize) -> Lowered<()> {
        fold::charge(&mut self.budget, len, each).or_else(|e| self.invalid(e.to_string()))
    }

    /// A constant as a tensor, under another shape of as many elements. It is made once for all that read it.
    pub fn tensor(&mut self, constant: &Constant, dims: &[usize]) -> Lowered<Arc<Tensor<f32>>> {
        let shape = Shape::new(dims)?;
        let make = || Ok(Arc::new(constant.to_tensor()?.reshape(shape)?));
        // It takes the place of elements that are charged, and that nothing else reads.
        if constant.is_sole() {
            return make();
        }
        let key = (constant.address(), shape);
        if let Some((_, tensor)) = self.tensors.get(&key) {
            return Ok(tensor.clone());
        }
        self.charge(constant.len(), size_of::<f32>())?;
        let tensor = make()?;
        self.tensors.insert(key, (constant.data.clone(), tensor.clone()));
        Ok(tensor)
    }

    /// Weights of a constant, under another shape of as many elements.
    pub fn weight(&mut self, constant: &Constant, dims: &[usize]) -> Lowered<Weight> {
        let shape = Shape::new(dims)?;
        match &constant.data {
            Data::Stored(stored) if constant.len() == shape.elements() => {
                let steps = constant.steps(0);
                self.charge(steps.as_ref().map_or(0, |steps| steps.len()), size_of::<f32>())?;
                Ok(Weight::stored(shape, stored.clone()).with_steps(steps))
            }
            // What is folded may depend on the shapes of the inputs.
            _ => Ok(Weight::from(self.tensor(constant, dims)?).told_apart()),
        }
    }

    /// The result of an op; of constants it is a constant.
    pub fn emit(&mut self, op: TensorOp, inputs: &[&Known], ty: ElementType) -> Lowered<Known> {
        if let TensorOp::Reshape(dims) = &op {
            check_rank(dims.len())?;
        }
        let constants: Option<Vec<&Constant>> = inputs.iter().map(|known| known.constant()).collect();
        if let Some(constants) = constants {
            if inputs.iter().any(|known| known.is_empty()) {
                let shapes: Vec<&[usize]> = inputs.iter().map(|known| known.dims()).collect();
                let dims = output_dims(&op, &shapes, self.table).map_err(Error::from)?;
                if dims.contains(&0) {
                    return Ok(Known::nothing(dims, ty));
                }
                if !fold::is_defined_of_nothing(&op) {
                    return unsupported(NOTHING);
                }
            }
            let folded = fold::evaluate(&op, &constants, ty, self.table, &mut self.budget);
            return Ok(Known::Constant(folded.map_err(|e| Refusal::Invalid(e.into()))?));
        }
        // Nothing to do.
        if let (TensorOp::Reshape(dims), [x]) = (&op, inputs)
            && x.dims() == dims
        {
            return Ok((*x).clone().with_type(ty));
        }
        self.add(Op::Tensor(op), inputs, ty)
    }

    /// Adds a node.
    pub fn add(&mut self, op: Op, inputs: &[&Known], ty: ElementType) -> Lowered<Known> {
        let shapes = inputs.iter().map(|known| within_rank(Shape::new(known.dims()))).collect::<Lowered<Vec<Shape>>>()?;
        // Whoever lowers the node names it in errors.
        let node = Node { name: String::new(), op, inputs: Vec::new(), output: ValueId(0) };
        let shape = within_rank(node.output_shape(&shapes, self.table))?;
        if shape.is_empty() {
            return Ok(Known::nothing(shape.dims().to_vec(), ty));
        }
        if shapes.iter().any(Shape::is_empty) {
            return unsupported(NOTHING);
        }
        let values = inputs.iter().map(|known| self.value(known)).collect::<Lowered<Vec<ValueId>>>()?;
        let name = self.free_name();
        let value = self.graph.add(name, node.op, &values)?;
        Ok(Known::Computed { value, dims: shape.dims().to_vec(), ty, quantized: None })
    }

    /// The node's name, or its beginning with a number.
    fn free_name(&mut self) -> String {
        if !self.named {
            self.named = true;
            if !self.graph.has_node(&self.node) {
                return self.node.clone();
            }
        }
        let mut count = self.numbers.get(self.prefix()).copied().unwrap_or(2);
        let mut name = format!("{} #{count}", self.prefix());
        while self.graph.has_node(&name) {
            count += 1;
            name = format!("{} #{count}", self.prefix());
        }
        self.numbers.insert(self.prefix().to_string(), count);
        name
    }

    fn prefix(&self) -> &str {
        self.node.char_indices().nth(LONGEST_PREFIX).map_or(&self.node, |(end, _)| &self.node[..end])
    }
}
