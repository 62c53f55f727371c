//! A kernel for weighted sums of neighbouring pixels: what interpolation comes to.

use super::lanes::Lanes;

/// A row of results in one block of channels.
pub(crate) struct ResampleArgs {
    /// The first pixel of the input's plane.
    pub input: *const f32,
    /// Offsets of the rows that are summed up.
    pub rows: *const usize,
    /// A weight for each.
    pub row_weights: *const f32,
    /// How many rows; at least 1.
    pub row_count: usize,
    /// For each result the column of the first pixel.
    pub columns: *const usize,
    /// `taps` weights for each result.
    pub column_weights: *const f32,
    /// Pixels side by side that a result is made of; at least 1.
    pub taps: usize,
    /// Number of results.
    pub count: usize,
    /// Where they go.
    pub output: *mut f32,
}

/// A kernel over a row of results.
///
/// # Safety
/// The processor has the instruction set; every pixel that is named lies inside the plane that `input` points into, `output` is valid
/// for `count · 16` elements, and no other thread touches it.
pub(crate) type ResampleFn = unsafe fn(&ResampleArgs);

/// Sums along the columns first, then along the rows, each a chain of multiply-adds; a single weight of 1 changes nothing.
///
/// # Safety
/// As [`ResampleFn`] says.
#[inline(always)]
pub(crate) unsafe fn resample<V: Lanes>(args: &ResampleArgs) {
    // SAFETY: the caller keeps ResampleFn's contract.
    unsafe {
        for i in 0..args.count {
            let column = args.input.add(*args.columns.add(i) * 16);
            let weights = args.column_weights.add(i * args.taps);
            let mut sum = V::splat(0.0);
            for j in 0..args.row_count {
                let pixels = column.add(*args.rows.add(j));
                let mut along = V::load(pixels).mul(V::splat(*weights));
                for k in 1..args.taps {
                    along = V::load(pixels.add(k * 16)).fma(V::splat(*weights.add(k)), along);
                }
                let weight = V::splat(*args.row_weights.add(j));
                sum = if j == 0 { along.mul(weight) } else { along.fma(weight, sum) };
            }
            sum.store(args.output.add(i * 16));
        }
    }
}
