//! Graphs that were once computed wrongly or refused, as small as they could be made.

use crate::generator::Random;
use crate::{Oracle, setups};
use stridewise::graph::{Activation, ConvAttributes, Dim, Graph, Op, PoolAttributes, TensorOp, ValueId};

/// A convolution 3×3 of so many channels in and out, padded by one.
fn convolution(random: &mut Random, channels: [usize; 2]) -> Op {
    let weight = random.tensor(&[channels[1], channels[0], 3, 3], |x| x / 4.0).into();
    let attributes = ConvAttributes { pads: [1; 4], ..Default::default() };
    Op::Conv { weight, bias: None, attributes, activation: Activation::None }
}

/// Checks a graph of one input, in all setups.
fn check(dims: &[usize], build: impl FnOnce(&mut Graph, ValueId, &mut Random) -> ValueId) {
    let (mut graph, mut random) = (Graph::without_inputs("case"), Random(1));
    let x = graph.add_input("x", dims.iter().map(|&dim| Dim::Fixed(dim)).collect()).unwrap();
    let output = build(&mut graph, x, &mut random);
    graph.set_outputs(&[output]);
    let input = random.tensor(dims, |x| x);
    Oracle::new().check(&graph, &[input], &setups()).unwrap_or_else(|difference| panic!("{difference}"));
}

#[test]
fn softmax_that_a_padding_convolution_reads_as_an_image() {
    check(&[2, 36], |graph, x, random| {
        let rows = graph.add("softmax", Op::Softmax, &[x]).unwrap();
        let image = graph.add("image", Op::Tensor(TensorOp::Reshape(vec![2, 4, 3, 3])), &[rows]).unwrap();
        graph.add("convolution", convolution(random, [4, 5]), &[image]).unwrap()
    });
}

#[test]
fn features_of_an_image_that_an_op_of_networks_reads() {
    check(&[2, 5, 3, 4], |graph, x, random| {
        let image = graph.add("convolution", convolution(random, [5, 18]), &[x]).unwrap();
        let features = graph.add("features", Op::Flatten, &[image]).unwrap();
        graph.add("clamp", Op::Activation(Activation::Clamp(-0.5, 0.5)), &[features]).unwrap()
    });
}

/// In bf16 the pooled image is of narrow blocks.
#[test]
fn another_shape_of_a_pooled_image_that_is_an_output() {
    for shape in [vec![2, 24], vec![2, 1, 4, 2, 3]] {
        check(&[2, 4, 4, 5], |graph, x, _| {
            let pool = PoolAttributes { kernel: [2, 2], stride: [2, 2], pads: [0; 4], ceil_mode: true };
            let image = graph.add("pooled", Op::MaxPool(pool), &[x]).unwrap();
            graph.add("reshaped", Op::Tensor(TensorOp::Reshape(shape)), &[image]).unwrap()
        });
    }
}

#[test]
fn concatenation_of_rows_that_is_a_part_of_one_of_channels() {
    check(&[1, 16, 2, 1], |graph, x, random| {
        let wide = graph.add("wide", Op::Tensor(TensorOp::Concat { axis: 3 }), &[x, x]).unwrap();
        let image = graph.add("convolution", convolution(random, [16, 16]), &[wide]).unwrap();
        graph.add("both", Op::Tensor(TensorOp::Concat { axis: 1 }), &[wide, image]).unwrap()
    });
}
