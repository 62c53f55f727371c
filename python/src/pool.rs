//! Threads that sessions share, and the token that cancels their runs.

use crate::error::OrRaise;
use pyo3::prelude::*;

/// Threads that sessions share; they take turns. `threads` counts the one that calls `run`.
#[pyclass(frozen, module = "stridewise")]
pub struct ThreadPool(pub stridewise::ThreadPool);

#[pymethods]
impl ThreadPool {
    #[new]
    fn new(py: Python<'_>, threads: usize) -> PyResult<ThreadPool> {
        stridewise::ThreadPool::new(threads).or_raise(py).map(ThreadPool)
    }

    /// Threads in all.
    #[getter]
    fn threads(&self) -> usize {
        self.0.threads()
    }

    fn __repr__(&self) -> String {
        format!("ThreadPool(threads={})", self.0.threads())
    }
}

/// Cancels runs from another thread, between two layers.
#[pyclass(frozen, module = "stridewise")]
#[derive(Default)]
pub struct CancelToken(pub stridewise::CancelToken);

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends the runs of every session that has the token, and refuses new ones until `reset`.
    fn cancel(&self) {
        self.0.cancel();
    }

    /// Lets runs begin again.
    fn reset(&self) {
        self.0.reset();
    }

    /// Whether it is cancelled.
    #[getter]
    fn cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}
