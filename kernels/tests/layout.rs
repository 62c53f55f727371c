//! Conversions and copies between layouts against element-by-element loops, at every number of threads.

mod harness;

use harness::{
    Guarded, Threads, assert_borders_are_zero, at_both_ends, buffer_of, dense_of, for_each, index, noise, noise_with_specials, part_of,
};
use stridewise_kernels::layout::{copy_strided, flatten, from_nchw, to_nchw};
use stridewise_kernels::{AlignedBuffer, Error, Geometry, Halo, Inline, Layout};

/// Numbers of threads to try: many where there is something to share out. Starting them is most of the work where a processor is
/// emulated.
fn threads_for(planes: usize) -> &'static [usize] {
    if planes > 40 { &[1, 2, 3, 5, 16] } else { &[1, 3] }
}

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nchw16c];
const HALOS: [Halo; 3] = [Halo::NONE, Halo { top: 1, left: 1, bottom: 1, right: 1 }, Halo { top: 2, left: 0, bottom: 0, right: 3 }];

/// Channels around a block, single pixels, and a plane of 4 KiB, which gets a line more.
fn shapes() -> Vec<[usize; 4]> {
    let mut shapes = vec![[1, 16, 8, 8], [2, 17, 16, 4]];
    for c in [1, 3, 15, 16, 17, 33] {
        for n in [1, 3] {
            shapes.extend([[n, c, 1, 1], [n, c, 5, 3]]);
        }
    }
    shapes
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// Copies keep every bit, those of NaNs too.
#[test]
fn nchw_goes_into_every_layout_and_back_unchanged() {
    for dims in part_of(shapes()) {
        let dense = noise_with_specials(dims[1] as u64, dims.iter().product());
        for (layout, halo) in LAYOUTS.into_iter().flat_map(|l| HALOS.map(|h| (l, h))) {
            let g = Geometry::new(layout, dims, halo).unwrap();
            for &threads in threads_for(dims[0] * dims[1]) {
                at_both_ends(|_| {
                    let mut buffer = Guarded::filled(g.len(), f32::NAN);
                    from_nchw(&Threads(threads), &Guarded::of(&dense), &g, &mut buffer).unwrap();
                    assert_borders_are_zero(&g, &buffer, &format!("{g:?}"));
                    assert_eq!(bits(&dense_of(&g, &buffer)), bits(&dense), "{g:?}");
                    let mut back = Guarded::filled(dense.len(), 1.0);
                    to_nchw(&Threads(threads), &buffer, &g, &mut back).unwrap();
                    assert_eq!(bits(&back), bits(&dense), "{g:?}");
                });
            }
        }
    }
}

/// Every other pixel and zero channels in front and behind, as in the shortcuts without a projection.
#[test]
fn strided_copies_pick_pixels_and_pad_channels() {
    for (dims, step) in [
        ([1, 3, 1, 1], [1, 1]),
        ([1, 16, 7, 6], [2, 2]),
        ([3, 17, 5, 9], [2, 3]),
        ([1, 33, 4, 4], [5, 1]),
        ([2, 15, 3, 3], [usize::MAX, usize::MAX]),
        ([1, 16, 2, 5], [usize::MAX / 16 + 1; 2]),
    ] {
        let [n, c, h, w] = dims;
        let dense = noise(3, dims.iter().product());
        for (before, after) in [(0, 0), (8, 8), (16, 0), (1, 15), (0, 40), (33, 2)] {
            for (layouts, halo) in LAYOUTS.into_iter().flat_map(|a| LAYOUTS.map(|b| [a, b])).flat_map(|l| HALOS.map(|h| (l, h))) {
                let from = Geometry::new(layouts[0], dims, halo).unwrap();
                let to_dims = [n, before + c + after, h.div_ceil(step[0]), w.div_ceil(step[1])];
                let to = Geometry::new(layouts[1], to_dims, HALOS[1]).unwrap();
                for &threads in threads_for(n * to_dims[1]) {
                    let mut output = Guarded::filled(to.len(), f32::NAN);
                    copy_strided(&Threads(threads), &buffer_of(&from, &dense), &from, step, before, &mut output, &to).unwrap();
                    let context = format!("{from:?} into {to:?}");
                    assert_borders_are_zero(&to, &output, &context);
                    for_each(to_dims, |[n, channel, y, x]| {
                        let inside = channel.checked_sub(before).filter(|s| *s < c);
                        let expected = inside.map_or(0.0, |s| dense[((n * c + s) * h + y * step[0]) * w + x * step[1]]);
                        assert_eq!(output[index(&to, [n, channel, y, x])].to_bits(), expected.to_bits(), "{context}");
                    });
                }
            }
        }
    }
}

#[test]
fn flattening_keeps_nchw_order() {
    for dims in part_of(shapes()) {
        let [n, c, h, w] = dims;
        let dense = noise(4, dims.iter().product());
        for (layout, halo) in LAYOUTS.into_iter().flat_map(|l| HALOS.map(|h| (l, h))) {
            let from = Geometry::new(layout, dims, halo).unwrap();
            let to = Geometry::new(Layout::Nchw16c, [n, c * h * w, 1, 1], Halo::NONE).unwrap();
            for &threads in threads_for(dims[0] * dims[1]) {
                let mut output = Guarded::filled(to.len(), f32::NAN);
                flatten(&Threads(threads), &buffer_of(&from, &dense), &from, &mut output, &to).unwrap();
                assert_borders_are_zero(&to, &output, &format!("{from:?}"));
                assert_eq!(bits(&dense_of(&to, &output)), bits(&dense), "{from:?}");
            }
        }
    }
}

#[test]
fn copies_that_do_not_fit_are_refused() {
    let g = |dims| Geometry::new(Layout::Nchw16c, dims, Halo::NONE).unwrap();
    let from = g([2, 17, 6, 5]);
    let copy =
        |step, before, to: Geometry| copy_strided(&Inline, &vec![0.0; from.len()], &from, step, before, &mut vec![0.0; to.len()], &to);
    assert_eq!(copy([2, 2], 3, g([2, 20, 3, 3])), Ok(()));
    for (step, before, to) in [
        ([0, 1], 0, from),
        ([1, 0], 0, from),
        ([1, 1], 1, from),
        ([1, 1], usize::MAX, from),
        ([1, 1], 0, g([2, 16, 6, 5])),
        ([1, 1], 0, g([1, 17, 6, 5])),
        ([2, 2], 0, g([2, 17, 3, 2])),
        ([2, 2], 0, g([2, 17, 6, 3])),
    ] {
        assert!(matches!(copy(step, before, to), Err(Error::Problem { .. })), "{step:?} {before} {to:?}");
    }
    let flat = |to: Geometry| flatten(&Inline, &vec![0.0; from.len()], &from, &mut vec![0.0; to.len()], &to);
    assert_eq!(flat(g([2, 510, 1, 1])), Ok(()));
    let with_halo = Geometry::new(Layout::Nchw16c, [2, 510, 1, 1], HALOS[1]).unwrap();
    let nchw = Geometry::new(Layout::Nchw, [2, 510, 1, 1], Halo::NONE).unwrap();
    for to in [g([2, 511, 1, 1]), g([1, 510, 1, 1]), g([2, 255, 2, 1]), with_halo, nchw] {
        assert!(matches!(flat(to), Err(Error::Problem { .. })), "{to:?}");
    }
}

#[test]
fn slices_of_other_lengths_are_refused() {
    let g = Geometry::new(Layout::Nchw16c, [1, 17, 2, 3], HALOS[1]).unwrap();
    let (dense, len) = (17 * 6, g.len());
    for (a, b) in [(dense - 1, len), (dense + 1, len), (dense, len - 1), (dense, len + 1), (0, 0), (len, dense)] {
        let from = from_nchw(&Inline, &vec![0.0; a], &g, &mut vec![0.0; b]);
        assert!(matches!(from, Err(Error::Length { .. })), "{a} {b}");
        let to = to_nchw(&Inline, &vec![0.0; b], &g, &mut vec![0.0; a]);
        assert!(matches!(to, Err(Error::Length { .. })), "{a} {b}");
    }
    let flat = Geometry::new(Layout::Nchw16c, [1, dense, 1, 1], Halo::NONE).unwrap();
    for (a, b) in [(len - 1, flat.len()), (len, flat.len() + 1), (len, 0)] {
        let result = flatten(&Inline, &vec![0.0; a], &g, &mut vec![0.0; b], &flat);
        assert!(matches!(result, Err(Error::Length { .. })), "{a} {b}");
    }
}

#[test]
fn geometries_that_overflow_are_refused_and_the_others_add_up() {
    let halo = |v| Halo { top: v, left: v, bottom: v, right: v };
    for layout in LAYOUTS {
        for dims in [
            [0, 1, 1, 1],
            [1, 0, 1, 1],
            [1, 1, 0, 1],
            [1, 1, 1, 0],
            [usize::MAX; 4],
            [1, usize::MAX, 1, 1],
            [1, 1, 1, usize::MAX],
            [1, 1, usize::MAX / 2, 4],
            [1 << (usize::BITS / 4); 4],
        ] {
            assert!(matches!(Geometry::new(layout, dims, Halo::NONE), Err(Error::Problem { .. })), "{dims:?}");
        }
        for edge in [usize::MAX, usize::MAX / 2, isize::MAX as usize] {
            assert!(matches!(Geometry::new(layout, [1, 1, 1, 1], halo(edge)), Err(Error::Problem { .. })), "{edge}");
        }
        for dims in part_of(shapes()) {
            for halo in HALOS {
                let g = Geometry::new(layout, dims, halo).unwrap();
                let mut seen = vec![false; g.len()];
                for_each(dims, |at| assert!(!std::mem::replace(&mut seen[index(&g, at)], true), "{g:?}: two elements in one place"));
                assert_eq!(g.len(), g.n() * g.image_stride());
                assert!(g.image_stride() >= g.planes() * g.plane_stride() && !g.is_empty());
            }
        }
    }
    assert_eq!(
        Halo { top: 1, left: 5, bottom: 0, right: 2 }.union(Halo { top: 3, left: 4, bottom: 0, right: 1 }),
        Halo { top: 3, left: 5, bottom: 0, right: 2 }
    );
}

#[test]
fn aligned_buffers_start_at_a_cache_line_with_zeros_or_are_refused() {
    for len in [0, 1, 15, 16, 17, 1000] {
        let buffer = AlignedBuffer::zeros(len).unwrap();
        assert_eq!((buffer.len(), buffer.as_ptr() as usize % 64), (len, 0));
        assert!(buffer.iter().all(|v| v.to_bits() == 0));
    }
    for len in [usize::MAX, usize::MAX / 4, isize::MAX as usize / 4] {
        assert!(matches!(AlignedBuffer::zeros(len), Err(Error::OutOfMemory { .. })), "{len}");
    }
}
