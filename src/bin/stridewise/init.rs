//! `init`: a weights file to start from.

use crate::output::{Done, Output, count, grouped, lossy};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use stridewise::Arch;
use stridewise::formats::safetensors::{Precision, save};
use stridewise::models::WeightSource;
use stridewise::models::init::Initializer;

/// Write a file of random weights, initialised as PyTorch does and the same on every machine
#[derive(Args)]
#[command(after_help = "Example:\n  stridewise init --arch resnet50 --seed 0 -o resnet50.safetensors")]
pub struct Init {
    /// Architecture
    #[arg(long, value_name = "NAME")]
    arch: Arch,
    /// Seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The safetensors file to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Element type
    #[arg(long, value_enum, default_value_t = DType::F32)]
    dtype: DType,
    /// Classes [default: those of the data set that the architecture is made for]
    #[arg(long, value_name = "N")]
    classes: Option<usize>,
    /// Start the last BatchNorm of each residual branch at zero, so that each block starts as the identity
    #[arg(long)]
    zero_init_residual: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DType {
    F32,
    F16,
    Bf16,
}

#[derive(Serialize)]
struct Report {
    #[serde(serialize_with = "lossy")]
    output: PathBuf,
    arch: String,
    seed: u64,
    dtype: &'static str,
    classes: usize,
    tensors: usize,
    parameters: usize,
    bytes: u64,
}

impl Init {
    pub fn execute(self, output: &Output) -> Done {
        let classes = self.classes.unwrap_or(self.arch.default_classes());
        let parameters = self.arch.module(classes)?.parameters()?;
        let mut source = Initializer::new(self.seed).zero_init_residual(self.zero_init_residual);
        let mut tensors = Vec::with_capacity(parameters.len());
        for parameter in &parameters {
            tensors.push((parameter.name.clone(), source.tensor(parameter)?));
        }
        let (precision, dtype) = match self.dtype {
            DType::F32 => (Precision::F32, "f32"),
            DType::F16 => (Precision::F16, "f16"),
            DType::Bf16 => (Precision::BF16, "bf16"),
        };
        // One entry: the order of several would differ from file to file.
        let metadata = HashMap::from([("arch".to_string(), self.arch.to_string())]);
        save(&self.output, &tensors, precision, metadata)?;
        let report = Report {
            arch: self.arch.to_string(),
            seed: self.seed,
            dtype,
            classes,
            tensors: tensors.len(),
            parameters: parameters.iter().filter(|p| p.trained).map(|p| p.shape.elements()).sum(),
            bytes: std::fs::metadata(&self.output).map_or(0, |m| m.len()),
            output: self.output,
        };
        output.print(&report, || {
            format!(
                "{}: {}, seed {}; {}, {} parameters, {:.1} MB of {dtype}\n",
                report.output.display(),
                report.arch,
                report.seed,
                count(report.tensors, "tensor"),
                grouped(report.parameters as u64),
                report.bytes as f64 / 1e6
            )
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
