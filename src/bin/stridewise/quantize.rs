//! `quantize`: the scales that a network is computed with in bytes.

use crate::args::ModelArgs;
use crate::images::Images;
use crate::output::{Done, Failure, Output, count, lines, table};
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stridewise::formats::safetensors::with_metadata;
use stridewise::graph::Op;
use stridewise::quantize::{Calibrator, Method, Quantization};
use stridewise::{Model, Precision, Session, SessionOptions, Tensor};

/// Find the scales that a network is computed with in bytes, and which layers lose most by it
#[derive(Args)]
#[command(after_help = "Example:
  stridewise quantize --model resnet50.safetensors --calibrate images.npy -o resnet50.int8.safetensors
  stridewise classify --model resnet50.int8.safetensors --precision int8 cat.jpg

The file holds the weights as they were, and the scales as metadata: --precision f32 and bf16 run it too.")]
pub struct Quantize {
    #[command(flatten)]
    model: ModelArgs,
    /// Images [N, C, H, W] to calibrate with: uint8 pixels, which are normalised as the model wants it, or float32
    #[arg(long, value_name = "X.npy")]
    calibrate: PathBuf,
    /// Images of them to use
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    images: u32,
    /// How ranges are found: min-max, percentile[:N], entropy or mse
    #[arg(long, value_name = "METHOD", default_value_t = Method::Percentile(0.9999))]
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
}

#[derive(Serialize)]
struct Report {
    model: String,
    method: String,
    images: usize,
    /// Share of images whose class is the same.
    top1_agreement: f64,
    sqnr_db: f64,
    floats: Vec<String>,
    layers: Vec<Layer>,
    output: Option<PathBuf>,
}

/// Energy of a reference and of the difference from it.
#[derive(Clone, Copy, Default)]
struct Energy {
    signal: f64,
    error: f64,
}

impl Energy {
    fn add(&mut self, reference: &[f32], found: &[f32]) {
        for (r, f) in reference.iter().zip(found) {
            self.signal += f64::from(*r) * f64::from(*r);
            self.error += (f64::from(*r) - f64::from(*f)).powi(2);
        }
    }

    fn decibels(self) -> f64 {
        if self.error == 0.0 { 200.0 } else { (10.0 * (self.signal / self.error).log10()).clamp(-200.0, 200.0) }
    }
}

/// How far a network in bytes is from itself in f32.
struct Fidelity {
    layers: BTreeMap<String, Energy>,
    output: Energy,
    agreement: f64,
}

impl Quantize {
    pub fn execute(self, output: &Output) -> Done {
        let model = self.model.load()?;
        let images = Images::open(&self.calibrate, &model)?;
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

        let mut inputs = Vec::with_capacity(batches.len());
        for range in &batches {
            inputs.push(images.batch(range.clone())?);
        }
        let (quantized, fidelity) = loop {
            let quantized = model.with_quantization(quantization.clone());
            let fidelity = compare(&mut float_session, &mut session(&quantized, Precision::Int8)?, &inputs, output)?;
            let changed = 100.0 * (1.0 - fidelity.agreement);
            let over = self.budget.is_some_and(|budget| changed > budget);
            match worst(&model, &quantization, &fidelity).filter(|_| over) {
                Some(layer) => quantization.keep_float(&layer),
                None => break (quantized, fidelity),
            }
        };
        if let Some(path) = &self.output {
            self.write(path, &quantization)?;
        }
        let layers = model.graph().nodes().iter().filter_map(|node| {
            let energy = fidelity.layers.get(&model.graph().value(node.output)?.name)?;
            let (name, op) = (node.name.clone(), node.op.name());
            Some(Layer { float: quantization.is_float(&name), name, op, sqnr_db: energy.decibels() })
        });
        let report = Report {
            model: self.model.describe(&quantized),
            method: self.method.to_string(),
            images: used,
            top1_agreement: fidelity.agreement,
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

    fn write(&self, path: &Path, quantization: &Quantization) -> Result<(), Failure> {
        let Some(source) = &self.model.model else {
            return Err(Failure::Usage("-o needs --model FILE: the file that is written holds its weights".into()));
        };
        Ok(with_metadata(source, path, quantization.to_metadata())?)
    }
}

/// The names of convolutions and linear layers.
fn layers(model: &Model) -> impl Iterator<Item = &str> {
    let computes = |op: &Op| matches!(op, Op::Conv { .. } | Op::Gemm { .. });
    model.graph().nodes().iter().filter(move |node| computes(&node.op)).map(|node| node.name.as_str())
}

/// The layer in bytes at whose output the signal is worst.
fn worst(model: &Model, quantization: &Quantization, fidelity: &Fidelity) -> Option<String> {
    let decibels = |name: &str| {
        let node = model.graph().nodes().iter().find(|n| n.name == name)?;
        Some(fidelity.layers.get(&model.graph().value(node.output)?.name)?.decibels())
    };
    let open = layers(model).filter(|name| !quantization.is_float(name));
    open.filter_map(|name| Some((name, decibels(name)?))).min_by(|a, b| a.1.total_cmp(&b.1)).map(|(name, _)| name.into())
}

fn compare(floats: &mut Session, bytes: &mut Session, inputs: &[Tensor<f32>], output: &Output) -> Result<Fidelity, Failure> {
    let mut fidelity = Fidelity { layers: BTreeMap::new(), output: Energy::default(), agreement: 0.0 };
    let (mut same, mut all) = (0, 0);
    let mut progress = Progress::new(output, inputs.len() as u64, "batches compared");
    for x in inputs {
        let mut taps = BTreeMap::new();
        let expected = floats.run_with_taps(x, &mut |name, value| {
            taps.insert(name.to_string(), value);
        })?;
        let found = bytes.run_with_taps(x, &mut |name, value| {
            if let Some(reference) = taps.get(name) {
                fidelity.layers.entry(name.into()).or_default().add(reference.as_slice(), value.as_slice());
            }
        })?;
        fidelity.output.add(expected.as_slice(), found.as_slice());
        let classes = expected.dims().last().copied().unwrap_or(1).max(1);
        for (a, b) in expected.as_slice().chunks_exact(classes).zip(found.as_slice().chunks_exact(classes)) {
            same += usize::from(largest(a) == largest(b));
            all += 1;
        }
        progress.add(1);
    }
    fidelity.agreement = f64::from(u32::try_from(same).unwrap_or(u32::MAX)) / all.max(1) as f64;
    Ok(fidelity)
}

fn largest(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

impl Report {
    fn text(&self) -> String {
        let mut table = table(&["layer", "op", "in", ">SQNR dB"]);
        for layer in &self.layers {
            table.add_row([layer.name.as_str(), layer.op, if layer.float { "f32" } else { "int8" }, &format!("{:.1}", layer.sqnr_db)]);
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
