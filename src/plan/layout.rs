//! Which buffer each value lives in, and how it is laid out: NCHW16c, but NCHW for an input of few channels that only
//! convolutions read. A value that is another one under a new shape (flatten, identity, dropout) shares its buffer.

use super::{Request, algorithm};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ValueId};
use crate::tensor::Shape;
use stridewise_kernels::{ConvProblem, Geometry, Halo, Layout};

/// The buffer of each value.
pub(super) struct Buffers {
    /// For each value the one whose buffer it shares; itself where it has its own.
    pub root: Vec<ValueId>,
    /// For each root its geometry.
    pub geometry: Vec<Geometry>,
}

impl Buffers {
    pub fn geometry_of(&self, value: ValueId) -> Geometry {
        self.geometry[self.root[value.0].0]
    }
}

/// N, C, H, W of a value; `[N, F]` counts as F channels of one pixel.
pub(super) fn dims4(shape: &Shape, node: &str) -> Result<[usize; 4]> {
    match *shape.dims() {
        [n, c, h, w] => Ok([n, c, h, w]),
        [n, f] => Ok([n, f, 1, 1]),
        _ => Err(Error::Graph { node: node.into(), reason: format!("a value of shape {shape} has neither 4 nor 2 dimensions") }),
    }
}

/// The convolution that a `Conv` or `Gemm` node is, given the dimensions of the buffer that it reads. A `Gemm` over a flattened
/// image is a convolution whose kernel is the whole image.
pub(super) fn problem_of(node: &Node, [n, c, h, w]: [usize; 4]) -> Option<ConvProblem> {
    match &node.op {
        Op::Conv { weight, attributes: a, .. } => match *weight.dims() {
            [oc, _, kh, kw] => {
                let (kernel, stride, dilation) = ([kh, kw], a.stride, a.dilation);
                Some(ConvProblem { n, c, h, w, oc, kernel, stride, pads: a.pads, dilation, groups: a.groups })
            }
            _ => None,
        },
        Op::Gemm { weight, .. } => {
            let oc = *weight.dims().first()?;
            Some(ConvProblem { n, c, h, w, oc, kernel: [h, w], stride: [1, 1], pads: [0; 4], dilation: [1, 1], groups: 1 })
        }
        _ => None,
    }
}

pub(super) fn assign(graph: &Graph, shapes: &[Shape], request: &Request<'_>) -> Result<Buffers> {
    let mut root: Vec<ValueId> = (0..graph.value_count()).map(ValueId).collect();
    for node in graph.nodes() {
        let source = node.inputs.first().map(|v| root[v.0]);
        if let (true, Some(source)) = (shares_buffer(graph, shapes, node), source) {
            root[node.output.0] = source;
        }
    }
    let input = graph.input().value;
    let mut layouts = vec![Layout::Nchw16c; graph.value_count()];
    let mut readers = graph.nodes().iter().filter(|n| n.inputs.iter().any(|v| root[v.0] == input)).peekable();
    // A residual is added block by block, so that as one the input is none of planes.
    let convolves = |n: &Node| matches!(n.op, Op::Conv { .. }) && n.inputs.iter().skip(1).all(|v| root[v.0] != input);
    if graph.input().channels < stridewise_kernels::BLOCK && readers.peek().is_some() && readers.all(convolves) {
        layouts[input.0] = Layout::Nchw;
    }
    let mut halos = vec![Halo::NONE; graph.value_count()];
    for node in graph.nodes() {
        let Some(source) = node.inputs.first().map(|v| root[v.0]) else { continue };
        if let Some(problem) = problem_of(node, dims4(&shapes[source.0], &node.name)?) {
            problem.validate().map_err(|e| Error::Graph { node: node.name.clone(), reason: e.to_string() })?;
            let choice = algorithm::choose(&problem, layouts[source.0], request);
            halos[source.0] = halos[source.0].union(choice.algorithm.required_halo(&problem));
        }
    }
    let mut geometry = Vec::with_capacity(shapes.len());
    for (value, shape) in shapes.iter().enumerate() {
        let name = &graph.values[value].name;
        let refuse = |e: stridewise_kernels::Error| Error::Graph { node: name.clone(), reason: e.to_string() };
        geometry.push(Geometry::new(layouts[value], dims4(shape, name)?, halos[value]).map_err(refuse)?);
    }
    Ok(Buffers { root, geometry })
}

/// True for a node that computes nothing: its readers read its input.
fn shares_buffer(graph: &Graph, shapes: &[Shape], node: &Node) -> bool {
    match node.op {
        Op::Identity | Op::Dropout => true,
        // Flattening moves nothing when there is one pixel. Otherwise a Gemm can read the image in its own order, and the
        // output is converted to row-major in any case.
        Op::Flatten => {
            let one_pixel = node.inputs.first().is_some_and(|v| shapes[v.0].dims().iter().skip(2).all(|&d| d == 1));
            let readers_do = graph.nodes().iter().filter(|n| n.inputs.contains(&node.output)).all(|n| matches!(n.op, Op::Gemm { .. }));
            one_pixel || readers_do
        }
        _ => false,
    }
}
