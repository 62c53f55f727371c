//! `run`: from an array to an array.

use crate::args::{ModelArgs, TunedRunArgs};
use crate::images::Images;
use crate::output::{Done, Output, count, duration};
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use stridewise::{Shape, Tensor};

/// Run a network on an array of images and write its output
#[derive(Args)]
#[command(after_help = "Example:\n  stridewise run --model resnet50.safetensors --input images.npy --output logits.npy")]
pub struct Run {
    /// Images [N, C, H, W]: float32 as the network reads them, or uint8 pixels, which are normalised as the model wants it
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Where the output [N, classes] goes, float32
    #[arg(long, short, value_name = "Y.npy")]
    output: PathBuf,
    /// Images that run at once
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
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
    output: PathBuf,
    output_shape: Vec<usize>,
    seconds: f64,
}

impl Run {
    pub fn execute(self, output: &Output) -> Done {
        let model = self.model.load()?;
        let images = Images::open(&self.input, &model)?;
        let batch = images.len().min(self.batch as usize);
        let mut session = model.session(&self.run.options(batch, Some(images.size()))?)?;
        let (input_shape, mut dims) = (session.input_shape(), session.output_shape().dims().to_vec());
        if let Some(first) = dims.first_mut() {
            *first = images.len();
        }
        let mut result = Tensor::<f32>::zeros(Shape::new(&dims)?)?;
        let row = result.as_slice().len() / images.len();
        let mut progress = Progress::new(output, images.len() as u64, "images");
        let mut seconds = 0.0;
        for range in images.batches(batch) {
            let input = images.batch(range.clone())?;
            let start = Instant::now();
            let values = session.run(&input)?;
            seconds += start.elapsed().as_secs_f64();
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
}
