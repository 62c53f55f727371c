//! Error metrics between two tensors.

use crate::error::{Error, Result};
use crate::tensor::{Element, TensorView};

/// What counts as equal. Every condition that is set has to hold.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Tolerance {
    /// Largest max\|Δ\| / max\|ref\| over a whole tensor.
    pub max_error: Option<f64>,
    /// A bound for each element.
    pub elementwise: Option<Elementwise>,
}

/// |Δ| ≤ atol + rtol·|ref|, for each element, as `numpy.allclose` and `torch.testing.assert_close` have it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Elementwise {
    /// Relative to the reference element.
    pub rtol: f64,
    /// Absolute.
    pub atol: f64,
}

impl Tolerance {
    /// A tolerance whose bounds make sense.
    ///
    /// # Errors
    /// When a bound is negative, NaN or infinite.
    pub fn new(max_error: Option<f64>, elementwise: Option<Elementwise>) -> Result<Tolerance> {
        let bounds = [("max-error", max_error), ("rtol", elementwise.map(|e| e.rtol)), ("atol", elementwise.map(|e| e.atol))];
        for (argument, bound) in bounds {
            if let Some(bound) = bound.filter(|b| !(b.is_finite() && *b >= 0.0)) {
                let reason = format!("{bound} is no tolerance; a finite number that is not negative is needed");
                return Err(Error::InvalidArgument { argument: argument.into(), reason });
            }
        }
        Ok(Tolerance { max_error, elementwise })
    }
}

impl std::fmt::Display for Tolerance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.max_error {
            Some(bound) => write!(f, "max|Δ| ≤ {bound:e}·max|ref|")?,
            None if self.elementwise.is_none() => write!(f, "none")?,
            None => {}
        }
        if let Some(Elementwise { rtol, atol }) = self.elementwise {
            let and = if self.max_error.is_some() { " and " } else { "" };
            write!(f, "{and}|Δ| ≤ {atol:e} + {rtol:e}·|ref|")?;
        }
        Ok(())
    }
}

/// The largest deviation of one kind, and where it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Deviation {
    /// How large; infinite where only one of the two is finite.
    pub error: f64,
    /// Flat index, row-major.
    pub index: usize,
    /// The computed value there.
    pub value: f64,
    /// The reference there.
    pub reference: f64,
}

/// Elements that break a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Violations {
    /// How many.
    pub count: usize,
    /// Flat index of the first.
    pub first: Option<usize>,
}

impl Violations {
    fn add(&mut self, index: usize) {
        self.count += 1;
        self.first.get_or_insert(index);
    }
}

/// How many rows of `[N, classes]` have their largest value at the same place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreement {
    /// Rows in all.
    pub rows: usize,
    /// Rows that agree. A row that holds a NaN agrees with none.
    pub equal: usize,
}

/// Computed values held against reference values.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison {
    /// The dimensions of both.
    pub dims: Vec<usize>,
    /// The tolerance that they were held against.
    pub tolerance: Tolerance,
    /// Largest |Δ|.
    pub max_abs: Deviation,
    /// Largest |Δ| / |ref| over elements whose reference is not 0; none when every reference is 0.
    pub max_rel: Option<Deviation>,
    /// Largest finite |ref|.
    pub max_reference: f64,
    /// Root mean square of Δ.
    pub rms: f64,
    /// Cosine of the angle between the two as vectors: 1 for two zero vectors, 0 when only one is.
    pub cosine: f64,
    /// 10·log₁₀(Σref² / ΣΔ²); infinite when the two are equal.
    pub snr_db: f64,
    /// For tensors of two dimensions.
    pub argmax: Option<Agreement>,
    /// Elements beyond [`Tolerance::elementwise`].
    pub violations: Violations,
    /// Elements where one is NaN or infinite and the other is not the same. They make `max_abs` and `rms` infinite; the cosine
    /// and the signal-to-noise ratio then mean nothing and are 0 and −∞.
    pub non_finite: Violations,
}

impl Comparison {
    /// Holds `value` against `reference`, which `what` names in errors.
    ///
    /// # Errors
    /// When the shapes differ.
    pub fn new<A, B>(what: &str, value: TensorView<'_, A>, reference: TensorView<'_, B>, tolerance: Tolerance) -> Result<Comparison>
    where
        A: Element + Into<f64>,
        B: Element + Into<f64>,
    {
        if value.shape() != reference.shape() {
            return Err(Error::Shape { what: what.into(), expected: reference.shape().to_string(), found: value.shape().to_string() });
        }
        let pairs = || value.as_slice().iter().zip(reference.as_slice()).map(|(&v, &r)| (v.into(), r.into()));
        let (mut max_abs, mut max_rel) = (None::<Deviation>, None::<Deviation>);
        let (mut max_value, mut max_reference) = (0.0f64, 0.0f64);
        let (mut violations, mut non_finite) = (Violations::default(), Violations::default());
        for (index, (value, reference)) in pairs().enumerate() {
            let error = difference(value, reference);
            let larger = |best: &Option<Deviation>, error: f64| best.is_none_or(|b| error > b.error);
            if larger(&max_abs, error) {
                max_abs = Some(Deviation { error, index, value, reference });
            }
            if value.is_finite() && reference.is_finite() {
                (max_value, max_reference) = (max_value.max(value.abs()), max_reference.max(reference.abs()));
                let relative = error / reference.abs();
                if reference != 0.0 && larger(&max_rel, relative) {
                    max_rel = Some(Deviation { error: relative, index, value, reference });
                }
            } else if error != 0.0 {
                non_finite.add(index);
            }
            // `error` is never NaN; a bound that overflows is infinite and holds for finite errors only.
            if let Some(Elementwise { rtol, atol }) = tolerance.elementwise
                && error != 0.0
                && (error.is_infinite() || error > atol + rtol * reference.abs())
            {
                violations.add(index);
            }
        }
        let max_abs = max_abs.unwrap_or(Deviation { error: 0.0, index: 0, value: 0.0, reference: 0.0 });
        let sums = if non_finite.count == 0 { Sums::over(pairs(), max_value, max_reference, max_abs.error) } else { Sums::MEANINGLESS };
        Ok(Comparison {
            dims: value.dims().to_vec(),
            tolerance,
            max_abs,
            max_rel,
            max_reference,
            rms: sums.rms,
            cosine: sums.cosine,
            snr_db: sums.snr_db,
            argmax: agreement(value, reference),
            violations,
            non_finite,
        })
    }

    /// max|Δ| / max|ref|: the error on the scale of the tensor. 0 when both tensors are equal; infinite when only the reference
    /// is all zeros.
    pub fn relative_to_max(&self) -> f64 {
        if self.max_abs.error == 0.0 { 0.0 } else { self.max_abs.error / self.max_reference }
    }

    /// True when every value is finite where its reference is, and the tolerance holds.
    pub fn passed(&self) -> bool {
        // Negated, so that a NaN would fail.
        let within = self.tolerance.max_error.is_none_or(|bound| self.relative_to_max() <= bound);
        within && self.violations.count == 0 && self.non_finite.count == 0
    }

    /// Row, column, … of a flat index.
    pub fn position(&self, index: usize) -> Vec<usize> {
        let mut rest = index;
        let mut position: Vec<usize> = self
            .dims
            .iter()
            .rev()
            .map(|&d| {
                let d = d.max(1);
                let coordinate = rest % d;
                rest /= d;
                coordinate
            })
            .collect();
        position.reverse();
        position
    }

    /// The metrics as pairs of name and value, for people.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let place =
            |d: Deviation| format!("{:.3e} at {:?}: {}, reference {}", d.error, self.position(d.index), plain(d.value), plain(d.reference));
        let mut list = vec![("max|Δ| / max|ref|", format!("{:.3e}", self.relative_to_max())), ("max|Δ|", place(self.max_abs))];
        list.extend(self.max_rel.map(|d| ("max|Δ/ref|", place(d))));
        list.push(("RMS of Δ", format!("{:.3e}", self.rms)));
        list.push(("cosine", format!("{:.12}", self.cosine)));
        list.push(("SNR", format!("{:.1} dB", self.snr_db)));
        if let Some(a) = self.argmax {
            list.push(("argmax", format!("agrees in {} of {} rows", a.equal, a.rows)));
        }
        if self.non_finite.count > 0 {
            let at = self.position(self.non_finite.first.unwrap_or(0));
            list.push(("NaN or infinite", format!("{} elements unlike their reference, the first at {at:?}", self.non_finite.count)));
        }
        if self.violations.count > 0 {
            let at = self.position(self.violations.first.unwrap_or(0));
            list.push(("beyond rtol/atol", format!("{} elements, the first at {at:?}", self.violations.count)));
        }
        list
    }
}

/// Eight digits, with an exponent only where it helps.
fn plain(value: f64) -> String {
    if value == 0.0 || (1e-3..1e6).contains(&value.abs()) { format!("{value:.7}") } else { format!("{value:.7e}") }
}

/// |a − b|; 0 for two NaN and for two equal infinities, infinite where only one of them is finite.
pub(super) fn difference(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        0.0
    } else if a.is_finite() && b.is_finite() {
        // Two finite values may be further apart than the largest one.
        (a - b).abs().min(f64::MAX)
    } else {
        f64::INFINITY
    }
}

struct Sums {
    rms: f64,
    cosine: f64,
    snr_db: f64,
}

impl Sums {
    const MEANINGLESS: Sums = Sums { rms: f64::INFINITY, cosine: 0.0, snr_db: f64::NEG_INFINITY };

    /// Each factor is scaled by its largest magnitude first: no square overflows, and small ones do not vanish. Pairs that are
    /// not finite, and therefore equal, are left out.
    fn over(pairs: impl Iterator<Item = (f64, f64)>, max_value: f64, max_reference: f64, max_error: f64) -> Sums {
        let scale = |max: f64| if max > 0.0 { max } else { 1.0 };
        let (scale_v, scale_r, scale_e) = (scale(max_value), scale(max_reference), scale(max_error));
        let (mut vv, mut rr, mut vr, mut ee, mut count) = (0.0f64, 0.0f64, 0.0f64, 0.0f64, 0usize);
        for (value, reference) in pairs.filter(|(v, r)| v.is_finite() && r.is_finite()) {
            let (v, r, e) = (value / scale_v, reference / scale_r, (value - reference) / scale_e);
            vv += v * v;
            rr += r * r;
            vr += v * r;
            ee += e * e;
            count += 1;
        }
        let cosine = match (vv > 0.0, rr > 0.0) {
            (true, true) => (vr / (vv * rr).sqrt()).clamp(-1.0, 1.0),
            (false, false) => 1.0,
            _ => 0.0,
        };
        let snr_db = match (rr > 0.0, ee > 0.0) {
            (_, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            (true, true) => 10.0 * (rr / ee).log10() + 20.0 * (scale_r.log10() - scale_e.log10()),
        };
        Sums { rms: scale_e * (ee / count.max(1) as f64).sqrt(), cosine, snr_db }
    }
}

fn agreement<A, B>(value: TensorView<'_, A>, reference: TensorView<'_, B>) -> Option<Agreement>
where
    A: Element + Into<f64>,
    B: Element + Into<f64>,
{
    let &[rows, columns] = value.dims() else { return None };
    let row = columns.max(1);
    let both = value.as_slice().chunks_exact(row).zip(reference.as_slice().chunks_exact(row));
    let equal = both.filter(|(v, r)| matches!((argmax(v), argmax(r)), (Some(a), Some(b)) if a == b)).count();
    Some(Agreement { rows, equal })
}

/// The first index of the largest value; none when there is a NaN.
fn argmax<T: Copy + Into<f64>>(row: &[T]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, &x) in row.iter().enumerate() {
        let x: f64 = x.into();
        if x.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, largest)| x > largest) {
            best = Some((index, x));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Shape, Tensor};
    use proptest::prelude::*;

    fn tensor<T: Element>(dims: &[usize], data: &[T]) -> Tensor<T> {
        Tensor::from_slice(Shape::new(dims).unwrap(), data).unwrap()
    }

    fn compare(value: &[f32], reference: &[f64], tolerance: Tolerance) -> Comparison {
        let (v, r) = (tensor(&[1, value.len()], value), tensor(&[1, reference.len()], reference));
        Comparison::new("output", v.view(), r.view(), tolerance).unwrap()
    }

    fn within(max_error: f64) -> Tolerance {
        Tolerance::new(Some(max_error), None).unwrap()
    }

    #[test]
    fn metrics_equal_hand_computed_ones() {
        let c = compare(&[1.0, 2.5, -4.0, 0.0], &[1.0, 2.0, -4.25, 0.0], within(1.0));
        assert_eq!((c.max_abs.error, c.max_abs.index, c.max_abs.value, c.max_abs.reference), (0.5, 1, 2.5, 2.0));
        assert_eq!(c.max_rel.map(|d| (d.error, d.index)), Some((0.25, 1)));
        assert_eq!(c.max_reference, 4.25);
        assert_eq!(c.relative_to_max(), 0.5 / 4.25);
        let error = 0.5f64 * 0.5 + 0.25 * 0.25;
        assert!((c.rms - (error / 4.0).sqrt()).abs() < 1e-15);
        let (dot, vv, rr) = (1.0 + 5.0 + 17.0, 1.0 + 6.25 + 16.0f64, 1.0 + 4.0 + 4.25 * 4.25f64);
        assert!((c.cosine - dot / (vv * rr).sqrt()).abs() < 1e-15);
        assert!((c.snr_db - 10.0 * (rr / error).log10()).abs() < 1e-12);
        assert_eq!(c.argmax, Some(Agreement { rows: 1, equal: 1 }));
    }

    #[test]
    fn equal_tensors_have_no_error_and_infinite_snr() {
        for c in [compare(&[1.0, -2.0], &[1.0, -2.0], within(0.0)), compare(&[0.0], &[-0.0], within(0.0))] {
            assert_eq!((c.max_abs.error, c.rms, c.snr_db, c.relative_to_max()), (0.0, 0.0, f64::INFINITY, 0.0));
            assert_eq!(c.cosine, 1.0);
            assert!(c.passed());
        }
    }

    #[test]
    fn the_bounds_are_inclusive_and_count_violations() {
        let bounds = |rtol, atol| Tolerance::new(None, Some(Elementwise { rtol, atol })).unwrap();
        let at = compare(&[1.5, 3.0], &[1.0, 2.0], bounds(0.25, 0.25));
        assert_eq!(at.violations, Violations { count: 1, first: Some(1) });
        assert!(!at.passed());
        assert!(compare(&[1.5, 3.0], &[1.0, 2.0], bounds(0.5, 0.0)).passed());
        assert!(compare(&[1.5, 3.0], &[1.0, 2.0], within(0.5)).passed());
        assert!(!compare(&[1.5, 3.0], &[1.0, 2.0], within(0.49)).passed());
        assert!(!compare(&[1e-30], &[0.0], within(1e9)).passed(), "an error on a scale of zero is infinite");
    }

    #[test]
    fn non_finite_values_fail_at_any_tolerance_unless_both_are_the_same() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let loose = Tolerance::new(Some(f64::MAX), Some(Elementwise { rtol: f64::MAX, atol: f64::MAX })).unwrap();
        for (value, reference) in
            [(nan, 1.0), (1.0, f64::NAN), (inf, f64::NEG_INFINITY), (inf, 1e300), (1.0, f64::INFINITY), (nan, f64::INFINITY)]
        {
            let c = compare(&[0.5, value], &[0.5, reference], loose);
            assert_eq!(c.non_finite, Violations { count: 1, first: Some(1) }, "{value} against {reference}");
            assert_eq!((c.max_abs.error, c.max_abs.index, c.rms), (f64::INFINITY, 1, f64::INFINITY));
            assert!(!c.passed());
        }
        let same = compare(&[nan, inf, 2.0], &[f64::NAN, f64::INFINITY, 2.0], within(0.0));
        assert!(same.passed());
        assert_eq!(same.argmax, Some(Agreement { rows: 1, equal: 0 }));
        assert_eq!((same.max_reference, same.rms), (2.0, 0.0));
    }

    #[test]
    fn huge_and_tiny_references_neither_overflow_nor_vanish() {
        let c = compare(&[1e30, -1e30], &[1e200, 1e200], within(1.0));
        assert!(c.rms.is_finite() && c.snr_db.abs() < 1e-9, "{c:?}");
        let c = compare(&[1e-38, 1e-38], &[1e-200, 1e-200], within(1.0));
        assert!((c.cosine - 1.0).abs() < 1e-12 && c.snr_db < -3000.0, "{c:?}");
    }

    #[test]
    fn argmax_is_counted_by_row() {
        let v = tensor(&[3, 2], &[1.0f32, 2.0, 5.0, 4.0, 7.0, 7.0]);
        let r = tensor(&[3, 2], &[1.0f32, 3.0, 1.0, 2.0, 9.0, 8.0]);
        let c = Comparison::new("output", v.view(), r.view(), within(1.0)).unwrap();
        assert_eq!(c.argmax, Some(Agreement { rows: 3, equal: 2 }));
        let c = Comparison::new("x", tensor(&[6], &[0u8; 6]).view(), tensor(&[6], &[0i8; 6]).view(), within(0.0)).unwrap();
        assert_eq!(c.argmax, None);
    }

    #[test]
    fn other_shapes_are_refused_by_name() {
        let error = Comparison::new("layer1", tensor(&[2, 1], &[0f32; 2]).view(), tensor(&[2], &[0f32; 2]).view(), within(0.0));
        assert_eq!(error.unwrap_err().to_string(), "layer1: expected shape [2], found [2, 1]");
    }

    #[test]
    fn bounds_that_are_no_numbers_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, -1e-9] {
            assert!(Tolerance::new(Some(bad), None).unwrap_err().to_string().starts_with("max-error"));
            assert!(Tolerance::new(None, Some(Elementwise { rtol: 0.0, atol: bad })).unwrap_err().to_string().starts_with("atol"));
        }
    }

    #[test]
    fn positions_are_row_major() {
        let x = tensor(&[2, 3, 4], &[0f32; 24]);
        let c = Comparison::new("x", x.view(), x.view(), within(0.0)).unwrap();
        assert_eq!(c.position(0), [0, 0, 0]);
        assert_eq!(c.position(23), [1, 2, 3]);
        assert_eq!(c.position(13), [1, 0, 1]);
    }

    proptest! {
        #[test]
        fn metrics_bound_each_other(pairs in proptest::collection::vec((-1e3f32..1e3, -1e-3f64..1e-3), 1..200)) {
            let reference: Vec<f64> = pairs.iter().map(|&(v, e)| f64::from(v) + e).collect();
            let value: Vec<f32> = pairs.iter().map(|p| p.0).collect();
            let c = compare(&value, &reference, within(1.0));
            prop_assert!(c.rms <= c.max_abs.error * (1.0 + 1e-12));
            prop_assert!(c.max_abs.error <= c.rms * (value.len() as f64).sqrt() * (1.0 + 1e-12));
            let d = c.max_abs;
            prop_assert_eq!(d.error, (f64::from(value[d.index]) - reference[d.index]).abs());
            prop_assert!((-1.0..=1.0).contains(&c.cosine));
        }
    }
}
