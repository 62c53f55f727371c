//! The least that a program needs: a network from a safetensors file, on one thread, and in f32 without a feature of the library.
//!
//!     cargo run --release -p stridewise-embed -- assets/resnet20_cifar10.safetensors
//!
//! `tools/size.sh` measures the size of this program.

use std::process::ExitCode;
use stridewise::{Model, SessionOptions, Tensor};

fn run(path: &str, precision: &str) -> stridewise::Result<()> {
    let options = SessionOptions { precision: precision.parse()?, ..Default::default() };
    let mut session = Model::from_safetensors(None, path)?.session(&options)?;
    let mut image = Tensor::zeros(session.input_shape())?;
    image.as_mut_slice().iter_mut().enumerate().for_each(|(i, value)| *value = (i * 37 % 256) as f32 / 128.0 - 1.0);
    let logits = session.run(&image)?;
    let best = logits.as_slice().iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    if let Some((class, logit)) = best {
        println!("class {class}: {logit}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [path] => run(path, "f32"),
        [path, precision] => run(path, precision),
        _ => {
            eprintln!("usage: embed FILE.safetensors [PRECISION]");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
