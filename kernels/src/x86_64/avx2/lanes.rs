//! Comparison, selection and bits in ymm registers.

use super::Vector;
use crate::function::lanes::Lanes;
use std::arch::x86_64::*;

macro_rules! halves {
    ($f:ident, $a:expr $(, $b:expr)*) => {
        Vector($f($a.0 $(, $b.0)*), $f($a.1 $(, $b.1)*))
    };
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Vector {
    #[inline(always)]
    unsafe fn if_less(self, b: Self, yes: Self, no: Self) -> Self {
        unsafe { halves!(if_less, self, b, yes, no) }
    }
    #[inline(always)]
    unsafe fn if_equal(self, b: Self, yes: Self, no: Self) -> Self {
        unsafe { halves!(if_equal, self, b, yes, no) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { halves!(_mm256_sqrt_ps, self) }
    }
    #[inline(always)]
    unsafe fn and(self, b: Self) -> Self {
        unsafe { halves!(_mm256_and_ps, self, b) }
    }
    #[inline(always)]
    unsafe fn or(self, b: Self) -> Self {
        unsafe { halves!(_mm256_or_ps, self, b) }
    }
    #[inline(always)]
    unsafe fn xor(self, b: Self) -> Self {
        unsafe { halves!(_mm256_xor_ps, self, b) }
    }
    #[inline(always)]
    unsafe fn exponent_up(self) -> Self {
        unsafe { halves!(up, self) }
    }
    #[inline(always)]
    unsafe fn exponent_down(self) -> Self {
        unsafe { halves!(down, self) }
    }
}

// SAFETY (of the functions below): called only from `Vector`, whose contract gives AVX2.

#[inline(always)]
unsafe fn if_less(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
    // SAFETY: see above.
    unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
}

#[inline(always)]
unsafe fn if_equal(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
    // SAFETY: see above.
    unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)) }
}

#[inline(always)]
unsafe fn up(a: __m256) -> __m256 {
    // SAFETY: see above.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(a))) }
}

#[inline(always)]
unsafe fn down(a: __m256) -> __m256 {
    // SAFETY: see above.
    unsafe { _mm256_castsi256_ps(_mm256_srli_epi32::<23>(_mm256_castps_si256(a))) }
}
