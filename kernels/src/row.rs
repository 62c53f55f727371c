//! Kernels over a row of pixels of a blocked layout: pooling windows, sums, bounds and per-channel affine maps.
//! All are bound by loads and stores, a vector a cycle at best. They compute in f32, whatever is stored.

use crate::simd::F32x16;

/// How sixteen values of a pixel are stored.
///
/// # Safety
/// Both methods may be called only where the processor has the instruction set of the implementing type, with pointers that are valid
/// for sixteen stored values.
pub(crate) trait Stored {
    /// Sixteen floats.
    type Vector: F32x16;
    /// Words that sixteen values take.
    const WORDS: usize;
    /// Reads sixteen values.
    unsafe fn read(p: *const f32) -> Self::Vector;
    /// Writes sixteen values.
    unsafe fn write(values: Self::Vector, p: *mut f32);
}

impl<V: F32x16> Stored for V {
    type Vector = V;
    const WORDS: usize = 16;
    #[inline(always)]
    unsafe fn read(p: *const f32) -> V {
        // SAFETY: the trait's contract, which is that of the vector's.
        unsafe { V::load(p) }
    }
    #[inline(always)]
    unsafe fn write(values: V, p: *mut f32) {
        // SAFETY: as above.
        unsafe { values.store(p) }
    }
}

/// A row of pooling windows of one block. Strides are in words.
pub(crate) struct PoolArgs {
    /// First pixel of the first row that the windows cover.
    pub input: *const f32,
    /// From a row to the next.
    pub row_stride: usize,
    /// Rows that the windows cover, at least 1.
    pub rows: usize,
    /// For each window its first column and the column behind its last; never empty.
    pub columns: *const (usize, usize),
    /// From a column of a window to its next; at least 1.
    pub column_step: usize,
    /// What each window's sum is divided by, less the row's part; not read by a maximum.
    pub column_divisors: *const f32,
    /// The row's part of the divisor.
    pub row_divisor: f32,
    /// Number of windows.
    pub count: usize,
    /// Where the row of results goes.
    pub output: *mut f32,
}

/// A kernel over a row of pooling windows.
///
/// # Safety
/// The processor has the instruction set; every window lies inside the plane that `input` points into, `output` is valid
/// for `count · 16` elements, and no other thread touches it.
pub(crate) type PoolFn = unsafe fn(&PoolArgs);

/// Window maximum; NaN wins, as in PyTorch.
///
/// # Safety
/// As [`PoolFn`] says.
#[inline(always)]
pub(crate) unsafe fn pool_max<S: Stored>(args: &PoolArgs) {
    // SAFETY: the caller keeps PoolFn's contract.
    unsafe {
        for i in 0..args.count {
            let (begin, end) = *args.columns.add(i);
            let mut acc = S::Vector::splat(f32::NEG_INFINITY);
            for y in 0..args.rows {
                let row = args.input.add(y * args.row_stride);
                let mut x = begin;
                while x < end {
                    acc = acc.maximum(S::read(row.add(x * 16)));
                    x += args.column_step;
                }
            }
            S::write(acc, args.output.add(i * 16));
        }
    }
}

/// Window mean: sums of rows, added in order, divided once.
///
/// # Safety
/// As [`PoolFn`] says.
#[inline(always)]
pub(crate) unsafe fn pool_mean<S: Stored>(args: &PoolArgs) {
    // SAFETY: the caller keeps PoolFn's contract.
    unsafe {
        for i in 0..args.count {
            let (begin, end) = *args.columns.add(i);
            let mut acc = S::Vector::splat(0.0);
            for y in 0..args.rows {
                let row = args.input.add(y * args.row_stride);
                let mut sum = S::Vector::splat(0.0);
                let mut x = begin;
                while x < end {
                    sum = sum.add(S::read(row.add(x * 16)));
                    x += args.column_step;
                }
                acc = acc.add(sum);
            }
            let mean = acc.div(S::Vector::splat(*args.column_divisors.add(i) * args.row_divisor));
            S::write(mean, args.output.add(i * 16));
        }
    }
}

/// A row of pixels of one block, element by element. From a pixel to the next it is 16 words.
pub(crate) struct RowArgs {
    /// The first operand.
    pub a: *const f32,
    /// The second operand of a sum; not read otherwise.
    pub b: *const f32,
    /// Sixteen factors, one a channel, of an affine map; not read otherwise.
    pub scale: *const f32,
    /// Sixteen summands, one a channel, of an affine map; not read otherwise.
    pub shift: *const f32,
    /// Bounds of the activation: −∞ and +∞ for none.
    pub clamp: (f32, f32),
    /// Pixels.
    pub count: usize,
    /// Where the results go; may be an operand's own place.
    pub output: *mut f32,
}

/// A kernel over a row of pixels.
///
/// # Safety
/// The processor has the instruction set; the operands that the kernel reads and `output` are valid for `count · 16`
/// elements, `scale` and `shift` for 16, and no other thread touches `output`.
pub(crate) type RowFn = unsafe fn(&RowArgs);

/// `clamp(a + b)`
///
/// # Safety
/// As [`RowFn`] says.
#[inline(always)]
pub(crate) unsafe fn add<S: Stored>(args: &RowArgs) {
    // SAFETY: the caller keeps RowFn's contract.
    unsafe {
        let (low, high) = (S::Vector::splat(args.clamp.0), S::Vector::splat(args.clamp.1));
        for i in 0..args.count {
            let x = S::read(args.a.add(i * 16)).add(S::read(args.b.add(i * 16)));
            S::write(x.at_least(low).at_most(high), args.output.add(i * 16));
        }
    }
}

/// `clamp(a)`
///
/// # Safety
/// As [`RowFn`] says.
#[inline(always)]
pub(crate) unsafe fn clamp<S: Stored>(args: &RowArgs) {
    // SAFETY: the caller keeps RowFn's contract.
    unsafe {
        let (low, high) = (S::Vector::splat(args.clamp.0), S::Vector::splat(args.clamp.1));
        for i in 0..args.count {
            S::write(S::read(args.a.add(i * 16)).at_least(low).at_most(high), args.output.add(i * 16));
        }
    }
}

/// `clamp(a · scale + shift)`, rounded once before the bounds.
///
/// # Safety
/// As [`RowFn`] says.
#[inline(always)]
pub(crate) unsafe fn affine<S: Stored>(args: &RowArgs) {
    // SAFETY: the caller keeps RowFn's contract.
    unsafe {
        let (low, high) = (S::Vector::splat(args.clamp.0), S::Vector::splat(args.clamp.1));
        let (scale, shift) = (S::Vector::load(args.scale), S::Vector::load(args.shift));
        for i in 0..args.count {
            let x = S::read(args.a.add(i * 16)).fma(scale, shift);
            S::write(x.at_least(low).at_most(high), args.output.add(i * 16));
        }
    }
}

/// Reads as F stores, writes as T does.
///
/// # Safety
/// As [`RowFn`] says.
#[cfg(feature = "bf16")]
#[inline(always)]
pub(crate) unsafe fn convert<F: Stored, T: Stored<Vector = F::Vector>>(args: &RowArgs) {
    // SAFETY: the caller keeps RowFn's contract.
    unsafe {
        for i in 0..args.count {
            T::write(F::read(args.a.add(i * 16)), args.output.add(i * 16));
        }
    }
}
