//! Bytes in zmm registers: with VNNI four products a lane and instruction, without it by pairs of 16-bit products.
//!
//! Bound with VNNI: `vpdpbusd`, as many a cycle as FMAs, each 64 products. Without: `vpmaddwd` twice and two sums for 64 products.
//! (`vpmaddubsw` would do it in one, but saturates.)

use super::Vector;
use crate::int8::{Bytes, Int8};
use std::arch::x86_64::*;

/// With AVX-512 VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Vnni;

/// With AVX-512 BW alone.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

/// Bytes 0 and 2, and bytes 1 and 3, of each word as 16-bit integers.
#[derive(Clone, Copy)]
pub(crate) struct Halves(__m512i, __m512i);

/// No instruction, but one that has its operand in a register.
#[inline]
#[target_feature(enable = "avx512f")]
fn hold(mut sums: __m512i) -> __m512i {
    // SAFETY: nothing is executed.
    unsafe { std::arch::asm!("/* {} */", inout(zmm_reg) sums, options(nomem, nostack, preserves_flags)) };
    sums
}

/// What both have in common.
macro_rules! lanes {
    () => {
        type Float = Vector;
        type Lanes = __m512i;
        type Sums = __m512i;
        type Line = __m512i;
        const OFFSET: i32 = 0;
        #[inline(always)]
        unsafe fn zero() -> __m512i {
            unsafe { _mm512_setzero_si512() }
        }
        #[inline(always)]
        unsafe fn load_sums(p: *const i32) -> __m512i {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store_sums(sums: __m512i, p: *mut i32) {
            unsafe { _mm512_storeu_si512(p.cast(), sums) }
        }
        #[inline(always)]
        unsafe fn add_sums(a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_add_epi32(a, b) }
        }
        #[inline(always)]
        unsafe fn lanes(sums: __m512i) -> __m512i {
            sums
        }
        #[inline(always)]
        unsafe fn load(p: *const i32) -> __m512i {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store_lanes(lanes: __m512i, p: *mut i32) {
            unsafe { _mm512_storeu_si512(p.cast(), lanes) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_add_epi32(a, b) }
        }
        #[inline(always)]
        unsafe fn widen(p: *const u8) -> __m512i {
            unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())) }
        }
        #[inline(always)]
        unsafe fn spread_lanes<const G: usize>(lanes: __m512i, j: usize) -> __m512i {
            use crate::simd::F32x16;
            unsafe { _mm512_castps_si512(F32x16::spread::<G>(Vector(_mm512_castsi512_ps(lanes)), j).0) }
        }
        #[inline(always)]
        unsafe fn to_f32(lanes: __m512i) -> Vector {
            Vector(unsafe { _mm512_cvtepi32_ps(lanes) })
        }
        // Rounds as MXCSR says: to nearest, ties to even, which is the default, and what Rust code runs under (`denormals.rs` leaves it).
        #[inline(always)]
        unsafe fn round(values: Vector) -> __m512i {
            unsafe { _mm512_cvtps_epi32(values.0) }
        }
        #[inline(always)]
        unsafe fn splat(x: i32) -> __m512i {
            unsafe { _mm512_set1_epi32(x) }
        }
        #[inline(always)]
        unsafe fn narrow(lanes: __m512i, p: *mut u8) {
            unsafe { _mm_storeu_si128(p.cast(), _mm512_cvtepi32_epi8(lanes)) }
        }
        /// Packs within each quarter of the registers, then puts the quarters' words in order.
        #[inline(always)]
        unsafe fn narrow_line(lanes: [__m512i; 4], p: *mut u8) {
            const ORDER: [i32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
            unsafe {
                let (low, high) = (_mm512_packus_epi32(lanes[0], lanes[1]), _mm512_packus_epi32(lanes[2], lanes[3]));
                let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
                _mm512_storeu_si512(p.cast(), _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
            }
        }
        /// As above, but that packing saturates: to 16 bits with sign, the zero point added, to bytes without.
        #[inline(always)]
        unsafe fn saturate_line<const SHIFTED: bool>(values: [Vector; 4], zero: i32, p: *mut u8) {
            const ORDER: [i32; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
            unsafe {
                let mut low = _mm512_packs_epi32(_mm512_cvtps_epi32(values[0].0), _mm512_cvtps_epi32(values[1].0));
                let mut high = _mm512_packs_epi32(_mm512_cvtps_epi32(values[2].0), _mm512_cvtps_epi32(values[3].0));
                if SHIFTED {
                    let zero = _mm512_set1_epi16(zero as i16);
                    (low, high) = (_mm512_adds_epi16(low, zero), _mm512_adds_epi16(high, zero));
                }
                let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
                _mm512_storeu_si512(p.cast(), _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high)));
            }
        }
        #[inline(always)]
        unsafe fn interleave(lanes: [__m512i; 4], p: *mut i32) {
            unsafe {
                let low = _mm512_or_si512(lanes[0], _mm512_slli_epi32::<8>(lanes[1]));
                let high = _mm512_or_si512(_mm512_slli_epi32::<16>(lanes[2]), _mm512_slli_epi32::<24>(lanes[3]));
                _mm512_storeu_si512(p.cast(), _mm512_or_si512(low, high));
            }
        }
        #[inline(always)]
        unsafe fn load_line(p: *const u8) -> __m512i {
            unsafe { _mm512_loadu_si512(p.cast()) }
        }
        #[inline(always)]
        unsafe fn store_line(line: __m512i, p: *mut u8) {
            unsafe { _mm512_storeu_si512(p.cast(), line) }
        }
        #[inline(always)]
        unsafe fn max_line(a: __m512i, b: __m512i) -> __m512i {
            unsafe { _mm512_max_epu8(a, b) }
        }
    };
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Vnni {
    type Column = __m512i;
    type Spread = __m512i;
    const FUSED: bool = true;
    lanes!();
    #[inline(always)]
    unsafe fn hold(sums: __m512i) -> __m512i {
        unsafe { hold(sums) }
    }
    #[inline(always)]
    unsafe fn column(p: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(p.cast()) }
    }
    #[inline(always)]
    unsafe fn spread(p: *const i32) -> __m512i {
        unsafe { _mm512_set1_epi32(p.read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: __m512i, x: __m512i, sums: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, x, column) }
    }
    // The upper half of each value is zero, so that of the two products in a lane one is too.
    #[inline(always)]
    unsafe fn multiply_add_lanes(weight: __m512i, value: __m512i, sum: __m512i) -> __m512i {
        unsafe { _mm512_dpwssd_epi32(sum, value, weight) }
    }
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Pairs {
    type Column = Halves;
    type Spread = Halves;
    lanes!();
    #[inline(always)]
    unsafe fn column(p: *const i32) -> Halves {
        unsafe {
            let words = _mm512_loadu_si512(p.cast());
            Halves(_mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(words)), _mm512_srai_epi16::<8>(words))
        }
    }
    #[inline(always)]
    unsafe fn spread(p: *const i32) -> Halves {
        unsafe {
            let words = _mm512_set1_epi32(p.read_unaligned());
            Halves(_mm512_and_si512(words, _mm512_set1_epi16(0xff)), _mm512_srli_epi16::<8>(words))
        }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: Halves, x: Halves, sums: __m512i) -> __m512i {
        unsafe {
            let products = _mm512_add_epi32(_mm512_madd_epi16(column.0, x.0), _mm512_madd_epi16(column.1, x.1));
            _mm512_add_epi32(sums, products)
        }
    }
    #[inline(always)]
    unsafe fn multiply_add_lanes(weight: __m512i, value: __m512i, sum: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(sum, _mm512_madd_epi16(value, weight)) }
    }
}

/// With AVX-512 VNNI.
pub(crate) mod vnni {
    use super::*;

    crate::int8::instantiate!(
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
        Vnni,
        crate::Isa::Avx512,
        name "avx512-vnni",
        tiles [1 x 12, 2 x 12, 3 x 8, 4 x 6],
        depthwise shaped,
        chains 12
    );
}

/// With AVX-512 BW alone.
pub(crate) mod pairs {
    use super::*;

    crate::int8::instantiate!(
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        Pairs,
        crate::Isa::Avx512,
        name "avx512",
        tiles [1 x 6, 2 x 6],
        depthwise any,
        chains 12
    );
}
