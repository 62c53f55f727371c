//! From a file on the disk to the first answer: a safetensors file, which is packed when a session is made, beside a packed network,
//! which is mapped. Each way is timed in processes of its own. Behind it is the resident memory that loading and the first session took,
//! and what a second session of the same model added.
//!
//!     cargo run --release --example startup -- --arch resnet50 --threads 1 --rounds 5
//!
//! `--model FILE` takes a file instead of random weights. Files are in the page cache, as they are in a second start.

use clap::Parser;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use stridewise::formats::packed::Checksums;
use stridewise::formats::safetensors::{Precision, save};
use stridewise::models::WeightSource;
use stridewise::models::init::Initializer;
use stridewise::{Arch, Model, SessionOptions, Tensor};

/// From a file on the disk to the first answer, of a safetensors file and of a packed network.
#[derive(Parser)]
struct Arguments {
    /// A network with random weights
    #[arg(long, value_name = "NAME", default_value = "resnet50")]
    arch: Arch,

    /// A safetensors file instead
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// Threads of a session
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,

    /// Processes that each way is timed in
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,

    /// Times this file, and prints bare figures
    #[arg(long, hide = true)]
    child: Option<PathBuf>,

    /// Of the file that is timed, checks the header's checksum alone
    #[arg(long, hide = true)]
    header_only: bool,
}

/// Resident memory of this process in MB, as Linux counts it.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.map_or(f64::NAN, |kilobytes| kilobytes * 1024.0 / 1e6)
}

/// Milliseconds of: loading, making a session, the first run, and the median of runs after it; MB of the first session, and of a second.
fn start(path: &Path, header_only: bool, threads: usize) -> stridewise::Result<[f64; 6]> {
    let empty = resident();
    let ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
    let begin = Instant::now();
    let model = if header_only { Model::from_packed(path, Checksums::Header)? } else { Model::load(None, path)? };
    let load = ms(begin);
    let begin = Instant::now();
    let options = SessionOptions { threads: threads.into(), ..Default::default() };
    let mut session = model.session(&options)?;
    let made = ms(begin);
    let image = Tensor::zeros(session.input_shape())?;
    let mut logits = Tensor::zeros(session.output_shape())?;
    let begin = Instant::now();
    session.run_into(image.view(), &mut logits)?;
    let first = ms(begin);
    let mut runs = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        session.run_into(image.view(), &mut logits)?;
        runs.push(ms(begin));
    }
    runs.sort_by(f64::total_cmp);
    let one = resident();
    let mut second = model.session(&options)?;
    second.run_into(image.view(), &mut logits)?;
    Ok([load, made, first, runs[runs.len() / 2], one - empty, resident() - one])
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Arguments { arch, model, threads, rounds, child, header_only } = Arguments::parse();
    if let Some(path) = child {
        let times = start(&path, header_only, threads)?;
        println!("{}", times.map(|t| t.to_string()).join(" "));
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let source = match model {
        Some(path) => path,
        None => {
            let path = folder.path().join("random.safetensors");
            let mut random = Initializer::new(0);
            let parameters = arch.module(arch.default_classes())?.parameters()?;
            let tensors = parameters.iter().map(|p| Ok((p.name.clone(), random.tensor(p)?))).collect::<stridewise::Result<Vec<_>>>()?;
            save(&path, &tensors, Precision::F32, Default::default())?;
            path
        }
    };
    let packed = folder.path().join("packed.swp");
    let model = Model::load(None, &source)?;
    model.session(&SessionOptions::default())?;
    model.save_packed(&packed)?;
    drop(model);
    println!("| file | load ms | session ms | both | first run | median run | first / median | first session MB | second MB |");
    println!("| --- | --: | --: | --: | --: | --: | --: | --: | --: |");
    let header_only = Some("--header-only");
    for (name, path, option) in
        [("safetensors", &source, None), ("packed", &packed, None), ("packed, checksum of the header only", &packed, header_only)]
    {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let child = Command::new(std::env::current_exe()?)
                .args([OsStr::new("--child"), path.as_os_str(), OsStr::new("--threads"), OsStr::new(&threads.to_string())])
                .args(option)
                .output()?;
            if !child.status.success() {
                return Err(String::from_utf8_lossy(&child.stderr).into_owned().into());
            }
            let text = String::from_utf8(child.stdout)?;
            times.push(text.split_whitespace().map(str::parse::<f64>).collect::<Result<Vec<_>, _>>()?);
        }
        // The round whose loading was the median.
        times.sort_by(|a, b| (a[0] + a[1]).total_cmp(&(b[0] + b[1])));
        let [load, made, first, median, one, two] = times[times.len() / 2][..] else { return Err("a child said something else".into()) };
        println!(
            "| {name} | {load:.1} | {made:.1} | {:.1} | {first:.2} | {median:.2} | {:.2} | {one:.1} | {two:.1} |",
            load + made,
            first / median
        );
    }
    Ok(())
}
