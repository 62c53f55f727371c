//! `quantize`: the scales that a network is computed with in bytes.

use crate::args::{ModelArgs, from_one};
use crate::fidelity::{self, Fidelity, loses_most};
use crate::images::Images;
use crate::output::{Done, Failure, Output, count, lines, lossy_if_some, table};
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use stridewise::formats::safetensors::with_metadata;
use stridewise::graph::Op;
use stridewise::quantize::{Calibrator, Method, Quantization};
use stridewise::{Model, Precision, SessionOptions};

/// Find the scales that a network is computed with in bytes, and which layers lose most by it
#[derive(Args)]
#[command(after_help = "Example:
  stridewise quantize --model resnet50.safetensors --calibrate images/ -o resnet50.int8.safetensors
  stridewise classify --model resnet50.int8.safetensors --precision int8 cat.jpg

The file holds the weights as they were, and the scales as metadata: --precision f32 and bf16 run it too.")]
pub struct Quantize {
    #[command(flatten)]
    model: ModelArgs,
    /// Images to calibrate with: a folder of pictures, or an array [N, C, H, W] of uint8 pixels, which are normalised as the model
    /// wants it, or of float32
    #[arg(long, value_name = "PATH")]
    calibrate: PathBuf,
    /// Images of them to use
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = from_one())]
    images: u32,
    /// How ranges are found: min-max, percentile[:N], entropy or mse
    #[arg(long, value_name = "METHOD", default_value_t = Method::Mse)]
    method: Method,
    /// Keep this layer in f32; may be given several times
    #[arg(long, value_name = "NAME")]
    float: Vec<String>,
    /// Keep the first and the last layer in f32
    #[arg(long)]
    float_ends: bool,
    /// Percentage of images whose class may change; while there are more, the layer that loses most is kept in f32
    #[arg(long, value_name = "PERCENT")]
    budget: Option<f64>,
    /// The safetensors file to write [default: none, only the report]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Images that run at once.
const BATCH: usize = 16;

#[derive(Serialize)]
struct Layer {
    name: String,
    op: &'static str,
    float: bool,
    /// Signal over quantisation error at the layer's output, in the whole network.
    sqnr_db: f64,
    /// How much less that is than at the worst of the layer's inputs.
    lost_db: f64,
}

#[derive(Serialize)]
struct Report {
    model: String,
    method: String,
    images: usize,
    /// Share of images whose class is the same.
    top1_agreement: f64,
    /// Share of images whose class in f32 is among the five most likely.
    top5_agreement: f64,
    sqnr_db: f64,
    floats: Vec<String>,
    layers: Vec<Layer>,
    #[serde(serialize_with = "lossy_if_some")]
    output: Option<PathBuf>,
}

impl Quantize {
    pub fn execute(self, output: &Output) -> Done {
        if self.output.is_some() && (self.model.model.is_none() || self.model.is_onnx()) {
            let reason = "-o needs --model FILE.safetensors: what is written are its weights, and the scales beside them";
            return Err(Failure::Usage(reason.into()));
        }
        let model = self.model.load()?;
        if model.is_quantized() {
            return Err(Failure::Usage(format!("{} is quantised already", self.model.describe(&model))));
        }
        if let Some(path) = model.packed_file() {
            let reason = "a packed network has no weights to quantise: use the file that it was packed from";
            return Err(Failure::Usage(format!("{}: {reason}", path.display())));
        }
        let images = Images::open_or_decode(&self.calibrate, &model, self.images as usize)?;
        let used = images.len().min(self.images as usize);
        let batches: Vec<_> = images.batches(BATCH).map(|range| range.start..range.end.min(used)).take_while(|r| !r.is_empty()).collect();
        let size = Some(images.size());
        let session = |model: &Model, precision| {
            let threads = crate::args::default_threads().into();
            model.session(&SessionOptions { threads, precision, batch: BATCH.min(used), size, ..SessionOptions::default() })
        };

        let mut calibrator = Calibrator::default();
        let mut float_session = session(&model, Precision::F32)?;
        let input = model.graph().value(model.graph().input().value).map_or("input", |v| v.name.as_str());
        let mut progress = Progress::new(output, used as u64, "images seen");
        for range in &batches {
            let x = images.batch(range.clone())?;
            calibrator.observe(input, &x);
            float_session.run_with_taps(&x, &mut |name, value| calibrator.observe(name, &value))?;
            progress.add(range.len() as u64);
        }
        drop(progress);
        let mut quantization = calibrator.finish(self.method);
        self.keep_floats(&model, &mut quantization)?;

        let (quantized, fidelity, measured) = loop {
            let quantized = model.with_quantization(quantization.clone());
            let inputs = batches.iter().map(|range| images.batch(range.clone()));
            let fidelity = Fidelity::measure(&mut float_session, &mut session(&quantized, Precision::Int8)?, inputs, output)?;
            let changed = 100.0 * (1.0 - fidelity.top1_agreement());
            let over = self.budget.is_some_and(|budget| changed > budget);
            let measured = fidelity.layers(&model);
            let computing: Vec<&str> = layers(&model).collect();
            let open = measured.iter().filter(|l| computing.contains(&l.name.as_str()) && !quantization.is_float(&l.name));
            match loses_most(open).filter(|_| over) {
                Some(layer) => quantization.keep_float(&layer.name),
                None => break (quantized, fidelity, measured),
            }
        };
        if let (Some(source), Some(path)) = (&self.model.model, &self.output) {
            with_metadata(source, path, quantization.to_metadata())?;
        }
        let layers = measured.into_iter().map(|layer| {
            let fidelity::Layer { name, op, sqnr_db, lost_db } = layer;
            Layer { float: quantization.is_float(&name), name, op, sqnr_db, lost_db }
        });
        let report = Report {
            model: self.model.describe(&quantized),
            method: self.method.to_string(),
            images: used,
            top1_agreement: fidelity.top1_agreement(),
            top5_agreement: fidelity.top5_agreement(),
            sqnr_db: fidelity.output.decibels(),
            floats: quantization.floats().map(String::from).collect(),
            layers: layers.collect(),
            output: self.output,
        };
        output.print(&report, || report.text())?;
        Ok(ExitCode::SUCCESS)
    }

    fn keep_floats(&self, model: &Model, quantization: &mut Quantization) -> Result<(), Failure> {
        let layers: Vec<&str> = layers(model).collect();
        for name in &self.float {
            if !layers.contains(&name.as_str()) {
                return Err(Failure::Usage(format!(
                    "--float {name}: no convolution or linear layer has this name; there are {}",
                    layers.join(", ")
                )));
            }
            quantization.keep_float(name);
        }
        if self.float_ends {
            layers.first().into_iter().chain(layers.last()).for_each(|name| quantization.keep_float(name));
        }
        Ok(())
    }
}

/// The names of convolutions and linear layers.
fn layers(model: &Model) -> impl Iterator<Item = &str> {
    let computes = |op: &Op| matches!(op, Op::Conv { .. } | Op::Gemm { .. });
    model.graph().nodes().iter().filter(move |node| computes(&node.op)).map(|node| node.name.as_str())
}

impl Report {
    fn text(&self) -> String {
        let mut table = table(&["layer", "op", "in", ">SQNR dB", ">lost dB"]);
        for layer in &self.layers {
            let precision = if layer.float { "f32" } else { "int8" };
            let decibels = [layer.sqnr_db, layer.lost_db].map(|x| format!("{x:.1}"));
            table.add_row([layer.name.as_str(), layer.op, precision, &decibels[0], &decibels[1]]);
        }
        let written = self.output.as_ref().map_or_else(String::new, |path| format!("; written to {}", path.display()));
        format!(
            "{}{}, {} over {}: the class is the same for {:.2} %, output at {:.1} dB{written}\n",
            lines(&table),
            self.model,
            self.method,
            count(self.images, "image"),
            100.0 * self.top1_agreement,
            self.sqnr_db
        )
    }
}
