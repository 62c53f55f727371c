//! A progress bar on stderr that appears when something takes more than a second.

use crate::output::Output;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// How long a command may take before it shows its progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counts what is done. Shows nothing with `--json`, when stderr is not a terminal, or in the first second.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    /// Nothing is left to decide: the bar is shown, or never will be.
    decided: bool,
}

impl Progress {
    /// `total` things of a kind to do.
    pub fn new(output: &Output, total: u64, noun: &'static str) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        let template = format!("{{bar:32}} {{human_pos}}/{{human_len}} {noun}, {{eta}} left {{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━━╌"));
        }
        Progress { bar, started: Instant::now(), decided: output.is_json() }
    }

    /// So many more are done.
    pub fn add(&mut self, done: u64) {
        if !self.decided && self.started.elapsed() > PATIENCE {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.decided = true;
        }
        self.bar.inc(done);
    }

    /// A word on how it goes.
    pub fn say(&self, message: String) {
        self.bar.set_message(message);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
