//! The memory's bandwidth, measured: the sloped line of a roofline.

use crate::output::Failure;
use serde::Serialize;
use std::hint::black_box;
use std::time::Instant;
use stridewise::Error;

/// What was measured, and how.
#[derive(Serialize)]
pub struct Bandwidth {
    pub bytes_per_second: f64,
    pub threads: usize,
    pub buffer_bytes: usize,
    pub passes: usize,
}

/// Passes over the buffer; the fastest counts.
const PASSES: usize = 5;

/// Bytes a second that so many threads read together, each its own part of one buffer.
pub fn measure_read_bandwidth(threads: usize) -> Result<Bandwidth, Failure> {
    // More than the last cache of a core, or those of all of them together, can hold.
    let bytes = threads.saturating_mul(64 << 20).clamp(256 << 20, 2 << 30);
    let len = bytes / size_of::<u64>();
    let mut buffer: Vec<u64> = Vec::new();
    buffer.try_reserve_exact(len).map_err(|e| Error::TooLarge {
        what: "the buffer that memory bandwidth is measured with".into(),
        requested: format!("{bytes} bytes"),
        limit: format!("what the system gives ({e})"),
    })?;
    // Not zeros: pages that were never written all are the one page of zeros, which is in the cache.
    buffer.resize(len, 1);
    let mut best = f64::INFINITY;
    for _ in 0..PASSES {
        let start = Instant::now();
        read(&buffer, threads)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(Bandwidth { bytes_per_second: bytes as f64 / best, threads, buffer_bytes: bytes, passes: PASSES })
}

fn read(buffer: &[u64], threads: usize) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let mut parts = buffer.chunks(buffer.len().div_ceil(threads.max(1)).max(1));
        let own = parts.next();
        for part in parts {
            let spawned = std::thread::Builder::new().spawn_scoped(scope, move || black_box(sum(part)));
            spawned.map_err(|e| Error::InvalidArgument { argument: format!("threads = {threads}"), reason: e.to_string() })?;
        }
        black_box(own.map(sum));
        Ok(())
    })
}

/// Words of a page, and of a cache line.
const PAGE: usize = 4096 / size_of::<u64>();
const LINE: usize = 64 / size_of::<u64>();

/// Pages that are read side by side. From one alone a core gets less: its prefetchers work within a page each.
const PAGES: usize = 8;

/// Simple enough for the compiler to read with vectors.
fn sum(values: &[u64]) -> u64 {
    let mut sums = [0u64; LINE];
    let mut add = |words: &[u64]| sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    let pages = values.chunks_exact(PAGES * PAGE);
    pages.remainder().chunks(LINE).for_each(&mut add);
    for pages in pages {
        for line in (0..PAGE).step_by(LINE) {
            for page in 0..PAGES {
                let at = page * PAGE + line;
                add(&pages[at..at + LINE]);
            }
        }
    }
    sums.iter().fold(0, |sum, part| sum.wrapping_add(*part))
}
