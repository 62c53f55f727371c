//! The oracle: textbook convolution in f64, NCHW, six loops.

use crate::{ConvProblem, Error};

/// Convolves: input `[N, C, H, W]`, weights `[OC, C/groups, KH, KW]`, bias `[OC]` → `[N, OC, OH, OW]`, no
/// activation.
///
/// # Errors
/// When [`ConvProblem::validate`] refuses the problem, a slice has another length than it says, or there is no memory for the output.
pub fn convolution(problem: &ConvProblem, input: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Result<Vec<f64>, Error> {
    let p = problem;
    p.validate()?;
    let check = |what: &'static str, expected: usize, found: usize| {
        if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
    };
    check("convolution input", p.n * p.c * p.h * p.w, input.len())?;
    check("convolution weight", p.weight_len(), weight.len())?;
    check("convolution bias", p.oc, bias.map_or(p.oc, <[f32]>::len))?;
    let [oh, ow] = p.output();
    let (width, outputs) = (p.c / p.groups, p.oc / p.groups);
    let mut output = Vec::new();
    let len = p.n * p.oc * oh * ow;
    output.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes: len.saturating_mul(size_of::<f64>()) })?;
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
    Ok(output)
}
