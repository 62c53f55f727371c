//! `bench-worker`: lets a benchmark harness drive us over stdin and stdout, one line a request.
//!
//! `run K` times K inferences, `output PATH` writes the logits, the end of the input ends the worker. Stdout carries nothing
//! but answers.

use crate::args::TuningArgs;
use crate::output::{Done, Failure};
use clap::Args;
use std::io::{BufRead, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use stridewise::{Arch, Isa, Model, Numerics, Precision, Session, SessionOptions, Tensor, Threads};

/// Serve a benchmark harness over stdin and stdout
#[derive(Args)]
#[command(after_help = "\
Answers one line of stdin with one line of stdout:
  (start)        ready {\"load_s\": seconds, \"version\": \"...\"}
  run K          {\"seconds\": [K wall times, one per inference of the whole input]}
  output PATH    writes the logits as float32 .npy; ok
  (end of file)  exits")]
pub struct BenchWorker {
    /// Weights: a safetensors file; or an ONNX file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Input [N, C, H, W], float32; the whole of it is one batch
    #[arg(long, value_name = "X.npy")]
    input: PathBuf,
    /// Threads in all, the calling one included
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Architecture [default: inferred from the file]
    #[arg(long, value_name = "NAME")]
    arch: Option<Arch>,
    /// Instruction set [default: the best there is]
    #[arg(long, value_name = "NAME")]
    isa: Option<Isa>,
    /// `fast` lets convolutions use Winograd, `exact` sums directly
    #[arg(long, value_name = "MODE", default_value_t = Numerics::Fast)]
    numerics: Numerics,
    /// f32, bf16 or int8 (of a model that `stridewise quantize` made)
    #[arg(long, value_name = "NAME", default_value_t = Precision::F32)]
    precision: Precision,
    #[command(flatten)]
    tuning: TuningArgs,
}

/// Longest line that is read.
const MAX_LINE: u64 = 1 << 16;

/// Most inferences of one request.
const MAX_RUNS: usize = 1 << 20;

struct Worker {
    session: Session,
    input: Tensor<f32>,
    logits: Tensor<f32>,
    has_run: bool,
}

impl BenchWorker {
    pub fn execute(self) -> Done {
        let input = Tensor::<f32>::read_npy(&self.input)?;
        let start = Instant::now();
        let model = Model::load(self.arch, &self.model)?;
        let &[batch, _, h, w] = input.dims() else {
            let what = self.input.display().to_string();
            return Err(stridewise::Error::Shape { what, expected: "[N, C, H, W]".into(), found: input.shape().to_string() }.into());
        };
        let options = SessionOptions {
            threads: Threads::Count(self.threads),
            isa: self.isa,
            numerics: self.numerics,
            precision: self.precision,
            tuning: self.tuning.load()?,
            batch,
            size: Some([h, w]),
            ..SessionOptions::default()
        };
        let session = model.session(&options)?;
        let load = start.elapsed().as_secs_f64();
        let logits = Tensor::zeros(session.output_shape())?;
        let mut worker = Worker { session, input, logits, has_run: false };
        let version = format!("stridewise {} ({})", env!("CARGO_PKG_VERSION"), worker.session.isa());
        answer(&format!("ready {}", serde_json::json!({ "load_s": load, "version": version })))?;
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut line = String::new();
            let read = stdin.by_ref().take(MAX_LINE).read_line(&mut line).map_err(|e| Failure::Usage(format!("stdin: {e}")))?;
            if read == 0 {
                return Ok(ExitCode::SUCCESS);
            }
            let line = line.trim_end_matches(['\n', '\r']);
            match line.split_once(' ') {
                Some(("run", runs)) => worker.run(runs)?,
                Some(("output", path)) => worker.output(path)?,
                _ => return Err(Failure::Usage(format!("unknown request {line:?}; known: `run K`, `output PATH`"))),
            }
        }
    }
}

impl Worker {
    fn run(&mut self, runs: &str) -> Result<(), Failure> {
        let parsed = runs.trim().parse::<usize>().ok().filter(|k| *k <= MAX_RUNS);
        let runs = parsed.ok_or_else(|| Failure::Usage(format!("run {runs:?}: expected a number of at most {MAX_RUNS}")))?;
        let mut seconds = Vec::with_capacity(runs);
        for _ in 0..runs {
            let start = Instant::now();
            self.session.run_into(self.input.view(), &mut self.logits)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        self.has_run |= runs > 0;
        answer(&serde_json::json!({ "seconds": seconds }).to_string())
    }

    fn output(&mut self, path: &str) -> Result<(), Failure> {
        if !self.has_run {
            self.session.run_into(self.input.view(), &mut self.logits)?;
            self.has_run = true;
        }
        self.logits.write_npy(path)?;
        answer("ok")
    }
}

fn answer(line: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(Failure::Stdout)
}
