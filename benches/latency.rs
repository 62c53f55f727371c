//! How long one inference takes, over thousands: p50, p95, p99 and the longest, back to back and with idle gaps of 33 ms between
//! runs, as of a camera with 30 images a second; and the processor time that a session uses while it is idle. A mean, which is what
//! criterion is for, says nothing of any of these.
//!
//!     cargo bench --bench latency -- --runs 5000 --models resnet18,resnet50 --threads 1,2 --gap-ms 33 --gap-runs 1000
//!
//! Prints a table; writes every figure to target/latency/latency.json and a plot for each network to target/latency/NAME.svg.

mod figures;
#[path = "latency/plot.rs"]
mod plot;

use figures::{Table, folder, idle_use, input, names, number, numbers, only_a_test, quantile, thread_counts};
use serde_json::json;
use std::time::{Duration, Instant};
use stridewise::{Arch, Model, Session, SessionOptions, Tensor, Threads};

/// The runs of one session in one manner.
struct Series {
    threads: usize,
    /// Idle time before each run.
    gap: Duration,
    /// Seconds, in order.
    seconds: Vec<f64>,
}

impl Series {
    /// The latency that a share `q` of the runs does not exceed.
    fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        quantile(&sorted, q)
    }

    fn label(&self) -> String {
        let threads = format!("{} thread{}", self.threads, if self.threads == 1 { "" } else { "s" });
        if self.gap.is_zero() { threads } else { format!("{threads}, {} ms idle between runs", self.gap.as_millis()) }
    }
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)];

fn main() {
    let test = only_a_test();
    let (runs, gap_runs) = (number("--runs", if test { 5 } else { 3000 }), number("--gap-runs", if test { 2 } else { 1000 }));
    let gap = Duration::from_millis(number("--gap-ms", 33) as u64);
    let models =
        names("--models", if test { &["resnet20-cifar10"] } else { &["resnet18", "resnet50", "mobilenet_v2", "resnet20-cifar10"] });
    let threads = numbers("--threads", thread_counts());
    let idle = Duration::from_secs(if test { 0 } else { 2 });
    let mut table =
        Table::new(1, ["network", "threads", "idle ms between", "runs", "min ms", "p50 ms", "p95 ms", "p99 ms", "max ms", "idle CPU ms/s"]);
    let mut report = Vec::new();
    for name in &models {
        let arch: Arch = name.parse().unwrap();
        let model = Model::random(arch, 0).unwrap();
        let mut all = Vec::new();
        for &threads in &threads {
            let mut session = model.session(&SessionOptions { threads: Threads::Count(threads), ..Default::default() }).unwrap();
            for (gap, runs) in [(Duration::ZERO, runs), (gap, gap_runs)] {
                let series = Series { threads, gap, seconds: time(&mut session, runs, gap) };
                let idle = idle_use(idle);
                let ms = |seconds: f64| format!("{:.3}", seconds * 1e3);
                let quantiles = QUANTILES.map(|(_, q)| ms(series.quantile(q)));
                let shown_idle = idle.map_or_else(|| "not known".into(), |share| format!("{:.2}", share * 1e3));
                let first = [name.clone(), threads.to_string(), gap.as_millis().to_string(), runs.to_string(), ms(series.quantile(0.0))];
                table.add(first.into_iter().chain(quantiles).chain([shown_idle]));
                report.push(json!({
                    "model": name,
                    "threads": threads,
                    "gap_ms": gap.as_millis() as u64,
                    "runs": runs,
                    "quantiles_s": QUANTILES.iter().map(|(label, q)| (label.to_string(), series.quantile(*q))).collect::<std::collections::BTreeMap<_, _>>(),
                    "idle_cpu_s_per_s": idle,
                    "seconds": series.seconds,
                }));
                all.push(series);
            }
        }
        let path = folder("latency").join(format!("{name}.svg"));
        std::fs::write(&path, plot::svg(name, &all)).unwrap();
        println!("{}", path.display());
    }
    let path = folder("latency").join("latency.json");
    let isa = stridewise::Isa::best().unwrap().name();
    std::fs::write(&path, serde_json::to_string_pretty(&json!({ "isa": isa, "series": report })).unwrap()).unwrap();
    println!("{}", path.display());
    table.print(&format!("{isa}; batch 1; idle CPU: processor time of all threads in a second without a run, after the last one"));
}

/// The seconds of each run after one that is not timed.
fn time(session: &mut Session, runs: usize, gap: Duration) -> Vec<f64> {
    let x = input(session.input_shape());
    let mut y = Tensor::zeros(session.output_shape()).unwrap();
    session.run_into(x.view(), &mut y).unwrap();
    let run = |_| {
        if !gap.is_zero() {
            std::thread::sleep(gap);
        }
        let start = Instant::now();
        session.run_into(x.view(), &mut y).unwrap();
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(run).collect()
}
