//! Shapes of all values for one input shape, and with them the validation of every node.

use super::dense::{output_dims as dense_dims, table_bytes};
use super::{Graph, Node, Op, PoolAttributes};
use crate::error::{Error, Result};
use crate::tensor::{Shape, Tensor};
use stridewise_kernels::{ConvProblem, Isa, KernelTable};

impl Graph {
    /// The shape of every value, indexed as [`ValueId`](super::ValueId)s count, for `batch` images of `size` H×W.
    ///
    /// # Errors
    /// When a node does not fit the shapes that it reads, reads or writes a tensor of no elements, or a size overflows; the error names
    /// the node.
    pub fn infer_shapes(&self, batch: usize, size: [usize; 2]) -> Result<Vec<Shape>> {
        self.infer_shapes_for(&self.input_shapes(batch, Some(size), &[])?)
    }

    /// The shape of every value for given shapes of the inputs.
    ///
    /// # Errors
    /// As [`Graph::infer_shapes`], and when an input has another shape than the graph allows.
    pub fn infer_shapes_for(&self, inputs: &[Shape]) -> Result<Vec<Shape>> {
        self.check_inputs(inputs)?;
        let table = KernelTable::get(Isa::Portable)?;
        let mut shapes: Vec<Option<Shape>> = self.values.iter().map(|value| value.constant.as_ref().map(|t| t.shape())).collect();
        for (input, shape) in self.inputs.iter().zip(inputs) {
            shapes[input.value.0] = Some(*shape);
        }
        for node in &self.nodes {
            let refuse = |reason: String| Error::Graph { node: node.name.clone(), reason };
            let inputs: Option<Vec<Shape>> = node.inputs.iter().map(|v| shapes.get(v.0).copied().flatten()).collect();
            let inputs = inputs.ok_or_else(|| refuse("reads a value that no node before it writes".into()))?;
            let nothing = |what: &str| refuse(format!("{} {what} a tensor of no elements", node.op.name()));
            if inputs.iter().any(Shape::is_empty) {
                return Err(nothing("reads"));
            }
            let shape = node.output_shape(&inputs, table).map_err(|e| match e {
                Error::Graph { .. } => e,
                other => refuse(other.to_string()),
            })?;
            if shape.is_empty() {
                return Err(nothing("writes"));
            }
            match shapes.get_mut(node.output.0) {
                Some(slot @ None) => *slot = Some(shape),
                _ => return Err(refuse("writes a value that is written already".into())),
            }
        }
        if let Some(output) = self.outputs.iter().find(|v| shapes.get(v.0).copied().flatten().is_none()) {
            return Err(Error::Graph { node: self.name.clone(), reason: format!("output {} is written by no node", output.0) });
        }
        // A value that nothing writes is read by nothing either: its shape is of no consequence.
        let scalar = Shape::new(&[1, 1])?;
        Ok(shapes.into_iter().map(|s| s.unwrap_or(scalar)).collect())
    }

    /// Bytes that the nodes' kernels will take beside values and scratch, for the shapes of all values.
    ///
    /// # Errors
    /// When they are more than a session may take; the error names the node.
    pub(crate) fn table_bytes(&self, shapes: &[Shape], max_memory: usize, table: &'static KernelTable) -> Result<usize> {
        let mut bytes = 0usize;
        for node in &self.nodes {
            let Op::Tensor(op) = &node.op else { continue };
            let dims: Vec<&[usize]> = node.inputs.iter().map(|v| shapes[v.0].dims()).collect();
            let refuse = |e: stridewise_kernels::Error| Error::Graph { node: node.name.clone(), reason: e.to_string() };
            bytes = bytes.saturating_add(table_bytes(op, &dims, table).map_err(refuse)?);
            if bytes > max_memory {
                return Err(Error::TooLarge {
                    what: format!("the tables of {}, up to those of node `{}` ({})", self.name, node.name, op.name()),
                    requested: format!("{bytes} bytes"),
                    limit: format!("{max_memory} bytes (SessionOptions::max_memory)"),
                });
            }
        }
        Ok(bytes)
    }
}

impl Node {
    /// The shape of what the node writes.
    ///
    /// # Errors
    /// When it does not fit what it reads.
    pub(crate) fn output_shape(&self, inputs: &[Shape], table: &'static KernelTable) -> Result<Shape> {
        match &self.op {
            Op::Tensor(op) => {
                let dims: Vec<&[usize]> = inputs.iter().map(|shape| shape.dims()).collect();
                let refuse = |e: stridewise_kernels::Error| Error::Graph { node: self.name.clone(), reason: e.to_string() };
                Shape::new(&dense_dims(op, &dims, table).map_err(refuse)?)
            }
            _ => Shape::new(&output_dims(self, inputs)?),
        }
    }
}

fn output_dims(node: &Node, inputs: &[Shape]) -> Result<Vec<usize>> {
    let refuse = |reason: String| Error::Graph { node: node.name.clone(), reason };
    let arity = match &node.op {
        Op::Conv { .. } => 1..=2,
        Op::Add(_) => 2..=2,
        _ => 1..=1,
    };
    if !arity.contains(&inputs.len()) {
        return Err(refuse(format!("{} reads {} values, expected {} to {}", node.op.name(), inputs.len(), arity.start(), arity.end())));
    }
    let x = inputs[0];
    let image = || match *x.dims() {
        [n, c, h, w] => Ok([n, c, h, w]),
        _ => Err(refuse(format!("{} needs an input [N, C, H, W], found {x}", node.op.name()))),
    };
    let per_channel = |what: &str, t: &Tensor<f32>, channels: usize| match t.dims() {
        [c] if *c == channels => Ok(()),
        _ => Err(refuse(format!("{what} has shape {}, expected [{channels}]", t.shape()))),
    };
    Ok(match &node.op {
        Op::Conv { weight, bias, attributes: a, .. } => {
            let [n, c, h, w] = image()?;
            let &[oc, width, kh, kw] = weight.dims() else {
                return Err(refuse(format!("weights of shape {}, expected [OC, C/groups, KH, KW]", weight.shape())));
            };
            if a.groups == 0 || width.checked_mul(a.groups) != Some(c) {
                return Err(refuse(format!("weights of shape {} with {} groups do not fit {c} input channels", weight.shape(), a.groups)));
            }
            let (kernel, stride, dilation) = ([kh, kw], a.stride, a.dilation);
            let problem = ConvProblem { n, c, h, w, oc, kernel, stride, pads: a.pads, dilation, groups: a.groups };
            problem.validate().map_err(|e| refuse(e.to_string()))?;
            if let Some(bias) = bias {
                per_channel("bias", bias, oc)?;
            }
            let [oh, ow] = problem.output();
            let output = vec![n, oc, oh, ow];
            if let Some(residual) = inputs.get(1)
                && residual.dims() != output
            {
                return Err(refuse(format!("residual of shape {residual}, expected {output:?}")));
            }
            output
        }
        Op::Gemm { weight, bias, .. } => {
            let (&[n, features], &[of, expected]) = (x.dims(), weight.dims()) else {
                return Err(refuse(format!("input {x} and weights {}, expected [N, F] and [OF, F]", weight.shape())));
            };
            if features != expected {
                return Err(refuse(format!("input of {features} features, but weights for {expected}")));
            }
            if let Some(bias) = bias {
                per_channel("bias", bias, of)?;
            }
            vec![n, of]
        }
        Op::BatchNormalization { scale, bias, mean, variance, epsilon } => {
            let (&[_, c, _, _] | &[_, c]) = x.dims() else {
                return Err(refuse(format!("BatchNormalization needs an input [N, C, H, W] or [N, C], found {x}")));
            };
            for (what, tensor) in [("scale", scale), ("bias", bias), ("mean", mean), ("variance", variance)] {
                per_channel(what, tensor, c)?;
            }
            if let Some((channel, value)) = variance
                .as_slice()
                .iter()
                .enumerate()
                .find(|(_, v)| !(f64::from(**v) + epsilon).is_normal() || f64::from(**v) + epsilon < 0.0)
            {
                return Err(refuse(format!("variance {value} of channel {channel} has no square root with epsilon {epsilon}")));
            }
            x.dims().to_vec()
        }
        Op::ScaleShift { scale, shift, .. } => {
            let (&[_, c, _, _] | &[_, c]) = x.dims() else {
                return Err(refuse(format!("ScaleShift needs an input [N, C, H, W] or [N, C], found {x}")));
            };
            per_channel("scale", scale, c)?;
            per_channel("shift", shift, c)?;
            x.dims().to_vec()
        }
        Op::Add(_) => {
            if inputs[0] != inputs[1] {
                return Err(refuse(format!("sum of shapes {} and {}", inputs[0], inputs[1])));
            }
            x.dims().to_vec()
        }
        Op::MaxPool(pool) | Op::AveragePool { pool, .. } => {
            let [n, c, h, w] = image()?;
            vec![n, c, pooled(node, pool, 0, h)?, pooled(node, pool, 1, w)?]
        }
        Op::GlobalAveragePool => {
            let [n, c, _, _] = image()?;
            vec![n, c, 1, 1]
        }
        Op::AdaptiveAveragePool([oh, ow]) => {
            let [n, c, _, _] = image()?;
            vec![n, c, *oh, *ow]
        }
        Op::Flatten => {
            let [n, rest @ ..] = x.dims() else { return Err(refuse("cannot flatten a scalar".into())) };
            vec![*n, rest.iter().product()]
        }
        Op::Softmax => match x.dims() {
            [_, _] => x.dims().to_vec(),
            _ => return Err(refuse(format!("Softmax needs an input [N, F], found {x}"))),
        },
        Op::Slice { step } => {
            let [n, c, h, w] = image()?;
            if step.contains(&0) {
                return Err(refuse("a step is zero".into()));
            }
            vec![n, c, h.div_ceil(step[0]), w.div_ceil(step[1])]
        }
        Op::Pad { before, after } => {
            let [n, c, h, w] = image()?;
            let channels = c.checked_add(*before).and_then(|c| c.checked_add(*after));
            vec![n, channels.ok_or_else(|| refuse("the number of channels overflows".into()))?, h, w]
        }
        Op::Activation(_) | Op::Identity | Op::Dropout => x.dims().to_vec(),
        Op::Tensor(_) => return Err(refuse("an op on tensors is inferred by its kernel".into())),
    })
}

/// Output size of a pooling axis. With `ceil_mode` a last window that would begin in the padding behind is dropped, as in
/// PyTorch.
fn pooled(node: &Node, pool: &PoolAttributes, axis: usize, size: usize) -> Result<usize> {
    let refuse = |reason: String| Error::Graph { node: node.name.clone(), reason };
    let (kernel, stride) = (pool.kernel[axis], pool.stride[axis]);
    let (before, after) = (pool.pads[axis], pool.pads[axis + 2]);
    if kernel == 0 || stride == 0 || before >= kernel || after >= kernel {
        return Err(refuse(format!("window {kernel}, stride {stride}, padding {before} and {after}: expected a padding below the window")));
    }
    let padded = size.checked_add(before).and_then(|s| s.checked_add(after)).ok_or_else(|| refuse("the padded size overflows".into()))?;
    let room = padded.checked_sub(kernel).ok_or_else(|| refuse(format!("a window of {kernel} is over the padded input's {padded}")))?;
    let mut count = room / stride + 1;
    if pool.ceil_mode && room % stride != 0 && count.saturating_mul(stride) < size.saturating_add(before) {
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, ConvAttributes, TensorOp};
    use stridewise_kernels::resize::{Coordinates, Interpolation, Rule};

    fn conv(dims: &[usize], attributes: ConvAttributes) -> Op {
        let weight = Tensor::zeros(Shape::new(dims).unwrap()).unwrap().into();
        Op::Conv { weight, bias: None, attributes, activation: Activation::None }
    }

    fn single(op: Op, channels: usize, size: [usize; 2]) -> Result<Vec<usize>> {
        let mut graph = Graph::new("test", channels, size);
        let input = graph.input().value;
        let output = graph.add("node", op, &[input])?;
        graph.set_outputs(&[output]);
        Ok(graph.infer_shapes(2, size)?[output.0].dims().to_vec())
    }

    #[test]
    fn pooling_sizes_follow_pytorch() {
        let pool = |kernel, stride, pad, ceil_mode| {
            Op::MaxPool(PoolAttributes { kernel: [kernel; 2], stride: [stride; 2], pads: [pad; 4], ceil_mode })
        };
        assert_eq!(single(pool(3, 2, 1, false), 3, [112, 7]).unwrap(), [2, 3, 56, 4]);
        assert_eq!(single(pool(3, 2, 0, true), 3, [112, 6]).unwrap(), [2, 3, 56, 3]);
        // The last window would begin in the padding.
        assert_eq!(single(pool(2, 2, 1, true), 3, [5, 4]).unwrap(), [2, 3, 3, 3]);
        assert!(single(pool(3, 2, 0, false), 3, [2, 2]).is_err());
        assert!(single(pool(2, 2, 2, false), 3, [8, 8]).is_err());
    }

    #[test]
    fn a_node_that_reads_or_writes_no_elements_is_named() {
        let mut graph = Graph::new("test", 3, [8, 8]);
        let input = graph.input().value;
        let output = graph.add("first", conv(&[4, 3, 3, 3], ConvAttributes::default()), &[input]).unwrap();
        let part = TensorOp::Slice { starts: vec![4], ends: vec![4], axes: vec![1], steps: vec![1] };
        let part = graph.add("second", Op::Tensor(part), &[output]).unwrap();
        graph.set_outputs(&[part]);
        let error = graph.infer_shapes(0, [8, 8]).unwrap_err().to_string();
        assert!(error.contains("first") && error.contains("Conv reads a tensor of no elements"), "{error}");
        let error = graph.infer_shapes(1, [8, 8]).unwrap_err().to_string();
        assert!(error.contains("second") && error.contains("Slice writes a tensor of no elements"), "{error}");
    }

    /// Neither memory nor time is taken for what an op would need, before its sizes are known to be bearable.
    #[test]
    fn tables_that_would_be_too_large_are_refused() {
        let shuffle = || Op::Tensor(TensorOp::ChannelShuffle { groups: 2 });
        assert_eq!(single(shuffle(), 6, [1, 1]).unwrap(), [2, 6, 1, 1]);
        assert_eq!(single(shuffle(), 1 << 40, [1, 1]).unwrap(), [2, 1 << 40, 1, 1]);
        let resize = |scale: f64| {
            let coordinates = Coordinates::HalfPixel;
            let rule = Rule { coordinates, interpolation: Interpolation::Linear, exclude_outside: false, antialias: true };
            let axes = vec![None, None, Some((2, scale)), None];
            Op::Tensor(TensorOp::Resize { axes, rules: vec![rule; 4], extrapolation: 0.0 })
        };
        assert_eq!(single(resize(0.25), 3, [8, 8]).unwrap(), [2, 3, 2, 8]);
        for scale in [1e-9, 1e-12, 1e-300] {
            let error = single(resize(scale), 3, [8, 8]).unwrap_err().to_string();
            assert!(error.contains("`node`") && error.contains("too large"), "{error}");
        }
    }

    #[test]
    fn nodes_that_do_not_fit_are_named() {
        let error = single(conv(&[8, 3, 3, 3], ConvAttributes::default()), 4, [8, 8]).unwrap_err().to_string();
        assert!(error.contains("`node`") && error.contains("4 input channels"), "{error}");
        let error = single(conv(&[8, 3, 9, 9], ConvAttributes::default()), 3, [8, 8]).unwrap_err().to_string();
        assert!(error.contains("`node`"), "{error}");
        let gemm =
            Op::Gemm { weight: Tensor::zeros(Shape::new(&[5, 9]).unwrap()).unwrap().into(), bias: None, activation: Activation::None };
        assert!(single(gemm, 3, [8, 8]).is_err());
    }
}
