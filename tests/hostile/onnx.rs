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

/// An input of a graph, or with `number` 12 an output, of f32.
fn info(number: u64, name: &str, dims: &[u64]) -> Vec<u8> {
    let shape: Vec<u8> = dims.iter().flat_map(|dim| field(1, &integer(1, *dim))).collect();
    field(number, &[field(1, name.as_bytes()), field(2, &field(1, &[integer(1, 1), field(2, &shape)].concat()))].concat())
}

/// A node of a graph; `attributes` are encoded.
fn node(name: &str, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[u8]) -> Vec<u8> {
    let mut node: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
    node.extend(outputs.iter().flat_map(|output| field(2, output.as_bytes())));
    node.extend([field(3, name.as_bytes()), field(4, op.as_bytes()), attributes.to_vec()].concat());
    field(1, &node)
}

/// An initializer without its elements, which `data` are.
fn tensor(name: &str, ty: u64, dims: &[u64], data: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|dim| integer(1, *dim)).collect();
    field(5, &[dims, integer(2, ty), field(8, name.as_bytes()), data.to_vec()].concat())
}

/// A graph `y = Add(x, c)` with this initializer.
fn with_constant(tensor: &[u8]) -> Vec<u8> {
    model(&[node("", "Add", &["x", "c"], &["y"], &[]), tensor.to_vec(), info(11, "x", &[2]), info(12, "y", &[2])].concat())
}

fn constant(dims: &[u64], data: &[u8]) -> Vec<u8> {
    with_constant(&tensor("c", 1, dims, &field(9, data)))
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
        graph.extend(node("", "Abs", &[&from], &[&to], &[]));
    }
    graph.extend([info(11, "x", &[2]), info(12, "y", &[2])].concat());
    if let Err(error) = Model::from_onnx_bytes(&model(&graph), &OPTIONS) {
        assert!(error.to_string().contains("bytes in memory") || error.to_string().contains("node"), "{error}");
    }
}

/// Most bytes of constants in what follows.
const BUDGET: usize = 1 << 20;

/// Reads a model around `y = Relu(x)` and more; it asks for no more than a small multiple of the file and of the budget.
fn within_budget(context: &str, more: &[u8], x: &[u64]) -> stridewise::Result<Model> {
    let graph = [more, &node("", "Relu", &["x"], &["y"], &[]), &info(11, "x", x), &info(12, "y", x)].concat();
    let bytes = model(&graph);
    let options = OnnxOptions { shapes: Vec::new(), max_memory: BUDGET };
    let (result, peak) = peak_of(|| Model::from_onnx_bytes(&bytes, &options));
    assert!(peak <= CONSTANT + 8 * bytes.len() + 4 * BUDGET, "{context}: {peak} bytes for a file of {}", bytes.len());
    result
}

/// Nodes `n{i}` that all read the same.
fn readers(count: usize, op: &str, inputs: &[&str], attributes: &[u8]) -> Vec<u8> {
    (0..count).flat_map(|i| node("", op, inputs, &[&format!("n{i}")], attributes)).collect()
}

#[test]
fn a_constant_that_many_nodes_read_is_made_once() {
    let _alone = alone();
    const C: u64 = 1 << 14;
    // Of typed data, which does not stay in the file, and of raw data, which does.
    let typed = |name: &str, dims: &[u64]| tensor(name, 1, dims, &field(4, &[0; 4 << 14]));
    let raw = |name: &str, dims: &[u64]| tensor(name, 1, dims, &field(9, &[0; 4 << 14]));
    let statistics: Vec<u8> = ["s", "b", "m", "v"].iter().flat_map(|name| raw(name, &[C])).collect();
    for (op, inputs, constants, x) in [
        ("Max", &["x", "c"][..], raw("c", &[1, C, 1, 1]), [1, C, 1, 1].to_vec()),
        ("Conv", &["x", "w", "b"], [typed("w", &[C, 1, 1, 1]), raw("b", &[C])].concat(), vec![1, 1, 1, 1]),
        ("Gemm", &["x", "w", "b"], [raw("w", &[C, 1]), raw("b", &[1, C])].concat(), vec![1, 1]),
        ("BatchNormalization", &["x", "s", "b", "m", "v"], statistics, vec![1, C, 1, 1]),
    ] {
        let transposed = if op == "Gemm" { field(5, &[field(1, b"transB"), integer(3, 1)].concat()) } else { Vec::new() };
        within_budget(op, &[constants, readers(400, op, inputs, &transposed)].concat(), &x).unwrap();
    }
}

#[test]
fn constants_are_held_against_the_limit_wherever_they_are_made() {
    let _alone = alone();
    const N: u64 = 1 << 18;
    let number = |name: &str, value: u64| tensor(name, 7, &[], &field(9, &value.to_le_bytes()));
    let numbers = [number("zero", 0), number("one", 1), number("most", 1 << 25)].concat();
    let bytes = [tensor("c", 2, &[N], &field(5, &[1; N as usize])), tensor("s", 1, &[], &field(9, &1f32.to_le_bytes()))].concat();
    let nothing = tensor("c", 7, &[0, 1 << 25], &[]);
    let to = |ty: u64| field(5, &[field(1, b"to"), integer(3, ty)].concat());
    let sum = field(5, &[field(1, b"axes"), integer(8, 0)].concat());
    let one = ["c", "w"].iter().flat_map(|name| tensor(name, 1, &[1; 4], &field(9, &[0; 4]))).collect::<Vec<u8>>();
    let list = |name: &str, values: &[u64]| {
        field(5, &[field(1, name.as_bytes()), values.iter().flat_map(|value| integer(8, *value)).collect()].concat())
    };
    // Padded to 4001 × 4001.
    let padded = [list("pads", &[2000; 4]), list("strides", &[4001; 2])].concat();
    let masks: Vec<u8> = (0..20).flat_map(|i| node("", "Dropout", &["x"], &[&format!("d{i}"), &format!("m{i}")], &[])).collect();
    for (context, more) in [
        ("Range", [&numbers, &readers(1, "Range", &["zero", "most", "one"], &[])[..]].concat()),
        ("Dropout", masks),
        ("Cast", [&bytes, &readers(40, "Cast", &["c"], &to(7))[..]].concat()),
        ("Cast", [&bytes, &readers(40, "Cast", &["c"], &to(1))[..]].concat()),
        ("DequantizeLinear", [&bytes, &readers(400, "DequantizeLinear", &["c", "s"], &[])[..]].concat()),
        ("Conv", [&one, &readers(1, "Conv", &["c", "w"], &padded)[..]].concat()),
        ("ReduceMax", [nothing, readers(1, "ReduceMax", &["c"], &sum)].concat()),
    ] {
        let error = within_budget(context, &more, &[1, 1 << 18]).map(|_| ()).expect_err(context).to_string();
        assert!(error.contains("node") && error.contains(context) && error.contains("max_memory"), "{error}");
    }
}

#[test]
fn dimensions_and_names_of_a_node_are_not_multiplied_by_the_ops_that_it_becomes() {
    let _alone = alone();
    let ones: Vec<u8> = (0..5000).flat_map(|axis| integer(8, axis)).collect();
    let mut deep = tensor("c", 1, &[], &field(9, &[0; 4]));
    deep.extend(node("deep", "Unsqueeze", &["c"], &["u"], &field(5, &[field(1, b"axes"), ones].concat())));
    deep.extend((0..1000).flat_map(|i| node("", "Identity", &["u"], &[&format!("i{i}")], &[])));
    let bytes = model(&[deep, node("", "Add", &["x", "u"], &["y"], &[]), info(11, "x", &[1]), info(12, "y", &[1])].concat());
    let error = refused(&bytes, "5000 dimensions");
    assert!(error.contains("Unsqueeze `deep`") && error.contains("5000 dimensions"), "{error}");

    let name = "é".repeat(30_000);
    let parts: Vec<String> = (0..500).map(|i| format!("p{i}")).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let mut long = node(&name, "Max", &["x"; 500], &["m"], &[]);
    long.extend(node(&name, "Split", &["x"], &parts, &field(5, &[field(1, b"axis"), integer(3, 1)].concat())));
    long.extend(tensor("c", 1, &[1, 500], &field(9, &[0; 2000])));
    long.extend(node(&name, "Sum", &[&["x"][..], &["c"; 500]].concat(), &["s"], &[]));
    within_budget("a long name", &long, &[1, 500]).unwrap();
}

/// Groups are skipped with what they hold, and what comes behind them is decoded.
#[test]
fn what_could_not_be_counted_behind_it_is_refused() {
    let _alone = alone();
    let tag = |kind: u64| {
        let mut tag = Vec::new();
        varint(1000 << 3 | kind, &mut tag);
        tag
    };
    for (context, start) in [
        ("is a group", [tag(3), tag(4)].concat()),
        ("is a group", tag(4)),
        ("of no known type", tag(6)),
        ("of no known type", tag(7)),
        ("has no end", vec![0xff; 11]),
        ("is cut off", [tag(0), vec![0xff; 11]].concat()),
    ] {
        for start in [model(&start), [start.clone(), sample()].concat()] {
            let error = refused(&start, context);
            assert!(error.contains(context), "{context}: {error}");
        }
    }
}

#[test]
fn tensors_in_other_files_are_decoded_no_more_than_those_hold() {
    let _alone = alone();
    const N: u64 = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.bin"), vec![1; N as usize]).unwrap();
    let path = folder.path().join("model.onnx");
    for (location, count, expected) in
        [("data.bin", 2, ""), ("data.bin", 50, "give each its own"), ("model.onnx", 1, "the model's own file")]
    {
        let entry = field(13, &[field(1, b"location"), field(2, location.as_bytes())].concat());
        let data = [entry, integer(14, 1)].concat();
        let mut graph: Vec<u8> = (0..count).flat_map(|i| tensor(&format!("c{i}"), 9, &[N], &data)).collect();
        graph.extend([node("", "Relu", &["x"], &["y"], &[]), info(11, "x", &[1]), info(12, "y", &[1])].concat());
        std::fs::write(&path, model(&graph)).unwrap();
        let (result, peak) = peak_of(|| Model::from_onnx_with(&path, &OPTIONS));
        assert!(peak <= CONSTANT + 32 * N as usize, "{count} of {location}: {peak} bytes");
        match result {
            Ok(_) => assert!(expected.is_empty(), "{count} of {location}"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        }
    }
}

/// Each would take minutes, were every one of these looked up among all before it.
#[test]
fn many_inputs_and_many_ops_of_one_name() {
    let _alone = alone();
    const MANY: usize = 60_000;
    let chain = (0..MANY).flat_map(|i| {
        let from = if i == 0 { "x".into() } else { format!("v{i}") };
        node("n", "Sigmoid", &[&from], &[&format!("v{}", i + 1)], &[])
    });
    for (context, more) in [
        ("inputs", (0..MANY).flat_map(|i| info(11, &format!("a rather long name of input {i}"), &[1])).collect()),
        ("operands", node("n", "Max", &vec!["x"; MANY], &["m"], &[])),
        ("nodes", chain.collect::<Vec<u8>>()),
    ] {
        let graph = [more, node("", "Relu", &["x"], &["y"], &[]), info(11, "x", &[4]), info(12, "y", &[4])].concat();
        Model::from_onnx_bytes(&model(&graph), &OPTIONS).expect(context);
    }
}

#[test]
fn two_hundred_copies_of_an_onnx_file() {
    let _alone = alone();
    let file = sample();
    two_hundred_copies(&file, file.len(), "mutated.onnx", |path| Model::from_onnx_with(path, &OPTIONS));
}
