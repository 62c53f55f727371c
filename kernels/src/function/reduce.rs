//! Kernels that make one number of a row, or use such numbers on a row.
//!
//! Sixteen partial results, those of every [`CHUNK`] vectors added up on their own, and the sixteen combined in a fixed order: one
//! order of summation for every instruction set, and errors that do not grow with the row's length (Higham, Accuracy and Stability
//! of Numerical Algorithms, section 4.2).

use super::lanes::Lanes;
use super::math;

/// Vectors whose sum is one summand of the whole.
const CHUNK: usize = 64;

/// A row of numbers.
pub(crate) struct ReduceArgs {
    /// The numbers.
    pub input: *const f32,
    /// How many.
    pub len: usize,
    /// What is subtracted from each first; not read by [`SUM`] and [`MAX`].
    pub shift: f32,
    /// Where [`EXP_SUM`] writes e^(x − shift); may be the numbers' own place. Not read by the others.
    pub output: *mut f32,
}

/// A kernel that makes one number of a row.
///
/// # Safety
/// The processor has the instruction set; `input`, and for [`EXP_SUM`] `output`, are valid for `len` elements, the same or apart,
/// and no other thread touches `output`.
pub(crate) type ReduceFn = unsafe fn(&ReduceArgs) -> f32;

/// Sum.
pub(crate) const SUM: usize = 0;
/// Maximum; NaN if there is one; −∞ of nothing.
pub(crate) const MAX: usize = 1;
/// Sum of (x − shift)².
pub(crate) const DEVIATION: usize = 2;
/// Sum of e^(x − shift), and each of them into `output`.
pub(crate) const EXP_SUM: usize = 3;

/// Their names, in order.
pub(crate) const REDUCTIONS: [&str; 4] = ["sum", "max", "deviation", "exp_sum"];

/// The reduction numbered K.
///
/// # Safety
/// As [`ReduceFn`] says.
#[inline(always)]
pub(crate) unsafe fn reduce<V: Lanes, const K: usize>(args: &ReduceArgs) -> f32 {
    // SAFETY: the caller keeps ReduceFn's contract; the last few elements go through a buffer of their own, filled up with what does
    // not count.
    unsafe {
        let shift = V::splat(args.shift);
        let neutral = V::splat(if K == MAX { f32::NEG_INFINITY } else { 0.0 });
        let combine = |a: V, b: V| if K == MAX { a.maximum(b) } else { a.add(b) };
        let step = |sum: V, x: V, output: *mut f32| match K {
            DEVIATION => {
                let d = x.sub(shift);
                d.fma(d, sum)
            }
            EXP_SUM => {
                let e = math::exp(x.sub(shift));
                e.store(output);
                sum.add(e)
            }
            _ => combine(sum, x),
        };
        let (vectors, rest) = (args.len / 16, args.len % 16);
        let mut total = neutral;
        let mut i = 0;
        while i < vectors {
            let end = vectors.min(i + CHUNK);
            let mut sum = neutral;
            while i < end {
                sum = step(sum, V::load(args.input.add(i * 16)), args.output.wrapping_add(i * 16));
                i += 1;
            }
            total = combine(total, sum);
        }
        if rest > 0 {
            let filler = match K {
                DEVIATION => args.shift,
                SUM => 0.0,
                _ => f32::NEG_INFINITY,
            };
            let (mut buffer, mut exponentials) = ([filler; 16], [0.0f32; 16]);
            std::ptr::copy_nonoverlapping(args.input.add(vectors * 16), buffer.as_mut_ptr(), rest);
            total = combine(total, step(neutral, V::load(buffer.as_ptr()), exponentials.as_mut_ptr()));
            if K == EXP_SUM {
                std::ptr::copy_nonoverlapping(exponentials.as_ptr(), args.output.add(vectors * 16), rest);
            }
        }
        let mut lanes = [0.0f32; 16];
        total.store(lanes.as_mut_ptr());
        let mut width = 8;
        while width > 0 {
            for i in 0..width {
                let (a, b) = (lanes[i], lanes[i + width]);
                lanes[i] = if K != MAX {
                    a + b
                } else if a.is_nan() || a > b {
                    a
                } else {
                    b
                };
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// A row of numbers to normalise: `(x − mean) · factor · scale + shift`.
pub(crate) struct NormalizeArgs {
    /// The numbers.
    pub input: *const f32,
    /// Where the results go; may be the numbers' own place.
    pub output: *mut f32,
    /// How many.
    pub len: usize,
    /// What is subtracted.
    pub mean: f32,
    /// What the difference is multiplied by.
    pub factor: f32,
    /// A second factor for each number, or sixteen for all when `step` is 0.
    pub scale: *const f32,
    /// A summand for each number, or sixteen for all when `step` is 0.
    pub shift: *const f32,
    /// From sixteen factors to the next: 16 or 0.
    pub step: usize,
}

/// A kernel that normalises a row.
///
/// # Safety
/// The processor has the instruction set; `input` and `output` are valid for `len` elements, the same or apart, `scale` and `shift`
/// for as many or for sixteen, and no other thread touches `output`.
pub(crate) type NormalizeFn = unsafe fn(&NormalizeArgs);

/// `(x − mean) · factor · scale + shift`, the last two in one rounding.
///
/// # Safety
/// As [`NormalizeFn`] says.
#[inline(always)]
pub(crate) unsafe fn normalize<V: Lanes>(args: &NormalizeArgs) {
    // SAFETY: the caller keeps NormalizeFn's contract; the last few elements go through buffers of their own.
    unsafe {
        let (mean, factor) = (V::splat(args.mean), V::splat(args.factor));
        let value = |x: V, scale: V, shift: V| x.sub(mean).mul(factor).fma(scale, shift);
        let (vectors, rest) = (args.len / 16, args.len % 16);
        for i in 0..vectors {
            let (scale, shift) = (V::load(args.scale.add(i * args.step)), V::load(args.shift.add(i * args.step)));
            value(V::load(args.input.add(i * 16)), scale, shift).store(args.output.add(i * 16));
        }
        if rest > 0 {
            let tail = |data: *const f32, step: usize| {
                let mut buffer = [0.0f32; 16];
                std::ptr::copy_nonoverlapping(data.add(vectors * step), buffer.as_mut_ptr(), if step == 0 { 16 } else { rest });
                V::load(buffer.as_ptr())
            };
            let mut buffer = [0.0f32; 16];
            value(tail(args.input, 16), tail(args.scale, args.step), tail(args.shift, args.step)).store(buffer.as_mut_ptr());
            std::ptr::copy_nonoverlapping(buffer.as_ptr(), args.output.add(vectors * 16), rest);
        }
    }
}
