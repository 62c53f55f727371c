//! `run`: from an array to an array.

use crate::args::{ModelArgs, TunedRunArgs, from_one};
use crate::arrays::{self, NamedFile, NamedShape};
use crate::images::{Images, check_batch};
use crate::output::{Done, Failure, Output, count, duration, lossy};
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use stridewise::formats::onnx::Network;
use stridewise::{Model, OnnxOptions, SessionOptions, Shape, Tensor};

/// Run a network on an array of images and write its output
#[derive(Args)]
#[command(after_help = "Examples:\n  stridewise run --model resnet50.safetensors --input images.npy --output logits.npy
  stridewise run --model detector.onnx --input image=x.npy --input size=s.npy --output results")]
pub struct Run {
    /// Images [N, C, H, W]: float32 as the network reads them, or uint8 pixels, which are normalised as the model wants it. For an ONNX
    /// file any array, and NAME=X.npy once for each of several inputs
    #[arg(long, value_name = "X.npy")]
    input: Vec<NamedFile>,
    /// Where the output goes, float32; of several outputs the folder, in which they are 0.npy, 1.npy, …
    #[arg(long, short, value_name = "Y.npy")]
    output: PathBuf,
    /// Images that run at once [default: 32]; an ONNX file's arrays run whole
    #[arg(long, value_name = "N", value_parser = from_one())]
    batch: Option<u32>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: TunedRunArgs,
}

#[derive(Serialize)]
struct Report {
    model: String,
    isa: String,
    threads: usize,
    input_shape: Vec<usize>,
    #[serde(serialize_with = "lossy")]
    output: PathBuf,
    output_shape: Vec<usize>,
    seconds: f64,
}

#[derive(Serialize)]
struct NamedReport {
    model: String,
    isa: String,
    threads: usize,
    outputs: Vec<NamedOutput>,
    seconds: f64,
}

#[derive(Serialize)]
struct NamedOutput {
    name: String,
    #[serde(serialize_with = "lossy")]
    path: PathBuf,
    shape: Vec<usize>,
}

impl Run {
    pub fn execute(self, output: &Output) -> Done {
        if let Some(NamedShape((name, _))) = self.model.shape.first() {
            return Err(Failure::Usage(format!("--shape {name}=…: the shapes are those of the arrays that --input names")));
        }
        if let (Some(path), true) = (&self.model.model, self.model.is_onnx()) {
            return self.run_onnx(path, output);
        }
        let model = self.model.load()?;
        let [input] = self.input.as_slice() else {
            return Err(Failure::Usage("expected one --input X.npy: the network has one input".into()));
        };
        let images = Images::open(&input.path, &model)?;
        let batch = images.len().min(self.batch.map_or(32, |batch| batch as usize));
        let mut session = model.session(&self.run.options(batch, Some(images.size()))?)?;
        let (input_shape, mut dims) = (session.input_shape(), session.output_shape().dims().to_vec());
        check_batch(&dims, batch)?;
        dims[0] = images.len();
        let mut result = Tensor::<f32>::zeros(Shape::new(&dims)?)?;
        let row = result.as_slice().len() / images.len();
        let mut progress = Progress::new(output, images.len() as u64, "images");
        let mut seconds = 0.0;
        for range in images.batches(batch) {
            let input = images.batch(range.clone())?;
            let start = Instant::now();
            let values = session.run(&input)?;
            seconds += start.elapsed().as_secs_f64();
            check_batch(values.dims(), range.len())?;
            result.as_mut_slice()[range.start * row..range.end * row].copy_from_slice(values.as_slice());
            progress.add(range.len() as u64);
        }
        drop(progress);
        result.write_npy(&self.output)?;
        let mut all = input_shape.dims().to_vec();
        all[0] = images.len();
        let report = Report {
            model: self.model.describe(&model),
            isa: session.isa().to_string(),
            threads: session.threads(),
            input_shape: all,
            output: self.output,
            output_shape: dims,
            seconds,
        };
        output.print(&report, || {
            format!(
                "{} on {}, {}: {:?} -> {:?} in {}, written to {}\n",
                report.model,
                report.isa,
                count(report.threads, "thread"),
                report.input_shape,
                report.output_shape,
                duration(seconds),
                report.output.display()
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }

    /// All inputs at once, whatever they are.
    fn run_onnx(&self, path: &Path, output: &Output) -> Done {
        if let Some(batch) = self.batch {
            return Err(Failure::Usage(format!("--batch {batch}: the arrays of an ONNX file run whole, in the shapes that they have")));
        }
        let network = Network::load(path)?;
        let names: Vec<String> = network.inputs().iter().map(|input| input.name.clone()).collect();
        drop(network);
        let arrays = arrays::read_named(&self.input, &names)?;
        let shapes: Vec<(String, Vec<usize>)> = arrays.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
        let options = OnnxOptions { shapes: shapes.clone(), ..OnnxOptions::default() };
        let model = Model::from_onnx_with(path, &options)?;
        let mut session = model.session(&SessionOptions { shapes, ..self.run.options(1, None)? })?;
        let start = Instant::now();
        let outputs = arrays::run(&mut session, &arrays, &self.output)?;
        let report = NamedReport {
            model: self.model.describe(&model),
            isa: session.isa().to_string(),
            threads: session.threads(),
            outputs: outputs.into_iter().map(|(name, path, shape)| NamedOutput { name, path, shape }).collect(),
            seconds: start.elapsed().as_secs_f64(),
        };
        output.print(&report, || {
            let mut text =
                format!("{} on {}, {} in {}\n", report.model, report.isa, count(report.threads, "thread"), duration(report.seconds));
            for output in &report.outputs {
                text += &format!("  {} {:?}, written to {}\n", output.name, output.shape, output.path.display());
            }
            text
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
