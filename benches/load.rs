//! From a file to a session that is ready, in processes of their own: with the file in the system's page cache and, where `dd` can ask
//! the system to forget it (Linux, no root needed), without. Also the first run, and the most memory that the process ever held.
//!
//!     cargo bench --bench load -- --models resnet50,vgg16 --threads 2
//!
//! Criterion reports the time to the ready session; the table has the rest. Weights are random and lie in target/load/.

mod figures;

use criterion::{BenchmarkId, Criterion, SamplingMode};
use figures::{Table, Times, folder, names, number, only_a_test, quantile};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use stridewise::formats::safetensors::{Precision, save};
use stridewise::models::WeightSource;
use stridewise::models::init::Initializer;
use stridewise::{Arch, Model, SessionOptions, Tensor, Threads};

/// The word by which a process is told to be one of the measured ones.
const CHILD: &str = "--load-and-report";

fn main() {
    if let Some(file) = figures::option(CHILD) {
        report(Path::new(&file), number("--threads", 1));
        return;
    }
    let default = if only_a_test() { &["resnet20-cifar10"][..] } else { &["resnet18", "resnet50", "mobilenet_v2", "vgg16"] };
    let models = names("--models", default);
    let threads = number("--threads", std::thread::available_parallelism().map_or(1, |n| n.get()));
    let mut table = Table::new(2, ["network", "page cache", "file MB", "load ms p50", "load ms max", "first run ms p50", "peak memory MB"]);
    let mut criterion = Criterion::default();
    if only_a_test() {
        criterion = criterion.sample_size(10).warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(1));
    }
    for name in &models {
        let file = written(name.parse().unwrap());
        let bytes = std::fs::metadata(&file).unwrap().len();
        let mut group = criterion.benchmark_group("load");
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
        for cold in [false, true] {
            if cold && !forget(&file) {
                println!("{name}: not measured with a cold cache: dd cannot make the system forget the file here");
                continue;
            }
            let (loads, firsts, peaks) = (RefCell::new(Vec::new()), RefCell::new(Vec::new()), RefCell::new(Vec::new()));
            let times = Times::default();
            let id = BenchmarkId::new(name, if cold { "cold" } else { "warm" });
            group.bench_function(id, |b| {
                b.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    for _ in 0..iterations {
                        if cold {
                            forget(&file);
                        }
                        let [load, first, peak] = child(&file, threads);
                        loads.borrow_mut().push(load);
                        firsts.borrow_mut().push(first);
                        peaks.borrow_mut().push(peak);
                        total += Duration::from_secs_f64(load);
                    }
                    times.record(total, iterations);
                    total
                });
            });
            let sorted = |values: RefCell<Vec<f64>>| {
                let mut values = values.into_inner();
                values.sort_by(f64::total_cmp);
                values
            };
            let (loads, firsts, peaks) = (sorted(loads), sorted(firsts), sorted(peaks));
            if !loads.is_empty() {
                table.add([
                    name.clone(),
                    if cold { "cold" } else { "warm" }.to_string(),
                    format!("{:.1}", bytes as f64 / 1e6),
                    format!("{:.1}", quantile(&loads, 0.5) * 1e3),
                    format!("{:.1}", quantile(&loads, 1.0) * 1e3),
                    format!("{:.1}", quantile(&firsts, 0.5) * 1e3),
                    format!("{:.1}", quantile(&peaks, 1.0) / 1e6),
                ]);
            }
        }
        group.finish();
    }
    table.print(&format!("{threads} threads, batch 1; peak memory: resident, of the whole process, mapped file included"));
}

/// A weights file of the network, in target/load/.
fn written(arch: Arch) -> PathBuf {
    let path = folder("load").join(format!("{arch}.safetensors"));
    if !path.exists() {
        let mut source = Initializer::new(0);
        let parameters = arch.module(arch.default_classes()).unwrap().parameters().unwrap();
        let tensors: Vec<_> = parameters.iter().map(|p| (p.name.clone(), source.tensor(p).unwrap())).collect();
        save(&path, &tensors, Precision::F32, HashMap::new()).unwrap();
    }
    path
}

/// Makes the system drop the file's pages from its cache; false where that cannot be done.
fn forget(file: &Path) -> bool {
    // GNU dd: `nocache` with nothing to copy advises the system that the whole file will not be needed.
    let dropped =
        Command::new("dd").arg(format!("of={}", file.display())).args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0"]).output();
    dropped.is_ok_and(|output| output.status.success())
}

/// Seconds to the ready session, seconds of the first run, and bytes of a process of its own.
fn child(file: &Path, threads: usize) -> [f64; 3] {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).arg(CHILD).arg(file).args(["--threads", &threads.to_string()]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

/// What such a process does and prints.
fn report(file: &Path, threads: usize) {
    let start = Instant::now();
    let model = Model::from_safetensors(None, file).unwrap();
    let mut session = model.session(&SessionOptions { threads: Threads::Count(threads), ..Default::default() }).unwrap();
    let load = start.elapsed().as_secs_f64();
    let x = figures::input(session.input_shape());
    let mut y = Tensor::zeros(session.output_shape()).unwrap();
    let start = Instant::now();
    session.run_into(x.view(), &mut y).unwrap();
    println!("{load} {} {}", start.elapsed().as_secs_f64(), peak_memory().unwrap_or(f64::NAN));
}

/// The most bytes that this process ever held in memory, as Linux counts them.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
}
