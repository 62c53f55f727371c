//! In which elements a network's activations are held, and which of its nodes compute with narrower ones than f32.

use super::layout::{Form, Forms};
use super::{Request, algorithm};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, TensorOp, ValueId};
use crate::quantize::{ActivationScale, Quantization};
use crate::tensor::Shape;
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Winograd};
use stridewise_kernels::peak::bf16_gain;

/// What activations and weights are rounded to while a network runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Precision {
    /// Nothing is rounded further than the network's own file says: one that is quantised already is computed in bytes.
    #[default]
    F32,
    /// bfloat16, with sums in f32 (feature `bf16`). Convolutions that are faster in f32 on this processor stay there: by Winograd, or all of
    /// them where its dot products of bfloat16 are slower than f32.
    Bf16,
    /// Bytes, with exact sums (feature `int8`). The model must have been quantised: see [`Model::with_quantization`](crate::Model::with_quantization).
    Int8,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

    /// The name used in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    /// Reads `f32`, `bf16` or `int8`.
    fn from_str(text: &str) -> Result<Precision> {
        Precision::ALL.into_iter().find(|p| p.name() == text.trim()).ok_or_else(|| Error::InvalidArgument {
            argument: format!("precision `{text}`"),
            reason: "expected `f32`, `bf16` or `int8`".into(),
        })
    }
}

/// What a plan computes with.
#[derive(Clone)]
pub(crate) enum Arithmetic {
    F32,
    Bf16,
    Int8(Arc<Quantization>),
}

/// Speeds of Winograd with its transforms over direct convolution in the same precision: measured over ResNet-50's 3×3 convolutions
/// (docs/src/performance.md).
fn speed(algorithm: Algorithm) -> f64 {
    match algorithm {
        Algorithm::Winograd(Winograd::F4) => 2.2,
        Algorithm::Winograd(Winograd::F2) => 1.6,
        _ => 1.0,
    }
}

/// How much faster a convolution must be in f32 to stay there among others in bf16: its input and output are converted.
const CONVERSIONS: f64 = 1.2;

impl Forms {
    /// Narrows the forms of nodes and values that were decided for f32.
    pub(super) fn narrow(&mut self, graph: &Graph, shapes: &[Shape], request: &Request<'_>) -> Result<()> {
        match &request.arithmetic {
            Arithmetic::F32 => return Ok(()),
            Arithmetic::Bf16 => self.narrow_to_halves(graph, shapes, request)?,
            Arithmetic::Int8(quantization) => self.narrow_to_bytes(graph, quantization),
        }
        self.settle(graph);
        Ok(())
    }

    fn narrow_to_halves(&mut self, graph: &Graph, shapes: &[Shape], request: &Request<'_>) -> Result<()> {
        let gain = bf16_gain(request.table.bf16()?);
        // Then nothing is: what is between convolutions would only be converted.
        if gain < 1.0 {
            return Ok(());
        }
        for (index, node) in graph.nodes().iter().enumerate() {
            let narrow = match (&node.op, self.node[index]) {
                (Op::Conv { .. } | Op::Gemm { .. }, form) => {
                    let Some(problem) = self.problem(graph, shapes, index)? else { continue };
                    let speed = |form: Form| speed(algorithm::choose(&problem, form.layout(), request).algorithm);
                    speed(form) <= CONVERSIONS * gain * speed(halves(form))
                }
                (op, Form::Blocked) => is_pooling(op) || matches!(op, Op::Activation(_) | Op::Add(_) | Op::BatchNormalization { .. }),
                _ => false,
            };
            if narrow {
                self.node[index] = halves(self.node[index]);
            }
        }
        Ok(())
    }

    fn narrow_to_bytes(&mut self, graph: &Graph, quantization: &Quantization) {
        let scale = |value: ValueId| quantization.value(&graph.values[value.0].name).map(|v| v.scale);
        self.scales = (0..graph.value_count()).map(|v| scale(ValueId(v))).collect();
        for (index, node) in graph.nodes().iter().enumerate() {
            let Some(&x) = node.inputs.first() else { continue };
            // The largest of some bytes is one of them, and so is what only has another shape.
            if matches!(node.op, Op::MaxPool(_) | Op::Flatten | Op::Identity | Op::Dropout | Op::Tensor(TensorOp::Reshape(_))) {
                self.scales[node.output.0] = self.scales[x.0];
            }
            let known = |value: ValueId| self.scales[value.0].is_some();
            let blocked = self.node[index] == Form::Blocked;
            let narrow = match &node.op {
                Op::Conv { .. } | Op::Gemm { .. } => known(x) && !quantization.is_float(&node.name),
                Op::Add(_) => blocked && node.inputs.iter().all(|v| known(*v)) && known(node.output),
                op => blocked && is_pooling(op) && known(x) && known(node.output),
            };
            if narrow {
                self.node[index] = if self.node[index] == Form::Dense { Form::PlanesOfBytes } else { Form::Bytes };
            }
        }
    }

    /// Decides in which form each value is written: as those that read it want it, where its node can.
    fn settle(&mut self, graph: &Graph) {
        let mut wanted = vec![None; graph.value_count()];
        for (index, node) in graph.nodes().iter().enumerate() {
            let form = self.node[index];
            if matches!(form, Form::Halves | Form::Bytes) {
                node.inputs.iter().for_each(|v| wanted[self.root(*v, Form::Blocked).0] = Some(form));
            }
        }
        let outputs: Vec<ValueId> = graph.outputs().iter().map(|v| self.root(*v, Form::Blocked)).collect();
        for (index, node) in graph.nodes().iter().enumerate() {
            let output = node.output;
            if self.is_alias(output) {
                // What has another shape has only its row-major elements in common with what it reads.
                let shared = node.inputs.first().filter(|_| self.root(output, Form::Blocked) != output);
                self.home[output.0] = shared.map_or(Form::Dense, |x| self.home[x.0]);
                self.node[index] = self.home[output.0];
                continue;
            }
            let form = self.node[index].blocked();
            if !matches!(form, Form::Halves | Form::Bytes) {
                continue;
            }
            let convolves = matches!(node.op, Op::Conv { .. } | Op::Gemm { .. });
            let narrow = !convolves || wanted[output.0] == Some(form) && !outputs.contains(&output);
            // A residual is added in bytes, too.
            let scaled = |v: &ValueId| self.scales[v.0].is_some();
            let possible = form != Form::Bytes || scaled(&output) && node.inputs.iter().all(scaled);
            self.home[output.0] = if narrow && possible { form } else { Form::Blocked };
        }
    }

    /// What the bytes of a value stand for.
    pub(super) fn scale(&self, value: ValueId) -> Option<ActivationScale> {
        self.scales.get(value.0).copied().flatten()
    }
}

/// What holds in bf16 what a form holds in f32.
fn halves(form: Form) -> Form {
    if form == Form::Dense { Form::PlanesOfHalves } else { Form::Halves }
}

fn is_pooling(op: &Op) -> bool {
    matches!(op, Op::MaxPool(_) | Op::AveragePool { .. } | Op::GlobalAveragePool | Op::AdaptiveAveragePool(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_are_read_as_they_are_written() {
        for precision in Precision::ALL {
            assert_eq!(precision.name().parse::<Precision>().unwrap(), precision);
        }
        assert!("fp8".parse::<Precision>().unwrap_err().to_string().contains("`fp8`"));
    }
}
