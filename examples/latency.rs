//! A loop of 30 frames a second, as of a camera: how long a frame takes from its arrival to its logits, how many allocations it costs,
//! and how much processor time the session's threads use between frames.
//!
//!     cargo run --release --example latency -- --models resnet18,resnet50 --threads 1,2 --frames 3000 --hz 30 --busy 0
//!
//! `--busy N` starts N processes that compute all the time beside it. `tools/latency_peers.py` prints the same table for other engines.

#[path = "latency/counting.rs"]
mod counting;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use stridewise::{Arch, Model, SessionOptions, Tensor};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

struct Arguments {
    models: Vec<String>,
    threads: Vec<usize>,
    frames: usize,
    period: Duration,
    busy: usize,
}

fn arguments() -> Result<Arguments, String> {
    let mut found = Arguments {
        models: vec!["resnet18".into(), "resnet50".into()],
        threads: vec![1, 2],
        frames: 3000,
        period: Duration::ZERO,
        busy: 0,
    };
    let mut hz = 30.0;
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| format!("{name}: a value is missing"))?;
        let wrong = |e: &dyn std::fmt::Display| format!("{name} {value}: {e}");
        match name.as_str() {
            "--models" => found.models = value.split(',').map(String::from).collect(),
            "--threads" => found.threads = value.split(',').map(|n| n.parse().map_err(|e| wrong(&e))).collect::<Result<_, _>>()?,
            "--frames" => found.frames = value.parse().map_err(|e| wrong(&e))?,
            "--hz" => hz = value.parse().map_err(|e| wrong(&e))?,
            "--busy" => found.busy = value.parse().map_err(|e| wrong(&e))?,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    found.period = Duration::try_from_secs_f64(1.0 / hz).map_err(|e| format!("--hz {hz}: {e}"))?;
    if found.frames == 0 {
        return Err("--frames 0: expected at least 1".into());
    }
    Ok(found)
}

/// Processes that compute until they are dropped.
struct Neighbours(Vec<Child>);

impl Neighbours {
    fn start(count: usize) -> std::io::Result<Neighbours> {
        let mut neighbours = Neighbours(Vec::new());
        for _ in 0..count {
            let child = Command::new(std::env::current_exe()?).env("STRIDEWISE_SPIN", "1").stdout(Stdio::null()).spawn()?;
            neighbours.0.push(child);
        }
        Ok(neighbours)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a neighbour does: sums of a memory larger than its level-2 cache, until its parent is gone.
fn spin() {
    let parent = parent();
    let mut memory = vec![1.0f32; 4 << 20];
    while parent == self::parent() {
        for value in &mut memory {
            *value = *value * 1.0001 + 1e-7;
        }
        std::hint::black_box(&memory);
    }
}

#[cfg(unix)]
fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

#[cfg(not(unix))]
fn parent() -> u32 {
    0
}

/// What the frames of one session were like.
struct Frames {
    /// Milliseconds, in rising order.
    latencies: Vec<f64>,
    allocations: usize,
    /// Milliseconds of processor time of the session's threads between frames; nothing where the system does not tell.
    between: Option<f64>,
}

fn run(model: &Model, threads: usize, frames: usize, period: Duration) -> stridewise::Result<Frames> {
    let mut session = model.session(&SessionOptions { threads: threads.into(), ..Default::default() })?;
    let mut image = Tensor::zeros(session.input_shape())?;
    let mut logits = Tensor::zeros(session.output_shape())?;
    let mut latencies = Vec::with_capacity(frames);
    let (mut allocations, mut between) = (0, Some(0u64));
    let mut due = Instant::now() + period;
    for frame in 0..frames {
        // The threads have a millisecond to come to rest.
        std::thread::sleep(Duration::from_millis(1));
        let before = time_of_others();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        between = between.zip(before.zip(time_of_others())).map(|(sum, (before, after))| sum + after.saturating_sub(before));
        image.as_mut_slice()[frame % 1000] = 0.5;
        let start = Instant::now();
        let (result, count) = counting::count(|| session.run_into(image.view(), &mut logits));
        latencies.push(start.elapsed().as_secs_f64() * 1e3);
        result?;
        allocations += count;
        // A frame that came too late is not made up for.
        due = (due + period).max(Instant::now());
    }
    latencies.sort_by(f64::total_cmp);
    Ok(Frames { latencies, allocations, between: between.map(|nanoseconds| nanoseconds as f64 / 1e6) })
}

/// Nanoseconds that all threads but this one have run for, as Linux counts them.
fn time_of_others() -> Option<u64> {
    let own = std::fs::read_link("/proc/thread-self").ok()?;
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        if Some(thread.file_name().as_os_str()) != own.file_name() {
            let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            sum += text.split_whitespace().next()?.parse::<u64>().ok()?;
        }
    }
    Some(sum)
}

/// The latency that a share of the frames does not exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("STRIDEWISE_SPIN").is_some() {
        spin();
        return Ok(());
    }
    let arguments = arguments()?;
    println!("| engine | network | threads | busy neighbours | p50 ms | p95 | p99 | p99.9 | max | allocations | CPU between frames, ms |");
    println!("| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |");
    for name in &arguments.models {
        let model = Model::random(name.parse::<Arch>()?, 0)?;
        for &threads in &arguments.threads {
            let neighbours = Neighbours::start(arguments.busy)?;
            let frames = run(&model, threads, arguments.frames, arguments.period)?;
            drop(neighbours);
            let [p50, p95, p99, p999] = [0.5, 0.95, 0.99, 0.999].map(|share| quantile(&frames.latencies, share));
            println!(
                "| Stridewise | {name} | {threads} | {} | {p50:.2} | {p95:.2} | {p99:.2} | {p999:.2} | {:.2} | {} | {} |",
                arguments.busy,
                quantile(&frames.latencies, 1.0),
                frames.allocations,
                frames.between.map_or_else(|| "not known".into(), |ms| format!("{ms:.3}")),
            );
        }
    }
    Ok(())
}
