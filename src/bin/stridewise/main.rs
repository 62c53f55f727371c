//! The program `stridewise`: one file a subcommand.

mod args;
mod arrays;
mod bandwidth;
mod bench;
mod bench_worker;
mod classify;
mod compare;
mod evaluate;
mod fidelity;
mod images;
mod init;
mod inspect;
mod inspect_onnx;
mod isa;
mod output;
mod pack;
mod profile;
mod progress;
mod quantize;
mod run;
mod skeleton;
mod timing;
mod tune;

use clap::{Parser, Subcommand};
use output::{Failure, Output};
use std::io::Write;
use std::process::ExitCode;

/// Runs convolutional networks on a CPU.
#[derive(Parser)]
#[command(version, about, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    /// Print one JSON document on stdout, and nothing else
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  stridewise classify cat.jpg
      what is on a picture, says the built-in CIFAR-10 ResNet-20
  stridewise classify --model resnet50.safetensors *.jpg
      with weights of torchvision, timm or Hugging Face
  stridewise bench --arch resnet50 --threads 1,2
      how fast, and how far from the processor's peak
  stridewise profile --arch resnet50 --report profile.html
      where the time goes, layer by layer
  stridewise tune --arch resnet50 -o tuning.txt
      measure which algorithm is fastest for each layer, for --tuning
  stridewise compare --model net.safetensors --input x.npy --reference y.npy
      how far from another engine's output

Exit codes: 0 done; 1 `compare` found a difference beyond its tolerance; 2 not done.
STRIDEWISE_ISA=portable|avx2|avx512|neon sets the instruction set where --isa does not.";

#[derive(Subcommand)]
enum Command {
    Classify(classify::Classify),
    Run(run::Run),
    Compare(compare::Compare),
    Bench(bench::Bench),
    Profile(profile::Profile),
    Tune(tune::Tune),
    Quantize(quantize::Quantize),
    Inspect(inspect::Inspect),
    Init(init::Init),
    Pack(pack::Pack),
    Isa(isa::ShowIsa),
    Evaluate(evaluate::Evaluate),
    BenchWorker(bench_worker::BenchWorker),
}

fn main() -> ExitCode {
    let Cli { json, command } = Cli::parse();
    let output = Output::new(json);
    let done = match command {
        Command::Classify(c) => c.execute(&output),
        Command::Run(c) => c.execute(&output),
        Command::Compare(c) => c.execute(&output),
        Command::Bench(c) => c.execute(&output),
        Command::Profile(c) => c.execute(&output),
        Command::Tune(c) => c.execute(&output),
        Command::Quantize(c) => c.execute(&output),
        Command::Inspect(c) => c.execute(&output),
        Command::Init(c) => c.execute(&output),
        Command::Pack(c) => c.execute(&output),
        Command::Isa(c) => c.execute(&output),
        Command::Evaluate(c) => c.execute(&output),
        Command::BenchWorker(c) => c.execute(),
    };
    match done {
        Ok(code) => code,
        // Of what is no result: `stridewise bench-worker | head`.
        Err(Failure::Stdout(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when stderr is closed too.
            let _ = writeln!(std::io::stderr(), "error: {failure}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
