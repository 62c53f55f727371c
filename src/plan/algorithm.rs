//! Which algorithm a convolution gets, and why. The choice depends on the shape alone, never on the processor, so that results
//! are the same everywhere.

use stridewise_kernels::conv::Algorithm;
use stridewise_kernels::{ConvProblem, Halo, Layout};

/// A choice and its reason, as `explain` prints it.
pub(super) struct Choice {
    pub algorithm: Algorithm,
    pub reason: &'static str,
}

pub(super) fn choose(problem: &ConvProblem, input: Layout) -> Choice {
    let extent = |axis: usize| problem.dilation[axis] * (problem.kernel[axis] - 1) + 1;
    let beyond = (0..4).any(|side| problem.pads[side] >= extent(side % 2));
    if beyond {
        Choice { algorithm: Algorithm::Im2colGemm, reason: "padding beyond the kernel: a halo would be mostly zeros" }
    } else if problem.is_depthwise() && input == Layout::Nchw16c {
        Choice { algorithm: Algorithm::Depthwise, reason: "one kernel a channel" }
    } else if input == Layout::Nchw {
        Choice { algorithm: Algorithm::Direct, reason: "few input channels: reads the NCHW planes" }
    } else if problem.kernel == [1, 1] {
        Choice { algorithm: Algorithm::Direct, reason: "1x1: a GEMM over pixels, activations unpacked" }
    } else if problem.groups > 1 {
        Choice { algorithm: Algorithm::Direct, reason: "grouped: each block of outputs reads its groups' inputs" }
    } else {
        Choice { algorithm: Algorithm::Direct, reason: "padding is the input's halo" }
    }
}

/// The border of zeros that the input of a convolution needs around it.
pub(super) fn halo(problem: &ConvProblem, algorithm: Algorithm) -> Halo {
    if algorithm == Algorithm::Im2colGemm {
        return Halo::NONE;
    }
    let output = problem.output();
    let behind = |axis: usize, size: usize| {
        let end = (output[axis] - 1) * problem.stride[axis] + (problem.kernel[axis] - 1) * problem.dilation[axis] + 1;
        end.saturating_sub(size + problem.pads[axis])
    };
    Halo { top: problem.pads[0], left: problem.pads[1], bottom: behind(0, problem.h), right: behind(1, problem.w) }
}
