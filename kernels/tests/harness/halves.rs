//! Buffers of bfloat16, one element at a time.

use super::{Guarded, for_each};
use stridewise_kernels::Geometry;
use stridewise_kernels::bf16::{bf16_bits, bf16_value};

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
