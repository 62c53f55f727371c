//! Comparison, selection and bits in q registers.

use super::Vector;
use crate::function::lanes::Lanes;
use std::arch::aarch64::*;

macro_rules! quarters {
    ($f:ident, $a:expr $(, $b:expr)*) => {
        Vector($f($a.0 $(, $b.0)*), $f($a.1 $(, $b.1)*), $f($a.2 $(, $b.2)*), $f($a.3 $(, $b.3)*))
    };
}

// SAFETY (all blocks of this impl): the trait's contract gives the instruction set.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Lanes for Vector {
    #[inline(always)]
    unsafe fn if_less(self, b: Self, yes: Self, no: Self) -> Self {
        unsafe { quarters!(if_less, self, b, yes, no) }
    }
    #[inline(always)]
    unsafe fn if_equal(self, b: Self, yes: Self, no: Self) -> Self {
        unsafe { quarters!(if_equal, self, b, yes, no) }
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        unsafe { quarters!(vsqrtq_f32, self) }
    }
    #[inline(always)]
    unsafe fn and(self, b: Self) -> Self {
        unsafe { quarters!(and, self, b) }
    }
    #[inline(always)]
    unsafe fn or(self, b: Self) -> Self {
        unsafe { quarters!(or, self, b) }
    }
    #[inline(always)]
    unsafe fn xor(self, b: Self) -> Self {
        unsafe { quarters!(xor, self, b) }
    }
    #[inline(always)]
    unsafe fn exponent_up(self) -> Self {
        unsafe { quarters!(up, self) }
    }
    #[inline(always)]
    unsafe fn exponent_down(self) -> Self {
        unsafe { quarters!(down, self) }
    }
}

// SAFETY (of the functions below): called only from `Vector`, whose contract gives NEON.

#[inline(always)]
unsafe fn if_less(a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
    // SAFETY: see above.
    unsafe { vbslq_f32(vcltq_f32(a, b), yes, no) }
}

#[inline(always)]
unsafe fn if_equal(a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
    // SAFETY: see above.
    unsafe { vbslq_f32(vceqq_f32(a, b), yes, no) }
}

macro_rules! bitwise {
    ($name:ident, |$a:ident $(, $b:ident)?| $e:expr) => {
        #[inline(always)]
        unsafe fn $name($a: float32x4_t $(, $b: float32x4_t)?) -> float32x4_t {
            // SAFETY: see above.
            unsafe {
                let $a = vreinterpretq_u32_f32($a);
                $(let $b = vreinterpretq_u32_f32($b);)?
                vreinterpretq_f32_u32($e)
            }
        }
    };
}

bitwise!(and, |a, b| vandq_u32(a, b));
bitwise!(or, |a, b| vorrq_u32(a, b));
bitwise!(xor, |a, b| veorq_u32(a, b));
bitwise!(up, |a| vshlq_n_u32::<23>(a));
bitwise!(down, |a| vshrq_n_u32::<23>(a));
