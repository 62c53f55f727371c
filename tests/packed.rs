//! Packed networks: what they give, what they refuse, and what damage does.
#![cfg(feature = "packed")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use stridewise::formats::packed::Checksums;
use stridewise::graph::{Activation, ConvAttributes, Graph, Op, PoolAttributes};
use stridewise::models::{Block, ResNet};
use stridewise::{Arch, Error, Isa, LoadOptions, Model, Numerics, SessionOptions, Shape, Tensor};
use xxhash_rust::xxh3::xxh3_64;

fn small() -> Model {
    Model::random(Arch::ResNet(ResNet::new(Block::Basic, [1, 1, 1, 1])), 0).unwrap()
}

fn options(isa: Isa, numerics: Numerics, batch: usize) -> SessionOptions {
    SessionOptions { threads: 2.into(), isa: Some(isa), numerics, batch, size: Some([64, 64]), ..Default::default() }
}

fn image(dims: &[usize]) -> Tensor<f32> {
    let mut x = Tensor::zeros(Shape::new(dims).unwrap()).unwrap();
    x.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 37) % 256) as f32 / 128.0 - 1.0);
    x
}

/// A folder, and in it a network packed for the portable kernels, for images of 64×64 and of its own size.
fn packed(model: &Model) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packed.swp");
    for size in [Some([64, 64]), None] {
        model.session(&SessionOptions { size, ..options(Isa::Portable, Numerics::Fast, 1) }).unwrap();
    }
    model.save_packed(&path).unwrap();
    (folder, path)
}

#[test]
fn a_packed_network_gives_the_bits_of_the_one_it_was_packed_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.swp");
    let model = small();
    let kinds = || {
        let numerics = [Numerics::Fast, Numerics::Exact];
        let isas = Isa::available().iter();
        isas.flat_map(move |&isa| numerics.map(|n| (isa, n))).flat_map(|(isa, n)| [1, 3].map(|batch| options(isa, n, batch)))
    };
    let run = |model: &Model, options: &SessionOptions| {
        let mut session = model.session(options).unwrap();
        session.run(&image(session.input_shape().dims())).unwrap()
    };
    let expected: Vec<_> = kinds().map(|options| run(&model, &options)).collect();
    model.save_packed(&path).unwrap();
    for checksums in [Checksums::All, Checksums::Header] {
        let mapped = Model::from_packed(&path, checksums).unwrap();
        assert_eq!(mapped.preprocessing().crop(), model.preprocessing().crop());
        for (options, expected) in kinds().zip(&expected) {
            assert_eq!(&run(&mapped, &options), expected, "{options:?}");
        }
        // What was mapped can be written again, and is the same.
        let again = folder.path().join("again.swp");
        mapped.save_packed(&again).unwrap();
        assert!(std::fs::read(&again).unwrap() == std::fs::read(&path).unwrap());
    }
    assert_eq!(run(&Model::load(None, &path).unwrap(), &options(Isa::Portable, Numerics::Fast, 1)), expected[0]);
}

#[test]
fn an_architecture_that_is_named_is_held_against_the_file() {
    let named = Model::random(Arch::ResNet20CifarA, 0).unwrap();
    named.session(&SessionOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("named.swp");
    named.save_packed(&path).unwrap();
    assert_eq!(Model::load(Arch::ResNet20CifarA, &path).unwrap().arch(), Some(Arch::ResNet20CifarA));
    // Plain-20 has the same tensors.
    for other in [Arch::ResNet18, Arch::Plain20Cifar] {
        let error = Model::load(other, &path).unwrap_err();
        assert!(matches!(error, Error::Arch { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains(&other.to_string()) && error.contains("named.swp is a packed network of resnet20a-cifar10"), "{error}");
    }
    let error = Model::load_with(&path, &LoadOptions { shapes: vec![("input".into(), vec![1, 3, 32, 32])], ..Default::default() });
    assert!(error.unwrap_err().to_string().contains("is a packed network, and only an ONNX file is read for shapes"));
    // One without a name is known by its numbers.
    let (_folder, path) = packed(&small());
    assert!(Model::load(Arch::ResNet(ResNet::new(Block::Basic, [1, 1, 1, 1])), &path).is_ok());
    let error = Model::load(Arch::ResNet(ResNet::new(Block::Basic, [1, 1, 1, 2])), &path).unwrap_err().to_string();
    assert!(error.contains("[1, 1, 1, 2]") && error.contains("[1, 1, 1, 1]"), "{error}");
    assert!(Model::load(Arch::ResNet18, &path).is_err());
}

#[cfg(feature = "bf16")]
#[test]
fn weights_of_bfloat16_are_packed_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("halves.swp");
    let model = small();
    let x = image(&[1, 3, 64, 64]);
    let in_bf16 = |isa: Isa| SessionOptions { precision: stridewise::Precision::Bf16, ..options(isa, Numerics::Fast, 1) };
    let run = |model: &Model, isa: Isa| model.session(&in_bf16(isa)).unwrap().run(&x).unwrap();
    let expected: Vec<_> = Isa::available().iter().map(|&isa| run(&model, isa)).collect();
    model.save_packed(&path).unwrap();
    let mapped = Model::from_packed(&path, Checksums::All).unwrap();
    for (&isa, expected) in Isa::available().iter().zip(&expected) {
        assert_eq!(&run(&mapped, isa), expected, "{isa}");
    }
    let error = mapped.session(&options(Isa::Portable, Numerics::Fast, 1)).unwrap_err().to_string();
    assert!(error.contains("pack the network again") && error.contains("precision"), "{error}");
    // What was mapped can be written again, and is the same.
    let again = folder.path().join("again.swp");
    mapped.save_packed(&again).unwrap();
    assert!(std::fs::read(&again).unwrap() == std::fs::read(&path).unwrap());
}

/// AVX2's, NEON's and the portable kernels' tiles are as wide as each other.
#[test]
fn one_packing_serves_every_instruction_set_of_its_tile() {
    let model = small();
    let (_folder, path) = packed(&model);
    let x = image(&[1, 3, 64, 64]);
    let expected = model.session(&options(Isa::Portable, Numerics::Fast, 1)).unwrap().run(&x).unwrap();
    for isa in [Isa::Portable, Isa::Avx2, Isa::Neon].into_iter().filter(|isa| isa.is_available()) {
        let mapped = Model::from_packed(&path, Checksums::All).unwrap();
        assert_eq!(mapped.session(&options(isa, Numerics::Fast, 1)).unwrap().run(&x).unwrap(), expected, "{isa}");
    }
}

#[test]
fn a_session_that_needs_another_packing_is_refused_with_what_it_lacks() {
    let (_folder, path) = packed(&small());
    let mapped = Model::from_packed(&path, Checksums::All).unwrap();
    let mut refused = vec![options(Isa::Portable, Numerics::Exact, 1)];
    refused.extend(Isa::Avx512.is_available().then(|| options(Isa::Avx512, Numerics::Fast, 1)));
    for options in refused {
        let error = mapped.session(&options).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Format { .. }) && text.contains("packed.swp") && text.contains("pack the network again"), "{text}");
        assert!(text.contains("Winograd") && text.contains("layer1.0.conv1") || text.contains("64 channels"), "{text}");
    }
    let model = small();
    let error = model.save_packed(path.with_file_name("none.swp")).unwrap_err();
    assert!(error.to_string().contains("no session"), "{error}");
}

/// Changes bytes of the header, and makes its checksum right again.
fn with_header(bytes: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let end = 32 + header_len(&bytes);
    change(&mut bytes[32..end]);
    let checksum = xxh3_64(&bytes[32..end]);
    bytes[24..32].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn header_len(bytes: &[u8]) -> usize {
    u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize
}

/// Loads a file and runs it as far as it lets itself be; must not panic, hang, or ask for memory without a limit.
fn try_to_run(path: &Path) -> stridewise::Result<Tensor<f32>> {
    let mapped = Model::from_packed(path, Checksums::Header)?;
    let options = SessionOptions { max_memory: 64 << 20, isa: Some(Isa::Portable), ..Default::default() };
    let mut session = mapped.session(&options)?;
    // What is larger than the network was is not worth its time.
    if session.input_shape().elements() > 1 << 12 {
        return Tensor::zeros(session.output_shape());
    }
    session.run(&image(session.input_shape().dims()))
}

/// A network of every kind of step whose whole header can be mutated byte by byte.
fn tiny() -> Model {
    let tensor = |dims: &[usize]| image(dims);
    let conv = |oc: usize, c: usize, groups: usize, activation| Op::Conv {
        weight: tensor(&[oc, c, 3, 3]).into(),
        bias: Some(Arc::new(tensor(&[oc]))),
        attributes: ConvAttributes { pads: [1; 4], groups, ..Default::default() },
        activation,
    };
    let mut graph = Graph::new("tiny", 3, [8, 8]);
    let input = graph.input().value;
    let a = graph.add("conv1", conv(16, 3, 1, Activation::Relu), &[input]).unwrap();
    let b = graph.add("conv2", conv(16, 1, 16, Activation::Clamp(0.0, f32::INFINITY)), &[a]).unwrap();
    let c = graph.add("add", Op::Add(Activation::None), &[a, b]).unwrap();
    let window = PoolAttributes { kernel: [2; 2], stride: [2; 2], pads: [0; 4], ceil_mode: true };
    let d = graph.add("pool", Op::MaxPool(window), &[c]).unwrap();
    let mean = Arc::new(tensor(&[16]));
    let mut variance = tensor(&[16]);
    variance.as_mut_slice().fill(1.5);
    let norm =
        Op::BatchNormalization { scale: mean.clone(), bias: mean.clone(), mean: mean.clone(), variance: Arc::new(variance), epsilon: 1e-5 };
    let e = graph.add("norm", norm, &[d]).unwrap();
    let f = graph.add("mean", Op::GlobalAveragePool, &[e]).unwrap();
    let g = graph.add("flatten", Op::Flatten, &[f]).unwrap();
    let weight = tensor(&[5, 16]).into();
    let h = graph.add("fc", Op::Gemm { weight, bias: None, activation: Activation::None }, &[g]).unwrap();
    let i = graph.add("softmax", Op::Softmax, &[h]).unwrap();
    graph.set_outputs(&[i]);
    Model::from_graph(graph).unwrap()
}

#[test]
fn a_mutated_header_is_refused_or_runs_and_does_nothing_worse() {
    let (folder, path) = packed(&tiny());
    let good = std::fs::read(&path).unwrap();
    let (len, mutant) = (header_len(&good), folder.path().join("mutant.swp"));
    let (mut refused, mut ran) = (0, 0);
    for at in 0..len {
        for value in [0x00, 0x7f, 0xff, good[32 + at] ^ 0x02, good[32 + at].wrapping_add(1)] {
            std::fs::write(&mutant, with_header(&good, |header| header[at] = value)).unwrap();
            match try_to_run(&mutant) {
                Ok(_) => ran += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    println!("{len} bytes: {refused} mutants refused, {ran} ran");
    assert!(refused > len);
    // Without a right checksum none is believed.
    let mut bytes = good;
    bytes[32 + len / 2] ^= 1;
    std::fs::write(&mutant, &bytes).unwrap();
    let error = Model::from_packed(&mutant, Checksums::Header).unwrap_err().to_string();
    assert!(error.contains("mutant.swp") && error.contains("checksum"), "{error}");
}

#[test]
fn damaged_weights_are_named_unless_their_checksums_are_not_wanted() {
    let (folder, path) = packed(&tiny());
    let good = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.swp");
    let mut bytes = good.clone();
    // The first weights, by name, begin at the next multiple of 64 behind the header.
    let at = (32 + header_len(&good)).next_multiple_of(64);
    bytes[at] ^= 0x40;
    std::fs::write(&damaged, &bytes).unwrap();
    let mapped = Model::from_packed(&damaged, Checksums::All).unwrap();
    let error = mapped.session(&options(Isa::Portable, Numerics::Fast, 1)).unwrap_err().to_string();
    assert!(error.contains("damaged.swp") && error.contains("`conv1`") && error.contains("checksum"), "{error}");
    try_to_run(&damaged).unwrap();
}

#[test]
fn truncated_and_foreign_files_are_refused_with_their_path() {
    let (folder, path) = packed(&tiny());
    let good = std::fs::read(&path).unwrap();
    let broken = folder.path().join("broken.swp");
    let lengths = (0..300).chain((300..good.len()).step_by(97)).chain([good.len() - 1]);
    for len in lengths {
        std::fs::write(&broken, &good[..len]).unwrap();
        let error = Model::from_packed(&broken, Checksums::All).unwrap_err().to_string();
        assert!(error.contains("broken.swp"), "{len} bytes: {error}");
    }
    for (at, what) in [(8, "version 2 of the format"), (12, "of packed weights")] {
        let mut bytes = good.clone();
        bytes[at] += 1;
        std::fs::write(&broken, &bytes).unwrap();
        let error = Model::from_packed(&broken, Checksums::All).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("pack the network again"), "{error}");
    }
    // A header that is said to be longer than the address space.
    let mut bytes = good;
    bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&broken, &bytes).unwrap();
    assert!(Model::from_packed(&broken, Checksums::All).is_err());
    std::fs::write(&broken, b"PK\x03\x04 something else altogether").unwrap();
    let error = Model::from_packed(&broken, Checksums::All).unwrap_err().to_string();
    assert!(error.contains("not a packed network"), "{error}");
    assert!(Model::from_packed(folder.path(), Checksums::All).is_err());
}

/// A file that an earlier build wrote. When the format changes, so do its version and, with STRIDEWISE_BLESS=1, the file.
#[test]
fn the_format_changes_only_with_its_version() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tiny.swp");
    let options = SessionOptions { isa: Some(Isa::Portable), ..Default::default() };
    let model = tiny();
    let x = image(&[1, 3, 8, 8]);
    let expected = model.session(&options).unwrap().run(&x).unwrap();
    if std::env::var_os("STRIDEWISE_BLESS").is_some() {
        model.save_packed(&golden).unwrap();
    }
    let mapped = Model::from_packed(&golden, Checksums::All).unwrap();
    assert_eq!(mapped.session(&options).unwrap().run(&x).unwrap(), expected);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.swp");
    model.save_packed(&path).unwrap();
    let same = std::fs::read(&path).unwrap() == std::fs::read(&golden).unwrap();
    assert!(same, "this build writes another file than tests/golden/tiny.swp: a new version is needed");
}

#[cfg(target_os = "linux")]
#[test]
fn a_mapped_network_takes_no_memory_of_its_own_for_its_weights() {
    let model = Model::random(Arch::ResNet18, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resnet18.swp");
    let options = SessionOptions::default();
    model.session(&options).unwrap();
    model.save_packed(&path).unwrap();
    drop(model);
    let anonymous = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    let before = anonymous();
    let mut session = Model::from_packed(&path, Checksums::All).unwrap().session(&options).unwrap();
    session.run(&image(&[1, 3, 224, 224])).unwrap();
    let grown = anonymous().saturating_sub(before);
    let weights = session.weight_bytes();
    assert!(weights > 40 << 20 && grown < weights / 2, "grown by {grown} bytes; the weights are {weights}");
}
