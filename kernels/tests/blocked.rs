//! Ops on buffers of NCHW16c against their definitions, on every table and for several numbers of threads.

mod harness;

use harness::{
    Guarded, Side, Threads, assert_borders_are_zero, bits, buffer_of, dense_of, fenced_at, for_each, noise, noise_with_specials, part_of,
};
use stridewise_kernels::blocked::{Channels, Combine, Depth, InstanceNorm, Lrn, Map, Resample, Window};
use stridewise_kernels::resize::{AxisMap, Coordinates, Interpolation, Nearest, Rule};
use stridewise_kernels::{Binary, Error, Geometry, Halo, KernelTable, Layout, Unary};

const HALO: Halo = Halo { top: 1, left: 0, bottom: 2, right: 1 };

const SHAPES: [[usize; 4]; 8] =
    [[1, 1, 1, 1], [3, 3, 1, 1], [1, 15, 5, 4], [3, 16, 2, 7], [1, 17, 1, 9], [3, 33, 3, 2], [1, 33, 8, 8], [2, 48, 4, 3]];

fn geometry(dims: [usize; 4], halo: Halo) -> Geometry {
    Geometry::new(Layout::Nchw16c, dims, halo).unwrap()
}

/// Runs an op on every table, by one and by three threads, with and without halos; all must agree, and are handed back.
fn run(
    inputs: &[(&[f32], [usize; 4])],
    output: [usize; 4],
    op: impl Fn(&[Geometry], Geometry, &'static KernelTable, usize, &[&[f32]], &mut [f32]),
    context: &str,
) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for table in KernelTable::all() {
        let setups = [(Halo::NONE, 1, Side::End), (HALO, 3, Side::Start), (Halo::NONE, 4, Side::Start), (HALO, 2, Side::End)];
        for (halo, threads, side) in setups {
            let geometries: Vec<Geometry> = inputs.iter().map(|(_, dims)| geometry(*dims, halo)).collect();
            let to = geometry(output, halo);
            let result = fenced_at(side, || {
                let buffers: Vec<Guarded> = inputs.iter().zip(&geometries).map(|((data, _), g)| buffer_of(g, data)).collect();
                let slices: Vec<&[f32]> = buffers.iter().map(|b| &**b).collect();
                let mut result = Guarded::filled(to.len(), f32::NAN);
                op(&geometries, to, table, threads, &slices, &mut result);
                result
            });
            let context = format!("{context} on {table:?}, {threads} threads, {halo:?}");
            assert_borders_are_zero(&to, &result, &context);
            let found = dense_of(&to, &result);
            let first = first.get_or_insert_with(|| found.clone());
            assert!(bits(first) == bits(&found), "{context}");
        }
    }
    first.unwrap()
}

#[test]
fn functions_of_every_element() {
    for dims in part_of(SHAPES) {
        let input = noise_with_specials(31, dims.iter().product());
        for f in [Unary::Silu, Unary::HardSwish, Unary::Exp, Unary::Relu, Unary::Affine { scale: 2.0, shift: 1.0 }] {
            let op = |from: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
                Map::new(f, from[0], to, table).unwrap().run(&Threads(threads), x[0], y).unwrap();
            };
            let found = run(&[(&input, dims)], dims, op, &format!("{f:?} of {dims:?}"));
            let expected: Vec<f32> = input.iter().map(|&x| f.apply(x)).collect();
            assert_eq!(bits(&found), bits(&expected), "{f:?} of {dims:?}");
            let in_place = |_: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
                y.copy_from_slice(x[0]);
                Map::new(f, to, to, table).unwrap().run_in_place(&Threads(threads), y).unwrap();
            };
            assert_eq!(bits(&run(&[(&input, dims)], dims, in_place, "in place")), bits(&found), "{f:?} of {dims:?} in place");
        }
    }
}

/// Every way in which a dimension of either operand may be 1.
#[test]
fn functions_of_two_operands_are_broadcast() {
    for dims in part_of([[2, 17, 3, 5], [1, 16, 4, 4], [3, 1, 2, 3], [2, 33, 1, 1]]) {
        for broadcast in 0..32 {
            // The first operand is broadcast along one axis at most, the second along any.
            let shrink = |mask: usize| std::array::from_fn(|axis| if mask >> axis & 1 == 1 { 1 } else { dims[axis] });
            let b_dims: [usize; 4] = shrink(broadcast % 16);
            let a_dims: [usize; 4] = if broadcast < 16 { dims } else { shrink(1 << (broadcast % 4)) };
            if (0..4).any(|i| a_dims[i].max(b_dims[i]) != dims[i]) {
                continue;
            }
            let (a, b) = (noise(32, a_dims.iter().product()), noise(33, b_dims.iter().product()));
            for (f, then) in [(Binary::Mul, Unary::Identity), (Binary::Sub, Unary::Sigmoid), (Binary::PRelu, Unary::Relu)] {
                let context = format!("{f:?} of {a_dims:?} and {b_dims:?}");
                let op = |from: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
                    Combine::new(f, from[0], from[1], to, then, table).unwrap().run(&Threads(threads), x[0], x[1], y).unwrap();
                };
                let found = run(&[(&a, a_dims), (&b, b_dims)], dims, op, &context);
                let mut expected = Vec::new();
                for_each(dims, |index| {
                    let at = |dims: [usize; 4]| (0..4).fold(0, |at, i| at * dims[i] + if dims[i] == 1 { 0 } else { index[i] });
                    expected.push(then.apply(f.apply(a[at(a_dims)], b[at(b_dims)])));
                });
                assert_eq!(bits(&found), bits(&expected), "{context}");
                if a_dims == dims {
                    let in_place = |from: &[Geometry], to: Geometry, table, threads, x: &[&[f32]], y: &mut [f32]| {
                        y.copy_from_slice(x[0]);
                        Combine::new(f, to, from[1], to, then, table).unwrap().run_in_place(&Threads(threads), y, x[1]).unwrap();
                    };
                    assert_eq!(bits(&run(&[(&a, a_dims), (&b, b_dims)], dims, in_place, &context)), bits(&found), "{context} in place");
                }
            }
        }
    }
}

/// Operands of one channel may be NCHW.
#[test]
fn operands_of_one_channel_may_be_planes() {
    let to = geometry([2, 17, 3, 5], HALO);
    let (a, b) = (noise(34, 2 * 17 * 15), noise(35, 2 * 15));
    for (dims, len) in [([2, 1, 3, 5], 30), ([1, 1, 3, 5], 15), ([1, 1, 1, 1], 1), ([2, 1, 1, 1], 2)] {
        let plane = Geometry::new(Layout::Nchw, dims, Halo::NONE).unwrap();
        for table in KernelTable::all() {
            let op = Combine::new(Binary::Add, to, plane, to, Unary::Identity, table).unwrap();
            let mut output = Guarded::filled(to.len(), f32::NAN);
            op.run(&Threads(2), &buffer_of(&to, &a), &Guarded::of(&b[..len]), &mut output).unwrap();
            assert_borders_are_zero(&to, &output, "planes");
            let mut expected = Vec::new();
            for_each(to.dims(), |i| {
                let at = (0..4).filter(|&k| k != 1).fold(0, |at, k| at * dims[k] + if dims[k] == 1 { 0 } else { i[k] });
                expected.push(a[((i[0] * 17 + i[1]) * 3 + i[2]) * 5 + i[3]] + b[at]);
            });
            assert_eq!(dense_of(&to, &output), expected, "{dims:?} on {table:?}");
        }
    }
    let wrong = Geometry::new(Layout::Nchw, [1, 17, 1, 1], Halo::NONE).unwrap();
    let other = geometry([2, 17, 3, 4], HALO);
    for b in [wrong, other] {
        let result = Combine::new(Binary::Add, to, b, to, Unary::Identity, KernelTable::all()[0]).map(|_| ());
        assert!(matches!(result, Err(Error::Problem { .. })), "{b:?}");
    }
}

#[test]
fn channels_are_put_together_taken_apart_and_shuffled() {
    for [n, h, w] in [[1, 1, 1], [2, 3, 5], [1, 4, 2], [1, 7, 7]] {
        for channels in [&[16, 32][..], &[5, 30, 1, 20], &[24, 24], &[1; 40], &[17]] {
            let total: usize = channels.iter().sum();
            let data: Vec<Vec<f32>> = channels.iter().enumerate().map(|(i, c)| noise_with_specials(i as u64, n * c * h * w)).collect();
            let inputs: Vec<(&[f32], [usize; 4])> = data.iter().zip(channels).map(|(d, &c)| (&d[..], [n, c, h, w])).collect();
            let op = |from: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
                Channels::concat(from, to, table).unwrap().run(&Threads(threads), x, y).unwrap();
            };
            let found = run(&inputs, [n, total, h, w], op, &format!("concatenation of {channels:?}"));
            let mut expected = Vec::new();
            for image in 0..n {
                for (d, c) in data.iter().zip(channels) {
                    expected.extend_from_slice(&d[image * c * h * w..(image + 1) * c * h * w]);
                }
            }
            assert!(bits(&found) == bits(&expected), "concatenation of {channels:?}");
        }
        for (c, first, step, count) in [(48, 16, 1, 16), (40, 7, 1, 20), (40, 3, 2, 18), (33, 32, 1, 1)] {
            let data = noise(36, n * c * h * w);
            let op = |from: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
                Channels::slice(from[0], to, first, step, table).unwrap().run(&Threads(threads), x, y).unwrap();
            };
            let found = run(&[(&data, [n, c, h, w])], [n, count, h, w], op, "slice");
            let mut expected = Vec::new();
            for_each([n, count, h, w], |[i, k, y, x]| expected.push(data[((i * c + first + k * step) * h + y) * w + x]));
            assert_eq!(found, expected, "slice {c} {first} {step} {count}");
        }
        for (c, groups) in [(32, 2), (58, 2), (60, 3), (116, 4)] {
            let data = noise(37, n * c * h * w);
            let op = |from: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
                Channels::shuffle(from[0], to, groups, table).unwrap().run(&Threads(threads), x, y).unwrap();
            };
            let found = run(&[(&data, [n, c, h, w])], [n, c, h, w], op, "shuffle");
            let mut expected = Vec::new();
            for_each([n, c, h, w], |[i, k, y, x]| {
                expected.push(data[((i * c + k % groups * (c / groups) + k / groups) * h + y) * w + x]);
            });
            assert_eq!(found, expected, "shuffle of {c} in {groups}");
        }
    }
    let (table, g) = (KernelTable::all()[0], geometry([1, 20, 2, 2], HALO));
    let refused = |result: Result<Channels, Error>| assert!(matches!(result.map(|_| ()), Err(Error::Problem { .. })));
    refused(Channels::concat(&[g], geometry([1, 21, 2, 2], HALO), table));
    refused(Channels::concat(&[g], geometry([1, 20, 2, 3], HALO), table));
    refused(Channels::slice(g, geometry([1, 5, 2, 2], HALO), 16, 1, table));
    refused(Channels::shuffle(g, g, 3, table));
    refused(Channels::new(&[g], g, |_| (1, 0), table));
    let vast = Geometry::new(Layout::Nchw16c, [1, 1 << 58, 1, 1], Halo::NONE).unwrap();
    for op in [Channels::slice(vast, vast, 0, 1, table), Channels::shuffle(vast, vast, 16, table), Channels::concat(&[vast], vast, table)] {
        assert!(matches!(op.map(|_| ()), Err(Error::OutOfMemory { .. })), "a table of 2^58 channels");
    }
}

#[test]
fn windows_cut_and_pad() {
    for c in [1, 16, 33] {
        let data = noise(38, 2 * c * 5 * 6);
        for (before, step, [h, w]) in [
            ([1, 2], [1, 1], [8, 9]),
            ([-2, -1], [1, 1], [3, 4]),
            ([-1, 3], [1, 1], [2, 20]),
            ([0, -1], [2, 3], [3, 2]),
            ([-9, 0], [1, 1], [2, 6]),
        ] {
            for fill in [0.0, 2.5] {
                let op = |from: &[Geometry], to, _, threads, x: &[&[f32]], y: &mut [f32]| {
                    Window::new(from[0], to, before, step, fill).unwrap().run(&Threads(threads), x[0], y).unwrap();
                };
                let found = run(&[(&data, [2, c, 5, 6])], [2, c, h, w], op, "window");
                let mut expected = Vec::new();
                for_each([2, c, h, w], |[n, k, y, x]| {
                    let (y, x) = ((y * step[0]) as isize - before[0], (x * step[1]) as isize - before[1]);
                    let inside = (0..5).contains(&y) && (0..6).contains(&x);
                    expected.push(if inside { data[((n * c + k) * 5 + y as usize) * 6 + x as usize] } else { fill });
                });
                assert_eq!(found, expected, "{before:?} {step:?} {fill}");
            }
        }
    }
}

#[test]
fn depth_becomes_space_and_back() {
    for (c, block, h, w) in [(1, 2, 3, 4), (17, 2, 2, 3), (16, 3, 1, 2), (5, 4, 2, 2)] {
        let deep = [2, c * block * block, h, w];
        let wide = [2, c, h * block, w * block];
        let data = noise(39, deep.iter().product());
        for crd in [false, true] {
            let op = |from: &[Geometry], to, _, threads, x: &[&[f32]], y: &mut [f32]| {
                Depth::to_space(from[0], to, block, crd).unwrap().run(&Threads(threads), x[0], y).unwrap();
            };
            let found = run(&[(&data, deep)], wide, op, "to space");
            let mut expected = Vec::new();
            for_each(wide, |[n, k, y, x]| {
                let phase = y % block * block + x % block;
                let channel = if crd { k * block * block + phase } else { phase * c + k };
                expected.push(data[((n * deep[1] + channel) * h + y / block) * w + x / block]);
            });
            assert_eq!(found, expected, "to space {c} {block} {crd}");
        }
        let op = |from: &[Geometry], to, _, threads, x: &[&[f32]], y: &mut [f32]| {
            Depth::to_depth(from[0], to, block).unwrap().run(&Threads(threads), x[0], y).unwrap();
        };
        let found = run(&[(&data, wide)], deep, op, "to depth");
        let mut expected = Vec::new();
        for_each(deep, |[n, k, y, x]| {
            let (phase, channel) = (k / c, k % c);
            let (y, x) = (y * block + phase / block, x * block + phase % block);
            expected.push(data[((n * c + channel) * h * block + y) * w * block + x]);
        });
        assert_eq!(found, expected, "to depth {c} {block}");
    }
}

#[test]
fn resizing_of_rows_and_columns() {
    let rules = [
        (Coordinates::Asymmetric, Interpolation::Nearest(Nearest::Floor)),
        (Coordinates::HalfPixel, Interpolation::Linear),
        (Coordinates::AlignCorners, Interpolation::Linear),
        (Coordinates::HalfPixel, Interpolation::Cubic { coefficient: -0.75 }),
    ];
    // Many taps, half of which are zero.
    let rule = Rule { coordinates: Coordinates::HalfPixel, interpolation: Interpolation::Linear, exclude_outside: false, antialias: true };
    assert_eq!(AxisMap::new(1 << 21, 2, 1.0 / (1 << 20) as f64, &rule).unwrap().output(), 2);
    for ([h, w], [oh, ow]) in [([3, 4], [6, 8]), ([5, 7], [3, 9]), ([1, 1], [4, 3]), ([6, 6], [2, 3])] {
        for (coordinates, interpolation) in rules {
            for antialias in [false, true] {
                let rule = Rule { coordinates, interpolation, exclude_outside: false, antialias };
                let map = |from: usize, to: usize| AxisMap::new(from, to, to as f64 / from as f64, &rule).unwrap();
                let data = noise(40, 2 * 17 * h * w);
                let op = |from: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
                    Resample::new(from[0], to, map(h, oh), map(w, ow), table).unwrap().run(&Threads(threads), x[0], y).unwrap();
                };
                let found = run(&[(&data, [2, 17, h, w])], [2, 17, oh, ow], op, &format!("{rule:?}"));
                // The dense op is tested against the definition; here it is the other way of computing the same.
                let maps = vec![None, None, Some(map(h, oh)), Some(map(w, ow))];
                let dense = stridewise_kernels::dense::Resize::new(&[2, 17, h, w], maps, 0.0).unwrap();
                let mut expected = vec![f32::NAN; found.len()];
                dense.run(&Threads(2), &data, &mut expected, &mut vec![f32::NAN; dense.scratch_len()]).unwrap();
                for (x, y) in found.iter().zip(&expected) {
                    assert!((x - y).abs() <= 1e-6, "{rule:?} {h}x{w} to {oh}x{ow}: {x}, not {y}");
                }
            }
        }
    }
}

#[test]
fn instances_are_normalised() {
    for dims in part_of(SHAPES) {
        let [n, c, h, w] = dims;
        // Far from zero, where the square of the mean would swallow the variance.
        let data: Vec<f32> = noise(41, dims.iter().product()).into_iter().map(|x| x + 100.0).collect();
        let (scale, shift) = (noise(42, c), noise(43, c));
        let op = |from: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
            InstanceNorm::new(from[0], to, &scale, &shift, 1e-3, table).unwrap().run(&Threads(threads), x[0], y).unwrap();
        };
        let found = run(&[(&data, dims)], dims, op, "instances");
        for plane in 0..n * c {
            let values: Vec<f64> = data[plane * h * w..][..h * w].iter().map(|x| f64::from(*x)).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
            for (x, y) in values.iter().zip(&found[plane * h * w..]) {
                let exact = (x - mean) / (variance + 1e-3).sqrt() * f64::from(scale[plane % c]) + f64::from(shift[plane % c]);
                // The mean is rounded to a 2⁻¹⁸th of it.
                assert!((f64::from(*y) - exact).abs() <= 1e-3, "{dims:?}: {y}, not {exact}");
            }
        }
    }
}

#[test]
fn responses_are_normalised_by_their_neighbours() {
    for dims in part_of(SHAPES) {
        let [_, c, h, w] = dims;
        let data = noise(44, dims.iter().product());
        for (size, alpha, beta, bias) in
            [(5, 0.5, 0.75, 1.0), (4, 1.0, 0.5, 2.0), (1, 0.1, 0.75, 1.0), (100, 1.0, 0.75, 1.0), (3, 1e-4, 2.0, 1.0)]
        {
            let op = |from: &[Geometry], to, table, threads, x: &[&[f32]], y: &mut [f32]| {
                let op = Lrn::new(from[0], to, size, [alpha, beta, bias], table).unwrap();
                let mut scratch = Guarded::filled(op.scratch_len(threads), f32::NAN);
                op.run(&Threads(threads), x[0], y, &mut scratch).unwrap();
            };
            let found = run(&[(&data, dims)], dims, op, "responses");
            let mut values = found.iter();
            for_each(dims, |[n, k, y, x]| {
                let at = |k: usize| f64::from(data[((n * c + k) * h + y) * w + x]);
                let sum: f64 = (k.saturating_sub((size - 1) / 2)..(k + size / 2 + 1).min(c)).map(|k| at(k).powi(2)).sum();
                let exact = at(k) / (f64::from(bias) + f64::from(alpha) / size as f64 * sum).powf(f64::from(beta));
                let value = f64::from(*values.next().unwrap());
                assert!((value - exact).abs() <= 2e-6 * exact.abs(), "{dims:?} {size}: {value}, not {exact}");
            });
        }
    }
}
