//! The compiled part of the Python package `stridewise`. What Python does as well stands in `python/package/stridewise/`.

mod array;
mod error;
mod model;
mod pool;
mod session;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<model::Model>()?;
    module.add_class::<session::Session>()?;
    module.add_class::<pool::ThreadPool>()?;
    module.add_class::<pool::CancelToken>()?;
    module.add_function(wrap_pyfunction!(session::compare, module)?)?;
    module.add_function(wrap_pyfunction!(model::architectures, module)?)?;
    module.add_function(wrap_pyfunction!(session::instruction_sets, module)?)?;
    Ok(())
}
