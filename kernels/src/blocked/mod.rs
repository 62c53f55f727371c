//! Ops on activation buffers, in the layouts of a plan: NCHW16c, and some of them NCHW too.
//!
//! Each is prepared once, with all checks, and then run without allocating. Each writes the whole of its output: zeros in the halo
//! and in the channels that pad the last block included.

mod channels;
mod combine;
mod depth;
mod map;
mod norm;
mod resample;
mod window;

pub use channels::Channels;
pub use combine::Combine;
pub use depth::Depth;
pub use map::Map;
pub use norm::{InstanceNorm, Lrn};
pub use resample::Resample;
pub use window::Window;

use crate::Geometry;
use std::ops::Range;

/// Whether the rows of a plane follow each other without a gap.
fn is_gapless(g: &Geometry) -> bool {
    g.row_stride() == g.w * g.layout.lanes()
}

/// Calls `each` with image, plane, first row and number of rows, for some of the rows of all planes of a geometry, counted
/// through; rows of a plane together when `joined`, else one by one.
fn for_stretches(g: &Geometry, rows: Range<usize>, joined: bool, mut each: impl FnMut(usize, usize, usize, usize)) {
    let (planes, height) = (g.planes(), g.h);
    let mut row = rows.start;
    while row < rows.end {
        let (n, plane, y) = (row / (planes * height), row / height % planes, row % height);
        let count = if joined { (height - y).min(rows.end - row) } else { 1 };
        each(n, plane, y, count);
        row += count;
    }
}
