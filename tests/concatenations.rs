//! What is concatenated is written where it goes: at batch 1 nothing is copied that need not be, and the bits are those of a batch,
//! whose images are copied.

use std::collections::HashMap;
use stridewise::graph::{Activation, ConvAttributes, Dim, Graph, Op, TensorOp, ValueId};
use stridewise::{Model, Numerics, SessionOptions, Shape, Tensor, Threads};

const SIZE: [usize; 2] = [9, 11];

fn random(dims: &[usize], seed: u32) -> Tensor<f32> {
    let mut tensor = Tensor::zeros(Shape::new(dims).unwrap()).unwrap();
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    for value in tensor.as_mut_slice() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
    }
    tensor
}

/// A graph that is being built.
struct Build {
    graph: Graph,
    seed: u32,
}

impl Build {
    fn conv(&mut self, x: &[ValueId], [oc, c, k]: [usize; 3]) -> ValueId {
        self.seed += 1;
        let attributes = ConvAttributes { pads: [k / 2; 4], ..Default::default() };
        let weight = random(&[oc, c, k, k], self.seed);
        let op = Op::Conv { weight: weight.into(), bias: None, attributes, activation: Activation::Clamp(-2.0, 2.0) };
        self.graph.add(format!("conv{}", self.seed), op, x).unwrap()
    }

    fn concat(&mut self, parts: &[ValueId]) -> ValueId {
        self.seed += 1;
        self.graph.add(format!("concat{}", self.seed), Op::Tensor(TensorOp::Concat { axis: 1 }), parts).unwrap()
    }
}

/// Builds a network over `channels` channels that a convolution makes, and returns its outputs; runs it on one image, and on a batch of
/// two. There are to be `copies` steps that concatenate.
fn check(what: &str, channels: usize, copies: usize, build: &dyn Fn(&mut Build, ValueId) -> Vec<ValueId>) {
    let [h, w] = SIZE;
    let mut graph = Graph::without_inputs(what);
    let dims = vec![Dim::Any("N".into()), Dim::Fixed(3), Dim::Fixed(h), Dim::Fixed(w)];
    let image = graph.add_input("image", dims).unwrap();
    let mut building = Build { graph, seed: 0 };
    let x = building.conv(&[image], [channels, 3, 3]);
    let outputs = build(&mut building, x);
    let mut graph = building.graph;
    let names: Vec<(String, ValueId)> = outputs.iter().enumerate().map(|(i, v)| (format!("output {i}"), *v)).collect();
    graph.set_named_outputs(&names);
    let model = Model::from_graph(graph.clone()).unwrap();
    let session = |batch: usize, threads: usize| {
        let options = SessionOptions { batch, threads: Threads::Count(threads), numerics: Numerics::Exact, ..Default::default() };
        model.session(&options).unwrap_or_else(|e| panic!("{what}: {e}"))
    };
    let image = random(&[1, 3, h, w], 77);
    let twice = Tensor::from_slice(Shape::new(&[2, 3, h, w]).unwrap(), &[image.as_slice(), image.as_slice()].concat()).unwrap();
    let one = session(1, 1);
    let concatenations = one.steps().iter().filter(|step| step.op == "Concat").count();
    assert_eq!(concatenations, copies, "{what}:\n{}", one.explain());
    let expected = session(2, 1).run_named(&[("image", twice.view())]).unwrap();
    for mut session in [session(1, 3), session(1, 2)].into_iter().chain([session(1, 1)]) {
        for round in 0..2 {
            let found = session.run_named(&[("image", image.view())]).unwrap();
            for ((name, found), (_, expected)) in found.iter().zip(&expected) {
                let half = &expected.as_slice()[..found.as_slice().len()];
                assert!(found.as_slice() == half, "{what}, {name}, round {round}: not what a batch gives");
            }
        }
    }
    if outputs.len() > 1 {
        return;
    }
    // Every value that is seen on the way is that of the graph as it was built, in which nothing is fused.
    let taps = |model: &Model| {
        let mut taps = HashMap::new();
        let mut session = model.session(&SessionOptions { numerics: Numerics::Exact, ..Default::default() }).unwrap();
        session.run_with_taps(&image, &mut |name, value| drop(taps.insert(name.to_string(), value))).unwrap();
        taps
    };
    let (seen, all) = (taps(&model), taps(&Model::from_graph_as_is(graph).unwrap()));
    assert!(seen.keys().any(|name| name.starts_with("concat")), "{what}: {:?}", seen.keys());
    for (name, value) in &seen {
        assert!(all[name] == *value, "{what}: {name} is another value");
    }
}

#[test]
fn nothing_is_copied_where_planes_are_whole() {
    check("a fire module", 16, 0, &|b, x| {
        let (wide, narrow) = (b.conv(&[x], [32, 16, 1]), b.conv(&[x], [48, 16, 3]));
        let all = b.concat(&[wide, narrow]);
        vec![b.conv(&[all], [16, 80, 1])]
    });
    check("a dense block", 32, 0, &|b, x| {
        let mut parts = vec![x];
        for layer in 0..4 {
            let all = if layer == 0 { x } else { b.concat(&parts) };
            let bottleneck = b.conv(&[all], [32, 32 + 16 * layer, 1]);
            parts.push(b.conv(&[bottleneck], [16, 32, 3]));
        }
        let all = b.concat(&parts);
        vec![b.conv(&[all], [16, 96, 3])]
    });
    check("concatenations in a concatenation", 16, 0, &|b, x| {
        let parts: Vec<ValueId> = (0..4).map(|i| b.conv(&[x], [16 * (1 + i % 2), 16, 1])).collect();
        let (first, second) = (b.concat(&parts[..2]), b.concat(&parts[2..]));
        let halo = b.conv(&[second], [16, 48, 3]);
        let all = b.concat(&[first, second, halo]);
        vec![b.conv(&[all, all], [112, 112, 3])]
    });
    check("channels that fill no plane at the end", 32, 0, &|b, x| {
        let last = b.conv(&[x], [20, 32, 1]);
        let all = b.concat(&[x, last]);
        vec![b.conv(&[all], [16, 52, 3])]
    });
    check("parts and wholes that are outputs", 16, 0, &|b, x| {
        let y = b.conv(&[x], [16, 16, 3]);
        let sum = b.conv(&[y, x], [16, 16, 1]);
        let all = b.concat(&[x, y, sum]);
        vec![all, y, sum]
    });
}

#[test]
fn what_can_not_lie_in_its_place_is_copied_there() {
    check("a value twice", 32, 1, &|b, x| {
        let all = b.concat(&[x, x]);
        vec![b.conv(&[all], [16, 64, 1])]
    });
    check("channels that fill no plane", 24, 1, &|b, x| {
        let (y, z) = (b.conv(&[x], [40, 24, 1]), b.conv(&[x], [32, 24, 3]));
        let all = b.concat(&[x, y, z]);
        vec![b.conv(&[all], [16, 96, 3])]
    });
    check("nothing but parts of planes", 8, 1, &|b, x| {
        let y = b.conv(&[x], [4, 8, 3]);
        let all = b.concat(&[y, x, y]);
        vec![b.conv(&[all], [16, 16, 3])]
    });
    check("in two concatenations", 16, 1, &|b, x| {
        let y = b.conv(&[x], [16, 16, 3]);
        let (first, second) = (b.concat(&[x, y]), b.concat(&[y, x]));
        vec![b.conv(&[first, second], [32, 32, 1])]
    });
}
