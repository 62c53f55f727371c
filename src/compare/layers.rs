//! Layer by layer: which of a network's values deviate from reference activations, and which is the first.

use super::metrics::{Comparison, Tolerance};
use super::taps::{Reference, TapFile};
use crate::error::Result;
use crate::tensor::Tensor;
use std::collections::HashSet;

/// Takes the values of a run one after the other, as `Session::run_with_taps` hands them over, and holds each against its
/// reference. Keeps no tensor.
pub struct LayerComparer<'a> {
    references: &'a TapFile,
    tolerance: Tolerance,
    layers: Vec<Layer>,
}

/// One value of the network.
#[derive(Clone, PartialEq, Debug)]
pub struct Layer {
    /// The value's name: that of the node which computed it, or of the last that was fused into it.
    pub name: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of one layer's comparison.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Both have one shape.
    Compared(Box<Comparison>),
    /// The reference has another shape: a failure.
    OtherShape {
        /// What the network computed.
        found: Vec<usize>,
        /// The reference's.
        expected: Vec<usize>,
    },
    /// The file holds no reference of this name.
    NoReference,
}

impl Layer {
    /// False when the reference has another shape or is further away than the tolerance.
    pub fn passed(&self) -> bool {
        match &self.outcome {
            Outcome::Compared(comparison) => comparison.passed(),
            Outcome::OtherShape { .. } => false,
            Outcome::NoReference => true,
        }
    }
}

/// All layers of one run.
#[derive(Clone, PartialEq, Debug)]
pub struct LayerReport {
    /// In the order in which they were computed.
    pub layers: Vec<Layer>,
    /// References to values that the network names but does not compute: fusion removed them. Sorted.
    pub fused_away: Vec<String>,
    /// References to names that the network does not have. Sorted.
    pub unknown: Vec<String>,
}

impl<'a> LayerComparer<'a> {
    /// Compares with the activations of a file.
    pub fn new(references: &'a TapFile, tolerance: Tolerance) -> LayerComparer<'a> {
        LayerComparer { references, tolerance, layers: Vec::new() }
    }

    /// Holds one value against its reference.
    ///
    /// # Errors
    /// When the reference can't be decoded; another shape is an [`Outcome`], not an error.
    pub fn observe(&mut self, name: &str, value: &Tensor<f32>) -> Result<()> {
        let outcome = match self.references.get(name)? {
            None => Outcome::NoReference,
            Some(reference) if reference.dims() != value.dims() => {
                Outcome::OtherShape { found: value.dims().to_vec(), expected: reference.dims().to_vec() }
            }
            Some(Reference::F32(reference)) => self.compare(name, value, &reference)?,
            Some(Reference::F64(reference)) => self.compare(name, value, &reference)?,
        };
        self.layers.push(Layer { name: name.into(), outcome });
        Ok(())
    }

    fn compare<T: crate::tensor::Element + Into<f64>>(&self, name: &str, value: &Tensor<f32>, reference: &Tensor<T>) -> Result<Outcome> {
        Ok(Outcome::Compared(Box::new(Comparison::new(name, value.view(), reference.view(), self.tolerance)?)))
    }

    /// What was found. `names` are those of all values of the network as it was loaded, before fusion.
    pub fn finish<'n>(self, names: impl IntoIterator<Item = &'n str>) -> LayerReport {
        let names: HashSet<&str> = names.into_iter().collect();
        let seen: HashSet<&str> = self.layers.iter().map(|l| l.name.as_str()).collect();
        let (mut fused_away, mut unknown) = (Vec::new(), Vec::new());
        for name in self.references.names().filter(|name| !seen.contains(name)) {
            if names.contains(name) { fused_away.push(name.to_string()) } else { unknown.push(name.to_string()) }
        }
        fused_away.sort_unstable();
        unknown.sort_unstable();
        LayerReport { layers: self.layers, fused_away, unknown }
    }
}

impl LayerReport {
    /// The first layer, in the order of computation, that is not within the tolerance: where to look for a fault.
    pub fn first_diverging(&self) -> Option<&Layer> {
        self.layers.iter().find(|layer| !layer.passed())
    }

    /// The layers that had a reference of their shape.
    pub fn compared(&self) -> impl Iterator<Item = (&str, &Comparison)> {
        self.layers.iter().filter_map(|layer| match &layer.outcome {
            Outcome::Compared(comparison) => Some((layer.name.as_str(), comparison.as_ref())),
            _ => None,
        })
    }

    /// The compared layer with the largest max|Δ| / max|ref|.
    pub fn worst(&self) -> Option<(&str, &Comparison)> {
        self.compared().max_by(|a, b| a.1.relative_to_max().total_cmp(&b.1.relative_to_max()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::taps::tests::tap_file;
    use super::*;
    use crate::tensor::Shape;

    fn tensor(data: &[f32]) -> Tensor<f32> {
        Tensor::from_slice(Shape::new(&[1, data.len()]).unwrap(), data).unwrap()
    }

    #[test]
    fn the_first_diverging_layer_is_named_and_every_reference_accounted_for() {
        let (_folder, taps) = tap_file(&[
            ("conv1", &[1, 2], &[1.0, 2.0]),
            ("relu", &[1, 2], &[1.0, 2.0]),
            ("layer1.0.conv1", &[1, 2], &[1.0, 2.0]),
            ("fc", &[1, 2], &[3.0, 4.0]),
            ("pooled", &[2, 1], &[3.0, 4.0]),
            ("elsewhere", &[1, 1], &[0.0]),
        ]);
        let mut comparer = LayerComparer::new(&taps, Tolerance::new(Some(1e-3), None).unwrap());
        comparer.observe("relu", &tensor(&[1.0, 2.0])).unwrap();
        comparer.observe("layer1.0.conv1", &tensor(&[1.0, 2.1])).unwrap();
        comparer.observe("fc", &tensor(&[3.0, 5.0])).unwrap();
        comparer.observe("pooled", &tensor(&[3.0, 4.0])).unwrap();
        comparer.observe("unmatched", &tensor(&[0.0])).unwrap();
        let report = comparer.finish(["conv1", "relu", "layer1.0.conv1", "fc", "pooled", "unmatched"]);
        assert_eq!(report.first_diverging().map(|l| l.name.as_str()), Some("layer1.0.conv1"));
        assert_eq!(report.worst().map(|(name, c)| (name, c.max_abs.error)), Some(("fc", 1.0)));
        assert_eq!(report.fused_away, ["conv1"]);
        assert_eq!(report.unknown, ["elsewhere"]);
        assert_eq!(report.layers[3].outcome, Outcome::OtherShape { found: vec![1, 2], expected: vec![2, 1] });
        assert_eq!(report.layers[4].outcome, Outcome::NoReference);
        assert_eq!(report.layers.iter().map(Layer::passed).collect::<Vec<_>>(), [true, false, false, false, true]);
        assert_eq!(report.compared().count(), 3);
    }
}
