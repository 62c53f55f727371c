//! What commands that measure share.

use crate::output::Failure;
use stridewise::{Shape, Tensor};

/// Values between -1 and 1 without a pattern that a cache or a branch predictor could learn.
pub fn pattern(shape: Shape) -> Result<Tensor<f32>, Failure> {
    let mut tensor = Tensor::zeros(shape)?;
    let mut state = 0x2545_f491u32;
    for value in tensor.as_mut_slice() {
        // Xorshift: Marsaglia, Xorshift RNGs (2003).
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    Ok(tensor)
}

/// The smallest of the sorted values that at least a share `q` of them does not exceed.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_measured_values() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!([0.0, 0.5, 0.95, 0.99, 1.0].map(|q| quantile(&values, q)), [1.0, 50.0, 95.0, 99.0, 100.0]);
        assert_eq!([0.0, 0.5, 1.0].map(|q| quantile(&[7.0], q)), [7.0; 3]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
