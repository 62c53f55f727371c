//! How far a network is from itself in another precision: the signal at each layer over what was added to it, and whether the classes
//! are the same.

use crate::output::{Failure, Output};
use crate::progress::Progress;
use serde::Serialize;
use std::collections::BTreeMap;
use stridewise::{Model, Session, Tensor};

/// Energy of a reference and of the difference from it.
#[derive(Clone, Copy, Default)]
pub struct Energy {
    signal: f64,
    error: f64,
}

/// Decibels of what has no error.
const EXACT: f64 = 200.0;

impl Energy {
    fn add(&mut self, reference: &[f32], found: &[f32]) {
        for (r, f) in reference.iter().zip(found) {
            self.signal += f64::from(*r) * f64::from(*r);
            self.error += (f64::from(*r) - f64::from(*f)).powi(2);
        }
    }

    /// The ratio of the two: signal to quantisation noise.
    pub fn decibels(self) -> f64 {
        if self.error == 0.0 { EXACT } else { (10.0 * (self.signal / self.error).log10()).clamp(-EXACT, EXACT) }
    }
}

/// What was found over some images.
#[derive(Default)]
pub struct Fidelity {
    layers: BTreeMap<String, Energy>,
    pub output: Energy,
    /// Rows of the output.
    rows: u32,
    top1: u32,
    top5: u32,
}

/// The signal at one layer.
#[derive(Serialize)]
pub struct Layer {
    pub name: String,
    pub op: &'static str,
    /// Signal over error at the layer's output, in the whole network.
    pub sqnr_db: f64,
    /// How much less that is than at the worst of its inputs.
    pub lost_db: f64,
}

impl Fidelity {
    /// Runs both on all batches.
    pub fn measure(
        reference: &mut Session,
        other: &mut Session,
        batches: impl ExactSizeIterator<Item = stridewise::Result<Tensor<f32>>>,
        output: &Output,
    ) -> Result<Fidelity, Failure> {
        let mut fidelity = Fidelity::default();
        let mut progress = Progress::new(output, batches.len() as u64, "batches compared");
        for x in batches {
            let x = x?;
            let mut taps = BTreeMap::new();
            let expected = reference.run_with_taps(&x, &mut |name, value| {
                taps.insert(name.to_string(), value);
            })?;
            let found = other.run_with_taps(&x, &mut |name, value| {
                if let Some(reference) = taps.get(name) {
                    fidelity.layers.entry(name.into()).or_default().add(reference.as_slice(), value.as_slice());
                }
            })?;
            fidelity.add_output(&expected, &found);
            progress.add(1);
        }
        Ok(fidelity)
    }

    fn add_output(&mut self, expected: &Tensor<f32>, found: &Tensor<f32>) {
        self.output.add(expected.as_slice(), found.as_slice());
        let classes = expected.dims().last().copied().unwrap_or(1).max(1);
        for (expected, found) in expected.as_slice().chunks_exact(classes).zip(found.as_slice().chunks_exact(classes)) {
            let class = (0..classes).fold(0, |best, i| if expected[i] > expected[best] { i } else { best });
            let before = (0..classes).filter(|&i| found[i] > found[class] || (found[i] == found[class] && i < class)).count();
            let number = found.iter().all(|x| !x.is_nan());
            self.rows += 1;
            self.top1 += u32::from(number && before < 1);
            self.top5 += u32::from(number && before < 5);
        }
    }

    /// Share of images whose most likely class is the same.
    pub fn top1_agreement(&self) -> f64 {
        f64::from(self.top1) / f64::from(self.rows.max(1))
    }

    /// Share of images whose most likely class is among the other's five most likely.
    pub fn top5_agreement(&self) -> f64 {
        f64::from(self.top5) / f64::from(self.rows.max(1))
    }

    /// The layers in their order.
    pub fn layers(&self, model: &Model) -> Vec<Layer> {
        let graph = model.graph();
        let decibels = |value| graph.value(value).and_then(|value| self.layers.get(&value.name)).map(|energy| energy.decibels());
        let layer = |node: &stridewise::graph::Node| {
            let sqnr_db = decibels(node.output)?;
            let before = node.inputs.iter().filter_map(|value| decibels(*value)).fold(EXACT, f64::min);
            Some(Layer { name: node.name.clone(), op: node.op.name(), sqnr_db, lost_db: before - sqnr_db })
        };
        graph.nodes().iter().filter_map(layer).collect()
    }
}

/// The layer that loses most of what reaches it. One whose inputs have no error yet does not count, unless there is no other: the first
/// rounding takes much of nothing.
pub fn loses_most<'a>(layers: impl Iterator<Item = &'a Layer>) -> Option<&'a Layer> {
    let rank = |layer: &&Layer| (layer.sqnr_db + layer.lost_db < EXACT, layer.lost_db);
    layers.max_by(|a, b| rank(a).0.cmp(&rank(b).0).then(rank(a).1.total_cmp(&rank(b).1)))
}
