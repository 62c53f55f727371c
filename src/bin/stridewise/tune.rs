//! `tune`: which algorithm is the fastest for each convolution, on this very processor.

use crate::args::{ModelArgs, RunArgs, Size, from_one, images_of};
use crate::output::{Done, Failure, Output, count, lines, lossy, table};
use crate::progress::Progress;
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stridewise::session::{TunedProblem, Tuning};
use stridewise::{Error, SessionOptions};
use stridewise_kernels::processor;

/// Measure which algorithm is the fastest for each convolution of a network, and keep the times in a file
#[derive(Args)]
#[command(after_help = "\
Other commands choose algorithms by the file with --tuning FILE; without it they choose by shape alone. Times hold \
for one model of processor, one instruction set and one number of threads: where a file has none that fit, shape \
decides. What is in the file already is not measured again, so one file can serve many networks and machines; \
after an update of this program, measure --again.

Chosen by shape, results have the same bits on every machine and for any number of threads. Chosen by times, they \
are the same in every run with the same file, threads and processor only.

Examples:
  stridewise tune --arch resnet50 --threads 2 -o tuning.txt
  stridewise bench --arch resnet50 --threads 2 --tuning tuning.txt
  stridewise inspect --arch resnet50 --plan --threads 2 --tuning tuning.txt")]
pub struct Tune {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: RunArgs,
    /// Images at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = from_one(), conflicts_with = "shape")]
    batch: u32,
    /// Input size: 224, or HxW [default: what the network was made for]
    #[arg(long, value_name = "HxW", conflicts_with = "shape")]
    size: Option<Size>,
    /// Timed runs of the network with each algorithm
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// The file of measured times: made, or added to
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Measure again what the file has already
    #[arg(long)]
    again: bool,
}

#[derive(Serialize)]
struct Report {
    model: String,
    processor: &'static str,
    isa: &'static str,
    numerics: &'static str,
    threads: usize,
    batch: usize,
    runs: usize,
    #[serde(serialize_with = "lossy")]
    output: PathBuf,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    problem: String,
    steps: usize,
    by_rule: &'static str,
    fastest: &'static str,
    times: Vec<Time>,
    /// Measured before.
    known: bool,
}

#[derive(Serialize)]
struct Time {
    algorithm: &'static str,
    seconds: f64,
}

impl Tune {
    pub fn execute(self, output: &Output) -> Done {
        let model = self.model.load_any_weights()?;
        let options = SessionOptions { shapes: self.model.shapes(), ..self.run.options(self.batch as usize, self.size.map(|size| size.0)) };
        let mut kept = existing(&self.output)?;
        let mut tuning = if self.again { Tuning::default() } else { kept.clone() };
        let mut progress = None;
        let problems = model.tune(&options, self.runs as usize, &mut tuning, &mut |done, total| {
            let (bar, before) = progress.get_or_insert_with(|| (Progress::new(output, total as u64, "runs"), 0));
            bar.add((done - *before) as u64);
            *before = done;
        })?;
        drop(progress);
        // What was measured elsewhere, or of other networks, stays.
        kept.extend(tuning);
        kept.save(&self.output)?;
        let session = model.session(&SessionOptions { tuning: Some(kept.into()), ..options })?;
        let report = Report {
            model: self.model.describe(&model),
            processor: processor(),
            isa: session.isa().name(),
            numerics: session.numerics().name(),
            threads: session.threads(),
            batch: images_of(&session),
            runs: self.runs as usize,
            output: self.output,
            problems: problems.into_iter().map(Problem::from).collect(),
        };
        output.print(&report, || report.text())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The file's table; an empty one where there is no file yet.
fn existing(path: &Path) -> Result<Tuning, Failure> {
    match Tuning::load(path) {
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(Tuning::default()),
        read => Ok(read?),
    }
}

impl From<TunedProblem> for Problem {
    fn from(p: TunedProblem) -> Problem {
        let times = p.seconds.iter().map(|&(algorithm, seconds)| Time { algorithm, seconds }).collect();
        Problem { problem: p.problem, steps: p.steps, by_rule: p.by_rule, fastest: p.fastest, times, known: p.known }
    }
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{}, batch {}; {}, {}, {} on {}\n\n",
            self.model,
            self.batch,
            self.isa,
            self.numerics,
            count(self.threads, "thread"),
            self.processor
        );
        let mut rows = table(&["problem", ">steps", "by shape", "fastest", ">saved", "µs"]);
        for p in &self.problems {
            let of = |name: &str| p.times.iter().find(|t| t.algorithm == name).map(|t| t.seconds);
            let saved =
                of(p.by_rule).zip(of(p.fastest)).map_or_else(String::new, |(rule, best)| format!("{:.1} %", 100.0 * (1.0 - best / rule)));
            let times = p.times.iter().map(|t| format!("{} {:.1}", t.algorithm, t.seconds * 1e6)).collect::<Vec<_>>().join(", ");
            let fastest = if p.known { format!("{} (known)", p.fastest) } else { p.fastest.into() };
            rows.add_row([p.problem.clone(), p.steps.to_string(), p.by_rule.into(), fastest, saved, times]);
        }
        if self.problems.is_empty() {
            text += "no convolution has more than one algorithm to choose from\n";
        } else {
            text += &lines(&rows);
        }
        text + &format!("\nmeasured times: {}\n", self.output.display())
    }
}
