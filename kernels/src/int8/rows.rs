//! Kernels over a row of pixels of bytes: pooling windows, sums, and from and to f32. All are bound by loads and stores.

use super::{Int8, to_bytes};
use crate::function::lanes::Lanes;
use crate::row::PoolArgs;
use crate::simd::F32x16;

/// Window maximum of the 64 channels of a plane.
///
/// # Safety
/// As [`PoolFn`](crate::row::PoolFn) says.
#[inline(always)]
pub(crate) unsafe fn pool_max<I: Int8>(args: &PoolArgs) {
    // SAFETY: the caller keeps PoolFn's contract; a window is never empty.
    unsafe {
        for i in 0..args.count {
            let (begin, end) = *args.columns.add(i);
            let mut acc = I::load_line(args.input.add(begin * 16).cast());
            for y in 0..args.rows {
                let row = args.input.add(y * args.row_stride);
                let mut x = begin;
                while x < end {
                    acc = I::max_line(acc, I::load_line(row.add(x * 16).cast()));
                    x += args.column_step;
                }
            }
            I::store_line(acc, args.output.add(i * 16).cast());
        }
    }
}

/// A row of pooling windows of 16 channels whose mean is taken.
pub(crate) struct MeanArgs {
    /// The windows.
    pub pool: PoolArgs,
    /// Scale of the input over that of the output.
    pub scale: f32,
    /// Zero points of input and output.
    pub zeros: [i32; 2],
}

/// A kernel over a row of pooling windows.
///
/// # Safety
/// As [`PoolFn`](crate::row::PoolFn) says, for 16 bytes at each pixel in place of 16 elements.
pub(crate) type MeanFn = unsafe fn(&MeanArgs);

/// Window mean: the exact sum, less the zero point of each element, times `scale / divisor`, rounded.
///
/// # Safety
/// As [`MeanFn`] says.
#[inline(always)]
pub(crate) unsafe fn pool_mean<I: Int8>(args: &MeanArgs) {
    // SAFETY: the caller keeps MeanFn's contract.
    unsafe {
        let (low, high) = (I::Float::splat(-args.zeros[1] as f32), I::Float::splat((255 - args.zeros[1]) as f32));
        let zero = I::splat(args.zeros[1]);
        let windows = &args.pool;
        for i in 0..windows.count {
            let (begin, end) = *windows.columns.add(i);
            let elements = (end - begin).div_ceil(windows.column_step) * windows.rows;
            let mut acc = I::splat((elements as i32).wrapping_mul(-args.zeros[0]));
            for y in 0..windows.rows {
                let row = windows.input.add(y * windows.row_stride);
                let mut x = begin;
                while x < end {
                    acc = I::add(acc, I::widen(row.add(x * 16).cast()));
                    x += windows.column_step;
                }
            }
            let factor = args.scale / (*windows.column_divisors.add(i) * windows.row_divisor);
            let mean = I::to_f32(acc).mul(I::Float::splat(factor)).at_least(low).at_most(high);
            I::narrow(to_bytes::<I>(mean, zero), windows.output.add(i * 16).cast());
        }
    }
}

/// A row of pixels of 16 channels, element by element. All pixels are 16 words apart.
pub(crate) struct ElementArgs {
    /// The first operand: bytes, or f32 where it is quantised.
    pub a: *const f32,
    /// The second operand of a sum; not read otherwise.
    pub b: *const f32,
    /// What the operands are multiplied by; what floats are divided by, or bytes multiplied by, between them.
    pub scales: [f32; 2],
    /// What is added to a sum.
    pub shift: f32,
    /// The zero point of the bytes that are read or written alone, or of a sum.
    pub zero: i32,
    /// Bounds, before the zero point is added.
    pub clamp: (f32, f32),
    /// Pixels.
    pub count: usize,
    /// Where the results go; may be an operand's own place, if that has elements of the same size.
    pub output: *mut f32,
}

/// A kernel over a row of pixels.
///
/// # Safety
/// The processor has the instruction set; at each pixel there are 16 elements of the operands that the kernel reads, and of the
/// output, and no other thread touches these.
pub(crate) type ElementFn = unsafe fn(&ElementArgs);

/// `round(fma(a, scale a, fma(b, scale b, shift))) + zero`
///
/// # Safety
/// As [`ElementFn`] says.
#[inline(always)]
pub(crate) unsafe fn add<I: Int8>(args: &ElementArgs) {
    // SAFETY: the caller keeps ElementFn's contract.
    unsafe {
        let (scale_a, scale_b) = (I::Float::splat(args.scales[0]), I::Float::splat(args.scales[1]));
        let shift = I::Float::splat(args.shift);
        let (low, high, zero) = (I::Float::splat(args.clamp.0), I::Float::splat(args.clamp.1), I::splat(args.zero));
        for i in 0..args.count {
            let a = I::to_f32(I::widen(args.a.add(i * 16).cast()));
            let b = I::to_f32(I::widen(args.b.add(i * 16).cast()));
            let x = a.fma(scale_a, b.fma(scale_b, shift)).at_least(low).at_most(high);
            I::narrow(to_bytes::<I>(x, zero), args.output.add(i * 16).cast());
        }
    }
}

/// `round(a / scale) + zero`; NaN becomes zero.
#[inline(always)]
unsafe fn quantized<I: Int8>(x: I::Float, args: &ElementArgs) -> I::Lanes {
    // SAFETY: the caller has the instruction set.
    unsafe {
        let x = x.div(I::Float::splat(args.scales[0]));
        let number = x.if_equal(x, x, I::Float::splat(0.0));
        let bounded = number.at_least(I::Float::splat(args.clamp.0)).at_most(I::Float::splat(args.clamp.1));
        to_bytes::<I>(bounded, I::splat(args.zero))
    }
}

/// Floats to bytes.
///
/// # Safety
/// As [`ElementFn`] says.
#[inline(always)]
pub(crate) unsafe fn quantize<I: Int8>(args: &ElementArgs) {
    // SAFETY: the caller keeps ElementFn's contract.
    unsafe {
        for i in 0..args.count {
            I::narrow(quantized::<I>(I::Float::load(args.a.add(i * 16)), args), args.output.add(i * 16).cast());
        }
    }
}

/// Bytes to floats: `(a − zero) · scale`.
///
/// # Safety
/// As [`ElementFn`] says.
#[inline(always)]
pub(crate) unsafe fn dequantize<I: Int8>(args: &ElementArgs) {
    // SAFETY: the caller keeps ElementFn's contract.
    unsafe {
        let (scale, zero) = (I::Float::splat(args.scales[0]), I::splat(-args.zero));
        for i in 0..args.count {
            let x = I::to_f32(I::add(I::widen(args.a.add(i * 16).cast()), zero));
            x.mul(scale).store(args.output.add(i * 16));
        }
    }
}

/// Sixteen pixels of planes of floats to words of bytes.
pub(crate) struct PlanesArgs {
    /// A row of each of the four channels of a word; those that do not exist are null, and become zero points.
    pub planes: [*const f32; 4],
    /// What else there is to know; `count` times sixteen pixels are converted.
    pub element: ElementArgs,
}

/// A kernel over a row of pixels.
///
/// # Safety
/// The processor has the instruction set; each plane that is not null is valid for `16 · count` elements and the output for as many
/// words, and no other thread touches these.
pub(crate) type PlanesFn = unsafe fn(&PlanesArgs);

/// Floats of four planes to words of bytes.
///
/// # Safety
/// As [`PlanesFn`] says.
#[inline(always)]
pub(crate) unsafe fn quantize_planes<I: Int8>(args: &PlanesArgs) {
    // SAFETY: the caller keeps PlanesFn's contract.
    unsafe {
        let zero = I::splat(args.element.zero);
        for i in 0..args.element.count {
            let mut bytes = [zero; 4];
            for (bytes, plane) in bytes.iter_mut().zip(args.planes) {
                if !plane.is_null() {
                    *bytes = quantized::<I>(I::Float::load(plane.add(i * 16)), &args.element);
                }
            }
            I::interleave(bytes, args.element.output.add(i * 16).cast());
        }
    }
}
