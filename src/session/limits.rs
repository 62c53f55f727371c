//! What ends a run before its last layer: another thread's word, or a limit of time.

use super::Session;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Cancels runs from another thread. Clones are the same token; it stays cancelled until [`CancelToken::reset`].
#[derive(Clone, Default, Debug)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends the runs of every session that has this token before their next layer, and refuses new ones.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Lets runs begin again.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it is cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub(super) struct Limits {
    token: Option<CancelToken>,
    time: Option<Duration>,
}

impl Limits {
    /// A run begins.
    pub fn start(&self) -> Watch<'_> {
        let start = self.time.map(|limit| (Instant::now(), limit));
        Watch { token: self.token.as_ref(), start }
    }
}

/// The limits of one run.
pub(super) struct Watch<'a> {
    token: Option<&'a CancelToken>,
    start: Option<(Instant, Duration)>,
}

impl Watch<'_> {
    /// Refuses to go on to `step` when the run is cancelled or late.
    pub fn check(&self, step: &str) -> Result<()> {
        if self.token.is_some_and(CancelToken::is_cancelled) {
            return Err(Error::Cancelled { step: step.into() });
        }
        match self.start {
            Some((start, limit)) if start.elapsed() >= limit => Err(Error::TimedOut { step: step.into(), limit }),
            _ => Ok(()),
        }
    }
}

impl Session {
    /// The token that cancels this session's runs, looked at before each layer; `None` for none. A run that was cancelled
    /// leaves its output as it was, and the session as good as before.
    ///
    /// ```
    /// # use stridewise::{Arch, CancelToken, Error, Model, SessionOptions, Tensor};
    /// let mut session = Model::random(Arch::ResNet20Cifar, 0)?.session(&SessionOptions::default())?;
    /// let image = Tensor::zeros(session.input_shape())?;
    /// let token = CancelToken::new();
    /// session.set_cancel_token(Some(token.clone()));
    /// std::thread::spawn(move || token.cancel()).join().unwrap();
    /// assert!(matches!(session.run(&image), Err(Error::Cancelled { .. })));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn set_cancel_token(&mut self, token: Option<CancelToken>) {
        self.limits.token = token;
    }

    /// The time that a run may take, looked at before each layer: once it is over, the run ends with [`Error::TimedOut`]. It ends
    /// late by as much as a layer takes. Planning for another shape does not count. `None` for no limit.
    pub fn set_time_limit(&mut self, limit: Option<Duration>) {
        self.limits.time = limit;
    }
}
