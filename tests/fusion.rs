//! What the passes make of a network computes what the network computes.

use std::collections::HashMap;
use std::sync::Arc;
use stridewise::graph::{Activation, ConvAttributes, Graph, Op, TensorOp, ValueId};
use stridewise::models::init::Initializer;
use stridewise::models::{Block, Cifar, Init, MobileNet, Parameter, ResNet, Shortcut, WeightSource};
use stridewise::{Arch, Model, Result, SessionOptions, Shape, Tensor, Threads};
use stridewise_kernels::Unary;

/// Initial weights, but BatchNorms that do something.
struct Trained(Initializer);

impl WeightSource for Trained {
    fn tensor(&mut self, parameter: &Parameter) -> Result<Tensor<f32>> {
        let Init::Constant(base) = parameter.init else { return self.0.tensor(parameter) };
        let mut spread = parameter.clone();
        spread.init = Init::Uniform { bound: 0.4 };
        let mut tensor = self.0.tensor(&spread)?;
        tensor.as_mut_slice().iter_mut().for_each(|v| *v += base);
        Ok(tensor)
    }
}

fn taps(model: &Model, x: &Tensor<f32>) -> HashMap<String, Tensor<f32>> {
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let mut taps = HashMap::new();
    session
        .run_with_taps(x, &mut |name, value| {
            assert!(taps.insert(name.to_string(), value).is_none(), "{name} twice");
        })
        .unwrap();
    taps
}

fn noise(dims: &[usize]) -> Tensor<f32> {
    let shape = Shape::new(dims).unwrap();
    let values: Vec<f32> = (0..shape.elements()).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect();
    Tensor::from_slice(shape, &values).unwrap()
}

#[test]
fn the_fused_graph_computes_what_the_unfused_one_computes_at_every_value() {
    for arch in [
        Arch::ResNet(ResNet::new(Block::Basic, [1, 2, 1, 1])),
        Arch::ResNet(ResNet::new(Block::Bottleneck, [2, 1, 1, 1])),
        Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1]).with_groups(32, 4)),
        Arch::Cifar(Cifar { blocks: 2, shortcut: Shortcut::PadChannels }),
        Arch::Cifar(Cifar { blocks: 2, shortcut: Shortcut::None }),
        Arch::Vgg11Bn,
        Arch::MobileNet(MobileNet { width: 50 }),
    ] {
        let graph = arch.graph(10, &mut Trained(Initializer::new(5))).unwrap();
        let x = noise(&[2, 3, 37, 32]);
        let unfused = taps(&Model::from_graph_as_is(graph.clone()).unwrap(), &x);
        let fused = taps(&Model::from_graph(graph).unwrap(), &x);
        assert!(fused.len() < unfused.len() && fused.len() > 5, "{arch}: {} and {}", fused.len(), unfused.len());
        for (name, value) in &fused {
            let expected = unfused.get(name).unwrap_or_else(|| panic!("{arch}: no value {name} in the unfused graph"));
            let scale = expected.as_slice().iter().fold(0f32, |m, v| m.max(v.abs()));
            let error = value.as_slice().iter().zip(expected.as_slice()).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(scale > 0.0 && error <= 1e-5 * scale, "{arch} {name}: off by {error} of {scale}");
        }
    }
}

fn parameter(name: &str, dims: &[usize], init: Init) -> Parameter {
    Parameter { name: name.into(), shape: Shape::new(dims).unwrap(), init, trained: true }
}

/// conv → BatchNorm, with γ = `gamma` and β = 0.
fn conv_bn(g: &mut Graph, name: &str, x: ValueId, [oc, c, k]: [usize; 3], gamma: f32) -> ValueId {
    let mut init = Initializer::new(8);
    let mut tensor =
        |what: &str, dims: &[usize], init_as: Init| Arc::new(init.tensor(&parameter(&format!("{name}.{what}"), dims, init_as)).unwrap());
    let pad = k / 2;
    let attributes = ConvAttributes { pads: [pad; 4], ..Default::default() };
    let weight = tensor("weight", &[oc, c, k, k], Init::Normal { std: 0.2 });
    let y = g.add(name, Op::Conv { weight: weight.into(), bias: None, attributes, activation: Activation::None }, &[x]).unwrap();
    let bn = Op::BatchNormalization {
        scale: tensor("scale", &[oc], Init::Constant(gamma)),
        bias: tensor("bias", &[oc], Init::Constant(0.0)),
        mean: tensor("mean", &[oc], Init::Uniform { bound: 0.5 }),
        variance: tensor("variance", &[oc], Init::Constant(0.7)),
        epsilon: 1e-5,
    };
    g.add(format!("{name}.bn"), bn, &[y]).unwrap()
}

#[test]
fn a_bottleneck_whose_branch_is_zero_is_exactly_the_identity_and_relu() {
    let mut g = Graph::new("bottleneck", 64, [9, 7]);
    let x = g.input().value;
    let relu = |g: &mut Graph, name: &str, x| g.add(name, Op::Activation(Activation::Relu), &[x]).unwrap();
    let y = conv_bn(&mut g, "conv1", x, [16, 64, 1], 1.0);
    let y = relu(&mut g, "relu1", y);
    let y = conv_bn(&mut g, "conv2", y, [16, 16, 3], 1.0);
    let y = relu(&mut g, "relu2", y);
    let y = conv_bn(&mut g, "conv3", y, [64, 16, 1], 0.0);
    let y = g.add("add", Op::Add(Activation::None), &[y, x]).unwrap();
    let y = relu(&mut g, "relu3", y);
    g.set_outputs(&[y]);
    let model = Model::from_graph(g).unwrap();
    let mut session = model.session(&SessionOptions { batch: 2, ..Default::default() }).unwrap();
    assert_eq!(session.steps().len(), 3, "{}", session.explain());
    let x = noise(&[2, 64, 9, 7]);
    let y = session.run(&x).unwrap();
    assert!(x.as_slice().iter().any(|v| *v < 0.0));
    for (found, given) in y.as_slice().iter().zip(x.as_slice()) {
        assert_eq!(found.to_bits(), given.max(0.0).to_bits());
    }
}

/// A function behind a convolution is a step of its own where the convolution's output is an output of the graph, too.
#[test]
fn a_function_behind_a_convolution_is_computed_with_it_and_has_the_same_bits() {
    let conv = |g: &mut Graph, x: &[ValueId], [oc, c, k]: [usize; 3], groups: usize, stride: usize, pad: usize| {
        let weight = Initializer::new(3).tensor(&parameter("w", &[oc, c / groups, k, k], Init::Normal { std: 0.2 })).unwrap();
        let attributes = ConvAttributes { pads: [pad; 4], groups, stride: [stride; 2], ..Default::default() };
        g.add("conv", Op::Conv { weight: weight.into(), bias: None, attributes, activation: Activation::None }, x).unwrap()
    };
    let functions = [Unary::HardSwish, Unary::Silu, Unary::Sigmoid, Unary::Elu { alpha: 0.5 }];
    for (index, (dims, groups, stride, pad, residual)) in [
        ([64, 32, 1], 1, 1, 0, false),
        ([32, 32, 1], 1, 1, 0, true),
        ([20, 32, 3], 1, 2, 1, false),
        ([64, 32, 3], 1, 1, 1, false),
        ([32, 32, 3], 32, 1, 1, true),
        ([32, 32, 3], 4, 1, 1, false),
        ([24, 32, 3], 1, 1, 3, false),
        ([2048, 32, 1], 1, 2, 0, false),
    ]
    .into_iter()
    .enumerate()
    {
        let function = functions[index % functions.len()];
        let build = |seen: bool| {
            let mut g = Graph::new("function", 32, [29, 31]);
            let x = g.input().value;
            let y = conv(&mut g, &[x, x][..1 + usize::from(residual)], dims, groups, stride, pad);
            let z = g.add("function", Op::Tensor(TensorOp::Map(function)), &[y]).unwrap();
            g.set_outputs(&[z, y][..1 + usize::from(seen)]);
            Model::from_graph(g).unwrap()
        };
        let x = noise(&[2, 32, 29, 31]);
        let input = build(true).graph().input().name.clone();
        let run = |seen: bool, threads: usize, steps: usize| {
            let options = SessionOptions { batch: 2, threads: Threads::Count(threads), ..Default::default() };
            let mut session = build(seen).session(&options).unwrap();
            let others = session.steps().iter().filter(|step| step.op != "Layout").count();
            assert_eq!(others, steps, "{dims:?} in {groups} groups:\n{}", session.explain());
            session.run_named(&[(&input, x.view())]).unwrap().swap_remove(0).1
        };
        let expected = run(true, 1, 2);
        for threads in [1, 3] {
            assert!(run(false, threads, 1) == expected, "{dims:?} in {groups} groups, {function:?}, {threads} threads");
        }
    }
}

#[test]
fn zero_init_residual_makes_every_block_without_projection_the_identity() {
    let arch = Arch::ResNet(ResNet::new(Block::Bottleneck, [2, 2, 1, 1]));
    let graph = arch.graph(10, &mut Initializer::new(0).zero_init_residual(true)).unwrap();
    let taps = taps(&Model::from_graph(graph).unwrap(), &noise(&[1, 3, 64, 64]));
    for stage in ["layer1", "layer2"] {
        let (before, after) = (&taps[&format!("{stage}.0.relu_2")], &taps[&format!("{stage}.1.relu_2")]);
        assert!(before.as_slice().iter().any(|v| *v > 0.0));
        assert_eq!(before, after, "{stage}");
    }
}

#[test]
fn explain_shows_three_fused_convolutions_in_a_bottleneck() {
    let model = Model::random(Arch::ResNet50, 0).unwrap();
    let session = model.session(&SessionOptions::default()).unwrap();
    let explained = session.explain();
    let lines = |prefix: &str| explained.lines().filter(|l| l.starts_with(prefix)).count();
    assert_eq!((lines("layer1.0."), lines("layer1.1."), lines("layer4.0."), lines("layer4.2.")), (4, 3, 4, 3), "{explained}");
    assert!(explained.contains("53 convolutions") && explained.contains("4.089 GMAC"), "{explained}");
    for line in explained.lines().filter(|l| l.contains(".conv3 ")) {
        assert!(line.contains("bias+residual+relu"), "{line}");
    }
}
