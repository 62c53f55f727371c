//! A kernel that sums a block of channels over some rows, lane by lane.

use super::lanes::Lanes;

/// Rows of one block.
pub(crate) struct LaneSumsArgs {
    /// The first pixel.
    pub input: *const f32,
    /// From a row to the next.
    pub row_stride: usize,
    /// How many rows.
    pub rows: usize,
    /// Pixels of a row.
    pub count: usize,
    /// Sixteen numbers to subtract first, where squares are summed.
    pub shift: *const f32,
    /// Where the sixteen sums go.
    pub output: *mut f32,
}

/// A kernel over rows of one block.
///
/// # Safety
/// The processor has the instruction set; the rows are inside what `input` points into, `shift` is valid for sixteen elements where
/// squares are summed, `output` for sixteen, and no other thread touches it.
pub(crate) type LaneSumsFn = unsafe fn(&LaneSumsArgs);

/// Sums of x (K = 0), or of (x − shift)² (K = 1): those of each row, added up.
///
/// # Safety
/// As [`LaneSumsFn`] says.
#[inline(always)]
pub(crate) unsafe fn lane_sums<V: Lanes, const K: usize>(args: &LaneSumsArgs) {
    // SAFETY: the caller keeps LaneSumsFn's contract.
    unsafe {
        let shift = if K == 0 { V::splat(0.0) } else { V::load(args.shift) };
        let mut total = V::splat(0.0);
        for y in 0..args.rows {
            let row = args.input.add(y * args.row_stride);
            let mut sum = V::splat(0.0);
            for x in 0..args.count {
                let value = V::load(row.add(x * 16));
                sum = if K == 0 {
                    sum.add(value)
                } else {
                    let d = value.sub(shift);
                    d.fma(d, sum)
                };
            }
            total = total.add(sum);
        }
        total.store(args.output);
    }
}
