//! Errors become exceptions of the same text, of the classes in `python/package/stridewise/_errors.py`.

use pyo3::prelude::*;
use pyo3::types::PyType;
use stridewise::Error;
use stridewise::error::ErrorKind;

/// The exception that an error is.
pub fn raised(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error.kind() {
        ErrorKind::Io => "FileError",
        ErrorKind::Format => "FormatError",
        ErrorKind::Weights => "WeightsError",
        ErrorKind::Unsupported => "UnsupportedError",
        ErrorKind::Graph => "GraphError",
        ErrorKind::Shape => "ShapeError",
        ErrorKind::DType => "DTypeError",
        ErrorKind::TooLarge => "TooLargeError",
        ErrorKind::Kernel => "KernelError",
        ErrorKind::Forked => "ForkedError",
        ErrorKind::Cancelled => "Cancelled",
        ErrorKind::TimedOut => "TimedOut",
        ErrorKind::InvalidArgument | ErrorKind::Arch => "ArgumentError",
    };
    let found = py.import("stridewise._errors").and_then(|module| module.getattr(class)).and_then(|class| Ok(class.cast_into::<PyType>()?));
    match found {
        Ok(class) => PyErr::from_type(class, error.to_string()),
        Err(other) => other,
    }
}

/// Results with the library's errors as exceptions.
pub trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for stridewise::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raised(py, &error))
    }
}
