//! Networks in bfloat16 and in bytes: close to themselves in f32, and the same bits wherever that is promised.
#![cfg(all(feature = "bf16", feature = "int8"))]

use stridewise::graph::{Activation, ConvAttributes, Graph, Op, PoolAttributes};
use stridewise::quantize::{Calibrator, Method, Quantization};
use stridewise::{Arch, Isa, Model, Precision, SessionOptions, Shape, Tensor};

fn noise(seed: u64, shape: &[usize]) -> Tensor<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::from_slice(Shape::new(shape).unwrap(), &values).unwrap()
}

/// Convolutions of every kind, a residual, a sum of its own, pools, a flattened image and a linear layer.
fn mixed_network() -> Model {
    let mut graph = Graph::new("mixed", 3, [24, 20]);
    let conv = |seed, shape: [usize; 4], stride, pad, groups, activation| Op::Conv {
        weight: noise(seed, &shape).into(),
        bias: Some(noise(seed + 100, &shape[..1]).into()),
        attributes: ConvAttributes { stride: [stride; 2], pads: [pad; 4], groups, ..ConvAttributes::default() },
        activation,
    };
    let pool = PoolAttributes { kernel: [3, 3], stride: [2, 2], pads: [1; 4], ceil_mode: false };
    let input = graph.input().value;
    let stem = graph.add("stem", conv(1, [40, 3, 3, 3], 1, 1, 1, Activation::Relu), &[input]).unwrap();
    let pooled = graph.add("pool", Op::MaxPool(pool.clone()), &[stem]).unwrap();
    let depthwise = graph.add("depthwise", conv(2, [40, 1, 3, 3], 1, 1, 40, Activation::Clamp(0.0, 6.0)), &[pooled]).unwrap();
    let linear = graph.add("linear", conv(3, [40, 40, 1, 1], 1, 0, 1, Activation::None), &[depthwise]).unwrap();
    let residual = graph.add("residual", conv(4, [40, 40, 3, 3], 1, 1, 1, Activation::Relu), &[linear, pooled]).unwrap();
    let branch = graph.add("branch", conv(5, [40, 10, 3, 3], 1, 1, 4, Activation::None), &[residual]).unwrap();
    // Both are read elsewhere, so that the sum is fused into neither; the next one is, and has this one for its residual.
    let sum = graph.add("sum", Op::Add(Activation::Relu), &[pooled, linear]).unwrap();
    let join = graph.add("join", Op::Add(Activation::Relu), &[branch, sum]).unwrap();
    let mean = graph.add("mean", Op::AveragePool { pool, count_include_pad: true }, &[join]).unwrap();
    let wide = graph.add("wide", conv(6, [96, 40, 1, 1], 2, 0, 1, Activation::Relu), &[mean]).unwrap();
    let flat = graph.add("flatten", Op::Flatten, &[wide]).unwrap();
    let (weight, bias) = (noise(7, &[11, 96 * 9]).into(), Some(noise(8, &[11]).into()));
    let gemm = graph.add("gemm", Op::Gemm { weight, bias, activation: Activation::None }, &[flat]).unwrap();
    graph.set_outputs(&[gemm]);
    Model::from_graph(graph).unwrap()
}

fn calibrated(model: &Model, images: &Tensor<f32>, method: Method) -> Quantization {
    let mut calibrator = Calibrator::default();
    calibrator.observe("input", images);
    let mut session = model.session(&SessionOptions { batch: images.dims()[0], ..Default::default() }).unwrap();
    session.run_with_taps(images, &mut |name, value| calibrator.observe(name, &value)).unwrap();
    calibrator.finish(method)
}

/// Signal over error in decibels.
fn sqnr(reference: &[f32], found: &[f32]) -> f64 {
    let energy = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = energy(&mut reference.iter().zip(found).map(|(r, f)| f64::from(*r) - f64::from(*f)));
    10.0 * (energy(&mut reference.iter().map(|r| f64::from(*r))) / error.max(1e-30)).log10()
}

fn run(model: &Model, images: &Tensor<f32>, precision: Precision, threads: usize, isa: Option<Isa>) -> Tensor<f32> {
    let (batch, threads) = (images.dims()[0], threads.into());
    model.session(&SessionOptions { batch, threads, precision, isa, ..Default::default() }).unwrap().run(images).unwrap()
}

#[test]
fn networks_in_bf16_and_int8_are_close_to_f32() {
    for (model, size) in [(mixed_network(), [24, 20]), (Model::random(Arch::ResNet20Cifar, 3).unwrap(), [32, 32])] {
        let images = noise(9, &[4, 3, size[0], size[1]]);
        let exact = run(&model, &images, Precision::F32, 1, None);
        let mut halves = f64::INFINITY;
        for &isa in Isa::available() {
            halves = halves.min(sqnr(exact.as_slice(), run(&model, &images, Precision::Bf16, 1, Some(isa)).as_slice()));
        }
        assert!((35.0..70.0).contains(&halves), "{model:?} in bf16: {halves} dB");
        for method in [Method::MinMax, Method::Percentile(0.9999), Method::Mse] {
            let quantized = model.with_quantization(calibrated(&model, &images, method));
            let bytes = sqnr(exact.as_slice(), run(&quantized, &images, Precision::Int8, 1, None).as_slice());
            println!("{model:?}: bf16 {halves:.1} dB, int8 by {method} {bytes:.1} dB");
            assert!(bytes > 18.0, "{model:?} in int8 by {method}: {bytes} dB");
        }
    }
}

#[test]
fn int8_results_are_bitwise_equal_for_any_threads_and_isa() {
    for (model, size) in [(mixed_network(), [24, 20]), (Model::random(Arch::ResNet20Cifar, 3).unwrap(), [32, 32])] {
        let images = noise(10, &[2, 3, size[0], size[1]]);
        let quantized = model.with_quantization(calibrated(&model, &images, Method::MinMax));
        let first = run(&quantized, &images, Precision::Int8, 1, Some(Isa::Portable));
        for &isa in Isa::available() {
            for threads in [1, 3] {
                let other = run(&quantized, &images, Precision::Int8, threads, Some(isa));
                assert!(first.as_slice() == other.as_slice(), "{model:?} on {isa} with {threads} threads");
            }
        }
    }
}

#[test]
fn bf16_results_are_bitwise_equal_for_any_number_of_threads() {
    let model = mixed_network();
    let images = noise(11, &[2, 3, 24, 20]);
    for &isa in Isa::available() {
        let first = run(&model, &images, Precision::Bf16, 1, Some(isa));
        assert!(first.as_slice() == run(&model, &images, Precision::Bf16, 3, Some(isa)).as_slice(), "{isa}");
    }
}

/// What explain shows is what is asked for: every layer of the mixed network computes with bytes, but one that is kept in f32.
#[test]
fn plans_show_what_each_step_writes() {
    let model = mixed_network();
    let images = noise(12, &[1, 3, 24, 20]);
    let mut quantization = calibrated(&model, &images, Method::MinMax);
    let steps = |quantization: &Quantization, precision| {
        let quantized = model.with_quantization(quantization.clone());
        // Whether bf16 is used at all depends on the processor, but not in plain code.
        let session = quantized.session(&SessionOptions { precision, isa: Some(Isa::Portable), ..Default::default() }).unwrap();
        assert!(session.explain().contains(precision.name()), "{}", session.explain());
        session.steps().into_iter().map(|s| (s.name, s.op, s.layout)).collect::<Vec<_>>()
    };
    fn written(steps: &[(String, &'static str, &'static str)], name: &str) -> &'static str {
        steps.iter().find(|s| s.0 == name && s.1 != "Layout").unwrap_or_else(|| panic!("no step {name} of {steps:?}")).2
    }
    let all = steps(&quantization, Precision::Int8);
    for name in ["stem", "pool", "depthwise", "linear", "residual", "sum", "branch", "mean", "wide"] {
        assert_eq!(written(&all, name), "nchw64c-u8", "{all:?}");
    }
    assert_eq!(written(&all, "gemm"), "nchw16c");
    quantization.keep_float("linear");
    let mixed = steps(&quantization, Precision::Int8);
    assert_eq!((written(&mixed, "linear"), written(&mixed, "branch")), ("nchw16c", "nchw64c-u8"), "{mixed:?}");
    let halves = steps(&quantization, Precision::Bf16);
    assert_eq!((written(&halves, "wide"), written(&halves, "gemm")), ("nchw32c-bf16", "nchw16c"), "{halves:?}");
    assert!(steps(&quantization, Precision::F32).iter().all(|s| s.2.starts_with("nchw16c") || s.2 == "nchw"));
}

#[test]
fn a_model_without_scales_is_refused_in_int8() {
    let model = Model::random(Arch::ResNet20Cifar, 0).unwrap();
    let error = model.session(&SessionOptions { precision: Precision::Int8, ..Default::default() }).err().unwrap();
    assert!(error.to_string().contains("int8") && error.to_string().contains("stridewise quantize"), "{error}");
}

#[cfg(feature = "packed")]
#[test]
fn weights_in_bytes_are_in_no_packed_network() {
    let model = mixed_network();
    let images = noise(9, &[1, 3, 24, 20]);
    let quantized = model.with_quantization(calibrated(&model, &images, Method::MinMax));
    run(&quantized, &images, Precision::Int8, 1, None);
    let folder = tempfile::tempdir().unwrap();
    let error = quantized.save_packed(folder.path().join("bytes.swp")).unwrap_err().to_string();
    assert!(error.contains("int8") && error.contains("mixed"), "{error}");
}

/// A service that calibrates again and again does not keep every scale's weights.
#[test]
fn packed_weights_that_no_session_uses_can_be_released() {
    let model = mixed_network();
    let images = noise(14, &[1, 3, 24, 20]);
    let options = SessionOptions { precision: Precision::Int8, ..Default::default() };
    let quantized = [Method::MinMax, Method::Mse].map(|method| model.with_quantization(calibrated(&model, &images, method)));
    model.release_unused();
    assert_eq!(model.release_unused(), 0);
    let [mut first, mut second] = quantized.each_ref().map(|quantized| quantized.session(&options).unwrap());
    let expected = second.run(&images).unwrap();
    assert_eq!(model.release_unused(), 0, "a session's weights were released");
    first.run(&images).unwrap();
    drop(first);
    let released = model.release_unused();
    assert!(released > 0 && released <= second.weight_bytes(), "{released} bytes of {}", second.weight_bytes());
    assert_eq!(second.run(&images).unwrap(), expected);
    drop(second);
    assert!(model.release_unused() > 0);
    assert_eq!(quantized[1].session(&options).unwrap().run(&images).unwrap(), expected);
}

/// Taps of a session in bytes are floats close to those of f32.
#[test]
fn taps_of_narrow_sessions_are_floats() {
    let model = mixed_network();
    let images = noise(13, &[1, 3, 24, 20]);
    let quantized = model.with_quantization(calibrated(&model, &images, Method::MinMax));
    let taps = |precision| {
        let mut taps = std::collections::BTreeMap::new();
        let mut session = quantized.session(&SessionOptions { precision, ..Default::default() }).unwrap();
        session.run_with_taps(&images, &mut |name, value| drop(taps.insert(name.to_string(), value))).unwrap();
        taps
    };
    let floats = taps(Precision::F32);
    for precision in [Precision::Bf16, Precision::Int8] {
        for (name, value) in taps(precision) {
            let decibels = sqnr(floats[&name].as_slice(), value.as_slice());
            assert!(decibels > 15.0, "{precision} {name}: {decibels} dB");
        }
    }
}
