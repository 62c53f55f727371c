//! Weights files: every publisher's names, every precision, and what is wrong with a file said by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use stridewise::formats::safetensors::{Precision, load, save};
use stridewise::models::init::Initializer;
use stridewise::models::{Block, ResNet, WeightSource};
use stridewise::{Arch, Error, Model, SessionOptions, Shape, Tensor};

type Tensors = Vec<(String, Tensor<f32>)>;

const CIFAR: Arch = Arch::ResNet20Cifar;

/// A network's tensors, initialised.
fn tensors(arch: Arch, classes: usize) -> Tensors {
    let mut source = Initializer::new(9);
    let parameters = arch.module(classes).unwrap().parameters().unwrap();
    parameters.into_iter().map(|p| (p.name.clone(), source.tensor(&p).unwrap())).collect()
}

fn logits(model: &Model) -> Vec<f32> {
    let mut session = model.session(&SessionOptions { size: Some([32, 32]), ..Default::default() }).unwrap();
    let mut x = Tensor::zeros(session.input_shape()).unwrap();
    x.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 17) as f32 / 8.0 - 1.0);
    session.run(&x).unwrap().as_slice().to_vec()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn write(&self, tensors: &Tensors) -> PathBuf {
        let path = self.0.path().join("w.safetensors");
        save(&path, tensors, Precision::F32, HashMap::new()).unwrap();
        path
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn error(path: &Path) -> Error {
    Model::from_safetensors(CIFAR, path).unwrap_err()
}

#[test]
fn files_of_every_precision_load_and_differ_by_their_rounding_alone() {
    let folder = Folder::new();
    let list = tensors(CIFAR, 10);
    let expected = logits(&Model::random(CIFAR, 9).unwrap());
    let scale = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    for (precision, tolerance) in [(Precision::F32, 0.0), (Precision::F16, 3e-3), (Precision::BF16, 3e-2)] {
        let path = folder.0.path().join("w.safetensors");
        save(&path, &list, precision, HashMap::new()).unwrap();
        let found = logits(&Model::from_safetensors(None, &path).unwrap());
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= tolerance * scale, "{precision:?}: {a} instead of {b}");
        }
    }
}

#[test]
fn bytes_in_memory_load_as_the_file_does() {
    let folder = Folder::new();
    let path = folder.write(&tensors(CIFAR, 10));
    let bytes = std::fs::read(&path).unwrap();
    let expected = logits(&Model::from_safetensors(CIFAR, &path).unwrap());
    assert_eq!(logits(&Model::from_safetensors_bytes(None, &bytes).unwrap()), expected);
    let error = Model::from_safetensors_bytes(None, &bytes[..100]).unwrap_err().to_string();
    assert!(error.contains("bytes in memory"), "{error}");
}

#[test]
fn the_architecture_and_the_number_of_classes_come_from_the_file() {
    let folder = Folder::new();
    for (arch, classes) in
        [(CIFAR, 7), (Arch::ResNet18, 3), (Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 2, 1, 1]).with_groups(4, 8)), 11)]
    {
        let loaded = load(None, &folder.write(&tensors(arch, classes))).unwrap();
        assert_eq!(loaded.arch, arch);
        assert_eq!(logits(&Model::from_graph(loaded.graph).unwrap()).len(), classes);
    }
    // The metadata's name goes before inference: a plain network has option A's names and shapes.
    let path = folder.0.path().join("plain.safetensors");
    let metadata = HashMap::from([("arch".to_string(), "plain20-cifar10".to_string())]);
    save(&path, &tensors(Arch::Plain20Cifar, 10), Precision::F32, metadata).unwrap();
    assert_eq!(load(None, &path).unwrap().arch, Arch::Plain20Cifar);
    assert_eq!(load(Some(Arch::ResNet20CifarA), &path).unwrap().arch, Arch::ResNet20CifarA);
    save(&path, &[], Precision::F32, HashMap::from([("arch".to_string(), "resnet51".to_string())])).unwrap();
    let error = load(None, &path).err().unwrap().to_string();
    assert!(error.contains("`resnet51`, named by the metadata of") && error.contains("plain.safetensors"), "{error}");
}

#[test]
fn hugging_face_names_load() {
    let folder = Folder::new();
    let arch = Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1]));
    let theirs = |name: &str| -> String {
        let (module, tensor) = name.rsplit_once('.').unwrap();
        let parts: Vec<&str> = module.split('.').collect();
        let layer = |s: &str| s.strip_prefix("layer").unwrap().parse::<usize>().unwrap() - 1;
        match parts[..] {
            ["conv1"] => format!("resnet.embedder.embedder.convolution.{tensor}"),
            ["bn1"] => format!("resnet.embedder.embedder.normalization.{tensor}"),
            ["fc"] => format!("classifier.1.{tensor}"),
            [stage, block, "downsample", index] => {
                let module = if index == "0" { "convolution" } else { "normalization" };
                format!("resnet.encoder.stages.{}.layers.{block}.shortcut.{module}.{tensor}", layer(stage))
            }
            [stage, block, inner] => {
                let module = if inner.starts_with("conv") { "convolution" } else { "normalization" };
                let index = inner.trim_start_matches(char::is_alphabetic).parse::<usize>().unwrap() - 1;
                format!("resnet.encoder.stages.{}.layers.{block}.layer.{index}.{module}.{tensor}", layer(stage))
            }
            _ => panic!("{name}"),
        }
    };
    let list = tensors(arch, 10);
    let renamed = list.iter().map(|(name, tensor)| (theirs(name), tensor.clone())).collect();
    let expected = logits(&Model::from_safetensors(arch, folder.write(&list)).unwrap());
    assert_eq!(logits(&Model::from_safetensors(None, folder.write(&renamed)).unwrap()), expected);
}

#[test]
fn counters_of_batches_are_ignored_and_other_spellings_accepted() {
    let folder = Folder::new();
    let list = tensors(CIFAR, 10);
    let expected = logits(&Model::random(CIFAR, 9).unwrap());
    let mut renamed: Tensors = list
        .iter()
        .map(|(name, t)| (format!("module.{}", name.replace("downsample", "shortcut").replace("fc.", "linear.")), t.clone()))
        .collect();
    renamed.push(("module.bn1.num_batches_tracked".into(), Tensor::zeros(Shape::new(&[]).unwrap()).unwrap()));
    assert_eq!(logits(&Model::from_safetensors(None, folder.write(&renamed)).unwrap()), expected);
}

#[test]
fn one_error_lists_all_missing_unexpected_and_misshaped_tensors() {
    let folder = Folder::new();
    let mut list = tensors(CIFAR, 10);
    list.retain(|(name, _)| name != "layer1.0.conv1.weight" && name != "bn1.bias");
    list.push(("extra.weight".into(), Tensor::zeros(Shape::new(&[2, 3]).unwrap()).unwrap()));
    for (name, tensor) in &mut list {
        if name == "layer3.2.bn2.weight" {
            *tensor = Tensor::zeros(Shape::new(&[63]).unwrap()).unwrap();
        }
    }
    let error = error(&folder.write(&list));
    let Error::Weights(mismatch) = &error else { panic!("{error}") };
    let names = |list: &[(String, Vec<usize>)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&mismatch.missing), ["bn1.bias", "layer1.0.conv1.weight"]);
    assert_eq!(mismatch.unexpected, [("extra.weight".to_string(), vec![2, 3])]);
    assert_eq!(mismatch.misshaped, [("layer3.2.bn2.weight".to_string(), vec![64], vec![63])]);
    let text = error.to_string();
    for part in ["w.safetensors", "2 missing", "layer1.0.conv1.weight", "[16, 16, 3, 3]", "extra.weight", "expected [64], found [63]"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn another_architecture_than_the_files_is_an_error() {
    let folder = Folder::new();
    let path = folder.write(&tensors(CIFAR, 10));
    let error = Model::from_safetensors(Arch::ResNet50, &path).unwrap_err();
    assert!(matches!(error, Error::Weights(_)) && error.to_string().contains("resnet50"), "{error}");
}

#[test]
fn a_weight_that_is_not_finite_is_named() {
    let folder = Folder::new();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut list = tensors(CIFAR, 10);
        list.iter_mut().find(|(name, _)| name == "layer2.1.conv2.weight").unwrap().1.as_mut_slice()[5] = value;
        let error = error(&folder.write(&list));
        let Error::NonFinite { tensor, index: 5, .. } = &error else { panic!("{error}") };
        assert_eq!(tensor, "layer2.1.conv2.weight");
        assert!(error.to_string().contains("w.safetensors"), "{error}");
    }
}

#[test]
fn a_negative_batch_norm_variance_is_named() {
    let folder = Folder::new();
    let mut list = tensors(CIFAR, 10);
    list.iter_mut().find(|(name, _)| name == "layer2.1.bn2.running_var").unwrap().1.as_mut_slice()[3] = -1.0;
    let error = error(&folder.write(&list)).to_string();
    assert!(error.contains("layer2.1.bn2") && error.contains("channel 3"), "{error}");
}

#[test]
fn damaged_files_are_refused_with_their_path() {
    let folder = Folder::new();
    let whole = std::fs::read(folder.write(&tensors(CIFAR, 10))).unwrap();
    let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for length in [0, 1, 7, 8, 9, 8 + header / 2, 8 + header, whole.len() - 1] {
        let error = error(&folder.bytes("cut.safetensors", &whole[..length]));
        assert!(matches!(error, Error::Format { .. }) && error.to_string().contains("cut.safetensors"), "{length}: {error}");
    }
    let mut lying = whole.clone();
    lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut garbled = whole.clone();
    garbled[8..40].fill(b'{');
    let mut longer = whole.clone();
    longer.extend([0; 100]);
    for bytes in [lying, garbled, longer, vec![0xff; 4096]] {
        assert!(matches!(error(&folder.bytes("bad.safetensors", &bytes)), Error::Format { .. }));
    }
    assert!(matches!(error(&folder.0.path().join("absent.safetensors")), Error::Io { .. }));
    assert!(matches!(error(folder.0.path()), Error::Io { .. }));
}

#[test]
fn headers_that_lie_are_refused() {
    let folder = Folder::new();
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.resize(bytes.len() + data, 0);
        folder.bytes("lie.safetensors", &bytes)
    };
    for header in [
        r#"{"conv1.weight":{"dtype":"F32","shape":[16,3,3,3],"data_offsets":[0,4]}}"#,
        r#"{"conv1.weight":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,4]}}"#,
        r#"{"conv1.weight":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"conv1.weight":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"[]"#,
    ] {
        let error = Model::from_safetensors(None, file(header, 4)).unwrap_err();
        assert!(matches!(error, Error::Format { .. }), "{header}: {error}");
    }
    // Valid files that hold no network.
    for header in ["{}", r#"{"conv1.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#] {
        let error = Model::from_safetensors(None, file(header, if header == "{}" { 0 } else { 4 })).unwrap_err();
        assert!(matches!(error, Error::Arch { .. }), "{header}: {error}");
        assert!(error.to_string().contains("resnet50") && error.to_string().contains("lie.safetensors"), "{header}: {error}");
    }
}

#[test]
fn integer_tensors_are_refused_by_name_and_type() {
    let folder = Folder::new();
    let arch = CIFAR;
    let mut header = serde_json::Map::new();
    let mut offset = 0;
    for p in arch.module(10).unwrap().parameters().unwrap() {
        let bytes = p.shape.elements() * 4;
        let entry = serde_json::json!({"dtype": "I32", "shape": p.shape.dims(), "data_offsets": [offset, offset + bytes]});
        header.insert(p.name, entry);
        offset += bytes;
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + offset, 0);
    let error = error(&folder.bytes("i32.safetensors", &bytes));
    assert!(matches!(&error, Error::DType { found, .. } if found == "I32"), "{error}");
    assert!(error.to_string().contains("i32.safetensors") && error.to_string().contains("weight"), "{error}");
}

#[test]
fn a_pickle_gets_the_line_of_python_that_converts_it() {
    let folder = Folder::new();
    for (name, bytes) in [("resnet50.pth", &b"PK\x03\x04rest"[..]), ("old.pt", b"\x80\x02rest"), ("zip.safetensors", b"PK\x03\x04")] {
        let text = error(&folder.bytes(name, bytes)).to_string();
        assert!(text.contains("python -c") && text.contains("save_file") && text.contains(name), "{text}");
    }
}

/// What a shell hands to Python: the code in one piece, and both paths as they are.
#[cfg(unix)]
#[test]
fn the_line_of_python_survives_the_shell() {
    let folder = Folder::new();
    let path = folder.bytes("it's $HOME \"and\" more.pth", b"PK\x03\x04rest");
    let text = error(&path).to_string();
    let (_, arguments) = text.split_once("python ").unwrap();
    let output = std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {arguments}")]).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = printed.lines().collect();
    assert_eq!(words.len(), 4, "{printed}");
    assert!(words[0] == "-c" && words[1].contains("torch.load(sys.argv[1], map_location='cpu'"), "{printed}");
    let (from, to) = (path.display().to_string(), path.with_extension("safetensors").display().to_string());
    assert_eq!(words[2..], [from.as_str(), to.as_str()]);
}

#[test]
fn what_cannot_be_written_leaves_nothing_behind() {
    let folder = Folder::new();
    let path = folder.0.path().join("no such folder").join("w.safetensors");
    let list = tensors(CIFAR, 10);
    assert!(matches!(save(&path, &list, Precision::F32, HashMap::new()), Err(Error::Io { .. })));
    let mut large = list;
    large[0].1.as_mut_slice()[0] = 1e6;
    let path = folder.0.path().join("w.safetensors");
    let error = save(&path, &large, Precision::F16, HashMap::new()).unwrap_err();
    assert!(error.to_string().contains("conv1.weight"), "{error}");
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_replaced_does_no_harm_and_one_that_is_written_to_is_refused() {
    let folder = Folder::new();
    // Wide enough for weights that are read when a session packs them.
    let arch = Arch::ResNet(ResNet::new(Block::Basic, [1, 1, 1, 1]));
    let list = tensors(arch, 10);
    let path = folder.write(&list);
    let expected = logits(&Model::from_safetensors(arch, &path).unwrap());

    let model = Model::from_safetensors(arch, &path).unwrap();
    let mut other = tensors(arch, 10);
    other.iter_mut().for_each(|(_, t)| t.as_mut_slice().iter_mut().for_each(|v| *v *= 0.5));
    assert_eq!(folder.write(&other), path);
    assert_eq!(logits(&model), expected, "replaced");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(logits(&Model::from_safetensors(arch, folder.write(&list)).unwrap()), expected);

    let model = Model::from_safetensors(arch, &path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes.len() as u64 / 2).unwrap();
    let error = model.session(&SessionOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Io { .. } | Error::Format { .. }) && error.to_string().contains("w.safetensors"), "{error}");
}

#[test]
fn weights_that_a_batch_norm_makes_infinite_are_named() {
    let folder = Folder::new();
    let mut list = tensors(CIFAR, 10);
    let mut fill = |name: &str, value: f32| list.iter_mut().find(|(n, _)| n == name).unwrap().1.as_mut_slice().fill(value);
    fill("layer1.0.conv2.weight", 1e30);
    fill("layer1.0.bn2.weight", 1e30);
    let model = Model::from_safetensors(CIFAR, folder.write(&list)).unwrap();
    let error = model.session(&SessionOptions::default()).unwrap_err().to_string();
    assert!(error.contains("layer1.0.conv2") && error.contains("channel 0"), "{error}");
}
