//! Resizing along one axis, as ONNX's Resize defines it: which elements an output element is made of, and with which weights.

use crate::Error;

/// How an output coordinate becomes an input coordinate.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Coordinates {
    /// (x + ½) / scale − ½
    HalfPixel,
    /// As [`Coordinates::HalfPixel`], around the centre of the input, when the scaled size is no whole number.
    HalfPixelSymmetric,
    /// As [`Coordinates::HalfPixel`], but 0 where the output has one element.
    PytorchHalfPixel,
    /// The first and last elements are each other's.
    AlignCorners,
    /// x / scale
    Asymmetric,
    /// (x + ½) / scale
    TfHalfPixelForNearest,
    /// The part of the input between `start` and `end`, in parts of its size; outside the input there is `extrapolation`.
    TfCropAndResize {
        /// Where the part begins.
        start: f32,
        /// Where it ends.
        end: f32,
        /// The value outside.
        extrapolation: f32,
    },
}

/// Which element is the nearest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Nearest {
    /// The nearest, of two the lower.
    RoundPreferFloor,
    /// The nearest, of two the higher.
    RoundPreferCeil,
    /// The one below.
    Floor,
    /// The one above.
    Ceil,
}

/// How elements are interpolated.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Interpolation {
    /// One element.
    Nearest(Nearest),
    /// Two, by their distance.
    Linear,
    /// Four, by Keys' kernel with this coefficient (−0.75 is usual).
    Cubic {
        /// The kernel's derivative at 1.
        coefficient: f32,
    },
}

/// A resize along an axis.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Rule {
    /// How coordinates are transformed.
    pub coordinates: Coordinates,
    /// How elements are interpolated.
    pub interpolation: Interpolation,
    /// Whether elements outside count nothing; else the first and last stand for them.
    pub exclude_outside: bool,
    /// Whether the kernel is as wide as an output element where that is larger than an input element.
    pub antialias: bool,
}

/// For each element of an axis's output, as many neighbouring elements of its input and their weights.
#[derive(Clone, PartialEq, Debug)]
pub struct AxisMap {
    pub(crate) input: usize,
    pub(crate) taps: usize,
    /// The first element.
    pub(crate) starts: Vec<usize>,
    /// `taps` for each.
    pub(crate) weights: Vec<f32>,
    /// Elements that are a constant instead: none, or one entry each.
    pub(crate) outside: Vec<bool>,
}

/// Longest output axis, and most weights of one: memory and time for them are limited before either is taken.
const MAX_WEIGHTS: usize = 1 << 26;

/// What an element of the output is made of, whichever it is.
struct Kernel {
    /// How many input elements a unit of the kernel spans.
    stretch: f64,
    /// How far it reaches to either side.
    support: f64,
    /// Most elements under it.
    taps: usize,
}

impl Kernel {
    fn new(input: usize, output: usize, scale: f64, rule: &Rule) -> Result<Kernel, Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("resizing of {input} elements to {output}"), reason: reason.into() };
        if input == 0 || output == 0 || !(scale > 0.0 && scale.is_finite()) {
            return Err(refuse("a size or the scale is not positive"));
        }
        let stretch = if rule.antialias && scale < 1.0 { 1.0 / scale } else { 1.0 };
        let support = match rule.interpolation {
            Interpolation::Nearest(_) => 0.0,
            Interpolation::Linear => stretch,
            Interpolation::Cubic { .. } => 2.0 * stretch,
        };
        // Elements under a kernel, many of which may be outside the input.
        let span = if support == 0.0 { 1.0 } else { (2.0 * support).ceil() + 1.0 };
        if input as u64 >= 1 << 40 || output as f64 * span > MAX_WEIGHTS as f64 {
            return Err(refuse("the sizes are too large"));
        }
        Ok(Kernel { stretch, support, taps: span.min(input as f64) as usize })
    }
}

impl AxisMap {
    /// The map from `input` elements to `output`. `scale` is the output's size over the input's as the op gives it.
    ///
    /// # Errors
    /// When a size is zero or so large, or the scale so small, that the weights would be too many, or the scale is not a positive number.
    pub fn new(input: usize, output: usize, scale: f64, rule: &Rule) -> Result<AxisMap, Error> {
        let Kernel { stretch, support, taps } = Kernel::new(input, output, scale, rule)?;
        let mut map = AxisMap { input, taps, starts: Vec::with_capacity(output), weights: vec![0.0; output * taps], outside: Vec::new() };
        let last = input as i64 - 1;
        for index in 0..output {
            let x = coordinate(index, [input, output], scale, rule.coordinates);
            if matches!(rule.coordinates, Coordinates::TfCropAndResize { .. }) {
                map.outside.push(!(x >= 0.0 && x <= last as f64));
            }
            let x = if x.is_finite() { x.clamp(-1e12, 1e12) } else { 0.0 };
            let weights = &mut map.weights[index * taps..][..taps];
            let kernel = |distance: f64| match rule.interpolation {
                Interpolation::Nearest(_) => 1.0,
                Interpolation::Linear => (1.0 - distance / stretch).max(0.0),
                Interpolation::Cubic { coefficient } => cubic(distance / stretch, f64::from(coefficient)),
            };
            if let Interpolation::Nearest(nearest) = rule.interpolation {
                let at = match nearest {
                    Nearest::RoundPreferFloor => (x - 0.5).ceil(),
                    Nearest::RoundPreferCeil => (x + 0.5).floor(),
                    Nearest::Floor => x.floor(),
                    Nearest::Ceil => x.ceil(),
                };
                map.starts.push((at as i64).clamp(0, last) as usize);
                weights[0] = 1.0;
                continue;
            }
            let (first, behind) = ((x - support).floor() as i64, (x + support).ceil() as i64 + 1);
            let start = first.clamp(0, input as i64 - taps as i64);
            let mut exact = vec![0.0f64; taps];
            let mut sum = 0.0;
            for i in first..behind {
                let weight = kernel((i as f64 - x).abs());
                if rule.exclude_outside && !(0..=last).contains(&i) {
                    continue;
                }
                // Those outside count for the nearest element.
                let place = (i.clamp(0, last) - start) as usize;
                if let Some(exact) = exact.get_mut(place) {
                    *exact += weight;
                    sum += weight;
                }
            }
            let normal = if (rule.antialias || rule.exclude_outside) && sum != 0.0 { sum } else { 1.0 };
            for (weight, exact) in weights.iter_mut().zip(exact) {
                *weight = (exact / normal) as f32;
            }
            map.starts.push(start as usize);
        }
        map.trim();
        Ok(map)
    }

    /// Most bytes that a map takes while it is made, with the offsets that a kernel makes of it; nothing of it is made.
    ///
    /// # Errors
    /// As [`AxisMap::new`].
    pub fn bytes_needed(input: usize, output: usize, scale: f64, rule: &Rule) -> Result<usize, Error> {
        let taps = Kernel::new(input, output, scale, rule)?.taps;
        // Of each tap the weight and an offset; of each element the first tap, an offset, and whether it is outside; of one the exact
        // weights.
        let tap = size_of::<f32>() + size_of::<usize>();
        let each = taps * tap + size_of::<usize>() + size_of::<Option<isize>>() + 4;
        Ok(output * each + taps * size_of::<f64>())
    }

    /// Elements of the output.
    pub fn output(&self) -> usize {
        self.starts.len()
    }

    /// Whether every element is just one of the input.
    pub(crate) fn picks(&self) -> bool {
        self.taps == 1 && self.weights.iter().all(|w| *w == 1.0)
    }

    /// Leaves out as many taps as each element can do without at its ends, behind first.
    fn trim(&mut self) {
        let before = |w: &[f32]| w.iter().position(|w| *w != 0.0).unwrap_or(self.taps);
        let behind = |w: &[f32]| w.iter().rev().position(|w| *w != 0.0).unwrap_or(self.taps);
        let spare = self.weights.chunks_exact(self.taps).map(|w| before(w) + behind(w)).min().unwrap_or(0).min(self.taps - 1);
        let taps = self.taps - spare;
        for (i, start) in self.starts.iter_mut().enumerate() {
            let from = i * self.taps;
            let before = spare - behind(&self.weights[from..][..self.taps]).min(spare);
            *start += before;
            self.weights.copy_within(from + before..from + before + taps, i * taps);
        }
        self.weights.truncate(self.starts.len() * taps);
        self.taps = taps;
    }
}

fn coordinate(index: usize, [input, output]: [usize; 2], scale: f64, coordinates: Coordinates) -> f64 {
    let (x, size) = (index as f64, input as f64);
    match coordinates {
        Coordinates::HalfPixel => (x + 0.5) / scale - 0.5,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = output as f64 / (scale * size);
            size / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
        }
        Coordinates::PytorchHalfPixel if output == 1 => 0.0,
        Coordinates::PytorchHalfPixel => (x + 0.5) / scale - 0.5,
        Coordinates::AlignCorners if output == 1 => 0.0,
        Coordinates::AlignCorners => x * (size - 1.0) / (scale * size - 1.0).max(1e-9),
        Coordinates::Asymmetric => x / scale,
        Coordinates::TfHalfPixelForNearest => (x + 0.5) / scale,
        Coordinates::TfCropAndResize { start, end, .. } => {
            let (start, end) = (f64::from(start), f64::from(end));
            if output > 1 {
                start * (size - 1.0) + x * (end - start) * (size - 1.0) / (output as f64 - 1.0)
            } else {
                0.5 * (start + end) * (size - 1.0)
            }
        }
    }
}

/// Keys, Cubic convolution interpolation for digital image processing (1981), with coefficient a.
fn cubic(x: f64, a: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}
