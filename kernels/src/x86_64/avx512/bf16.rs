//! Bfloat16 in zmm registers: with AVX512-BF16 two products a lane and instruction, without it widened to f32.
//!
//! Bound with AVX512-BF16: `vdpbf16ps`, 32 products. Without: two FMAs for as many, and the halves of a register of weights are two.

use super::Vector;
use crate::bf16::{Bf16, Halves};
use std::arch::x86_64::*;

/// With AVX512-BF16.
#[derive(Clone, Copy)]
pub(crate) struct Dot;

/// With AVX-512 F alone.
#[derive(Clone, Copy)]
pub(crate) struct Wide;

#[inline(always)]
unsafe fn widen(p: *const u16) -> Vector {
    // SAFETY: the caller has AVX-512 and sixteen elements.
    unsafe { Vector(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))))) }
}

/// The two elements of each word: the first, the second.
#[inline(always)]
unsafe fn split(words: __m512i) -> (__m512, __m512) {
    // SAFETY: the caller has AVX-512.
    unsafe {
        let second = _mm512_and_si512(words, _mm512_set1_epi32(0xffff_0000_u32 as i32));
        (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)), _mm512_castsi512_ps(second))
    }
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Bf16 for Dot {
    const DOT_PRODUCTS: bool = true;
    type Float = Vector;
    type Column = __m512i;
    type Spread = __m512i;
    #[inline(always)]
    unsafe fn column(p: *const f32) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(p: *const f32) -> __m512i {
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: __m512i, x: __m512i, sums: Vector) -> Vector {
        // The types are the same register; there is no cast between them.
        unsafe {
            let [column, x] = [column, x].map(|v| std::mem::transmute::<__m512i, __m512bh>(v));
            Vector(_mm512_dpbf16_ps(sums.0, x, column))
        }
    }
    #[inline(always)]
    unsafe fn widen(p: *const u16) -> Vector {
        unsafe { widen(p) }
    }
    #[inline(always)]
    unsafe fn narrow(values: Vector, p: *mut u16) {
        unsafe { _mm256_storeu_si256(p.cast(), std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values.0))) }
    }
    #[inline(always)]
    unsafe fn narrow_line([first, second]: [Vector; 2], p: *mut u16) {
        unsafe { _mm512_storeu_si512(p.cast(), std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second.0, first.0))) }
    }
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Bf16 for Wide {
    type Float = Vector;
    type Column = (__m512, __m512);
    type Spread = (__m512, __m512);
    #[inline(always)]
    unsafe fn column(p: *const f32) -> (__m512, __m512) {
        unsafe { split(_mm512_loadu_si512(p.cast())) }
    }
    #[inline(always)]
    unsafe fn spread(p: *const f32) -> (__m512, __m512) {
        unsafe { split(_mm512_set1_epi32(p.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: (__m512, __m512), x: (__m512, __m512), sums: Vector) -> Vector {
        unsafe { Vector(_mm512_fmadd_ps(column.0, x.0, _mm512_fmadd_ps(column.1, x.1, sums.0))) }
    }
    #[inline(always)]
    unsafe fn widen(p: *const u16) -> Vector {
        unsafe { widen(p) }
    }
    #[inline(always)]
    unsafe fn narrow(values: Vector, p: *mut u16) {
        unsafe {
            let bits = _mm512_castps_si512(values.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_srli_epi32::<16>(_mm512_add_epi32(_mm512_add_epi32(bits, odd), _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_or_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(0x40));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values.0, values.0);
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(rounded, is_nan, nan)));
        }
    }
}

/// With AVX512-BF16.
pub(crate) mod dot {
    use super::*;

    crate::bf16::instantiate!(
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        Dot,
        crate::Isa::Avx512,
        name "avx512-bf16",
        tiles [1 x 12, 2 x 12, 3 x 8, 4 x 6],
        depthwise shaped,
        chains 12
    );
}

/// With AVX-512 F alone.
pub(crate) mod wide {
    use super::*;

    crate::bf16::instantiate!(
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        Wide,
        crate::Isa::Avx512,
        name "avx512",
        tiles [1 x 6, 2 x 6],
        depthwise any,
        chains 12
    );
}
