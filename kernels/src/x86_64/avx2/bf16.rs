//! Bfloat16 widened to f32 in ymm registers.
//!
//! Bound: two FMAs for 16 products; of the 16 registers 8 sums, four of weights and the two of a spread word.

use super::Vector;
use crate::bf16::{Bf16, Halves};
use std::arch::x86_64::*;

/// With AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Wide;

/// The two elements of each word: the first, the second.
#[inline(always)]
unsafe fn split(words: __m256i) -> (__m256, __m256) {
    // SAFETY: the caller has AVX2.
    unsafe {
        let second = _mm256_and_si256(words, _mm256_set1_epi32(0xffff_0000_u32 as i32));
        (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(words)), _mm256_castsi256_ps(second))
    }
}

/// The nearest bfloat16 of eight floats, in the lower half of each word.
#[inline(always)]
unsafe fn rounded(values: __m256) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let bits = _mm256_castps_si256(values);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_srli_epi32::<16>(_mm256_add_epi32(_mm256_add_epi32(bits, odd), _mm256_set1_epi32(0x7fff)));
        let nan = _mm256_or_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(0x40));
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
        _mm256_blendv_epi8(rounded, nan, is_nan)
    }
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Bf16 for Wide {
    type Float = Vector;
    type Column = [(__m256, __m256); 2];
    type Spread = (__m256, __m256);
    #[inline(always)]
    unsafe fn column(p: *const f32) -> [(__m256, __m256); 2] {
        unsafe { [split(_mm256_loadu_si256(p.cast())), split(_mm256_loadu_si256(p.add(8).cast()))] }
    }
    #[inline(always)]
    unsafe fn spread(p: *const f32) -> (__m256, __m256) {
        unsafe { split(_mm256_set1_epi32(p.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: [(__m256, __m256); 2], x: (__m256, __m256), sums: Vector) -> Vector {
        unsafe {
            Vector(
                _mm256_fmadd_ps(column[0].0, x.0, _mm256_fmadd_ps(column[0].1, x.1, sums.0)),
                _mm256_fmadd_ps(column[1].0, x.0, _mm256_fmadd_ps(column[1].1, x.1, sums.1)),
            )
        }
    }
    #[inline(always)]
    unsafe fn widen(p: *const u16) -> Vector {
        unsafe {
            let (low, high) = (_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(8).cast()));
            Vector(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(low))),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(high))),
            )
        }
    }
    #[inline(always)]
    unsafe fn narrow(values: Vector, p: *mut u16) {
        unsafe {
            let packed = _mm256_packus_epi32(rounded(values.0), rounded(values.1));
            _mm256_storeu_si256(p.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
        }
    }
}

crate::bf16::instantiate!(
    #[target_feature(enable = "avx2,fma")]
    Wide,
    crate::Isa::Avx2,
    name "avx2",
    tiles [1 x 4],
    depthwise shaped,
    chains 4
);
