//! Bytes in ymm registers: with AVX-VNNI four products a lane and instruction, without it by pairs of 16-bit products.
//!
//! Bound with AVX-VNNI: `vpdpbusd`, as many a cycle as FMAs, each 32 products. Without: `vpmaddwd` twice and two sums for 32 products,
//! and of the 16 registers 8 sums, two registers of weights as 16-bit halves and the two of a spread word.

use super::Vector;
use crate::int8::{Bytes, Int8};
use crate::simd::F32x16;
use std::arch::x86_64::*;

/// With AVX-VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Vnni;

/// With AVX2 alone.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

/// Two ymm registers of integers.
#[derive(Clone, Copy)]
pub(crate) struct Integers(__m256i, __m256i);

/// Bytes 0 and 2, and bytes 1 and 3, of each word as 16-bit integers.
#[derive(Clone, Copy)]
pub(crate) struct Halves<T>(T, T);

#[inline(always)]
unsafe fn load(p: *const u8) -> Integers {
    // SAFETY: the caller has AVX2 and 64 bytes.
    unsafe { Integers(_mm256_loadu_si256(p.cast()), _mm256_loadu_si256(p.add(32).cast())) }
}

#[inline(always)]
unsafe fn store(v: Integers, p: *mut u8) {
    // SAFETY: the caller has AVX2 and 64 bytes.
    unsafe {
        _mm256_storeu_si256(p.cast(), v.0);
        _mm256_storeu_si256(p.add(32).cast(), v.1);
    }
}

#[inline(always)]
unsafe fn sum(a: Integers, b: Integers) -> Integers {
    // SAFETY: the caller has AVX2.
    unsafe { Integers(_mm256_add_epi32(a.0, b.0), _mm256_add_epi32(a.1, b.1)) }
}

/// Sixteen integers of 0 to 255 as 16-bit ones, in order.
#[inline(always)]
unsafe fn halve(v: Integers) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe { _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(v.0, v.1)) }
}

/// What both have in common.
macro_rules! lanes {
    () => {
        type Float = Vector;
        type Lanes = Integers;
        type Sums = Integers;
        type Line = Integers;
        const OFFSET: i32 = 0;
        #[inline(always)]
        unsafe fn zero() -> Integers {
            unsafe { Integers(_mm256_setzero_si256(), _mm256_setzero_si256()) }
        }
        #[inline(always)]
        unsafe fn load_sums(p: *const i32) -> Integers {
            unsafe { load(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store_sums(sums: Integers, p: *mut i32) {
            unsafe { store(sums, p.cast()) }
        }
        #[inline(always)]
        unsafe fn add_sums(a: Integers, b: Integers) -> Integers {
            unsafe { sum(a, b) }
        }
        #[inline(always)]
        unsafe fn load(p: *const i32) -> Integers {
            unsafe { load(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store_lanes(lanes: Integers, p: *mut i32) {
            unsafe { store(lanes, p.cast()) }
        }
        #[inline(always)]
        unsafe fn add(a: Integers, b: Integers) -> Integers {
            unsafe { sum(a, b) }
        }
        #[inline(always)]
        unsafe fn widen(p: *const u8) -> Integers {
            unsafe {
                let bytes = _mm_loadu_si128(p.cast());
                Integers(_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128::<8>(bytes)))
            }
        }
        #[inline(always)]
        unsafe fn spread_lanes<const G: usize>(lanes: Integers, j: usize) -> Integers {
            unsafe {
                let floats = Vector(_mm256_castsi256_ps(lanes.0), _mm256_castsi256_ps(lanes.1));
                let spread = F32x16::spread::<G>(floats, j);
                Integers(_mm256_castps_si256(spread.0), _mm256_castps_si256(spread.1))
            }
        }
        #[inline(always)]
        unsafe fn to_f32(lanes: Integers) -> Vector {
            unsafe { Vector(_mm256_cvtepi32_ps(lanes.0), _mm256_cvtepi32_ps(lanes.1)) }
        }
        #[inline(always)]
        unsafe fn round(values: Vector) -> Integers {
            unsafe { Integers(_mm256_cvtps_epi32(values.0), _mm256_cvtps_epi32(values.1)) }
        }
        #[inline(always)]
        unsafe fn splat(x: i32) -> Integers {
            unsafe { Integers(_mm256_set1_epi32(x), _mm256_set1_epi32(x)) }
        }
        #[inline(always)]
        unsafe fn narrow(lanes: Integers, p: *mut u8) {
            unsafe {
                let words = halve(lanes);
                let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                _mm_storeu_si128(p.cast(), bytes);
            }
        }
        #[inline(always)]
        unsafe fn interleave(lanes: [Integers; 4], p: *mut i32) {
            let join = |a: __m256i, b: __m256i, c: __m256i, d: __m256i| unsafe {
                let low = _mm256_or_si256(a, _mm256_slli_epi32::<8>(b));
                let high = _mm256_or_si256(_mm256_slli_epi32::<16>(c), _mm256_slli_epi32::<24>(d));
                _mm256_or_si256(low, high)
            };
            let [a, b, c, d] = lanes;
            unsafe { store(Integers(join(a.0, b.0, c.0, d.0), join(a.1, b.1, c.1, d.1)), p.cast()) }
        }
        #[inline(always)]
        unsafe fn load_line(p: *const u8) -> Integers {
            unsafe { load(p) }
        }
        #[inline(always)]
        unsafe fn store_line(line: Integers, p: *mut u8) {
            unsafe { store(line, p) }
        }
        #[inline(always)]
        unsafe fn max_line(a: Integers, b: Integers) -> Integers {
            unsafe { Integers(_mm256_max_epu8(a.0, b.0), _mm256_max_epu8(a.1, b.1)) }
        }
    };
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Vnni {
    type Column = Integers;
    type Spread = __m256i;
    const FUSED: bool = true;
    lanes!();
    #[inline(always)]
    unsafe fn column(p: *const i32) -> Integers {
        unsafe { load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(p: *const i32) -> __m256i {
        unsafe { _mm256_set1_epi32(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: Integers, x: __m256i, sums: Integers) -> Integers {
        unsafe { Integers(_mm256_dpbusd_avx_epi32(sums.0, x, column.0), _mm256_dpbusd_avx_epi32(sums.1, x, column.1)) }
    }
    // The upper half of each value is zero, so that of the two products in a lane one is too.
    #[inline(always)]
    unsafe fn multiply_add_lanes(weight: Integers, value: Integers, sum: Integers) -> Integers {
        unsafe { Integers(_mm256_dpwssd_avx_epi32(sum.0, value.0, weight.0), _mm256_dpwssd_avx_epi32(sum.1, value.1, weight.1)) }
    }
}

#[inline(always)]
unsafe fn widen_weights(words: __m256i) -> Halves<__m256i> {
    // SAFETY: the caller has AVX2.
    unsafe { Halves(_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(words)), _mm256_srai_epi16::<8>(words)) }
}

#[inline(always)]
unsafe fn add_pairs(sums: __m256i, weights: Halves<__m256i>, x: Halves<__m256i>) -> __m256i {
    // SAFETY: the caller has AVX2.
    unsafe {
        let products = _mm256_add_epi32(_mm256_madd_epi16(weights.0, x.0), _mm256_madd_epi16(weights.1, x.1));
        _mm256_add_epi32(sums, products)
    }
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Pairs {
    type Column = (Halves<__m256i>, Halves<__m256i>);
    type Spread = Halves<__m256i>;
    lanes!();
    #[inline(always)]
    unsafe fn column(p: *const i32) -> Self::Column {
        unsafe {
            let words = load(p.cast());
            (widen_weights(words.0), widen_weights(words.1))
        }
    }
    #[inline(always)]
    unsafe fn spread(p: *const i32) -> Halves<__m256i> {
        unsafe {
            let words = _mm256_set1_epi32(p.read_unaligned());
            Halves(_mm256_and_si256(words, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(words))
        }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: Self::Column, x: Halves<__m256i>, sums: Integers) -> Integers {
        unsafe { Integers(add_pairs(sums.0, column.0, x), add_pairs(sums.1, column.1, x)) }
    }
    #[inline(always)]
    unsafe fn multiply_add_lanes(weight: Integers, value: Integers, sum: Integers) -> Integers {
        unsafe {
            let products = Integers(_mm256_madd_epi16(value.0, weight.0), _mm256_madd_epi16(value.1, weight.1));
            self::sum(sum, products)
        }
    }
}

/// With AVX-VNNI.
pub(crate) mod vnni {
    use super::*;

    crate::int8::instantiate!(
        #[target_feature(enable = "avx2,fma,avxvnni")]
        Vnni,
        crate::Isa::Avx2,
        name "avx2-vnni",
        tiles [1 x 6],
        depthwise shaped,
        chains 6
    );
}

/// With AVX2 alone.
pub(crate) mod pairs {
    use super::*;

    crate::int8::instantiate!(
        #[target_feature(enable = "avx2,fma")]
        Pairs,
        crate::Isa::Avx2,
        name "avx2",
        tiles [1 x 4],
        depthwise shaped,
        chains 4
    );
}
