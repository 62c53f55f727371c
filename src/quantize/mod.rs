//! Post-training quantisation: from the activations of some images to the scales that a network is computed with in bytes.

mod histogram;
mod method;

pub use histogram::Histogram;
pub use method::Method;

use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};

/// What a byte stands for: `scale · (byte − zero point)`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ActivationScale {
    /// What a step is worth.
    pub scale: f32,
    /// The byte that stands for zero.
    pub zero_point: u8,
}

impl ActivationScale {
    /// The scale whose bytes reach from `low` to `high`, and from or to zero if these do not: zero is always one of the values.
    pub fn of_range(low: f32, high: f32) -> ActivationScale {
        let (low, high) = (low.min(0.0), high.max(0.0));
        let scale = (f64::from(high) - f64::from(low)) / 255.0;
        // What is always zero can have any scale.
        let scale = if scale > 1e-12 && scale < 1e12 { scale as f32 } else { 1.0 };
        let zero_point = (f64::from(-low) / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as u8;
        ActivationScale { scale, zero_point }
    }
}

/// What is known of one value of a network.
#[derive(Clone, PartialEq, Debug)]
pub struct ValueScale {
    /// What its bytes stand for.
    pub scale: ActivationScale,
    /// The mean of each channel, for the correction of biases; may be empty.
    pub means: Vec<f32>,
}

/// How a network is computed in bytes: the scales of its activations, and which of its convolutions stay in f32.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Quantization {
    values: BTreeMap<String, ValueScale>,
    floats: BTreeSet<String>,
}

/// Keys of a safetensors file's metadata.
const VALUES: &str = "quantization.values";
const FLOATS: &str = "quantization.floats";

impl Quantization {
    /// What is known of a value, by its name.
    pub fn value(&self, name: &str) -> Option<&ValueScale> {
        self.values.get(name)
    }

    /// Whether no value has a scale.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Values that have a scale.
    pub fn values(&self) -> impl Iterator<Item = (&str, &ValueScale)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Sets what is known of a value.
    ///
    /// # Errors
    /// When the scale is none of 1e-12 to 1e12, or a mean is not finite.
    pub fn set(&mut self, name: &str, value: ValueScale) -> Result<()> {
        let argument = || format!("quantization of `{}`", name.escape_debug());
        check(&value).map_err(|reason| Error::InvalidArgument { argument: argument(), reason })?;
        self.insert(name, value);
        Ok(())
    }

    /// Likewise, of a scale that is known to be in range.
    pub(crate) fn insert(&mut self, name: &str, value: ValueScale) {
        debug_assert_eq!(check(&value), Ok(()));
        self.values.insert(name.into(), value);
    }

    /// Whether a node is to be computed in f32.
    pub fn is_float(&self, node: &str) -> bool {
        self.floats.contains(node)
    }

    /// Nodes that are to be computed in f32.
    pub fn floats(&self) -> impl Iterator<Item = &str> {
        self.floats.iter().map(String::as_str)
    }

    /// Lets a node be computed in f32.
    pub fn keep_float(&mut self, node: &str) {
        self.floats.insert(node.into());
    }

    /// As metadata of a safetensors file.
    pub fn to_metadata(&self) -> Vec<(String, String)> {
        let line = |(name, value): (&String, &ValueScale)| {
            let means: Vec<String> = value.means.iter().map(f32::to_string).collect();
            format!(
                "{} {} {} {}",
                value.scale.scale,
                value.scale.zero_point,
                if means.is_empty() { "-".into() } else { means.join(",") },
                escaped(name)
            )
        };
        let values: Vec<String> = self.values.iter().map(line).collect();
        let floats: Vec<String> = self.floats().map(escaped).collect();
        vec![(VALUES.into(), values.join("\n")), (FLOATS.into(), floats.join("\n"))]
    }

    /// From metadata of a safetensors file; nothing where there is none.
    ///
    /// # Errors
    /// When a line is malformed or a scale is out of range; the error quotes it.
    pub fn from_metadata<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Option<Quantization>> {
        let Some(values) = get(VALUES) else { return Ok(None) };
        let mut quantization = Quantization::default();
        for line in values.lines() {
            let quoted: String = line.chars().take(80).collect();
            let refuse =
                |reason: &str| Error::InvalidArgument { argument: format!("metadata `{VALUES}`, line `{quoted}`"), reason: reason.into() };
            let mut parts = line.splitn(4, ' ');
            let mut next = || parts.next().ok_or_else(|| refuse("expected a scale, a zero point, means and a name"));
            let scale: f32 = next()?.parse().map_err(|_| refuse("the scale is no number"))?;
            let zero_point = next()?.parse().map_err(|_| refuse("the zero point is none of 0 to 255"))?;
            let means = match next()? {
                "-" => Vec::new(),
                text => text
                    .split(',')
                    .map(str::parse)
                    .collect::<std::result::Result<Vec<f32>, _>>()
                    .map_err(|_| refuse("a mean is no number"))?,
            };
            let (name, value) = (unescaped(next()?), ValueScale { scale: ActivationScale { scale, zero_point }, means });
            check(&value).map_err(|reason| refuse(&reason))?;
            quantization.insert(&name, value);
        }
        for name in get(FLOATS).unwrap_or_default().lines().filter(|name| !name.is_empty()) {
            quantization.keep_float(&unescaped(name));
        }
        Ok(Some(quantization))
    }
}

/// What is wrong with a scale.
fn check(value: &ValueScale) -> std::result::Result<(), String> {
    if !(1e-12..=1e12).contains(&value.scale.scale) {
        return Err(format!("the scale {} is out of range: expected 1e-12 to 1e12", value.scale.scale));
    }
    match value.means.iter().find(|mean| !mean.is_finite()) {
        Some(mean) => Err(format!("a mean is not finite, but {mean}")),
        None => Ok(()),
    }
}

/// Characters that a line of metadata can't hold, and what is written for them.
const ESCAPES: [(char, char); 3] = [('\\', '\\'), ('\n', 'n'), ('\r', 'r')];

/// A name in one line that is not empty.
fn escaped(name: &str) -> String {
    if name.is_empty() {
        return "\\e".into();
    }
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        match ESCAPES.iter().find(|(plain, _)| *plain == c) {
            Some((_, letter)) => text.extend(['\\', *letter]),
            None => text.push(c),
        }
    }
    text
}

/// The name that is [`escaped`] so. A backslash that escapes nothing stands for itself.
fn unescaped(text: &str) -> String {
    if text == "\\e" {
        return String::new();
    }
    let mut name = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let escape = rest.clone().next().and_then(|letter| ESCAPES.iter().find(|(_, l)| *l == letter)).filter(|_| c == '\\');
        name.push(escape.map_or(c, |(plain, _)| *plain));
        if escape.is_some() {
            rest.next();
        }
    }
    name
}

/// Collects what the values of a network are over some images: give it the values of [`Session::run_with_taps`](crate::Session::run_with_taps)
/// of a session in f32, and the inputs.
#[derive(Default)]
pub struct Calibrator {
    values: BTreeMap<String, Observed>,
}

#[derive(Default)]
struct Observed {
    histogram: Histogram,
    /// Sum and number of the elements of each channel.
    channels: Vec<(f64, u64)>,
}

impl Calibrator {
    /// Adds a value, `[N, C, …]`.
    pub fn observe(&mut self, name: &str, value: &Tensor<f32>) {
        if !self.values.contains_key(name) {
            self.values.insert(name.into(), Observed::default());
        }
        let Some(observed) = self.values.get_mut(name) else { return };
        observed.histogram.add(value.as_slice());
        let [_, channels, rest @ ..] = value.dims() else { return };
        observed.channels.resize(*channels, (0.0, 0));
        let plane = rest.iter().product::<usize>().max(1);
        for (index, plane) in value.as_slice().chunks(plane).enumerate() {
            let (sum, count) = &mut observed.channels[index % channels];
            *sum += plane.iter().map(|x| f64::from(*x)).sum::<f64>();
            *count += plane.len() as u64;
        }
    }

    /// The scales that a method gives.
    pub fn finish(&self, method: Method) -> Quantization {
        let mut quantization = Quantization::default();
        for (name, observed) in &self.values {
            let (low, high) = method.range(&observed.histogram);
            let means = observed.channels.iter().map(|(sum, count)| (sum / (*count).max(1) as f64) as f32);
            let means: Vec<f32> = means.map(|m| if m.is_finite() { m } else { 0.0 }).collect();
            quantization.insert(name, ValueScale { scale: ActivationScale::of_range(low, high), means });
        }
        quantization
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_one_of_the_values_of_every_scale() {
        for (low, high) in [(0.0, 6.0), (-1.0, 3.0), (2.0, 5.0), (-5.0, -2.0), (0.0, 0.0), (-1e-30, 1e-30)] {
            let s = ActivationScale::of_range(low, high);
            let value = |byte: u8| s.scale * (f32::from(byte) - f32::from(s.zero_point));
            assert_eq!(value(s.zero_point), 0.0);
            if high > low {
                let step = s.scale;
                assert!(value(0) <= low.min(0.0) + step && value(255) >= high.max(0.0) - step, "{low} {high} {s:?}");
            }
        }
    }

    #[test]
    fn metadata_comes_back_as_it_was() {
        let mut quantization = Quantization::default();
        let value = |scale, zero_point, means| ValueScale { scale: ActivationScale { scale, zero_point }, means };
        quantization.set("layer1.0 relu", value(0.1, 0, vec![0.5, -1.25e-7])).unwrap();
        quantization.set("add", value(1.5e-5, 255, Vec::new())).unwrap();
        quantization.keep_float("fc");
        // Names are whatever a network's are.
        for name in ["", "two\nlines", "\r", "ends in \r\n", "a\\b", "\\n", "\\\n\\", "\\e", " 0.5 0 - x", "\u{2028}"] {
            quantization.set(name, value(2.0, 7, Vec::new())).unwrap();
            quantization.keep_float(name);
        }
        let metadata = quantization.to_metadata();
        let get = |key: &str| metadata.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        assert_eq!(Quantization::from_metadata(get).unwrap(), Some(quantization));
        assert_eq!(Quantization::from_metadata(|_| None).unwrap(), None);
    }

    #[test]
    fn scales_that_would_not_come_back_are_refused() {
        let mut quantization = Quantization::default();
        let mut refused = |scale, mean| {
            let value = ValueScale { scale: ActivationScale { scale, zero_point: 0 }, means: vec![1.0, mean] };
            let error = quantization.set("a\nb", value).unwrap_err().to_string();
            assert!(error.contains("quantization of `a\\nb`"), "{error}");
            error
        };
        for scale in [0.0, -1.0, 1e-13, 1e13, f32::INFINITY, f32::NAN] {
            assert!(refused(scale, 0.0).contains("1e-12 to 1e12"));
        }
        for mean in [f32::NAN, f32::NEG_INFINITY] {
            assert!(refused(1.0, mean).contains("mean"));
        }
        assert!(quantization.is_empty());
    }

    #[test]
    fn malformed_metadata_is_quoted() {
        for bad in
            ["", "1", "x 0 - a", "0.1 256 - a", "0.1 0 1,y a", "0.1 0 -", "0 0 - a", "inf 0 - a", "NaN 0 - a", "-1 0 - a", "0.1 0 inf a"]
        {
            let text = format!("0.5 0 - good\n{bad}\n");
            let error = Quantization::from_metadata(|key| (key == VALUES).then_some(text.as_str())).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }

    #[test]
    fn means_are_those_of_channels() {
        let mut calibrator = Calibrator::default();
        let tensor = |values: [f32; 4]| Tensor::from_slice(crate::Shape::new(&[1, 2, 1, 2]).unwrap(), &values).unwrap();
        calibrator.observe("x", &tensor([1.0, 3.0, -1.0, -1.0]));
        calibrator.observe("x", &tensor([5.0, 7.0, -2.0, 0.0]));
        let quantization = calibrator.finish(Method::MinMax);
        assert_eq!(quantization.value("x").unwrap().means, [4.0, -1.0]);
        assert_eq!(quantization.value("x").unwrap().scale, ActivationScale::of_range(-2.0, 7.0));
    }
}
