//! Trained weights on real images. The images are not part of the project: `STRIDEWISE_DATA` names a folder that has `cifar10/`, by
//! default `../shared/data`. What must be there is in docs/src/testing.md; tests that need what is not there say so and pass.
#![cfg(all(feature = "npy", feature = "builtin-model"))]

use std::path::PathBuf;
use stridewise::quantize::{Calibrator, Method, Quantization};
use stridewise::{Arch, Isa, Model, Numerics, Precision, SessionOptions, Shape, Tensor, Threads};

fn data() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let folder = std::env::var_os("STRIDEWISE_DATA").map_or(PathBuf::from(default), PathBuf::from).join("cifar10");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: {} is not there; STRIDEWISE_DATA names the folder with cifar10/", folder.display());
    None
}

/// Logits for all images, 128 at a time.
fn logits(model: &Model, numerics: Numerics, images: &Tensor<u8>) -> Vec<f32> {
    logits_in(model, &SessionOptions { threads: Threads::Count(1), numerics, ..Default::default() }, images)
}

fn logits_in(model: &Model, options: &SessionOptions, images: &Tensor<u8>) -> Vec<f32> {
    let mut session = model.session(options).unwrap();
    let image: usize = images.dims()[1..].iter().product();
    let mut logits = Vec::new();
    for batch in images.as_slice().chunks(128 * image) {
        let shape = Shape::new(&[batch.len() / image, 3, 32, 32]).unwrap();
        let batch = Tensor::from_slice(shape, batch).unwrap();
        let x = model.preprocessing().normalise_u8(batch.view()).unwrap();
        logits.extend_from_slice(session.run(&x).unwrap().as_slice());
    }
    logits
}

fn right(logits: &[f32], labels: &[i64]) -> usize {
    let class = |row: &[f32]| (0..10).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as i64;
    logits.chunks(10).zip(labels).filter(|(row, label)| class(row) == **label).count()
}

fn labels(path: PathBuf) -> Vec<i64> {
    let labels = stridewise::tensor::npy::NpyTensor::read(&path).unwrap();
    labels.to_i64().unwrap().unwrap().as_slice().to_vec()
}

#[test]
fn the_option_a_resnet20_classifies_as_pytorch_does() {
    let Some(data) = data() else { return };
    let model = Model::from_safetensors(None, data.join("resnet20_option_a.safetensors")).unwrap();
    assert_eq!(model.arch(), Some(Arch::ResNet20CifarA));
    let exact = Tensor::<u8>::read_npy(data.join("exact1017_x.npy")).unwrap();
    let expected = Tensor::<f32>::read_npy(data.join("exact1017_logits_option_a.npy")).unwrap();
    let scale = expected.as_slice().iter().fold(0f32, |m, v| m.max(v.abs()));
    // PyTorch's float32 logits are themselves up to 1.57e-5 away from the same network in float64, and so are ours.
    for (numerics, bound) in [(Numerics::Exact, 5e-7), (Numerics::Fast, 1e-6)] {
        let found = logits(&model, numerics, &exact);
        let largest = found.iter().zip(expected.as_slice()).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        println!("1,017 exact images, {numerics}: logits up to {scale} differ from PyTorch's by {largest:.2e} at most");
        assert_eq!(found.len(), expected.as_slice().len());
        assert!(largest <= bound * scale, "{numerics}: {largest} of {scale}");
        assert_eq!(right(&found, &labels(data.join("exact1017_y.npy"))), 932, "{numerics}");
    }
    let found = logits(&model, Numerics::Fast, &Tensor::<u8>::read_npy(data.join("test_x.npy")).unwrap());
    assert_eq!(right(&found, &labels(data.join("test_y.npy"))), 8103);
}

#[test]
fn the_built_in_model_reaches_the_accuracy_of_its_training_log_as_f16_and_as_f32() {
    let Some(data) = data() else { return };
    let images = Tensor::<u8>::read_npy(data.join("test_x.npy")).unwrap();
    let labels = labels(data.join("test_y.npy"));
    let log = stridewise::formats::safetensors::load(
        None,
        &PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/resnet20_cifar10.safetensors")),
    );
    let log: serde_json::Value = serde_json::from_str(&log.unwrap().metadata["log"]).unwrap();
    let logged = log.as_array().unwrap().last().unwrap()["test_top1"].as_f64().unwrap();
    let top1 = |model: &Model| right(&logits(model, Numerics::Fast, &images), &labels) as f64 / labels.len() as f64;
    let half = top1(&Model::builtin().unwrap());
    println!("built-in model: log {logged}, f16 weights {half}");
    assert!((half - logged).abs() <= 0.001, "f16 weights: {half}, log {logged}");
    let single = data.join("resnet20_cifar10.safetensors");
    if !single.is_file() {
        println!("f32 weights skipped: {} is not there", single.display());
        return;
    }
    let single = top1(&Model::from_safetensors(None, single).unwrap());
    println!("f32 weights {single}");
    assert!((single - logged).abs() <= 0.001, "f32 weights: {single}, log {logged}");
}

#[test]
fn the_built_in_model_classifies_the_sample_pictures_on_every_isa() {
    let model = Model::builtin().unwrap();
    let labels = model.labels().unwrap();
    for &isa in Isa::available() {
        let mut session = model.session(&SessionOptions { isa: Some(isa), ..Default::default() }).unwrap();
        let mut count = 0;
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/samples")).unwrap() {
            let path = entry.unwrap().path();
            let y = session.run(&model.preprocessing().load_image(&path).unwrap()).unwrap();
            let best = (0..10).fold(0, |best, i| if y.as_slice()[i] > y.as_slice()[best] { i } else { best });
            assert_eq!(Some(labels[best]), path.file_stem().and_then(|s| s.to_str()), "on {isa}");
            count += 1;
        }
        assert!(count >= 6);
    }
}

/// Scales by what the first images are.
fn calibrated(model: &Model, images: &Tensor<u8>, count: usize) -> Quantization {
    let image: usize = images.dims()[1..].iter().product();
    let shape = Shape::new(&[count, 3, 32, 32]).unwrap();
    let batch = Tensor::from_slice(shape, &images.as_slice()[..count * image]).unwrap();
    let x = model.preprocessing().normalise_u8(batch.view()).unwrap();
    let mut calibrator = Calibrator::default();
    calibrator.observe("input", &x);
    let mut session = model.session(&SessionOptions { batch: count, ..Default::default() }).unwrap();
    session.run_with_taps(&x, &mut |name, value| calibrator.observe(name, &value)).unwrap();
    calibrator.finish(Method::Mse)
}

#[test]
fn int8_is_within_half_a_point_of_f32_and_bf16_within_a_tenth() {
    let Some(data) = data() else { return };
    let calibration = Tensor::<u8>::read_npy(data.join("exact1017_x.npy")).unwrap();
    // Each fourth image: six times all of them is a minute.
    let all = Tensor::<u8>::read_npy(data.join("test_x.npy")).unwrap();
    let images: Vec<u8> = all.as_slice().chunks(3 * 32 * 32).step_by(4).flatten().copied().collect();
    let images = Tensor::from_slice(Shape::new(&[images.len() / (3 * 32 * 32), 3, 32, 32]).unwrap(), &images).unwrap();
    let labels: Vec<i64> = labels(data.join("test_y.npy")).into_iter().step_by(4).collect();
    let trained = Model::from_safetensors(None, data.join("resnet20_option_a.safetensors")).unwrap();
    for (name, model) in [("built-in", Model::builtin().unwrap()), ("option A", trained)] {
        let model = model.with_quantization(calibrated(&model, &calibration, 256));
        let top1 = |precision| {
            let options = SessionOptions { threads: Threads::Count(1), precision, batch: 128, ..Default::default() };
            100.0 * right(&logits_in(&model, &options, &images), &labels) as f64 / labels.len() as f64
        };
        let [single, bfloat, bytes] = [Precision::F32, Precision::Bf16, Precision::Int8].map(top1);
        println!("{name}: f32 {single:.2} %, bf16 {bfloat:.2} %, int8 {bytes:.2} %");
        assert!((single - bfloat).abs() <= 0.1, "{name}: bf16 {bfloat}, f32 {single}");
        assert!(single - bytes <= 0.5, "{name}: int8 {bytes}, f32 {single}");
    }
}
