//! Sessions: shapes, limits, shared weights, and errors that name the offender.

use rayon::prelude::*;
use std::sync::Arc;
use stridewise::graph::{Activation, ConvAttributes, Graph, Op, PoolAttributes};
use stridewise::models::{Block, ResNet};
use stridewise::{Arch, Error, Model, SessionOptions, Shape, Tensor, ThreadPool, Threads};

fn small() -> Model {
    Model::random(Arch::ResNet(ResNet::new(Block::Basic, [1, 1, 1, 1])), 0).unwrap()
}

fn zeros(dims: &[usize]) -> Tensor<f32> {
    Tensor::zeros(Shape::new(dims).unwrap()).unwrap()
}

#[test]
fn any_batch_and_size_is_planned_when_it_comes() {
    let mut session = small().session(&SessionOptions { size: Some([64, 64]), ..Default::default() }).unwrap();
    for dims in [[1, 3, 64, 64], [4, 3, 64, 64], [1, 3, 33, 97], [2, 3, 1, 1], [1, 3, 64, 64]] {
        let y = session.run(&zeros(&dims)).unwrap();
        assert_eq!(y.dims(), [dims[0], 1000]);
        assert_eq!(session.input_shape().dims(), dims);
    }
}

#[test]
fn inputs_of_another_shape_are_refused_and_leave_the_session_usable() {
    let mut session = small().session(&SessionOptions { size: Some([64, 64]), ..Default::default() }).unwrap();
    let before = session.run(&zeros(&[1, 3, 64, 64])).unwrap();
    for dims in [vec![1, 4, 64, 64], vec![3, 64, 64], vec![1, 3, 64, 64, 1]] {
        let error = session.run(&zeros(&dims)).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
    }
    let mut y = zeros(&[1, 10]);
    assert!(session.run_into(zeros(&[1, 3, 64, 64]).view(), &mut y).is_err());
    assert!(session.run_into(zeros(&[1, 3, 32, 32]).view(), &mut zeros(&[1, 1000])).is_err());
    assert_eq!(session.run(&zeros(&[1, 3, 64, 64])).unwrap(), before);
}

#[test]
fn max_memory_is_respected_before_anything_is_allocated() {
    let model = small();
    let error = model.session(&SessionOptions { max_memory: 1 << 20, ..Default::default() }).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }) && error.to_string().contains("max_memory"), "{error}");
    // Terabytes of activations.
    let error = model.session(&SessionOptions { batch: 1 << 20, size: Some([4096, 4096]), ..Default::default() }).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    for (batch, size) in [(0, [64, 64]), (1, [0, 64]), (usize::MAX, [64, 64]), (1, [usize::MAX, usize::MAX])] {
        assert!(model.session(&SessionOptions { batch, size: Some(size), ..Default::default() }).is_err(), "{batch} {size:?}");
    }
    let mut session = model.session(&SessionOptions { size: Some([64, 64]), max_memory: 64 << 20, ..Default::default() }).unwrap();
    assert!(session.memory_required() + session.weight_bytes() <= 64 << 20);
    assert!(session.run(&zeros(&[200, 3, 64, 64])).is_err());
    assert!(session.run(&zeros(&[1, 3, 64, 64])).is_ok());
}

#[test]
fn impossible_thread_counts_are_refused_by_name() {
    for count in [0, usize::MAX] {
        let error = small().session(&SessionOptions { threads: Threads::Count(count), ..Default::default() }).unwrap_err();
        assert!(error.to_string().contains("threads"), "{error}");
    }
}

#[test]
fn an_instruction_set_that_is_not_here_is_refused_by_name() {
    let missing = stridewise::Isa::ALL.into_iter().find(|isa| !isa.is_available());
    // No processor has both x86-64's and AArch64's.
    let error = small().session(&SessionOptions { isa: missing, ..Default::default() }).unwrap_err().to_string();
    assert!(error.contains(missing.unwrap().name()) && error.contains("available"), "{error}");
}

#[test]
fn every_op_runs_alone_and_in_every_layout() {
    let ones = |dims: &[usize]| {
        let mut t = zeros(dims);
        t.as_mut_slice().fill(1.0);
        Arc::new(t)
    };
    let pool = |k, s, p| PoolAttributes { kernel: [k; 2], stride: [s; 2], pads: [p; 4], ceil_mode: true };
    let conv = Op::Conv {
        weight: ones(&[4, 20, 3, 3]).into(),
        bias: Some(ones(&[4])),
        attributes: ConvAttributes { pads: [2, 0, 0, 3], stride: [2, 1], dilation: [1, 2], groups: 1 },
        activation: Activation::Clamp(0.0, 6.0),
    };
    let cases: Vec<(Op, Vec<usize>, f32)> = vec![
        (conv, vec![2, 4, 3, 4], 6.0),
        (Op::MaxPool(pool(3, 2, 1)), vec![2, 20, 4, 3], 1.0),
        (Op::AveragePool { pool: pool(3, 2, 1), count_include_pad: false }, vec![2, 20, 4, 3], 1.0),
        (Op::GlobalAveragePool, vec![2, 20, 1, 1], 1.0),
        (Op::AdaptiveAveragePool([3, 7]), vec![2, 20, 3, 7], 1.0),
        (Op::Flatten, vec![2, 20 * 30], 1.0),
        (Op::Slice { step: [2, 3] }, vec![2, 20, 3, 2], 1.0),
        (Op::Activation(Activation::Clamp(-1.0, 0.5)), vec![2, 20, 6, 5], 0.5),
        (Op::Identity, vec![2, 20, 6, 5], 1.0),
        (
            Op::BatchNormalization { scale: ones(&[20]), bias: ones(&[20]), mean: ones(&[20]), variance: ones(&[20]), epsilon: 0.0 },
            vec![2, 20, 6, 5],
            1.0,
        ),
    ];
    for (op, dims, value) in cases {
        let name = op.name();
        let mut graph = Graph::new("one op", 20, [6, 5]);
        let input = graph.input().value;
        let output = graph.add("op", op, &[input]).unwrap();
        graph.set_outputs(&[output]);
        for model in [Model::from_graph(graph.clone()).unwrap(), Model::from_graph_as_is(graph).unwrap()] {
            let mut session = model.session(&SessionOptions { threads: Threads::Count(2), ..Default::default() }).unwrap();
            let y = session.run(&ones(&[2, 20, 6, 5])).unwrap();
            assert_eq!(y.dims(), dims, "{name}");
            assert!(y.as_slice().iter().all(|v| *v == value), "{name}: {:?}", &y.as_slice()[..8]);
        }
    }
    // Softmax behind a linear layer, on an input of few channels that only it reads.
    let mut graph = Graph::new("head", 3, [2, 2]);
    let input = graph.input().value;
    let flat = graph.add("flatten", Op::Flatten, &[input]).unwrap();
    let logits = graph.add("fc", Op::Gemm { weight: ones(&[5, 12]).into(), bias: None, activation: Activation::None }, &[flat]).unwrap();
    let output = graph.add("softmax", Op::Softmax, &[logits]).unwrap();
    graph.set_outputs(&[output]);
    let y = Model::from_graph(graph).unwrap().session(&SessionOptions::default()).unwrap().run(&ones(&[1, 3, 2, 2])).unwrap();
    assert!(y.as_slice().iter().all(|v| (v - 0.2).abs() < 1e-7), "{:?}", y.as_slice());
}

#[test]
fn a_depthwise_convolution_may_be_padded_beyond_its_kernel() {
    let mut weight = zeros(&[20, 1, 1, 1]);
    weight.as_mut_slice().fill(2.0);
    let mut graph = Graph::new("padded", 20, [3, 4]);
    let input = graph.input().value;
    let attributes = ConvAttributes { pads: [1, 2, 0, 1], groups: 20, ..Default::default() };
    let op = Op::Conv { weight: weight.into(), bias: None, attributes, activation: Activation::None };
    let output = graph.add("conv", op, &[input]).unwrap();
    graph.set_outputs(&[output]);
    let mut x = zeros(&[1, 20, 3, 4]);
    x.as_mut_slice().fill(1.0);
    let y = Model::from_graph(graph).unwrap().session(&SessionOptions::default()).unwrap().run(&x).unwrap();
    assert_eq!(y.dims(), [1, 20, 4, 7]);
    let inside = |i: usize| i / 7 % 4 >= 1 && (2..6).contains(&(i % 7));
    assert!(y.as_slice().iter().enumerate().all(|(i, v)| *v == if inside(i) { 2.0 } else { 0.0 }), "{:?}", &y.as_slice()[..28]);
}

/// As in networks that compute a correction of an image: the sum is fused, and the residual is the input of few channels.
#[test]
fn the_networks_input_may_be_the_residual_of_its_last_convolution() {
    let conv = |oc: usize, c: usize, value: f32| {
        let mut weight = zeros(&[oc, c, 3, 3]);
        weight.as_mut_slice().fill(value);
        let attributes = ConvAttributes { pads: [1; 4], ..Default::default() };
        Op::Conv { weight: weight.into(), bias: None, attributes, activation: Activation::None }
    };
    let mut graph = Graph::new("correction", 3, [6, 5]);
    let input = graph.input().value;
    let inner = graph.add("conv1", conv(8, 3, 0.5), &[input]).unwrap();
    let correction = graph.add("conv2", conv(3, 8, 0.25), &[inner]).unwrap();
    let output = graph.add("add", Op::Add(Activation::Relu), &[correction, input]).unwrap();
    graph.set_outputs(&[output]);
    let mut x = zeros(&[2, 3, 6, 5]);
    x.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 7) as f32 - 3.0);
    let run = |model: Model| {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        (session.steps().len(), session.run(&x).unwrap())
    };
    let (fused, as_is) = (run(Model::from_graph(graph.clone()).unwrap()), run(Model::from_graph_as_is(graph).unwrap()));
    assert_eq!((fused.0, as_is.0), (2, 3));
    // Sums of eighths, exact in any order.
    assert_eq!(fused.1, as_is.1);
    assert!(fused.1.as_slice().iter().any(|v| *v > 0.0));
}

/// Values that share a buffer are handed over from the step that wrote it, whatever ran in between.
#[test]
fn taps_of_shared_buffers_have_the_values_of_their_own_step() {
    let mut graph = Graph::new("shared", 16, [3, 2]);
    let input = graph.input().value;
    let clamp = |low, high| Op::Activation(Activation::Clamp(low, high));
    graph.add("of the input", Op::Identity, &[input]).unwrap();
    let first = graph.add("first", clamp(0.0, 1.0), &[input]).unwrap();
    let second = graph.add("second", clamp(2.0, 3.0), &[first]).unwrap();
    let same = graph.add("same", Op::Identity, &[first]).unwrap();
    let sum = graph.add("sum", Op::Add(Activation::None), &[second, same]).unwrap();
    graph.set_outputs(&[sum]);
    let mut session = Model::from_graph_as_is(graph).unwrap().session(&SessionOptions::default()).unwrap();
    let mut seen = Vec::new();
    session.run_with_taps(&zeros(&[1, 16, 3, 2]), &mut |name, value| seen.push((name.to_string(), value.as_slice()[0]))).unwrap();
    let expected = [("first", 0.0), ("same", 0.0), ("second", 2.0), ("sum", 2.0)];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_string(), value)));
}

/// A thread of the caller's pool that waits for others while it makes a session may take up a task that makes another one.
#[test]
fn sessions_may_be_made_inside_the_pool_that_they_run_on() {
    let rayon = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap());
    let pool = ThreadPool::from_rayon(rayon.clone());
    for _ in 0..20 {
        let model = small();
        let made = rayon.install(|| {
            (0..32)
                .into_par_iter()
                .map(|_| {
                    let options = SessionOptions { threads: Threads::Pool(pool.clone()), size: Some([32, 32]), ..Default::default() };
                    model.session(&options).unwrap().run(&zeros(&[1, 3, 32, 32])).unwrap()
                })
                .collect::<Vec<_>>()
        });
        assert!(made.windows(2).all(|pair| pair[0] == pair[1]));
    }
}

#[test]
fn sessions_of_one_model_share_its_packed_weights() {
    let model = small();
    let options = SessionOptions { size: Some([64, 64]), ..Default::default() };
    let first = model.session(&options).unwrap();
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").ok()?;
        status.split(' ').nth(1)?.parse::<usize>().ok().map(|pages| pages * 4096)
    };
    let Some(before) = resident() else {
        println!("skipped: no /proc to read the resident size from");
        return;
    };
    let more: Vec<_> = (0..20).map(|_| model.session(&options).unwrap()).collect();
    let grown = resident().unwrap().saturating_sub(before);
    // Twenty copies of the weights would be far more than twenty arenas.
    assert!(more.iter().all(|s| s.weight_bytes() == first.weight_bytes()));
    assert!(grown < 20 * (first.weight_bytes() / 2), "grown by {grown} bytes; weights are {}", first.weight_bytes());
}

#[test]
fn plans_with_names_of_any_length_are_explained() {
    let mut graph = Graph::new("names", 1, [1, 1]);
    let x = graph.input().value;
    let name = "n".repeat(70_000);
    let y = graph.add(name.clone(), Op::Activation(Activation::Relu), &[x]).unwrap();
    graph.set_outputs(&[y]);
    let session = Model::from_graph_as_is(graph).unwrap().session(&SessionOptions::default()).unwrap();
    assert!(session.explain().contains(&name));
}

#[test]
fn a_profile_times_every_step_of_every_run_and_adds_up() {
    let mut session = small().session(&SessionOptions { size: Some([64, 64]), ..Default::default() }).unwrap();
    let x = zeros(&[1, 3, 64, 64]);
    let profile = session.profile(&x, 5).unwrap();
    assert_eq!(profile.steps.len(), session.steps().len());
    for (i, total) in profile.run_seconds.iter().enumerate() {
        let steps: f64 = profile.steps.iter().map(|s| s.seconds[i]).sum();
        let sum = profile.input_seconds[i] + steps + profile.output_seconds[i];
        assert!((sum - total).abs() <= 1e-9 && steps > 0.0, "run {i}: {sum} of {total}");
    }
    assert_eq!((profile.run_seconds.len(), profile.steps[0].seconds.len(), profile.output_seconds.len()), (5, 5, 5));
    for runs in [0, 1 << 20, usize::MAX] {
        let error = session.profile(&x, runs).unwrap_err().to_string();
        assert!(error.contains(&format!("runs = {runs}")) && error.contains("steps"), "{error}");
    }
    assert!(session.profile(&zeros(&[1, 4, 64, 64]), 1).is_err());
}
