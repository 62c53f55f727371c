//! Per-layer activations of small networks against PyTorch's, which `tools/make_golden.py` computed in float64. The weights are
//! in no file: both sides make them from the tensors' names, by the rule in that script.

use std::collections::HashMap;
use stridewise::models::{Parameter, WeightSource};
use stridewise::{Arch, Isa, Model, Numerics, Result, SessionOptions, Shape, Tensor, Threads};

/// Uniform in [0, 1) with 24 bits, from a name and an index.
fn unit(seed: u64, index: u64) -> f32 {
    let mut z = seed.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    (z >> 40) as f32 / (1u64 << 24) as f32
}

fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

fn generate(name: &str, shape: Shape, value: impl Fn(f32) -> f32) -> Tensor<f32> {
    let mut tensor = Tensor::zeros(shape).unwrap();
    let seed = fnv1a(name);
    tensor.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = value(unit(seed, i as u64)));
    tensor
}

struct FromNames;

impl WeightSource for FromNames {
    fn tensor(&mut self, parameter: &Parameter) -> Result<Tensor<f32>> {
        let (name, dims) = (parameter.name.as_str(), parameter.shape.dims());
        let make = |value: &dyn Fn(f32) -> f32| generate(name, parameter.shape, value);
        Ok(if dims.len() > 1 {
            let fan_in: usize = dims[1..].iter().product();
            let scale = (6.0 / fan_in as f64).sqrt() as f32;
            make(&|u| (2.0 * u - 1.0) * scale)
        } else if name.ends_with(".running_var") || name.ends_with(".weight") {
            make(&|u| 0.5 + u)
        } else {
            make(&|u| (u - 0.5) * 0.2)
        })
    }
}

/// The fixture's tensors, and its metadata.
fn read(name: &str) -> (HashMap<String, Tensor<f32>>, HashMap<String, String>) {
    let path = format!("{}/tests/golden/networks/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let taps = file.iter().map(|(name, view)| {
        let values: Vec<f32> = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        (name.to_string(), Tensor::from_slice(Shape::new(view.shape()).unwrap(), &values).unwrap())
    });
    (taps.collect(), header.metadata().clone().unwrap())
}

/// The largest difference over the largest reference value.
fn error(found: &Tensor<f32>, expected: &Tensor<f32>) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let scale = expected.as_slice().iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
    let pairs = found.as_slice().iter().zip(expected.as_slice());
    pairs.fold(0f64, |m, (a, b)| m.max((f64::from(*a) - f64::from(*b)).abs())) / scale
}

/// How much more than PyTorch's own float32 a layer may err against the same reference, and the least that is allowed (the
/// reference itself is rounded to float32).
fn bound(numerics: Numerics, theirs: f64) -> f64 {
    match numerics {
        Numerics::Exact => 2e-6f64.max(1.5 * theirs),
        _ => 4e-6f64.max(3.0 * theirs),
    }
}

fn check(fixture: &str, arch: Arch) {
    let (taps, metadata) = read(fixture);
    let theirs: HashMap<String, f64> = serde_json::from_str(&metadata["float32_error"]).unwrap();
    let dims: Vec<usize> = serde_json::from_str(&metadata["input"]).unwrap();
    let x = generate("input", Shape::new(&dims).unwrap(), |u| (2.0 * u - 1.0) * 2.0);
    let classes: usize = metadata["classes"].parse().unwrap();
    let model = Model::from_graph(arch.graph(classes, &mut FromNames).unwrap()).unwrap();
    for (&isa, numerics) in Isa::available().iter().flat_map(|isa| [(isa, Numerics::Exact), (isa, Numerics::Fast)]) {
        let options = SessionOptions { isa: Some(isa), numerics, threads: Threads::Count(2), ..Default::default() };
        let mut session = model.session(&options).unwrap();
        let mut seen = 0;
        let mut worst = (0f64, String::new());
        session
            .run_with_taps(&x, &mut |name, value| {
                let Some(expected) = taps.get(name) else { return };
                let (ours, theirs) = (error(&value, expected), theirs[name]);
                assert!(
                    ours <= bound(numerics, theirs),
                    "{fixture} on {isa}, {numerics}, {name}: off by {ours:.2e}; PyTorch by {theirs:.2e}"
                );
                seen += 1;
                if ours > worst.0 {
                    worst = (ours, name.to_string());
                }
            })
            .unwrap();
        assert_eq!(seen, taps.len(), "{fixture} on {isa}, {numerics}: values of the fixture that no step writes");
        println!("{fixture} on {isa}, {numerics}: {seen} values, largest error {:.2e} at {}", worst.0, worst.1);
    }
}

#[test]
fn resnet18_equals_pytorch_at_every_layer() {
    check("resnet18", Arch::ResNet18);
}

#[test]
fn resnet50_equals_pytorch_at_every_layer() {
    check("resnet50", Arch::ResNet50);
}

#[test]
fn resnext50_32x4d_equals_pytorch_at_every_layer() {
    check("resnext50_32x4d", Arch::ResNext50_32x4d);
}

#[test]
fn vgg11_bn_equals_pytorch_at_every_layer() {
    check("vgg11_bn", Arch::Vgg11Bn);
}

#[test]
fn mobilenet_v2_equals_pytorch_at_every_layer() {
    check("mobilenet_v2", Arch::MobileNetV2);
}

#[test]
fn cifar_resnet20_option_a_equals_pytorch_at_every_layer() {
    check("cifar_resnet20_option_a", Arch::ResNet20CifarA);
}

#[test]
fn cifar_resnet20_option_b_equals_pytorch_at_every_layer() {
    check("cifar_resnet20_option_b", Arch::ResNet20Cifar);
}

#[test]
fn cifar_plain20_equals_pytorch_at_every_layer() {
    check("cifar_plain20", Arch::Plain20Cifar);
}
