//! NEON: a block is four registers; 24 accumulators, 4 weight vectors and a broadcast fill 29 of the 32.

#[cfg(feature = "bf16")]
pub(crate) mod bf16;
#[cfg(feature = "int8")]
pub(crate) mod int8;
mod lanes;

use crate::simd::F32x16;
use std::arch::aarch64::*;

/// Four q registers.
#[derive(Clone, Copy)]
pub(crate) struct Vector(float32x4_t, float32x4_t, float32x4_t, float32x4_t);

macro_rules! each {
    ($f:ident, $a:ident $(, $b:ident)*) => {
        Vector($f($a.0 $(, $b.0)*), $f($a.1 $(, $b.1)*), $f($a.2 $(, $b.2)*), $f($a.3 $(, $b.3)*))
    };
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl F32x16 for Vector {
    const REGISTERS: usize = 8;
    const OPERANDS_IN_MEMORY: bool = false;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe {
            let v = vdupq_n_f32(x);
            Vector(v, v, v, v)
        }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Vector(vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))) }
    }
    #[inline(always)]
    unsafe fn spread<const G: usize>(self, j: usize) -> Self {
        unsafe {
            // The register that holds lane j of each register's group.
            let [a, b, c, d] = match (G, j / 4) {
                (4, _) => [self.0, self.1, self.2, self.3],
                (_, 0) => [self.0, self.0, self.2, self.2],
                _ => [self.1, self.1, self.3, self.3],
            };
            let spread = |v| match j % 4 {
                0 => vdupq_laneq_f32::<0>(v),
                1 => vdupq_laneq_f32::<1>(v),
                2 => vdupq_laneq_f32::<2>(v),
                _ => vdupq_laneq_f32::<3>(v),
            };
            Vector(spread(a), spread(b), spread(c), spread(d))
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe {
            vst1q_f32(p, self.0);
            vst1q_f32(p.add(4), self.1);
            vst1q_f32(p.add(8), self.2);
            vst1q_f32(p.add(12), self.3);
        }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        unsafe { each!(vfmaq_f32, c, self, b) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        unsafe { each!(vaddq_f32, self, b) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        unsafe { each!(vsubq_f32, self, b) }
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        unsafe { each!(vmulq_f32, self, b) }
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        unsafe { each!(vdivq_f32, self, b) }
    }
    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        unsafe { each!(at_least, self, low) }
    }
    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        unsafe { each!(at_most, self, high) }
    }
    #[inline(always)]
    unsafe fn maximum(self, b: Self) -> Self {
        unsafe { each!(maximum, self, b) }
    }
}

// Compare and select instead of fmax and fmin, which order the zeros and would differ in the sign of a zero from x86.

#[inline(always)]
unsafe fn at_least(x: float32x4_t, low: float32x4_t) -> float32x4_t {
    // SAFETY: called only from `Vector`, whose contract gives NEON.
    unsafe { vbslq_f32(vcgtq_f32(low, x), low, x) }
}

#[inline(always)]
unsafe fn at_most(x: float32x4_t, high: float32x4_t) -> float32x4_t {
    // SAFETY: called only from `Vector`, whose contract gives NEON.
    unsafe { vbslq_f32(vcltq_f32(high, x), high, x) }
}

#[inline(always)]
unsafe fn maximum(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: called only from `Vector`, whose contract gives NEON. NaN is the only value unequal to itself.
    unsafe { vbslq_f32(vorrq_u32(vcgtq_f32(a, b), vmvnq_u32(vceqq_f32(a, a))), a, b) }
}

crate::table::instantiate!(
    #[target_feature(enable = "neon")]
    Vector,
    crate::Isa::Neon,
    name "neon",
    tiles [1 x 6],
    depthwise shaped,
    fma_chains 4
);
