//! Planned networks: what runs.

use crate::array;
use crate::error::{OrRaise, raised};
use crate::pool::CancelToken;
use numpy::{PyArrayDyn, PyReadonlyArrayDyn};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use stridewise::compare::{Comparison, Tolerance};
use stridewise::{Error, Isa};

/// A planned network with its memory and threads. Runs of one session wait for each other; other Python threads go on meanwhile.
#[pyclass(frozen, module = "stridewise")]
pub struct Session(Mutex<stridewise::Session>);

/// A named input.
type Named<'py> = (String, PyReadonlyArrayDyn<'py, f32>);

impl Session {
    pub fn new(session: stridewise::Session) -> Session {
        Session(Mutex::new(session))
    }

    fn lock(&self) -> MutexGuard<'_, stridewise::Session> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The session, once no run is going on: waited for without the interpreter's lock, which that run may need to end.
    fn with<T: Send>(&self, py: Python<'_>, call: impl FnOnce(&mut stridewise::Session) -> T + Send) -> T {
        py.detach(|| call(&mut self.lock()))
    }
}

fn what(kind: &str, name: &str, count: usize) -> String {
    if count > 1 { format!("{kind} `{name}`") } else { kind.into() }
}

#[pymethods]
impl Session {
    /// Runs the network with one input, without copying it. `Session.run` of the package converts what is no array.
    fn _run<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let x = array::input(x, "input")?;
        let view = array::view(&x)?;
        let outputs = self.with(py, |session| {
            let name = session.input_names().first().map_or_else(String::new, |name| name.to_string());
            session.run_named(&[(&name, view)])
        });
        let outputs = outputs.or_raise(py)?;
        match outputs.as_slice() {
            [(_, output)] => array::array(py, output),
            several => {
                let reason = format!("the network has {} outputs: give the inputs by name, in a dict", several.len());
                Err(raised(py, &Error::InvalidArgument { argument: "run".into(), reason }))
            }
        }
    }

    /// Runs the network with inputs by name; returns its outputs by name.
    fn _run_named<'py>(&self, py: Python<'py>, inputs: &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyDict>> {
        let mut arrays: Vec<Named<'py>> = Vec::with_capacity(inputs.len());
        for (name, value) in inputs.iter() {
            let name: String = name.extract()?;
            let array = array::input(&value, &what("input", &name, inputs.len()))?;
            arrays.push((name, array));
        }
        let views = arrays.iter().map(|(name, array)| Ok((name.as_str(), array::view(array)?))).collect::<PyResult<Vec<_>>>()?;
        let outputs = self.with(py, |session| session.run_named(&views)).or_raise(py)?;
        let named = PyDict::new(py);
        for (name, tensor) in &outputs {
            named.set_item(name, array::array(py, tensor)?)?;
        }
        Ok(named)
    }

    /// Runs the network with the planned shape into an array that is there. Copies and allocates nothing.
    fn _run_into(&self, py: Python<'_>, x: &Bound<'_, PyAny>, out: &Bound<'_, PyAny>) -> PyResult<()> {
        let x = array::input(x, "input")?;
        let mut out = array::output(out, "output")?;
        array::check_apart(&x, &out)?;
        let (view, target) = (array::view(&x)?, array::view_mut(&mut out)?);
        self.with(py, |session| session.run_all_into(&[view], &mut [target])).or_raise(py)
    }

    /// The token that cancels this session's runs, or None.
    #[pyo3(signature = (token))]
    fn set_cancel_token(&self, py: Python<'_>, token: Option<&CancelToken>) {
        let token = token.map(|t| t.0.clone());
        self.with(py, |session| session.set_cancel_token(token));
    }

    /// Most seconds that a run may take, looked at before each layer: 0 and less are a deadline that has passed, and every run ends
    /// before its first. None for no limit.
    #[pyo3(signature = (seconds))]
    fn set_time_limit(&self, py: Python<'_>, seconds: Option<f64>) -> PyResult<()> {
        let limit = seconds.map(|seconds| Duration::try_from_secs_f64(if seconds < 0.0 { 0.0 } else { seconds })).transpose();
        let refuse = |e: std::time::TryFromFloatSecsError| {
            raised(py, &Error::InvalidArgument { argument: format!("seconds = {}", seconds.unwrap_or_default()), reason: e.to_string() })
        };
        let limit = limit.map_err(refuse)?;
        self.with(py, |session| session.set_time_limit(limit));
        Ok(())
    }

    /// The plan as a table: of each step its shape, multiply-accumulates, algorithm, tile, epilogue, threads, and why.
    fn explain(&self, py: Python<'_>) -> String {
        self.with(py, |session| session.explain())
    }

    /// The times of steps; see `Session.profile` of the package.
    fn _profile<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>, runs: usize) -> PyResult<Bound<'py, PyDict>> {
        let x = array::input(x, "input")?;
        let tensor = array::view(&x)?.to_tensor().or_raise(py)?;
        let profile = self.with(py, |session| session.profile(&tensor, runs)).or_raise(py)?;
        let result = PyDict::new(py);
        result.set_item("run_seconds", profile.run_seconds)?;
        result.set_item("input_seconds", profile.input_seconds)?;
        result.set_item("output_seconds", profile.output_seconds)?;
        let mut steps = Vec::with_capacity(profile.steps.len());
        for times in profile.steps {
            let step = PyDict::new(py);
            step.set_item("name", times.step.name)?;
            step.set_item("op", times.step.op)?;
            step.set_item("problem", times.step.problem)?;
            step.set_item("macs", times.step.macs)?;
            step.set_item("algorithm", times.step.algorithm)?;
            step.set_item("seconds", times.seconds)?;
            steps.push(step);
        }
        result.set_item("steps", steps)?;
        Ok(result)
    }

    /// The names of the inputs, in their order.
    #[getter]
    fn input_names(&self, py: Python<'_>) -> Vec<String> {
        self.with(py, |session| session.input_names().into_iter().map(String::from).collect())
    }

    /// The names of the outputs, in their order.
    #[getter]
    fn output_names(&self, py: Python<'_>) -> Vec<String> {
        self.with(py, |session| session.output_names().to_vec())
    }

    /// The planned shapes of the inputs, in their order.
    #[getter]
    fn input_shapes(&self, py: Python<'_>) -> Vec<Vec<usize>> {
        self.with(py, |session| session.input_shapes().iter().map(|shape| shape.dims().to_vec()).collect())
    }

    /// The shapes of the outputs for those inputs, in their order.
    #[getter]
    fn output_shapes(&self, py: Python<'_>) -> Vec<Vec<usize>> {
        self.with(py, |session| session.output_shapes().iter().map(|shape| shape.dims().to_vec()).collect())
    }

    /// Threads in use, the calling one included.
    #[getter]
    fn threads(&self, py: Python<'_>) -> usize {
        self.with(py, |session| session.threads())
    }

    /// The instruction set in use.
    #[getter]
    fn isa(&self, py: Python<'_>) -> &'static str {
        self.with(py, |session| session.isa().name())
    }

    /// Bytes of activations and scratch that the session holds.
    #[getter]
    fn memory_required(&self, py: Python<'_>) -> usize {
        self.with(py, |session| session.memory_required())
    }

    /// Bytes of packed weights; sessions of one model share them.
    #[getter]
    fn weight_bytes(&self, py: Python<'_>) -> usize {
        self.with(py, |session| session.weight_bytes())
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        self.with(py, |session| format!("{session:?}"))
    }
}

/// Error metrics; see `compare` of the package.
#[pyfunction]
#[pyo3(name = "_compare", signature = (value, reference, max_error))]
pub fn compare<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    reference: &Bound<'py, PyAny>,
    max_error: Option<f64>,
) -> PyResult<Bound<'py, PyDict>> {
    let (value, reference) = (array::input(value, "value")?, array::input(reference, "reference")?);
    let tolerance = Tolerance::new(max_error, None).or_raise(py)?;
    let comparison = Comparison::new("value", array::view(&value)?, array::view(&reference)?, tolerance).or_raise(py)?;
    let result = PyDict::new(py);
    result.set_item("max_abs", comparison.max_abs.error)?;
    result.set_item("max_abs_at", comparison.position(comparison.max_abs.index))?;
    result.set_item("max_rel", comparison.max_rel.map(|deviation| deviation.error))?;
    result.set_item("rms", comparison.rms)?;
    result.set_item("cosine", comparison.cosine)?;
    result.set_item("snr_db", comparison.snr_db)?;
    result.set_item("argmax_equal", comparison.argmax.map(|agreement| (agreement.equal, agreement.rows)))?;
    result.set_item("not_finite", comparison.non_finite.count)?;
    result.set_item("relative_to_max", comparison.relative_to_max())?;
    result.set_item("passed", comparison.passed())?;
    Ok(result)
}

/// The instruction sets of this processor that there are kernels for.
#[pyfunction]
pub fn instruction_sets() -> Vec<&'static str> {
    Isa::available().iter().map(|isa| isa.name()).collect()
}
