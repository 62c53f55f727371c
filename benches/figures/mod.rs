//! What the benches measure with and print beside criterion's own lines.
// Each bench is a crate of its own and uses its part.
#![allow(dead_code)]

use std::cell::RefCell;
use std::time::{Duration, Instant};
use stridewise::graph::Op;
use stridewise::models::{Parameter, WeightSource};
use stridewise::{Arch, Shape, Tensor};
use stridewise_kernels::ConvProblem;

/// The times of one benchmark. Criterion keeps its own to itself, so the loop that it times is timed here.
#[derive(Default)]
pub struct Times(RefCell<Vec<f64>>);

impl Times {
    /// For `Bencher::iter_custom`: runs `iterations` times and remembers the mean.
    pub fn measure(&self, iterations: u64, mut run: impl FnMut()) -> Duration {
        let start = Instant::now();
        for _ in 0..iterations {
            run();
        }
        let elapsed = start.elapsed();
        self.record(elapsed, iterations);
        elapsed
    }

    /// Remembers the mean of so many iterations.
    pub fn record(&self, elapsed: Duration, iterations: u64) {
        self.0.borrow_mut().push(elapsed.as_secs_f64() / iterations.max(1) as f64);
    }

    /// The median of the means in seconds; nothing when a filter left the benchmark out.
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.borrow().clone();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then(|| quantile(&sorted, 0.5))
    }
}

/// The smallest of the sorted values that at least a share `q` of them does not exceed.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Lines of cells, the columns as wide as their widest cell: text to the left, numbers to the right.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of text at the left.
    text: usize,
}

impl Table {
    pub fn new<const N: usize>(text: usize, header: [&str; N]) -> Table {
        Table { rows: vec![header.map(String::from).to_vec()], text }
    }

    pub fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }

    /// Prints the table unless it has no row.
    pub fn print(&self, title: &str) {
        if self.rows.len() < 2 {
            return;
        }
        let width = |column: usize| self.rows.iter().filter_map(|r| r.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        println!("\n{title}\n");
        for row in &self.rows {
            let cells = row.iter().enumerate().map(|(column, cell)| {
                let width = width(column);
                if column < self.text { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        println!();
    }
}

/// True where a benchmark is only to show that it works: under `cargo test --benches`, which does not say `--bench`, and with `--test`.
pub fn only_a_test() -> bool {
    !std::env::args().any(|a| a == "--bench") || std::env::args().any(|a| a == "--test")
}

/// What follows an option of the command line, `--runs 2000`.
pub fn option(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|a| a != name);
    arguments.next().and_then(|_| arguments.next())
}

/// A number that follows an option, or else the default.
pub fn number(name: &str, default: usize) -> usize {
    option(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} {text}: expected a number")))
}

/// Numbers that follow an option, joined by commas, or else the defaults.
pub fn numbers(name: &str, default: Vec<usize>) -> Vec<usize> {
    let number = |n: &str, text: &str| n.parse().unwrap_or_else(|_| panic!("{name} {text}: expected numbers"));
    option(name).map_or(default, |text| text.split(',').map(|n| number(n, &text)).collect())
}

/// Names that follow an option, joined by commas, or else the defaults.
pub fn names(name: &str, default: &[&str]) -> Vec<String> {
    option(name).map_or_else(|| default.iter().map(|s| s.to_string()).collect(), |text| text.split(',').map(String::from).collect())
}

/// Values between -1 and 1.
pub fn input(shape: Shape) -> Tensor<f32> {
    let mut tensor = Tensor::zeros(shape).unwrap();
    tensor.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 251) as f32 / 125.0 - 1.0);
    tensor
}

/// 1, and as many threads as the process may use.
pub fn thread_counts() -> Vec<usize> {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    if cores > 1 { vec![1, cores] } else { vec![1] }
}

/// The instruction sets to measure: plain code is slow, and measured only where there is nothing else.
pub fn isas() -> Vec<stridewise::Isa> {
    let all = stridewise::Isa::available();
    all.iter().copied().filter(|&isa| isa != stridewise::Isa::Portable || all.len() == 1).collect()
}

/// `target/NAME`, made where it is not there.
pub fn folder(name: &str) -> std::path::PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), Into::into);
    let folder = target.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Seconds of processor time a second that the process uses while nothing runs, a moment after the last run; nothing where the
/// system does not tell.
pub fn idle_use(time: Duration) -> Option<f64> {
    // A session's threads may spin for some microseconds after a run.
    std::thread::sleep(Duration::from_millis(5));
    let (before, start) = (processor_time()?, Instant::now());
    std::thread::sleep(time);
    let used = processor_time()?.saturating_sub(before);
    (!time.is_zero()).then(|| used as f64 / 1e9 / start.elapsed().as_secs_f64())
}

/// Nanoseconds that all threads of this process have run for, as Linux counts them.
fn processor_time() -> Option<u64> {
    let first = |text: String| text.split_whitespace().next()?.parse::<u64>().ok();
    Some(of_threads("schedstat")?.into_iter().filter_map(first).sum())
}

/// How often threads of this process gave their processor away because they had to wait, and how often it was taken from them or
/// offered to others, as Linux counts them.
pub fn switches() -> Option<[u64; 2]> {
    let texts = of_threads("status")?;
    let sum = |name: &str| {
        let value = |text: &String| text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse::<u64>().ok();
        texts.iter().filter_map(value).sum()
    };
    Some([sum("voluntary_ctxt_switches:"), sum("nonvoluntary_ctxt_switches:")])
}

/// A file of each thread in Linux's /proc.
fn of_threads(file: &str) -> Option<Vec<String>> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    Some(threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join(file)).ok()).collect())
}

struct Zeros;

impl WeightSource for Zeros {
    fn tensor(&mut self, parameter: &Parameter) -> stridewise::Result<Tensor<f32>> {
        Tensor::zeros(parameter.shape)
    }
}

/// The convolutions of a network for its own image size, in order; its linear layers as what they are computed as.
pub fn convolutions(arch: Arch, batch: usize) -> Vec<ConvProblem> {
    let graph = arch.graph(arch.default_classes(), &mut Zeros).unwrap();
    let shapes = graph.infer_shapes(batch, graph.input().size).unwrap();
    let problem = |node: &stridewise::graph::Node| {
        let x = shapes[node.inputs[0].index()];
        match (&node.op, x.dims()) {
            (Op::Conv { weight, attributes: a, .. }, &[n, c, h, w]) => {
                let &[oc, _, kh, kw] = weight.dims() else { return None };
                let (stride, pads, dilation, groups) = (a.stride, a.pads, a.dilation, a.groups);
                Some(ConvProblem { n, c, h, w, oc, kernel: [kh, kw], stride, pads, dilation, groups })
            }
            (Op::Gemm { weight, .. }, &[n, c]) => Some(format!("n{n}c{c}h1w1o{}k1", weight.dims()[0]).parse().unwrap()),
            _ => None,
        }
    };
    graph.nodes().iter().filter_map(problem).collect()
}
