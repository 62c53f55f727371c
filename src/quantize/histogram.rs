//! How often values occur.

/// Bins on each side of zero.
const BINS: usize = 2048;

/// Counts of values in bins of one width around zero. The width doubles when a value is outside, so that one pass is enough and the
/// result does not depend on how values are grouped into calls.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// From −reach to reach.
    counts: Vec<u64>,
    reach: f32,
    low: f32,
    high: f32,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; 2 * BINS], reach: f32::MIN_POSITIVE, low: 0.0, high: 0.0 }
    }
}

impl Histogram {
    /// Counts values; what is not finite is left out.
    pub fn add(&mut self, values: &[f32]) {
        let finite = || values.iter().copied().filter(|x| x.is_finite());
        let (low, high) = finite().fold((self.low, self.high), |(low, high), x| (low.min(x), high.max(x)));
        (self.low, self.high) = (low, high);
        while self.reach <= high.max(-low) && self.reach < f32::MAX / 2.0 {
            self.double();
        }
        let per_unit = BINS as f64 / f64::from(self.reach);
        for x in finite() {
            let bin = (f64::from(x) * per_unit + BINS as f64).clamp(0.0, (2 * BINS - 1) as f64) as usize;
            self.counts[bin] += 1;
        }
    }

    /// Bins of twice the width: each two that come together become one.
    fn double(&mut self) {
        if self.counts.iter().any(|c| *c > 0) {
            let pairs: Vec<u64> = self.counts.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.counts.fill(0);
            self.counts[BINS / 2..BINS / 2 + BINS].copy_from_slice(&pairs);
        }
        self.reach *= 2.0;
    }

    /// The smallest value, or zero if that is smaller.
    pub fn low(&self) -> f32 {
        self.low
    }

    /// The largest value, or zero if that is larger.
    pub fn high(&self) -> f32 {
        self.high
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The middle of each bin that is not empty, and its count.
    pub fn bins(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let width = f64::from(self.reach) / BINS as f64;
        let middle = move |bin: usize| (bin as f64 + 0.5 - BINS as f64) * width;
        self.counts.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(bin, count)| (middle(bin), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_do_not_depend_on_how_values_come() {
        let values: Vec<f32> = (0..5000).map(|i| ((i * 7919) % 5003) as f32 / 700.0 - 2.0).collect();
        let mut whole = Histogram::default();
        whole.add(&values);
        for pieces in [1, 17, 999] {
            let mut other = Histogram::default();
            values.chunks(pieces).for_each(|piece| other.add(piece));
            assert_eq!(other.bins().collect::<Vec<_>>(), whole.bins().collect::<Vec<_>>(), "{pieces}");
            assert_eq!((other.low(), other.high(), other.total()), (whole.low(), whole.high(), 5000));
        }
    }

    #[test]
    fn what_is_not_finite_is_left_out() {
        let mut histogram = Histogram::default();
        histogram.add(&[f32::NAN, 1.0, f32::INFINITY, -0.5, f32::MAX, f32::NEG_INFINITY]);
        assert_eq!((histogram.low(), histogram.high(), histogram.total()), (-0.5, f32::MAX, 3));
        assert_eq!(Histogram::default().total(), 0);
    }
}
