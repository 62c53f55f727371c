//! How the errors of a tensor are distributed: counts by half decade of |Δ| / max|ref|.

use super::metrics::{Comparison, difference};
use crate::tensor::{Element, TensorView};

/// Half decades that are counted on their own; smaller errors fall into the first, larger ones into the last.
const BINS: usize = 24;

/// The smallest decade: f64 references resolve no smaller errors of f32 values that matter.
const FIRST_DECADE: f64 = -11.0;

/// Counts of elements by the size of their error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErrorHistogram {
    /// Elements that equal their reference.
    pub exact: usize,
    /// Elements by half decade, smallest errors first.
    pub counts: [usize; BINS],
}

impl ErrorHistogram {
    /// Counts the errors of tensors that `comparison` was made from. Errors that are not finite fall into the last bin.
    pub fn new<A, B>(comparison: &Comparison, value: TensorView<'_, A>, reference: TensorView<'_, B>) -> ErrorHistogram
    where
        A: Element + Into<f64>,
        B: Element + Into<f64>,
    {
        let mut histogram = ErrorHistogram { exact: 0, counts: [0; BINS] };
        for (&value, &reference) in value.as_slice().iter().zip(reference.as_slice()) {
            let error = difference(value.into(), reference.into());
            if error == 0.0 {
                histogram.exact += 1;
                continue;
            }
            // A float-to-integer cast saturates: infinite and huge errors end in the last bin, tiny ones in the first.
            let bin = (2.0 * ((error / comparison.max_reference).log10() - FIRST_DECADE)).floor() as usize;
            histogram.counts[bin.min(BINS - 1)] += 1;
        }
        histogram
    }

    /// The smallest |Δ| / max|ref| of a bin.
    pub fn lower_edge(bin: usize) -> f64 {
        10f64.powf(FIRST_DECADE + bin as f64 / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Tolerance;
    use crate::tensor::{Shape, Tensor};

    #[test]
    fn each_error_falls_into_its_half_decade() {
        let values = [1.0f64, 2e-4, 5e-4, 1e-30, f64::NAN, 0.0];
        let value = Tensor::from_slice(Shape::new(&[6]).unwrap(), &values).unwrap();
        let reference = Tensor::from_slice(value.shape(), &[1.0f64, 0.0, 0.0, 0.0, 0.0, 0.0]).unwrap();
        let comparison = Comparison::new("x", value.view(), reference.view(), Tolerance::default()).unwrap();
        let histogram = ErrorHistogram::new(&comparison, value.view(), reference.view());
        let bin = |error: f64| (0..BINS).rev().find(|&b| ErrorHistogram::lower_edge(b) <= error).unwrap();
        assert_eq!(histogram.exact, 2);
        assert_eq!((histogram.counts[bin(2e-4)], histogram.counts[bin(5e-4)]), (1, 1));
        assert_eq!((histogram.counts[0], histogram.counts[BINS - 1]), (1, 1));
        assert_eq!(histogram.exact + histogram.counts.iter().sum::<usize>(), 6);
    }
}
