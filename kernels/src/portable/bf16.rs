//! Bfloat16 widened to f32 in plain Rust.

use super::{FMA, Vector};
use crate::bf16::{Bf16, Halves, bf16_bits, bf16_value};
use crate::simd::F32x16;

/// Sixteen floats in an array.
#[derive(Clone, Copy)]
pub(crate) struct Plain<const FMA: bool>;

// SAFETY (all blocks of this impl): the trait's contract gives the validity of pointers.
#[allow(clippy::undocumented_unsafe_blocks)]
impl<const FMA: bool> Bf16 for Plain<FMA> {
    type Float = Vector<FMA>;
    type Column = (Vector<FMA>, Vector<FMA>);
    type Spread = (Vector<FMA>, Vector<FMA>);
    #[inline(always)]
    unsafe fn column(p: *const f32) -> (Vector<FMA>, Vector<FMA>) {
        let words = unsafe { p.cast::<[[u16; 2]; 16]>().read_unaligned() };
        (Vector(words.map(|[first, _]| bf16_value(first))), Vector(words.map(|[_, second]| bf16_value(second))))
    }
    #[inline(always)]
    unsafe fn spread(p: *const f32) -> (Vector<FMA>, Vector<FMA>) {
        let [first, second] = unsafe { p.cast::<[u16; 2]>().read_unaligned() };
        (Vector([bf16_value(first); 16]), Vector([bf16_value(second); 16]))
    }
    #[inline(always)]
    unsafe fn multiply_add(column: (Vector<FMA>, Vector<FMA>), x: (Vector<FMA>, Vector<FMA>), sums: Vector<FMA>) -> Vector<FMA> {
        unsafe { column.0.fma(x.0, column.1.fma(x.1, sums)) }
    }
    #[inline(always)]
    unsafe fn widen(p: *const u16) -> Vector<FMA> {
        Vector(unsafe { p.cast::<[u16; 16]>().read_unaligned() }.map(bf16_value))
    }
    #[inline(always)]
    unsafe fn narrow(values: Vector<FMA>, p: *mut u16) {
        unsafe { p.cast::<[u16; 16]>().write_unaligned(values.0.map(bf16_bits)) }
    }
}

/// Plain code for a processor of which nothing is known.
pub(crate) mod baseline {
    use super::*;

    crate::bf16::instantiate!(Plain<FMA>, crate::Isa::Portable, name "portable", tiles [1 x 4], depthwise any, chains 4);
}

/// The same code, compiled for processors with fused multiply-add.
#[cfg(target_arch = "x86_64")]
pub(crate) mod fused {
    use super::*;

    crate::bf16::instantiate!(
        #[target_feature(enable = "avx2,fma")]
        Plain<true>,
        crate::Isa::Portable,
        name "portable-fused",
        tiles [1 x 4],
        depthwise any,
        chains 4
    );
}
