//! A network held against itself in another precision.

use super::Compare;
use crate::fidelity::{Fidelity, Layer, loses_most};
use crate::images::Images;
use crate::output::{Done, Failure, Output, count, lines, table};
use serde::Serialize;
use std::process::ExitCode;
use stridewise::{Model, Precision, SessionOptions};

/// Images that run at once.
const BATCH: usize = 16;

#[derive(Serialize)]
struct Report {
    model: String,
    isa: String,
    precision: &'static str,
    against: &'static str,
    images: usize,
    top1_agreement: f64,
    top5_agreement: f64,
    sqnr_db: f64,
    /// The layer that loses most of the signal that reaches it.
    lost_in: Option<String>,
    layers: Vec<Layer>,
}

pub(super) fn compare(arguments: &Compare, model: &Model, against: Precision, output: &Output) -> Done {
    let precision = arguments.run.precision();
    if precision == against || model.is_quantized() {
        let reason = if model.is_quantized() { "its file quantises it: it has no other precision" } else { "there is nothing to compare" };
        return Err(Failure::Usage(format!("--precision {precision} --against {against}: {reason}")));
    }
    let images = Images::open(&arguments.input, model)?;
    let options = arguments.run.options(images.len().min(BATCH), Some(images.size()))?;
    let mut session = model.session(&options)?;
    let mut reference = model.session(&SessionOptions { precision: against, ..options })?;
    let ranges: Vec<_> = images.batches(BATCH).collect();
    let batches = ranges.iter().map(|range| images.batch(range.clone()));
    let fidelity = Fidelity::measure(&mut reference, &mut session, batches, output)?;
    let layers = fidelity.layers(model);
    let report = Report {
        model: arguments.model.describe(model),
        isa: session.isa().to_string(),
        precision: precision.name(),
        against: against.name(),
        images: images.len(),
        top1_agreement: fidelity.top1_agreement(),
        top5_agreement: fidelity.top5_agreement(),
        sqnr_db: fidelity.output.decibels(),
        lost_in: loses_most(layers.iter()).map(|layer| layer.name.clone()),
        layers,
    };
    output.print(&report, || report.text())?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    fn text(&self) -> String {
        let mut table = table(&["layer", "op", ">SQNR dB", ">lost dB", ""]);
        for layer in &self.layers {
            let decibels = [layer.sqnr_db, layer.lost_db].map(|x| format!("{x:.1}"));
            let mark = if self.lost_in.as_ref() == Some(&layer.name) { "loses most" } else { "" };
            table.add_row([layer.name.as_str(), layer.op, &decibels[0], &decibels[1], mark]);
        }
        format!(
            "{} on {}, {} against {}\n\n{}\noutput: {:.1} dB; over {} the class is the same for {:.2} %, and among the first five for {:.2} %\n",
            self.model,
            self.isa,
            self.precision,
            self.against,
            lines(&table),
            self.sqnr_db,
            count(self.images, "image"),
            100.0 * self.top1_agreement,
            100.0 * self.top5_agreement
        )
    }
}
