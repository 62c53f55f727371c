//! `bench`: how fast a network runs, and how far that is from the processor's peak.
//!
//! Every combination of the given threads, instruction sets and batches takes part. In each round each of them in turn runs
//! once untimed and then for a short while timed, so that a slow moment of the machine does not fall on one alone.

use crate::args::{ModelArgs, Size, TuningArgs, default_threads, from_one, images_of};
use crate::output::{Done, Failure, Output, count, lines, table};
use crate::progress::Progress;
use crate::timing::{pattern, quantile};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;
use stridewise::{Isa, Model, Numerics, Precision, Session, SessionOptions, Tensor, TensorView, TensorViewMut, Threads};
use stridewise_kernels::KernelTable;
use stridewise_kernels::peak::{measure_bf16_peak, measure_fma_peak, measure_int8_peak};

/// Measure how fast a network runs
#[derive(Args)]
#[command(after_help = "\
Several threads, instruction sets, precisions or batches are measured in turn, round by round. GFLOP/s count two \
operations for each multiply-accumulate of a direct convolution, at the median time; the peak is one core's \
measured rate of FMAs, or of the precision's dot products, times threads. An architecture without weights gets random ones.

Examples:
  stridewise bench --arch resnet50
  stridewise bench --arch resnet50 --threads 1,2 --isa avx2,avx512 --runs 100
  stridewise bench --arch resnet18 --numerics fast,exact
  stridewise bench --model net.safetensors --batch 1,8 --size 320x256 --json")]
pub struct Bench {
    #[command(flatten)]
    model: ModelArgs,
    /// Threads, one number or several [default: as many as the process may use]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    threads: Vec<usize>,
    /// Instruction sets [default: the best there is]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    isa: Vec<Isa>,
    /// `fast` lets convolutions use Winograd, `exact` sums directly
    #[arg(long, value_name = "MODE,…", value_delimiter = ',', default_value = "fast")]
    numerics: Vec<Numerics>,
    /// f32, bf16 or int8 (of a model that `stridewise quantize` made)
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "f32")]
    precision: Vec<Precision>,
    #[command(flatten)]
    tuning: TuningArgs,
    /// Images at once
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1], value_parser = from_one(), conflicts_with = "shape")]
    batch: Vec<u32>,
    /// Input size: 224, or HxW [default: what the network was made for]
    #[arg(long, value_name = "HxW", conflicts_with = "shape")]
    size: Option<Size>,
    /// Timed seconds for each combination
    #[arg(long, value_name = "S", default_value_t = 3.0, allow_negative_numbers = true, conflicts_with = "runs")]
    seconds: f64,
    /// Timed runs for each combination instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    runs: Option<u32>,
}

/// Seconds of timed runs in a turn.
const TURN: f64 = 0.25;

struct Contender {
    session: Session,
    batch: usize,
    inputs: Vec<Tensor<f32>>,
    outputs: Vec<Tensor<f32>>,
    macs: u64,
    seconds: Vec<f64>,
}

#[derive(Serialize)]
struct Report {
    model: String,
    /// H and W of the images, if the first input is one of images.
    size: Option<[usize; 2]>,
    results: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    isa: &'static str,
    numerics: &'static str,
    precision: &'static str,
    threads: usize,
    batch: usize,
    runs: usize,
    min_seconds: f64,
    median_seconds: f64,
    p95_seconds: f64,
    p99_seconds: f64,
    max_seconds: f64,
    images_per_second: f64,
    macs: u64,
    gflops: f64,
    peak_gflops: f64,
    percent_of_peak: f64,
    activation_bytes: usize,
    weight_bytes: usize,
}

impl Bench {
    pub fn execute(self, output: &Output) -> Done {
        if !(self.seconds > 0.0 && self.seconds <= 1e6) {
            return Err(Failure::Usage(format!("--seconds {}: expected a number above 0 and up to 1000000", self.seconds)));
        }
        let model = self.model.load_any_weights()?;
        let mut contenders = self.contenders(&model)?;
        let size = contenders.first().and_then(|c| match *c.session.input_shape().dims() {
            [_, _, h, w] => Some([h, w]),
            _ => None,
        });
        let mut peaks = BTreeMap::new();
        for contender in &contenders {
            let isa = contender.session.isa();
            let precision = contender.session.precision().name();
            if let std::collections::btree_map::Entry::Vacant(entry) = peaks.entry((isa, precision)) {
                entry.insert(measure_peak(isa, contender.session.precision())?);
            }
        }
        self.measure(&mut contenders, output)?;
        let results = contenders.iter_mut().map(|c| {
            let peak = peaks.get(&(c.session.isa(), c.session.precision().name())).copied().unwrap_or(f64::NAN);
            c.result(peak)
        });
        let report = Report { model: self.model.describe(&model), size, results: results.collect() };
        output.print(&report, || report.text())?;
        Ok(ExitCode::SUCCESS)
    }

    fn contenders(&self, model: &Model) -> Result<Vec<Contender>, Failure> {
        let threads = if self.threads.is_empty() { vec![default_threads()] } else { self.threads.clone() };
        let isas = if self.isa.is_empty() { vec![Isa::best()?] } else { self.isa.clone() };
        let tuning = self.tuning.load()?;
        let mut contenders = Vec::new();
        for batch in self.batch.iter().map(|&batch| batch as usize) {
            for &isa in &isas {
                for &threads in &threads {
                    for &numerics in &self.numerics {
                        for &precision in &self.precision {
                            let options = SessionOptions {
                                threads: Threads::Count(threads),
                                isa: Some(isa),
                                numerics,
                                precision,
                                tuning: tuning.clone(),
                                batch,
                                size: self.size.map(|size| size.0),
                                shapes: self.model.shapes(),
                                ..SessionOptions::default()
                            };
                            contenders.push(Contender::new(model, &options)?);
                        }
                    }
                }
            }
        }
        Ok(contenders)
    }

    fn measure(&self, contenders: &mut [Contender], output: &Output) -> Result<(), Failure> {
        let mut progress = Progress::new(output, 100, "%");
        let share = |c: &Contender, timed: f64| match self.runs {
            Some(runs) => c.seconds.len() as f64 / f64::from(runs),
            None => timed / self.seconds,
        };
        let mut shown = 0;
        loop {
            let mut open = false;
            for index in 0..contenders.len() {
                let contender = &mut contenders[index];
                let mut timed: f64 = contender.seconds.iter().sum();
                if share(contender, timed) >= 1.0 {
                    continue;
                }
                contender.run()?;
                let end = timed + TURN;
                while timed < end && share(contender, timed) < 1.0 {
                    let seconds = contender.run()?;
                    contender.seconds.push(seconds);
                    timed += seconds;
                }
                open |= share(contender, timed) < 1.0;
                let done = contenders.iter().map(|c| share(c, c.seconds.iter().sum()).min(1.0)).sum::<f64>();
                let done = (100.0 * done / contenders.len() as f64) as u64;
                progress.add(done.saturating_sub(shown));
                shown = done;
            }
            if !open {
                return Ok(());
            }
        }
    }
}

/// The rate of the products that a precision is computed with: of one core, in operations a second.
fn measure_peak(isa: Isa, precision: Precision) -> Result<f64, Failure> {
    let table = KernelTable::get(isa).map_err(stridewise::Error::from)?;
    Ok(match precision {
        Precision::Bf16 => measure_bf16_peak(table.bf16()?),
        Precision::Int8 => measure_int8_peak(table.int8()?),
        _ => measure_fma_peak(isa).map_err(stridewise::Error::from)?,
    })
}

impl Contender {
    fn new(model: &Model, options: &SessionOptions) -> Result<Contender, Failure> {
        let session = model.session(options)?;
        let inputs = session.input_shapes().into_iter().map(pattern).collect::<Result<_, _>>()?;
        let outputs = session.output_shapes().into_iter().map(Tensor::zeros).collect::<Result<_, _>>()?;
        let macs = session.steps().iter().map(|s| s.macs).sum();
        Ok(Contender { batch: images_of(&session), session, inputs, outputs, macs, seconds: Vec::new() })
    }

    /// The seconds that one run takes.
    fn run(&mut self) -> Result<f64, Failure> {
        let inputs: Vec<TensorView<'_, f32>> = self.inputs.iter().map(Tensor::view).collect();
        let mut outputs: Vec<TensorViewMut<'_, f32>> = self.outputs.iter_mut().map(Tensor::view_mut).collect();
        let start = Instant::now();
        self.session.run_all_into(&inputs, &mut outputs)?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn result(&mut self, peak: f64) -> Measured {
        self.seconds.sort_by(f64::total_cmp);
        let at = |q| quantile(&self.seconds, q);
        let (median, threads) = (at(0.5), self.session.threads());
        let (flops, peak) = (2.0 * self.macs as f64 / median, peak * threads as f64);
        Measured {
            isa: self.session.isa().name(),
            numerics: self.session.numerics().name(),
            precision: self.session.precision().name(),
            threads,
            batch: self.batch,
            runs: self.seconds.len(),
            min_seconds: at(0.0),
            median_seconds: median,
            p95_seconds: at(0.95),
            p99_seconds: at(0.99),
            max_seconds: at(1.0),
            images_per_second: self.batch as f64 / median,
            macs: self.macs,
            gflops: flops / 1e9,
            peak_gflops: peak / 1e9,
            percent_of_peak: 100.0 * flops / peak,
            activation_bytes: self.session.memory_required(),
            weight_bytes: self.session.weight_bytes(),
        }
    }
}

impl Report {
    fn text(&self) -> String {
        let size = self.size.map_or_else(String::new, |[h, w]| format!(", {h}x{w}"));
        let mut text = format!("{}{size}\n\n", self.model);
        let headers = [
            "isa",
            "numerics",
            "precision",
            ">threads",
            ">batch",
            ">runs",
            ">min ms",
            ">median",
            ">p95",
            ">p99",
            ">max",
            ">images/s",
            ">GFLOP/s",
            ">of peak",
        ];
        let mut table = table(&headers);
        for r in &self.results {
            let ms = |seconds: f64| format!("{:.2}", seconds * 1e3);
            table.add_row([
                r.isa.to_string(),
                r.numerics.to_string(),
                r.precision.to_string(),
                r.threads.to_string(),
                r.batch.to_string(),
                r.runs.to_string(),
                ms(r.min_seconds),
                ms(r.median_seconds),
                ms(r.p95_seconds),
                ms(r.p99_seconds),
                ms(r.max_seconds),
                format!("{:.1}", r.images_per_second),
                format!("{:.1}", r.gflops),
                format!("{:.1} %", r.percent_of_peak),
            ]);
        }
        text += &lines(&table);
        let mut peaks: Vec<String> = Vec::new();
        for r in &self.results {
            let peak = format!("{} {} {:.1} Gop/s", r.isa, r.precision, r.peak_gflops / r.threads as f64);
            if !peaks.contains(&peak) {
                peaks.push(peak);
            }
        }
        text += &format!("\nmeasured peak of one core: {}\n", peaks.join(", "));
        if let Some(r) = self.results.first() {
            text += &format!(
                "{:.2} GMAC a run; {:.1} MB of activations, {:.1} MB of packed weights ({}, {})\n",
                r.macs as f64 / 1e9,
                r.activation_bytes as f64 / 1e6,
                r.weight_bytes as f64 / 1e6,
                count(r.threads, "thread"),
                r.isa
            );
        }
        text
    }
}
