//! From how often values occur to the range that bytes stand for.

use super::Histogram;
use crate::error::{Error, Result};

/// How the range of a value's bytes is found. What is outside becomes its nearest end.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Method {
    /// From the smallest to the largest value.
    MinMax,
    /// All but a share of the values: 0.9999 leaves out the outermost ten-thousandth, half of it on each side that there is.
    Percentile(f64),
    /// The range whose bytes tell most of how values are distributed: that of the smallest Kullback–Leibler divergence (Migacz, 8-bit
    /// inference with TensorRT, 2017).
    Entropy,
    /// The range with the smallest mean squared error.
    Mse,
}

/// Magnitudes that are tried: shares of the largest.
const CANDIDATES: usize = 100;

impl Method {
    /// The range for values that occur as often as this.
    pub fn range(self, histogram: &Histogram) -> (f32, f32) {
        let (low, high) = (histogram.low(), histogram.high());
        match self {
            Method::MinMax => (low, high),
            Method::Percentile(share) => percentile(histogram, share),
            Method::Entropy => best(histogram, divergence),
            Method::Mse => best(histogram, squared_error),
        }
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Method::MinMax => f.write_str("min-max"),
            Method::Percentile(share) => write!(f, "percentile:{}", share * 100.0),
            Method::Entropy => f.write_str("entropy"),
            Method::Mse => f.write_str("mse"),
        }
    }
}

impl std::str::FromStr for Method {
    type Err = Error;

    /// Reads `min-max`, `percentile` (99.99), `percentile:99.9`, `entropy` or `mse`.
    fn from_str(text: &str) -> Result<Method> {
        let refuse = |reason: &str| Error::InvalidArgument { argument: format!("method `{text}`"), reason: reason.into() };
        match text.trim().split_once(':') {
            None => match text.trim() {
                "min-max" => Ok(Method::MinMax),
                "percentile" => Ok(Method::Percentile(0.9999)),
                "entropy" => Ok(Method::Entropy),
                "mse" => Ok(Method::Mse),
                _ => Err(refuse("expected min-max, percentile, percentile:N, entropy or mse")),
            },
            Some(("percentile", number)) => match number.parse::<f64>() {
                Ok(percent) if percent > 50.0 && percent <= 100.0 => Ok(Method::Percentile(percent / 100.0)),
                _ => Err(refuse("expected a percentage above 50 and no more than 100")),
            },
            Some(_) => Err(refuse("only percentile has a number")),
        }
    }
}

fn percentile(histogram: &Histogram, share: f64) -> (f32, f32) {
    let (low, high) = (histogram.low(), histogram.high());
    let sides = f64::from(u8::from(low < 0.0) + u8::from(high > 0.0)).max(1.0);
    let left_out = histogram.total() as f64 * (1.0 - share) / sides;
    let cut = |mut bins: Box<dyn Iterator<Item = (f64, u64)> + '_>| {
        let mut seen = 0.0;
        bins.find(|(_, count)| {
            seen += *count as f64;
            seen > left_out
        })
        .map_or(0.0, |(middle, _)| middle)
    };
    let bins: Vec<(f64, u64)> = histogram.bins().collect();
    let from_below = cut(Box::new(bins.iter().copied())).max(f64::from(low)).min(0.0);
    let from_above = cut(Box::new(bins.iter().rev().copied())).min(f64::from(high)).max(0.0);
    (if low < 0.0 { from_below as f32 } else { 0.0 }, if high > 0.0 { from_above as f32 } else { 0.0 })
}

/// The range that costs least of those that leave out what is larger than some magnitude: an outlier on one side takes nothing from
/// the other.
fn best(histogram: &Histogram, cost: fn(&[(f64, u64)], f64, f64) -> f64) -> (f32, f32) {
    let bins: Vec<(f64, u64)> = histogram.bins().collect();
    let (low, high) = (f64::from(histogram.low()), f64::from(histogram.high()));
    let largest = high.max(-low);
    let mut least = (f64::INFINITY, (low, high));
    for step in (CANDIDATES / 20..=CANDIDATES).rev() {
        let magnitude = largest * step as f64 / CANDIDATES as f64;
        let range = (low.max(-magnitude), high.min(magnitude));
        let found = cost(&bins, range.0, range.1);
        if found < least.0 {
            least = (found, range);
        }
    }
    (least.1.0 as f32, least.1.1 as f32)
}

/// Mean squared error of rounding within the range and of clipping outside, but for a factor.
fn squared_error(bins: &[(f64, u64)], low: f64, high: f64) -> f64 {
    let step = (high - low) / 255.0;
    let error = |x: f64| {
        let outside = (x - high).max(low - x).max(0.0);
        if outside > 0.0 { outside * outside } else { step * step / 12.0 }
    };
    bins.iter().map(|(x, count)| error(*x) * *count as f64).sum()
}

/// Kullback–Leibler divergence of the clipped distribution from what 256 levels leave of it.
fn divergence(bins: &[(f64, u64)], low: f64, high: f64) -> f64 {
    let level = |x: f64| if high > low { ((x - low) / (high - low) * 256.0).clamp(0.0, 255.0) as usize } else { 0 };
    // Of each level how much there is inside the range, and in how many bins; what was clipped counts in P alone.
    let mut inside = [(0.0f64, 0u32); 256];
    let mut clipped = [0.0f64; 2];
    for &(x, count) in bins {
        if x < low {
            clipped[0] += count as f64;
        } else if x > high {
            clipped[1] += count as f64;
        } else {
            let (sum, bins) = &mut inside[level(x)];
            (*sum, *bins) = (*sum + count as f64, *bins + 1);
        }
    }
    let kept: Vec<(f64, u64)> = bins.iter().copied().filter(|(x, _)| (low..=high).contains(x)).collect();
    let all: f64 = bins.iter().map(|(_, count)| *count as f64).sum();
    let total: f64 = inside.iter().map(|(sum, _)| sum).sum();
    if total == 0.0 {
        return f64::INFINITY;
    }
    let last = kept.len() - 1;
    let term = |(index, &(x, count)): (usize, &(f64, u64))| {
        let mut p = count as f64;
        p += if index == 0 { clipped[0] } else { 0.0 } + if index == last { clipped[1] } else { 0.0 };
        let (sum, bins) = inside[level(x)];
        let (p, q) = (p / all, sum / f64::from(bins) / total);
        p * (p / q).ln()
    };
    kept.iter().enumerate().map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell around zero of some width, cut off at zero if it is one of ReLU, and a few outliers.
    fn bell(relu: bool, outlier: f32) -> Histogram {
        let mut histogram = Histogram::default();
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let values: Vec<f32> = (0..200_000).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
        let values: Vec<f32> = values.into_iter().map(|x| if relu { x.max(0.0) } else { x }).collect();
        histogram.add(&values);
        histogram.add(&[outlier]);
        histogram
    }

    #[test]
    fn outliers_are_left_out_by_all_but_min_max() {
        for relu in [false, true] {
            let histogram = bell(relu, 50.0);
            assert_eq!(Method::MinMax.range(&histogram).1, 50.0);
            // The square of even one outlier weighs as much as the rounding of thousands.
            for (method, most) in [(Method::Percentile(0.9999), 12.0), (Method::Entropy, 12.0), (Method::Mse, 45.0)] {
                let (low, high) = method.range(&histogram);
                assert!((2.0..most).contains(&high), "{method}: {low} to {high}");
                assert!(if relu { low == 0.0 } else { low < -0.3 }, "{method}: {low} to {high}");
            }
        }
    }

    #[test]
    fn without_outliers_nearly_all_is_kept() {
        let histogram = bell(false, 0.0);
        for method in [Method::Percentile(1.0), Method::Mse] {
            let (low, high) = method.range(&histogram);
            assert!(low <= histogram.low() * 0.6 && high >= histogram.high() * 0.6, "{method}: {low} to {high}");
        }
    }

    #[test]
    fn ranges_of_nothing_and_of_zeros_are_no_ranges() {
        let mut zeros = Histogram::default();
        zeros.add(&[0.0; 100]);
        for histogram in [Histogram::default(), zeros] {
            for method in [Method::MinMax, Method::Percentile(0.999), Method::Entropy, Method::Mse] {
                assert_eq!(method.range(&histogram), (0.0, 0.0), "{method}");
            }
        }
    }

    #[test]
    fn methods_are_read_as_they_are_written() {
        for text in ["min-max", "percentile:99.9", "entropy", "mse"] {
            assert_eq!(text.parse::<Method>().unwrap().to_string(), text);
        }
        assert_eq!("percentile".parse::<Method>().unwrap(), Method::Percentile(0.9999));
        for bad in ["", "kl", "percentile:", "percentile:101", "percentile:50", "percentile:nan", "mse:3"] {
            assert!(bad.parse::<Method>().unwrap_err().to_string().contains(bad), "{bad}");
        }
    }
}
