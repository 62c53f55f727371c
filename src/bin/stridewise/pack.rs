//! `pack`: a network with its weights as kernels read them.

use crate::args::{ModelArgs, Size, from_one};
use crate::output::{Done, Failure, Output, grouped, lossy};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use stridewise::{Isa, Numerics, Precision, SessionOptions};

/// Write a packed network, which starts without packing: mapped, not copied
#[derive(Args)]
#[command(after_help = "\
Examples:
  stridewise pack resnet50.safetensors -o resnet50.swp
  stridewise pack resnet50.safetensors -o resnet50.swp --isa avx2,avx512 --batch 1,8
      for machines of both kinds, and for single images and batches

A packed network is one file in place of the weights. It is for the instruction sets, precisions, \
batches, sizes and numerics that it was packed for; a session of another kind is refused, with what it lacks.")]
pub struct Pack {
    /// Weights in any format that --model takes [default: the built-in CIFAR-10 ResNet-20]
    #[arg(value_name = "FILE", conflicts_with_all = ["model", "random"])]
    file: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// The packed network to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Instruction sets to pack for [default: the best there is]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    isa: Vec<Isa>,
    /// `fast`, `exact` or both
    #[arg(long, value_name = "MODE,…", value_delimiter = ',', default_values_t = [Numerics::Fast])]
    numerics: Vec<Numerics>,
    /// `f32`, `bf16` or both
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_values_t = [Precision::F32])]
    precision: Vec<Precision>,
    /// Numbers of images in a batch
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1], value_parser = from_one(), conflicts_with = "shape")]
    batch: Vec<u32>,
    /// Input sizes: 224, or HxW [default: what the network was made for]
    #[arg(long, value_name = "HxW,…", value_delimiter = ',', conflicts_with = "shape")]
    size: Vec<Size>,
}

#[derive(Serialize)]
struct Report {
    #[serde(serialize_with = "lossy")]
    output: PathBuf,
    network: String,
    sessions: usize,
    bytes: u64,
}

impl Pack {
    pub fn execute(mut self, output: &Output) -> Done {
        self.model.model = self.file.take().or(self.model.model.take());
        if self.model.is_onnx() && (self.batch != [1] || !self.size.is_empty()) {
            let reason = "an ONNX network is packed for the one shape of each input that --shape NAME=DIMS gives";
            return Err(Failure::Usage(format!("--batch and --size: {reason}")));
        }
        let model = self.model.load_for_shapes()?;
        let isas = if self.isa.is_empty() { vec![None] } else { self.isa.iter().copied().map(Some).collect() };
        let sizes = if self.size.is_empty() { vec![None] } else { self.size.iter().map(|size| Some(size.0)).collect() };
        let mut sessions = 0;
        for isa in isas {
            for (&numerics, &precision) in self.numerics.iter().flat_map(|n| self.precision.iter().map(move |p| (n, p))) {
                for &batch in &self.batch {
                    for &size in &sizes {
                        let shapes = self.model.shapes();
                        let options =
                            SessionOptions { isa, numerics, precision, batch: batch as usize, size, shapes, ..Default::default() };
                        model.session(&options)?;
                        sessions += 1;
                    }
                }
            }
        }
        model.save_packed(&self.output)?;
        let bytes = std::fs::metadata(&self.output).map_or(0, |metadata| metadata.len());
        let report = Report { network: self.model.describe(&model), sessions, bytes, output: self.output };
        output.print(&report, || format!("{}: {}, {} bytes\n", report.output.display(), report.network, grouped(bytes)))?;
        Ok(ExitCode::SUCCESS)
    }
}
