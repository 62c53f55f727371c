//! Tensors with a dimension of 0: as inputs, between nodes, as outputs.

use super::*;

fn axis_1() -> Vec<TensorProto> {
    vec![ints("axes", &[1])]
}

/// A file of one node, named `node of y`.
fn one(op: &str, inputs: &[&str], attributes: Vec<AttributeProto>, known: Vec<TensorProto>, given: &[(&str, &[i64])]) -> Vec<u8> {
    let given = given.iter().map(|(name, dims)| value(name, dims)).collect();
    file(18, vec![node(op, inputs, &["y"], attributes)], known, given, &["y"])
}

fn nothing(dims: &[usize]) -> Tensor<f32> {
    filled(dims, |_| unreachable!())
}

#[track_caller]
fn refused(bytes: &[u8], expected: &[&str]) {
    let error = load(bytes).unwrap_err().to_string();
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");
}

#[test]
fn reductions_of_nothing_are_what_changes_no_result() {
    let infinity = f32::INFINITY;
    for (op, expected) in [
        ("ReduceSum", 0.0),
        ("ReduceMax", -infinity),
        ("ReduceMin", infinity),
        ("ReduceProd", 1.0),
        ("ReduceL1", 0.0),
        ("ReduceL2", 0.0),
        ("ReduceLogSum", -infinity),
        ("ReduceLogSumExp", -infinity),
        ("ReduceSumSquare", 0.0),
    ] {
        let bytes = one(op, &["x", "axes"], vec![], axis_1(), &[("x", &[2, 0, 4])]);
        let y = run(&bytes, &[("x", nothing(&[2, 0, 4]))]);
        assert_eq!((y[0].dims(), y[0].as_slice()), (&[2, 1, 4][..], &[expected; 8][..]), "{op}");
        let bytes = one(op, &["x", "axes"], vec![int("keepdims", 0)], axis_1(), &[("x", &[0, 3])]);
        assert_eq!(run(&bytes, &[("x", nothing(&[0, 3]))])[0].dims(), [0], "{op}");
    }
    let mean = |dims: &[i64]| one("ReduceMean", &["x", "axes"], vec![], axis_1(), &[("x", dims)]);
    refused(&mean(&[2, 0, 4]), &["ReduceMean `node of y`", "no elements"]);
    assert_eq!(run(&mean(&[0, 3]), &[("x", nothing(&[0, 3]))])[0].dims(), [0, 1]);
}

#[test]
fn whole_numbers_of_nothing_have_the_ends_of_their_type() {
    let end = |op: &str, ty: i32| {
        let nodes = vec![
            node("Cast", &["x"], &["c"], vec![int("to", ty.into())]),
            node(op, &["c", "axes"], &["r"], vec![int("keepdims", 0)]),
            node("Cast", &["r"], &["y"], vec![int("to", 1)]),
        ];
        run(&file(20, nodes, axis_1(), vec![value("x", &[1, 0])], &["y"]), &[("x", nothing(&[1, 0]))])[0].as_slice()[0]
    };
    let found: Vec<(f32, f32)> = [9, 2, 3, 5].into_iter().map(|ty| (end("ReduceMax", ty), end("ReduceMin", ty))).collect();
    assert_eq!(found, [(0.0, 1.0), (0.0, 255.0), (-128.0, 127.0), (-32768.0, 32767.0)]);
}

/// Everything that a network of images is made of.
fn of_images() -> Vec<u8> {
    let scales = tensor("scales", &[4], &[1.0, 1.0, 2.0, 2.0]);
    let window = || vec![list("kernel_shape", &[2, 2]), list("strides", &[2, 2])];
    let nodes = vec![
        node("Conv", &["x", "w", "b"], &["c"], vec![list("pads", &[1, 1, 1, 1])]),
        node("BatchNormalization", &["c", "b", "b", "b", "v"], &["n"], vec![]),
        node("Relu", &["n"], &["r"], vec![]),
        node("MaxPool", &["r"], &["m"], window()),
        node("AveragePool", &["m"], &["a"], window()),
        node("Resize", &["a", "", "scales"], &["s"], vec![]),
        node("ConvTranspose", &["s", "t"], &["u"], vec![]),
        node("Add", &["s", "s"], &["d"], vec![]),
        node("Concat", &["d", "s"], &["k"], vec![int("axis", 1)]),
        node("GlobalAveragePool", &["k"], &["g"], vec![]),
        node("Flatten", &["g"], &["f"], vec![]),
        node("Gemm", &["f", "l", "lb"], &["z"], vec![]),
        node("Softmax", &["z"], &["y"], vec![int("axis", 1)]),
    ];
    let known = vec![
        tensor("w", &[3, 2, 3, 3], &[0.1; 54]),
        tensor("b", &[3], &[0.5, -0.5, 0.25]),
        tensor("v", &[3], &[1.0; 3]),
        scales,
        tensor("t", &[3, 1, 2, 2], &[0.5; 12]),
        tensor("l", &[6, 5], &[0.3; 30]),
        tensor("lb", &[5], &[1.0; 5]),
    ];
    file(13, nodes, known, vec![value("x", &[-1, 2, -2, -3])], &["y", "u"])
}

#[test]
fn no_images_go_through_a_network_and_the_session_then_takes_some_again() {
    let model = load(&of_images()).unwrap();
    let mut session = model.session(&SessionOptions { size: Some([8, 8]), ..Default::default() }).unwrap();
    let image = filled(&[2, 2, 8, 8], |i| i as f32 / 100.0);
    let first = session.run_named(&[("x", image.view())]).unwrap();
    let none = session.run_named(&[("x", nothing(&[0, 2, 8, 8]).view())]).unwrap();
    let dims: Vec<&[usize]> = none.iter().map(|(_, tensor)| tensor.dims()).collect();
    assert_eq!(dims, [&[0, 5][..], &[0, 1, 5, 5]]);
    assert_eq!(session.memory_required(), 0);
    assert_eq!(session.run_named(&[("x", image.view())]).unwrap(), first);
    // And into the caller's own, planned for no images at first.
    let mut session = model.session(&SessionOptions { batch: 0, size: Some([8, 8]), ..Default::default() }).unwrap();
    let (mut y, mut u) = (nothing(&[0, 5]), nothing(&[0, 1, 5, 5]));
    session.run_all_into(&[nothing(&[0, 2, 8, 8]).view()], &mut [y.view_mut(), u.view_mut()]).unwrap();
    let error = session.run_all_into(&[nothing(&[2, 0, 8, 8]).view()], &mut [y.view_mut(), u.view_mut()]).unwrap_err().to_string();
    assert!(error.contains("[2, 0, 8, 8]"), "{error}");
}

#[test]
fn parts_of_no_elements_are_put_together_again_and_given_back() {
    let nodes = vec![
        node("Split", &["x", "parts"], &["p", "q"], vec![int("axis", 1)]),
        node("Concat", &["p", "q"], &["whole"], vec![int("axis", 1)]),
        node("Reshape", &["p", "turned"], &["r"], vec![int("allowzero", 1)]),
        node("Relu", &["p"], &["s"], vec![]),
        node("MatMul", &["p", "r"], &["zeros"], vec![]),
        node("Add", &["whole", "one"], &["sum"], vec![]),
        node("Identity", &["e"], &["same"], vec![]),
    ];
    let known = vec![ints("parts", &[0, 3]), ints("turned", &[0, 4]), tensor("one", &[1], &[1.0])];
    let given = vec![value("x", &[2, 3]), value("e", &[0])];
    let bytes = file(18, nodes, known, given, &["sum", "q", "r", "s", "zeros", "same"]);
    let y = run(&bytes, &[("x", filled(&[2, 3], |i| i as f32)), ("e", nothing(&[0]))]);
    let dims: Vec<&[usize]> = y.iter().map(Tensor::dims).collect();
    assert_eq!(dims, [&[2, 3][..], &[2, 3], &[0, 4], &[2, 0], &[2, 4], &[0]]);
    assert_eq!((y[0].as_slice(), y[4].as_slice()), (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..], &[0.0; 8][..]));
}

#[test]
fn a_dimension_is_inferred_from_those_that_are_not_kept() {
    for (target, expected) in [([0, -1], [0, 6]), ([-1, 3], [0, 3]), ([5, -1], [5, 0])] {
        let bytes = one("Reshape", &["x", "s"], vec![], vec![ints("s", &target)], &[("x", &[0, 2, 3])]);
        assert_eq!(run(&bytes, &[("x", nothing(&[0, 2, 3]))])[0].dims(), expected, "{target:?}");
    }
}

#[test]
fn products_over_no_elements_are_zero_and_what_is_added_to_them() {
    let given: &[(&str, &[i64])] = &[("a", &[2, 0]), ("b", &[0, 3])];
    let known = || vec![tensor("c", &[3], &[1.0, 2.0, 3.0])];
    let inputs = || [("a", nothing(&[2, 0])), ("b", nothing(&[0, 3]))];
    let y = run(&one("Gemm", &["a", "b", "c"], vec![], known(), given), &inputs());
    assert_eq!((y[0].dims(), y[0].as_slice()), (&[2, 3][..], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0][..]));
    // A summand that is computed would have to be broadcast in a run.
    let given = &[given[0], given[1], ("c", &[3][..])];
    refused(&one("Gemm", &["a", "b", "c"], vec![], vec![], given), &["Gemm `node of y`", "no elements"]);
}

#[test]
fn an_op_of_nothing_that_is_not_clear_is_refused_by_name() {
    let images: &[(&str, &[i64])] = &[("x", &[1, 2, 0, 4])];
    let window = || vec![list("kernel_shape", &[1, 1])];
    let weights = || vec![tensor("w", &[2, 2, 1, 1], &[1.0; 4])];
    refused(&one("GlobalMaxPool", &["x"], vec![], vec![], images), &["GlobalMaxPool `node of y`", "no elements"]);
    refused(&one("GlobalAveragePool", &["x"], vec![], vec![], images), &["GlobalAveragePool `node of y`", "no elements"]);
    refused(&one("Conv", &["x", "w"], vec![], weights(), images), &["Conv `node of y`", "no elements"]);
    refused(&one("ConvTranspose", &["x", "w"], vec![], weights(), images), &["ConvTranspose `node of y`", "no elements"]);
    refused(&one("MaxPool", &["x"], window(), vec![], images), &["MaxPool `node of y`", "no elements"]);
    let grown = vec![ints("sizes", &[1, 2, 4, 4])];
    refused(&one("Resize", &["x", "", "", "sizes"], vec![], grown, images), &["Resize `node of y`", "no elements"]);
    refused(&one("ArgMax", &["x"], vec![int("axis", 2)], vec![], images), &["node of y", "ArgMax", "empty"]);
    refused(&one("DynamicQuantizeLinear", &["x"], vec![], vec![], images), &["DynamicQuantizeLinear `node of y`", "no elements"]);
    let edge = || vec![AttributeProto { name: "mode".into(), s: b"edge".to_vec().into(), kind: 3, ..Default::default() }];
    let pads = vec![ints("pads", &[0, 0, 1, 0, 0, 0, 0, 0])];
    refused(&one("Pad", &["x", "pads"], edge(), pads, images), &["node of y", "Pad", "nothing to repeat"]);
    let bound = vec![tensor("low", &[0], &[])];
    refused(&one("Clip", &["x", "low"], vec![], bound, &[("x", &[2, 1])]), &["Clip `node of y`", "no elements"]);
    // Any number times 0 is 0.
    let any = one("Reshape", &["x", "s"], vec![int("allowzero", 1)], vec![ints("s", &[0, -1])], &[("x", &[0, 2, 3])]);
    refused(&any, &["node of y", "Reshape", "[0, 2, 3]"]);
    let part = vec![tensor("part", &[5, 0], &[])];
    let together = one("Concat", &["x", "part"], vec![int("axis", 1)], part, &[("x", &[2, 3])]);
    refused(&together, &["node of y", "Concat", "differ along other axes"]);
}

#[test]
fn mutated_files_are_refused_or_run_without_elements_and_never_panic() {
    let (refused, ran) = run_mutated(&of_images(), [0, 2, 8, 8], 300);
    assert!(refused > 50 && ran > 20, "{refused} refused, {ran} ran");
}

#[test]
fn a_huge_dimension_beside_none_neither_overflows_nor_takes_memory() {
    const HUGE: i64 = 1 << 40;
    let options = |dims: &[usize]| OnnxOptions { shapes: vec![("x".into(), dims.to_vec())], max_memory: 1 << 20 };
    let sum = |axis: i64| one("ReduceSum", &["x", "axes"], vec![], vec![ints("axes", &[axis])], &[("x", &[-1, -2])]);
    let shape = vec![1 << 40, 0];
    let model = Model::from_onnx_bytes(&sum(0), &options(&shape)).unwrap();
    let mut session = model.session(&SessionOptions { shapes: vec![("x".into(), shape.clone())], ..Default::default() }).unwrap();
    assert_eq!(session.run_named(&[("x", nothing(&shape).view())]).unwrap()[0].1.dims(), [1, 0]);
    // The sums over nothing are so many zeros.
    let error = Model::from_onnx_bytes(&sum(1), &options(&shape)).unwrap_err().to_string();
    assert!(error.contains("node of y") && error.contains("ReduceSum") && error.contains("memory"), "{error}");
    let error = Model::from_onnx_bytes(&sum(0), &options(&[1 << 40, 0, 1 << 40])).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");

    let unit: &[(&str, &[i64])] = &[("x", &[1])];
    for dims in [[0, HUGE, HUGE], [HUGE, 0, HUGE], [HUGE, HUGE, 0]] {
        refused(&one("ConstantOfShape", &["s"], vec![], vec![ints("s", &dims)], unit), &["node of y", "ConstantOfShape"]);
        refused(&one("Expand", &["x", "s"], vec![], vec![ints("s", &dims)], unit), &["node of y", "Expand"]);
        refused(&one("Add", &["x", "c"], vec![], vec![tensor("c", &dims, &[])], unit), &["tensor `c`", "overflows"]);
        let given: &[(&str, &[i64])] = &[("x", &[0])];
        let reshape = one("Reshape", &["x", "s"], vec![int("allowzero", 1)], vec![ints("s", &dims)], given);
        refused(&reshape, &["node of y", "Reshape"]);
    }
}
