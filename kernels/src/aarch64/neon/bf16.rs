//! Bfloat16 widened to f32 in NEON registers.
//!
//! Bound: two FMAs for 8 products; of the 32 registers 16 sums, eight of weights and the two of a spread word.

use super::Vector;
use crate::bf16::{Bf16, Halves};
use crate::simd::F32x16;
use std::arch::aarch64::*;

/// With NEON.
#[derive(Clone, Copy)]
pub(crate) struct Wide;

/// The two elements of each word: the first, the second.
#[inline(always)]
unsafe fn split(words: uint32x4_t) -> (float32x4_t, float32x4_t) {
    // SAFETY: the caller has NEON.
    unsafe {
        let second = vandq_u32(words, vdupq_n_u32(0xffff_0000));
        (vreinterpretq_f32_u32(vshlq_n_u32::<16>(words)), vreinterpretq_f32_u32(second))
    }
}

/// The nearest bfloat16 of four floats.
#[inline(always)]
unsafe fn rounded(values: float32x4_t) -> uint16x4_t {
    // SAFETY: the caller has NEON.
    unsafe {
        let bits = vreinterpretq_u32_f32(values);
        let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        let rounded = vaddq_u32(vaddq_u32(bits, odd), vdupq_n_u32(0x7fff));
        let nan = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
        vshrn_n_u32::<16>(vbslq_u32(vceqq_f32(values, values), rounded, nan))
    }
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Bf16 for Wide {
    type Float = Vector;
    type Column = (Vector, Vector);
    type Spread = (Vector, Vector);
    #[inline(always)]
    unsafe fn column(p: *const f32) -> (Vector, Vector) {
        unsafe {
            let p = p.cast::<u32>();
            let (a, b) = (split(vld1q_u32(p)), split(vld1q_u32(p.add(4))));
            let (c, d) = (split(vld1q_u32(p.add(8))), split(vld1q_u32(p.add(12))));
            (Vector(a.0, b.0, c.0, d.0), Vector(a.1, b.1, c.1, d.1))
        }
    }
    #[inline(always)]
    unsafe fn spread(p: *const f32) -> (Vector, Vector) {
        unsafe {
            let (first, second) = split(vdupq_n_u32(p.cast::<u32>().read_unaligned()));
            (Vector(first, first, first, first), Vector(second, second, second, second))
        }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: (Vector, Vector), x: (Vector, Vector), sums: Vector) -> Vector {
        unsafe { column.0.fma(x.0, column.1.fma(x.1, sums)) }
    }
    #[inline(always)]
    unsafe fn widen(p: *const u16) -> Vector {
        unsafe {
            let (low, high) = (vld1q_u16(p), vld1q_u16(p.add(8)));
            let [a, b] = [vget_low_u16(low), vget_high_u16(low)].map(|v| vreinterpretq_f32_u32(vshll_n_u16::<16>(v)));
            let [c, d] = [vget_low_u16(high), vget_high_u16(high)].map(|v| vreinterpretq_f32_u32(vshll_n_u16::<16>(v)));
            Vector(a, b, c, d)
        }
    }
    #[inline(always)]
    unsafe fn narrow(values: Vector, p: *mut u16) {
        unsafe {
            vst1q_u16(p, vcombine_u16(rounded(values.0), rounded(values.1)));
            vst1q_u16(p.add(8), vcombine_u16(rounded(values.2), rounded(values.3)));
        }
    }
}

crate::bf16::instantiate!(
    #[target_feature(enable = "neon")]
    Wide,
    crate::Isa::Neon,
    name "neon",
    tiles [1 x 4],
    depthwise shaped,
    chains 4
);
