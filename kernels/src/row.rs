//! Kernels over a row of NCHW16c pixels: pooling windows, sums, bounds and per-channel affine maps.
//! All are bound by loads and stores, a vector a cycle at best.

use crate::simd::F32x16;

/// A row of pooling windows of one block. Strides are in elements.
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
pub(crate) unsafe fn pool_max<V: F32x16>(args: &PoolArgs) {
    // SAFETY: the caller keeps PoolFn's contract.
    unsafe {
        for i in 0..args.count {
            let (begin, end) = *args.columns.add(i);
            let mut acc = V::splat(f32::NEG_INFINITY);
            for y in 0..args.rows {
                let row = args.input.add(y * args.row_stride);
                let mut x = begin;
                while x < end {
                    acc = acc.maximum(V::load(row.add(x * 16)));
                    x += args.column_step;
                }
            }
            acc.store(args.output.add(i * 16));
        }
    }
}

/// Window mean: sums of rows, added in order, divided once.
///
/// # Safety
/// As [`PoolFn`] says.
#[inline(always)]
pub(crate) unsafe fn pool_mean<V: F32x16>(args: &PoolArgs) {
    // SAFETY: the caller keeps PoolFn's contract.
    unsafe {
        for i in 0..args.count {
            let (begin, end) = *args.columns.add(i);
            let mut acc = V::splat(0.0);
            for y in 0..args.rows {
                let row = args.input.add(y * args.row_stride);
                let mut sum = V::splat(0.0);
                let mut x = begin;
                while x < end {
                    sum = sum.add(V::load(row.add(x * 16)));
                    x += args.column_step;
                }
                acc = acc.add(sum);
            }
            acc.div(V::splat(*args.column_divisors.add(i) * args.row_divisor)).store(args.output.add(i * 16));
        }
    }
}

/// A row of pixels of one block, element by element.
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
pub(crate) unsafe fn add<V: F32x16>(args: &RowArgs) {
    // SAFETY: the caller keeps RowFn's contract.
    unsafe {
        let (low, high) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        for i in 0..args.count {
            let x = V::load(args.a.add(i * 16)).add(V::load(args.b.add(i * 16)));
            x.at_least(low).at_most(high).store(args.output.add(i * 16));
        }
    }
}

/// `clamp(a)`
///
/// # Safety
/// As [`RowFn`] says.
#[inline(always)]
pub(crate) unsafe fn clamp<V: F32x16>(args: &RowArgs) {
    // SAFETY: the caller keeps RowFn's contract.
    unsafe {
        let (low, high) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        for i in 0..args.count {
            V::load(args.a.add(i * 16)).at_least(low).at_most(high).store(args.output.add(i * 16));
        }
    }
}

/// `clamp(a · scale + shift)`, rounded once before the bounds.
///
/// # Safety
/// As [`RowFn`] says.
#[inline(always)]
pub(crate) unsafe fn affine<V: F32x16>(args: &RowArgs) {
    // SAFETY: the caller keeps RowFn's contract.
    unsafe {
        let (low, high) = (V::splat(args.clamp.0), V::splat(args.clamp.1));
        let (scale, shift) = (V::load(args.scale), V::load(args.shift));
        for i in 0..args.count {
            V::load(args.a.add(i * 16)).fma(scale, shift).at_least(low).at_most(high).store(args.output.add(i * 16));
        }
    }
}
