//! Softmax of rows. A thousand classes take microseconds, so it is plain Rust in f64: the same bits everywhere.

/// Replaces each row of `width` elements by its softmax, the maximum subtracted first. A row that holds NaN becomes NaN.
pub fn softmax_rows(data: &mut [f32], width: usize) {
    for row in data.chunks_exact_mut(width.max(1)) {
        let maximum = row.iter().fold(f32::NEG_INFINITY, |m, &x| if m.is_nan() || m > x { m } else { x });
        let sum: f64 = row.iter().map(|&x| exp(f64::from(x) - f64::from(maximum))).sum();
        for x in row {
            *x = (exp(f64::from(*x) - f64::from(maximum)) / sum) as f32;
        }
    }
}

/// e^x for x ≤ 0 to within 1e-15: 2^k · e^r with |r| ≤ ln 2 / 2 and the Taylor polynomial of degree 13.
fn exp(x: f64) -> f64 {
    if x < -700.0 {
        return 0.0;
    }
    let k = (x * std::f64::consts::LOG2_E).round();
    // ln 2 in two parts, the first with enough zero bits that k times it is exact.
    let r = (x - k * 0.693_147_180_369_123_8) - k * 1.908_214_929_270_587_7e-10;
    let mut term = 1.0;
    for i in (1..=13).rev() {
        term = 1.0 + term * r / f64::from(i);
    }
    if k.is_nan() { k } else { term * f64::from_bits(((1023 + k as i64) as u64) << 52) }
}
