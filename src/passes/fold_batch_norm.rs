//! Folds inference-mode BatchNorm into the convolution before it (Jacob et al., Quantization and training of neural networks
//! for efficient integer-arithmetic-only inference, 2018, section 3.2): with f = γ / √(σ² + ε), the weights of an output
//! channel are multiplied by f and its bias becomes (b − μ)·f + β. Computed in f64, rounded once: the weights when they are read.

use super::{producers, sole_producer, uses};
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Op};
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let uses = uses(graph);
    let mut producers = producers(graph);
    let mut folded = vec![false; graph.nodes.len()];
    for index in 0..graph.nodes.len() {
        let (before, rest) = graph.nodes.split_at_mut(index);
        let node = &mut rest[0];
        let Op::BatchNormalization { scale, bias: beta, mean, variance, epsilon } = &node.op else { continue };
        let Some(producer) = node.inputs.first().and_then(|&v| sole_producer(&producers, &uses, v)) else { continue };
        let (Op::Conv { weight, bias, activation: Activation::None, .. } | Op::Gemm { weight, bias, activation: Activation::None }) =
            &mut before[producer].op
        else {
            continue;
        };
        if before[producer].inputs.len() != 1 {
            continue;
        }
        let channels = scale.as_slice().len();
        let mut new_bias = Tensor::zeros(Shape::new(&[channels])?)?;
        let mut factors = Vec::with_capacity(channels);
        for channel in 0..channels {
            let at = |t: &Tensor<f32>| f64::from(t.as_slice()[channel]);
            let factor = at(scale) / (at(variance) + epsilon).sqrt();
            let old = bias.as_ref().map_or(0.0, |b| at(b));
            let folded = ((old - at(mean)) * factor + at(beta)) as f32;
            if !folded.is_finite() {
                let reason = format!("folded into `{}`, the bias of channel {channel} is not finite", before[producer].name);
                return Err(Error::Graph { node: node.name.clone(), reason });
            }
            factors.push(factor);
            new_bias.as_mut_slice()[channel] = folded;
        }
        weight.scale(&factors);
        *bias = Some(Arc::new(new_bias));
        // The convolution now writes what the BatchNorm wrote.
        before[producer].output = node.output;
        producers[node.output.0] = Some(producer);
        folded[index] = true;
    }
    let mut folded = folded.iter();
    graph.nodes.retain(|_| folded.next() == Some(&false));
    Ok(())
}
