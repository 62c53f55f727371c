//! One run in Chrome's trace event format.
//!
//! Google, Trace Event Format: complete events (`X`) with start and duration in microseconds.

use super::Report;
use crate::output::Failure;
use serde::Serialize;

#[derive(Serialize)]
struct Trace<'a> {
    #[serde(rename = "traceEvents")]
    events: Vec<Event<'a>>,
    #[serde(rename = "displayTimeUnit")]
    unit: &'static str,
    #[serde(rename = "otherData")]
    about: About<'a>,
}

#[derive(Serialize)]
struct About<'a> {
    program: &'static str,
    version: &'static str,
    model: &'a str,
    isa: &'static str,
    numerics: &'static str,
    threads: usize,
    batch: usize,
    size: Option<[usize; 2]>,
    run_seconds: f64,
    peak_gflops: f64,
}

#[derive(Serialize)]
#[serde(tag = "ph")]
enum Event<'a> {
    /// Names the process or thread.
    #[serde(rename = "M")]
    Metadata { name: &'static str, pid: u32, tid: u32, args: Name<'a> },
    #[serde(rename = "X")]
    Complete { name: &'a str, cat: &'static str, ts: f64, dur: f64, pid: u32, tid: u32, args: Details<'a> },
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Details<'a> {
    op: &'static str,
    problem: &'a str,
    algorithm: &'static str,
    /// In this run, not the median.
    gflops: Option<f64>,
    bytes: u64,
    median_us: f64,
    /// Of the median.
    outside_kernels_us: Option<f64>,
}

/// The run whose time is the median.
pub fn json(report: &Report) -> Result<String, Failure> {
    let named = |what, name| Event::Metadata { name: what, pid: 1, tid: 1, args: Name { name } };
    let mut events = vec![named("process_name", report.model.as_str()), named("thread_name", "run")];
    let mut start = 0.0;
    for part in report.parts() {
        let flops = 2.0 * part.macs as f64 / part.traced_seconds;
        events.push(Event::Complete {
            name: &part.name,
            cat: part.kind(),
            ts: start * 1e6,
            dur: part.traced_seconds * 1e6,
            pid: 1,
            tid: 1,
            args: Details {
                op: part.op,
                problem: &part.problem,
                algorithm: part.algorithm,
                gflops: Some(flops / 1e9).filter(|f| part.macs > 0 && f.is_finite()),
                bytes: part.bytes,
                median_us: part.median_seconds * 1e6,
                outside_kernels_us: part.outside_seconds.map(|seconds| seconds * 1e6),
            },
        });
        start += part.traced_seconds;
    }
    let about = About {
        program: "stridewise",
        version: env!("CARGO_PKG_VERSION"),
        model: &report.model,
        isa: report.isa,
        numerics: report.numerics,
        threads: report.threads,
        batch: report.batch,
        size: report.size,
        run_seconds: report.run.traced_seconds,
        peak_gflops: report.peak_gflops,
    };
    let trace = Trace { events, unit: "ms", about };
    // Nothing in it can fail to be written as JSON but the memory for it.
    serde_json::to_string(&trace).map_err(|e| Failure::Usage(format!("--trace: {e}")))
}
