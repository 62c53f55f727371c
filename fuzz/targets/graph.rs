//! A graph of any ops, with any attributes: refused by name, or planned, and then run with the same bits on every instruction
//! set and for several threads.

use arbitrary::{Result, Unstructured};
use std::sync::Arc;
use stridewise::graph::{Activation, ConvAttributes, Graph, Op, PoolAttributes, ValueId, Weight};
use stridewise::{Isa, Model, Numerics, SessionOptions, Shape, Tensor, Threads};

pub fn run(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    let Ok(graph) = network(&mut u) else { return };
    let batch = u.int_in_range(1..=3).unwrap_or(1);
    let numerics = if u.arbitrary().unwrap_or(true) { Numerics::Fast } else { Numerics::Exact };
    let as_is = u.ratio(1, 4).unwrap_or(false);
    let model = if as_is { Model::from_graph_as_is(graph) } else { Model::from_graph(graph) };
    let Ok(model) = model else { return };
    let best = Isa::best().expect("an instruction set");
    let options = SessionOptions { numerics, batch, ..Default::default() };
    same_bits(&model, &options, &[(Isa::Portable, 1), (best, 1), (Isa::Portable, 3)]);
}

/// Runs a network on instruction sets with numbers of threads, all of which or none of which is refused.
pub fn same_bits(model: &Model, options: &SessionOptions, ways: &[(Isa, usize)]) {
    let mut first: Option<Vec<u32>> = None;
    for &(isa, threads) in ways {
        let options = SessionOptions { threads: Threads::Count(threads), isa: Some(isa), max_memory: MOST, ..options.clone() };
        let mut session = match model.session(&options) {
            Ok(session) => session,
            Err(_) if first.is_none() => return,
            Err(stridewise::Error::TooLarge { .. }) => return,
            Err(error) => panic!("{isa} refuses what another instruction set took: {error}"),
        };
        assert!(session.memory_required() + session.weight_bytes() <= MOST);
        if session.steps().iter().map(|s| s.macs).fold(0, u64::saturating_add) > MOST_MACS {
            return;
        }
        let x = tensor(session.input_shape().dims(), 5);
        let y = session.run(&x).expect("a session that was made");
        // NaNs of several kinds are one.
        let bits: Vec<u32> = y.as_slice().iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect();
        assert!(*first.get_or_insert_with(|| bits.clone()) == bits, "other bits on {isa} with {threads} threads\n{}", session.explain());
    }
}

/// Most multiply-accumulates of a run.
pub const MOST_MACS: u64 = 1 << 22;

/// Most bytes of a session.
pub const MOST: usize = 4 << 20;

/// Small numbers, and now and then one that overflows something.
fn number(u: &mut Unstructured<'_>, few: usize) -> Result<usize> {
    if u.ratio(1, 60)? { u.choose(&[0, 1 << 16, 1 << 31, 1 << 40, usize::MAX / 2, usize::MAX]).copied() } else { u.int_in_range(0..=few) }
}

fn pair(u: &mut Unstructured<'_>, few: usize) -> Result<[usize; 2]> {
    Ok([number(u, few)?, number(u, few)?])
}

/// One that is seldom zero.
fn positive(u: &mut Unstructured<'_>, few: usize) -> Result<usize> {
    Ok(number(u, few - 1)?.saturating_add(1))
}

pub fn tensor(dims: &[usize], seed: usize) -> Tensor<f32> {
    let shape = Shape::new(dims).expect("a small shape");
    let mut tensor = Tensor::zeros(shape).expect("a small tensor");
    for (i, v) in tensor.as_mut_slice().iter_mut().enumerate() {
        *v = ((i * 7919 + seed * 31) % 1009) as f32 / 504.5 - 1.0;
    }
    tensor
}

fn activation(u: &mut Unstructured<'_>) -> Result<Activation> {
    Ok(match u.int_in_range(0..=4)? {
        0 | 1 => Activation::None,
        2 => Activation::Relu,
        3 => Activation::Clamp(-0.5, 0.75),
        _ => Activation::Clamp(u.arbitrary()?, u.arbitrary()?),
    })
}

fn pool(u: &mut Unstructured<'_>) -> Result<PoolAttributes> {
    let kernel = [positive(u, 4)?, positive(u, 4)?];
    Ok(PoolAttributes { kernel, stride: [positive(u, 3)?, positive(u, 3)?], pads: pads(u, 2)?, ceil_mode: u.arbitrary()? })
}

fn pads(u: &mut Unstructured<'_>, few: usize) -> Result<[usize; 4]> {
    let ([top, left], [bottom, right]) = (pair(u, few)?, pair(u, few)?);
    Ok([top, left, bottom, right])
}

/// A network of up to eight nodes, most of which fit what they read.
pub fn network(u: &mut Unstructured<'_>) -> Result<Graph> {
    let channels = u.int_in_range(1..=40)?;
    let mut graph = Graph::new("fuzzed", channels, [positive(u, 20)?, positive(u, 20)?]);
    let mut values: Vec<ValueId> = vec![graph.input().value];
    for index in 0..u.int_in_range(1..=8)? {
        // Shapes tell which weights would fit; a graph that is wrong already gets more nodes all the same.
        graph.set_outputs(&[]);
        let shapes = graph.infer_shapes(1, graph.input().size).ok();
        let mut inputs = vec![*u.choose(&values)?];
        let dims = |v: ValueId| shapes.as_ref().and_then(|s| s.get(v.index())).map_or(vec![1, 8, 4, 4], |s| s.dims().to_vec());
        let x = dims(inputs[0]);
        let c = x.get(1).copied().unwrap_or(1).clamp(1, 4096);
        let alike = |v: &&ValueId| dims(**v) == x;
        let op = match u.int_in_range(0..=15)? {
            0..=3 => {
                let divisors: Vec<usize> = (1..=c).filter(|g| c % g == 0).collect();
                let groups = if u.ratio(1, 3)? { *u.choose(&divisors)? } else { 1 };
                let kernel = [u.int_in_range(1..=3)?, u.int_in_range(1..=3)?];
                let oc = match u.int_in_range(0..=4)? {
                    // Some channels that a residual has.
                    0 | 1 => c,
                    2 => groups,
                    _ => groups * u.int_in_range(1..=1 + 40 / groups.min(40))?,
                };
                let weight = if u.ratio(1, 40)? { vec![oc, 3, 1] } else { vec![oc, c / groups, kernel[0], kernel[1]] };
                if weight.iter().product::<usize>() > 1 << 16 {
                    continue;
                }
                let attributes = if u.ratio(1, 3)? {
                    ConvAttributes {
                        stride: [1, 1],
                        pads: [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2],
                        dilation: [1, 1],
                        groups,
                    }
                } else {
                    let stride = [positive(u, 3)?, positive(u, 3)?];
                    ConvAttributes { stride, pads: pads(u, 2)?, dilation: [positive(u, 2)?, positive(u, 2)?], groups }
                };
                let bias = if u.arbitrary()? { Some(Arc::new(tensor(&[oc], 2))) } else { None };
                if u.ratio(1, 4)? {
                    inputs.push(*u.choose(&values)?);
                }
                Op::Conv { weight: Weight::from(tensor(&weight, 1)), bias, attributes, activation: activation(u)? }
            }
            4 => {
                let parameter = |seed| Arc::new(tensor(&[c], seed));
                let variance = if u.ratio(1, 20)? { parameter(7) } else { Arc::new(ones(c)) };
                let epsilon = *u.choose(&[1e-5, 0.0, -1.0, f64::NAN])?;
                Op::BatchNormalization { scale: parameter(3), bias: parameter(4), mean: parameter(5), variance, epsilon }
            }
            5 => Op::Activation(activation(u)?),
            6 => Op::MaxPool(pool(u)?),
            7 => Op::AveragePool { pool: pool(u)?, count_include_pad: u.arbitrary()? },
            8 => Op::GlobalAveragePool,
            9 => Op::AdaptiveAveragePool(pair(u, 5)?),
            10 => {
                let features = x.iter().skip(1).product::<usize>().clamp(1, 2048);
                Op::Gemm { weight: Weight::from(tensor(&[u.int_in_range(1..=20)?, features], 6)), bias: None, activation: activation(u)? }
            }
            11 | 12 => {
                let others: Vec<ValueId> = values.iter().filter(alike).copied().collect();
                inputs.push(if u.ratio(9, 10)? { *u.choose(&others)? } else { *u.choose(&values)? });
                Op::Add(activation(u)?)
            }
            13 => u.choose(&[Op::Flatten, Op::Softmax, Op::Identity, Op::Dropout])?.clone(),
            14 => Op::Slice { step: pair(u, 3)? },
            _ => Op::Pad { before: number(u, 20)?, after: number(u, 20)? },
        };
        if let Ok(value) = graph.add(format!("node{index}"), op, &inputs) {
            values.push(value);
        }
    }
    let last = values[values.len() - 1];
    let output = if u.ratio(4, 5)? { last } else { *u.choose(&values)? };
    graph.set_outputs(&[output]);
    Ok(graph)
}

fn ones(len: usize) -> Tensor<f32> {
    let mut tensor = tensor(&[len], 0);
    tensor.as_mut_slice().fill(1.0);
    tensor
}
