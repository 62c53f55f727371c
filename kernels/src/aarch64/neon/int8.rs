//! Bytes in NEON registers: with `sdot` four products a lane and instruction, without it by products of 16 bits.
//!
//! Both multiply signed bytes, so that the unsigned ones come less 128, which the bias makes up for.
//!
//! Bound with `sdot`: as many a cycle as FMAs, each 16 products. Without: `smull` twice and `sadalp` twice for 16 products, the two
//! halves of each word in sums of their own.

use super::Vector;
use crate::int8::{Bytes, Int8};
use crate::simd::F32x16;
use std::arch::aarch64::*;
use std::arch::asm;

/// With the dot product extension.
#[derive(Clone, Copy)]
pub(crate) struct Dot;

/// With NEON alone.
#[derive(Clone, Copy)]
pub(crate) struct Pairs;

/// Four q registers of integers.
#[derive(Clone, Copy)]
pub(crate) struct Integers([int32x4_t; 4]);

/// For each of sixteen sums the halves that it is the sum of, side by side.
#[derive(Clone, Copy)]
pub(crate) struct Halves([int32x4_t; 8]);

/// Four q registers of bytes.
#[derive(Clone, Copy)]
pub(crate) struct Quads([int8x16_t; 4]);

#[inline(always)]
unsafe fn load(p: *const i32) -> Integers {
    // SAFETY: the caller has NEON and sixteen integers.
    unsafe { Integers([vld1q_s32(p), vld1q_s32(p.add(4)), vld1q_s32(p.add(8)), vld1q_s32(p.add(12))]) }
}

#[inline(always)]
unsafe fn store(v: Integers, p: *mut i32) {
    for (i, v) in v.0.into_iter().enumerate() {
        // SAFETY: the caller has NEON and sixteen integers.
        unsafe { vst1q_s32(p.add(i * 4), v) }
    }
}

#[inline(always)]
unsafe fn sum(a: Integers, b: Integers) -> Integers {
    // SAFETY: the caller has NEON.
    Integers(std::array::from_fn(|i| unsafe { vaddq_s32(a.0[i], b.0[i]) }))
}

#[inline(always)]
unsafe fn quads(p: *const i32) -> Quads {
    // SAFETY: the caller has NEON and sixteen words.
    Quads(std::array::from_fn(|i| unsafe { vld1q_s8(p.cast::<i8>().add(i * 16)) }))
}

/// A word in all lanes, each byte less 128.
#[inline(always)]
unsafe fn spread(p: *const i32) -> int8x16_t {
    // SAFETY: the caller has NEON and one word.
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(p.read_unaligned() ^ 0x8080_8080_u32 as i32)) }
}

/// What both have in common.
macro_rules! lanes {
    () => {
        type Float = Vector;
        type Lanes = Integers;
        type Column = Quads;
        type Spread = int8x16_t;
        type Line = [uint8x16_t; 4];
        const OFFSET: i32 = 128;
        #[inline(always)]
        unsafe fn column(p: *const i32) -> Quads {
            unsafe { quads(p) }
        }
        #[inline(always)]
        unsafe fn spread(p: *const i32) -> int8x16_t {
            unsafe { spread(p) }
        }
        #[inline(always)]
        unsafe fn load(p: *const i32) -> Integers {
            unsafe { load(p) }
        }
        #[inline(always)]
        unsafe fn store_lanes(lanes: Integers, p: *mut i32) {
            unsafe { store(lanes, p) }
        }
        #[inline(always)]
        unsafe fn add(a: Integers, b: Integers) -> Integers {
            unsafe { sum(a, b) }
        }
        #[inline(always)]
        unsafe fn widen(p: *const u8) -> Integers {
            unsafe {
                let bytes = vld1q_u8(p);
                let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes)));
                Integers([
                    vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))),
                    vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(low))),
                    vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))),
                    vreinterpretq_s32_u32(vmovl_u16(vget_high_u16(high))),
                ])
            }
        }
        #[inline(always)]
        unsafe fn multiply_add_lanes(weight: Integers, value: Integers, sum: Integers) -> Integers {
            Integers(std::array::from_fn(|i| unsafe { vmlaq_s32(sum.0[i], weight.0[i], value.0[i]) }))
        }
        #[inline(always)]
        unsafe fn spread_lanes<const G: usize>(lanes: Integers, j: usize) -> Integers {
            unsafe {
                let [a, b, c, d] = lanes.0.map(|v| vreinterpretq_f32_s32(v));
                let spread = F32x16::spread::<G>(Vector(a, b, c, d), j);
                Integers([spread.0, spread.1, spread.2, spread.3].map(|v| vreinterpretq_s32_f32(v)))
            }
        }
        #[inline(always)]
        unsafe fn to_f32(lanes: Integers) -> Vector {
            let [a, b, c, d] = lanes.0.map(|v| unsafe { vcvtq_f32_s32(v) });
            Vector(a, b, c, d)
        }
        #[inline(always)]
        unsafe fn round(values: Vector) -> Integers {
            Integers([values.0, values.1, values.2, values.3].map(|v| unsafe { vcvtnq_s32_f32(v) }))
        }
        #[inline(always)]
        unsafe fn splat(x: i32) -> Integers {
            Integers([unsafe { vdupq_n_s32(x) }; 4])
        }
        #[inline(always)]
        unsafe fn narrow(lanes: Integers, p: *mut u8) {
            unsafe {
                let [a, b, c, d] = lanes.0.map(|v| vmovn_s32(v));
                let (low, high) = (vcombine_s16(a, b), vcombine_s16(c, d));
                vst1q_u8(p, vcombine_u8(vqmovun_s16(low), vqmovun_s16(high)));
            }
        }
        #[inline(always)]
        unsafe fn interleave(lanes: [Integers; 4], p: *mut i32) {
            for i in 0..4 {
                unsafe {
                    let low = vorrq_s32(lanes[0].0[i], vshlq_n_s32::<8>(lanes[1].0[i]));
                    let high = vorrq_s32(vshlq_n_s32::<16>(lanes[2].0[i]), vshlq_n_s32::<24>(lanes[3].0[i]));
                    vst1q_s32(p.add(i * 4), vorrq_s32(low, high));
                }
            }
        }
        #[inline(always)]
        unsafe fn load_line(p: *const u8) -> [uint8x16_t; 4] {
            std::array::from_fn(|i| unsafe { vld1q_u8(p.add(i * 16)) })
        }
        #[inline(always)]
        unsafe fn store_line(line: [uint8x16_t; 4], p: *mut u8) {
            for (i, line) in line.into_iter().enumerate() {
                unsafe { vst1q_u8(p.add(i * 16), line) }
            }
        }
        #[inline(always)]
        unsafe fn max_line(a: [uint8x16_t; 4], b: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
            std::array::from_fn(|i| unsafe { vmaxq_u8(a[i], b[i]) })
        }
    };
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Dot {
    type Sums = Integers;
    const FUSED: bool = true;
    lanes!();
    #[inline(always)]
    unsafe fn zero() -> Integers {
        Integers([unsafe { vdupq_n_s32(0) }; 4])
    }
    #[inline(always)]
    unsafe fn load_sums(p: *const i32) -> Integers {
        unsafe { load(p) }
    }
    #[inline(always)]
    unsafe fn store_sums(sums: Integers, p: *mut i32) {
        unsafe { store(sums, p) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: Integers, b: Integers) -> Integers {
        unsafe { sum(a, b) }
    }
    #[inline(always)]
    unsafe fn multiply_add(column: Quads, x: int8x16_t, sums: Integers) -> Integers {
        let mut out = sums;
        for i in 0..4 {
            // The intrinsic is not stable.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {0:v}.4s, {1:v}.16b, {2:v}.16b",
                    inout(vreg) out.0[i], in(vreg) column.0[i], in(vreg) x,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
        }
        out
    }
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set and the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Int8 for Pairs {
    type Sums = Halves;
    lanes!();
    #[inline(always)]
    unsafe fn zero() -> Halves {
        Halves([unsafe { vdupq_n_s32(0) }; 8])
    }
    #[inline(always)]
    unsafe fn load_sums(p: *const i32) -> Halves {
        unsafe {
            let zero = vdupq_n_s32(0);
            let whole = load(p).0;
            Halves(std::array::from_fn(|i| if i % 2 == 0 { vzip1q_s32(whole[i / 2], zero) } else { vzip2q_s32(whole[i / 2], zero) }))
        }
    }
    #[inline(always)]
    unsafe fn store_sums(sums: Halves, p: *mut i32) {
        unsafe { store(Integers(std::array::from_fn(|i| vpaddq_s32(sums.0[2 * i], sums.0[2 * i + 1]))), p) }
    }
    #[inline(always)]
    unsafe fn add_sums(a: Halves, b: Halves) -> Halves {
        Halves(std::array::from_fn(|i| unsafe { vaddq_s32(a.0[i], b.0[i]) }))
    }
    #[inline(always)]
    unsafe fn multiply_add(column: Quads, x: int8x16_t, sums: Halves) -> Halves {
        let mut out = sums;
        for i in 0..4 {
            unsafe {
                // A product is no less than −16256 and no more than 16384, and two of these are added up in 32 bits.
                out.0[2 * i] = vpadalq_s16(out.0[2 * i], vmull_s8(vget_low_s8(column.0[i]), vget_low_s8(x)));
                out.0[2 * i + 1] = vpadalq_s16(out.0[2 * i + 1], vmull_high_s8(column.0[i], x));
            }
        }
        out
    }
}

/// With the dot product extension.
pub(crate) mod dot {
    use super::*;

    crate::int8::instantiate!(
        #[target_feature(enable = "neon,dotprod")]
        Dot,
        crate::Isa::Neon,
        name "neon-dotprod",
        tiles [1 x 6],
        depthwise shaped,
        chains 6
    );
}

/// With NEON alone.
pub(crate) mod pairs {
    use super::*;

    crate::int8::instantiate!(
        #[target_feature(enable = "neon")]
        Pairs,
        crate::Isa::Neon,
        name "neon",
        tiles [1 x 3],
        depthwise shaped,
        chains 3
    );
}
