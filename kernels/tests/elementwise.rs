//! Element-wise ops against plain f32 arithmetic, bit for bit, on every table and number of threads.

mod harness;

use harness::{Guarded, Side, Threads, assert_borders_are_zero, bits, buffer_of, dense_of, fenced_at, noise, noise_with_specials, part_of};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::{Error, Geometry, Halo, Inline, KernelTable, Layout, softmax};

const HALOS: [[Halo; 3]; 2] = [
    [Halo::NONE; 3],
    [
        Halo { top: 1, left: 0, bottom: 2, right: 1 },
        Halo { top: 0, left: 3, bottom: 0, right: 0 },
        Halo { top: 2, left: 1, bottom: 1, right: 2 },
    ],
];

const SHAPES: [[usize; 4]; 8] =
    [[1, 1, 1, 1], [3, 3, 1, 1], [1, 15, 5, 4], [3, 16, 2, 7], [1, 17, 1, 9], [3, 33, 3, 2], [1, 33, 8, 8], [2, 16, 16, 4]];

/// Bounds of an activation: none, ReLU, ReLU6, on one side of zero, and NaN, which bounds nothing.
const BOUNDS: [(f32, f32); 6] =
    [(f32::NEG_INFINITY, f32::INFINITY), (0.0, f32::INFINITY), (0.0, 6.0), (0.25, 0.5), (f32::NEG_INFINITY, -0.125), (f32::NAN, f32::NAN)];

/// The lower bound where it is greater, the upper where it is less; NaN passes.
fn bounded(x: f32, (low, high): (f32, f32)) -> f32 {
    let x = if low > x { low } else { x };
    if high < x { high } else { x }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Family {
    Add,
    Clamp,
    Affine,
}

/// The operands of an op over one shape.
struct Operands {
    a: Vec<f32>,
    b: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

fn build(
    family: Family,
    o: &Operands,
    [a, b, to]: [Geometry; 3],
    bounds: (f32, f32),
    table: &'static KernelTable,
) -> Result<Elementwise, Error> {
    match family {
        Family::Add => Elementwise::add(a, b, to, bounds, table),
        Family::Clamp => Elementwise::clamp(a, to, bounds, table),
        Family::Affine => Elementwise::affine(a, to, &o.scale, &o.shift, bounds, table),
    }
}

fn check(family: Family, dims: [usize; 4], o: &Operands, bounds: (f32, f32)) {
    let [_, c, h, w] = dims;
    let plain = |i: usize| match family {
        Family::Add => o.a[i] + o.b[i],
        Family::Clamp => o.a[i],
        Family::Affine => o.a[i].mul_add(o.scale[i / (h * w) % c], o.shift[i / (h * w) % c]),
    };
    let expected: Vec<f32> = (0..o.a.len()).map(|i| bounded(plain(i), bounds)).collect();
    for table in KernelTable::all() {
        use Side::{End, Start};
        let setups = [(0, 1, End), (1, 3, Start), (0, 1, Start), (1, 2, End), (0, 5, Start), (0, 16, End)];
        for &(halos, threads, side) in if c > 16 { &setups[..] } else { &setups[..3] } {
            let geometries = HALOS[halos].map(|halo| Geometry::new(Layout::Nchw16c, dims, halo).unwrap());
            let [a, b, to] = geometries;
            let op = build(family, o, geometries, bounds, table).unwrap();
            let output = fenced_at(side, || {
                let mut output = Guarded::filled(to.len(), f32::NAN);
                let second = (family == Family::Add).then(|| buffer_of(&b, &o.b));
                op.run(&Threads(threads), &buffer_of(&a, &o.a), second.as_deref(), &mut output).unwrap();
                output
            });
            let context = format!("{family:?} of {dims:?} within {bounds:?} on {table:?}, {threads} threads");
            assert_borders_are_zero(&to, &output, &context);
            assert_eq!(bits(&dense_of(&to, &output)), bits(&expected), "{context}");
        }
    }
}

fn operands(dims: [usize; 4], values: fn(u64, usize) -> Vec<f32>) -> Operands {
    let len = dims.iter().product();
    Operands { a: values(11, len), b: values(12, len), scale: values(13, dims[1]), shift: values(14, dims[1]) }
}

#[test]
fn results_are_those_of_plain_f32_bit_for_bit() {
    for dims in part_of(SHAPES) {
        let o = operands(dims, noise);
        for family in [Family::Add, Family::Clamp, Family::Affine] {
            for bounds in BOUNDS {
                check(family, dims, &o, bounds);
            }
        }
    }
}

/// NaN, infinities, zeros of both signs, denormals and overflow: each as one IEEE 754 operation gives it.
#[test]
fn special_values_are_those_of_plain_f32_bit_for_bit() {
    for dims in part_of([[1, 16, 7, 5], [3, 33, 3, 3]]) {
        let o = operands(dims, noise_with_specials);
        // Another order, so that every special meets every other.
        let o = Operands { b: o.b.iter().rev().copied().collect(), ..o };
        for family in [Family::Add, Family::Clamp, Family::Affine] {
            for bounds in BOUNDS {
                check(family, dims, &o, bounds);
            }
        }
    }
}

#[test]
fn buffers_of_other_shapes_are_refused() {
    let table = KernelTable::all()[0];
    let g = |layout, dims| Geometry::new(layout, dims, Halo::NONE).unwrap();
    let right = g(Layout::Nchw16c, [2, 17, 3, 4]);
    let wrong = [
        g(Layout::Nchw16c, [1, 17, 3, 4]),
        g(Layout::Nchw16c, [2, 18, 3, 4]),
        g(Layout::Nchw16c, [2, 17, 4, 4]),
        g(Layout::Nchw16c, [2, 17, 3, 3]),
        g(Layout::Nchw, [2, 17, 3, 4]),
    ];
    let o = operands([2, 17, 3, 4], noise);
    for other in wrong {
        for family in [Family::Add, Family::Clamp, Family::Affine] {
            for geometries in [[other, right, right], [right, right, other], [right, other, right]] {
                if family != Family::Add && geometries[1] == other {
                    continue;
                }
                let result = build(family, &o, geometries, BOUNDS[0], table).map(|_| ());
                assert!(matches!(result, Err(Error::Problem { .. } | Error::Length { .. })), "{family:?} {geometries:?}");
            }
        }
    }
    let all_nchw = [g(Layout::Nchw, [2, 17, 3, 4]); 3];
    assert!(matches!(build(Family::Add, &o, all_nchw, BOUNDS[0], table).map(|_| ()), Err(Error::Problem { .. })));
}

#[test]
fn slices_of_other_lengths_are_refused() {
    let table = KernelTable::all()[0];
    let g = Geometry::new(Layout::Nchw16c, [2, 17, 3, 4], Halo::NONE).unwrap();
    let len = g.len();
    let run = |op: &Elementwise, a: usize, b: Option<usize>, to: usize| {
        op.run(&Inline, &vec![0.0; a], b.map(|b| vec![0.0; b]).as_deref(), &mut vec![0.0; to])
    };
    let add = Elementwise::add(g, g, g, BOUNDS[0], table).unwrap();
    let clamp = Elementwise::clamp(g, g, BOUNDS[0], table).unwrap();
    assert_eq!(run(&add, len, Some(len), len), Ok(()));
    assert_eq!(run(&clamp, len, None, len), Ok(()));
    for (a, b, to) in [(len - 1, Some(len), len), (len, Some(len + 1), len), (len, None, len), (len, Some(len), 0), (0, Some(0), 0)] {
        assert!(matches!(run(&add, a, b, to), Err(Error::Length { .. })), "{a} {b:?} {to}");
    }
    for (a, to) in [(len - 1, len), (len, len + 1)] {
        assert!(matches!(run(&clamp, a, None, to), Err(Error::Length { .. })), "{a} {to}");
    }
    for (scale, shift) in [(16, 17), (17, 18), (0, 17), (32, 32)] {
        let affine = Elementwise::affine(g, g, &vec![1.0; scale], &vec![0.0; shift], BOUNDS[0], table).map(|_| ());
        assert!(matches!(affine, Err(Error::Length { .. })), "{scale} {shift}");
    }
}

/// Differences as large as make e^x vanish, to within a unit of the last place.
#[test]
fn softmax_is_that_of_f64() {
    for i in 0..7000 {
        let x = -0.1 * i as f32;
        let mut row = [x, 0.0];
        softmax::softmax_rows(&mut row, 2);
        let exponential = f64::from(x).exp();
        for (found, exact) in row.into_iter().zip([exponential / (1.0 + exponential), 1.0 / (1.0 + exponential)]) {
            let exact = exact as f32;
            assert!(found.to_bits().abs_diff(exact.to_bits()) <= 1, "{x}: {found}, not {exact}");
        }
    }
}

/// NaN and infinite logits, rows of one element, and a length that is no multiple of the width.
#[test]
fn softmax_of_special_rows() {
    let row = |values: &[f32]| {
        let mut row = values.to_vec();
        softmax::softmax_rows(&mut row, values.len());
        row
    };
    assert_eq!(row(&[5.0]), [1.0]);
    assert_eq!(row(&[f32::NEG_INFINITY, 0.0, 0.0]), [0.0, 0.5, 0.5]);
    assert_eq!(row(&[f32::MAX, f32::MIN]), [1.0, 0.0]);
    assert!(row(&[f32::INFINITY, 0.0]).iter().any(|v| v.is_nan()));
    assert!(row(&[f32::NEG_INFINITY; 2]).iter().all(|v| v.is_nan()));
    let mut rows = [1000.0, -1000.0, 1000.0, f32::NAN, 0.0, 0.0];
    softmax::softmax_rows(&mut rows, 3);
    assert_eq!(rows[..3], [0.5, 0.0, 0.5]);
    assert!(rows[3..].iter().all(|v| v.is_nan()));
    let mut ragged = [1.0, 1.0, 7.0];
    softmax::softmax_rows(&mut ragged, 2);
    assert_eq!(ragged, [0.5, 0.5, 7.0]);
    softmax::softmax_rows(&mut [], 0);
}
