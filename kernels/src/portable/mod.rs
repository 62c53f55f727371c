//! Plain Rust. On x86-64 the same code is also compiled with fused multiply-add, for processors that have it: without that,
//! `f32::mul_add` is a call into the C library, correct and slow.

#[cfg(feature = "bf16")]
pub(crate) mod bf16;
#[cfg(feature = "int8")]
pub(crate) mod int8;
mod lanes;

use crate::simd::F32x16;

/// Sixteen floats in an array; the compiler makes vectors of it where it can. FMA says that fused multiply-add is an instruction.
#[derive(Clone, Copy)]
pub(crate) struct Vector<const FMA: bool>([f32; 16]);

/// Whether every processor of the target multiplies and adds in one instruction.
pub(crate) const FMA: bool = cfg!(any(not(target_arch = "x86_64"), target_feature = "fma"));

/// a·b + c by sixteen calls into the C library, which stand here once and not wherever they are needed.
#[inline(never)]
fn multiply_add(a: &[f32; 16], b: &[f32; 16], c: &[f32; 16]) -> [f32; 16] {
    std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
}

macro_rules! lanes {
    ($i:ident => $e:expr) => {{
        let mut out = [0.0f32; 16];
        let mut $i = 0;
        while $i < 16 {
            out[$i] = $e;
            $i += 1;
        }
        Vector(out)
    }};
}

impl<const FMA: bool> F32x16 for Vector<FMA> {
    const REGISTERS: usize = 4;
    const OPERANDS_IN_MEMORY: bool = false;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Vector([x; 16])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the trait's contract: p is valid for sixteen elements.
        Vector(unsafe { p.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn spread<const G: usize>(self, j: usize) -> Self {
        lanes!(i => self.0[i / G * G + j])
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the trait's contract: p is valid for sixteen elements.
        unsafe { p.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        if FMA { lanes!(i => self.0[i].mul_add(b.0[i], c.0[i])) } else { Vector(multiply_add(&self.0, &b.0, &c.0)) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        lanes!(i => self.0[i] + b.0[i])
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        lanes!(i => self.0[i] - b.0[i])
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        lanes!(i => self.0[i] * b.0[i])
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        lanes!(i => self.0[i] / b.0[i])
    }
    #[inline(always)]
    unsafe fn at_least(self, low: Self) -> Self {
        lanes!(i => if low.0[i] > self.0[i] { low.0[i] } else { self.0[i] })
    }
    #[inline(always)]
    unsafe fn at_most(self, high: Self) -> Self {
        lanes!(i => if high.0[i] < self.0[i] { high.0[i] } else { self.0[i] })
    }
    #[inline(always)]
    unsafe fn maximum(self, b: Self) -> Self {
        lanes!(i => if self.0[i].is_nan() || self.0[i] > b.0[i] { self.0[i] } else { b.0[i] })
    }
}

/// Plain code for a processor of which nothing is known.
pub(crate) mod baseline {
    use super::{FMA, Vector};

    crate::table::instantiate!(Vector<FMA>, crate::Isa::Portable, name "portable", tiles [1 x 6], depthwise any, fma_chains 6);
}

/// The same code, compiled for processors with fused multiply-add.
#[cfg(target_arch = "x86_64")]
pub(crate) mod fused {
    use super::Vector;

    crate::table::instantiate!(
        #[target_feature(enable = "avx2,fma")]
        Vector<true>,
        crate::Isa::Portable,
        name "portable-fused",
        tiles [1 x 6],
        depthwise any,
        fma_chains 6
    );
}
