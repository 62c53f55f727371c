//! Buffers of bytes: indexing one element at a time, and the oracle of quantised convolution.

use super::{Guarded, for_each, noise};
use stridewise_kernels::conv::Requantize;
use stridewise_kernels::{ConvProblem, Geometry};

/// The byte of an element, from the buffer's beginning.
fn place(g: &Geometry, [n, c, y, x]: [usize; 4]) -> usize {
    let lanes = g.layout().lanes();
    g.offset(n, c / lanes, y, x) * 4 + c % lanes
}

/// Bytes that depend on nothing but the seed.
pub fn byte_noise(seed: u64, len: usize) -> Vec<u8> {
    noise(seed, len).iter().map(|v| ((v + 1.0) * 128.0) as u8).collect()
}

/// A guarded buffer that holds a dense NCHW tensor, with the zero point in its halo and in the channels that pad its last plane.
pub fn byte_buffer_of(g: &Geometry, dense: &[u8]) -> Guarded {
    assert_eq!(dense.len(), g.dims().iter().product::<usize>());
    let mut buffer = Guarded::filled(g.len(), 0.0);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut buffer);
    bytes.fill(g.zero_point());
    let mut values = dense.iter();
    for_each(g.dims(), |at| bytes[place(g, at)] = *values.next().unwrap());
    buffer
}

/// The dense NCHW tensor that a buffer holds.
pub fn bytes_of(g: &Geometry, buffer: &[f32]) -> Vec<u8> {
    let bytes: &[u8] = bytemuck::cast_slice(buffer);
    let mut dense = Vec::new();
    for_each(g.dims(), |at| dense.push(bytes[place(g, at)]));
    dense
}

/// Asserts that the halo, and the channels that pad the last plane, hold the zero point.
pub fn assert_borders_are_zero_points(g: &Geometry, buffer: &[f32], context: &str) {
    // All that is inside becomes the zero point, so that all must be.
    let mut copy = buffer.to_vec();
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut copy);
    for_each(g.dims(), |at| bytes[place(g, at)] = g.zero_point());
    let (halo, [_, _, h, w]) = (g.halo(), g.dims());
    let row = (w + halo.left + halo.right) * g.layout().words() * 4;
    for n in 0..g.n() {
        for plane in 0..g.planes() {
            let first = (n * g.image_stride() + plane * g.plane_stride()) * 4;
            for (i, byte) in bytes[first..first + row * (h + halo.top + halo.bottom)].iter().enumerate() {
                assert_eq!(*byte, g.zero_point(), "{context}: border at plane {plane}, byte {i}");
            }
        }
    }
}

/// Exact sums `Σ (x − zero) · w + bias`, NCHW.
pub fn exact_sums(p: &ConvProblem, input: &[u8], zero: u8, weight: &[i8], bias: &[i32]) -> Vec<i64> {
    let [oh, ow] = p.output();
    let (width, outputs) = (p.c / p.groups, p.oc / p.groups);
    let mut sums = Vec::with_capacity(p.n * p.oc * oh * ow);
    for_each([p.n, p.oc, oh, ow], |[n, o, y, x]| {
        let mut sum = i64::from(bias[o]);
        for c in 0..width {
            let channel = o / outputs * width + c;
            for kh in 0..p.kernel[0] {
                for kw in 0..p.kernel[1] {
                    let row = (y * p.stride[0] + kh * p.dilation[0]).checked_sub(p.pads[0]).filter(|r| *r < p.h);
                    let column = (x * p.stride[1] + kw * p.dilation[1]).checked_sub(p.pads[1]).filter(|c| *c < p.w);
                    if let (Some(row), Some(column)) = (row, column) {
                        let value = i64::from(input[((n * p.c + channel) * p.h + row) * p.w + column]) - i64::from(zero);
                        sum += value * i64::from(weight[((o * width + c) * p.kernel[0] + kh) * p.kernel[1] + kw]);
                    }
                }
            }
        }
        sums.push(sum);
    });
    sums
}

/// What an output of f32 is, or one of bytes before it is rounded.
pub fn scaled(sum: i64, scale: f32, residual: Option<f32>, clamp: (f32, f32)) -> f32 {
    let sum = sum as i32 as f32;
    residual.map_or(sum * scale, |r| sum.mul_add(scale, r)).clamp(clamp.0, clamp.1)
}

/// What an output of bytes is.
pub fn requantized(sum: i64, o: usize, r: &Requantize<'_>, residual: Option<(u8, u8)>, zero: u8) -> u8 {
    let sum = sum as i32 as f32;
    let x = match residual {
        None => sum * r.scales[o],
        Some((byte, zero)) => f32::from(byte).mul_add(r.residual_scale, sum.mul_add(r.scales[o], -(f32::from(zero) * r.residual_scale))),
    };
    let x = x.clamp(r.clamp.0, r.clamp.1).clamp(-f32::from(zero), 255.0 - f32::from(zero));
    (x.round_ties_even() + f32::from(zero)) as u8
}
