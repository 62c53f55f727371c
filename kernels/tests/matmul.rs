//! Matrix products against f64, with the same bits on every table and for any number of threads.

mod harness;

use harness::{Guarded, Side, Threads, bits, fenced_at, noise};
use stridewise_kernels::dense::MatMul;
use stridewise_kernels::{Error, Inline, KernelTable};

/// A × B of every product, and the sum of the magnitudes that went into it. `a` and `b` give an element of a product's operands.
fn exact(
    [products, m, n, k]: [usize; 4],
    a: impl Fn(usize, usize, usize) -> f32,
    b: impl Fn(usize, usize, usize) -> f32,
) -> Vec<(f64, f64)> {
    let mut result = Vec::new();
    for p in 0..products {
        for i in 0..m {
            for j in 0..n {
                let terms = (0..k).map(|s| f64::from(a(p, i, s)) * f64::from(b(p, s, j)));
                result.push(terms.fold((0.0, 0.0), |(sum, size), t: f64| (sum + t, size + t.abs())));
            }
        }
    }
    result
}

fn assert_close(found: &[f32], exact: &[(f64, f64)], context: &str) {
    assert_eq!(found.len(), exact.len(), "{context}");
    for (i, (x, (exact, size))) in found.iter().zip(exact).enumerate() {
        assert!((f64::from(*x) - exact).abs() <= 2e-6 * size + 1e-30, "{context}: element {i} is {x}, not {exact}");
    }
}

/// The product on every table and by several threads, all of the same bits.
fn run(build: impl Fn(&'static KernelTable) -> MatMul, a: &[f32], b: &[f32], c: Option<&[f32]>, context: &str) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for table in KernelTable::all() {
        for (threads, side) in [(1, Side::End), (2, Side::Start), (5, Side::End)] {
            let output = fenced_at(side, || {
                let op = build(table);
                let mut output = Guarded::filled(op.output_shape().iter().product(), f32::NAN);
                let mut scratch = Guarded::filled(op.scratch_len(threads), f32::NAN);
                op.run(&Threads(threads), &Guarded::of(a), &Guarded::of(b), c, &mut output, &mut scratch).unwrap();
                output
            });
            let first = first.get_or_insert_with(|| output.to_vec());
            assert!(bits(first) == bits(&output), "{context} on {table:?}, {threads} threads");
        }
    }
    first.unwrap()
}

#[test]
fn products_of_every_shape_are_close_to_f64() {
    let sizes = [
        (1, 1, 1),
        (1, 17, 3),
        (5, 1, 16),
        (6, 64, 15),
        (7, 65, 33),
        (13, 100, 512),
        (12, 47, 513),
        (31, 130, 1100),
        (131, 33, 48),
        (3, 1100, 40),
    ];
    for (m, n, k) in sizes {
        let (a, b) = (noise(1, m * k), noise(2, k * n));
        let found = run(|table| MatMul::new(&[m, k], &[k, n], table).unwrap(), &a, &b, None, &format!("{m}x{n}x{k}"));
        let exact = exact([1, m, n, k], |_, i, s| a[i * k + s], |_, s, j| b[s * n + j]);
        assert_close(&found, &exact, &format!("{m}x{n}x{k}"));
    }
}

/// More rows than are packed at once, more columns, and a K in three parts.
#[test]
fn a_product_of_several_blocks_along_every_dimension() {
    let (m, n, k) = (500, 1200, 1030);
    let (a, b) = (noise(3, m * k), noise(4, k * n));
    let table = *KernelTable::all().last().unwrap();
    let op = MatMul::new(&[m, k], &[k, n], table).unwrap();
    let (mut output, mut scratch) = (Guarded::filled(m * n, f32::NAN), Guarded::filled(op.scratch_len(3), f32::NAN));
    op.run(&Threads(3), &a, &b, None, &mut output, &mut scratch).unwrap();
    for i in (0..m).step_by(7) {
        for j in (0..n).step_by(11) {
            let exact: f64 = (0..k).map(|s| f64::from(a[i * k + s]) * f64::from(b[s * n + j])).sum();
            assert!((f64::from(output[i * n + j]) - exact).abs() <= 1e-4, "{i}, {j}");
        }
    }
    let packed = MatMul::new(&[m, k], &[k, n], table).unwrap().with_right(&Threads(2), &b).unwrap();
    let (mut again, mut scratch) = (Guarded::filled(m * n, f32::NAN), Guarded::filled(packed.scratch_len(1), f32::NAN));
    packed.run(&Inline, &a, &[], None, &mut again, &mut scratch).unwrap();
    assert!(bits(&output) == bits(&again), "packed beforehand");
}

#[test]
fn batches_are_broadcast() {
    type Case = (&'static [usize], &'static [usize], &'static [usize]);
    let cases: [Case; 9] = [
        (&[2, 3, 4, 5], &[2, 3, 5, 6], &[2, 3, 4, 6]),
        (&[3, 4, 5], &[5, 6], &[3, 4, 6]),
        (&[4, 5], &[3, 5, 6], &[3, 4, 6]),
        (&[2, 1, 4, 5], &[3, 5, 6], &[2, 3, 4, 6]),
        (&[5], &[5, 6], &[6]),
        (&[4, 5], &[5], &[4]),
        (&[5], &[5], &[]),
        (&[7, 4, 5], &[5], &[7, 4]),
        (&[5], &[3, 5, 17], &[3, 17]),
    ];
    for (a_shape, b_shape, shape) in cases {
        let context = format!("{a_shape:?} and {b_shape:?}");
        let (a, b) = (noise(5, a_shape.iter().product()), noise(6, b_shape.iter().product()));
        let op = MatMul::new(a_shape, b_shape, KernelTable::all()[0]).unwrap();
        assert_eq!(op.output_shape(), shape, "{context}");
        let found = run(|table| MatMul::new(a_shape, b_shape, table).unwrap(), &a, &b, None, &context);
        // With every dimension there, as in a loop over all batches.
        let full = |shape: &[usize], left: bool| {
            let mut full = shape.to_vec();
            if shape.len() == 1 {
                full.insert(if left { 0 } else { 1 }, 1);
            }
            while full.len() < 4 {
                full.insert(0, 1);
            }
            full
        };
        let (fa, fb) = (full(a_shape, true), full(b_shape, false));
        let batch = [fa[0].max(fb[0]), fa[1].max(fb[1])];
        let at = |shape: &[usize], p: usize, i: usize, j: usize| {
            let (x, y) = (p / batch[1] % shape[0], p % batch[1] % shape[1]);
            ((x * shape[1] + y) * shape[2] + i) * shape[3] + j
        };
        let sizes = [batch[0] * batch[1], fa[2], fb[3], fa[3]];
        assert_close(&found, &exact(sizes, |p, i, s| a[at(&fa, p, i, s)], |p, s, j| b[at(&fb, p, s, j)]), &context);
    }
}

#[test]
fn gemm_transposes_scales_and_adds() {
    let (m, n, k) = (19, 35, 70);
    let (a, b) = (noise(7, m * k), noise(8, k * n));
    let summands: [Option<&[usize]>; 6] = [None, Some(&[19, 35]), Some(&[35]), Some(&[19, 1]), Some(&[1]), Some(&[])];
    for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
        let a_shape = if ta { [k, m] } else { [m, k] };
        let b_shape = if tb { [n, k] } else { [k, n] };
        let element = |t: bool, rows: usize, columns: usize, i: usize, j: usize| if t { j * rows + i } else { i * columns + j };
        let product = exact([1, m, n, k], |_, i, s| a[element(ta, m, k, i, s)], |_, s, j| b[element(tb, k, n, s, j)]);
        for (c_shape, [alpha, beta]) in summands.iter().zip([[1.0, 1.0], [1.0, 1.0], [0.5, 1.0], [1.0, -2.0], [0.5, 0.25], [1.0, 0.0]]) {
            let c = c_shape.map(|s| noise(9, s.iter().product()));
            let context = format!("{ta} {tb} {alpha} {beta} {c_shape:?}");
            let build = |table| MatMul::gemm([&a_shape, &b_shape], *c_shape, [ta, tb], [alpha, beta], table).unwrap();
            let found = run(build, &a, &b, c.as_deref(), &context);
            let expected: Vec<(f64, f64)> = product
                .iter()
                .enumerate()
                .map(|(index, (sum, size))| {
                    let summand = c.as_ref().zip(*c_shape).map_or(0.0, |(c, shape)| match shape {
                        [19, 35] => c[index],
                        [35] => c[index % n],
                        [19, 1] => c[index / n],
                        _ => c[0],
                    });
                    (f64::from(alpha) * sum + f64::from(beta) * f64::from(summand), size + 2.0)
                })
                .collect();
            assert_close(&found, &expected, &context);
        }
    }
}

#[test]
fn empty_products_and_refusals() {
    let table = KernelTable::all()[0];
    for (a, b, len) in [(&[3, 0][..], &[0, 4][..], 12), (&[0, 3], &[3, 4], 0), (&[2, 0, 3], &[2, 3, 4], 0), (&[0, 2, 3], &[3, 4], 0)] {
        let op = MatMul::new(a, b, table).unwrap();
        let mut output = vec![f32::NAN; len];
        let operand = |s: &[usize]| vec![1.0; s.iter().product()];
        op.run(&Inline, &operand(a), &operand(b), None, &mut output, &mut vec![0.0; op.scratch_len(1)]).unwrap();
        assert!(output.iter().all(|x| *x == 0.0), "{a:?} {b:?}");
    }
    // Of no products no operand is packed, of one only once.
    let none = MatMul::new(&[0, 2, 3], &[0, 3, 4], table).unwrap().with_right(&Inline, &[]).unwrap();
    assert_eq!(none.run(&Inline, &[], &[], None, &mut [], &mut vec![0.0; none.scratch_len(1)]), Ok(()));
    let packed = MatMul::new(&[2, 3], &[3, 4], table).unwrap().with_right(&Inline, &[1.0; 12]).unwrap();
    assert!(matches!(packed.with_right(&Inline, &[]).map(|_| ()), Err(Error::Problem { .. })));
    for (a, b) in [(&[][..], &[1][..]), (&[2, 3], &[4, 3]), (&[2, 2, 3], &[3, 3, 3]), (&[3], &[2]), (&[usize::MAX, 3], &[3, 2])] {
        assert!(matches!(MatMul::new(a, b, table).map(|_| ()), Err(Error::Problem { .. })), "{a:?} {b:?}");
    }
    let gemm = |a: &[usize], b: &[usize], c: Option<&[usize]>| MatMul::gemm([a, b], c, [false; 2], [1.0; 2], table).map(|_| ());
    assert!(
        gemm(&[2, 3], &[3, 4], Some(&[3])).is_err()
            && gemm(&[2, 3, 1], &[3, 4], None).is_err()
            && gemm(&[2, 3], &[3, 4], Some(&[1, 2, 4])).is_err()
    );
    let op = MatMul::new(&[2, 3], &[3, 4], table).unwrap();
    let scratch = op.scratch_len(1);
    let run = |a: usize, b: usize, to: usize, scratch: usize| {
        op.run(&Inline, &vec![0.0; a], &vec![0.0; b], None, &mut vec![0.0; to], &mut vec![0.0; scratch])
    };
    assert_eq!(run(6, 12, 8, scratch), Ok(()));
    for (a, b, to, s) in [(5, 12, 8, scratch), (6, 11, 8, scratch), (6, 12, 9, scratch), (6, 12, 8, scratch - 1)] {
        assert!(matches!(run(a, b, to, s), Err(Error::Length { .. })), "{a} {b} {to} {s}");
    }
}
