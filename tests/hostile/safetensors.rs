//! safetensors files that lie.

use super::CONSTANT;
use super::measured::{alone, peak_of};
use std::collections::HashMap;
use stridewise::formats::safetensors::{Precision, save};
use stridewise::models::init::Initializer;
use stridewise::models::{Cifar, Shortcut, WeightSource};
use stridewise::{Arch, Error, Model, SessionOptions, Tensor};

/// One block a stage: the smallest network that a file can hold.
pub const SMALL: Arch = Arch::Cifar(Cifar { blocks: 1, shortcut: Shortcut::Projection });

/// The network's tensors, changed, as the bytes of a file.
pub fn file(change: impl FnOnce(&mut Vec<(String, Tensor<f32>)>)) -> Vec<u8> {
    let mut source = Initializer::new(2);
    let parameters = SMALL.module(10).unwrap().parameters().unwrap();
    let mut tensors = parameters.iter().map(|p| (p.name.clone(), source.tensor(p).unwrap())).collect();
    change(&mut tensors);
    let file = tempfile::NamedTempFile::new().unwrap();
    save(file.path(), &tensors, Precision::F32, HashMap::new()).unwrap();
    std::fs::read(file.path()).unwrap()
}

/// A file of this header and so many bytes of zeros.
fn raw(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// Loads bytes as a file and as bytes; both must be refused, naming it, with little memory. Returns the error's text.
fn refused(bytes: &[u8], context: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.safetensors");
    std::fs::write(&path, bytes).unwrap();
    for arch in [None, Some(SMALL)] {
        let (result, peak) = peak_of(|| Model::from_safetensors_bytes(arch, bytes).map(|_| ()));
        let error = result.expect_err(context);
        assert!(error.to_string().contains("bytes in memory"), "{context}: {error}");
        // A parsed header takes some times its bytes.
        assert!(peak <= CONSTANT + 64 * bytes.len(), "{context}: {peak} bytes for a file of {}", bytes.len());
    }
    let (result, peak) = peak_of(|| Model::from_safetensors(None, &path).map(|_| ()));
    let error = result.expect_err(context);
    assert!(error.to_string().contains("hostile.safetensors"), "{context}: {error}");
    assert!(peak <= CONSTANT + 64 * bytes.len(), "{context}: {peak} bytes for a file of {}", bytes.len());
    error.to_string()
}

#[test]
fn truncated_anywhere() {
    let _alone = alone();
    let whole = file(|_| {});
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let lengths = (0..64).chain((64..header).step_by(97)).chain([header - 1, header, header + 1, whole.len() / 2, whole.len() - 1]);
    for length in lengths {
        refused(&whole[..length], &format!("cut to {length} bytes"));
    }
}

#[test]
fn headers_that_lie() {
    let _alone = alone();
    let entry = |shape: &str, offsets: &str| format!(r#"{{"conv1.weight":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
    let two = |a: &str, b: &str| {
        format!(
            r#"{{"conv1.weight":{{"dtype":"F32","shape":[1],"data_offsets":{a}}},"fc.weight":{{"dtype":"F32","shape":[1],"data_offsets":{b}}}}}"#
        )
    };
    let cases = [
        ("shape larger than its bytes", entry("[16,3,3,3]", "[0,4]"), 4),
        ("shape smaller than its bytes", entry("[1]", "[0,8]"), 8),
        ("product that overflows", entry("[18446744073709551615,18446744073709551615]", "[0,4]"), 4),
        ("product that overflows to its size", entry("[4294967296,4294967296,1]", "[0,0]"), 0),
        ("number that overflows", entry("[99999999999999999999999999]", "[0,4]"), 4),
        ("huge dimension beside a zero", entry("[9223372036854775807,0]", "[0,0]"), 0),
        ("zero dimension", entry("[0,3,3,3]", "[0,0]"), 0),
        ("negative dimension", entry("[-1]", "[0,4]"), 4),
        ("fraction", entry("[1.5]", "[0,4]"), 4),
        ("exponent", entry("[1e300]", "[0,4]"), 4),
        ("offsets in the wrong order", entry("[1]", "[4,0]"), 4),
        ("offsets behind the end", entry("[1]", "[18446744073709551611,18446744073709551615]"), 4),
        ("offset that is far away", entry("[1]", "[4611686018427387904,4611686018427387908]"), 4),
        ("hole before the data", entry("[1]", "[4,8]"), 8),
        ("overlapping tensors", two("[0,4]", "[0,4]"), 4),
        ("tensors that overlap by half", two("[0,4]", "[2,6]"), 6),
        ("hole between tensors", two("[0,4]", "[8,12]"), 12),
        (
            "one name twice",
            entry("[1]", "[0,4]").replace('}', "},\"conv1.weight\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"),
            4,
        ),
        ("unknown element type", entry("[1]", "[0,4]").replace("F32", "F99"), 4),
        ("metadata that is no text", r#"{"__metadata__":{"arch":{"a":1}}}"#.into(), 0),
        ("metadata of an unknown architecture", r#"{"__metadata__":{"arch":"resnet99999999999"}}"#.into(), 0),
        ("empty object", "{}".into(), 0),
        ("an array", "[]".into(), 0),
        ("a number", "0".into(), 0),
        ("not JSON", "\u{0}\u{0}".into(), 0),
        ("nested deep", "[".repeat(100_000), 0),
        ("objects nested deep", r#"{"a":"#.repeat(100_000), 0),
        ("nested deep in metadata", format!(r#"{{"__metadata__":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000)), 0),
        ("a name of a megabyte", entry("[1]", "[0,4]").replace("conv1", &"x".repeat(1 << 20)), 4),
    ];
    for (context, header, data) in &cases {
        refused(&raw(header, *data), context);
    }
    // A header that ends beyond the file, by a little and by all there is.
    for length in [1u64, 3, 1 << 20, 100_000_000, 100_000_001, 1 << 40, u64::MAX - 8, u64::MAX] {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(b"{}");
        refused(&bytes, &format!("a header of {length} bytes"));
    }
}

/// Names that make a network look larger than any.
#[test]
fn names_that_promise_a_huge_network() {
    let _alone = alone();
    let tensor = |name: &str, shape: &str| format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#);
    let mut blocks = vec![tensor("conv1.weight", "[64,3,7,7,0]")];
    blocks.extend((0..5000).map(|i| tensor(&format!("layer1.{i}.conv1.weight"), "[0]")));
    let mut residual = vec![tensor("conv1.weight", "[16,3,3,3,0]")];
    residual.extend((0..5000).map(|i| tensor(&format!("layer1.{i}.conv1.weight"), "[0]")));
    let vgg: Vec<String> = (0..9000).map(|i| tensor(&format!("features.{i}.weight"), "[0,1,1,1]")).collect();
    let classes = vec![tensor("conv1.weight", "[16,3,3,3,0]"), tensor("fc.weight", "[18446744073709551615,0]")];
    for (context, tensors) in [("ResNet", blocks), ("CIFAR", residual), ("VGG", vgg), ("classes", classes)] {
        refused(&raw(&format!("{{{}}}", tensors.join(",")), 0), context);
    }
    // The shapes that inference looks at, and no data behind them.
    let width = r#"{"conv1.weight":{"dtype":"F32","shape":[64,3,7,7],"data_offsets":[0,37632]},"layer1.0.conv1.weight":{"dtype":"F32","shape":[0],"data_offsets":[37632,37632]},"layer1.0.conv2.weight":{"dtype":"F32","shape":[0,65536,3,3],"data_offsets":[37632,37632]},"layer1.0.conv3.weight":{"dtype":"F32","shape":[0],"data_offsets":[37632,37632]}}"#;
    refused(&raw(width, 37632), "groups of no width");
}

#[test]
fn weights_and_statistics_that_are_no_numbers() {
    let _alone = alone();
    let set = |name: &'static str, value: f32| {
        move |tensors: &mut Vec<(String, Tensor<f32>)>| {
            tensors.iter_mut().find(|(n, _)| n == name).unwrap().1.as_mut_slice()[1] = value;
        }
    };
    for name in ["conv1.weight", "layer2.0.bn1.weight", "layer2.0.bn1.running_mean", "layer2.0.bn1.running_var", "fc.weight", "fc.bias"] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let text = refused(&file(set(name, value)), name);
            assert!(text.contains(name), "{name}: {text}");
        }
    }
    for value in [-1.0, -1e-3, -2e-5, f32::MIN] {
        let error = Model::from_safetensors_bytes(None, &file(set("layer2.0.bn1.running_var", value))).unwrap_err();
        assert!(matches!(&error, Error::Graph { .. }) && error.to_string().contains("layer2.0.bn1"), "{value}: {error}");
    }
    // A variance of nothing is what an epsilon is for.
    for value in [0.0, -0.0, f32::from_bits(1), f32::MAX] {
        let model = Model::from_safetensors_bytes(None, &file(set("layer2.0.bn1.running_var", value))).unwrap();
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let logits = session.run(&Tensor::zeros(session.input_shape()).unwrap()).unwrap();
        assert!(logits.as_slice().iter().all(|v| v.is_finite()), "{value}");
    }
    // Finite weights that are not so once a BatchNorm is folded into them name their node.
    for (name, value) in [("conv1.weight", f32::MAX), ("bn1.weight", f32::MAX), ("bn1.running_mean", f32::MAX), ("bn1.bias", f32::MAX)] {
        let folded = |tensors: &mut Vec<(String, Tensor<f32>)>| {
            set(name, value)(tensors);
            set("bn1.running_var", 0.0)(tensors);
        };
        let session = Model::from_safetensors_bytes(None, &file(folded)).and_then(|model| model.session(&SessionOptions::default()));
        match session {
            Ok(mut session) => drop(session.run(&Tensor::zeros(session.input_shape()).unwrap()).unwrap()),
            Err(error) => assert!(error.to_string().contains("conv1") || error.to_string().contains("bn1"), "{name}: {error}"),
        }
    }
}
