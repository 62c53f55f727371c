//! Graphs of several inputs and outputs, and ops on tensors of any rank: what runs in NCHW16c computes what runs row-major.

use std::sync::Arc;
use stridewise::graph::{Activation, ConvAttributes, Dim, Graph, Op, TensorOp, ValueId};
use stridewise::{Error, Model, SessionOptions, Shape, Tensor, Threads};
use stridewise_kernels::dense::{Extreme, PadMode, Reduction};
use stridewise_kernels::pool::{self, Sliding};
use stridewise_kernels::resize::{Coordinates, Interpolation, Rule};
use stridewise_kernels::{Binary, Unary};

fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims).unwrap()
}

fn random(dims: &[usize], seed: u32) -> Tensor<f32> {
    let mut tensor = Tensor::zeros(shape(dims)).unwrap();
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    for value in tensor.as_mut_slice() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    tensor
}

fn any(name: &str) -> Dim {
    Dim::Any(name.into())
}

fn two_inputs() -> Graph {
    let mut graph = Graph::without_inputs("two inputs");
    let a = graph.add_input("a", vec![any("N"), Dim::Fixed(3)]).unwrap();
    let b = graph.add_input("b", vec![any("N"), Dim::Fixed(1)]).unwrap();
    let sum = graph.add("sum", Op::Tensor(TensorOp::Combine { function: Binary::Add, then: Unary::Identity }), &[a, b]).unwrap();
    let product = graph.add("product", Op::Tensor(TensorOp::Combine { function: Binary::Mul, then: Unary::Neg }), &[a, b]).unwrap();
    graph.set_named_outputs(&[("s".into(), sum), ("p".into(), product), ("a again".into(), a)]);
    graph
}

#[test]
fn inputs_and_outputs_have_names_and_any_order() {
    let mut session = Model::from_graph(two_inputs()).unwrap().session(&SessionOptions { batch: 2, ..Default::default() }).unwrap();
    assert_eq!(session.input_names(), ["a", "b"]);
    assert_eq!(session.output_names(), ["s", "p", "a again"]);
    assert_eq!(session.input_shapes(), [shape(&[2, 3]), shape(&[2, 1])]);
    let a = Tensor::from_slice(shape(&[1, 3]), &[1.0f32, 2.0, 3.0]).unwrap();
    let b = Tensor::from_slice(shape(&[1, 1]), &[10.0f32]).unwrap();
    let outputs = session.run_named(&[("b", b.view()), ("a", a.view())]).unwrap();
    let values: Vec<(&str, &[f32])> = outputs.iter().map(|(name, t)| (name.as_str(), t.as_slice())).collect();
    assert_eq!(values, [("s", &[11.0, 12.0, 13.0][..]), ("p", &[-10.0, -20.0, -30.0]), ("a again", &[1.0, 2.0, 3.0])]);

    let (mut s, mut p, mut again) = (Tensor::zeros(shape(&[1, 3])).unwrap(), Tensor::zeros(shape(&[1, 3])).unwrap(), a.clone());
    session.run_all_into(&[a.view(), b.view()], &mut [s.view_mut(), p.view_mut(), again.view_mut()]).unwrap();
    assert_eq!((s.as_slice(), p.as_slice()), (outputs[0].1.as_slice(), outputs[1].1.as_slice()));
}

#[test]
fn inputs_that_are_missing_unknown_double_or_misshaped_are_named() {
    let model = Model::from_graph(two_inputs()).unwrap();
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let (a, b, c) = (random(&[2, 3], 1), random(&[2, 1], 2), random(&[3, 1], 3));
    let mut refused = |inputs: &[(&str, &Tensor<f32>)], expected: &str| {
        let views: Vec<_> = inputs.iter().map(|(name, tensor)| (*name, tensor.view())).collect();
        let error = session.run_named(&views).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&[("a", &a)], "input `b`: it is missing");
    refused(&[("a", &a), ("b", &b), ("x", &b)], "input `x`");
    refused(&[("a", &a), ("a", &a)], "given twice");
    refused(&[("a", &a), ("b", &c)], "input `b`: expected shape [N = 2, 1], found [3, 1]");
    refused(&[("a", &b), ("b", &b)], "input `a`: expected shape [N, 3]");
    assert!(matches!(session.run(&a), Err(Error::InvalidArgument { .. })));
    let options = SessionOptions { shapes: vec![("c".into(), vec![1])], ..Default::default() };
    assert!(model.session(&options).unwrap_err().to_string().contains("input `c`"));
    let options = SessionOptions { shapes: vec![("b".into(), vec![5, 1])], ..Default::default() };
    assert_eq!(model.session(&options).unwrap().input_shapes(), [shape(&[5, 3]), shape(&[5, 1])]);
    assert!(session.run_named(&[("a", a.view()), ("b", b.view())]).is_ok());
}

/// What steps read as the caller gives it is not copied, and what is written in place is not the caller's.
#[test]
fn an_input_is_copied_only_where_it_is_an_output_too() {
    let x = random(&[2, 800], 5);
    let negated: Vec<f32> = x.as_slice().iter().map(|value| -value).collect();
    for buffers in [1, 2] {
        let mut graph = Graph::without_inputs("negated");
        let input = graph.add_input("x", vec![Dim::Fixed(2), Dim::Fixed(800)]).unwrap();
        let output = graph.add("y", Op::Tensor(TensorOp::Map(Unary::Neg)), &[input]).unwrap();
        graph.set_outputs(&[output, input][..buffers]);
        let mut session = Model::from_graph(graph).unwrap().session(&SessionOptions::default()).unwrap();
        assert_eq!(session.arena_bytes(), buffers * 1600 * size_of::<f32>());
        let outputs = session.run_named(&[("x", x.view())]).unwrap();
        assert_eq!(outputs[0].1.as_slice(), negated);
        assert_eq!(x, random(&[2, 800], 5));
        assert!(outputs[1..].iter().all(|(_, again)| *again == x));
    }
}

/// A graph over one input of random numbers; with `blocked` there is an op in front that leaves them in NCHW16c.
fn single(dims: &[usize], blocked: bool, build: &dyn Fn(&mut Graph, ValueId) -> ValueId) -> Graph {
    let mut graph = Graph::without_inputs("test");
    let mut x = graph.add_input("x", dims.iter().map(|&d| Dim::Fixed(d)).collect()).unwrap();
    if blocked {
        x = graph.add("blocks", Op::Activation(Activation::Clamp(f32::MIN, f32::MAX)), &[x]).unwrap();
    }
    let output = build(&mut graph, x);
    graph.set_outputs(&[output]);
    graph
}

/// Runs a graph row-major, and in blocks on one and three threads; returns how many changes of form there were.
fn compare(what: &str, dims: &[usize], build: &dyn Fn(&mut Graph, ValueId) -> ValueId) -> usize {
    let x = random(dims, 7);
    let run = |blocked: bool, threads: usize| {
        let model = Model::from_graph(single(dims, blocked, build)).unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut session = model.session(&SessionOptions { threads: Threads::Count(threads), ..Default::default() }).unwrap();
        let y = session.run(&x).unwrap();
        assert_eq!(session.run(&x).unwrap(), y, "{what}: a second run gives something else");
        (y, session.steps().iter().filter(|step| step.op == "Layout").count())
    };
    let (dense, _) = run(false, 1);
    let (one, changes) = run(true, 1);
    assert_eq!(run(true, 3).0, one, "{what}: the bits depend on the threads");
    assert_eq!(one.dims(), dense.dims(), "{what}");
    for (i, (a, b)) in one.as_slice().iter().zip(dense.as_slice()).enumerate() {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{what}, element {i}: {a} in blocks, {b} row-major");
    }
    changes
}

fn sliding(kernel: usize, stride: usize, dilation: usize, pads: [usize; 2]) -> Sliding {
    Sliding { kernel, stride, dilation, pads, ceil_mode: true, count_include_pad: false }
}

#[test]
fn ops_in_blocks_compute_what_they_compute_row_major_and_stay_in_their_layout() {
    let rule = Rule { coordinates: Coordinates::HalfPixel, interpolation: Interpolation::Linear, exclude_outside: false, antialias: false };
    let combine = |function| TensorOp::Combine { function, then: Unary::Tanh };
    let windows = vec![sliding(3, 2, 1, [1, 1]), sliding(2, 1, 2, [0, 1])];
    let slice = |starts: Vec<i64>, ends: Vec<i64>, axes: Vec<usize>, steps: Vec<i64>| TensorOp::Slice { starts, ends, axes, steps };
    let pads = vec![0, 0, 1, 2, 0, 0, 0, -1];
    let ops = [
        TensorOp::Map(Unary::Silu),
        TensorOp::Map(Unary::Exp),
        TensorOp::Pool { reduction: pool::Reduction::Maximum, windows: windows.clone() },
        TensorOp::Pool { reduction: pool::Reduction::Mean, windows },
        TensorOp::Reduce { reduction: Reduction::Mean, axes: vec![2, 3], keep: true },
        TensorOp::Reduce { reduction: Reduction::Max, axes: vec![2, 3], keep: false },
        TensorOp::Concat { axis: 1 },
        slice(vec![3], vec![i64::MAX], vec![1], vec![1]),
        slice(vec![-30], vec![-1], vec![1], vec![4]),
        slice(vec![1, -3], vec![8, i64::MAX], vec![2, 3], vec![3, 2]),
        TensorOp::Pad { pads, mode: PadMode::Constant(0.5) },
        TensorOp::Resize { axes: vec![None, None, Some((17, 17.0 / 9.0)), Some((4, 0.5))], rules: vec![rule; 4], extrapolation: 0.0 },
        TensorOp::DepthToSpace { block: 2, crd: false },
        TensorOp::DepthToSpace { block: 2, crd: true },
        TensorOp::Lrn { size: 5, coefficients: [0.1, 0.75, 1.0] },
        TensorOp::ChannelShuffle { groups: 4 },
    ];
    let dims = [2, 36, 9, 8];
    for op in ops {
        let changes = compare(&format!("{op:?}"), &dims, &|g, x| g.add("op", Op::Tensor(op.clone()), &[x]).unwrap());
        assert_eq!(changes, 0, "{op:?}");
    }
    let op = TensorOp::SpaceToDepth { block: 2 };
    assert_eq!(compare("SpaceToDepth", &[1, 5, 4, 6], &|g, x| g.add("op", Op::Tensor(op.clone()), &[x]).unwrap()), 0);
    for (constant, first) in
        [(vec![36, 1, 1], true), (vec![1], false), (vec![2, 1, 9, 8], true), (vec![1, 36, 9, 8], false), (vec![8], true)]
    {
        let changes = compare(&format!("sum with {constant:?}"), &dims, &|g, x| {
            let c = g.add_constant("c", Arc::new(random(&constant, 3)));
            g.add("op", Op::Tensor(combine(Binary::Sub)), &if first { [x, c] } else { [c, x] }).unwrap()
        });
        assert_eq!(changes, 0, "{constant:?}");
    }
    // Squeeze and excitation: a scale for each channel that is computed.
    let changes = compare("excitation", &dims, &|g, x| {
        let mean = g.add("mean", Op::GlobalAveragePool, &[x]).unwrap();
        g.add("scale", Op::Tensor(combine(Binary::Mul)), &[x, mean]).unwrap()
    });
    assert_eq!(changes, 0);
    // A sequence is an image of one row.
    let pool = TensorOp::Pool { reduction: pool::Reduction::Mean, windows: vec![sliding(3, 2, 1, [1, 0])] };
    assert_eq!(compare("1-D pooling", &[2, 20, 11], &|g, x| g.add("op", Op::Tensor(pool.clone()), &[x]).unwrap()), 0);
    let norm = TensorOp::InstanceNormalization { epsilon: 1e-5 };
    let changes = compare("InstanceNormalization", &dims, &|g, x| {
        let parameters = [1, 2].map(|seed| g.add_constant("c", Arc::new(random(&[36], seed))));
        g.add("op", Op::Tensor(norm.clone()), &[x, parameters[0], parameters[1]]).unwrap()
    });
    assert_eq!(changes, 0);
}

#[test]
fn ops_that_are_row_major_alone_read_and_are_read_by_convolutions() {
    let weight = |oc: usize, c: usize, seed| Op::Conv {
        weight: random(&[oc, c, 1, 1], seed).into(),
        bias: None,
        attributes: ConvAttributes::default(),
        activation: Activation::None,
    };
    // Layer normalisation of the channels, as ConvNeXt has it, between two convolutions.
    let changes = compare("between convolutions", &[2, 20, 5, 7], &|g, x| {
        let y = g.add("conv1", weight(24, 20, 1), &[x]).unwrap();
        let y = g.add("out", Op::Tensor(TensorOp::Transpose(vec![0, 2, 3, 1])), &[y]).unwrap();
        let [scale, shift] = [3, 4].map(|seed| g.add_constant("c", Arc::new(random(&[24], seed))));
        let y = g.add("norm", Op::Tensor(TensorOp::LayerNormalization { axis: 3, epsilon: 1e-6 }), &[y, scale, shift]).unwrap();
        let right = g.add_constant("w", Arc::new(random(&[24, 24], 5)));
        let y = g.add("matmul", Op::Tensor(TensorOp::MatMul), &[y, right]).unwrap();
        let y = g.add("back", Op::Tensor(TensorOp::Transpose(vec![0, 3, 1, 2])), &[y]).unwrap();
        let y = g.add("conv2", weight(16, 24, 2), &[y]).unwrap();
        let y = g.add("reshape", Op::Tensor(TensorOp::Reshape(vec![2, 4, 4, 35])), &[y]).unwrap();
        g.add("first", Op::Tensor(TensorOp::TopK { axis: 2, k: 2, extreme: Extreme::Max, places: false }), &[y]).unwrap()
    });
    assert!(changes >= 2, "{changes}");
}

#[test]
fn tensors_of_any_rank_run() {
    for dims in [vec![], vec![5], vec![2, 3, 4, 5, 6], vec![1, 2, 3, 1, 2, 2]] {
        let graph = single(&dims, false, &|g, x| {
            let y = g.add("half", Op::Tensor(TensorOp::Map(Unary::Affine { scale: 0.5, shift: 0.0 })), &[x]).unwrap();
            g.add("sum", Op::Tensor(TensorOp::Combine { function: Binary::Add, then: Unary::Identity }), &[x, y]).unwrap()
        });
        let mut session = Model::from_graph(graph).unwrap().session(&SessionOptions::default()).unwrap();
        let x = random(&dims, 1);
        let y = session.run(&x).unwrap();
        assert_eq!(y.dims(), dims);
        assert!(y.as_slice().iter().zip(x.as_slice()).all(|(y, x)| *y == x + 0.5 * x));
    }
}

#[test]
fn an_op_that_does_not_fit_is_named() {
    let graph = single(&[2, 3], false, &|g, x| g.add("the culprit", Op::Tensor(TensorOp::Transpose(vec![0, 0])), &[x]).unwrap());
    let error = Model::from_graph(graph).unwrap_err().to_string();
    assert!(error.contains("the culprit") && error.contains("transposition"), "{error}");
}

/// Adds what exporters write for a function, one op after the other.
struct Writer<'a>(&'a mut Graph, usize);

impl Writer<'_> {
    fn op(&mut self, op: TensorOp, inputs: &[ValueId]) -> ValueId {
        self.1 += 1;
        self.0.add(format!("op {}", self.1), Op::Tensor(op), inputs).unwrap()
    }

    fn map(&mut self, function: Unary, x: ValueId) -> ValueId {
        self.op(TensorOp::Map(function), &[x])
    }

    fn combine(&mut self, function: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.op(TensorOp::Combine { function, then: Unary::Identity }, &[a, b])
    }

    fn number(&mut self, value: f32) -> ValueId {
        self.0.add_constant("number", Arc::new(Tensor::from_slice(shape(&[]), &[value]).unwrap()))
    }

    fn with_number(&mut self, function: Binary, x: ValueId, value: f32) -> ValueId {
        let number = self.number(value);
        self.combine(function, x, number)
    }
}

type Spelled = fn(&mut Writer<'_>, ValueId) -> ValueId;

#[test]
fn what_exporters_spell_out_is_fused_and_computes_the_same() {
    let cases: Vec<(&str, Spelled, &[&str])> = vec![
        (
            "SiLU",
            |w, x| {
                let s = w.map(Unary::Sigmoid, x);
                w.combine(Binary::Mul, x, s)
            },
            &["Swish"],
        ),
        (
            "SiLU, the other way round",
            |w, x| {
                let s = w.map(Unary::Sigmoid, x);
                w.combine(Binary::Mul, s, x)
            },
            &["Swish"],
        ),
        (
            "hard swish by x·(gate/6)",
            |w, x| {
                let plus = w.with_number(Binary::Add, x, 3.0);
                let gate = w.map(Unary::Clip { low: 0.0, high: 6.0 }, plus);
                let sixth = w.with_number(Binary::Div, gate, 6.0);
                w.combine(Binary::Mul, x, sixth)
            },
            &["HardSwish"],
        ),
        (
            "hard swish by (x·gate)/6",
            |w, x| {
                let plus = w.with_number(Binary::Add, x, 3.0);
                let gate = w.map(Unary::Clip { low: 0.0, high: 6.0 }, plus);
                let product = w.combine(Binary::Mul, x, gate);
                w.with_number(Binary::Div, product, 6.0)
            },
            &["HardSwish"],
        ),
        (
            "hard swish by hard sigmoid",
            |w, x| {
                let gate = w.map(Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, x);
                w.combine(Binary::Mul, x, gate)
            },
            &["HardSwish"],
        ),
        (
            "Mish",
            |w, x| {
                let soft = w.map(Unary::Softplus, x);
                let gate = w.map(Unary::Tanh, soft);
                w.combine(Binary::Mul, x, gate)
            },
            &["Mish"],
        ),
        (
            "GELU, halved last",
            |w, x| {
                let scaled = w.with_number(Binary::Div, x, std::f32::consts::SQRT_2);
                let erf = w.map(Unary::Erf, scaled);
                let plus = w.with_number(Binary::Add, erf, 1.0);
                let product = w.combine(Binary::Mul, x, plus);
                w.with_number(Binary::Mul, product, 0.5)
            },
            &["Gelu"],
        ),
        (
            "GELU, halved first",
            |w, x| {
                let half = w.with_number(Binary::Mul, x, 0.5);
                let scaled = w.with_number(Binary::Div, x, std::f32::consts::SQRT_2);
                let erf = w.map(Unary::Erf, scaled);
                let plus = w.with_number(Binary::Add, erf, 1.0);
                w.combine(Binary::Mul, half, plus)
            },
            &["Gelu"],
        ),
        (
            "a gate of something else stays",
            |w, x| {
                let other = w.map(Unary::Exp, x);
                let gate = w.map(Unary::Sigmoid, other);
                w.combine(Binary::Mul, x, gate)
            },
            &["Exp", "Sigmoid", "Mul"],
        ),
        (
            "a function of a sum",
            |w, x| {
                let other = w.map(Unary::Exp, x);
                let sum = w.combine(Binary::Add, x, other);
                w.map(Unary::Tanh, sum)
            },
            &["Exp", "Add"],
        ),
        (
            "channel shuffle",
            |w, x| {
                let groups = w.op(TensorOp::Reshape(vec![2, 4, 5, 6, 7]), &[x]);
                let turned = w.op(TensorOp::Transpose(vec![0, 2, 1, 3, 4]), &[groups]);
                w.op(TensorOp::Reshape(vec![2, 20, 6, 7]), &[turned])
            },
            &["ChannelShuffle"],
        ),
        (
            "a transposition that is no shuffle",
            |w, x| {
                let groups = w.op(TensorOp::Reshape(vec![2, 4, 5, 6, 7]), &[x]);
                let turned = w.op(TensorOp::Transpose(vec![0, 2, 1, 3, 4]), &[groups]);
                w.op(TensorOp::Reshape(vec![2, 20, 7, 6]), &[turned])
            },
            &["Reshape", "Transpose", "Reshape"],
        ),
    ];
    let dims = [2, 20, 6, 7];
    for (what, build, expected) in cases {
        let graph = single(&dims, false, &|g, x| build(&mut Writer(g, 0), x));
        let fused = Model::from_graph(graph.clone()).unwrap();
        let ops: Vec<&str> = fused.graph().nodes().iter().map(|node| node.op.name()).collect();
        assert_eq!(ops, expected, "{what}");
        same(what, &dims, fused, Model::from_graph_as_is(graph).unwrap());
    }
}

#[test]
fn what_is_around_a_convolution_goes_into_it() {
    let weights = |seed| random(&[24, 20, 3, 3], seed).into();
    let conv = |seed| Op::Conv { weight: weights(seed), bias: None, attributes: ConvAttributes::default(), activation: Activation::None };
    let dims = [2, 20, 9, 8];
    let graph = single(&dims, false, &|g, x| {
        let pads = vec![0, 0, 1, 0, 0, 0, 2, 1];
        let x = Writer(g, 0).op(TensorOp::Pad { pads, mode: PadMode::Constant(0.0) }, &[x]);
        let y = g.add("conv", conv(1), &[x]).unwrap();
        let [scale, shift] = [2, 3].map(|seed| g.add_constant("c", Arc::new(random(&[24, 1, 1], seed))));
        let mut w = Writer(g, 10);
        let y = w.combine(Binary::Mul, y, scale);
        let y = w.combine(Binary::Sub, shift, y);
        let y = w.with_number(Binary::Div, y, 3.0);
        w.map(Unary::Clip { low: -0.5, high: 0.5 }, y)
    });
    let fused = Model::from_graph(graph.clone()).unwrap();
    assert_eq!(fused.graph().nodes().len(), 1, "{:?}", fused.graph().nodes());
    same("around a convolution", &dims, fused, Model::from_graph_as_is(graph).unwrap());

    // A residual sum of two values, in either order, and one that is broadcast, which stays.
    for (broadcast, nodes) in [(false, 2), (true, 3)] {
        let graph = single(&dims, false, &|g, x| {
            let a = g.add("a", conv(1), &[x]).unwrap();
            let a = g.add("relu", Op::Activation(Activation::Relu), &[a]).unwrap();
            let b = g.add("b", conv(2), &[x]).unwrap();
            let b = if broadcast { g.add("mean", Op::GlobalAveragePool, &[b]).unwrap() } else { b };
            let mut w = Writer(g, 0);
            let sum = w.combine(Binary::Add, a, b);
            w.map(Unary::Relu, sum)
        });
        let fused = Model::from_graph(graph.clone()).unwrap();
        assert_eq!(fused.graph().nodes().len(), if broadcast { nodes + 1 } else { nodes });
        same("residual", &dims, fused, Model::from_graph_as_is(graph).unwrap());
    }
}

#[test]
fn a_batch_norm_that_no_convolution_takes_is_one_pass_with_what_follows_it() {
    let dims = [2, 20, 9, 8];
    let graph = single(&dims, false, &|g, x| {
        let [scale, bias, mean] = [1, 2, 3].map(|seed| Arc::new(random(&[20], seed)));
        let variance = Arc::new(Tensor::from_slice(shape(&[20]), &[0.5; 20]).unwrap());
        let y = g.add("norm", Op::BatchNormalization { scale, bias, mean, variance, epsilon: 1e-5 }, &[x]).unwrap();
        let [scale, shift] = [4, 5].map(|seed| g.add_constant("c", Arc::new(random(&[20, 1, 1], seed))));
        let mut w = Writer(g, 0);
        let y = w.combine(Binary::Mul, y, scale);
        let y = w.combine(Binary::Add, y, shift);
        w.map(Unary::Relu, y)
    });
    let fused = Model::from_graph(graph.clone()).unwrap();
    let ops: Vec<&str> = fused.graph().nodes().iter().map(|node| node.op.name()).collect();
    assert_eq!(ops, ["ScaleShift"]);
    same("a BatchNorm alone", &dims, fused, Model::from_graph_as_is(graph).unwrap());
}

/// Two models give the same, but for rounding.
fn same(what: &str, dims: &[usize], a: Model, b: Model) {
    let x = random(dims, 11);
    let run = |model: Model| model.session(&SessionOptions::default()).unwrap().run(&x).unwrap();
    let (a, b) = (run(a), run(b));
    assert_eq!(a.dims(), b.dims(), "{what}");
    for (a, b) in a.as_slice().iter().zip(b.as_slice()) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{what}: {a} fused, {b} as it is");
    }
}
