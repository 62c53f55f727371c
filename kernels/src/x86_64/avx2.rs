//! AVX2 with FMA: a block is two registers; 12 accumulators, 2 weight vectors and a broadcast fill 15 of the 16.

#[cfg(feature = "bf16")]
pub(crate) mod bf16;
#[cfg(feature = "int8")]
pub(crate) mod int8;
mod lanes;

use crate::simd::F32x16;
use std::arch::x86_64::*;

/// Two ymm registers.
#[derive(Clone, Copy)]
pub(crate) struct Vector(__m256, __m256);

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl F32x16 for Vector {
    const REGISTERS: usize = 8;
    const OPERANDS_IN_MEMORY: bool = true;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Vector(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Vector(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }
    #[inline(always)]
    unsafe fn prefetch(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn prefetch_far(p: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread<const G: usize>(self, j: usize) -> Self {
        unsafe {
            match (G, j) {
                (4, 0) => Vector(_mm256_permute_ps::<0x00>(self.0), _mm256_permute_ps::<0x00>(self.1)),
                (4, 1) => Vector(_mm256_permute_ps::<0x55>(self.0), _mm256_permute_ps::<0x55>(self.1)),
                (4, 2) => Vector(_mm256_permute_ps::<0xaa>(self.0), _mm256_permute_ps::<0xaa>(self.1)),
                (4, _) => Vector(_mm256_permute_ps::<0xff>(self.0), _mm256_permute_ps::<0xff>(self.1)),
                _ => {
                    let lane = _mm256_set1_epi32(j as i32);
                    Vector(_mm256_permutevar8x32_ps(self.0, lane), _mm256_permutevar8x32_ps(self.1, lane))
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe {
            _mm256_storeu_ps(p, self.0);
            _mm256_storeu_ps(p.add(8), self.1);
        }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Vector(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1)) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        unsafe { Vector(_mm256_add_ps(self.0, b.0), _mm256_add_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        unsafe { Vector(_mm256_sub_ps(self.0, b.0), _mm256_sub_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        unsafe { Vector(_mm256_mul_ps(self.0, b.0), _mm256_mul_ps(self.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        unsafe { Vector(_mm256_div_ps(self.0, b.0), _mm256_div_ps(self.1, b.1)) }
    }
    // maxps and minps give their second operand when one is NaN and when both are zeros.
    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        unsafe { Vector(_mm256_max_ps(low.0, self.0), _mm256_max_ps(low.1, self.1)) }
    }
    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        unsafe { Vector(_mm256_min_ps(high.0, self.0), _mm256_min_ps(high.1, self.1)) }
    }
    #[inline(always)]
    unsafe fn maximum(self, b: Self) -> Self {
        unsafe { Vector(maximum(self.0, b.0), maximum(self.1, b.1)) }
    }
}

#[inline(always)]
unsafe fn maximum(a: __m256, b: __m256) -> __m256 {
    // SAFETY: called only from `Vector::maximum`, whose contract gives AVX.
    unsafe { _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a)) }
}

crate::table::instantiate!(
    #[target_feature(enable = "avx2,fma")]
    Vector,
    crate::Isa::Avx2,
    name "avx2",
    tiles [1 x 6],
    depthwise shaped,
    fma_chains 6
);
