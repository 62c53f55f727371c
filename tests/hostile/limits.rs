//! `max_memory` is held before memory is asked for, and is kept.

use super::measured::{alone, peak_of};
use std::sync::Arc;
use stridewise::graph::{Activation, ConvAttributes, Dim, Graph, Op, TensorOp, ValueId};
use stridewise::models::{Block, ResNet};
use stridewise::{Arch, Error, Model, SessionOptions, Shape, Tensor, Threads};
use stridewise_kernels::dense::PadMode;
use stridewise_kernels::resize::{Coordinates, Interpolation, Nearest, Rule};

/// Beside arena, scratch and packed weights: the plan itself, tables of offsets, messages.
const OVERHEAD: usize = 4 << 20;

/// Bytes of the largest layer's weights. While they are packed they may be there twice more: as they are read, and scaled by a
/// BatchNorm.
fn largest(model: &Model) -> usize {
    let classes = model.arch().unwrap().default_classes();
    let parameters = model.arch().unwrap().module(classes).unwrap().parameters().unwrap();
    4 * parameters.iter().map(|p| p.shape.elements()).max().unwrap()
}

#[test]
fn max_memory_is_respected_before_allocation() {
    let _alone = alone();
    let model = Model::random(Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1])), 0).unwrap();
    let weights: usize =
        4 * model.arch().unwrap().module(1000).unwrap().parameters().unwrap().iter().map(|p| p.shape.elements()).sum::<usize>();
    let most = OVERHEAD + 2 * largest(&model);
    for threads in [1, 2] {
        for (batch, side) in
            [(1, 64), (1, 224), (7, 64), (1 << 20, 224), (1, 1 << 20), (usize::MAX / 3, 224), (1, usize::MAX / 2), (1 << 40, 1 << 20)]
        {
            for max_memory in [0, 1, 1 << 20, weights / 2, weights + (4 << 20)] {
                let options =
                    SessionOptions { threads: Threads::Count(threads), batch, size: Some([side; 2]), max_memory, ..Default::default() };
                let (result, peak) = peak_of(|| model.session(&options).map(|s| s.memory_required() + s.weight_bytes()));
                let context = format!("{batch} of {side}x{side} within {max_memory} bytes");
                match result {
                    Ok(used) => assert!(used <= max_memory && peak <= max_memory + most, "{context}: {used} used, {peak} at the peak"),
                    Err(error) => {
                        assert!(
                            matches!(error, Error::TooLarge { .. } | Error::Shape { .. } | Error::Graph { .. }),
                            "{context}: {error:?}"
                        );
                        assert!(peak <= OVERHEAD, "{context}: {peak} bytes were asked for before it was refused");
                    }
                }
            }
        }
    }
}

/// What a session says that it needs is what it asks for.
#[test]
fn memory_required_is_what_is_asked_for() {
    let _alone = alone();
    for arch in [Arch::ResNet18, Arch::MobileNetV2, Arch::ResNet20Cifar, Arch::Plain20Cifar] {
        let model = Model::random(arch, 0).unwrap();
        let options = SessionOptions { size: Some([96, 96]), ..Default::default() };
        let (session, peak) = peak_of(|| model.session(&options).unwrap());
        let said = session.memory_required() + session.weight_bytes();
        assert!(peak >= said && peak <= said + OVERHEAD + 2 * largest(&model), "{arch}: {said} bytes said, {peak} asked for");
    }
}

/// A few bytes of a file say how long an axis becomes: what a kernel would list for each of its elements is held against the limit too.
#[test]
fn no_table_is_made_before_the_limit_is_looked_at() {
    let _alone = alone();
    const LONG: usize = 1 << 20;
    let pad = |mode| TensorOp::Pad { pads: vec![0, LONG as i64 - 2, 0, 0], mode };
    let resize = |interpolation, from: usize, scale| {
        let rule = Rule { coordinates: Coordinates::HalfPixel, interpolation, exclude_outside: false, antialias: true };
        (TensorOp::Resize { axes: vec![None, Some((LONG, scale))], rules: vec![rule; 2], extrapolation: 0.0 }, vec![vec![1, from]])
    };
    let nearest = Interpolation::Nearest(Nearest::Floor);
    for (what, (op, inputs)) in [
        ("a constant around", (pad(PadMode::Constant(1.0)), vec![vec![1, 2]])),
        ("mirrored", (pad(PadMode::Reflect), vec![vec![1, 2]])),
        ("the edge", (pad(PadMode::Edge), vec![vec![1, 2]])),
        ("repeated", (pad(PadMode::Wrap), vec![vec![1, 2]])),
        ("products", (TensorOp::MatMul, vec![vec![LONG, 1, 1]; 2])),
        ("channels", (TensorOp::ChannelShuffle { groups: 2 }, vec![vec![1, LONG, 1]])),
        ("nearest", resize(nearest, 2, LONG as f64 / 2.0)),
        ("linear", resize(Interpolation::Linear, 2, LONG as f64 / 2.0)),
        // Each element of the output is one of the whole input, which is as small.
        ("a lying scale", resize(Interpolation::Linear, 16, 0.1)),
    ] {
        let mut graph = Graph::without_inputs("long");
        let add =
            |(i, dims): (usize, &Vec<usize>)| graph.add_input(format!("x{i}"), dims.iter().map(|d| Dim::Fixed(*d)).collect()).unwrap();
        let values: Vec<_> = inputs.iter().enumerate().map(add).collect();
        let output = graph.add("the op", Op::Tensor(op), &values).unwrap();
        graph.set_outputs(&[output]);
        let shapes: Vec<Shape> = inputs.iter().map(|dims| Shape::new(dims).unwrap()).collect();
        let (inferred, peak) = peak_of(|| graph.infer_shapes_for(&shapes).unwrap());
        assert!(inferred[output.index()].elements() == LONG && peak <= 1 << 16, "{what}: {peak} bytes for a shape");
        let model = Model::from_graph(graph).unwrap();
        let session = |max_memory| peak_of(|| model.session(&SessionOptions { max_memory, ..Default::default() }).map(|_| ()));
        for max_memory in [1 << 16, 1 << 20, 16 << 20, 64 << 20, 256 << 20] {
            match session(max_memory) {
                (Ok(()), peak) => assert!(peak <= max_memory + (1 << 16), "{what}: {peak} bytes within {max_memory}"),
                (Err(error), peak) => {
                    assert!(matches!(error, Error::TooLarge { .. }), "{what} within {max_memory}: {error:?}");
                    assert!(peak <= 1 << 16, "{what}: {peak} bytes before it was refused within {max_memory}");
                }
            }
        }
        session(256 << 20).0.unwrap();
        if what == "nearest" {
            let error = session(16 << 20).0.unwrap_err().to_string();
            assert!(error.contains("`the op`") && error.contains("max_memory"), "{error}");
        }
    }
}

/// What a kernel holds of its own besides values is held against the limit too.
#[test]
fn what_kernels_pack_and_list_is_counted() {
    let _alone = alone();
    const LONG: usize = 1 << 20;
    let input =
        |graph: &mut Graph, name: &str, dims: &[usize]| graph.add_input(name, dims.iter().map(|d| Dim::Fixed(*d)).collect()).unwrap();
    let tensor = |graph: &mut Graph, op, inputs: &[ValueId]| graph.add("the op", Op::Tensor(op), inputs).unwrap();
    type Build<'a> = &'a dyn Fn(&mut Graph) -> ValueId;
    let cases: [(&str, Build<'_>); 3] = [
        // Padded to 4001 × 4001.
        ("a convolution whose weights are an input", &|graph| {
            let (x, w) = (input(graph, "x", &[1, 1, 1, 1]), input(graph, "w", &[1, 1, 1, 1]));
            let attributes = ConvAttributes { pads: [2000; 4], stride: [4001; 2], ..ConvAttributes::default() };
            tensor(graph, TensorOp::Convolution(attributes), &[x, w])
        }),
        // A column, packed in blocks of sixteen.
        ("a packed operand", &|graph| {
            let x = input(graph, "x", &[1, 1, LONG]);
            let right = graph.add_constant("right", Arc::new(Tensor::zeros(Shape::new(&[LONG, 1]).unwrap()).unwrap()));
            tensor(graph, TensorOp::MatMul, &[x, right])
        }),
        // An entry for each channel.
        ("channels in blocks", &|graph| {
            let x = input(graph, "x", &[1, LONG, 1, 1]);
            let blocked = graph.add("relu", Op::Activation(Activation::Relu), &[x]).unwrap();
            tensor(graph, TensorOp::ChannelShuffle { groups: 1024 }, &[blocked])
        }),
    ];
    for (what, build) in cases {
        let mut graph = Graph::without_inputs("long");
        let output = build(&mut graph);
        graph.set_outputs(&[output]);
        let model = Model::from_graph(graph).unwrap();
        let session = |max_memory| peak_of(|| model.session(&SessionOptions { max_memory, ..Default::default() }).map(|_| ()));
        let (refused, peak) = session(16 << 20);
        assert!(matches!(refused, Err(Error::TooLarge { .. })) && peak <= 1 << 16, "{what}: {refused:?}, {peak} bytes before");
        let (accepted, peak) = session(1 << 30);
        assert!(accepted.is_ok() && peak <= 1 << 30, "{what}: {accepted:?}, {peak} bytes");
    }
}
