//! Exponential, logarithm and what is made of them, sixteen lanes at a time.
//!
//! Argument reduction is that of Cody and Waite (Software Manual for the Elementary Functions, 1980); the polynomials are minimax
//! fits of the remaining factor, weighted for the function's relative error (Lawson's iteration over 400 Chebyshev nodes), their
//! coefficients rounded to f32. Errors were measured against f64 over a dense set of arguments; `tests/functions.rs` prints and bounds them.

use super::lanes::Lanes;

const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;
/// Adding it leaves an integer in the lowest bits.
const MAGIC: f32 = 12_582_912.0;

/// `c[0] + c[1]·x + c[2]·x² + …` by Horner's rule.
#[inline(always)]
unsafe fn polynomial<V: Lanes, const N: usize>(x: V, c: &[f32; N]) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let mut sum = V::splat(c[N - 1]);
        for i in (0..N - 1).rev() {
            sum = sum.fma(x, V::splat(c[i]));
        }
        sum
    }
}

/// 2^k for an integral k from −126 to 127.
#[inline(always)]
unsafe fn power_of_two<V: Lanes>(k: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe { k.add(V::splat(MAGIC + 127.0)).exponent_up() }
}

/// k and e^r − 1 with x = k·ln 2 + r, |r| ≤ ln 2 / 2.
#[inline(always)]
unsafe fn reduced_exp<V: Lanes>(x: V) -> (V, V) {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let k = x.fma(V::splat(std::f32::consts::LOG2_E), V::splat(MAGIC)).sub(V::splat(MAGIC));
        let r = k.fma(V::splat(-LN2_LOW), k.fma(V::splat(-LN2_HIGH), x));
        let p = polynomial(r, &[0.5, 0.166_665_42, 0.041_666_28, 0.008_366_644, 0.001_394_655_2]);
        (k, p.fma(r.mul(r), r))
    }
}

/// e^x: 1.01 ulp; 0 below −104, ∞ above 88.73.
#[inline(always)]
pub(crate) unsafe fn exp<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let x = x.at_least(V::splat(-104.5)).at_most(V::splat(89.0));
        let (k, p) = reduced_exp(x);
        // In two steps: 2^k itself may be out of range where the result is not.
        let half = k.mul(V::splat(0.5)).add(V::splat(MAGIC)).sub(V::splat(MAGIC));
        p.add(V::splat(1.0)).mul(power_of_two(half)).mul(power_of_two(k.sub(half)))
    }
}

/// e^x − 1 for x ≤ 0: 0.9 ulp.
#[inline(always)]
pub(crate) unsafe fn expm1_of_negative<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let (k, p) = reduced_exp(x.at_least(V::splat(-20.0)));
        let scale = power_of_two(k);
        scale.fma(p, scale.sub(V::splat(1.0)))
    }
}

/// ln x: 0.8 ulp; −∞ at 0, NaN below.
#[inline(always)]
pub(crate) unsafe fn log<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let one = V::splat(1.0);
        // Denormals are made normal.
        let tiny = V::splat(f32::MIN_POSITIVE);
        let scaled = x.if_less(tiny, x.mul(V::splat(8_388_608.0)), x);
        let less = x.if_less(tiny, V::splat(23.0), V::splat(0.0));
        // The exponent, read as the last bits of a float from 2^23 on.
        let exponent = scaled.exponent_down().or(V::splat(8_388_608.0)).sub(V::splat(8_388_608.0 + 127.0)).sub(less);
        let mantissa = scaled.and(V::splat_bits(0x007f_ffff)).or(one);
        let root = V::splat(std::f32::consts::SQRT_2);
        let f = root.if_less(mantissa, mantissa.mul(V::splat(0.5)), mantissa).sub(one);
        let e = root.if_less(mantissa, exponent.add(one), exponent);
        let p = polynomial(
            f,
            &[0.333_333_3, -0.250_008_23, 0.200_012_27, -0.166_233_57, 0.142_017_62, -0.131_601_94, 0.127_615_5, -0.076_344_3],
        );
        let square = f.mul(f);
        let mut y = p.mul(square).mul(f);
        y = e.fma(V::splat(LN2_LOW), y);
        y = square.fma(V::splat(-0.5), y);
        let result = e.fma(V::splat(LN2_HIGH), f.add(y));
        let result = x.if_less(V::splat(f32::INFINITY), result, x);
        let result = x.if_less(V::splat(0.0), V::splat(f32::NAN), result);
        x.if_equal(V::splat(0.0), V::splat(f32::NEG_INFINITY), result)
    }
}

/// ln(1 + x) for 0 ≤ x ≤ 1: 1.5 ulp.
#[inline(always)]
unsafe fn log1p_of_fraction<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let one = V::splat(1.0);
        let u = x.add(one);
        // What was lost when 1 was added.
        log(u).add(x.sub(u.sub(one)).div(u))
    }
}

/// tanh x: 1.3 ulp.
#[inline(always)]
pub(crate) unsafe fn tanh<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let a = x.abs();
        let square = x.mul(x);
        let p = polynomial(square, &[-0.333_332_8, 0.133_314_42, -0.053_739_71, 0.020_639_08, -0.005_704_978_5]);
        let near = p.mul(square).fma(a, a);
        let e = exp(a.add(a).at_most(V::splat(40.0))).add(V::splat(1.0));
        let far = V::splat(1.0).sub(V::splat(2.0).div(e));
        a.if_less(V::splat(0.625), near, far).or(x.sign_bit())
    }
}

/// erf x: 1.01 ulp.
#[inline(always)]
pub(crate) unsafe fn erf<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let a = x.abs();
        let square = x.mul(x);
        let near =
            polynomial(square, &[0.128_379_17, -0.376_126_32, 0.112_836_73, -0.026_858_104, 0.005_197_797, -0.000_810_596_5, 8.215_423e-5]);
        let near = near.fma(a, a);
        // −ln(1 − erf a) = a·Q(a); from 4 on the result is 1.
        let bounded = a.at_most(V::splat(4.0));
        let q =
            polynomial(bounded, &[1.128_66, 0.635_105, 0.106_313_11, -0.023_827_426, 0.003_673_233_3, -0.000_330_342_94, 1.198_180_1e-5]);
        let far = V::splat(1.0).sub(exp(q.mul(bounded).neg()));
        a.if_less(V::splat(0.945), near, far).or(x.sign_bit())
    }
}

/// 1 / (1 + e^−x): 2.1 ulp.
#[inline(always)]
pub(crate) unsafe fn sigmoid<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        let one = V::splat(1.0);
        let e = exp(x.abs().neg());
        x.if_less(V::splat(0.0), e, one).div(e.add(one))
    }
}

/// ln(1 + e^x): 1.9 ulp.
#[inline(always)]
pub(crate) unsafe fn softplus<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe { x.at_least(V::splat(0.0)).add(log1p_of_fraction(exp(x.abs().neg()))) }
}

/// x · tanh(ln(1 + e^x)): 4 ulp.
#[inline(always)]
pub(crate) unsafe fn mish<V: Lanes>(x: V) -> V {
    // SAFETY: the caller keeps Lanes' contract.
    unsafe {
        // tanh(ln(1 + e)) = n / (n + 2) with n = e·(e + 2).
        let e = exp(x.at_most(V::splat(20.0)));
        let n = e.mul(e.add(V::splat(2.0)));
        x.mul(n.div(n.add(V::splat(2.0))))
    }
}

/// x^y as IEEE 754 defines it, computed in f64 and rounded once: 0.501 ulp. Plain arithmetic, the same bits everywhere.
pub(crate) fn power(x: f32, y: f32) -> f32 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return f32::NAN;
    }
    let a = x.abs();
    if y.is_infinite() {
        return if a == 1.0 {
            1.0
        } else if (a > 1.0) == (y > 0.0) {
            f32::INFINITY
        } else {
            0.0
        };
    }
    // From 2^24 on every float is an even integer.
    let integral = y.abs() >= 16_777_216.0 || y as i32 as f32 == y;
    let odd = integral && y.abs() < 16_777_216.0 && y as i32 % 2 != 0;
    let sign = if x.is_sign_negative() && odd { -1.0 } else { 1.0 };
    if a == 0.0 || a.is_infinite() {
        return sign * if (a == 0.0) == (y > 0.0) { 0.0 } else { f32::INFINITY };
    }
    if x < 0.0 && !integral {
        return f32::NAN;
    }
    sign * exp2(f64::from(y) * log2(f64::from(a))) as f32
}

/// log₂ x of a positive normal number to within 1e-15: 2·artanh of (m − 1)/(m + 1) as a series.
fn log2(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let mut m = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1.0;
    }
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut sum = 0.0;
    for i in (0..11).rev() {
        sum = sum * square + 1.0 / f64::from(2 * i + 1);
    }
    exponent + 2.0 * std::f64::consts::LOG2_E * s * sum
}

/// 2^x to within 1e-15 of itself; beyond what f32 can hold, as good as 0 or ∞.
fn exp2(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let x = x.clamp(-300.0, 300.0);
    let k = if x < 0.0 { (x - 0.5) as i64 } else { (x + 0.5) as i64 };
    let r = (x - k as f64) * std::f64::consts::LN_2;
    let mut term = 1.0;
    for i in (1..=13).rev() {
        term = 1.0 + term * r / f64::from(i);
    }
    term * f64::from_bits(((1023 + k) as u64) << 52)
}

/// e^x in f64 to within 1e-15 of itself; beyond what f32 can hold, as good as 0 or ∞.
pub(crate) fn exp_f64(x: f64) -> f64 {
    exp2(x * std::f64::consts::LOG2_E)
}

/// ln x in f64 to within 1e-15, for x that came of f32 numbers: −∞ at 0, NaN below.
pub(crate) fn log_f64(x: f64) -> f64 {
    if x > 0.0 && x.is_finite() {
        return log2(x) * std::f64::consts::LN_2;
    }
    if x == 0.0 {
        f64::NEG_INFINITY
    } else if x < 0.0 {
        f64::NAN
    } else {
        x
    }
}

/// Rounded to what an f16 can hold: ten bits of fraction, the lowest exponent −14, infinite from 65520 on.
pub(crate) fn through_half(x: f32) -> f32 {
    if x.is_nan() || x.is_infinite() {
        return x;
    }
    let a = x.abs();
    if a >= 65_520.0 {
        return f32::INFINITY.copysign(x);
    }
    // Added, it leaves as many bits as an f16 has at x's size, and the hardware rounds to even.
    let exponent = ((a.to_bits() >> 23) as i32 - 127).max(-14);
    let magic = f64::from_bits(((1023 + exponent as i64 - 10 + 52) as u64) << 52);
    ((f64::from(a) + magic - magic) as f32).copysign(x)
}

/// Rounded to the upper half of a float's bits, to even.
pub(crate) fn through_bfloat(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let bits = x.to_bits();
    f32::from_bits((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000)
}
