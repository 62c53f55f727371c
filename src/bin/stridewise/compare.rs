//! `compare`: how far we are from a reference, layer by layer.

mod precisions;

use crate::args::{ModelArgs, TunedRunArgs};
use crate::images::Images;
use crate::output::{Done, Failure, Output, count, lines, lossy_if_some, table};
use crate::skeleton::names_before_fusion;
use clap::{ArgGroup, Args};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stridewise::compare::{
    Comparison, Elementwise, ErrorHistogram, LayerComparer, LayerReport, Outcome, Report, TapFile, Tolerance, Violations,
};
use stridewise::tensor::npy::NpyTensor;
use stridewise::{Error, Model, Precision, Session, Tensor};

/// The default tolerance on max|Δ| / max|ref|.
const MAX_ERROR: f64 = 1e-5;

/// Compare a network's output, and each of its layers, with a reference
#[derive(Args)]
#[command(
    group = ArgGroup::new("references").args(["reference", "taps", "against"]).required(true).multiple(true),
    after_help = "\
The output and every layer must have max|Δ| <= MAX_ERROR * max|ref|. The default allows for a float32 \
reference, whose own error is as large as ours; against float64, up to 2e-6 is to be expected with \
--numerics exact, up to 4e-6 with fast. With --rtol or --atol, each element must have \
|Δ| <= ATOL + RTOL * |ref| instead; with --max-error too, both. A value that is NaN or infinite where its \
reference is not is beyond any tolerance.

Taps are activations by torchvision's node names (`layer1.0.relu_1`), as tools/export_taps.py writes them.

Exit code 0: within tolerance; 1: beyond; 2: not compared.

With --against, the network is held against itself in another precision: for each layer the signal over what \
the precision adds to it (SQNR), how much of that the layer loses, and on how many images the classes agree.

Examples:
  stridewise compare --model net.safetensors --input x.npy --reference y.npy
  stridewise compare --model net.int8.safetensors --input x.npy --precision int8 --against f32
  stridewise compare --model net.safetensors --input x.npy --taps taps.safetensors --report out.html"
)]
pub struct Compare {
    /// Images [N, C, H, W]: float32 as the network reads them, or uint8 pixels, which are normalised as the model wants it
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Reference output: float64, float32 or float16
    #[arg(long, value_name = "Y.npy")]
    reference: Option<PathBuf>,
    /// Reference activations of layers: float64, float32, float16 or bfloat16
    #[arg(long, value_name = "FILE")]
    taps: Option<PathBuf>,
    /// Hold the network against itself in this precision: f32, bf16 or int8
    #[arg(long, value_name = "NAME", conflicts_with_all = ["reference", "taps", "report", "max_error", "rtol", "atol"])]
    against: Option<Precision>,
    /// Largest max|Δ| / max|ref| of each tensor [default: 1e-5, or none with --rtol or --atol]
    #[arg(long, value_name = "MAX_ERROR", allow_negative_numbers = true)]
    max_error: Option<f64>,
    /// Relative tolerance of each element [default: 0]
    #[arg(long, value_name = "RTOL", allow_negative_numbers = true)]
    rtol: Option<f64>,
    /// Absolute tolerance of each element [default: 0]
    #[arg(long, value_name = "ATOL", allow_negative_numbers = true)]
    atol: Option<f64>,
    /// Write a report with plots: one HTML file that needs no network
    #[arg(long, value_name = "OUT.html")]
    report: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: TunedRunArgs,
}

impl Compare {
    pub fn execute(self, output: &Output) -> Done {
        let tolerance = self.tolerance()?;
        let model = self.model.load()?;
        if let Some(against) = self.against {
            return precisions::compare(&self, &model, against, output);
        }
        let reference = self.reference.as_deref().map(read_reference).transpose()?;
        let taps = self.taps.as_ref().map(TapFile::open).transpose()?;
        let images = Images::open(&self.input, &model)?;
        let mut session = model.session(&self.run.options(images.len(), Some(images.size()))?)?;
        let input = images.whole()?;
        let (value, layers) = match &taps {
            Some(taps) => {
                let (value, layers) = compare_layers(&model, &mut session, &input, taps, tolerance)?;
                (value, Some(layers))
            }
            None => (session.run(&input)?, None),
        };
        let compared = match (&reference, &self.reference) {
            (Some(reference), Some(path)) => {
                let what = format!("output, held against {}", path.display());
                let comparison = Comparison::new(&what, value.view(), reference.view(), tolerance)?;
                let histogram = ErrorHistogram::new(&comparison, value.view(), reference.view());
                Some((comparison, histogram))
            }
            _ => None,
        };
        let headline = self.model.describe(&model);
        let facts = self.facts(&headline, &session, tolerance);
        let page = Report {
            title: &model.graph().name,
            facts: &facts,
            output: compared.as_ref().map(|(comparison, histogram)| (comparison, histogram)),
            layers: layers.as_ref(),
        };
        let passed = page.passed();
        if let Some(path) = &self.report {
            let html = page.to_html()?;
            stridewise::atomic_file::write_atomically(path, |file| file.write_all(html.as_bytes()))?;
        }
        let comparison = compared.as_ref().map(|(comparison, _)| comparison);
        let json = Json {
            passed,
            model: &headline,
            isa: session.isa().to_string(),
            numerics: session.numerics().name(),
            threads: session.threads(),
            tolerance: json_tolerance(tolerance),
            output: comparison.map(Metrics::new),
            first_diverging_layer: layers.as_ref().and_then(|l| l.first_diverging()).map(|l| l.name.as_str()),
            layers: layers.as_ref().map(json_layers),
            fused_away: layers.as_ref().map(|l| l.fused_away.as_slice()),
            unknown: layers.as_ref().map(|l| l.unknown.as_slice()),
            report: self.report.as_deref(),
        };
        output.print(&json, || {
            let mut text = format!(
                "{headline} on {}, {}, {}; tolerance {tolerance}\n",
                session.isa(),
                session.numerics(),
                count(session.threads(), "thread")
            );
            if let Some(layers) = &layers {
                text += &layers_text(layers);
            }
            if let Some(comparison) = comparison {
                text += &output_text(comparison);
            }
            if let Some(path) = &self.report {
                text += &format!("\nreport: {}\n", path.display());
            }
            text + if passed { "\nwithin tolerance\n" } else { "\nBEYOND TOLERANCE\n" }
        })?;
        Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }

    fn tolerance(&self) -> Result<Tolerance, Failure> {
        let elementwise = match (self.rtol, self.atol) {
            (None, None) => None,
            (rtol, atol) => Some(Elementwise { rtol: rtol.unwrap_or(0.0), atol: atol.unwrap_or(0.0) }),
        };
        let max_error = self.max_error.or(if elementwise.is_none() { Some(MAX_ERROR) } else { None });
        Ok(Tolerance::new(max_error, elementwise)?)
    }

    fn facts(&self, model: &str, session: &Session, tolerance: Tolerance) -> Vec<(&'static str, String)> {
        let name = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let mut facts = vec![
            ("model", model.to_string()),
            ("program", format!("stridewise {}", env!("CARGO_PKG_VERSION"))),
            ("run on", format!("{}, {}, {}", session.isa(), session.numerics(), count(session.threads(), "thread"))),
            ("input", format!("{} {}", self.input.display(), session.input_shape())),
        ];
        facts.extend(name(&self.reference).map(|path| ("reference", path)));
        facts.extend(name(&self.taps).map(|path| ("layer references", path)));
        facts.push(("tolerance", tolerance.to_string()));
        facts
    }
}

fn read_reference(path: &Path) -> Result<Tensor<f64>, Failure> {
    let file = NpyTensor::read(path)?;
    let wrong = || {
        let expected = "float64, float32 or float16".into();
        Error::DType { what: path.display().to_string(), expected, found: file.dtype().into() }
    };
    Ok(file.to_f64()?.ok_or_else(wrong)?)
}

fn compare_layers(
    model: &Model,
    session: &mut Session,
    input: &Tensor<f32>,
    taps: &TapFile,
    tolerance: Tolerance,
) -> Result<(Tensor<f32>, LayerReport), Failure> {
    let mut comparer = LayerComparer::new(taps, tolerance);
    let mut refused = None;
    let value = session.run_with_taps(input, &mut |name, tensor| {
        if refused.is_none() {
            refused = comparer.observe(name, &tensor).err();
        }
    })?;
    if let Some(error) = refused {
        return Err(error.into());
    }
    let names = names_before_fusion(model)?;
    Ok((value, comparer.finish(names.iter().map(String::as_str))))
}

fn layers_text(report: &LayerReport) -> String {
    let mut table = table(&["layer", "shape", ">max|Δ|/max|ref|", ">max|Δ|", ">RMS", ">SNR dB", ""]);
    let first = report.first_diverging().map(|l| l.name.as_str());
    let mut without = 0;
    for layer in &report.layers {
        let mark = match (layer.passed(), first == Some(layer.name.as_str())) {
            (true, _) => "",
            (false, true) => "first diverging",
            (false, false) => "beyond tolerance",
        };
        match &layer.outcome {
            Outcome::Compared(c) => table.add_row([
                layer.name.clone(),
                format!("{:?}", c.dims),
                format!("{:.2e}", c.relative_to_max()),
                format!("{:.2e}", c.max_abs.error),
                format!("{:.2e}", c.rms),
                format!("{:.1}", c.snr_db),
                mark.into(),
            ]),
            Outcome::OtherShape { found, expected } => table.add_row([
                layer.name.clone(),
                format!("{found:?}"),
                format!("reference {expected:?}"),
                "".into(),
                "".into(),
                "".into(),
                mark.into(),
            ]),
            Outcome::NoReference => {
                without += 1;
                continue;
            }
        };
    }
    let mut text = format!("\n{}\n", lines(&table));
    let mut note = |number: usize, what: &str, names: &[String]| {
        if number > 0 {
            let shown = names.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
            let more = if names.len() > 6 { ", …" } else { "" };
            text += &format!("{}{what}{}{shown}{more}\n", count(number, "reference"), if names.is_empty() { "" } else { ": " });
        }
    };
    note(report.fused_away.len(), " fused away, not computed as values of their own", &report.fused_away);
    note(report.unknown.len(), " unknown to this network", &report.unknown);
    if without > 0 {
        text += &format!("{} without a reference\n", count(without, "layer"));
    }
    text + &match first {
        Some(name) => format!("first diverging layer: {name}\n"),
        None => "no layer diverges\n".to_string(),
    }
}

fn output_text(comparison: &Comparison) -> String {
    let mut text = format!("\noutput {:?}\n", comparison.dims);
    for (name, value) in comparison.describe() {
        let padding = 20usize.saturating_sub(name.chars().count());
        text += &format!("  {name}{:padding$}{value}\n", "");
    }
    text
}

/// The document of `--json`. Numbers that are infinite are null.
#[derive(Serialize)]
struct Json<'a> {
    passed: bool,
    model: &'a str,
    isa: String,
    numerics: &'static str,
    threads: usize,
    tolerance: JsonTolerance,
    output: Option<Metrics>,
    first_diverging_layer: Option<&'a str>,
    layers: Option<Vec<JsonLayer<'a>>>,
    fused_away: Option<&'a [String]>,
    unknown: Option<&'a [String]>,
    #[serde(serialize_with = "lossy_if_some")]
    report: Option<&'a Path>,
}

#[derive(Serialize)]
struct JsonTolerance {
    max_error: Option<f64>,
    rtol: Option<f64>,
    atol: Option<f64>,
}

fn json_tolerance(tolerance: Tolerance) -> JsonTolerance {
    let (rtol, atol) = (tolerance.elementwise.map(|e| e.rtol), tolerance.elementwise.map(|e| e.atol));
    JsonTolerance { max_error: tolerance.max_error, rtol, atol }
}

#[derive(Serialize)]
struct JsonLayer<'a> {
    name: &'a str,
    passed: bool,
    metrics: Option<Metrics>,
    /// Of the reference, when it has another shape.
    reference_shape: Option<&'a [usize]>,
}

fn json_layers(report: &LayerReport) -> Vec<JsonLayer<'_>> {
    report
        .layers
        .iter()
        .map(|l| JsonLayer {
            name: &l.name,
            passed: l.passed(),
            metrics: match &l.outcome {
                Outcome::Compared(c) => Some(Metrics::new(c)),
                _ => None,
            },
            reference_shape: match &l.outcome {
                Outcome::OtherShape { expected, .. } => Some(expected),
                _ => None,
            },
        })
        .collect()
}

#[derive(Serialize)]
struct Metrics {
    passed: bool,
    shape: Vec<usize>,
    max_error: f64,
    max_abs: f64,
    max_abs_at: Vec<usize>,
    max_rel: Option<f64>,
    rms: f64,
    cosine: f64,
    snr_db: f64,
    argmax_rows: Option<usize>,
    argmax_equal: Option<usize>,
    violations: usize,
    non_finite: usize,
    first_violation_at: Option<Vec<usize>>,
}

impl Metrics {
    fn new(c: &Comparison) -> Metrics {
        let first = [c.non_finite, c.violations].into_iter().filter_map(|Violations { first, .. }| first).min();
        Metrics {
            passed: c.passed(),
            shape: c.dims.clone(),
            max_error: c.relative_to_max(),
            max_abs: c.max_abs.error,
            max_abs_at: c.position(c.max_abs.index),
            max_rel: c.max_rel.map(|d| d.error),
            rms: c.rms,
            cosine: c.cosine,
            snr_db: c.snr_db,
            argmax_rows: c.argmax.map(|a| a.rows),
            argmax_equal: c.argmax.map(|a| a.equal),
            violations: c.violations.count,
            non_finite: c.non_finite.count,
            first_violation_at: first.map(|index| c.position(index)),
        }
    }
}
