//! What functions need beyond arithmetic: comparison with selection, roots, and the bits of floats.
//!
//! Every operation is exact or correctly rounded, so that a function built from them has the same bits on every instruction set.

use crate::simd::F32x16;

/// Sixteen lanes of f32 that can be compared, selected and looked at bit by bit.
///
/// # Safety
/// As [`F32x16`] says.
pub(crate) trait Lanes: F32x16 {
    /// `yes` where `self < b`, else `no`: also where either is NaN.
    unsafe fn if_less(self, b: Self, yes: Self, no: Self) -> Self;
    /// `yes` where `self == b`, else `no`: also where either is NaN.
    unsafe fn if_equal(self, b: Self, yes: Self, no: Self) -> Self;
    /// Square root.
    unsafe fn sqrt(self) -> Self;
    /// Bitwise and.
    unsafe fn and(self, b: Self) -> Self;
    /// Bitwise or.
    unsafe fn or(self, b: Self) -> Self;
    /// Bitwise exclusive or.
    unsafe fn xor(self, b: Self) -> Self;
    /// The bits, 23 places up: an integer in the lowest bits becomes an exponent.
    unsafe fn exponent_up(self) -> Self;
    /// The bits, 23 places down: sign and exponent become an integer in the lowest bits.
    unsafe fn exponent_down(self) -> Self;

    /// All lanes with these bits.
    #[inline(always)]
    unsafe fn splat_bits(bits: u32) -> Self {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { Self::splat(f32::from_bits(bits)) }
    }
    /// Without its sign.
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { self.and(Self::splat_bits(0x7fff_ffff)) }
    }
    /// The other sign.
    #[inline(always)]
    unsafe fn neg(self) -> Self {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { self.xor(Self::splat_bits(0x8000_0000)) }
    }
    /// Its sign bit alone.
    #[inline(always)]
    unsafe fn sign_bit(self) -> Self {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { self.and(Self::splat_bits(0x8000_0000)) }
    }
    /// The lesser of the two; NaN if either is.
    #[inline(always)]
    unsafe fn minimum(self, b: Self) -> Self {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { self.neg().maximum(b.neg()).neg() }
    }
    /// `yes` where `self` is NaN, else `no`.
    #[inline(always)]
    unsafe fn if_nan(self, yes: Self, no: Self) -> Self {
        // SAFETY: the caller keeps the trait's contract.
        unsafe { self.if_equal(self, no, yes) }
    }
    /// The nearest integer, the even one of two; the sign of zero is kept.
    #[inline(always)]
    unsafe fn round_even(self) -> Self {
        // SAFETY: the caller keeps the trait's contract.
        unsafe {
            // From 2^23 on every float is an integer; below, adding 2^23 leaves no bits behind the point.
            let whole = Self::splat(8_388_608.0);
            let a = self.abs();
            let rounded = a.add(whole).sub(whole);
            a.if_less(whole, rounded, a).or(self.sign_bit())
        }
    }
}
