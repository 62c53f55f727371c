//! Folds what multiplies and adds by channel into the convolution or linear layer before it: inference-mode BatchNorm (Jacob et
//! al., Quantization and training of neural networks for efficient integer-arithmetic-only inference, 2018, section 3.2), and
//! products and sums with constants. With f the factor and s the summand of an output channel, its weights are multiplied by f and
//! its bias b becomes b·f + s. Computed in f64, rounded once: the weights when they are read. Two such ops one behind the other are
//! one.

use super::{Producers, retain};
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Node, Op, TensorOp, ValueId};
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;
use stridewise_kernels::{Binary, Unary};

/// `factor · x + summand` for each channel.
struct Affine {
    x: ValueId,
    factors: Vec<f64>,
    summands: Vec<f64>,
}

/// Most channels of all that is folded: nodes of a file may share their tensors, and what is folded is each one's own.
const MOST_CHANNELS: usize = 1 << 24;

pub(super) fn run(graph: &mut Graph, shapes: Option<&[Shape]>) -> Result<()> {
    let mut producers = Producers::of(graph);
    let mut folded = vec![false; graph.nodes.len()];
    let mut left = MOST_CHANNELS;
    for (index, folded) in folded.iter_mut().enumerate() {
        let Some(affine) = affine_of(graph, index, shapes) else { continue };
        let (before, rest) = graph.nodes.split_at_mut(index);
        let node = &rest[0];
        let Some(producer) = producers.sole(affine.x) else { continue };
        if before[producer].inputs.len() != 1 || affine.factors.len() > left {
            continue;
        }
        left -= affine.factors.len();
        let into = before[producer].name.clone();
        let channels = affine.factors.len();
        let folded_into = |old: &dyn Fn(usize) -> f64| -> Result<Arc<Tensor<f32>>> {
            let mut sum = Tensor::zeros(Shape::new(&[channels])?)?;
            for (channel, value) in sum.as_mut_slice().iter_mut().enumerate() {
                *value = (old(channel) * affine.factors[channel] + affine.summands[channel]) as f32;
                if !value.is_finite() {
                    let reason = format!("folded into `{into}`, the bias of channel {channel} is not finite");
                    return Err(Error::Graph { node: node.name.clone(), reason });
                }
            }
            Ok(Arc::new(sum))
        };
        match &mut before[producer].op {
            Op::Conv { weight, bias, activation: Activation::None, .. } | Op::Gemm { weight, bias, activation: Activation::None } => {
                let old = bias.clone();
                *bias = Some(folded_into(&|c| old.as_ref().map_or(0.0, |b| f64::from(b.as_slice()[c])))?);
                if affine.factors.iter().any(|&factor| factor != 1.0) {
                    weight.scale(&affine.factors);
                }
            }
            op => {
                let Some((factors, summands)) = scale_shift_of(op).filter(|(factors, _)| factors.len() == channels) else { continue };
                let shift = folded_into(&|c| summands[c])?;
                let scales: Vec<f32> = factors.iter().zip(&affine.factors).map(|(old, new)| (old * new) as f32).collect();
                if !scales.iter().all(|scale| scale.is_finite()) {
                    continue;
                }
                let scale = Arc::new(Tensor::from_slice(Shape::new(&[channels])?, &scales)?);
                *op = Op::ScaleShift { scale, shift, activation: Activation::None };
            }
        }
        // The op before now writes what the affine op wrote.
        before[producer].output = node.output;
        producers.moved(node.output, producer);
        *folded = true;
    }
    retain(graph, &folded);
    Ok(())
}

fn affine_of(graph: &Graph, index: usize, shapes: Option<&[Shape]>) -> Option<Affine> {
    let node = &graph.nodes[index];
    match &node.op {
        Op::BatchNormalization { .. } | Op::ScaleShift { .. } => {
            let (factors, summands) = scale_shift_of(&node.op)?;
            Some(Affine { x: *node.inputs.first()?, factors, summands })
        }
        Op::Tensor(TensorOp::Combine { function, then: Unary::Identity }) => combined(graph, node, *function, shapes?),
        _ => None,
    }
}

/// The factor and the summand of each channel, if that is all that an op does.
pub(super) fn scale_shift_of(op: &Op) -> Option<(Vec<f64>, Vec<f64>)> {
    let at = |t: &Tensor<f32>, channel: usize| f64::from(t.as_slice()[channel]);
    match op {
        Op::BatchNormalization { scale, bias, mean, variance, epsilon } => {
            let channels = 0..scale.as_slice().len();
            let factors: Vec<f64> = channels.clone().map(|c| at(scale, c) / (at(variance, c) + epsilon).sqrt()).collect();
            let summands = channels.map(|c| at(bias, c) - at(mean, c) * factors[c]).collect();
            Some((factors, summands))
        }
        Op::ScaleShift { scale, shift, activation: Activation::None } => {
            let wide = |t: &Tensor<f32>| t.as_slice().iter().map(|&v| f64::from(v)).collect();
            Some((wide(scale), wide(shift)))
        }
        _ => None,
    }
}

/// A sum, difference, product or quotient of a computed value and a constant for each channel.
fn combined(graph: &Graph, node: &Node, function: Binary, shapes: &[Shape]) -> Option<Affine> {
    let &[a, b] = node.inputs.as_slice() else { return None };
    let constant = |v: ValueId| graph.values[v.0].constant.as_deref();
    let (x, constant, first) = match (constant(a), constant(b)) {
        (None, Some(constant)) => (a, constant, true),
        (Some(constant), None) => (b, constant, false),
        _ => return None,
    };
    let dims = shapes[x.0].dims();
    let channels = *dims.get(1)?;
    let per_channel = dims == shapes[node.output.0].dims() && is_per_channel(constant.dims(), dims);
    if !per_channel {
        return None;
    }
    let value = |channel: usize| f64::from(constant.as_slice()[if constant.as_slice().len() == 1 { 0 } else { channel }]);
    let pair = |c: usize| match (function, first) {
        (Binary::Add, _) => Some((1.0, value(c))),
        (Binary::Sub, true) => Some((1.0, -value(c))),
        (Binary::Sub, false) => Some((-1.0, value(c))),
        (Binary::Mul, _) => Some((value(c), 0.0)),
        (Binary::Div, true) if value(c) != 0.0 => Some((1.0 / value(c), 0.0)),
        _ => None,
    };
    let pairs: Option<Vec<(f64, f64)>> = (0..channels).map(pair).collect();
    let (factors, summands): (Vec<f64>, Vec<f64>) = pairs?.into_iter().unzip();
    let finite = factors.iter().chain(&summands).all(|value| value.is_finite());
    finite.then_some(Affine { x, factors, summands })
}

/// Whether a constant has one value, or one for each channel of what it is broadcast to.
fn is_per_channel(constant: &[usize], dims: &[usize]) -> bool {
    let Some(missing) = dims.len().checked_sub(constant.len()) else { return false };
    let fits = |(axis, &dim): (usize, &usize)| dim == 1 || (missing + axis == 1 && dim == dims[1]);
    constant.iter().enumerate().all(fits)
}
