//! The kernels of calls that compute with bytes.

use super::builder::{Builder, PackedKey, clamp};
use super::schedule::Call;
use super::step::{Compute, StepInfo};
use super::{Arithmetic, algorithm};
use crate::error::{Error, Result};
use crate::graph::{Activation, Node, ValueId, Weight};
use crate::quantize::ActivationScale;
use stridewise_kernels::conv::{Conv, PackedWeights, QuantizedInput, Requantize};
use stridewise_kernels::int8::{QuantizedAdd, QuantizedPool};
use stridewise_kernels::pool::{Reduction, Windows};
use stridewise_kernels::{ConvProblem, Element, Geometry};

/// A convolution or linear layer of a graph.
pub(super) struct Layer<'a> {
    pub node: &'a Node,
    pub weight: &'a Weight,
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
    pub problem: ConvProblem,
}

impl Builder<'_> {
    /// The scale of a value that is held in bytes.
    pub(super) fn scale(&self, value: ValueId) -> Result<ActivationScale> {
        self.forms.scale(value).ok_or_else(|| Error::Graph {
            node: self.graph.values[value.0].name.clone(),
            reason: "it is to be held in bytes, and has no scale".into(),
        })
    }

    /// A convolution of bytes, into bytes or f32.
    pub(super) fn quantized_conv(
        &self,
        call: &Call,
        layer: &Layer<'_>,
        geometries: &[Geometry],
        output: Geometry,
        info: &mut StepInfo,
    ) -> Result<Compute> {
        let Layer { node, weight, bias, activation, problem } = layer;
        let refuse = |reason: &str| Error::Graph { node: node.name.clone(), reason: reason.into() };
        let (Some(&input), Some(&x)) = (geometries.first(), node.inputs.first()) else { return Err(refuse("no input")) };
        let table = self.request.table;
        let choice = algorithm::choose(problem, input.layout(), self.request);
        let from = self.scale(x)?;
        let means = match &self.request.arithmetic {
            Arithmetic::Int8(quantization) => quantization.value(&self.graph.values[x.0].name).map_or(&[][..], |v| &v.means),
            _ => &[],
        };
        // Of a linear layer over a flattened image the means are those of its features, and the problem's channels are the image's.
        let means = if means.len() == problem.c { means } else { &[] };
        let mut key = PackedKey::new(&node.name, weight, *bias, table.isa(), problem, choice.algorithm, input.layout());
        key.mix(
            [u64::from(from.scale.to_bits()), u64::from(from.zero_point)]
                .into_iter()
                .chain(means.iter().chain(weight.steps().unwrap_or_default()).map(|m| u64::from(m.to_bits()))),
        );
        let quantized = QuantizedInput { scale: from.scale, zero: from.zero_point, means, steps: weight.steps().unwrap_or_default() };
        let weights = self.packed.get_or_insert(key, |_| {
            let (layout, executor, source) = (input.layout(), self.request.executor, weight.source(&node.name));
            PackedWeights::pack_quantized(table, problem, choice.algorithm, layout, &source, *bias, &quantized, executor)
        })?;
        let bytes = output.layout().element() == Element::U8;
        let to = if bytes { self.scale(call.value)?.scale } else { 1.0 };
        let scales: Vec<f32> =
            weights.weight_scales().iter().map(|w| (f64::from(*w) * f64::from(from.scale) / f64::from(to)) as f32).collect();
        let residual = geometries.get(1).copied();
        let residual_scale = match node.inputs.get(1) {
            Some(&r) if bytes => self.scale(r)?.scale / to,
            _ => 1.0,
        };
        let (low, high) = clamp(*activation);
        let requantize = Requantize { scales: &scales, residual_scale, clamp: (low / to, high / to), sums: false };
        let threads = self.request.executor.threads();
        let conv = Conv::quantized(*problem, choice.algorithm, input, output, residual, weights, &requantize, threads)?;
        info.describe_conv(&conv, choice.reason, residual.is_some(), *activation);
        Ok(Compute::Conv(Box::new(conv)))
    }

    /// A sum of bytes.
    pub(super) fn quantized_add(&self, node: &Node, geometries: &[Geometry], output: Geometry, activation: Activation) -> Result<Compute> {
        let (&[a, b], &[x, y]) = (geometries, node.inputs.as_slice()) else {
            return Err(Error::Graph { node: node.name.clone(), reason: "a sum needs two inputs".into() });
        };
        let to = self.scale(node.output)?.scale;
        let (low, high) = clamp(activation);
        let scales = [self.scale(x)?.scale / to, self.scale(y)?.scale / to];
        let table = self.request.table.int8()?;
        Ok(Compute::QuantizedAdd(QuantizedAdd::new(a, b, output, scales, (low / to, high / to), table)?))
    }

    /// A pooling of bytes.
    pub(super) fn quantized_pool(
        &self,
        node: &Node,
        reduction: Reduction,
        input: Geometry,
        output: Geometry,
        rows: Windows,
        columns: Windows,
    ) -> Result<Compute> {
        let scale = match (reduction, node.inputs.first()) {
            (Reduction::Mean, Some(&x)) => self.scale(x)?.scale / self.scale(node.output)?.scale,
            _ => 1.0,
        };
        Ok(Compute::QuantizedPool(QuantizedPool::new(reduction, input, output, rows, columns, scale, self.request.table.int8()?)?))
    }
}
