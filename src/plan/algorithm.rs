//! Which algorithm a convolution gets, and why. The choice depends on the shape and the options, so that results are the same
//! everywhere; on the processor only where measured times are given, and in bf16, whose sums are not the same everywhere anyway.

use super::{Preference, Request};
use crate::error::Error;
use stridewise_kernels::conv::{Algorithm, Winograd};
use stridewise_kernels::peak::bf16_gain;
use stridewise_kernels::{ConvProblem, Element, Layout};

/// What a convolution may do to be fast.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Numerics {
    /// Winograd where it is faster: against the same network in float64, up to three times the error of direct summation. A
    /// NaN or infinity in the input may reach a few pixels more.
    #[default]
    Fast,
    /// Direct summation only.
    Exact,
}

impl Numerics {
    /// The name used in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Numerics::Fast => "fast",
            Numerics::Exact => "exact",
        }
    }
}

impl std::fmt::Display for Numerics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Numerics {
    type Err = Error;

    /// Reads `fast` or `exact`.
    fn from_str(text: &str) -> Result<Numerics, Error> {
        [Numerics::Fast, Numerics::Exact]
            .into_iter()
            .find(|n| n.name() == text.trim())
            .ok_or_else(|| Error::InvalidArgument { argument: format!("numerics `{text}`"), reason: "expected `fast` or `exact`".into() })
    }
}

/// A choice and its reason, as `explain` prints it.
pub(super) struct Choice {
    pub algorithm: Algorithm,
    pub reason: &'static str,
}

/// Output channels from which a strided 1×1 convolution gathers its pixels first. Measured over ResNet-50's: at 2048 a fifth of
/// the time is saved, at 1024 and 512 a twentieth is lost.
const GATHERED_OC: usize = 2048;

pub(super) fn choose(problem: &ConvProblem, input: Layout, request: &Request<'_>) -> Choice {
    let preferred = match request.preference {
        Preference::Rules => None,
        Preference::Tuned(tuning) => tuning
            .fastest(&request.setting(problem, input), &candidates(problem, input, request.numerics))
            .map(|algorithm| Choice { algorithm, reason: "tuned: the fastest of those measured on this processor" }),
        Preference::Trial(algorithm) => candidates(problem, input, request.numerics)
            .contains(&algorithm)
            .then_some(Choice { algorithm, reason: "on trial: its time is taken" }),
    };
    preferred.unwrap_or_else(|| by_rule(problem, input, winograd(problem, input, request)))
}

/// What may compute a problem, and would not need a halo out of all proportion.
pub(crate) fn candidates(problem: &ConvProblem, input: Layout, numerics: Numerics) -> Vec<Algorithm> {
    let allowed = |a: &Algorithm| numerics == Numerics::Fast || !matches!(a, Algorithm::Winograd(_));
    if reaches_beyond(problem) {
        return vec![by_rule(problem, input, None).algorithm];
    }
    Algorithm::ALL.into_iter().filter(|a| allowed(a) && a.check(problem, input).is_ok()).collect()
}

/// True when a window can lie in the padding alone.
fn reaches_beyond(problem: &ConvProblem) -> bool {
    let extent = |axis: usize| problem.dilation[axis] * (problem.kernel[axis] - 1) + 1;
    (0..4).any(|side| problem.pads[side] >= extent(side % 2))
}

fn by_rule(problem: &ConvProblem, input: Layout, winograd: Option<Choice>) -> Choice {
    if problem.is_depthwise() && input.is_blocked() {
        // With any padding: no other algorithm computes it from blocks.
        Choice { algorithm: Algorithm::Depthwise, reason: "one kernel a channel" }
    } else if reaches_beyond(problem) {
        Choice { algorithm: Algorithm::Im2colGemm, reason: "padding beyond the kernel: a halo would be mostly zeros" }
    } else if !input.is_blocked() {
        Choice { algorithm: Algorithm::Direct, reason: "few input channels: reads planes" }
    } else if problem.kernel == [1, 1] && problem.stride != [1, 1] && problem.oc >= GATHERED_OC {
        Choice { algorithm: Algorithm::Im2colGemm, reason: "1x1 with a stride: so many output channels pay for gathering the pixels" }
    } else if problem.kernel == [1, 1] {
        Choice { algorithm: Algorithm::Direct, reason: "1x1: a GEMM over pixels, activations unpacked" }
    } else if Algorithm::Grouped.check(problem, input).is_ok() {
        Choice { algorithm: Algorithm::Grouped, reason: "narrow groups: lanes are shuffled within their block" }
    } else if problem.groups > 1 {
        Choice { algorithm: Algorithm::Direct, reason: "grouped: each block of outputs reads its groups' inputs" }
    } else {
        winograd.unwrap_or(Choice { algorithm: Algorithm::Direct, reason: "padding is the input's halo" })
    }
}

/// How many times as fast as those of f32 products of bf16 are where Winograd's transforms take longer than what they save.
const GAIN_OF_TILES: f64 = 4.0;

/// Channels, in and out, from which Winograd pays in bf16: with fewer, the transforms are most of the time.
const FEWEST_CHANNELS: usize = 64;

/// Products at a position of all tiles from which it pays.
const FEWEST_PRODUCTS: usize = 128 * 64 * 64;

/// F(4×4) where there are tiles enough to use its weights, four times the kernel's, more than a few times, or where they are
/// small; F(2×2) down to 7×7 images. In bf16 F(2×2) alone, where the products are many. Measured over the shapes of ResNet and VGG:
/// docs/src/performance.md, "Which Winograd".
fn winograd(problem: &ConvProblem, input: Layout, request: &Request<'_>) -> Option<Choice> {
    if request.numerics == Numerics::Exact {
        return None;
    }
    let tiles = |variant: Winograd| {
        let [rows, columns] = problem.output().map(|size| size.div_ceil(variant.outputs()));
        problem.n.saturating_mul(rows).saturating_mul(columns)
    };
    let weights = problem.c.saturating_mul(problem.oc);
    let candidates = if input.element() == Element::Bf16 {
        let gain = request.table.bf16().map_or(1.0, bf16_gain);
        let pays = gain > 1.0 && gain < GAIN_OF_TILES && problem.c.min(problem.oc) >= FEWEST_CHANNELS;
        let fewest = if pays { (FEWEST_PRODUCTS / weights.max(1)).max(12) } else { usize::MAX };
        vec![(Winograd::F2, fewest, "3x3 in bf16: four ninths of the products")]
    } else {
        vec![
            (Winograd::F4, if weights <= 128 * 128 { 4 } else { 25 }, "3x3: a quarter of the products"),
            (Winograd::F2, if weights <= 256 * 256 { 12 } else { 25 }, "3x3 on a small image: four ninths of the products"),
        ]
    };
    candidates.into_iter().find_map(|(variant, fewest_tiles, reason)| {
        let algorithm = Algorithm::Winograd(variant);
        let pays = tiles(variant) >= fewest_tiles && algorithm.check(problem, input).is_ok();
        pays.then_some(Choice { algorithm, reason })
    })
}
