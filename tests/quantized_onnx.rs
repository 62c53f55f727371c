//! ONNX files that are quantised already: results are those of ONNX Runtime, computed with bytes, and the same bits everywhere. The files
//! are those of `tools/make_quantized_onnx.py`.
#![cfg(all(feature = "int8", feature = "npy", feature = "onnx"))]

use std::path::PathBuf;
use stridewise::{Isa, Model, Precision, SessionOptions, Tensor};

const FORMS: [&str; 3] = ["qdq", "qdq_signed", "qoperator"];

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/quantized").join(file)
}

fn load(form: &str) -> (Model, Tensor<f32>) {
    (Model::from_onnx(golden(&format!("{form}.onnx"))).unwrap(), Tensor::read_npy(golden("input.npy")).unwrap())
}

fn options(threads: usize, isa: Option<Isa>) -> SessionOptions {
    SessionOptions { batch: 2, threads: threads.into(), isa, ..Default::default() }
}

#[test]
fn results_are_those_of_onnx_runtime() {
    for form in FORMS {
        let (model, images) = load(form);
        let expected = Tensor::<f32>::read_npy(golden(&format!("{form}.npy"))).unwrap();
        let found = model.session(&options(1, None)).unwrap().run(&images).unwrap();
        let largest = expected.as_slice().iter().fold(0.0f32, |m, x| m.max(x.abs()));
        let step = largest / 127.0;
        let worst = expected.as_slice().iter().zip(found.as_slice()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        println!("{form}: {:.2} steps", worst / step);
        // A sum that lies between two bytes may be rounded either way, and what follows then differs by a little.
        assert!(worst <= 2.5 * step, "{form}: {worst} of {largest}\n{expected:?}\n{found:?}");
    }
}

#[test]
fn what_a_file_quantises_is_computed_with_bytes() {
    for form in FORMS {
        let (model, _) = load(form);
        let session = model.session(&options(1, None)).unwrap();
        assert!(model.is_quantized() && session.precision() == Precision::Int8, "{form}");
        let convolutions: Vec<_> = session.steps().into_iter().filter(|step| step.macs > 0).collect();
        assert_eq!(convolutions.len(), 7, "{form}: {}", session.explain());
        for step in &convolutions {
            // Weights are bytes: four to a word of f32, but for channels that fill up a block.
            assert!(step.weight_bytes < 3 * 4096 * 8, "{form}: {step:?}");
        }
        let bytes = convolutions.iter().filter(|step| step.layout == "nchw64c-u8").count();
        assert!(bytes >= 4, "{form}: {}", session.explain());
        let roundings = session.steps().into_iter().filter(|step| step.op == "FakeQuantize").count();
        println!("{form}: {bytes} convolutions write bytes, {roundings} roundings are steps of their own\n{}", session.explain());
    }
}

#[test]
fn results_are_bitwise_equal_for_any_threads_and_isa() {
    for form in FORMS {
        let (model, images) = load(form);
        let first = model.session(&options(1, Some(Isa::Portable))).unwrap().run(&images).unwrap();
        for &isa in Isa::available() {
            for threads in [1, 3] {
                let other = model.session(&options(threads, Some(isa))).unwrap().run(&images).unwrap();
                assert!(first.as_slice() == other.as_slice(), "{form} on {isa} with {threads} threads");
            }
        }
    }
}

#[test]
fn a_quantised_file_is_no_network_of_halves() {
    let (model, _) = load("qdq");
    let error = model.session(&SessionOptions { precision: Precision::Bf16, ..options(1, None) }).err().unwrap();
    assert!(error.to_string().contains("bf16") && error.to_string().contains("quantises"), "{error}");
}
