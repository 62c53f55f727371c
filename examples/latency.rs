//! A loop of 30 frames a second, as of a camera: how long a frame takes from its arrival to its logits, how many allocations it costs,
//! and how much processor time the session's threads use between frames.
//!
//!     cargo run --release --example latency -- --models resnet18,resnet50 --threads 1,2 --frames 3000 --hz 30 --busy 0
//!
//! Below each session is a fixed piece of arithmetic of the same length on as many threads, in turns with it, a frame for eight of its own:
//! no session can be steadier than that, and the last column says what part of its processors' time the machine's host gave to others.
//! `--busy N` starts N processes that compute all the time beside it. `tools/latency.py` puts other engines into the same run.

#[path = "latency/arithmetic.rs"]
mod arithmetic;
#[path = "latency/counting.rs"]
mod counting;
#[path = "latency/frames.rs"]
mod frames;
#[path = "latency/neighbours.rs"]
mod neighbours;

use arithmetic::Arithmetic;
use clap::Parser;
use frames::Frames;
use neighbours::Neighbours;
use std::io::BufRead;
use std::time::Duration;
use stridewise::{Arch, Model, Session, SessionOptions, Tensor};

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting;

/// Frames of a session before the arithmetic has its turn.
const TURN: usize = 500;

/// Frames at the beginning of a turn that are not counted: what had its turn before has filled the caches.
const WARM: usize = 5;

/// How long frames of a camera take, and how steadily: one table for all networks and numbers of threads.
#[derive(Parser)]
struct Arguments {
    /// Networks, with random weights
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_values = ["resnet18", "resnet50"])]
    models: Vec<Arch>,

    /// Numbers of threads
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 2])]
    threads: Vec<usize>,

    /// Frames of each session
    #[arg(long, value_name = "N", default_value_t = 3000, value_parser = clap::value_parser!(u32).range(1..))]
    frames: u32,

    /// Frames a second
    #[arg(long, value_name = "HZ", default_value = "30", value_parser = period)]
    hz: Duration,

    /// Processes that compute all the time beside it
    #[arg(long, value_name = "N", default_value_t = 0)]
    busy: usize,

    /// Frames are asked for on the standard input, and told on the standard output: for `tools/latency.py`
    #[arg(long)]
    worker: bool,
}

/// From a frame to the next, of so many a second.
fn period(hz: &str) -> Result<Duration, String> {
    let hz: f64 = hz.parse().map_err(|e| format!("{e}"))?;
    Duration::try_from_secs_f64(1.0 / hz).map_err(|e| format!("1/{hz} s: {e}"))
}

/// A session with its buffers, and arithmetic that takes as long as it.
struct Camera {
    session: Session,
    image: Tensor<f32>,
    logits: Tensor<f32>,
    arithmetic: Arithmetic,
    /// Of the session, and of the arithmetic.
    frames: [Frames; 2],
}

impl Camera {
    fn new(model: &Model, threads: usize, frames: usize) -> stridewise::Result<Camera> {
        let mut session = model.session(&SessionOptions { threads: threads.into(), ..Default::default() })?;
        let image = Tensor::zeros(session.input_shape())?;
        let mut logits = Tensor::zeros(session.output_shape())?;
        let mut trial = Frames::new(20);
        trial.record(20, Duration::ZERO, |_| session.run_into(image.view(), &mut logits))?;
        let [median] = trial.quantiles([0.5]);
        let arithmetic = Arithmetic::new(Duration::from_secs_f64(median / 1e3), threads)?;
        Ok(Camera { session, image, logits, arithmetic, frames: [Frames::new(frames), Frames::new(frames)] })
    }

    /// Frames of the session, then an eighth as many of the arithmetic.
    fn turn(&mut self, frames: usize, period: Duration) -> stridewise::Result<()> {
        let Camera { session, image, logits, arithmetic, frames: [own, fixed] } = self;
        let mut run = |frame: usize| {
            image.as_mut_slice()[frame % 1000] = 0.5;
            session.run_into(image.view(), logits)
        };
        Frames::new(WARM).record(WARM, period, &mut run)?;
        own.record(frames, period, &mut run)?;
        fixed.record(frames.div_ceil(8), period, |_| {
            arithmetic.run();
            Ok(())
        })
    }
}

fn row(engine: &str, name: &str, threads: usize, busy: usize, frames: &Frames) -> String {
    let [p50, p95, p99, p999, max] = frames.quantiles([0.5, 0.95, 0.99, 0.999, 1.0]);
    let between = frames.between.map_or_else(|| "not known".into(), |ms| format!("{ms:.3}"));
    let stolen = frames.stolen[0] as f64 * 100.0 / frames.stolen[1].max(1) as f64;
    format!(
        "| {engine} | {name} | {threads} | {busy} | {p50:.2} | {p95:.2} | {p99:.2} | {p999:.2} | {max:.2} | {:.2} | {} | {between} | {stolen:.1} |",
        p99 / p50,
        frames.allocations
    )
}

/// Does as many frames as each line of the standard input says, and answers with what they were like.
fn work(camera: &mut Camera, period: Duration) -> Result<(), Box<dyn std::error::Error>> {
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let count: usize = line?.trim().parse()?;
        camera.frames = [Frames::new(count), Frames::new(count)];
        camera.turn(count, period)?;
        let told = camera.frames.each_ref().map(|frames| {
            serde_json::json!({
                "latencies": frames.latencies,
                "allocations": frames.allocations,
                "between": frames.between,
                "stolen": frames.stolen,
            })
        });
        println!("{}", serde_json::json!({ "Stridewise": told[0], "fixed arithmetic": told[1] }));
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    neighbours::spin_if_asked();
    let arguments = Arguments::parse();
    let frames = arguments.frames as usize;
    if !arguments.worker {
        println!(
            "| engine | network | threads | busy neighbours | p50 ms | p95 | p99 | p99.9 | max | p99 / p50 | allocations | CPU between frames, ms | stolen, % |"
        );
        println!("| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |");
    }
    for arch in arguments.models {
        let model = Model::random(arch, 0)?;
        for &threads in &arguments.threads {
            let mut camera = Camera::new(&model, threads, frames)?;
            if arguments.worker {
                work(&mut camera, arguments.hz)?;
                continue;
            }
            let neighbours = Neighbours::start(arguments.busy)?;
            for start in (0..frames).step_by(TURN) {
                camera.turn(TURN.min(frames - start), arguments.hz)?;
            }
            drop(neighbours);
            for (engine, frames) in ["Stridewise", "fixed arithmetic"].iter().zip(&camera.frames) {
                println!("{}", row(engine, &arch.to_string(), threads, arguments.busy, frames));
            }
        }
    }
    Ok(())
}
