//! In which form each value is held: NCHW16c where the ops around it work in blocks of channels, row-major otherwise. A value that
//! is another one under a new shape (flatten, reshape, identity, dropout) shares its buffer.

use super::concat::{self, Place};
use super::{Request, algorithm, blocked};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, TensorOp, ValueId};
use crate::quantize::ActivationScale;
use crate::tensor::Shape;
use stridewise_kernels::{ConvProblem, Element, Geometry, Halo, Layout, Unary};

/// How a value is held.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Form {
    /// NCHW16c.
    Blocked,
    /// Row-major. The input of a network's first convolutions may have a halo.
    Dense,
    /// bfloat16, NCHW32c.
    Halves,
    /// Bytes, NCHW64c.
    Bytes,
    /// bfloat16, NCHW2c: what a network's first convolutions read.
    PlanesOfHalves,
    /// Bytes, NCHW4c: likewise.
    PlanesOfBytes,
}

/// The form of every value and node.
pub(super) struct Forms {
    /// For each value the form in which its node writes it.
    pub home: Vec<Form>,
    /// For each node the form of what it reads and writes.
    pub node: Vec<Form>,
    /// For each value the one whose buffer it shares, blocked and dense; itself where it has its own.
    roots: [Vec<ValueId>; 2],
    /// For each value the border that its readers need, in each form.
    halos: [Vec<Halo>; Form::ALL.len()],
    /// For each value the part of another's buffer that it is, in blocks, if it is one.
    places: Vec<Option<Place>>,
    /// For each convolution the node that computes a function of its output, where nothing else reads that: the convolution's kernel
    /// computes it.
    followers: Vec<Option<usize>>,
    /// For each value what its bytes stand for, where that is known.
    pub(super) scales: Vec<Option<ActivationScale>>,
}

/// N, C, H, W of a value; `[N, F]` counts as F channels of one pixel, `[N, C, L]` as one row.
pub(super) fn dims4(dims: &[usize]) -> Option<[usize; 4]> {
    match *dims {
        [n, c, h, w] => Some([n, c, h, w]),
        [n, c, l] => Some([n, c, 1, l]),
        [n, f] => Some([n, f, 1, 1]),
        _ => None,
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

/// The nodes that read each value.
fn readers(graph: &Graph) -> Vec<Vec<usize>> {
    let mut readers = vec![Vec::new(); graph.value_count()];
    for (index, node) in graph.nodes().iter().enumerate() {
        node.inputs.iter().for_each(|v| readers[v.0].push(index));
    }
    readers
}

impl Forms {
    pub fn of(graph: &Graph, shapes: &[Shape], request: &Request<'_>) -> Result<Forms> {
        let count = graph.value_count();
        let own: Vec<ValueId> = (0..count).map(ValueId).collect();
        let mut forms = Forms {
            home: vec![Form::Dense; count],
            node: vec![Form::Dense; graph.nodes().len()],
            roots: [own.clone(), own],
            halos: std::array::from_fn(|_| vec![Halo::NONE; count]),
            places: vec![None; count],
            followers: vec![None; graph.nodes().len()],
            scales: Vec::new(),
        };
        let readers = readers(graph);
        for input in graph.inputs() {
            let blocked = |index: &usize| !matches!(graph.nodes[*index].op, Op::Tensor(_) | Op::Identity | Op::Dropout);
            if readers[input.value.0].iter().any(blocked) && dims4(shapes[input.value.0].dims()).is_some() {
                forms.home[input.value.0] = Form::Blocked;
            }
        }
        for (index, node) in graph.nodes().iter().enumerate() {
            forms.decide(graph, shapes, index, node, &readers);
        }
        forms.choose_planes(graph, shapes);
        forms.narrow(graph, shapes, request)?;
        forms.find_followers(graph, &readers);
        forms.places = concat::places(graph, shapes, &forms);
        for (index, node) in graph.nodes().iter().enumerate() {
            if let (Some(problem), Some(&x)) = (forms.problem(graph, shapes, index)?, node.inputs.first()) {
                problem.validate().map_err(|e| Error::Graph { node: node.name.clone(), reason: e.to_string() })?;
                let halo = algorithm::choose(&problem, forms.node[index].layout(), request).algorithm.required_halo(&problem);
                let form = forms.node[index];
                let holder = forms.holder(forms.root(x, form), form).0;
                let needed = &mut forms.halos[form as usize][holder];
                *needed = needed.union(halo);
            }
        }
        Ok(forms)
    }

    /// Finds functions of a convolution's output that nothing else reads.
    fn find_followers(&mut self, graph: &Graph, readers: &[Vec<usize>]) {
        for (index, node) in graph.nodes().iter().enumerate() {
            let (value, &[reader]) = (node.output, readers[node.output.0].as_slice()) else { continue };
            let convolves = matches!(node.op, Op::Conv { .. } | Op::Gemm { .. }) && self.home[value.0] == Form::Blocked;
            if !convolves || graph.outputs().contains(&value) || self.function(graph, reader).is_none() {
                continue;
            }
            let after = graph.nodes()[reader].output;
            if self.node[reader] == Form::Blocked && self.home[after.0] == Form::Blocked {
                self.followers[index] = Some(reader);
            }
        }
    }

    fn function(&self, graph: &Graph, index: usize) -> Option<Unary> {
        match graph.nodes()[index].op {
            Op::Tensor(TensorOp::Map(function)) if function != Unary::Identity => Some(function),
            _ => None,
        }
    }

    /// The function that a convolution's kernel computes of its output, and the value that it is.
    pub fn follower(&self, graph: &Graph, index: usize) -> Option<(Unary, ValueId)> {
        let reader = self.followers[index]?;
        Some((self.function(graph, reader)?, graph.nodes()[reader].output))
    }

    fn decide(&mut self, graph: &Graph, shapes: &[Shape], index: usize, node: &Node, readers: &[Vec<usize>]) {
        let (output, first) = (node.output.0, node.inputs.first().copied());
        let form = match (&node.op, first) {
            (Op::Identity | Op::Dropout, Some(x)) => {
                self.alias(node.output, x, true);
                self.home[x.0]
            }
            (Op::Flatten | Op::Tensor(TensorOp::Reshape(_)), Some(x)) => {
                let [from, to] = [shapes[x.0], shapes[output]].map(|shape| dims4(shape.dims()));
                // Otherwise a Gemm can read the image in its own order.
                let images = shapes[x.0].dims().len() == 4 && matches!(node.op, Op::Flatten);
                let gemms = images && readers[output].iter().all(|&r| matches!(graph.nodes[r].op, Op::Gemm { .. }));
                let blocked = self.home[x.0] == Form::Blocked && (from == to && from.is_some() || gemms);
                self.alias(node.output, x, blocked);
                if blocked { Form::Blocked } else { Form::Dense }
            }
            (Op::Tensor(op), _) => {
                // In the form of the largest of what it reads.
                let computed = node.inputs.iter().filter(|v| graph.values[v.0].constant.is_none());
                let largest = computed.max_by_key(|v| (shapes[v.0].elements(), self.home[v.0] == Form::Blocked));
                let blocked = largest.is_some_and(|v| self.home[v.0] == Form::Blocked);
                let blocked = blocked && blocked::supports(op, graph, shapes, node);
                if blocked { Form::Blocked } else { Form::Dense }
            }
            (Op::Softmax, _) => Form::Dense,
            _ => Form::Blocked,
        };
        (self.node[index], self.home[output]) = (form, form);
    }

    fn alias(&mut self, value: ValueId, of: ValueId, blocked: bool) {
        if blocked {
            self.roots[0][value.0] = self.roots[0][of.0];
        }
        self.roots[1][value.0] = self.roots[1][of.0];
    }

    /// Few channels that only convolutions read stay planes: blocks of them would be mostly zeros.
    fn choose_planes(&mut self, graph: &Graph, shapes: &[Shape]) {
        let mut by_root: Vec<Vec<(usize, usize)>> = vec![Vec::new(); graph.value_count()];
        for (index, node) in graph.nodes().iter().enumerate() {
            for (place, value) in node.inputs.iter().enumerate() {
                by_root[self.root(*value, self.home[value.0]).0].push((index, place));
            }
        }
        let inputs: Vec<ValueId> = graph.inputs().iter().map(|input| input.value).collect();
        let written = graph.nodes().iter().filter(|n| matches!(n.op, Op::Tensor(_))).map(|n| n.output);
        for value in inputs.iter().copied().chain(written) {
            let [_, channels, _, _] = *shapes[value.0].dims() else { continue };
            let input = inputs.contains(&value);
            if channels >= stridewise_kernels::BLOCK || by_root[value.0].is_empty() || (!input && self.home[value.0] == Form::Blocked) {
                continue;
            }
            let convolves = |&(index, place): &(usize, usize)| match &graph.nodes[index].op {
                // A residual is added block by block, so that as one it is none of planes. Only an input is copied in with a halo.
                Op::Conv { attributes, .. } => place == 0 && (input || attributes.pads == [0; 4]),
                Op::Identity | Op::Dropout => true,
                _ => false,
            };
            let nothing = |&(index, _): &(usize, usize)| matches!(graph.nodes[index].op, Op::Identity | Op::Dropout);
            if by_root[value.0].iter().all(convolves) && !by_root[value.0].iter().all(nothing) {
                self.home[value.0] = Form::Dense;
                for &(index, _) in &by_root[value.0] {
                    self.node[index] = Form::Dense;
                    if nothing(&(index, 0)) {
                        self.home[graph.nodes[index].output.0] = Form::Dense;
                    }
                }
            }
        }
    }

    /// The value whose buffer of a form a value shares.
    pub fn root(&self, value: ValueId, form: Form) -> ValueId {
        self.roots[usize::from(form != form.blocked())][value.0]
    }

    /// The part of another's buffer of [`Form::Blocked`] that a value is, if it is one.
    pub fn place(&self, value: ValueId) -> Option<Place> {
        self.places[self.root(value, Form::Blocked).0]
    }

    /// Whether a value's buffer of [`Form::Blocked`] is put together from others': nothing needs to write all of it.
    pub fn is_assembled(&self, value: ValueId) -> bool {
        self.places[value.0].is_some() || self.places.iter().flatten().any(|place| place.whole == value)
    }

    /// The value whose buffer of a form holds that of a root: another where it is a part.
    fn holder(&self, root: ValueId, form: Form) -> ValueId {
        self.places[root.0].filter(|_| form == Form::Blocked).map_or(root, |place| place.whole)
    }

    /// True for a node that computes nothing: its readers read its input.
    pub fn is_alias(&self, value: ValueId) -> bool {
        self.roots[1][value.0] != value
    }

    /// The geometry of a value's buffer of a form.
    ///
    /// # Errors
    /// When the value can't be blocked, or the buffer does not fit the address space.
    pub fn geometry(&self, graph: &Graph, shapes: &[Shape], value: ValueId, form: Form) -> Result<Geometry> {
        let root = self.root(value, form);
        let (shape, name) = (shapes[root.0], &graph.values[root.0].name);
        let refuse = |reason: String| Error::Graph { node: name.clone(), reason };
        let dims = match (dims4(shape.dims()), form) {
            (Some(dims), _) => dims,
            (None, Form::Dense) => [1, 1, 1, shape.elements()],
            (None, _) => return Err(refuse(format!("a value of shape {shape} has neither 2, 3 nor 4 dimensions"))),
        };
        let halo = self.halos[form as usize][self.holder(root, form).0];
        let geometry = Geometry::new(form.layout(), dims, halo).map_err(|e| refuse(e.to_string()))?;
        match self.scale(root) {
            Some(scale) if form.layout().element() == Element::U8 => Ok(geometry.with_zero_point(scale.zero_point)?),
            _ => Ok(geometry),
        }
    }

    /// The convolution that a node is, if it is one.
    pub fn problem(&self, graph: &Graph, shapes: &[Shape], index: usize) -> Result<Option<ConvProblem>> {
        let node = &graph.nodes()[index];
        let Some(&x) = node.inputs.first() else { return Ok(None) };
        if !matches!(node.op, Op::Conv { .. } | Op::Gemm { .. }) {
            return Ok(None);
        }
        let shape = shapes[self.root(x, self.node[index]).0];
        let dims = dims4(shape.dims()).ok_or_else(|| {
            let reason = format!("it reads a value of shape {shape}, which is no image");
            Error::Graph { node: node.name.clone(), reason }
        })?;
        Ok(problem_of(node, dims))
    }
}

impl Form {
    pub const ALL: [Form; 6] = [Form::Blocked, Form::Dense, Form::Halves, Form::Bytes, Form::PlanesOfHalves, Form::PlanesOfBytes];

    pub fn layout(self) -> Layout {
        match self {
            Form::Blocked => Layout::Nchw16c,
            Form::Dense => Layout::Nchw,
            Form::Halves => Layout::Nchw32c,
            Form::Bytes => Layout::Nchw64c,
            Form::PlanesOfHalves => Layout::Nchw2c,
            Form::PlanesOfBytes => Layout::Nchw4c,
        }
    }

    /// The same arrangement in f32.
    pub fn in_f32(self) -> Form {
        if self == self.blocked() { Form::Blocked } else { Form::Dense }
    }

    /// The same elements in blocks.
    pub fn blocked(self) -> Form {
        match self {
            Form::Blocked | Form::Dense => Form::Blocked,
            Form::Halves | Form::PlanesOfHalves => Form::Halves,
            Form::Bytes | Form::PlanesOfBytes => Form::Bytes,
        }
    }
}
