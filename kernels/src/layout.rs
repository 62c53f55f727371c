//! Between what the user sees, dense NCHW, and the buffers of a plan; and strided copies between buffers.

use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{Element, Error, Geometry, Layout};

/// Copies a dense NCHW tensor into a buffer of any layout; clears the buffer's halo and the channels that pad its last block.
///
/// # Errors
/// When a slice has another length than the geometry says, or the executor leaves a part out.
pub fn from_nchw(executor: &dyn Executor, source: &[f32], geometry: &Geometry, destination: &mut [f32]) -> Result<(), Error> {
    let image = Geometry::new(Layout::Nchw, [geometry.n, geometry.c, geometry.h, geometry.w], crate::Halo::NONE)?;
    copy_strided(executor, source, &image, [1, 1], 0, destination, geometry)
}

/// Copies a buffer of any layout into a dense NCHW tensor.
///
/// # Errors
/// When a slice has another length than the geometry says, or the executor leaves a part out.
pub fn to_nchw(executor: &dyn Executor, source: &[f32], geometry: &Geometry, destination: &mut [f32]) -> Result<(), Error> {
    let image = Geometry::new(Layout::Nchw, [geometry.n, geometry.c, geometry.h, geometry.w], crate::Halo::NONE)?;
    // Channels of one pixel follow each other in every layout.
    if geometry.plane_stride() == geometry.layout.lanes() && geometry.layout.element() == Element::F32 {
        geometry.check("source of a copy", source.len())?;
        image.check("destination of a copy", destination.len())?;
        for (to, from) in destination.chunks_exact_mut(geometry.c).zip(source.chunks_exact(geometry.image_stride())) {
            to.copy_from_slice(&from[..geometry.c]);
        }
        return Ok(());
    }
    copy_strided(executor, source, geometry, [1, 1], 0, destination, &image)
}

/// `to[n][c + before][y][x] = from[n][c][y·step][x·step]`, zero in the other channels of `to`; clears the halo of `to`.
///
/// # Errors
/// When the dimensions of `to` are not `n`, at least `c + before`, `⌈h/step⌉`, `⌈w/step⌉`, a slice has another length than
/// its geometry says, or the executor leaves a part out.
pub fn copy_strided(
    executor: &dyn Executor,
    source: &[f32],
    from: &Geometry,
    step: [usize; 2],
    before: usize,
    destination: &mut [f32],
    to: &Geometry,
) -> Result<(), Error> {
    from.check("source of a copy", source.len())?;
    to.check("destination of a copy", destination.len())?;
    let fits = from.layout.element() == Element::F32
        && to.layout.element() == Element::F32
        && step[0] > 0
        && step[1] > 0
        && from.n == to.n
        && before.checked_add(from.c).is_some_and(|c| c <= to.c)
        && [from.h.div_ceil(step[0]), from.w.div_ceil(step[1])] == [to.h, to.w];
    if !fits {
        let reason = format!("step {step:?} and {before} channels in front do not fit");
        return Err(Error::Problem { problem: format!("copy of {from:?} into {to:?}"), reason });
    }
    let lanes = to.layout.lanes();
    let from_lanes = from.layout.lanes();
    let shared = SharedPointer::new(destination);
    let parts = Parts::of(executor);
    parts.share_out_rows(to.n * to.planes() * to.h, &|rows| {
        for index in rows {
            let (n, plane, y) = (index / (to.planes() * to.h), index / to.h % to.planes(), index % to.h);
            if y == 0 {
                // SAFETY: `to` was checked against the destination's length; each plane's first row is one thread's alone, and no
                // row reaches into the halo.
                unsafe { to.clear_halo(shared.as_ptr(), n, plane) };
            }
            let start = to.offset(n, plane, y, 0);
            // SAFETY: a row of the plane that is this thread's, inside the destination.
            let row = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(start), to.w * lanes) };
            for lane in 0..lanes {
                let channel = (plane * lanes + lane).checked_sub(before).filter(|&c| c < from.c);
                let values = row.iter_mut().skip(lane).step_by(lanes);
                let Some(channel) = channel else {
                    values.for_each(|v| *v = 0.0);
                    continue;
                };
                let first = from.offset(n, channel / from_lanes, y * step[0], 0) + channel % from_lanes;
                if (lanes, from_lanes, step[1]) == (1, 1, 1) {
                    row.copy_from_slice(&source[first..][..to.w]);
                    continue;
                }
                for (value, x) in values.zip(source[first..].iter().step_by(step[1].saturating_mul(from_lanes))) {
                    *value = *x;
                }
            }
        }
    })
}

/// Copies `[N, C, H, W]` of any layout into the row-major rows of `[N, C·H·W]`, held as NCHW16c of one pixel.
///
/// # Errors
/// When `to` is not NCHW16c of one pixel and C·H·W channels without a halo, a slice has another length than its geometry says,
/// or the executor leaves a part out.
pub fn flatten(executor: &dyn Executor, source: &[f32], from: &Geometry, destination: &mut [f32], to: &Geometry) -> Result<(), Error> {
    from.check("source of a copy", source.len())?;
    to.check("destination of a copy", destination.len())?;
    let features = from.c * from.h * from.w;
    if to.layout != Layout::Nchw16c || to.halo != crate::Halo::NONE || [to.n, to.c, to.h, to.w] != [from.n, features, 1, 1] {
        let problem = format!("flattening of {from:?} into {to:?}");
        return Err(Error::Problem { problem, reason: "the shapes do not fit".into() });
    }
    let image = Geometry::new(from.layout, [1, from.c, from.h, from.w], from.halo)?;
    for (row, image_data) in destination.chunks_exact_mut(to.image_stride()).zip(source.chunks_exact(from.image_stride())) {
        let (features, padding) = row.split_at_mut(features);
        to_nchw(executor, image_data, &image, features)?;
        padding.fill(0.0);
    }
    Ok(())
}
