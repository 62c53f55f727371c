//! Wall times of steps, a reading of the clock behind each, and the time that threads spend in kernels, two more readings for each
//! part of a step; into memory that is there before the first run.

use super::{Session, StepInfo};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use stridewise_kernels::Executor;

/// The times of one step, in seconds, one for each run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepTimes {
    /// What the plan decided for the step.
    pub step: StepInfo,
    /// One for each run.
    pub seconds: Vec<f64>,
    /// Of those, what the threads spent in kernels: the mean over all threads, one for each run. The rest went by outside: handing out
    /// work, waking threads, waiting for the slowest.
    pub kernel_seconds: Vec<f64>,
}

/// What [`Session::profile`] measured. The parts of a run add up to its total.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// From the user's NCHW input to the plan's buffer, one for each run.
    pub input_seconds: Vec<f64>,
    /// Each step.
    pub steps: Vec<StepTimes>,
    /// From the plan's buffer to the user's output, one for each run.
    pub output_seconds: Vec<f64>,
    /// Whole runs.
    pub run_seconds: Vec<f64>,
    /// Of those, what the threads spent in kernels, conversions included: the mean over all threads.
    pub kernel_seconds: Vec<f64>,
}

/// Most runs of a profile.
const MAX_RUNS: usize = 1 << 20;

/// Most times that a profile measures, two for each step of each run.
const MAX_TIMES: usize = 1 << 25;

impl Session {
    /// Runs the network `runs` times after one run that is not timed, and says how long each step took.
    ///
    /// # Errors
    /// As [`Session::run`], and when `runs` is 0, over 1,048,576, or more than 33,554,432 times would be measured: two for each step of
    /// each run, and four for each run.
    pub fn profile(&mut self, input: &Tensor<f32>, runs: usize) -> Result<Profile> {
        let most = MAX_RUNS.min(MAX_TIMES / (2 * self.plan.steps.len() + 4));
        if !(1..=most).contains(&runs) {
            let reason = format!("expected 1 to {most} runs of a network of {} steps", self.plan.steps.len());
            return Err(Error::InvalidArgument { argument: format!("runs = {runs}"), reason });
        }
        let mut output = self.run(input)?;
        let none = || Vec::with_capacity(runs);
        let steps = self.steps().into_iter().map(|step| StepTimes { step, seconds: none(), kernel_seconds: none() }).collect();
        let mut profile = Profile { input_seconds: none(), steps, output_seconds: none(), run_seconds: none(), kernel_seconds: none() };
        let mut readings = Vec::with_capacity(profile.steps.len() + 1);
        let watch = Watch { threads: Executor::threads(&self.pool), nanoseconds: AtomicU64::new(0) };
        let pool = self.pool.clone();
        let watched = Watched { inner: &pool, watch: &watch };
        for _ in 0..runs {
            readings.clear();
            let start = Instant::now();
            self.execute_on(&watched, &[input.view()], &mut [output.view_mut()], &mut |_| {
                readings.push((Instant::now(), watch.take()));
                Ok(())
            })?;
            let end = Instant::now();
            let mut last = start;
            let mut since = |now: Instant| (now - std::mem::replace(&mut last, now)).as_secs_f64();
            let in_kernels = readings.iter().fold(watch.take(), |sum, (_, part)| sum + part);
            profile.kernel_seconds.push(in_kernels.min((end - start).as_secs_f64()));
            let mut readings = readings.iter().copied();
            profile.input_seconds.extend(readings.next().map(|(now, _)| since(now)));
            for (step, (now, in_kernels)) in profile.steps.iter_mut().zip(readings) {
                let seconds = since(now);
                step.seconds.push(seconds);
                step.kernel_seconds.push(in_kernels.min(seconds));
            }
            profile.output_seconds.push(since(end));
            profile.run_seconds.push((end - start).as_secs_f64());
        }
        Ok(profile)
    }
}

/// The time that threads spend in parts of kernels.
struct Watch {
    threads: usize,
    /// Of all threads together, since it was last taken.
    nanoseconds: AtomicU64,
}

impl Watch {
    /// Mean seconds of a thread since this was last called, by the thread that no part runs beside.
    fn take(&self) -> f64 {
        self.nanoseconds.swap(0, Ordering::Relaxed) as f64 / 1e9 / self.threads as f64
    }
}

/// Threads under watch.
struct Watched<'a> {
    inner: &'a dyn Executor,
    watch: &'a Watch,
}

impl Executor for Watched<'_> {
    fn threads(&self) -> usize {
        self.inner.threads()
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        self.inner.run(&|index| {
            let start = Instant::now();
            part(index);
            // Parts end before `run` returns, which orders this before `Watch::take`.
            self.watch.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        });
    }
}
