//! Messages of errors that the bindings for C, C++ and Python show word for word: each of them has a test with `tests/golden/messages.txt`.

use std::path::Path;
use stridewise::{Model, SessionOptions, Shape, Tensor};

fn expected(case: &str, folder: &Path) -> String {
    let all = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/messages.txt")).unwrap();
    let mut lines = all.lines();
    let first = lines.find_map(|line| line.strip_prefix(case)?.strip_prefix(": ")).unwrap_or_else(|| panic!("no message for {case}"));
    let rest = lines.take_while(|line| line.starts_with("  ")).map(|line| format!("\n{line}"));
    let message: String = std::iter::once(first.to_string()).chain(rest).collect();
    message.replace("{dir}", &folder.display().to_string())
}

#[test]
fn messages_are_those_of_every_binding() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/resnet20_cifar10.safetensors");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("corrupt.safetensors"), "not a network at all").unwrap();
    let mut bytes = std::fs::read(&assets).unwrap();
    let at = bytes.windows(5).position(|w| w == b"\"F16\"").unwrap();
    bytes[at + 1] = b'I';
    std::fs::write(file("dtype.safetensors"), bytes).unwrap();

    let load = |name: &str| Model::load(None, file(name)).unwrap_err().to_string();
    assert_eq!(load("missing.safetensors"), expected("missing file", folder.path()));
    assert_eq!(load("corrupt.safetensors"), expected("corrupt model", folder.path()));
    assert_eq!(load("dtype.safetensors"), expected("dtype of a weight", folder.path()));

    #[cfg(feature = "onnx")]
    {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx/unsupported.onnx");
        std::fs::copy(source, file("unsupported.onnx")).unwrap();
        assert_eq!(load("unsupported.onnx"), expected("unsupported op", folder.path()));
    }

    let mut session = Model::load(None, assets).unwrap().session(&SessionOptions::default()).unwrap();
    let zeros = |dims: &[usize]| Tensor::<f32>::zeros(Shape::new(dims).unwrap()).unwrap();
    let error = session.run_into(zeros(&[1, 4, 32, 32]).view(), &mut zeros(&[1, 10])).unwrap_err();
    assert_eq!(error.to_string(), expected("shape of an input", folder.path()));
    // Rust's types rule the last case out; it is written as the others write it.
    let error = stridewise::Error::DType { what: "input".into(), expected: "f32".into(), found: "f64".into() };
    assert_eq!(error.to_string(), expected("dtype of an input", folder.path()));
}
