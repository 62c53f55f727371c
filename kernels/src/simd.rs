//! Sixteen f32 lanes: the one vector type that kernels are written in.
//!
//! A block of NCHW16c is one [`F32x16`] on every instruction set, so a kernel is written once and instantiated by
//! [`crate::table`] inside functions that carry the right `#[target_feature]`. All operations round as IEEE 754 says and
//! [`F32x16::fma`] rounds once, which is what makes results bitwise equal between instruction sets.

/// Sixteen lanes of f32.
///
/// # Safety
/// Every method may be called only where the processor has the instruction set of the implementing type. Pointers need not
/// be aligned, but must be valid for sixteen elements.
pub(crate) trait F32x16: Copy {
    /// Values of this type that the registers hold.
    const REGISTERS: usize;
    /// Whether a multiply-add can take an operand from memory, which then needs no register.
    const OPERANDS_IN_MEMORY: bool;
    /// All lanes equal.
    unsafe fn splat(x: f32) -> Self;
    /// Reads sixteen elements.
    unsafe fn load(p: *const f32) -> Self;
    /// Asks for the cache line at an address, which may be any: nothing is read.
    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
    /// Likewise, but for the second level of cache: it is needed later.
    #[inline(always)]
    unsafe fn prefetch_far(_: *const f32) {}
    /// Gives each lane the `j`-th lane of its group of G neighbours: G is 4 or 8, j below it.
    unsafe fn spread<const G: usize>(self, j: usize) -> Self;
    /// Writes sixteen elements.
    unsafe fn store(self, p: *mut f32);
    /// `self * b + c`, rounded once.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// Lane by lane sum.
    unsafe fn add(self, b: Self) -> Self;
    /// Lane by lane difference.
    unsafe fn sub(self, b: Self) -> Self;
    /// Lane by lane product.
    unsafe fn mul(self, b: Self) -> Self;
    /// Lane by lane quotient.
    unsafe fn div(self, b: Self) -> Self;
    /// `low` where `low > self`, else `self`: a lower bound that lets NaN pass.
    unsafe fn at_least(self, low: Self) -> Self;
    /// `high` where `high < self`, else `self`: an upper bound that lets NaN pass.
    unsafe fn at_most(self, high: Self) -> Self;
    /// The greater of the two; NaN if either is.
    unsafe fn maximum(self, b: Self) -> Self;
}
