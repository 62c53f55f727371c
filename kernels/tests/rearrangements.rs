//! Ops that move elements, each against its definition by indices.

mod harness;

use harness::{Guarded, Side, Threads, bits, fenced_at, noise, unravel};
use stridewise_kernels::Error;
use stridewise_kernels::dense::{Concat, Gather, PadMode, Rearrange};

/// The element of the input at an index, which is there.
fn at(shape: &[usize], data: &[f32], index: &[usize]) -> f32 {
    assert!(index.iter().zip(shape).all(|(i, d)| i < d), "{index:?} in {shape:?}");
    data[index.iter().zip(shape).fold(0, |offset, (i, d)| offset * d + i)]
}

/// Runs an op and compares every element of its output with `expected` of its index.
fn check(op: &Rearrange, shape: &[usize], result: &[usize], expected: impl Fn(&[f32], &[usize]) -> f32, context: &str) {
    assert_eq!(op.output_shape(), result, "{context}");
    let input = noise(21, shape.iter().product());
    let len = result.iter().product();
    let expected: Vec<f32> = (0..len).map(|i| expected(&input, &unravel(i, result))).collect();
    for (threads, side) in [(1, Side::End), (1, Side::Start), (3, Side::Start)] {
        let output = fenced_at(side, || {
            let mut output = Guarded::filled(len, f32::NAN);
            op.run(&Threads(threads), &Guarded::of(&input), &mut output).unwrap();
            output
        });
        assert!(bits(&output) == bits(&expected), "{context}, {threads} threads");
    }
}

#[test]
fn transpositions() {
    type Case = (&'static [usize], &'static [usize]);
    let cases: [Case; 9] = [
        (&[], &[]),
        (&[7], &[0]),
        (&[40, 35], &[1, 0]),
        (&[2, 33, 9, 11], &[0, 2, 3, 1]),
        (&[2, 9, 11, 33], &[0, 3, 1, 2]),
        (&[3, 4, 20, 18], &[2, 1, 3, 0]),
        (&[5, 1, 6, 1, 7], &[4, 3, 2, 1, 0]),
        (&[2, 3, 4, 5, 6, 2], &[0, 3, 1, 2, 5, 4]),
        (&[3, 0, 4], &[2, 0, 1]),
    ];
    for (shape, perm) in cases {
        let result: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
        let source = |input: &[f32], index: &[usize]| {
            let mut from = vec![0; index.len()];
            perm.iter().zip(index).for_each(|(&p, &i)| from[p] = i);
            at(shape, input, &from)
        };
        check(&Rearrange::transpose(shape, perm).unwrap(), shape, &result, source, &format!("{shape:?} by {perm:?}"));
    }
    assert!(Rearrange::transpose(&[2, 3], &[0, 0]).is_err() && Rearrange::transpose(&[2, 3], &[0]).is_err());
}

/// The indices that Python's slice takes of a dimension.
fn python_slice(dim: usize, start: i64, end: i64, step: i64) -> Vec<usize> {
    let dim = dim as i64;
    let fix = |x: i64| if x < 0 { x.saturating_add(dim) } else { x };
    let (mut i, end) = if step > 0 {
        (fix(start).clamp(0, dim), fix(end).clamp(0, dim))
    } else {
        (fix(start).clamp(-1, dim - 1), fix(end).clamp(-1, dim - 1))
    };
    let mut indices = Vec::new();
    while if step > 0 { i < end } else { i > end } {
        indices.push(i as usize);
        i = i.saturating_add(step);
    }
    indices
}

#[test]
fn slices_of_any_step() {
    let shape = [3, 11, 9];
    for (start, end) in
        [(0, 11), (2, 7), (-4, -1), (-100, 100), (5, 5), (7, 2), (i64::MIN, i64::MAX), (i64::MAX, i64::MIN), (-1, i64::MIN), (10, -12)]
    {
        for step in [1, 2, 5, 100, i64::MAX, -1, -3, -100, i64::MIN] {
            let rows = python_slice(11, start, end, step);
            let columns = python_slice(9, start, end, -step.max(-i64::MAX));
            let result = [3, rows.len(), columns.len()];
            let op = Rearrange::slice(&shape, &[start, start], &[end, end], &[1, 2], &[step, -step.max(-i64::MAX)]).unwrap();
            let source = |input: &[f32], i: &[usize]| at(&shape, input, &[i[0], rows[i[1]], columns[i[2]]]);
            check(&op, &shape, &result, source, &format!("{start}..{end} by {step}"));
        }
    }
    let empty = Rearrange::slice(&[0, 4], &[0], &[5], &[0], &[-1]).unwrap();
    assert_eq!(empty.output_shape(), [0, 4]);
    for (axes, steps) in [(&[3][..], &[1][..]), (&[0], &[0]), (&[0, 0], &[1, 1]), (&[0], &[1, 1])] {
        let starts = vec![0; axes.len()];
        assert!(matches!(Rearrange::slice(&shape, &starts, &starts, axes, steps).map(|_| ()), Err(Error::Problem { .. })));
    }
}

#[test]
fn expansion_and_tiling() {
    for (shape, target, result) in
        [(&[3, 1][..], &[2, 1, 6][..], &[2, 3, 6][..]), (&[3, 4], &[1], &[3, 4]), (&[], &[2, 3], &[2, 3]), (&[1, 5], &[0, 5], &[0, 5])]
    {
        let source = |input: &[f32], index: &[usize]| {
            let own: Vec<usize> =
                shape.iter().zip(&index[index.len() - shape.len()..]).map(|(&d, &i)| if d == 1 { 0 } else { i }).collect();
            at(shape, input, &own)
        };
        check(&Rearrange::expand(shape, target).unwrap(), shape, result, source, &format!("{shape:?} to {target:?}"));
    }
    for (shape, repeats) in [(&[3, 4][..], &[2, 3][..]), (&[20], &[3]), (&[2, 1, 5], &[1, 4, 2]), (&[2, 3], &[0, 2]), (&[], &[])] {
        let result: Vec<usize> = shape.iter().zip(repeats).map(|(d, r)| d * r).collect();
        let source = |input: &[f32], index: &[usize]| {
            let own: Vec<usize> = shape.iter().zip(index).map(|(&d, &i)| i % d).collect();
            at(shape, input, &own)
        };
        check(&Rearrange::tile(shape, repeats).unwrap(), shape, &result, source, &format!("{shape:?}, {repeats:?} times"));
    }
    assert!(Rearrange::expand(&[3], &[4]).is_err() && Rearrange::tile(&[3], &[usize::MAX]).is_err());
}

#[test]
fn padding_of_every_mode() {
    let shape = [2, 5, 6];
    for pads in [
        [0, 1, 2, 0, 3, 1],
        [0, 4, 5, 1, 4, 5],
        [0, -1, 2, 0, 3, -2],
        [1, 9, 13, 0, 11, 0],
        [0, 0, 0, 0, 0, 0],
        [0, -2, 0, 0, -3, 0],
        // All of the input is cropped: only what is added is left.
        [0, -7, 0, 0, 9, 0],
        [0, 8, -6, 0, -6, 6],
    ] {
        let result: Vec<usize> = (0..3).map(|i| (shape[i] as i64 + pads[i] + pads[i + 3]) as usize).collect();
        for mode in [PadMode::Constant(2.5), PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
            let source = |input: &[f32], index: &[usize]| {
                let mut from = Vec::new();
                for axis in 0..3 {
                    let (d, mut i) = (shape[axis] as i64, index[axis] as i64 - pads[axis]);
                    // Mirrored, or shifted, until it is inside.
                    while !(0..d).contains(&i) {
                        i = match mode {
                            PadMode::Constant(fill) => return fill,
                            PadMode::Reflect => {
                                if i < 0 {
                                    -i
                                } else {
                                    2 * (d - 1) - i
                                }
                            }
                            PadMode::Edge => i.clamp(0, d - 1),
                            PadMode::Wrap => {
                                if i < 0 {
                                    i + d
                                } else {
                                    i - d
                                }
                            }
                        };
                    }
                    from.push(i as usize);
                }
                at(&shape, input, &from)
            };
            check(&Rearrange::pad(&shape, &pads, mode).unwrap(), &shape, &result, source, &format!("{pads:?} {mode:?}"));
        }
    }
    let refused = |shape: &[usize], pads: &[i64], mode| Rearrange::pad(shape, pads, mode).is_err();
    assert!(refused(&[2], &[1], PadMode::Edge) && refused(&[2], &[-3, 0], PadMode::Edge) && refused(&[0], &[1, 1], PadMode::Wrap));
    assert!(refused(&[2], &[i64::MAX, i64::MAX], PadMode::Edge) && refused(&[2], &[i64::MAX / 4, 0], PadMode::Edge));
}

#[test]
fn depth_and_space() {
    let shape = [2, 12, 3, 5];
    for crd in [false, true] {
        let source = |input: &[f32], i: &[usize]| {
            let (dy, dx) = (i[2] % 2, i[3] % 2);
            let channel = if crd { i[1] * 4 + dy * 2 + dx } else { (dy * 2 + dx) * 3 + i[1] };
            at(&shape, input, &[i[0], channel, i[2] / 2, i[3] / 2])
        };
        check(&Rearrange::depth_to_space(&shape, 2, crd).unwrap(), &shape, &[2, 3, 6, 10], source, "depth to space");
    }
    let shape = [2, 3, 6, 9];
    let source = |input: &[f32], i: &[usize]| {
        let (block, channel) = (i[1] / 3, i[1] % 3);
        at(&shape, input, &[i[0], channel, i[2] * 3 + block / 3, i[3] * 3 + block % 3])
    };
    check(&Rearrange::space_to_depth(&shape, 3).unwrap(), &shape, &[2, 27, 2, 3], source, "space to depth");
    assert!(Rearrange::depth_to_space(&[1, 6, 2, 2], 2, false).is_err() && Rearrange::depth_to_space(&[1, 6, 2], 1, false).is_err());
    // No elements, and strides that overflow all the same.
    for crd in [false, true] {
        assert!(Rearrange::depth_to_space(&[1, 0, 1 << 40, 1], 1 << 31, crd).is_err());
    }
    assert!(Rearrange::space_to_depth(&[1, 0, 0, 1 << 40], 1 << 31).is_err());
    assert_eq!(Rearrange::space_to_depth(&[1, 0, 4, 6], 2).unwrap().output_shape(), [1, 0, 2, 3]);
    assert!(Rearrange::depth_to_space(&[1, 6, 2, 2], 0, false).is_err() && Rearrange::space_to_depth(&[1, 1, 3, 4], 2).is_err());
}

#[test]
fn channel_shuffles() {
    let shape = [2, 12, 3, 5];
    for groups in [1, 2, 3, 12] {
        let source = |input: &[f32], i: &[usize]| at(&shape, input, &[i[0], i[1] % groups * (12 / groups) + i[1] / groups, i[2], i[3]]);
        check(&Rearrange::channel_shuffle(&shape, groups).unwrap(), &shape, &shape, source, &format!("{groups} groups"));
    }
    assert!(Rearrange::channel_shuffle(&shape, 5).is_err() && Rearrange::channel_shuffle(&shape, 0).is_err());
    assert!(Rearrange::channel_shuffle(&[4], 2).is_err());
}

#[test]
fn gathering_of_slices() {
    let shape = [4, 7, 5];
    let indices = [3i64, -1, 0, 6, 6, -7];
    for axis in 0..3 {
        let own: Vec<i64> = indices.iter().map(|&i| i.clamp(-(shape[axis] as i64), shape[axis] as i64 - 1)).collect();
        let mut result = shape[..axis].to_vec();
        result.extend([2, 3]);
        result.extend(&shape[axis + 1..]);
        let source = |input: &[f32], i: &[usize]| {
            let index = own[i[axis] * 3 + i[axis + 1]];
            let mut from = i.to_vec();
            from.remove(axis + 1);
            from[axis] = if index < 0 { (index + shape[axis] as i64) as usize } else { index as usize };
            at(&shape, input, &from)
        };
        let op = Gather::slices(&shape, &[2, 3], axis).unwrap();
        assert_eq!(op.output_shape(), result);
        let input = noise(21, 140);
        let floats: Vec<f32> = own.iter().map(|&i| i as f32).collect();
        let len = result.iter().product();
        let mut output = Guarded::filled(len, f32::NAN);
        op.run(&Threads(2), &Guarded::of(&input), &Guarded::of(&floats), &mut output).unwrap();
        let expected: Vec<f32> = (0..len).map(|i| source(&input, &unravel(i, &result))).collect();
        assert_eq!(&*output, expected, "axis {axis}");
        let all_ones = f32::from_bits(u32::MAX);
        for wrong in [shape[axis] as f32, -(shape[axis] as f32) - 1.0, 0.5, f32::NAN, all_ones, f32::INFINITY, 1e30] {
            let mut floats = floats.clone();
            floats[4] = wrong;
            assert!(matches!(op.run(&Threads(2), &input, &floats, &mut output), Err(Error::Problem { .. })), "{wrong}");
        }
    }
}

#[test]
fn gathering_of_elements_and_of_tuples() {
    let (shape, indices_shape) = ([3, 4, 5], [2, 6, 5]);
    let input = noise(22, 60);
    let indices: Vec<f32> = (0..60).map(|i| ((i * 7) % 8) as f32 - 4.0).collect();
    let op = Gather::elements(&shape, &indices_shape, 1).unwrap();
    let mut output = Guarded::filled(60, f32::NAN);
    op.run(&Threads(3), &input, &indices, &mut output).unwrap();
    for i in 0..60 {
        let index = unravel(i, &indices_shape);
        let own = if indices[i] < 0.0 { indices[i] + 4.0 } else { indices[i] };
        assert_eq!(output[i], at(&shape, &input, &[index[0], own as usize, index[2]]));
    }
    // Tuples of two behind no common dimension, and of one behind one.
    let tuples = [2.0, 3.0, 0.0, -4.0, -1.0, 1.0];
    let op = Gather::tuples(&shape, &[3, 2], 0).unwrap();
    assert_eq!(op.output_shape(), [3, 5]);
    let mut output = Guarded::filled(15, f32::NAN);
    op.run(&Threads(2), &input, &tuples, &mut output).unwrap();
    for (i, [x, y]) in [[2, 3], [0, 0], [2, 1]].into_iter().enumerate() {
        assert_eq!(output[i * 5..][..5], input[(x * 4 + y) * 5..][..5]);
    }
    let op = Gather::tuples(&shape, &[3, 2, 1], 1).unwrap();
    assert_eq!(op.output_shape(), [3, 2, 5]);
    let mut output = Guarded::filled(30, f32::NAN);
    op.run(&Threads(2), &input, &[0.0, 1.0, 2.0, 3.0, -1.0, -2.0], &mut output).unwrap();
    for (i, y) in [0, 1, 2, 3, 3, 2].into_iter().enumerate() {
        assert_eq!(output[i * 5..][..5], input[(i / 2 * 4 + y) * 5..][..5]);
    }
    assert!(
        Gather::tuples(&shape, &[3, 4], 0).is_err()
            && Gather::tuples(&shape, &[2, 1], 1).is_err()
            && Gather::tuples(&shape, &[], 0).is_err()
    );
    assert!(Gather::elements(&shape, &[4, 1, 5], 1).is_err() && Gather::slices(&[1 << 25], &[1], 0).is_err());
}

#[test]
fn concatenation_along_every_axis() {
    for axis in 0..3 {
        let shapes: Vec<Vec<usize>> = [2, 5, 0, 1]
            .iter()
            .map(|&d| {
                let mut s = vec![3, 4, 6];
                s[axis] = d;
                s
            })
            .collect();
        let views: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let op = Concat::new(&views, axis).unwrap();
        let inputs: Vec<Vec<f32>> = shapes.iter().enumerate().map(|(i, s)| noise(i as u64, s.iter().product())).collect();
        let slices: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let shape = op.output_shape().to_vec();
        for threads in [1, 4] {
            let mut output = Guarded::filled(shape.iter().product(), f32::NAN);
            op.run(&Threads(threads), &slices, &mut output).unwrap();
            for i in 0..output.len() {
                let mut index = unravel(i, &shape);
                let mut part = 0;
                while index[axis] >= shapes[part][axis] {
                    index[axis] -= shapes[part][axis];
                    part += 1;
                }
                assert_eq!(output[i], at(&shapes[part], &inputs[part], &index), "axis {axis} {i}");
            }
            assert!(op.run(&Threads(1), &slices[1..], &mut output).is_err());
        }
    }
    assert!(Concat::new(&[], 0).is_err() && Concat::new(&[&[2], &[2, 1]], 0).is_err() && Concat::new(&[&[2, 3], &[2, 4]], 0).is_err());
    assert!(Concat::new(&[&[2]], 1).is_err() && Concat::new(&[&[usize::MAX], &[1]], 0).is_err());
}
