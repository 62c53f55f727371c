//! The loop of frames, and what they were like.

use crate::counting;
use std::time::{Duration, Instant};

/// What frames were like.
pub struct Frames {
    /// Milliseconds, in their order.
    pub latencies: Vec<f64>,
    pub allocations: usize,
    /// Milliseconds of processor time of all threads but the loop's between frames; nothing where the system does not tell.
    pub between: Option<f64>,
    /// Ticks of all processors that the machine's host gave to others, and all ticks.
    pub stolen: [u64; 2],
}

impl Frames {
    pub fn new(capacity: usize) -> Frames {
        Frames { latencies: Vec::with_capacity(capacity), allocations: 0, between: Some(0.0), stolen: [0; 2] }
    }

    /// Adds frames that arrive once a period.
    pub fn record<E>(&mut self, count: usize, period: Duration, mut frame: impl FnMut(usize) -> Result<(), E>) -> Result<(), E> {
        let stolen = stolen_ticks();
        let mut due = Instant::now() + period;
        for index in 0..count {
            // The threads have a millisecond to come to rest.
            std::thread::sleep(Duration::from_millis(1));
            let before = time_of_others();
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let spent = before.zip(time_of_others()).map(|(before, after)| after.saturating_sub(before) as f64 / 1e6);
            self.between = self.between.zip(spent).map(|(sum, spent)| sum + spent);
            let start = Instant::now();
            let (result, allocations) = counting::count(|| frame(index));
            self.latencies.push(start.elapsed().as_secs_f64() * 1e3);
            self.allocations += allocations;
            result?;
            // A frame that came too late is not made up for.
            due = (due + period).max(Instant::now());
        }
        for (sum, (after, before)) in self.stolen.iter_mut().zip(stolen_ticks().into_iter().zip(stolen)) {
            *sum += after.saturating_sub(before);
        }
        Ok(())
    }

    /// The latencies that shares of the frames do not exceed.
    pub fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [f64; N] {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        shares.map(|share| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
        })
    }
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

/// Ticks of all processors since the machine started, as Linux counts them: those that its host gave to others, and all.
fn stolen_ticks() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = text.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap_or(0));
    let ticks: Vec<u64> = ticks.collect();
    [ticks.get(7).copied().unwrap_or(0), ticks.iter().sum()]
}
