//! Measuring the algorithms that could compute each convolution of a network.
//!
//! A convolution alone in a loop finds its weights and its input in cache, which inside a network it does not. So whole networks
//! are run, planned with one algorithm wherever it can be, and their steps timed; the networks take turns, so that what slows the
//! machine for a while slows them all.

use super::{Numerics, Session, SessionOptions, Threads};
use crate::error::{Error, Result};
use crate::model::{Model, PackedCache};
use crate::plan::{Preference, Setting, Tuning, candidates};
use crate::tensor::Tensor;
use std::collections::BTreeMap;
use stridewise_kernels::conv::Algorithm;

/// Timed runs of one network before it is the next one's turn.
const TURN: usize = 5;

/// Most runs with each algorithm.
const MAX_RUNS: usize = 100_000;

/// One convolution problem, and what [`Model::tune`] found out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TunedProblem {
    /// The convolution problem in its one spelling.
    pub problem: String,
    /// Steps of the network that it is.
    pub steps: usize,
    /// The algorithm that is chosen where nothing was measured.
    pub by_rule: &'static str,
    /// The fastest of those measured.
    pub fastest: &'static str,
    /// Algorithms and their seconds, the fastest first.
    pub seconds: Vec<(&'static str, f64)>,
    /// Whether it was measured before.
    pub known: bool,
}

/// A problem of the network that has more than one candidate.
struct Open {
    setting: Setting,
    candidates: Vec<Algorithm>,
    by_rule: Algorithm,
    steps: usize,
    known: bool,
}

impl Model {
    /// Measures the algorithms that could compute each convolution of the network, `runs` times each, and notes their times in
    /// `tuning`; what is there already is not measured again. `options` say for what input, numerics, instruction set and threads.
    /// `progress` is told how many runs are done, and of how many.
    ///
    /// Takes the memory of as many sessions as there are algorithms. Measured choices give up one promise: results are still the
    /// same in every run with the same table, but no longer for every number of threads and on every machine.
    ///
    /// # Errors
    /// As [`Model::session`], when `runs` is 0 or over 100,000, and for a packed network, which has its weights for one algorithm only.
    pub fn tune(
        &self,
        options: &SessionOptions,
        runs: usize,
        tuning: &mut Tuning,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<TunedProblem>> {
        if !(1..=MAX_RUNS).contains(&runs) {
            let reason = format!("expected 1 to {MAX_RUNS} runs");
            return Err(Error::InvalidArgument { argument: format!("runs = {runs}"), reason });
        }
        self.require_weights("each algorithm")?;
        // The model keeps no weights packed for algorithms that lose.
        let packed = PackedCache::default();
        let first = Session::prepare(self, options, Preference::Rules, &packed)?;
        let open = open_problems(&first, options.numerics, tuning);
        let options = SessionOptions { threads: Threads::Pool(first.pool.clone()), ..options.clone() };
        drop(first);
        let mut trials = Vec::new();
        for algorithm in Algorithm::ALL {
            if open.values().any(|o| !o.known && o.candidates.contains(&algorithm)) {
                trials.push((algorithm, Session::prepare(self, &options, Preference::Trial(algorithm), &packed)?));
            }
        }
        let mut seconds: BTreeMap<(String, &'static str), Vec<f64>> = BTreeMap::new();
        let total = runs * trials.len();
        let mut done = 0;
        let mut left = runs;
        while left > 0 && !trials.is_empty() {
            let turn = left.min(TURN);
            for (algorithm, session) in &mut trials {
                let settings = session.convolutions();
                let mut input = Tensor::zeros(session.input_shape())?;
                input.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 251) as f32 / 125.0 - 1.0);
                let profile = session.profile(&input, turn)?;
                for (step, setting) in profile.steps.iter().zip(settings) {
                    if let Some((setting, _)) = setting.filter(|(_, used)| used == algorithm) {
                        seconds.entry((setting.to_string(), algorithm.name())).or_default().extend(&step.seconds);
                    }
                }
                done += turn;
                progress(done, total);
            }
            left -= turn;
        }
        for (key, open) in open.iter().filter(|(_, open)| !open.known) {
            for algorithm in &open.candidates {
                if let Some(median) = seconds.get_mut(&(key.clone(), algorithm.name())).and_then(|times| median(times)) {
                    // A clock that did not move has still measured something: less than it can tell.
                    tuning.note(&open.setting, *algorithm, median.max(1e-9));
                }
            }
        }
        Ok(open.into_values().map(|open| open.describe(tuning)).collect())
    }
}

impl Open {
    fn describe(&self, tuning: &Tuning) -> TunedProblem {
        let measured = tuning.times(&self.setting).iter().filter(|(a, _)| self.candidates.contains(a));
        let mut seconds: Vec<_> = measured.map(|(algorithm, seconds)| (algorithm.name(), *seconds)).collect();
        seconds.sort_by(|a, b| a.1.total_cmp(&b.1));
        let fastest = tuning.fastest(&self.setting, &self.candidates).unwrap_or(self.by_rule);
        TunedProblem {
            problem: self.setting.problem.to_string(),
            steps: self.steps,
            by_rule: self.by_rule.name(),
            fastest: fastest.name(),
            seconds,
            known: self.known,
        }
    }
}

/// By setting, each once.
fn open_problems(session: &Session, numerics: Numerics, tuning: &Tuning) -> BTreeMap<String, Open> {
    let mut all: BTreeMap<String, Open> = BTreeMap::new();
    for (setting, by_rule) in session.convolutions().into_iter().flatten() {
        let candidates = candidates(&setting.problem, setting.layout, numerics);
        if candidates.len() > 1 {
            let known = tuning.is_complete(&setting, &candidates);
            all.entry(setting.to_string()).or_insert(Open { setting, candidates, by_rule, steps: 0, known }).steps += 1;
        }
    }
    all
}

/// None of no values.
fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
