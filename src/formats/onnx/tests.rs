use super::proto::*;
use super::*;
use crate::{Model, OnnxOptions, SessionOptions, Shape, Tensor};

mod no_elements;

fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 1, raw_data: Some(raw.into()), ..Default::default() }
}

fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto { name: name.into(), dims: vec![values.len() as i64], data_type: 7, int64_data: values.to_vec(), ..Default::default() }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    let strings = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
    NodeProto {
        op_type: op.into(),
        name: outputs.first().map_or_else(String::new, |name| format!("node of {name}")),
        input: strings(inputs),
        output: strings(outputs),
        attribute: attributes,
        ..Default::default()
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i: value, kind: 2, ..Default::default() }
}

fn list(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: values.to_vec(), kind: 7, ..Default::default() }
}

/// Dimensions below zero are symbols.
fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |&dim: &i64| match dim {
        dim if dim < 0 => DimensionProto { dim_param: Some(format!("d{}", -dim)), ..Default::default() },
        dim => DimensionProto { dim_value: Some(dim), ..Default::default() },
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type: 1, shape });
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) }
}

fn file(opset: i64, nodes: Vec<NodeProto>, initializer: Vec<TensorProto>, input: Vec<ValueInfoProto>, outputs: &[&str]) -> Vec<u8> {
    let output = outputs.iter().map(|name| value(name, &[])).collect();
    let graph = GraphProto { node: nodes, name: "network".into(), initializer, input, output, ..Default::default() };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }.encode_to_vec()
}

fn load(bytes: &[u8]) -> Result<Model> {
    Model::from_onnx_bytes(bytes, &OnnxOptions::default())
}

fn run(bytes: &[u8], inputs: &[(&str, Tensor<f32>)]) -> Vec<Tensor<f32>> {
    let shapes: Vec<(String, Vec<usize>)> = inputs.iter().map(|(name, t)| (name.to_string(), t.dims().to_vec())).collect();
    let options = OnnxOptions { shapes: shapes.clone(), ..Default::default() };
    let model = Model::from_onnx_bytes(bytes, &options).unwrap();
    let mut session = model.session(&SessionOptions { shapes, ..Default::default() }).unwrap();
    let views: Vec<_> = inputs.iter().map(|(name, t)| (*name, t.view())).collect();
    session.run_named(&views).unwrap().into_iter().map(|(_, tensor)| tensor).collect()
}

fn filled(dims: &[usize], from: impl Fn(usize) -> f32) -> Tensor<f32> {
    let shape = Shape::new(dims).unwrap();
    Tensor::from_slice(shape, &(0..shape.elements()).map(from).collect::<Vec<f32>>()).unwrap()
}

/// A convolution with BatchNorm, hard swish spelled out and a flattening that asks for its own shape, then a linear layer.
fn classifier() -> Vec<u8> {
    let ramp = |n: usize, step: f32| (0..n).map(|i| (i % 7) as f32 * step - 0.3).collect::<Vec<f32>>();
    let nodes = vec![
        node("Conv", &["x", "w"], &["c"], vec![list("pads", &[1, 1, 1, 1]), list("kernel_shape", &[3, 3])]),
        node("BatchNormalization", &["c", "scale", "shift", "mean", "variance"], &["b"], vec![]),
        node("Add", &["b", "three"], &["plus"], vec![]),
        node("Clip", &["plus", "zero", "six"], &["clipped"], vec![]),
        node("Div", &["clipped", "six"], &["gate"], vec![]),
        node("Mul", &["b", "gate"], &["h"], vec![]),
        node("GlobalAveragePool", &["h"], &["p"], vec![]),
        node("Shape", &["p"], &["s"], vec![]),
        node("Gather", &["s", "first"], &["n"], vec![int("axis", 0)]),
        node("Unsqueeze", &["n", "axes"], &["n1"], vec![]),
        node("Concat", &["n1", "minus"], &["target"], vec![int("axis", 0)]),
        node("Reshape", &["p", "target"], &["f"], vec![]),
        node("Gemm", &["f", "fc", "bias"], &["y"], vec![int("transB", 1)]),
    ];
    let scalar = |name: &str, value: f32| TensorProto { dims: vec![], ..tensor(name, &[], &[value]) };
    let initializers = vec![
        tensor("w", &[5, 2, 3, 3], &ramp(90, 0.1)),
        tensor("scale", &[5], &[1.0, 0.5, 2.0, -1.0, 0.1]),
        tensor("shift", &[5], &ramp(5, 0.2)),
        tensor("mean", &[5], &ramp(5, 0.1)),
        tensor("variance", &[5], &[1.0, 2.0, 0.5, 4.0, 1.5]),
        scalar("three", 3.0),
        scalar("zero", 0.0),
        scalar("six", 6.0),
        TensorProto { dims: vec![], int64_data: vec![0], data_type: 7, name: "first".into(), ..Default::default() },
        ints("axes", &[0]),
        ints("minus", &[-1]),
        tensor("fc", &[3, 5], &ramp(15, 0.3)),
        tensor("bias", &[3], &[0.1, 0.2, 0.3]),
    ];
    file(13, nodes, initializers, vec![value("x", &[-1, 2, -2, -3])], &["y", "h"])
}

/// The classifier's output, computed one number after the other in f64.
fn classified(x: &Tensor<f32>) -> Vec<f64> {
    let ramp = |i: usize, step: f32| f64::from((i % 7) as f32 * step - 0.3);
    let &[n, _, h, w] = x.dims() else { panic!("no images") };
    let at = |n: usize, c: usize, y: isize, x_: isize| match (usize::try_from(y), usize::try_from(x_)) {
        (Ok(y), Ok(x_)) if y < h && x_ < w => f64::from(x.as_slice()[((n * 2 + c) * h + y) * w + x_]),
        _ => 0.0,
    };
    let (scale, variance) = ([1.0, 0.5, 2.0, -1.0, 0.1], [1.0, 2.0, 0.5, 4.0, 1.5f64]);
    let mut y = Vec::new();
    for image in 0..n {
        let mut pooled = [0.0; 5];
        for (oc, pooled) in pooled.iter_mut().enumerate() {
            for row in 0..h as isize {
                for column in 0..w as isize {
                    let taps = (0..18).map(|k| (k / 9, (k / 3 % 3) as isize, (k % 3) as isize, k));
                    let conv: f64 = taps.map(|(c, dy, dx, k)| at(image, c, row + dy - 1, column + dx - 1) * ramp(oc * 18 + k, 0.1)).sum();
                    let b = (conv - ramp(oc, 0.1)) / (variance[oc] + 1e-5).sqrt() * scale[oc] + ramp(oc, 0.2);
                    *pooled += b * (b + 3.0).clamp(0.0, 6.0) / 6.0;
                }
            }
            *pooled /= (h * w) as f64;
        }
        y.extend((0..3).map(|o| pooled.iter().enumerate().map(|(f, p)| p * ramp(o * 5 + f, 0.3)).sum::<f64>() + [0.1, 0.2, 0.3][o]));
    }
    y
}

#[test]
fn a_network_computes_what_its_file_says_for_every_shape_and_is_fused() {
    let bytes = classifier();
    for dims in [[1, 2, 8, 8], [3, 2, 5, 7]] {
        let x = filled(&dims, |i| (i * 37 % 23) as f32 / 11.0 - 1.0);
        let y = run(&bytes, &[("x", x.clone())]);
        assert_eq!((y[0].dims(), y[1].dims()), (&[dims[0], 3][..], &[dims[0], 5, dims[2], dims[3]][..]));
        for (found, expected) in y[0].as_slice().iter().zip(classified(&x)) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
    }
    let model = load(&bytes).unwrap();
    let ops: Vec<&str> = model.graph().nodes().iter().map(|node| node.op.name()).collect();
    assert_eq!(ops, ["Conv", "HardSwish", "ReduceMean", "Flatten", "Gemm"]);
    assert_eq!(model.inputs()[0].dims_text(), "[d1, 2, d2, d3]");
    assert_eq!(model.output_names(), ["y", "h"]);
}

#[test]
fn one_session_plans_every_shape_that_comes_and_shares_packed_weights() {
    let model = load(&classifier()).unwrap();
    let mut session = model.session(&SessionOptions { size: Some([9, 6]), ..Default::default() }).unwrap();
    for dims in [[1, 2, 9, 6], [2, 2, 4, 4], [1, 2, 9, 6]] {
        let x = filled(&dims, |i| i as f32 / 50.0);
        let y = session.run_named(&[("x", x.view())]).unwrap();
        assert_eq!(y[0].0, "y");
        let expected = classified(&x);
        assert!(y[0].1.as_slice().iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5 * b.abs().max(1.0)));
    }
    let wrong = filled(&[1, 3, 9, 6], |_| 0.0);
    let error = session.run_named(&[("x", wrong.view())]).unwrap_err().to_string();
    assert!(error.contains("input `x`") && error.contains("[d1, 2, d2, d3]"), "{error}");
}

#[test]
fn one_error_lists_every_node_that_is_not_supported() {
    let nodes = vec![
        node("Relu", &["x"], &["a"], vec![]),
        node("Telepathy", &["a"], &["b"], vec![]),
        node("Relu", &["b"], &["c"], vec![]),
        node("NonMaxSuppression", &["c", "a"], &["d"], vec![]),
        NodeProto { domain: "com.example".into(), ..node("Relu", &["a"], &["e"], vec![]) },
        node("Reshape", &["a", "a"], &["f"], vec![]),
        node("Add", &["d", "e"], &["y"], vec![]),
    ];
    let error = load(&file(17, nodes, vec![], vec![value("x", &[2, 2])], &["y", "f"])).unwrap_err();
    let Error::Unsupported { nodes, .. } = &error else { panic!("{error}") };
    let listed: Vec<(&str, &str)> = nodes.iter().map(|node| (node.name.as_str(), node.op.as_str())).collect();
    let expected =
        [("node of b", "Telepathy"), ("node of d", "NonMaxSuppression"), ("node of e", "com.example.Relu"), ("node of f", "Reshape")];
    assert_eq!(listed, expected);
    assert!(error.to_string().starts_with("bytes in memory: 4 nodes are not supported"), "{error}");
}

#[test]
fn malformed_networks_are_refused_with_node_and_op() {
    let x = || vec![value("x", &[2, 3])];
    let refused = |bytes: Vec<u8>, expected: &[&str]| {
        let error = load(&bytes).unwrap_err().to_string();
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    };
    let cycle = vec![node("Add", &["x", "b"], &["a"], vec![]), node("Relu", &["a"], &["b"], vec![])];
    refused(file(13, cycle, vec![], x(), &["b"]), &["`node of a` (Add)", "cycle"]);
    refused(file(13, vec![node("Relu", &["nothing"], &["y"], vec![])], vec![], x(), &["y"]), &["node of y", "Relu", "`nothing`"]);
    refused(file(13, vec![node("Relu", &[], &["y"], vec![])], vec![], x(), &["y"]), &["node of y", "Relu", "input 0"]);
    refused(file(13, vec![node("Relu", &["x"], &["y"], vec![])], vec![], x(), &["z"]), &["output `z`"]);
    let twice = vec![node("Relu", &["x"], &["y"], vec![]), node("Abs", &["x"], &["y"], vec![])];
    refused(file(13, twice, vec![], x(), &["y"]), &["(Abs)", "`y`", "already"]);
    let conv = || vec![node("Conv", &["x", "w"], &["y"], vec![])];
    refused(file(13, conv(), vec![tensor("w", &[1, 3, 1, 1], &[0.0; 3])], x(), &["y"]), &["node of y", "Conv", "[2, 3]"]);
    let images = || vec![value("x", &[1, 4, 5, 5])];
    refused(file(13, conv(), vec![tensor("w", &[1, 3, 1, 1], &[0.0; 3])], images(), &["y"]), &["node of y", "4 input channels"]);
    let huge = tensor("w", &[1 << 40, 1 << 40], &[]);
    refused(file(13, conv(), vec![huge], images(), &["y"]), &["tensor `w`", "overflows"]);
    refused(file(13, conv(), vec![tensor("w", &[-1], &[])], images(), &["y"]), &["tensor `w`", "-1"]);
    refused(file(13, conv(), vec![tensor("w", &[4], &[0.0; 3])], images(), &["y"]), &["tensor `w`", "16 bytes", "12"]);
    let reshape = vec![node("Reshape", &["x", "s"], &["y"], vec![])];
    refused(file(13, reshape.clone(), vec![ints("s", &[4, -1])], x(), &["y"]), &["node of y", "Reshape", "[4, -1]"]);
    refused(file(13, reshape, vec![ints("s", &[i64::MAX, i64::MAX])], x(), &["y"]), &["node of y", "Reshape"]);
    refused(file(5, vec![node("Relu", &["x"], &["y"], vec![])], vec![], x(), &["y"]), &["version 5", "not supported"]);
    refused(b"not a file of ONNX".to_vec(), &["bytes in memory", "ONNX"]);
    refused(Vec::new(), &["bytes in memory", "no graph"]);
}

#[test]
fn constants_that_are_made_of_nothing_are_held_against_the_limit() {
    let nodes = vec![node("ConstantOfShape", &["s"], &["c"], vec![]), node("Add", &["x", "c"], &["y"], vec![])];
    let bytes = |side: i64| file(13, nodes.clone(), vec![ints("s", &[side, side])], vec![value("x", &[1])], &["y"]);
    let options = OnnxOptions { max_memory: 1 << 20, ..Default::default() };
    assert!(Model::from_onnx_bytes(&bytes(100), &options).is_ok());
    let error = Model::from_onnx_bytes(&bytes(1000), &options).unwrap_err().to_string();
    assert!(error.contains("node of c") && error.contains("memory"), "{error}");
    assert!(load(&bytes(1 << 31)).unwrap_err().to_string().contains("node of c"));
}

#[test]
fn a_file_of_endless_messages_is_refused_before_it_is_decoded() {
    assert_eq!(wire::messages(&classifier()), {
        let model = ModelProto::decode(&classifier()[..]).unwrap();
        let graph = model.graph.unwrap();
        let of_node = |node: &NodeProto| 1 + node.input.len() + node.output.len() + node.attribute.len();
        // A value has a type, that a tensor type, that a shape, and that its dimensions.
        let of_value = |value: &ValueInfoProto| {
            let tensor = value.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
            4 + tensor.shape.as_ref().unwrap().dim.len()
        };
        let nodes: usize = graph.node.iter().map(of_node).sum();
        let values: usize = graph.input.iter().chain(&graph.output).map(of_value).sum();
        Ok(2 + nodes + graph.initializer.len() + values)
    });
    // A graph of empty nodes: two bytes each.
    let nodes = [0x0a, 0x00].repeat(wire::MOST_MESSAGES + 1);
    let mut bytes = vec![0x3a];
    let mut length = nodes.len();
    while length > 0x7f {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(nodes);
    let error = load(&bytes).unwrap_err().to_string();
    assert!(error.contains("messages"), "{error}");
}

#[test]
fn tensors_are_read_in_every_encoding() {
    let cases: Vec<(TensorProto, [f32; 2])> = vec![
        (TensorProto { float_data: vec![1.5, -2.0], data_type: 1, ..Default::default() }, [1.5, -2.0]),
        (TensorProto { double_data: vec![1.5, -2.0], data_type: 11, ..Default::default() }, [1.5, -2.0]),
        (TensorProto { int32_data: vec![0x3e00, 0xc000], data_type: 10, ..Default::default() }, [1.5, -2.0]),
        (TensorProto { int32_data: vec![0x3fc0, 0xc000], data_type: 16, ..Default::default() }, [1.5, -2.0]),
        (TensorProto { raw_data: Some(vec![0, 0x3e, 0, 0xc0].into()), data_type: 10, ..Default::default() }, [1.5, -2.0]),
        (TensorProto { raw_data: Some(vec![0xc0, 0x3f, 0, 0xc0].into()), data_type: 16, ..Default::default() }, [1.5, -2.0]),
        (TensorProto { int64_data: vec![7, -8], data_type: 7, ..Default::default() }, [7.0, -8.0]),
        (TensorProto { int32_data: vec![7, -8], data_type: 6, ..Default::default() }, [7.0, -8.0]),
        (TensorProto { int32_data: vec![7, -8], data_type: 3, ..Default::default() }, [7.0, -8.0]),
        (TensorProto { raw_data: Some(vec![7, 0xf8].into()), data_type: 3, ..Default::default() }, [7.0, -8.0]),
        (TensorProto { raw_data: Some(vec![7, 0xf8].into()), data_type: 2, ..Default::default() }, [7.0, 248.0]),
        (TensorProto { raw_data: Some(vec![1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff].into()), data_type: 6, ..Default::default() }, [1.0, -1.0]),
        (TensorProto { uint64_data: vec![7, 9], data_type: 13, ..Default::default() }, [7.0, 9.0]),
        (TensorProto { int32_data: vec![1, 0], data_type: 9, ..Default::default() }, [1.0, 0.0]),
    ];
    for (proto, expected) in cases {
        let what = format!("{proto:?}");
        let proto = TensorProto { dims: vec![2], name: "c".into(), ..proto };
        let cast = node("Cast", &["c"], &["f"], vec![int("to", 1)]);
        let bytes = file(13, vec![cast, node("Add", &["x", "f"], &["y"], vec![])], vec![proto], vec![value("x", &[2])], &["y"]);
        let y = run(&bytes, &[("x", filled(&[2], |_| 0.0))]);
        assert_eq!(y[0].as_slice(), expected, "{what}");
    }
}

#[test]
fn external_data_is_read_from_the_models_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let values: Vec<u8> = [0.0f32, 4.0, 5.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.path().join("weights.bin"), &values).unwrap();
    std::fs::write(outside.path().join("secret.bin"), &values).unwrap();
    let model = |entries: &[(&str, &str)]| {
        let external = |(key, value): &(&str, &str)| StringStringEntryProto { key: key.to_string(), value: value.to_string() };
        let external_data = entries.iter().map(external).collect();
        let c = TensorProto { name: "c".into(), dims: vec![2], data_type: 1, data_location: 1, external_data, ..Default::default() };
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, file(13, vec![node("Add", &["x", "c"], &["y"], vec![])], vec![c], vec![value("x", &[2])], &["y"])).unwrap();
        Model::from_onnx(path)
    };
    let good = model(&[("location", "weights.bin"), ("offset", "4"), ("length", "8")]).unwrap();
    let y = good.session(&SessionOptions::default()).unwrap().run(&filled(&[2], |_| 1.0)).unwrap();
    assert_eq!(y.as_slice(), [5.0, 6.0]);
    let secret = outside.path().join("secret.bin").display().to_string();
    let up = format!("../{}/secret.bin", outside.path().file_name().unwrap().display());
    #[cfg(unix)]
    std::os::unix::fs::symlink(outside.path().join("secret.bin"), folder.path().join("link.bin")).unwrap();
    #[cfg(not(unix))]
    std::fs::write(folder.path().join("link.bin"), []).unwrap();
    for (entries, expected) in [
        (vec![("location", secret.as_str()), ("length", "8")], "outside the model's folder"),
        (vec![("location", up.as_str()), ("length", "8")], "outside the model's folder"),
        (vec![("location", "link.bin"), ("length", "8")], if cfg!(unix) { "outside the model's folder" } else { "empty" }),
        (vec![("location", "none.bin")], "none.bin"),
        (vec![("location", "weights.bin"), ("offset", "8")], "12 bytes"),
        (vec![("location", "weights.bin"), ("offset", "18446744073709551615"), ("length", "8")], "12 bytes"),
        (vec![("location", "weights.bin"), ("length", "4")], "8 bytes"),
        (vec![("offset", "0")], "no location"),
    ] {
        let error = model(&entries).unwrap_err().to_string();
        assert!(error.contains(expected), "{entries:?}: {error}");
    }
}

/// Loads and runs mutations of a file with an input `x` of these dimensions; how many were refused, and how many ran.
fn run_mutated(good: &[u8], x: [usize; 4], count: usize) -> (usize, usize) {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut refused, mut ran) = (0, 0);
    for _ in 0..count {
        let mut bytes = good.to_vec();
        for _ in 0..1 + next(4) {
            match next(4) {
                0 => bytes.truncate(1 + next(bytes.len())),
                1 => {
                    let at = next(bytes.len());
                    bytes[at] ^= 1 << next(8);
                }
                2 => {
                    let at = next(bytes.len());
                    bytes[at] = [0, 1, 0x7f, 0x80, 0xff][next(5)];
                }
                _ => {
                    let (from, to) = (next(bytes.len()), next(bytes.len()));
                    let part: Vec<u8> = bytes[from..bytes.len().min(from + 1 + next(40))].to_vec();
                    bytes.splice(to..to, part);
                }
            }
        }
        let options = OnnxOptions { shapes: vec![("x".into(), x.to_vec())], max_memory: 64 << 20 };
        let of_session = SessionOptions { batch: x[0], size: Some([x[2], x[3]]), max_memory: 64 << 20, ..Default::default() };
        let session = Model::from_onnx_bytes(&bytes, &options).and_then(|model| model.session(&of_session));
        match session {
            Ok(mut session) => {
                let x: Vec<_> = session.input_shapes().into_iter().map(|shape| Tensor::<f32>::zeros(shape).unwrap()).collect();
                let names: Vec<String> = session.input_names().iter().map(|name| name.to_string()).collect();
                let inputs: Vec<_> = names.iter().map(String::as_str).zip(x.iter().map(|x| x.view())).collect();
                let _ = session.run_named(&inputs);
                ran += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    (refused, ran)
}

#[test]
fn mutated_files_are_refused_or_run_and_never_panic() {
    let (refused, ran) = run_mutated(&classifier(), [1, 2, 6, 6], 300);
    assert!(refused > 50 && ran > 20, "{refused} refused, {ran} ran");
}
