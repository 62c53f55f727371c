//! Bytes in plain Rust.

use super::{FMA, Vector};
use crate::int8::{Bytes, Int8};

/// Sixteen integers in an array.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

// SAFETY (all blocks of this impl): the trait's contract gives the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Plain {
    type Float = Vector<FMA>;
    type Lanes = [i32; 16];
    type Sums = [i32; 16];
    type Column = [[i8; 4]; 16];
    type Spread = [u8; 4];
    type Line = [u8; 64];
    const OFFSET: i32 = 0;
    #[inline(always)]
    unsafe fn zero() -> [i32; 16] {
        [0; 16]
    }
    #[inline(always)]
    unsafe fn load_sums(p: *const i32) -> [i32; 16] {
        unsafe { p.cast::<[i32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_sums(sums: [i32; 16], p: *mut i32) {
        unsafe { p.cast::<[i32; 16]>().write_unaligned(sums) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    unsafe fn column(p: *const i32) -> [[i8; 4]; 16] {
        unsafe { p.cast::<[[i8; 4]; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn spread(p: *const i32) -> [u8; 4] {
        unsafe { p.cast::<[u8; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: [[i8; 4]; 16], x: [u8; 4], sums: [i32; 16]) -> [i32; 16] {
        let mut out = sums;
        for (sum, weights) in out.iter_mut().zip(column) {
            let mut word = 0;
            for j in 0..4 {
                word += i32::from(weights[j]) * i32::from(x[j]);
            }
            *sum = sum.wrapping_add(word);
        }
        out
    }
    #[inline(always)]
    unsafe fn load(p: *const i32) -> [i32; 16] {
        unsafe { p.cast::<[i32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_lanes(lanes: [i32; 16], p: *mut i32) {
        unsafe { p.cast::<[i32; 16]>().write_unaligned(lanes) }
    }
    #[inline(always)]
    unsafe fn add(a: [i32; 16], b: [i32; 16]) -> [i32; 16] {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    unsafe fn widen(p: *const u8) -> [i32; 16] {
        unsafe { p.cast::<[u8; 16]>().read_unaligned() }.map(i32::from)
    }
    #[inline(always)]
    unsafe fn multiply_add_lanes(weight: [i32; 16], value: [i32; 16], sum: [i32; 16]) -> [i32; 16] {
        std::array::from_fn(|i| sum[i].wrapping_add(weight[i] * value[i]))
    }
    #[inline(always)]
    unsafe fn spread_lanes<const G: usize>(lanes: [i32; 16], j: usize) -> [i32; 16] {
        std::array::from_fn(|i| lanes[i / G * G + j])
    }
    #[inline(always)]
    unsafe fn to_f32(lanes: [i32; 16]) -> Vector<FMA> {
        Vector(lanes.map(|x| x as f32))
    }
    #[inline(always)]
    unsafe fn round(values: Vector<FMA>) -> [i32; 16] {
        // To the nearest integer by adding and taking away a number whose last place is worth one: no call into a library.
        const ONES: f32 = 12_582_912.0;
        values.0.map(|x| if x.abs() < 4_194_304.0 { ((x + ONES) - ONES) as i32 } else { x.round_ties_even() as i32 })
    }
    #[inline(always)]
    unsafe fn splat(x: i32) -> [i32; 16] {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn narrow(lanes: [i32; 16], p: *mut u8) {
        unsafe { p.cast::<[u8; 16]>().write_unaligned(lanes.map(|x| x as u8)) }
    }
    #[inline(always)]
    unsafe fn interleave(lanes: [[i32; 16]; 4], p: *mut i32) {
        let words: [[u8; 4]; 16] = std::array::from_fn(|i| lanes.map(|lane| lane[i] as u8));
        unsafe { p.cast::<[[u8; 4]; 16]>().write_unaligned(words) }
    }
    #[inline(always)]
    unsafe fn load_line(p: *const u8) -> [u8; 64] {
        unsafe { p.cast::<[u8; 64]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_line(line: [u8; 64], p: *mut u8) {
        unsafe { p.cast::<[u8; 64]>().write_unaligned(line) }
    }
    #[inline(always)]
    unsafe fn max_line(a: [u8; 64], b: [u8; 64]) -> [u8; 64] {
        std::array::from_fn(|i| a[i].max(b[i]))
    }
}

/// Plain code for a processor of which nothing is known.
pub(crate) mod baseline {
    use super::*;

    crate::int8::instantiate!(Plain, crate::Isa::Portable, name "portable", tiles [1 x 4], depthwise any, chains 4);
}
