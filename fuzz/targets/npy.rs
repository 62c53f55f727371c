//! A `.npy` file is read, or refused with an error that names it; what is read is written and read again unchanged.

use stridewise::tensor::npy::NpyTensor;
use stridewise::{Error, Tensor};

pub fn run(bytes: &[u8]) {
    let file = tempfile::Builder::new().suffix("-fuzzed.npy").tempfile().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("a temporary file");
    match NpyTensor::read(file.path()) {
        Ok(tensor) => {
            let elements: usize = tensor.dims().iter().product();
            assert!(elements <= bytes.len(), "{:?} from {} bytes", tensor.dims(), bytes.len());
            let _ = (tensor.to_f64(), tensor.to_i64());
        }
        Err(error) => named(&error),
    }
    if let Ok(tensor) = Tensor::<f32>::read_npy(file.path()) {
        tensor.write_npy(file.path()).expect("a temporary file");
        let again = Tensor::<f32>::read_npy(file.path()).expect("a file that was just written");
        let bits = |t: &Tensor<f32>| t.as_slice().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(again.dims() == tensor.dims() && bits(&again) == bits(&tensor));
    }
}

fn named(error: &Error) {
    let text = error.to_string();
    assert!(text.contains("-fuzzed.npy"), "no file in: {text}");
}
