//! Which algorithm a convolution gets, and why. The choice depends on the shape and the options, never on the processor, so
//! that results are the same everywhere.

use crate::error::Error;
use stridewise_kernels::conv::{Algorithm, Winograd};
use stridewise_kernels::{ConvProblem, Layout};

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

pub(super) fn choose(problem: &ConvProblem, input: Layout, numerics: Numerics) -> Choice {
    let extent = |axis: usize| problem.dilation[axis] * (problem.kernel[axis] - 1) + 1;
    let beyond = (0..4).any(|side| problem.pads[side] >= extent(side % 2));
    if problem.is_depthwise() && input == Layout::Nchw16c {
        // With any padding: no other algorithm computes it from blocks.
        Choice { algorithm: Algorithm::Depthwise, reason: "one kernel a channel" }
    } else if beyond {
        Choice { algorithm: Algorithm::Im2colGemm, reason: "padding beyond the kernel: a halo would be mostly zeros" }
    } else if input == Layout::Nchw {
        Choice { algorithm: Algorithm::Direct, reason: "few input channels: reads the NCHW planes" }
    } else if problem.kernel == [1, 1] {
        Choice { algorithm: Algorithm::Direct, reason: "1x1: a GEMM over pixels, activations unpacked" }
    } else if problem.groups > 1 {
        Choice { algorithm: Algorithm::Direct, reason: "grouped: each block of outputs reads its groups' inputs" }
    } else if numerics == Numerics::Fast
        && let Some(choice) = winograd(problem, input)
    {
        choice
    } else {
        Choice { algorithm: Algorithm::Direct, reason: "padding is the input's halo" }
    }
}

/// F(4×4) where an image has tiles enough to use its weights, four times the kernel's, more than a few times, or where they are
/// small; F(2×2) down to 7×7 images. Measured over the shapes of ResNet and VGG: docs/src/performance.md, "Which Winograd".
fn winograd(problem: &ConvProblem, input: Layout) -> Option<Choice> {
    // Of one image: a batch is computed as its images are alone.
    let tiles = |variant: Winograd| {
        let [rows, columns] = problem.output().map(|size| size.div_ceil(variant.outputs()));
        rows.saturating_mul(columns)
    };
    let few_weights = problem.c.saturating_mul(problem.oc) <= 128 * 128;
    let candidates = [
        (Winograd::F4, if few_weights { 4 } else { 25 }, "3x3: a quarter of the products"),
        (Winograd::F2, 12, "3x3 on a small image: four ninths of the products"),
    ];
    candidates.into_iter().find_map(|(variant, fewest_tiles, reason)| {
        let algorithm = Algorithm::Winograd(variant);
        let pays = tiles(variant) >= fewest_tiles && algorithm.check(problem, input).is_ok();
        pays.then_some(Choice { algorithm, reason })
    })
}
