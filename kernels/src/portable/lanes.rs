//! Comparison, selection and bits, lane by lane.

use super::Vector;
use crate::function::lanes::Lanes;

macro_rules! each {
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

impl<const FMA: bool> Lanes for Vector<FMA> {
    #[inline(always)]
    unsafe fn if_less(self, b: Self, yes: Self, no: Self) -> Self {
        each!(i => if self.0[i] < b.0[i] { yes.0[i] } else { no.0[i] })
    }
    #[inline(always)]
    unsafe fn if_equal(self, b: Self, yes: Self, no: Self) -> Self {
        each!(i => if self.0[i] == b.0[i] { yes.0[i] } else { no.0[i] })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        each!(i => self.0[i].sqrt())
    }
    #[inline(always)]
    unsafe fn and(self, b: Self) -> Self {
        each!(i => f32::from_bits(self.0[i].to_bits() & b.0[i].to_bits()))
    }
    #[inline(always)]
    unsafe fn or(self, b: Self) -> Self {
        each!(i => f32::from_bits(self.0[i].to_bits() | b.0[i].to_bits()))
    }
    #[inline(always)]
    unsafe fn xor(self, b: Self) -> Self {
        each!(i => f32::from_bits(self.0[i].to_bits() ^ b.0[i].to_bits()))
    }
    #[inline(always)]
    unsafe fn exponent_up(self) -> Self {
        each!(i => f32::from_bits(self.0[i].to_bits() << 23))
    }
    #[inline(always)]
    unsafe fn exponent_down(self) -> Self {
        each!(i => f32::from_bits(self.0[i].to_bits() >> 23))
    }
}
