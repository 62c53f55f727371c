//! Wall times of steps: two readings of the clock a step, into memory that is there before the first run.

use super::{Session, StepInfo};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::time::Instant;

/// The times of one step, in seconds, one for each run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepTimes {
    /// What the plan decided for the step.
    pub step: StepInfo,
    /// One for each run.
    pub seconds: Vec<f64>,
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
}

/// Most runs of a profile.
const MAX_RUNS: usize = 1 << 20;

impl Session {
    /// Runs the network `runs` times after one run that is not timed, and says how long each step took.
    ///
    /// # Errors
    /// As [`Session::run`], and when `runs` is 0 or over 1,048,576.
    pub fn profile(&mut self, input: &Tensor<f32>, runs: usize) -> Result<Profile> {
        if !(1..=MAX_RUNS).contains(&runs) {
            let reason = format!("expected 1 to {MAX_RUNS} runs");
            return Err(Error::InvalidArgument { argument: format!("runs = {runs}"), reason });
        }
        let mut output = self.run(input)?;
        let none = || Vec::with_capacity(runs);
        let steps = self.steps().into_iter().map(|step| StepTimes { step, seconds: none() }).collect();
        let mut profile = Profile { input_seconds: none(), steps, output_seconds: none(), run_seconds: none() };
        let mut readings = Vec::with_capacity(profile.steps.len() + 1);
        for _ in 0..runs {
            readings.clear();
            let start = Instant::now();
            self.execute(&[input.view()], &mut [&mut output], &mut |_| {
                readings.push(Instant::now());
                Ok(())
            })?;
            let end = Instant::now();
            let mut last = start;
            let mut since = |now: Instant| (now - std::mem::replace(&mut last, now)).as_secs_f64();
            let mut readings = readings.iter().copied();
            profile.input_seconds.extend(readings.next().map(&mut since));
            for (step, reading) in profile.steps.iter_mut().zip(readings) {
                step.seconds.push(since(reading));
            }
            profile.output_seconds.push(since(end));
            profile.run_seconds.push((end - start).as_secs_f64());
        }
        Ok(profile)
    }
}
