//! Comparison, selection and bits in zmm registers.

use super::Vector;
use crate::function::lanes::Lanes;
use std::arch::x86_64::*;

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Vector {
    #[inline(always)]
    unsafe fn if_less(self, b: Self, yes: Self, no: Self) -> Self {
        unsafe { Vector(_mm512_mask_mov_ps(no.0, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, b.0), yes.0)) }
    }
    #[inline(always)]
    unsafe fn if_equal(self, b: Self, yes: Self, no: Self) -> Self {
        unsafe { Vector(_mm512_mask_mov_ps(no.0, _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, b.0), yes.0)) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Vector(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn and(self, b: Self) -> Self {
        Vector(unsafe { _mm512_and_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn or(self, b: Self) -> Self {
        Vector(unsafe { _mm512_or_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn xor(self, b: Self) -> Self {
        Vector(unsafe { _mm512_xor_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn exponent_up(self) -> Self {
        Vector(unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(self.0))) })
    }
    #[inline(always)]
    unsafe fn exponent_down(self) -> Self {
        Vector(unsafe { _mm512_castsi512_ps(_mm512_srli_epi32::<23>(_mm512_castps_si512(self.0))) })
    }
}
