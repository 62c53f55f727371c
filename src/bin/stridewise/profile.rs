//! `profile`: where the time of a run goes, step by step, and how far each step is from the processor's limits.

mod page;
mod plots;
mod trace;

use crate::args::{ModelArgs, Size, TunedRunArgs, default_threads, from_one, images_of};
use crate::bandwidth::{Bandwidth, measure_read_bandwidth};
use crate::output::{Done, Failure, Output, count, lines, lossy_if_some, table};
use crate::progress::Progress;
use crate::timing::{pattern, quantile};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use stridewise::atomic_file::write_atomically;
use stridewise::session::{Profile as Times, StepInfo, StepTimes};
use stridewise::{Session, SessionOptions, Shape, Tensor};
use stridewise_kernels::peak::measure_fma_peak;

/// Show where the time of a run goes, step by step
#[derive(Args)]
#[command(after_help = "\
Times are medians over the runs, and their share is that of the median run. GFLOP/s count two operations \
for each multiply-accumulate of a direct convolution: Winograd, which does fewer, can be above 100 % of the \
peak. The peak is one core's measured FMA rate, times threads. MB are those of a step's inputs, output and \
packed weights, wherever they come from. (input) and (output) are the conversions from and to NCHW. (outside \
kernels) is the part of all their times in which threads were handed work, woken, or waited for the slowest: \
wall time less the mean time that a thread spent in kernels.

The trace is for chrome://tracing or ui.perfetto.dev and shows the run whose time is the median. The report \
also has a roofline, for which the bandwidth of the memory is measured.

Examples:
  stridewise profile --arch resnet50
  stridewise profile --arch resnet50 --threads 1 --top 10
  stridewise profile --model net.safetensors --batch 8 --trace trace.json --report profile.html")]
pub struct Profile {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    run: TunedRunArgs,
    /// Images at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = from_one(), conflicts_with = "shape")]
    batch: u32,
    /// Input size: 224, or HxW [default: what the network was made for]
    #[arg(long, value_name = "HxW", conflicts_with = "shape")]
    size: Option<Size>,
    /// Timed runs [default: as many as take 3 seconds]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: Option<u32>,
    /// Order of the table's rows [default: order, or time with --top]
    #[arg(long, value_name = "BY")]
    sort: Option<Sort>,
    /// Show the first N rows of the table only
    #[arg(long, value_name = "N", value_parser = from_one())]
    top: Option<u32>,
    /// Write a trace of one run in Chrome's trace event format
    #[arg(long, value_name = "OUT.json")]
    trace: Option<PathBuf>,
    /// Write a report with plots: one HTML file that needs no network
    #[arg(long, value_name = "OUT.html")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// As the steps run
    Order,
    /// The slowest first
    Time,
}

/// Seconds of timed runs where their number is not given.
const SECONDS: f64 = 3.0;

/// Most and fewest runs then.
const FEWEST_RUNS: usize = 3;
const MOST_RUNS: usize = 10_000;

/// Everything that was measured; as JSON, what `--json` prints.
#[derive(Serialize)]
struct Report {
    model: String,
    /// Of images.
    size: Option<[usize; 2]>,
    batch: usize,
    isa: &'static str,
    numerics: &'static str,
    threads: usize,
    runs: usize,
    /// Of all threads together.
    peak_gflops: f64,
    /// Measured for the HTML page only.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Bandwidth>,
    /// The whole run.
    run: Part,
    /// Of the median run, what the threads did not spend in kernels.
    outside: Outside,
    input: Part,
    steps: Vec<Part>,
    output: Part,
    kinds: Vec<Kind>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy_if_some")]
    trace: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy_if_some")]
    report: Option<PathBuf>,
}

/// A step, the conversion at either end, or all of them together.
#[derive(Serialize)]
struct Part {
    name: String,
    op: &'static str,
    /// The convolution problem, or else the shapes.
    problem: String,
    algorithm: &'static str,
    min_seconds: f64,
    median_seconds: f64,
    p95_seconds: f64,
    percent_of_run: f64,
    /// Of the median, outside kernels; of a conversion it is not known.
    outside_seconds: Option<f64>,
    macs: u64,
    gflops: Option<f64>,
    percent_of_peak: Option<f64>,
    bytes: u64,
    /// In the run that the trace shows.
    #[serde(skip)]
    traced_seconds: f64,
}

/// Time outside kernels: handing out work, waking threads, waiting for the slowest.
#[derive(Serialize)]
struct Outside {
    /// Median.
    seconds: f64,
    percent_of_run: f64,
}

/// The parts of one algorithm, or of one op that has no algorithms.
#[derive(Serialize)]
struct Kind {
    name: &'static str,
    parts: usize,
    /// The sum of the parts' medians.
    seconds: f64,
    percent_of_run: f64,
    gflops: Option<f64>,
    percent_of_peak: Option<f64>,
}

impl Profile {
    pub fn execute(self, output: &Output) -> Done {
        if let (Some(trace), Some(report)) = (&self.trace, &self.report)
            && trace == report
        {
            return Err(Failure::Usage(format!("--trace and --report are both {}: expected two files", trace.display())));
        }
        let model = self.model.load_any_weights()?;
        let options = self.run.options(self.batch as usize, self.size.map(|size| size.0))?;
        let mut session = model.session(&SessionOptions { shapes: self.model.shapes(), ..options })?;
        let peak = measure_fma_peak(session.isa())? * session.threads() as f64;
        // Threads beyond the processor's read no more together.
        let readers = session.threads().min(default_threads());
        let memory = self.report.is_some().then(|| measure_read_bandwidth(readers)).transpose()?;
        let input = pattern(session.input_shape())?;
        let times = self.measure(&mut session, &input, output)?;
        let report = self.report(self.model.describe(&model), &session, &times, peak, memory);
        // Both are made before either is written.
        let trace = self.trace.as_ref().map(|path| Ok::<_, Failure>((path, trace::json(&report)?))).transpose()?;
        let page = self.report.as_ref().map(|path| Ok::<_, Failure>((path, page::html(&report)?))).transpose()?;
        for (path, text) in trace.iter().chain(&page) {
            write_atomically(path, |file| file.write_all(text.as_bytes()))?;
        }
        output.print(&report, || report.text(self.sort, self.top))?;
        Ok(ExitCode::SUCCESS)
    }

    fn measure(&self, session: &mut Session, input: &Tensor<f32>, output: &Output) -> Result<Times, Failure> {
        let one = session.profile(input, 1)?.run_seconds.iter().sum::<f64>();
        let runs_in = |seconds: f64| (seconds / one).ceil() as usize;
        let runs = self.runs.map_or_else(|| runs_in(SECONDS).clamp(FEWEST_RUNS, MOST_RUNS), |runs| runs as usize);
        // In turns, for the progress bar. Each has a run that is not timed: enough timed ones make up for it.
        let turn = runs_in(1.0).max(10);
        let mut progress = Progress::new(output, runs as u64, "runs");
        let mut times = session.profile(input, turn.min(runs))?;
        progress.add(times.run_seconds.len() as u64);
        while times.run_seconds.len() < runs {
            let more = session.profile(input, turn.min(runs - times.run_seconds.len()))?;
            progress.add(more.run_seconds.len() as u64);
            times.input_seconds.extend(more.input_seconds);
            for (step, more) in times.steps.iter_mut().zip(more.steps) {
                step.seconds.extend(more.seconds);
                step.kernel_seconds.extend(more.kernel_seconds);
            }
            times.kernel_seconds.extend(more.kernel_seconds);
            times.output_seconds.extend(more.output_seconds);
            times.run_seconds.extend(more.run_seconds);
        }
        Ok(times)
    }

    fn report(&self, model: String, session: &Session, times: &Times, peak: f64, memory: Option<Bandwidth>) -> Report {
        let run = median(&times.run_seconds);
        let traced = times.run_seconds.iter().position(|seconds| *seconds == run).unwrap_or(0);
        let measure = Measure { run, traced, peak };
        let input_shape = session.input_shape();
        let output_shape = session.output_shape();
        let conversion = |name: &str, shape: Shape, seconds: &[f64]| {
            let part = Part { name: name.into(), op: "conversion", problem: shape.to_string(), ..Part::default() };
            // Read and written.
            measure.part(Part { bytes: 2 * bytes(shape), ..part }, seconds)
        };
        let input = conversion("(input)", input_shape, &times.input_seconds);
        let output = conversion("(output)", output_shape, &times.output_seconds);
        let steps: Vec<Part> = times.steps.iter().map(|step| measure.step(step)).collect();
        let parts = || std::iter::once(&input).chain(&steps).chain(std::iter::once(&output));
        let sums = Part { macs: parts().map(|p| p.macs).sum(), bytes: parts().map(|p| p.bytes).sum(), ..Part::default() };
        let whole = Part { name: "run".into(), problem: format!("{input_shape} -> {output_shape}"), ..sums };
        let outside_run = outside(&times.run_seconds, &times.kernel_seconds);
        let whole = Part { outside_seconds: Some(outside_run), ..whole };
        Report {
            model,
            size: match *input_shape.dims() {
                [_, _, h, w] => Some([h, w]),
                _ => None,
            },
            batch: images_of(session),
            isa: session.isa().name(),
            numerics: session.numerics().name(),
            threads: session.threads(),
            runs: times.run_seconds.len(),
            peak_gflops: peak / 1e9,
            memory,
            run: measure.part(whole, &times.run_seconds),
            outside: Outside { seconds: outside_run, percent_of_run: 100.0 * outside_run / run },
            kinds: measure.kinds(parts()),
            input,
            steps,
            output,
            trace: self.trace.clone(),
            report: self.report.clone(),
        }
    }
}

/// What the parts are held against.
struct Measure {
    /// The median run's seconds.
    run: f64,
    /// That run.
    traced: usize,
    /// FLOP/s.
    peak: f64,
}

impl Measure {
    fn step(&self, times: &StepTimes) -> Part {
        let step = &times.step;
        let shapes = || format!("{} -> {}", step.input, step.output);
        let part = Part {
            name: step.name.clone(),
            op: step.op,
            problem: if step.problem.is_empty() { shapes() } else { step.problem.clone() },
            algorithm: step.algorithm,
            macs: step.macs,
            bytes: bytes_moved(step),
            outside_seconds: Some(outside(&times.seconds, &times.kernel_seconds)),
            ..Part::default()
        };
        self.part(part, &times.seconds)
    }

    /// The part with its times.
    fn part(&self, part: Part, seconds: &[f64]) -> Part {
        let mut sorted = seconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = quantile(&sorted, 0.5);
        let (gflops, percent_of_peak) = self.rate(part.macs, median);
        Part {
            min_seconds: quantile(&sorted, 0.0),
            median_seconds: median,
            p95_seconds: quantile(&sorted, 0.95),
            percent_of_run: 100.0 * median / self.run,
            gflops,
            percent_of_peak,
            traced_seconds: seconds.get(self.traced).copied().unwrap_or(f64::NAN),
            ..part
        }
    }

    /// GFLOP/s and percent of the peak, where there is something to multiply.
    fn rate(&self, macs: u64, seconds: f64) -> (Option<f64>, Option<f64>) {
        let rate = Some(2.0 * macs as f64 / seconds).filter(|rate| macs > 0 && rate.is_finite());
        (rate.map(|r| r / 1e9), rate.map(|r| 100.0 * r / self.peak))
    }

    /// The slowest first.
    fn kinds<'a>(&self, parts: impl Iterator<Item = &'a Part>) -> Vec<Kind> {
        let mut groups: Vec<(&'static str, Vec<&Part>)> = Vec::new();
        for part in parts {
            match groups.iter_mut().find(|(name, _)| *name == part.kind()) {
                Some((_, group)) => group.push(part),
                None => groups.push((part.kind(), vec![part])),
            }
        }
        let kind = |(name, group): (&'static str, Vec<&Part>)| {
            let seconds: f64 = group.iter().map(|p| p.median_seconds).sum();
            let (gflops, percent_of_peak) = self.rate(group.iter().map(|p| p.macs).sum(), seconds);
            Kind { name, parts: group.len(), seconds, percent_of_run: 100.0 * seconds / self.run, gflops, percent_of_peak }
        };
        let mut kinds: Vec<Kind> = groups.into_iter().map(kind).collect();
        kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        kinds
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// The median of what each run spent outside kernels.
fn outside(seconds: &[f64], in_kernels: &[f64]) -> f64 {
    median(&seconds.iter().zip(in_kernels).map(|(all, inside)| (all - inside).max(0.0)).collect::<Vec<_>>())
}

fn bytes(shape: Shape) -> u64 {
    (shape.elements() as u64).saturating_mul(size_of::<f32>() as u64)
}

/// Bytes of a step's inputs, output and packed weights. A second input is a summand, of the output's shape.
fn bytes_moved(step: &StepInfo) -> u64 {
    let summand = step.op == "Add" || step.epilogue.split('+').any(|part| part == "residual");
    let output = bytes(step.output).saturating_mul(if summand { 2 } else { 1 });
    bytes(step.input).saturating_add(output).saturating_add(step.weight_bytes as u64)
}

impl Part {
    /// What parts are grouped and coloured by.
    fn kind(&self) -> &'static str {
        if self.algorithm.is_empty() { self.op } else { self.algorithm }
    }

    /// FLOP a byte.
    fn intensity(&self) -> f64 {
        2.0 * self.macs as f64 / self.bytes as f64
    }
}

impl Default for Part {
    /// One of which nothing is known.
    fn default() -> Part {
        Part {
            name: String::new(),
            op: "",
            problem: String::new(),
            algorithm: "",
            min_seconds: f64::NAN,
            median_seconds: f64::NAN,
            p95_seconds: f64::NAN,
            percent_of_run: f64::NAN,
            outside_seconds: None,
            macs: 0,
            gflops: None,
            percent_of_peak: None,
            bytes: 0,
            traced_seconds: f64::NAN,
        }
    }
}

impl Report {
    /// In the order of a run.
    fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.input).chain(&self.steps).chain(std::iter::once(&self.output))
    }

    fn headline(&self) -> String {
        let size = self.size.map_or_else(String::new, |[h, w]| format!(", {h}x{w}"));
        format!("{}{size}, batch {}", self.model, self.batch)
    }

    fn setting(&self) -> String {
        format!("{}, {}, {}", self.isa, self.numerics, count(self.threads, "thread"))
    }

    /// Milliseconds with digits enough for the parts of this run.
    fn ms(&self, seconds: f64) -> String {
        let digits = if self.run.median_seconds < 10e-3 { 4 } else { 3 };
        format!("{:.digits$}", seconds * 1e3)
    }

    /// The cells behind a name: milliseconds, share, GFLOP/s and share of the peak.
    fn rates(&self, seconds: f64, percent_of_run: f64, gflops: Option<f64>, percent_of_peak: Option<f64>) -> [String; 4] {
        let percent = |p: f64| format!("{p:.1} %");
        [
            self.ms(seconds),
            percent(percent_of_run),
            gflops.map_or_else(String::new, |g| format!("{g:.1}")),
            percent_of_peak.map_or_else(String::new, percent),
        ]
    }

    fn row(&self, p: &Part) -> [String; 9] {
        let [ms, share, gflops, of_peak] = self.rates(p.median_seconds, p.percent_of_run, p.gflops, p.percent_of_peak);
        let megabytes = format!("{:.2}", p.bytes as f64 / 1e6);
        [p.name.clone(), p.op.into(), p.problem.clone(), p.algorithm.into(), ms, share, gflops, of_peak, megabytes]
    }

    fn text(&self, sort: Option<Sort>, top: Option<u32>) -> String {
        let mut text = format!("{}; {}; {}\n\n", self.headline(), self.setting(), count(self.runs, "run"));
        let mut parts: Vec<&Part> = self.parts().collect();
        if sort.unwrap_or(if top.is_some() { Sort::Time } else { Sort::Order }) == Sort::Time {
            parts.sort_by(|a, b| b.median_seconds.total_cmp(&a.median_seconds));
        }
        let shown = top.map_or(parts.len(), |top| parts.len().min(top as usize));
        let mut steps = table(&HEADERS);
        for part in &parts[..shown] {
            steps.add_row(self.row(part));
        }
        if shown < parts.len() {
            let rest = &parts[shown..];
            let (seconds, share): (f64, f64) =
                rest.iter().fold((0.0, 0.0), |(s, p), part| (s + part.median_seconds, p + part.percent_of_run));
            let [ms, share, ..] = self.rates(seconds, share, None, None);
            let megabytes = format!("{:.2}", rest.iter().map(|p| p.bytes).sum::<u64>() as f64 / 1e6);
            let none = String::new;
            steps.add_row([format!("({} more)", rest.len()), none(), none(), none(), ms, share, none(), none(), megabytes]);
        }
        steps.add_row(self.row(&self.run));
        text += &lines(&steps);
        let mut kinds = table(&["", ">steps", ">ms", ">share", ">GFLOP/s", ">of peak"]);
        for kind in &self.kinds {
            let [ms, share, gflops, of_peak] = self.rates(kind.seconds, kind.percent_of_run, kind.gflops, kind.percent_of_peak);
            kinds.add_row([kind.name.into(), kind.parts.to_string(), ms, share, gflops, of_peak]);
        }
        kinds.add_row(self.outside_row());
        text += &format!("\n{}\n{}\n", lines(&kinds), self.peak());
        for (what, path) in [("trace", &self.trace), ("report", &self.report)] {
            if let Some(path) = path {
                text += &format!("{what}: {}\n", path.display());
            }
        }
        text
    }

    /// A row of the table of kinds.
    fn outside_row(&self) -> [String; 6] {
        let [ms, share, ..] = self.rates(self.outside.seconds, self.outside.percent_of_run, None, None);
        [OUTSIDE.into(), String::new(), ms, share, String::new(), String::new()]
    }

    fn peak(&self) -> String {
        let each = if self.threads == 1 { "one core".into() } else { format!("{} cores", self.threads) };
        format!("measured FMA peak of {each}: {:.1} GFLOP/s", self.peak_gflops)
    }
}

/// What the time outside kernels is called.
const OUTSIDE: &str = "(outside kernels)";

const HEADERS: [&str; 9] = ["step", "op", "problem / shape", "algorithm", ">median ms", ">share", ">GFLOP/s", ">of peak", ">MB"];
