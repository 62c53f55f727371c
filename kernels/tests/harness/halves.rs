//! Buffers of bfloat16, one element at a time.

use super::{Guarded, for_each};
use stridewise_kernels::bf16::{bf16_bits, bf16_value};
use stridewise_kernels::{ConvProblem, Geometry};

/// An element, counted from the buffer's beginning.
fn place(g: &Geometry, [n, c, y, x]: [usize; 4]) -> usize {
    let lanes = g.layout().lanes();
    g.offset(n, c / lanes, y, x) * 2 + c % lanes
}

/// A guarded buffer that holds a dense NCHW tensor, rounded, with zeros around it.
pub fn half_buffer_of(g: &Geometry, dense: &[f32]) -> Guarded {
    assert_eq!(dense.len(), g.dims().iter().product::<usize>());
    let mut buffer = Guarded::filled(g.len(), 0.0);
    let halves: &mut [u16] = bytemuck::cast_slice_mut(&mut buffer);
    let mut values = dense.iter();
    for_each(g.dims(), |at| halves[place(g, at)] = bf16_bits(*values.next().unwrap()));
    buffer
}

/// The dense NCHW tensor that a buffer holds.
pub fn halves_of(g: &Geometry, buffer: &[f32]) -> Vec<f32> {
    let halves: &[u16] = bytemuck::cast_slice(buffer);
    let mut dense = Vec::new();
    for_each(g.dims(), |at| dense.push(bf16_value(halves[place(g, at)])));
    dense
}

/// Asserts that the halo, and the channels that pad the last plane, hold positive zeros.
pub fn assert_borders_are_zero(g: &Geometry, buffer: &[f32], context: &str) {
    let mut copy = buffer.to_vec();
    let halves: &mut [u16] = bytemuck::cast_slice_mut(&mut copy);
    for_each(g.dims(), |at| halves[place(g, at)] = 0);
    let (halo, [_, _, h, w]) = (g.halo(), g.dims());
    let plane = (w + halo.left + halo.right) * (h + halo.top + halo.bottom) * g.layout().words() * 2;
    for n in 0..g.n() {
        for index in 0..g.planes() {
            let first = (n * g.image_stride() + index * g.plane_stride()) * 2;
            assert!(halves[first..first + plane].iter().all(|half| *half == 0), "{context}: border of plane {index}");
        }
    }
}

/// Bᵀ, G and Aᵀ of F(2×2, 3×3): Lavin and Gray, Fast algorithms for convolutional neural networks (2015), section 4.1.
const INPUT: [[f64; 4]; 4] = [[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, -1.0, 1.0, 0.0], [0.0, -1.0, 0.0, 1.0]];
const KERNEL: [[f64; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];
const OUTPUT: [[f64; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, -1.0, 1.0]];

/// M x Mᵀ.
fn transform<const R: usize, const C: usize>(m: &[[f64; C]; R], x: [[f64; C]; C]) -> [[f64; R]; R] {
    let rows: [[f64; C]; R] = std::array::from_fn(|r| std::array::from_fn(|c| (0..C).map(|i| m[r][i] * x[i][c]).sum()));
    std::array::from_fn(|r| std::array::from_fn(|c| (0..C).map(|i| rows[r][i] * m[c][i]).sum()))
}

fn rounded<const N: usize>(values: [[f64; N]; N]) -> [[f64; N]; N] {
    values.map(|row| row.map(|x| f64::from(bf16_value(bf16_bits(x as f32)))))
}

/// What F(2×2, 3×3) gives whose transformed inputs and weights are rounded to bfloat16 and whose sums are exact; and the magnitudes that
/// each output is made of.
pub fn winograd_of_halves(p: &ConvProblem, input: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let [oh, ow] = p.output();
    let at = |n: usize, c: usize, y: usize, x: usize| {
        let (y, x) = (y.checked_sub(p.pads[0]).filter(|y| *y < p.h), x.checked_sub(p.pads[1]).filter(|x| *x < p.w));
        y.zip(x).map_or(0.0, |(y, x)| f64::from(input[((n * p.c + c) * p.h + y) * p.w + x]))
    };
    let kernels: Vec<[[f64; 4]; 4]> = weight
        .chunks_exact(9)
        .map(|g| rounded(transform(&KERNEL, std::array::from_fn(|y| std::array::from_fn(|x| f64::from(g[y * 3 + x]))))))
        .collect();
    let mut result = (vec![0.0; p.n * p.oc * oh * ow], vec![0.0; p.n * p.oc * oh * ow]);
    for (n, y, x) in (0..p.n).flat_map(|n| (0..oh).step_by(2).flat_map(move |y| (0..ow).step_by(2).map(move |x| (n, y, x)))) {
        let tile = |c| rounded(transform(&INPUT, std::array::from_fn(|i| std::array::from_fn(|j| at(n, c, y + i, x + j)))));
        let tiles: Vec<[[f64; 4]; 4]> = (0..p.c).map(tile).collect();
        for o in 0..p.oc {
            let (mut sums, mut magnitudes) = ([[0.0; 4]; 4], [[0.0; 4]; 4]);
            for (v, u) in tiles.iter().zip(&kernels[o * p.c..]) {
                for (i, j) in (0..4).flat_map(|i| (0..4).map(move |j| (i, j))) {
                    sums[i][j] += v[i][j] * u[i][j];
                    magnitudes[i][j] += (v[i][j] * u[i][j]).abs();
                }
            }
            let (values, magnitudes) = (transform(&OUTPUT, sums), transform(&OUTPUT.map(|row| row.map(f64::abs)), magnitudes));
            for (i, j) in (0..2.min(oh - y)).flat_map(|i| (0..2.min(ow - x)).map(move |j| (i, j))) {
                let index = ((n * p.oc + o) * oh + y + i) * ow + x + j;
                result.0[index] = values[i][j] + f64::from(bias[o]);
                result.1[index] = magnitudes[i][j] + f64::from(bias[o]).abs();
            }
        }
    }
    result
}
