//! The oracle: textbook convolution in f64, NCHW, six loops.

use crate::ConvProblem;

/// Convolves a valid problem: input `[N, C, H, W]`, weights `[OC, C/groups, KH, KW]`, bias `[OC]` → `[N, OC, OH, OW]`, no
/// activation.
///
/// # Panics
/// When a slice is shorter than the problem says: it is meant for tests.
pub fn convolution(problem: &ConvProblem, input: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
    let p = problem;
    let [oh, ow] = p.output();
    let (width, outputs) = (p.c / p.groups, p.oc / p.groups);
    let mut output = Vec::with_capacity(p.n * p.oc * oh * ow);
    for n in 0..p.n {
        for o in 0..p.oc {
            for y in 0..oh {
                for x in 0..ow {
                    let mut sum = bias.map_or(0.0, |b| f64::from(b[o]));
                    for c in 0..width {
                        let channel = o / outputs * width + c;
                        for kh in 0..p.kernel[0] {
                            for kw in 0..p.kernel[1] {
                                let row = (y * p.stride[0] + kh * p.dilation[0]).checked_sub(p.pads[0]).filter(|&r| r < p.h);
                                let column = (x * p.stride[1] + kw * p.dilation[1]).checked_sub(p.pads[1]).filter(|&c| c < p.w);
                                if let (Some(row), Some(column)) = (row, column) {
                                    let value = input[((n * p.c + channel) * p.h + row) * p.w + column];
                                    let factor = weight[((o * width + c) * p.kernel[0] + kh) * p.kernel[1] + kw];
                                    sum += f64::from(value) * f64::from(factor);
                                }
                            }
                        }
                    }
                    output.push(sum);
                }
            }
        }
    }
    output
}
