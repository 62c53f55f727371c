//! The program as its users meet it: what it prints, writes and returns, and what it says to bad input.
#![cfg(feature = "cli")]

mod bad_input;
mod commands;
mod compare;
mod onnx;
mod profile;
mod quantize;
mod tune;

use serde_json::Value;
use std::process::{Command, Output};
use stridewise::{Model, SessionOptions, Shape, Tensor};
use tempfile::TempDir;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stridewise"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs what must succeed; returns its stdout.
fn succeed(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    text(&output.stdout)
}

/// Runs what must succeed with `--json`; returns the one document.
fn json(arguments: &[&str]) -> Value {
    let stdout = succeed(&[&["--json"], arguments].concat());
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}\n{stdout}"))
}

/// Runs what must fail with exit code 2, one message on stderr and nothing on stdout; returns the message.
fn fail(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{command:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{command:?}");
    assert!(stderr.starts_with("error: ") && !stderr.contains("panicked"), "{command:?}: {stderr}");
    stderr
}

/// A folder for one test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_string()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A ResNet-20 with random weights.
    fn model(&self) -> String {
        let path = self.path("net.safetensors");
        succeed(&["init", "--arch", "resnet20-cifar10", "--seed", "1", "-o", &path]);
        path
    }

    fn images(&self, name: &str, count: usize) -> (String, Tensor<f32>) {
        let tensor = images(count);
        let path = self.path(name);
        tensor.write_npy(&path).unwrap();
        (path, tensor)
    }

    /// A picture of one colour with a darker half.
    fn picture(&self, name: &str, colour: [u8; 3]) -> String {
        let path = self.path(name);
        let dark = colour.map(|c| c / 2);
        image::RgbImage::from_fn(48, 40, |x, _| image::Rgb(if x < 24 { colour } else { dark })).save(&path).unwrap();
        path
    }
}

fn images(count: usize) -> Tensor<f32> {
    let mut tensor = Tensor::zeros(Shape::new(&[count, 3, 32, 32]).unwrap()).unwrap();
    for (index, value) in tensor.as_mut_slice().iter_mut().enumerate() {
        *value = ((index * 7919) % 2003) as f32 / 1001.5 - 1.0;
    }
    tensor
}

fn logits(model: &str, images: &Tensor<f32>) -> Tensor<f32> {
    let model = Model::from_safetensors(None, model).unwrap();
    model.session(&SessionOptions::default()).unwrap().run(images).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}
