//! Weights of floats as bytes: a scale for each output channel, symmetric around zero.

use super::{Algorithm, ConvProblem, PackedWeights, WeightSource};
use crate::{Error, KernelTable, Layout};

/// The bytes that a convolution of quantised weights reads.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedInput<'a> {
    /// What a step of a byte is worth.
    pub scale: f32,
    /// The byte that stands for zero.
    pub zero: u8,
    /// The mean of each input channel, or nothing. What rounding the weights adds to each output on the average is then taken off the
    /// bias (Nagel et al., Data-free quantization through weight equalization and bias correction, 2019, section 4.2).
    pub means: &'a [f32],
    /// For each output channel what a step of its weights is worth, where they are whole numbers of steps already; or nothing: then it
    /// follows from the largest.
    pub steps: &'a [f32],
}

/// A bias is no more than this many units: sums of products have as much again.
const LARGEST_BIAS: f32 = (1 << 29) as f32;

/// The scale of a channel whose weights should have such a step, for inputs of a scale: coarser where its bias needs more units than
/// there are.
fn scale_of(step: f32, bias: f32, input_scale: f32) -> f32 {
    step.max(bias.abs() / input_scale / LARGEST_BIAS).max(f32::MIN_POSITIVE)
}

impl PackedWeights {
    /// Quantises weights `[OC, C/groups, KH, KW]` and a bias `[OC]`, and packs them, for an input of bytes. The weights of an output
    /// channel are divided by their [`PackedWeights::weight_scales`], the bias by that times the input's scale, and rounded to the nearest
    /// integers, ties to even.
    ///
    /// # Errors
    /// As [`PackedWeights::pack_int8`], what the source refuses, and when a scale is no positive number, a weight is not finite, or there
    /// is not one mean for each input channel and one step for each output channel.
    #[allow(clippy::too_many_arguments)]
    pub fn pack_quantized<S: WeightSource + ?Sized>(
        table: &'static KernelTable,
        problem: &ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
        source: &S,
        bias: Option<&[f32]>,
        input: &QuantizedInput<'_>,
        executor: &dyn crate::Executor,
    ) -> Result<PackedWeights, S::Error> {
        algorithm.check(problem, layout)?;
        let refuse = |reason: String| Error::Problem { problem: problem.to_string(), reason };
        let QuantizedInput { scale: input_scale, zero, means, steps } = *input;
        if !(input_scale.is_finite() && input_scale > 0.0) {
            return Err(refuse(format!("the input's scale is {input_scale}")).into());
        }
        if !means.is_empty() && (means.len() != problem.c || means.iter().any(|m| !m.is_finite())) {
            return Err(refuse(format!("{} means, or one that is not finite, for {} input channels", means.len(), problem.c)).into());
        }
        if !steps.is_empty() && (steps.len() != problem.oc || steps.iter().any(|s| !(s.is_finite() && *s >= 0.0))) {
            let reason = format!("{} steps, or one that is no positive number, for {} output channels", steps.len(), problem.oc);
            return Err(refuse(reason).into());
        }
        if let Some(b) = bias
            && b.len() != problem.oc
        {
            return Err(Error::Length { what: "convolution bias", expected: problem.oc, found: b.len() }.into());
        }
        let row = problem.weight_len() / problem.oc;
        let reserve = |bytes: usize| Error::OutOfMemory { bytes };
        let (mut weights, mut scales, mut units) = (Vec::<i8>::new(), Vec::<f32>::new(), Vec::<i32>::new());
        weights.try_reserve_exact(problem.weight_len()).map_err(|_| reserve(problem.weight_len()))?;
        scales.try_reserve_exact(problem.oc).map_err(|_| reserve(problem.oc.saturating_mul(4)))?;
        units.try_reserve_exact(problem.oc).map_err(|_| reserve(problem.oc.saturating_mul(4)))?;
        let mut buffer = Vec::new();
        for o in 0..problem.oc {
            let values = source.read(o * row..(o + 1) * row, &mut buffer)?;
            let mut bias = bias.map_or(0.0, |b| b[o]);
            let largest = values.iter().fold(0.0f32, |m, w| if w.is_finite() { m.max(w.abs()) } else { f32::INFINITY });
            // Weights become −127 to 127.
            let scale = scale_of(steps.get(o).copied().unwrap_or(largest / 127.0), bias, input_scale);
            if values.len() != row || !scale.is_finite() || !largest.is_finite() {
                return Err(refuse(format!("the weights or the bias of output channel {o} are not finite, or too few")).into());
            }
            weights.extend(values.iter().map(|w| (w / scale).round_ties_even() as i8));
            if !means.is_empty() {
                let window = problem.kernel[0] * problem.kernel[1];
                let first = o / (problem.oc / problem.groups) * (problem.c / problem.groups);
                let pairs = values.iter().zip(&weights[o * row..]);
                let added = pairs
                    .enumerate()
                    .map(|(i, (w, q))| (f64::from(*q) * f64::from(scale) - f64::from(*w)) * f64::from(means[first + i / window]));
                bias -= added.sum::<f64>() as f32;
            }
            units.push((f64::from(bias) / (f64::from(scale) * f64::from(input_scale))).round_ties_even() as i32);
            scales.push(scale);
        }
        let mut packed = PackedWeights::pack_int8(table.int8()?, problem, algorithm, layout, &weights, Some(&units), zero, executor)?;
        packed.weight_scales = scales;
        Ok(packed)
    }

    /// For each output channel what a step of its weights is worth; empty where these were not quantised here.
    pub fn weight_scales(&self) -> &[f32] {
        &self.weight_scales
    }
}
