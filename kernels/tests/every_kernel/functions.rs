//! Problems for the kernels of functions and what belongs to them.

use super::harness::functions::{self, erf};
use super::harness::{Guarded, buffer_of, dense_of, for_each, noise};
use super::{blocked, count_problem};
use stridewise_kernels::blocked::{Channels, Resample};
use stridewise_kernels::dense::{Combine, Map};
use stridewise_kernels::resize::{AxisMap, Coordinates, Interpolation, Rule};
use stridewise_kernels::{Binary, Inline, Kernel, KernelTable, Unary, testing};

/// The function of a kernel's name, `unary-silu-avx512`.
fn function_of(kernel: &Kernel) -> &str {
    kernel.name.split('-').nth(1).expect("a function in the name")
}

/// Numbers on both sides of zero; what the functions of them should be, tests of their own check more closely.
pub(super) fn unary(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let functions = [
        (Unary::Clip { low: -0.5, high: 0.25 }, (|x| x.clamp(-0.5, 0.25)) as fn(f64) -> f64),
        (Unary::LeakyRelu { alpha: 0.5 }, |x| if x < 0.0 { x / 2.0 } else { x }),
        (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (Unary::HardSigmoid { alpha: 0.25, beta: 0.5 }, |x| x / 4.0 + 0.5),
        (Unary::HardSwish, |x| x * (x / 6.0 + 0.5)),
        (Unary::Silu, |x| x / (1.0 + (-x).exp())),
        (Unary::Swish { alpha: 2.0 }, |x| x / (1.0 + (-2.0 * x).exp())),
        (Unary::Mish, |x| x * x.exp().ln_1p().tanh()),
        (Unary::Elu { alpha: 2.0 }, |x| if x < 0.0 { 2.0 * x.exp_m1() } else { x }),
        (Unary::Gelu, |x| x / 2.0 * (1.0 + erf(x / 2f64.sqrt()))),
        (Unary::GeluTanh, |x| x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())),
        (Unary::Erf, erf),
        (Unary::Tanh, f64::tanh),
        (Unary::Softplus, |x| x.exp().ln_1p()),
        (Unary::Softsign, |x| x / (1.0 + x.abs())),
        (Unary::ThresholdedRelu { alpha: 0.25 }, |x| if x > 0.25 { x } else { 0.0 }),
        (Unary::Exp, f64::exp),
        (Unary::Log, f64::ln),
        (Unary::Sqrt, f64::sqrt),
        (Unary::Abs, f64::abs),
        (Unary::Neg, |x| -x),
        (Unary::Reciprocal, f64::recip),
        (Unary::Sign, f64::signum),
        (Unary::Floor, f64::floor),
        (Unary::Ceil, f64::ceil),
        (Unary::Round, f64::round_ties_even),
        (Unary::Not, |_| 0.0),
        (Unary::IsNan, |_| 0.0),
        (Unary::Power { exponent: 2.0 }, |x| x * x),
        (Unary::Power { exponent: 3.0 }, |x| x * x * x),
        (Unary::Power { exponent: 0.5 }, f64::sqrt),
        (Unary::Power { exponent: -1.5 }, |x| x.powf(-1.5)),
        (Unary::Affine { scale: 0.5, shift: 2.0 }, |x| x / 2.0 + 2.0),
        (Unary::Identity, |x| x),
        (Unary::Trunc, f64::trunc),
        (Unary::RoundToHalf, |x| (x.abs() * 2048.0).round_ties_even() / 2048.0 * x.signum()),
        (Unary::RoundToBfloat, |x| x),
        (Unary::FakeQuantize { step: 0.125, low: -2.0, high: 3.0 }, |x| (x / 0.125).round_ties_even().clamp(-2.0, 3.0) * 0.125),
    ];
    let (function, exact) =
        functions.into_iter().find(|(f, _)| testing::unary_name(*f) == function_of(kernel)).unwrap_or_else(|| panic!("{}", kernel.name));
    // Two whole vectors and a part of one.
    let input: Vec<f32> = noise(9, 37).into_iter().map(|x| x + 1e-3).collect();
    let mut output = Guarded::filled(37, f32::NAN);
    Map::new(function, 37, table).run(&Inline, &Guarded::of(&input), &mut output).unwrap();
    count_problem();
    // Numbers below 1 have more bits in an f16 than 1 has, and a bf16 has eight.
    let tolerance = match function {
        Unary::RoundToHalf => 5e-4,
        Unary::RoundToBfloat => 4e-3,
        _ => 4e-7,
    };
    for (x, y) in input.iter().zip(&*output) {
        let exact = exact(f64::from(*x));
        let error = (f64::from(*y) - exact).abs();
        assert!(error <= tolerance * exact.abs().max(0.5) || (exact.is_nan() && y.is_nan()), "{}: {y} at {x}, not {exact}", kernel.name);
    }
    output.to_vec()
}

pub(super) fn binary(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let function = *Binary::ALL.iter().find(|f| testing::binary_name(**f) == function_of(kernel)).expect("a function of this name");
    let (mut a, mut b) = (noise(10, 37), noise(11, 37));
    (a[3], b[3], a[5], b[6]) = (0.5, 0.5, 0.0, 0.0);
    let mut output = Guarded::filled(37, f32::NAN);
    let op = Combine::new(function, &[37], &[37], Unary::Identity, table).unwrap();
    op.run(&Inline, &Guarded::of(&a), &Guarded::of(&b), &mut output).unwrap();
    count_problem();
    for ((&a, &b), &y) in a.iter().zip(&b).zip(&*output) {
        let plain = functions::binary(function, a, b);
        assert!(y == plain || (y.is_nan() && plain.is_nan()), "{}: {y} of {a} and {b}, not {plain}", kernel.name);
    }
    output.to_vec()
}

/// Rows of some lengths, without an op: those that use these kernels need several of them.
pub(super) fn reduce(table: &'static KernelTable, kernel: &Kernel) -> Vec<f32> {
    let mut found = Vec::new();
    for len in [1, 16, 37, 2100] {
        let input = Guarded::of(&noise(12, len));
        let (scale, shift) = (Guarded::of(&noise(13, len)), Guarded::of(&noise(14, len)));
        let mut output = Guarded::filled(len, f32::NAN);
        count_problem();
        let wide = || input.iter().map(|x| f64::from(*x));
        if kernel.family == "normalize" {
            testing::normalize(table, &input, [0.25, 0.75], &scale, &shift, &mut output);
            for i in 0..len {
                assert_eq!(output[i], ((input[i] - 0.25) * 0.75).mul_add(scale[i], shift[i]), "{}", kernel.name);
            }
            found.extend_from_slice(&output);
            continue;
        }
        let name = function_of(kernel);
        let value = testing::reduce(table, name, &input, 0.25, &mut output);
        let exact: f64 = match name {
            "sum" => wide().sum(),
            "max" => wide().fold(f64::NEG_INFINITY, f64::max),
            "deviation" => wide().map(|x| (x - 0.25).powi(2)).sum(),
            "exp_sum" => wide().map(|x| (x - 0.25).exp()).sum(),
            other => panic!("{other} has no definition here"),
        };
        assert!((f64::from(value) - exact).abs() <= 1e-6 * len as f64, "{}: {value}, not {exact}", kernel.name);
        found.push(value);
        if name == "exp_sum" {
            assert!(input.iter().zip(&*output).all(|(x, e)| (e - (x - 0.25).exp()).abs() <= 1e-6 * e), "{}", kernel.name);
            found.extend_from_slice(&output);
        }
    }
    found
}

/// Two buffers one behind the other, so that lanes of both meet in one block.
pub(super) fn blend(table: &'static KernelTable) -> Vec<f32> {
    let (a, b, to) = (blocked([1, 5, 2, 4]), blocked([1, 30, 2, 4]), blocked([1, 35, 2, 4]));
    let (x, y) = (noise(15, 40), noise(16, 240));
    let mut output = Guarded::filled(to.len(), f32::NAN);
    let op = Channels::concat(&[a, b], to, table).unwrap();
    op.run(&Inline, &[&buffer_of(&a, &x), &buffer_of(&b, &y)], &mut output).unwrap();
    count_problem();
    let found = dense_of(&to, &output);
    assert_eq!(found, [x, y].concat(), "{}", table.name());
    found
}

/// Twice as many rows and columns, linearly.
pub(super) fn resample(table: &'static KernelTable) -> Vec<f32> {
    let (from, to) = (blocked([1, 17, 3, 4]), blocked([1, 17, 6, 8]));
    let input = noise(17, 17 * 12);
    let rule = Rule { coordinates: Coordinates::HalfPixel, interpolation: Interpolation::Linear, exclude_outside: false, antialias: false };
    let map = |size: usize| AxisMap::new(size, 2 * size, 2.0, &rule).unwrap();
    let mut output = Guarded::filled(to.len(), f32::NAN);
    let op = Resample::new(from, to, map(3), map(4), table).unwrap();
    op.run(&Inline, &buffer_of(&from, &input), &mut output).unwrap();
    count_problem();
    let found = dense_of(&to, &output);
    let mut values = found.iter();
    for_each(to.dims(), |[_, c, y, x]| {
        // The two neighbours along an axis, and the weight of the second.
        let near = |i: usize, size: usize| {
            let at = (i as f64 + 0.5) / 2.0 - 0.5;
            let clamp = |x: f64| x.clamp(0.0, size as f64 - 1.0) as usize;
            (clamp(at.floor()), clamp(at.floor() + 1.0), at - at.floor())
        };
        let ((y0, y1, v), (x0, x1, u)) = (near(y, 3), near(x, 4));
        let at = |y: usize, x: usize| f64::from(input[(c * 3 + y) * 4 + x]);
        let exact = (at(y0, x0) * (1.0 - u) + at(y0, x1) * u) * (1.0 - v) + (at(y1, x0) * (1.0 - u) + at(y1, x1) * u) * v;
        let value = f64::from(*values.next().unwrap());
        assert!((value - exact).abs() <= 1e-6, "{}: {value}, not {exact}", table.name());
    });
    found
}

/// Sums over a plane, of numbers or of squares; without an op, since normalising needs both.
pub(super) fn lane_sums(table: &'static KernelTable, index: usize) -> Vec<f32> {
    let g = blocked([1, 16, 5, 7]);
    let input = noise(18, 16 * 35);
    let (buffer, shift) = (buffer_of(&g, &input), Guarded::of(&noise(19, 16)));
    let mut output = Guarded::filled(16, f32::NAN);
    testing::lane_sums(table, index == 1, (&g, &buffer), &shift, &mut output);
    count_problem();
    for (c, value) in output.iter().enumerate() {
        let values = input[c * 35..][..35].iter().map(|x| f64::from(*x));
        let exact: f64 = if index == 0 { values.sum() } else { values.map(|x| (x - f64::from(shift[c])).powi(2)).sum() };
        assert!((f64::from(*value) - exact).abs() <= 1e-5, "{}: {value}, not {exact}", table.name());
    }
    output.to_vec()
}
