//! ONNX files that lie; more of them stand beside the reader, in `src/formats/onnx/tests.rs`.

use super::CONSTANT;
use super::measured::{alone, peak_of};
use super::mutated::two_hundred_copies;
use stridewise::{Model, OnnxOptions, SessionOptions, Tensor};

const OPTIONS: OnnxOptions = OnnxOptions { shapes: Vec::new(), max_memory: 32 << 20 };

fn sample() -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx/residual.onnx")).unwrap()
}

fn refused(bytes: &[u8], context: &str) -> String {
    let (result, peak) = peak_of(|| Model::from_onnx_bytes(bytes, &OPTIONS).map(|_| ()));
    let error = result.expect_err(context).to_string();
    assert!(error.contains("bytes in memory") || error.contains("node"), "{context}: {error}");
    assert!(peak <= CONSTANT + 64 * bytes.len(), "{context}: {peak} bytes for a file of {}", bytes.len());
    error
}

/// A field of the wire format: a length and bytes.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    varint(number << 3 | 2, &mut to);
    varint(bytes.len() as u64, &mut to);
    to.extend(bytes);
    to
}

fn integer(number: u64, value: u64) -> Vec<u8> {
    let mut to = Vec::new();
    varint(number << 3, &mut to);
    varint(value, &mut to);
    to
}

fn varint(mut value: u64, to: &mut Vec<u8>) {
    while value > 0x7f {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// A model of opset 17 around a graph.
fn model(graph: &[u8]) -> Vec<u8> {
    [integer(1, 8), field(7, graph), field(8, &integer(2, 17))].concat()
}

/// A graph `y = Add(x, c)` with this initializer.
fn with_constant(tensor: &[u8]) -> Vec<u8> {
    let node = [field(1, b"x"), field(1, b"c"), field(2, b"y"), field(4, b"Add")].concat();
    let info = |name: &[u8]| {
        let dim = field(1, &integer(1, 2));
        [field(1, name), field(2, &field(1, &[integer(1, 1), field(2, &dim)].concat()))].concat()
    };
    model(&[field(1, &node), field(5, tensor), field(11, &info(b"x")), field(12, &info(b"y"))].concat())
}

fn constant(dims: &[u64], data: &[u8]) -> Vec<u8> {
    let mut tensor: Vec<u8> = dims.iter().flat_map(|d| integer(1, *d)).collect();
    tensor.extend([integer(2, 1), field(8, b"c"), field(9, data)].concat());
    with_constant(&tensor)
}

#[test]
fn the_sample_runs_and_cut_anywhere_is_refused() {
    let _alone = alone();
    let whole = sample();
    let mut session = Model::from_onnx_bytes(&whole, &OPTIONS).unwrap().session(&SessionOptions::default()).unwrap();
    let mut x = Tensor::zeros(session.input_shape()).unwrap();
    x.as_mut_slice().fill(0.5);
    let y = session.run(&x).unwrap();
    assert!((y.as_slice().iter().sum::<f32>() - 1.0).abs() < 1e-5, "{y:?}");
    // The version of the operators stands at the end.
    for length in (0..whole.len() - 1).step_by(23) {
        refused(&whole[..length], &format!("cut to {length} bytes"));
    }
}

#[test]
fn tensors_that_lie() {
    let _alone = alone();
    assert!(Model::from_onnx_bytes(&constant(&[2], &[0; 8]), &OPTIONS).is_ok());
    for (context, dims, data) in [
        ("more elements than bytes", vec![1 << 30], 8),
        ("product that overflows", vec![1 << 40, 1 << 40], 8),
        ("product that overflows to its size", vec![1 << 32, 1 << 32], 0),
        ("negative", vec![u64::MAX], 8),
        ("zero beside a huge one", vec![0, u64::MAX >> 1], 0),
        ("too many dimensions", vec![1; 5000], 4),
        ("fewer elements than bytes", vec![1], 8),
    ] {
        refused(&constant(&dims, &vec![0; data]), context);
    }
    // Lengths that go beyond the file.
    for length in [9u64, 1 << 31, u64::MAX >> 1, u64::MAX] {
        let mut bytes = vec![0x3a];
        varint(length, &mut bytes);
        bytes.extend([0; 4]);
        refused(&bytes, &format!("a graph of {length} bytes"));
    }
    refused(&[0xff; 100], "a number without an end");
}

/// A graph in an attribute of a node of a graph in an attribute…
#[test]
fn graphs_nested_deep() {
    let _alone = alone();
    for depth in [30, 99, 1_000, 20_000] {
        let mut graph = Vec::new();
        for _ in 0..depth {
            let attribute = [field(1, b"then_branch"), field(6, &graph), integer(20, 5)].concat();
            graph = field(1, &[field(2, b"y"), field(4, b"If"), field(5, &attribute)].concat());
        }
        refused(&model(&graph), &format!("{depth} graphs deep"));
    }
}

#[test]
fn a_long_chain_of_nodes_is_no_deep_recursion() {
    let _alone = alone();
    const NODES: usize = 20_000;
    let mut graph = Vec::new();
    // Last first: what sorts them must not recurse into what each needs.
    for i in (0..NODES).rev() {
        let (from, to) =
            (if i == 0 { "x".into() } else { format!("v{i}") }, if i + 1 == NODES { "y".into() } else { format!("v{}", i + 1) });
        graph.extend(field(1, &[field(1, from.as_bytes()), field(2, to.as_bytes()), field(4, b"Abs")].concat()));
    }
    let info = |name: &[u8]| [field(1, name), field(2, &field(1, &[integer(1, 1), field(2, &field(1, &integer(1, 2)))].concat()))].concat();
    graph.extend([field(11, &info(b"x")), field(12, &info(b"y"))].concat());
    if let Err(error) = Model::from_onnx_bytes(&model(&graph), &OPTIONS) {
        assert!(error.to_string().contains("bytes in memory") || error.to_string().contains("node"), "{error}");
    }
}

#[test]
fn two_hundred_copies_of_an_onnx_file() {
    let _alone = alone();
    let file = sample();
    two_hundred_copies(&file, file.len(), "mutated.onnx", |path| Model::from_onnx_with(path, &OPTIONS));
}
