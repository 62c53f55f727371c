//! Networks with their weights.

use crate::array;
use crate::error::OrRaise;
use crate::pool::ThreadPool;
use crate::session::Session;
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping};
use std::path::PathBuf;
use std::sync::Arc;
use stridewise::graph::Dim;
use stridewise::session::Tuning;
use stridewise::{Arch, LoadOptions, SessionOptions, Threads};

/// A network with its weights. Sessions of one model share its packed weights, on any threads. Made by `load`.
#[pyclass(frozen, module = "stridewise")]
pub struct Model(pub stridewise::Model);

/// Shapes by the names of inputs.
fn named_shapes(shapes: Option<&Bound<'_, PyMapping>>) -> PyResult<Vec<(String, Vec<usize>)>> {
    let Some(shapes) = shapes else { return Ok(Vec::new()) };
    shapes.items()?.iter().map(|item| item.extract()).collect()
}

fn load_options(
    py: Python<'_>,
    arch: Option<&str>,
    shapes: Option<&Bound<'_, PyMapping>>,
    max_memory: Option<usize>,
) -> PyResult<LoadOptions> {
    let arch = arch.map(str::parse::<Arch>).transpose().or_raise(py)?;
    let mut options = LoadOptions { arch, shapes: named_shapes(shapes)?, ..Default::default() };
    if let Some(limit) = max_memory {
        options.max_memory = limit;
    }
    Ok(options)
}

#[pymethods]
impl Model {
    #[staticmethod]
    fn _from_file(
        py: Python<'_>,
        path: PathBuf,
        arch: Option<&str>,
        shapes: Option<&Bound<'_, PyMapping>>,
        max_memory: Option<usize>,
    ) -> PyResult<Model> {
        let options = load_options(py, arch, shapes, max_memory)?;
        py.detach(|| stridewise::Model::load_with(path, &options)).or_raise(py).map(Model)
    }

    #[staticmethod]
    fn _from_bytes(
        py: Python<'_>,
        data: &[u8],
        arch: Option<&str>,
        shapes: Option<&Bound<'_, PyMapping>>,
        max_memory: Option<usize>,
    ) -> PyResult<Model> {
        let options = load_options(py, arch, shapes, max_memory)?;
        py.detach(|| stridewise::Model::load_bytes(data, &options)).or_raise(py).map(Model)
    }

    #[staticmethod]
    fn _random(py: Python<'_>, arch: &str, seed: u64) -> PyResult<Model> {
        let arch: Arch = arch.parse().or_raise(py)?;
        py.detach(|| stridewise::Model::random(arch, seed)).or_raise(py).map(Model)
    }

    #[staticmethod]
    fn _builtin(py: Python<'_>) -> PyResult<Model> {
        stridewise::Model::builtin().or_raise(py).map(Model)
    }

    /// Plans, packs and allocates everything that runs need.
    ///
    /// threads: how many, the calling one included, or a `ThreadPool`; 1 runs everything on the calling thread.
    /// isa: the instruction set, such as "avx2"; None for the best.
    /// numerics: "fast" (Winograd where it is faster) or "exact" (direct summation only).
    /// precision: "f32", "bf16", or "int8" for networks that `stridewise quantize` wrote.
    /// batch, size: N and (H, W) that are planned at first; None for the size that the network was made for.
    /// shapes: a mapping of inputs' names to the shapes that are planned at first, where batch and size do not say it all.
    /// tuning: the path of a file of measured times that `stridewise tune` wrote, by which algorithms are chosen. Results are then no
    ///     longer the same for every number of threads and on every machine.
    /// max_memory: most bytes of activations, scratch, packed weights and tables together.
    #[pyo3(signature = (
        *, threads=None, isa=None, numerics="fast", precision="f32", batch=1, size=None, shapes=None, tuning=None, max_memory=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn session(
        &self,
        py: Python<'_>,
        threads: Option<&Bound<'_, PyAny>>,
        isa: Option<&str>,
        numerics: &str,
        precision: &str,
        batch: usize,
        size: Option<[usize; 2]>,
        shapes: Option<&Bound<'_, PyMapping>>,
        tuning: Option<PathBuf>,
        max_memory: Option<usize>,
    ) -> PyResult<Session> {
        let mut options = SessionOptions { batch, size, shapes: named_shapes(shapes)?, ..Default::default() };
        options.tuning = tuning.map(|path| py.detach(|| Tuning::load(path))).transpose().or_raise(py)?.map(Arc::new);
        options.threads = match threads {
            None => Threads::Count(1),
            Some(given) => match given.cast::<ThreadPool>() {
                Ok(pool) => pool.get().0.clone().into(),
                Err(_) => given.extract::<usize>()?.into(),
            },
        };
        options.isa = isa.map(|name| name.parse().map_err(stridewise::Error::Kernel)).transpose().or_raise(py)?;
        options.numerics = numerics.parse().or_raise(py)?;
        options.precision = precision.parse().or_raise(py)?;
        if let Some(limit) = max_memory {
            options.max_memory = limit;
        }
        py.detach(|| self.0.session(&options)).or_raise(py).map(Session::new)
    }

    /// Writes the network with the weights that its sessions have packed so far, for `load` to map: a `.swp` file.
    fn save_packed(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.0.save_packed(path)).or_raise(py)
    }

    /// A JPEG or PNG file as the network's input, [1, 3, H, W]: decoded, resized, cropped and normalised as torchvision does it.
    fn load_image<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let tensor = py.detach(|| self.0.preprocessing().load_image(path)).or_raise(py)?;
        array::array(py, &tensor)
    }

    /// The bytes of a JPEG or PNG file as the network's input; `name` stands for it in errors.
    #[pyo3(signature = (data, name="bytes in memory"))]
    fn decode_image<'py>(&self, py: Python<'py>, data: &[u8], name: &str) -> PyResult<Bound<'py, PyArrayDyn<f32>>> {
        let tensor = py.detach(|| self.0.preprocessing().decode_image(data, name)).or_raise(py)?;
        array::array(py, &tensor)
    }

    /// The architecture's name, where it has one.
    #[getter]
    fn arch(&self) -> Option<&'static str> {
        self.0.arch().and_then(|arch| arch.name())
    }

    /// The names of the classes, where the number of outputs tells them.
    #[getter]
    fn labels(&self) -> Option<Vec<&'static str>> {
        self.0.labels().map(<[_]>::to_vec)
    }

    /// The inputs before a session is made: a dict of names to dimensions, each a number or, for what a session binds, its name, which
    /// may be empty.
    #[getter]
    fn inputs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let inputs = PyDict::new(py);
        for input in self.0.inputs() {
            let dims = PyList::empty(py);
            for dim in &input.dims {
                match dim {
                    Dim::Fixed(size) => dims.append(size)?,
                    Dim::Any(name) => dims.append(name)?,
                }
            }
            inputs.set_item(&input.name, dims)?;
        }
        Ok(inputs)
    }

    /// What `load_image` does to a picture: its shorter side becomes `resize` pixels, the middle of `crop` (height, width) is cut out, and
    /// each byte x of red, green and blue becomes (x / 255 - `mean`) / `std`.
    #[getter]
    fn preprocessing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let own = self.0.preprocessing();
        let result = PyDict::new(py);
        result.set_item("resize", own.resize())?;
        result.set_item("crop", (own.crop()[0], own.crop()[1]))?;
        result.set_item("mean", own.mean().to_vec())?;
        result.set_item("std", own.std().to_vec())?;
        Ok(result)
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// The names of all architectures.
#[pyfunction]
pub fn architectures() -> Vec<&'static str> {
    Arch::NAMED.iter().map(|(name, _)| *name).collect()
}
