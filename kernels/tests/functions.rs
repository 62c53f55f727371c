//! Functions against f64: the error in units of the last place over arguments of every size, the same bits on every table, and
//! special values as IEEE 754 and ONNX say.

mod harness;

use harness::functions::{binary, erf};
use harness::{Guarded, Threads, at_both_ends, bits, part_of};
use stridewise_kernels::dense::{Combine, Map};
use stridewise_kernels::{Binary, Inline, KernelTable, Unary};

/// Every 1999th float, of both signs and of every exponent, and a dense set around zero.
fn arguments() -> Vec<f32> {
    let all = (0..u32::MAX / 1999).map(|i| f32::from_bits(i * 1999)).filter(|x| !x.is_nan());
    all.chain((-20_000..20_000).map(|i| i as f32 * 1e-3)).collect()
}

fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn elu(x: f64, alpha: f64) -> f64 {
    if x < 0.0 { alpha * x.exp_m1() } else { x }
}

/// Each function with its definition in f64 and the most units of the last place that it may be off.
type Case = (Unary, fn(f64) -> f64, f64);

const CASES: &[Case] = &[
    (Unary::Exp, f64::exp, 1.3),
    (Unary::Log, f64::ln, 1.2),
    (Unary::Tanh, f64::tanh, 2.0),
    (Unary::Erf, erf, 1.5),
    (Unary::Sigmoid, sigmoid, 2.5),
    (Unary::Silu, |x| x * sigmoid(x), 3.0),
    (Unary::Softplus, softplus, 2.5),
    (Unary::Mish, |x| x * softplus(x).tanh(), 4.5),
    (Unary::Elu { alpha: 1.0 }, |x| elu(x, 1.0), 2.5),
    (Unary::Celu { alpha: 2.0 }, |x| x.max(0.0) + (2.0 * (x / 2.0).exp_m1()).min(0.0), 2.5),
    (Unary::Sqrt, f64::sqrt, 0.5),
    (Unary::Reciprocal, f64::recip, 0.5),
    (Unary::Power { exponent: 0.5 }, f64::sqrt, 0.5),
    (Unary::Power { exponent: 2.5 }, |x| x.powf(2.5), 0.51),
    (Unary::Power { exponent: -3.0 }, |x| x.powi(-3), 0.51),
    (Unary::Power { exponent: 3.0 }, |x| x.powi(3), 1.5),
    (Unary::Power { exponent: 2.0 }, |x| x * x, 0.5),
    (Unary::Softsign, |x| x / (1.0 + x.abs()), 1.6),
    (Unary::Floor, f64::floor, 0.0),
    (Unary::Ceil, f64::ceil, 0.0),
    (Unary::Round, |x| x.round_ties_even(), 0.0),
    (Unary::Abs, f64::abs, 0.0),
    (Unary::Neg, |x| -x, 0.0),
    (Unary::Relu, |x| x.max(0.0), 0.0),
    (Unary::LeakyRelu { alpha: 0.25 }, |x| if x < 0.0 { x * 0.25 } else { x }, 0.5),
    (Unary::Clip { low: -1.5, high: 2.0 }, |x| x.clamp(-1.5, 2.0), 0.0),
    (Unary::ThresholdedRelu { alpha: 1.5 }, |x| if x > 1.5 { x } else { 0.0 }, 0.0),
    (Unary::Sign, |x| if x == 0.0 { 0.0 } else { x.signum() }, 0.0),
    (Unary::Not, |x| f64::from(u8::from(x == 0.0)), 0.0),
    (Unary::IsNan, |x| f64::from(u8::from(x.is_nan())), 0.0),
    (Unary::Identity, |x| x, 0.0),
    // A step that is a power of two: no quotient is rounded.
    (Unary::FakeQuantize { step: 0.25, low: -128.0, high: 127.0 }, |x| (x / 0.25).round_ties_even().clamp(-128.0, 127.0) * 0.25, 0.0),
];

fn map(table: &'static KernelTable, f: Unary, x: &[f32]) -> Vec<f32> {
    let mut found = Vec::new();
    at_both_ends(|_| {
        let mut y = Guarded::filled(x.len(), f32::NAN);
        Map::new(f, x.len(), table).run(&Inline, &Guarded::of(x), &mut y).unwrap();
        found = y.to_vec();
    });
    found
}

/// Distance in units of the last place of the exact value; those of the smallest normal number below it.
fn ulps(value: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if rounded.is_nan() || rounded.is_infinite() {
        let same = if rounded.is_nan() { value.is_nan() } else { value == rounded };
        // Rounded up to infinity, or to the largest number.
        let close = value.abs() == f32::MAX || (value.is_infinite() && exact.abs() > 3.4028e38 && value.signum() == rounded.signum());
        return if same || close { 0.0 } else { f64::INFINITY };
    }
    if value.is_infinite() && rounded.abs() > 3.4028e38 {
        return 0.0;
    }
    // Products of a large argument and a denormal factor keep the factor's few bits.
    if exact.abs() < 1e-35 && (f64::from(value) - exact).abs() < 1e-42 {
        return 0.0;
    }
    let exponent = exact.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor() as i32;
    (f64::from(value) - exact).abs() / 2f64.powi(exponent - 23)
}

#[test]
fn errors_are_within_the_stated_units_of_the_last_place() {
    let x: Vec<f32> = part_of(arguments()).collect();
    let tables = KernelTable::all();
    for &(f, exact, bound) in CASES {
        let y = map(tables[tables.len() - 1], f, &x);
        let mut worst = (0.0, 0.0f32, 0.0f32);
        for (&x, &y) in x.iter().zip(&y) {
            let error = ulps(y, exact(f64::from(x)));
            if error > worst.0 || error.is_nan() {
                worst = (error, x, y);
            }
        }
        println!("{f:?}: {:.3} ulp at {}", worst.0, worst.1);
        assert!(worst.0 <= bound, "{f:?}: {worst:?}, exact {}", exact(f64::from(worst.1)));
    }
}

/// GELU is a difference that cancels far below zero: the error is bounded by units of the last place of the argument.
#[test]
fn gelu_is_close_relative_to_its_argument() {
    let x: Vec<f32> = part_of(arguments()).filter(|x| x.abs() < 1e30).collect();
    let tables = KernelTable::all();
    let inner = |x: f64| (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    let cases: [(Unary, &dyn Fn(f64) -> f64); 5] = [
        (Unary::Gelu, &|x| x / 2.0 * (1.0 + erf(x / 2f64.sqrt()))),
        (Unary::GeluTanh, &|x| x / 2.0 * (1.0 + inner(x).tanh())),
        (Unary::HardSwish, &|x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        (Unary::Swish { alpha: 1.5 }, &|x| x * sigmoid(1.5 * x)),
        (Unary::HardSigmoid { alpha: 0.25, beta: 0.5 }, &|x| (x * 0.25 + 0.5).clamp(0.0, 1.0)),
    ];
    for (f, exact) in cases {
        for (&x, &y) in x.iter().zip(&map(tables[tables.len() - 1], f, &x)) {
            let (wide, error) = (f64::from(x), (f64::from(y) - exact(f64::from(x))).abs());
            assert!(
                error
                    <= 4.0
                        * f64::from(f32::EPSILON)
                        * wide.abs().min(1e30).max(if matches!(f, Unary::HardSigmoid { .. }) { 1.0 } else { 1e-30 }),
                "{f:?} of {x}: {y}, not {}",
                exact(wide)
            );
        }
    }
}

#[test]
fn every_table_and_a_single_number_give_the_same_bits() {
    let x: Vec<f32> = arguments().into_iter().step_by(101).chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0]).collect();
    let others = [Unary::Gelu, Unary::GeluTanh, Unary::HardSwish, Unary::Swish { alpha: 1.5 }, Unary::Selu { alpha: 1.67, gamma: 1.05 }];
    let quantized = Unary::FakeQuantize { step: 0.037, low: -3.0, high: 252.0 };
    let more = [Unary::HardSigmoid { alpha: 0.2, beta: 0.5 }, Unary::Affine { scale: 0.3, shift: -1.0 }, quantized];
    for f in CASES.iter().map(|c| c.0).chain(others).chain(more) {
        let single: Vec<f32> = x.iter().map(|&x| f.apply(x)).collect();
        for table in KernelTable::all() {
            assert!(bits(&map(table, f, &x)) == bits(&single), "{f:?} on {table:?}");
        }
    }
}

#[test]
fn limits_and_nan() {
    let inf = f32::INFINITY;
    for f in CASES.iter().map(|c| c.0).chain([Unary::Gelu, Unary::GeluTanh, Unary::HardSwish, Unary::Swish { alpha: 2.0 }]) {
        let nan = f.apply(f32::NAN);
        let expected = match f {
            Unary::IsNan => Some(1.0),
            Unary::Not | Unary::FakeQuantize { .. } => Some(0.0),
            Unary::ThresholdedRelu { .. } => Some(f32::NAN),
            _ => None,
        };
        assert!(nan.is_nan() || expected == Some(nan), "{f:?} of NaN is {nan}");
    }
    let at = |f: Unary, x: f32, y: f32| assert_eq!(f.apply(x).to_bits(), y.to_bits(), "{f:?} of {x}");
    at(Unary::Exp, -inf, 0.0);
    at(Unary::Exp, inf, inf);
    at(Unary::Log, 0.0, -inf);
    at(Unary::Log, inf, inf);
    assert!(Unary::Log.apply(-1.0).is_nan() && Unary::Sqrt.apply(-1.0).is_nan());
    at(Unary::Tanh, inf, 1.0);
    at(Unary::Tanh, -inf, -1.0);
    at(Unary::Tanh, -0.0, -0.0);
    at(Unary::Erf, -inf, -1.0);
    at(Unary::Sigmoid, -inf, 0.0);
    at(Unary::Sigmoid, inf, 1.0);
    at(Unary::Softplus, inf, inf);
    at(Unary::Softplus, -inf, 0.0);
    at(Unary::Elu { alpha: 2.0 }, -inf, -2.0);
    at(Unary::Reciprocal, -0.0, -inf);
    at(Unary::Floor, -0.5, -1.0);
    at(Unary::Ceil, -0.5, -0.0);
    at(Unary::Round, 2.5, 2.0);
    at(Unary::Round, -inf, -inf);
    at(Unary::Power { exponent: 0.5 }, -0.0, 0.0);
    for f in [Unary::Silu, Unary::Mish, Unary::Gelu, Unary::GeluTanh] {
        assert_eq!(f.apply(inf), inf, "{f:?}");
        assert_eq!(f.apply(-inf), 0.0, "{f:?}");
    }
}

#[test]
fn functions_of_two_numbers_are_those_of_plain_rust() {
    let specials =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -2.5, 0.3, f32::MAX, 1e-40, -7.0, 16_777_216.0];
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for x in specials {
        for y in specials {
            a.push(x);
            b.push(y);
        }
    }
    for &f in Binary::ALL {
        let expected: Vec<f32> = a.iter().zip(&b).map(|(&a, &b)| binary(f, a, b)).collect();
        for table in KernelTable::all() {
            let op = Combine::new(f, &[a.len()], &[b.len()], Unary::Identity, table).unwrap();
            let mut y = Guarded::filled(a.len(), f32::NAN);
            at_both_ends(|_| op.run(&Threads(2), &Guarded::of(&a), &Guarded::of(&b), &mut y).unwrap());
            for i in 0..a.len() {
                let same = y[i] == expected[i] || (y[i].is_nan() && expected[i].is_nan());
                assert!(same, "{f:?} of {} and {} on {table:?}: {}, not {}", a[i], b[i], y[i], expected[i]);
                assert_eq!(bits(&[y[i]]), bits(&[f.apply(a[i], b[i])]), "{f:?}");
            }
        }
    }
}
