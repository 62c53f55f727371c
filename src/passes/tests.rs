use super::*;
use crate::graph::{Activation, ConvAttributes, Op};
use crate::models::init::Initializer;
use crate::models::{Arch, Block, Kind, Module, Shortcut};
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

fn zeros(dims: &[usize]) -> Arc<Tensor<f32>> {
    Arc::new(Tensor::zeros(Shape::new(dims).unwrap()).unwrap())
}

fn tensor(values: &[f32]) -> Arc<Tensor<f32>> {
    Arc::new(Tensor::from_slice(Shape::new(&[values.len()]).unwrap(), values).unwrap())
}

fn conv(oc: usize, c: usize, activation: Activation) -> Op {
    Op::Conv { weight: zeros(&[oc, c, 1, 1]).into(), bias: None, attributes: ConvAttributes::default(), activation }
}

fn batch_norm(c: usize) -> Op {
    let ones = vec![1.0; c];
    Op::BatchNormalization { scale: tensor(&ones), bias: tensor(&ones), mean: tensor(&ones), variance: tensor(&ones), epsilon: 1e-5 }
}

fn ops(graph: &Graph) -> Vec<&'static str> {
    graph.nodes().iter().map(|n| n.op.name()).collect()
}

/// `input → 16 channels`, then whatever `build` adds.
fn optimised(build: impl FnOnce(&mut Graph, ValueId) -> ValueId) -> Graph {
    let mut graph = Graph::new("test", 16, [4, 4]);
    let input = graph.input().value;
    let output = build(&mut graph, input);
    graph.set_outputs(&[output]);
    let graph = optimise(graph).unwrap();
    graph.infer_shapes(2, [4, 4]).unwrap();
    graph
}

#[test]
fn a_batch_norm_folds_into_the_convolution_before_it() {
    let graph = optimised(|g, x| {
        let weight = Tensor::from_slice(Shape::new(&[1, 16, 1, 1]).unwrap(), &[3.0; 16]).unwrap().into();
        let op = Op::Conv { weight, bias: Some(tensor(&[0.5])), attributes: ConvAttributes::default(), activation: Activation::None };
        let y = g.add("conv", op, &[x]).unwrap();
        let bn = Op::BatchNormalization {
            scale: tensor(&[3.0]),
            bias: tensor(&[0.25]),
            mean: tensor(&[1.5]),
            variance: tensor(&[4.0]),
            epsilon: 0.0,
        };
        g.add("bn", bn, &[y]).unwrap()
    });
    assert_eq!(ops(&graph), ["Conv"]);
    let Op::Conv { weight, bias, .. } = &graph.nodes()[0].op else { panic!("no convolution") };
    // f = 3/√4 = 1.5; bias (0.5 − 1.5)·1.5 + 0.25.
    assert_eq!(weight.read("conv").unwrap().as_slice(), [4.5; 16]);
    assert_eq!(bias.as_ref().unwrap().as_slice(), [-1.25]);
    assert_eq!(graph.value(graph.outputs()[0]).unwrap().name, "bn");
}

#[test]
fn a_batch_norm_folds_into_the_linear_layer_before_it() {
    let graph = optimised(|g, x| {
        let y = g.add("flatten", Op::Flatten, &[x]).unwrap();
        let weight = Tensor::from_slice(Shape::new(&[2, 256]).unwrap(), &[3.0; 512]).unwrap().into();
        let y = g.add("fc", Op::Gemm { weight, bias: None, activation: Activation::None }, &[y]).unwrap();
        let bn = Op::BatchNormalization {
            scale: tensor(&[3.0, 2.0]),
            bias: tensor(&[0.25, 0.0]),
            mean: tensor(&[1.0, 0.5]),
            variance: tensor(&[4.0, 1.0]),
            epsilon: 0.0,
        };
        let y = g.add("bn", bn, &[y]).unwrap();
        g.add("relu", Op::Activation(Activation::Relu), &[y]).unwrap()
    });
    assert_eq!(ops(&graph), ["Flatten", "Gemm"]);
    let Op::Gemm { weight, bias, activation } = &graph.nodes()[1].op else { panic!("no linear layer") };
    let weight = weight.read("fc").unwrap();
    assert_eq!([weight.as_slice()[0], weight.as_slice()[511]], [4.5, 6.0]);
    assert_eq!((bias.as_ref().unwrap().as_slice(), *activation), (&[-1.25, -1.0][..], Activation::Relu));
}

#[test]
fn a_batch_norm_with_nothing_to_fold_into_stays() {
    // Behind the input, behind an activation, and behind a value that is read twice.
    let graph = optimised(|g, x| {
        let a = g.add("bn0", batch_norm(16), &[x]).unwrap();
        let a = g.add("conv1", conv(16, 16, Activation::Relu), &[a]).unwrap();
        let a = g.add("bn1", batch_norm(16), &[a]).unwrap();
        let a = g.add("conv2", conv(16, 16, Activation::None), &[a]).unwrap();
        let b = g.add("bn2", batch_norm(16), &[a]).unwrap();
        g.add("sum", Op::Add(Activation::None), &[a, b]).unwrap()
    });
    assert_eq!(ops(&graph).iter().filter(|o| **o == "BatchNormalization").count(), 3, "{:?}", ops(&graph));
}

/// Convolutions that share their weights have biases of their own, once something is folded into them.
#[test]
fn no_more_is_folded_than_memory_should_be_taken_for() {
    const C: usize = 1 << 20;
    let mut graph = Graph::new("shared", 1, [1, 1]);
    let (input, conv, batch_norm) = (graph.input().value, conv(C, 1, Activation::None), batch_norm(C));
    let mut branch = |index: usize| {
        let y = graph.add(format!("conv{index}"), conv.clone(), &[input]).unwrap();
        graph.add(format!("bn{index}"), batch_norm.clone(), &[y]).unwrap()
    };
    let outputs: Vec<ValueId> = (0..18).map(&mut branch).collect();
    graph.set_outputs(&outputs);
    let ops = ops(&optimise(graph).unwrap());
    assert_eq!(ops.iter().filter(|op| **op == "BatchNormalization").count(), 2, "{ops:?}");
}

#[test]
fn a_sum_takes_the_residual_into_either_operands_convolution() {
    for swapped in [false, true] {
        let graph = optimised(|g, x| {
            let y = g.add("conv", conv(16, 16, Activation::None), &[x]).unwrap();
            let sum = g.add("add", Op::Add(Activation::None), &if swapped { [x, y] } else { [y, x] }).unwrap();
            g.add("relu", Op::Activation(Activation::Relu), &[sum]).unwrap()
        });
        assert_eq!(ops(&graph), ["Conv"], "swapped {swapped}");
        assert_eq!(graph.nodes()[0].inputs, [graph.input().value; 2]);
        assert!(matches!(graph.nodes()[0].op, Op::Conv { activation: Activation::Relu, .. }));
    }
}

#[test]
fn a_sum_of_a_value_with_itself_or_behind_an_activation_stays() {
    let graph = optimised(|g, x| {
        let y = g.add("conv", conv(16, 16, Activation::Relu), &[x]).unwrap();
        let sum = g.add("add", Op::Add(Activation::None), &[y, x]).unwrap();
        let z = g.add("conv2", conv(16, 16, Activation::None), &[sum]).unwrap();
        g.add("twice", Op::Add(Activation::None), &[z, z]).unwrap()
    });
    assert_eq!(ops(&graph), ["Conv", "Add", "Conv", "Add"]);
}

#[test]
fn identities_and_unread_nodes_disappear() {
    let graph = optimised(|g, x| {
        g.add("unread", conv(8, 16, Activation::None), &[x]).unwrap();
        let a = g.add("identity", Op::Identity, &[x]).unwrap();
        let a = g.add("conv", conv(16, 16, Activation::None), &[a]).unwrap();
        let a = g.add("dropout", Op::Dropout, &[a]).unwrap();
        g.add("nothing", Op::Activation(Activation::None), &[a]).unwrap()
    });
    assert_eq!(ops(&graph), ["Conv"]);
    assert_eq!(graph.value_count(), 2);
}

#[test]
fn a_variance_without_a_square_root_is_refused_by_name() {
    let mut graph = Graph::new("test", 1, [4, 4]);
    let op = Op::BatchNormalization {
        scale: tensor(&[1.0]),
        bias: tensor(&[0.0]),
        mean: tensor(&[0.0]),
        variance: tensor(&[-0.5]),
        epsilon: 1e-5,
    };
    let input = graph.input().value;
    let output = graph.add("bn1", op, &[input]).unwrap();
    graph.set_outputs(&[output]);
    let error = optimise(graph).unwrap_err().to_string();
    assert!(error.contains("`bn1`") && error.contains("-0.5"), "{error}");
}

/// How many convolutions and linear layers a module has: after the passes there must be as many steps and, but for pools,
/// copies and flattening, no others.
fn count(module: &Module) -> usize {
    let own = usize::from(matches!(module.kind, Kind::Conv2d { .. } | Kind::Linear { .. }));
    own + module.children.iter().map(|(_, child)| count(child)).sum::<usize>()
}

#[test]
fn a_bottleneck_is_three_fused_convolutions_and_four_with_a_projection_in_every_model() {
    for (name, arch) in Arch::NAMED {
        // A VGG's linear layers are half a gigabyte of random numbers each; one of each kind will do.
        if name.starts_with("vgg") && !["vgg11", "vgg11_bn"].contains(name) {
            continue;
        }
        let module = arch.module(10).unwrap();
        let graph = optimise(arch.graph(10, &mut Initializer::new(0)).unwrap()).unwrap();
        let computing = graph.nodes().iter().filter(|n| matches!(n.op, Op::Conv { .. } | Op::Gemm { .. })).count();
        assert_eq!(computing, count(&module), "{name}");
        for op in ["BatchNormalization", "Relu", "Clip", "Add", "Dropout", "Identity"] {
            assert!(!ops(&graph).contains(&op), "{name} has a {op} left");
        }
        for (stage, blocks) in module.children.iter().filter(|(name, _)| name.starts_with("layer")) {
            for (index, block) in &blocks.children {
                let prefix = format!("{stage}.{index}.");
                let nodes: Vec<_> = graph.nodes().iter().filter(|n| n.name.starts_with(&prefix)).collect();
                let convolutions: Vec<_> = nodes.iter().filter(|n| matches!(n.op, Op::Conv { .. })).collect();
                let Kind::Block { name: class, shortcut } = block.kind else { panic!("{prefix} is no block") };
                let projection = block.children.iter().any(|(name, _)| name == "downsample");
                let expected = if class == Block::Bottleneck.class() { 3 } else { 2 } + usize::from(projection);
                assert_eq!(convolutions.len(), expected, "{name} {prefix}");
                // Only option A's subsampling and padding may stand beside them.
                let others = nodes.len() - convolutions.len();
                assert!(others == 0 || (shortcut == Shortcut::PadChannels && others == 2), "{name} {prefix}");
                let last = convolutions.last().unwrap();
                assert!(matches!(last.op, Op::Conv { activation: Activation::Relu, .. }), "{name} {prefix}");
                assert_eq!(last.inputs.len(), if shortcut == Shortcut::None { 1 } else { 2 }, "{name} {prefix}");
            }
        }
    }
}
