//! Arrays for the inputs of any network, by name, and its outputs to files.

use crate::output::Failure;
use std::path::{Path, PathBuf};
use stridewise::tensor::npy::NpyTensor;
use stridewise::{Error, Session, Tensor};

/// `NAME=X.npy`, or `X.npy` for a network of one input.
#[derive(Clone, Debug)]
pub struct NamedFile {
    pub name: Option<String>,
    pub path: PathBuf,
}

impl std::str::FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedFile, String> {
        match text.split_once('=') {
            // A file whose name has an equals sign is a file.
            Some((name, path)) if !name.is_empty() && !path.is_empty() && !Path::new(text).exists() => {
                Ok(NamedFile { name: Some(name.into()), path: path.into() })
            }
            _ => Ok(NamedFile { name: None, path: text.into() }),
        }
    }
}

/// `NAME=1x3x224x224`, or `NAME=` for a number.
#[derive(Clone, Debug)]
pub struct NamedShape(pub (String, Vec<usize>));

impl std::str::FromStr for NamedShape {
    type Err = String;

    fn from_str(text: &str) -> Result<NamedShape, String> {
        let parse = || {
            let (name, dims) = text.rsplit_once('=')?;
            let dims = dims.split(['x', '×']).filter(|dim| !dim.is_empty()).map(|dim| dim.trim().parse::<usize>());
            Some(NamedShape((name.into(), dims.collect::<Result<_, _>>().ok()?)))
        };
        parse().ok_or_else(|| "expected an input's name and shape, such as image=1x3x224x224".into())
    }
}

/// An array as a network reads it: whole numbers as f32 have them.
pub fn read(path: &Path) -> Result<Tensor<f32>, Failure> {
    let file = NpyTensor::read(path)?;
    if let NpyTensor::F32(tensor) = file {
        return Ok(tensor);
    }
    let numbers = match (file.to_i64()?, file.to_f64()?) {
        (Some(numbers), _) => {
            if let Some(number) = numbers.as_slice().iter().find(|number| number.unsigned_abs() > 1 << 24) {
                let reason = format!("it holds {number}; a run has whole numbers up to 2^24");
                return Err(Error::InvalidArgument { argument: path.display().to_string(), reason }.into());
            }
            let mut tensor = Tensor::<f32>::zeros(numbers.shape())?;
            tensor.as_mut_slice().iter_mut().zip(numbers.as_slice()).for_each(|(to, from)| *to = *from as f32);
            tensor
        }
        (None, Some(numbers)) => {
            let mut tensor = Tensor::<f32>::zeros(numbers.shape())?;
            tensor.as_mut_slice().iter_mut().zip(numbers.as_slice()).for_each(|(to, from)| *to = *from as f32);
            tensor
        }
        (None, None) => {
            let (expected, found) = ("an array of numbers".into(), file.dtype().into());
            return Err(Error::DType { what: path.display().to_string(), expected, found }.into());
        }
    };
    Ok(numbers)
}

/// The arrays of files with the names of the inputs that they are for.
pub fn read_named(files: &[NamedFile], inputs: &[String]) -> Result<Vec<(String, Tensor<f32>)>, Failure> {
    let mut arrays = Vec::with_capacity(files.len());
    for file in files {
        let name = match (&file.name, inputs) {
            (Some(name), _) => name.clone(),
            (None, [only]) => only.clone(),
            (None, _) => {
                let names = inputs.join(", ");
                return Err(Failure::Usage(format!("--input {}: the network has the inputs {names}: NAME=FILE", file.path.display())));
            }
        };
        arrays.push((name, read(&file.path)?));
    }
    Ok(arrays)
}

/// Runs a network and writes its outputs: one to the file `output`, several into a folder of that name, numbered in their order.
pub fn run(session: &mut Session, arrays: &[(String, Tensor<f32>)], output: &Path) -> Result<Vec<(String, PathBuf, Vec<usize>)>, Failure> {
    let views: Vec<_> = arrays.iter().map(|(name, tensor)| (name.as_str(), tensor.view())).collect();
    let outputs = session.run_named(&views)?;
    let several = outputs.len() > 1;
    if several {
        std::fs::create_dir_all(output).map_err(|source| Error::Io { path: output.into(), source })?;
    }
    let mut written = Vec::with_capacity(outputs.len());
    for (index, (name, tensor)) in outputs.into_iter().enumerate() {
        let path = if several { output.join(format!("{index}.npy")) } else { output.to_path_buf() };
        tensor.write_npy(&path)?;
        written.push((name, path, tensor.dims().to_vec()));
    }
    Ok(written)
}
