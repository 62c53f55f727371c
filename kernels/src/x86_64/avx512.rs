//! AVX-512: a block is one register; 24 accumulators, 4 weight vectors and a broadcast fill 29 of the 32. With fewer blocks there
//! are more pixels, so that multiply-adds, two a cycle with a latency of four, never wait for each other.

#[cfg(feature = "bf16")]
pub(crate) mod bf16;
#[cfg(feature = "int8")]
pub(crate) mod int8;
mod lanes;

use crate::simd::F32x16;
use std::arch::x86_64::*;

/// One zmm register.
#[derive(Clone, Copy)]
pub(crate) struct Vector(__m512);

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl F32x16 for Vector {
    const REGISTERS: usize = 32;
    const OPERANDS_IN_MEMORY: bool = true;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Vector(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Vector(unsafe { _mm512_loadu_ps(p) })
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
            Vector(match (G, j) {
                (4, 0) => _mm512_permute_ps::<0x00>(self.0),
                (4, 1) => _mm512_permute_ps::<0x55>(self.0),
                (4, 2) => _mm512_permute_ps::<0xaa>(self.0),
                (4, _) => _mm512_permute_ps::<0xff>(self.0),
                _ => {
                    let (low, high) = (j as i32, 8 + j as i32);
                    let halves = [low, low, low, low, low, low, low, low, high, high, high, high, high, high, high, high];
                    _mm512_permutexvar_ps(_mm512_loadu_si512(halves.as_ptr().cast()), self.0)
                }
            })
        }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm512_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        Vector(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Vector(unsafe { _mm512_add_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Vector(unsafe { _mm512_sub_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Vector(unsafe { _mm512_mul_ps(self.0, b.0) })
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        Vector(unsafe { _mm512_div_ps(self.0, b.0) })
    }
    // maxps and minps give their second operand when one is NaN and when both are zeros.
    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        Vector(unsafe { _mm512_max_ps(low.0, self.0) })
    }
    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        Vector(unsafe { _mm512_min_ps(high.0, self.0) })
    }
    #[inline(always)]
    unsafe fn maximum(self, b: Self) -> Self {
        unsafe {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            Vector(_mm512_mask_mov_ps(_mm512_max_ps(self.0, b.0), nan, self.0))
        }
    }
}

crate::table::instantiate!(
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    Vector,
    crate::Isa::Avx512,
    name "avx512",
    tiles [1 x 12, 2 x 12, 3 x 8, 4 x 6],
    depthwise shaped,
    fma_chains 12
);
