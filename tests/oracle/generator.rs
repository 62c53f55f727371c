//! Random graphs whose values stay tame: an op that would blow them up, or be ill-conditioned, is left out.

use crate::interpreter::{self, Array};
use proptest::prelude::*;
use std::sync::Arc;
use stridewise::graph::{Activation, ConvAttributes, ConvTransposeAttributes, Dim, Graph, Op, PoolAttributes, TensorOp, ValueId, Weight};
use stridewise::tensor::MAX_RANK;
use stridewise::{Shape, Tensor};
use stridewise_kernels::dense::{PadMode, Reduction};
use stridewise_kernels::pool::{self, Sliding};
use stridewise_kernels::resize::{Coordinates, Interpolation, Nearest, Rule};
use stridewise_kernels::{Binary, Unary};

/// What a graph is made of. Each node has a seed of its own, so that the others stay much the same when one is left out.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub image: [usize; 4],
    /// Whether N, H and W of the input are left to the session, so that what needs shapes is not rewritten.
    pub any_size: bool,
    pub seed: u64,
    pub nodes: Vec<u64>,
}

pub fn recipes() -> impl Strategy<Value = Recipe> {
    let image = (1..=3usize, prop_oneof![1 => 1..=40usize, 1 => (1..=2usize).prop_map(|blocks| 16 * blocks)], 1..=12usize, 1..=12usize);
    let seed = any::<u64>().no_shrink();
    (image, any::<bool>(), seed, proptest::collection::vec(seed, 2..=10)).prop_map(|((n, c, h, w), any, seed, nodes)| Recipe {
        image: [n, c, h, w],
        any_size: any && n == 1,
        seed,
        nodes,
    })
}

/// SplitMix64: Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators (2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// From -1 to 1.
    pub fn number(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn tensor(&mut self, dims: &[usize], mut element: impl FnMut(f32) -> f32) -> Tensor<f32> {
        let mut tensor = Tensor::zeros(Shape::new(dims).unwrap()).unwrap();
        tensor.as_mut_slice().iter_mut().for_each(|value| *value = element(self.number()));
        tensor
    }

    fn shared(&mut self, dims: &[usize], element: impl FnMut(f32) -> f32) -> Arc<Tensor<f32>> {
        Arc::new(self.tensor(dims, element))
    }

    /// Weights that leave values about as large as they are.
    fn weight(&mut self, dims: &[usize], summands: usize) -> Tensor<f32> {
        let scale = (3.0 / summands as f32).sqrt();
        self.tensor(dims, |x| x * scale)
    }
}

/// No element becomes larger.
const LARGEST: f64 = 40.0;
const MOST_ELEMENTS: usize = 12_000;
const MOST_PRODUCTS: usize = 400_000;

fn divisors(number: usize, most: usize) -> Vec<usize> {
    (1..=number.min(most)).filter(|&divisor| number.is_multiple_of(divisor)).collect()
}

struct Builder {
    random: Random,
    graph: Graph,
    arrays: Vec<Array>,
    /// The values that nodes may read.
    values: Vec<ValueId>,
}

/// The graph of a recipe, and its inputs.
pub fn build(recipe: &Recipe) -> (Graph, Vec<Tensor<f32>>) {
    let mut random = Random(recipe.seed);
    let [n, c, h, w] = recipe.image;
    let fixed = |dims: &[usize]| dims.iter().map(|&dim| Dim::Fixed(dim)).collect();
    let mut graph = if recipe.any_size { Graph::new("random", c, [h, w]) } else { Graph::without_inputs("random") };
    let mut values = vec![if recipe.any_size { graph.input().value } else { graph.add_input("x", fixed(&recipe.image)).unwrap() }];
    let mut inputs = vec![random.tensor(&recipe.image, |x| 2.0 * x)];
    if !recipe.any_size && random.one_in(3) {
        let more = random.pick(&[vec![n, c, h, w], vec![n, c], vec![n, c, 1, 1], vec![n, w, c], vec![n, 5, h, w]]);
        values.push(graph.add_input("y", fixed(&more)).unwrap());
        inputs.push(random.tensor(&more, |x| x));
    }
    let arrays = inputs.iter().map(Array::from).collect();
    let mut builder = Builder { random, graph, arrays, values };
    for &seed in &recipe.nodes {
        builder.random = Random(seed);
        builder.grow();
    }
    let outputs = builder.outputs();
    builder.graph.set_outputs(&outputs);
    (builder.graph, inputs)
}

impl Builder {
    fn dims(&self, value: ValueId) -> Vec<usize> {
        self.arrays[value.index()].dims.clone()
    }

    /// Adds an op that fits a value, most often one of the last.
    fn grow(&mut self) {
        for _ in 0..12 {
            let back = if self.random.one_in(3) { self.values.len() } else { self.values.len().min(2) };
            let x = self.values[self.values.len() - 1 - self.random.below(back)];
            let added = if self.random.one_in(7) { self.motif(x) } else { self.propose(x).and_then(|(op, inputs)| self.add(op, &inputs)) };
            if let Some(value) = added {
                self.values.push(value);
                return;
            }
        }
    }

    fn constant(&mut self, tensor: Tensor<f32>) -> ValueId {
        self.arrays.push(Array::from(&tensor));
        self.graph.add_constant(format!("constant {}", self.arrays.len()), Arc::new(tensor))
    }

    /// Adds a node, if what it computes is small and tame.
    fn add(&mut self, op: Op, inputs: &[ValueId]) -> Option<ValueId> {
        let read: Vec<&Array> = inputs.iter().map(|value| &self.arrays[value.index()]).collect();
        let array = interpreter::evaluate(&op, &read);
        let small = (1..=MOST_ELEMENTS).contains(&array.data.len()) && array.dims.len() <= MAX_RANK;
        if !small || !array.data.iter().all(|x| x.abs() <= LARGEST) {
            return None;
        }
        self.arrays.push(array);
        Some(self.graph.add(format!("node {}", self.arrays.len()), op, inputs).unwrap())
    }

    /// What nothing reads, and now and then what something does.
    fn outputs(&mut self) -> Vec<ValueId> {
        let read: Vec<ValueId> = self.graph.nodes().iter().flat_map(|node| node.inputs.clone()).collect();
        let written: Vec<ValueId> = self.graph.nodes().iter().map(|node| node.output).collect();
        let (random, any) = (&mut self.random, self.values[0]);
        let mut outputs: Vec<ValueId> = written.into_iter().filter(|value| !read.contains(value) || random.one_in(8)).collect();
        if outputs.is_empty() || random.one_in(20) {
            outputs.push(any);
        }
        outputs
    }

    fn in_any_order(&mut self, mut values: Vec<ValueId>) -> Vec<ValueId> {
        (1..values.len()).for_each(|i| values.swap(i, self.random.below(i + 1)));
        values
    }

    fn another_like(&mut self, dims: &[usize]) -> ValueId {
        let alike: Vec<ValueId> = self.values.iter().copied().filter(|&value| self.dims(value) == dims).collect();
        self.random.pick(&alike)
    }

    fn activation(&mut self) -> Activation {
        self.random.pick(&[
            Activation::None,
            Activation::None,
            Activation::Relu,
            Activation::Clamp(-0.5, 0.75),
            Activation::Clamp(0.0, 6.0),
        ])
    }

    fn conv(&mut self, x: &[usize], oc: Option<usize>, plain: bool) -> Option<(Op, Vec<usize>)> {
        let &[n, c, h, w] = x else { return None };
        let r = &mut self.random;
        let mut fitting = divisors(c, c);
        fitting.retain(|&groups| oc.is_none_or(|oc| oc.is_multiple_of(groups)));
        let groups = match r.below(4) {
            0 => r.pick(&fitting),
            1 => *fitting.last().unwrap(),
            _ => 1,
        };
        let oc = oc.unwrap_or_else(|| match r.below(4) {
            0 => c,
            1 => 16 * groups.div_ceil(16) / groups * groups,
            _ => groups * r.between(1, 1 + 40 / groups.min(40)),
        });
        let (kernel, attributes) = if plain {
            let side = r.pick(&[1, 3]);
            ([side, side], ConvAttributes { stride: [1, 1], pads: [side / 2; 4], dilation: [1, 1], groups })
        } else {
            let kernel = if r.one_in(3) { [3, 3] } else { [r.between(1, 5), r.between(1, 5)] };
            let pair = |r: &mut Random| if r.one_in(2) { [1, 1] } else { [r.between(1, 3), r.between(1, 2)] };
            let pads = match r.below(3) {
                0 => [0; 4],
                1 => [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2],
                _ => [r.below(3), r.below(3), r.below(3), r.below(4)],
            };
            (kernel, ConvAttributes { stride: pair(r), pads, dilation: pair(r), groups })
        };
        let [oh, ow] = [0, 1].map(|axis| {
            let (size, a) = ([h, w][axis], &attributes);
            (size + a.pads[axis] + a.pads[axis + 2])
                .checked_sub((kernel[axis] - 1) * a.dilation[axis] + 1)
                .map(|room| room / a.stride[axis] + 1)
        });
        let output = vec![n, oc, oh?, ow?];
        let summands = c / groups * kernel[0] * kernel[1];
        if oc > 64 || output.iter().product::<usize>() * summands > MOST_PRODUCTS {
            return None;
        }
        let weight = Weight::from(r.weight(&[oc, c / groups, kernel[0], kernel[1]], summands));
        let bias = if r.one_in(2) { Some(r.shared(&[oc], |x| x)) } else { None };
        let activation = self.activation();
        Some((Op::Conv { weight, bias, attributes, activation }, output))
    }

    fn batch_normalization(&mut self, channels: usize) -> Op {
        let r = &mut self.random;
        let [scale, bias, mean] = [0; 3].map(|_| r.shared(&[channels], |x| x));
        let variance = r.shared(&[channels], |x| 1.0 + x / 2.0);
        Op::BatchNormalization { scale, bias, mean, variance, epsilon: 1e-5 }
    }

    fn pool(&mut self, size: &[usize]) -> Option<PoolAttributes> {
        let r = &mut self.random;
        let kernel = [r.between(1, 4), r.between(1, 4)];
        let pads = if r.one_in(2) { [0; 4] } else { [0, 1, 2, 3].map(|side| r.below(kernel[side % 2])) };
        let pool = PoolAttributes { kernel, stride: [r.between(1, 3), r.between(1, 3)], pads, ceil_mode: r.one_in(2) };
        (0..2).all(|axis| size[axis] + pads[axis] + pads[axis + 2] >= kernel[axis]).then_some(pool)
    }

    fn sliding(&mut self, size: usize) -> Option<Sliding> {
        let r = &mut self.random;
        let (kernel, stride, dilation) = (r.between(1, 3), r.between(1, 3), r.between(1, 2));
        let pads = [r.below(kernel), r.below(kernel)];
        let sliding = Sliding { kernel, stride, dilation, pads, ceil_mode: r.one_in(2), count_include_pad: r.one_in(2) };
        let fits = size + pads[0] + pads[1] > (kernel - 1) * dilation;
        // Of nothing but padding there is no maximum.
        let filled = || (0..interpreter::window_count(&sliding, size)).all(|i| !interpreter::taps(&sliding, size, i).is_empty());
        (fits && filled()).then_some(sliding)
    }

    fn unary(&mut self, x: ValueId) -> Unary {
        let least = self.arrays[x.index()].data.iter().copied().fold(f64::INFINITY, f64::min);
        let positive = [Unary::Log, Unary::Sqrt, Unary::Reciprocal, Unary::Power { exponent: 1.5 }, Unary::Power { exponent: -0.5 }];
        if least > 0.2 && self.random.one_in(2) {
            return self.random.pick(&positive);
        }
        self.random.pick(&[
            Unary::Identity,
            Unary::Relu,
            Unary::LeakyRelu { alpha: 0.1 },
            Unary::Clip { low: -0.5, high: 0.5 },
            Unary::Clip { low: 0.3, high: f32::INFINITY },
            Unary::Sigmoid,
            Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Unary::HardSwish,
            Unary::Silu,
            Unary::Swish { alpha: 1.7 },
            Unary::Mish,
            Unary::Elu { alpha: 0.7 },
            Unary::Selu { alpha: 1.67, gamma: 1.05 },
            Unary::Celu { alpha: 0.8 },
            Unary::Gelu,
            Unary::GeluTanh,
            Unary::Erf,
            Unary::Tanh,
            Unary::Softplus,
            Unary::Softsign,
            Unary::Exp,
            Unary::Abs,
            Unary::Neg,
            Unary::Affine { scale: -1.25, shift: 0.5 },
            Unary::Affine { scale: 0.5, shift: 0.0 },
        ])
    }

    /// What can be broadcast with `dims`: a value, or a constant.
    fn broadcast_with(&mut self, dims: &[usize]) -> ValueId {
        let fits = |other: &[usize]| other.iter().rev().zip(dims.iter().rev()).all(|(a, b)| a == b || *a == 1 || *b == 1);
        let fitting: Vec<ValueId> = self.values.iter().copied().filter(|&value| fits(&self.dims(value))).collect();
        if self.random.one_in(2) {
            return self.random.pick(&fitting);
        }
        let r = &mut self.random;
        let skipped = r.below(dims.len() + 1);
        let mut constant: Vec<usize> = dims[skipped..].to_vec();
        constant.iter_mut().for_each(|dim| *dim = if r.one_in(2) { 1 } else { *dim });
        if dims.len() == 4 && r.one_in(3) {
            constant = r.pick(&[vec![dims[1], 1, 1], vec![1, dims[1], 1, 1], vec![1]]);
        }
        let tensor = r.tensor(&constant, |x| if x < 0.0 { x - 0.3 } else { x + 0.3 });
        self.constant(tensor)
    }

    /// Some shape of as many elements.
    fn reshaped(&mut self, dims: &[usize]) -> Vec<usize> {
        let count: usize = dims.iter().product();
        let r = &mut self.random;
        match (r.below(6), dims) {
            (0, &[n, c, h, w]) => vec![n, h, w, c],
            (1, &[n, c, h, w]) => vec![n, c, h * w],
            (2, &[n, ..]) => vec![n, count / n],
            (3, &[n, c, ref rest @ ..]) => {
                let groups = r.pick(&divisors(c, c));
                [&[n, groups, c / groups], rest].concat()
            }
            _ => {
                let mut left = count;
                let mut shape: Vec<usize> = Vec::new();
                for _ in 0..3 {
                    let divisor = r.pick(&divisors(left, 40));
                    shape.push(divisor);
                    left /= divisor;
                }
                shape.push(left);
                shape
            }
        }
    }

    fn axes(&mut self, rank: usize) -> Vec<usize> {
        let r = &mut self.random;
        let some: Vec<usize> = (0..rank).filter(|_| r.one_in(2)).collect();
        if rank > 2 && r.one_in(2) {
            return (2..rank).collect();
        }
        if some.is_empty() { vec![r.below(rank)] } else { some }
    }

    fn propose(&mut self, x: ValueId) -> Option<(Op, Vec<ValueId>)> {
        let dims = self.dims(x);
        let rank = dims.len();
        let networks = (2..=4).contains(&rank);
        let image = rank == 4;
        let alone = |op| Some((op, vec![x]));
        match self.random.below(34) {
            0..=6 if image => {
                let (op, output) = self.conv(&dims, None, false)?;
                let alike: Vec<ValueId> = self.values.iter().copied().filter(|&value| self.dims(value) == output).collect();
                let mut inputs = vec![x];
                if !alike.is_empty() && self.random.one_in(2) {
                    inputs.push(self.random.pick(&alike));
                }
                Some((op, inputs))
            }
            7 if rank == 2 || image => alone(self.batch_normalization(dims[1])),
            8 if rank == 2 || image => {
                let [scale, shift] = [0; 2].map(|_| self.random.shared(&[dims[1]], |x| x));
                alone(Op::ScaleShift { scale, shift, activation: self.activation() })
            }
            9 if networks => alone(Op::Activation(self.activation())),
            10 if image => alone(Op::MaxPool(self.pool(&dims[2..])?)),
            11 if image => {
                let pool = self.pool(&dims[2..])?;
                alone(Op::AveragePool { pool, count_include_pad: self.random.one_in(2) })
            }
            12 if image && self.random.one_in(2) => alone(Op::GlobalAveragePool),
            12 if image => alone(Op::AdaptiveAveragePool([self.random.between(1, 5), self.random.between(1, 5)])),
            13 | 14 if rank == 2 => {
                let (features, of) = (dims[1], self.random.between(1, 40));
                if features * of * dims[0] > MOST_PRODUCTS {
                    return None;
                }
                let weight = Weight::from(self.random.weight(&[of, features], features));
                let bias = if self.random.one_in(2) { Some(self.random.shared(&[of], |x| x)) } else { None };
                alone(Op::Gemm { weight, bias, activation: self.activation() })
            }
            13 | 14 if networks => {
                let other = self.another_like(&dims);
                Some((Op::Add(self.activation()), self.in_any_order(vec![x, other])))
            }
            15 if rank >= 2 => alone(Op::Flatten),
            16 if rank == 2 => alone(Op::Softmax),
            16 => alone(self.random.pick(&[Op::Identity, Op::Dropout])),
            17 if image && self.random.one_in(2) => alone(Op::Slice { step: [self.random.between(1, 3), self.random.between(1, 3)] }),
            17 if image => alone(Op::Pad { before: self.random.below(20), after: self.random.below(20) }),
            _ => self.propose_tensor_op(x, &dims).map(|(op, inputs)| (Op::Tensor(op), inputs)),
        }
    }

    fn propose_tensor_op(&mut self, x: ValueId, dims: &[usize]) -> Option<(TensorOp, Vec<ValueId>)> {
        let rank = dims.len();
        if rank == 0 {
            return None;
        }
        let image = rank == 4;
        let axis = self.random.below(rank);
        let alone = |op| Some((op, vec![x]));
        match self.random.below(28) {
            0 | 1 => alone(TensorOp::Map(self.unary(x))),
            2..=4 => {
                let other = self.broadcast_with(dims);
                let inputs = self.in_any_order(vec![x, other]);
                let away_from_zero = self.arrays[inputs[1].index()].data.iter().all(|x| x.abs() > 0.2);
                let mut functions =
                    vec![Binary::Add, Binary::Add, Binary::Sub, Binary::Mul, Binary::Mul, Binary::Min, Binary::Max, Binary::PRelu];
                if away_from_zero {
                    functions.push(Binary::Div);
                }
                let function = self.random.pick(&functions);
                let then = self.random.pick(&[Unary::Identity, Unary::Identity, Unary::Relu, Unary::Sigmoid, Unary::Tanh]);
                Some((TensorOp::Combine { function, then }, inputs))
            }
            5 | 6 => alone(TensorOp::Reshape(self.reshaped(dims))),
            7 => {
                let mut perm: Vec<usize> = (0..rank).collect();
                (1..rank).for_each(|i| perm.swap(i, self.random.below(i + 1)));
                alone(TensorOp::Transpose(perm))
            }
            8..=11 => {
                let axis = if rank > 1 && self.random.below(4) > 0 { 1 } else { axis };
                let fits = |other: &Vec<usize>| other.len() == rank && (0..rank).all(|a| a == axis || other[a] == dims[a]);
                let fitting: Vec<ValueId> = self.values.iter().copied().filter(|&value| fits(&self.dims(value))).collect();
                let mut inputs = vec![x];
                (0..self.random.between(1, 2)).for_each(|_| inputs.push(self.random.pick(&fitting)));
                Some((TensorOp::Concat { axis }, self.in_any_order(inputs)))
            }
            12 => {
                let dim = dims[axis] as i64;
                let mut place = || self.random.below(dim as usize) as i64;
                let (a, b) = (place(), place());
                let (low, high) = (a.min(b), a.max(b) + 1);
                let step = self.random.between(1, 3) as i64;
                let (start, end, step) = match self.random.below(4) {
                    0 => (high - 1 - dim, low - 1 - dim, -step),
                    1 => (low - dim, i64::MAX, step),
                    _ => (low, high, step),
                };
                alone(TensorOp::Slice { starts: vec![start], ends: vec![end], axes: vec![axis], steps: vec![step] })
            }
            13 if rank >= 2 => {
                let groups = divisors(dims[1], dims[1]);
                alone(TensorOp::ChannelShuffle { groups: self.random.pick(&groups) })
            }
            14 if image => {
                let blocks: Vec<usize> = (1..=3).filter(|b| dims[1].is_multiple_of(b * b)).collect();
                alone(TensorOp::DepthToSpace { block: self.random.pick(&blocks), crd: self.random.one_in(2) })
            }
            15 if image => {
                let blocks: Vec<usize> = (1..=3).filter(|b| dims[2].is_multiple_of(*b) && dims[3].is_multiple_of(*b)).collect();
                alone(TensorOp::SpaceToDepth { block: self.random.pick(&blocks) })
            }
            16 if rank >= 3 => {
                let windows = dims[2..].iter().map(|&size| self.sliding(size)).collect::<Option<Vec<_>>>()?;
                alone(TensorOp::Pool { reduction: self.random.pick(&[pool::Reduction::Maximum, pool::Reduction::Mean]), windows })
            }
            17 => {
                let reduction = self.random.pick(&[
                    Reduction::Sum,
                    Reduction::Mean,
                    Reduction::Mean,
                    Reduction::Max,
                    Reduction::Max,
                    Reduction::Min,
                    Reduction::L1,
                    Reduction::SumSquare,
                    Reduction::LogSumExp,
                ]);
                alone(TensorOp::Reduce { reduction, axes: self.axes(rank), keep: self.random.one_in(2) })
            }
            18 => alone(TensorOp::Softmax { axis, log: self.random.one_in(3) }),
            19 if rank >= 2 => {
                let rule = Rule {
                    coordinates: self.random.pick(&[Coordinates::Asymmetric, Coordinates::HalfPixel, Coordinates::AlignCorners]),
                    interpolation: self.random.pick(&[
                        Interpolation::Nearest(Nearest::Floor),
                        Interpolation::Nearest(Nearest::RoundPreferFloor),
                        Interpolation::Linear,
                    ]),
                    exclude_outside: false,
                    antialias: false,
                };
                // Places that are exact in binary.
                let scale = if rule.coordinates == Coordinates::AlignCorners { vec![2] } else { vec![2, 4] };
                let times = self.random.pick(&scale);
                if rule.coordinates == Coordinates::AlignCorners && rule.interpolation != Interpolation::Linear {
                    return None;
                }
                let axes =
                    (0..rank).map(|axis| (axis >= rank.min(4) - 2 && axis > 0).then_some((dims[axis] * times, times as f64))).collect();
                alone(TensorOp::Resize { axes, rules: vec![rule; rank], extrapolation: 0.0 })
            }
            20 if rank >= 2 => {
                let k = dims[rank - 1];
                let columns = self.random.between(1, 12);
                let fits = |other: &Vec<usize>| {
                    other.len() >= 2
                        && other[other.len() - 2] == k
                        && other.iter().rev().skip(2).zip(dims.iter().rev().skip(2)).all(|(a, b)| a == b || *a == 1 || *b == 1)
                };
                let fitting: Vec<ValueId> = self.values.iter().copied().filter(|&value| fits(&self.dims(value))).collect();
                let other = if fitting.is_empty() || self.random.one_in(2) {
                    let tensor = self.random.weight(&[k, columns], k);
                    self.constant(tensor)
                } else {
                    self.random.pick(&fitting)
                };
                let width = self.dims(other)[self.dims(other).len() - 1];
                if dims.iter().product::<usize>() * width > MOST_PRODUCTS {
                    return None;
                }
                Some((TensorOp::MatMul, vec![x, other]))
            }
            21 if rank == 2 => {
                let transpose = [self.random.one_in(2), self.random.one_in(2)];
                let k = dims[usize::from(!transpose[0])];
                let n = self.random.between(1, 20);
                if dims.iter().product::<usize>() * n > MOST_PRODUCTS {
                    return None;
                }
                let tensor = self.random.weight(&if transpose[1] { [n, k] } else { [k, n] }, k);
                let mut inputs = vec![x, self.constant(tensor)];
                if self.random.one_in(2) {
                    let addend = self.random.tensor(&[n], |x| x);
                    inputs.push(self.constant(addend));
                }
                Some((TensorOp::Product { transpose, alpha: 0.75, beta: -0.5 }, inputs))
            }
            22 if image => {
                let (op, _) = self.conv(dims, None, false)?;
                let Op::Conv { weight, bias, attributes, .. } = op else { unreachable!() };
                let weight = weight.read("").unwrap();
                let mut inputs = vec![x, self.constant(weight)];
                if let Some(bias) = bias {
                    inputs.push(self.constant((*bias).clone()));
                }
                Some((TensorOp::Convolution(attributes), inputs))
            }
            22 => {
                let mut target = dims.to_vec();
                target.iter_mut().filter(|dim| **dim == 1).for_each(|dim| *dim = self.random.between(1, 4));
                alone(TensorOp::Expand(target))
            }
            23 => {
                let repeats = (0..rank).map(|_| self.random.pick(&[1, 1, 2])).collect();
                alone(TensorOp::Tile(repeats))
            }
            24 => {
                let mode =
                    self.random.pick(&[PadMode::Constant(0.0), PadMode::Constant(0.5), PadMode::Edge, PadMode::Reflect, PadMode::Wrap]);
                let images = self.random.one_in(2);
                let pads = (0..2 * rank)
                    .map(|i| {
                        let dim = dims[i % rank];
                        if images && i % rank < 2 || dim < 3 { 0 } else { self.random.below(4) as i64 - 1 }
                    })
                    .collect();
                alone(TensorOp::Pad { pads, mode })
            }
            25 => self.propose_normalization(x, dims),
            26 => {
                let indices = self.random.between(1, 5);
                let dim = dims[axis];
                let tensor = self.random.tensor(&[indices], |x| ((x + 1.0) / 2.0 * dim as f32).floor().min(dim as f32 - 1.0));
                Some((TensorOp::Gather { axis }, vec![x, self.constant(tensor)]))
            }
            27 if self.random.one_in(2) => {
                alone(TensorOp::CumSum { axis, exclusive: self.random.one_in(2), reverse: self.random.one_in(2) })
            }
            27 if image => {
                let r = &mut self.random;
                let (oc, kernel) = (r.between(1, 12), [r.between(1, 3), r.between(1, 3)]);
                let attributes = ConvTransposeAttributes {
                    stride: [r.between(1, 2), r.between(1, 2)],
                    pads: [0, 1, 2, 3].map(|side| r.below(kernel[side % 2])),
                    dilation: [1, 1],
                    output_padding: [0, 0],
                    groups: 1,
                };
                let large = |axis: usize| {
                    (dims[axis + 2] - 1) * attributes.stride[axis] + kernel[axis] > attributes.pads[axis] + attributes.pads[axis + 2]
                };
                if !(large(0) && large(1)) || dims.iter().product::<usize>() * oc * kernel[0] * kernel[1] > MOST_PRODUCTS {
                    return None;
                }
                let tensor = r.weight(&[dims[1], oc, kernel[0], kernel[1]], dims[1] * kernel[0] * kernel[1]);
                Some((TensorOp::ConvTranspose(attributes), vec![x, self.constant(tensor)]))
            }
            _ => {
                let condition = self.random.tensor(dims, |x| f32::from(u8::from(x > 0.0)));
                let condition = self.constant(condition);
                let other = self.broadcast_with(dims);
                let inputs = self.in_any_order(vec![x, other]);
                Some((TensorOp::Where, vec![condition, inputs[0], inputs[1]]))
            }
        }
    }

    fn propose_normalization(&mut self, x: ValueId, dims: &[usize]) -> Option<(TensorOp, Vec<ValueId>)> {
        let rank = dims.len();
        if rank < 2 {
            return None;
        }
        let r = &mut self.random;
        let epsilon = 0.01;
        let channels = dims[1];
        let (op, parameters) = match r.below(5) {
            0 if rank >= 3 => (TensorOp::InstanceNormalization { epsilon }, vec![dims[1]]),
            1 if rank >= 3 => (TensorOp::GroupNormalization { groups: r.pick(&divisors(channels, channels)), epsilon }, vec![dims[1]]),
            2 => {
                let coefficients = [0.3, 0.75, 1.0];
                return Some((TensorOp::Lrn { size: r.between(1, 6), coefficients }, vec![x]));
            }
            3 => {
                let mut parameters: Vec<Tensor<f32>> = (0..3).map(|_| r.tensor(&[dims[1]], |x| x)).collect();
                parameters.push(r.tensor(&[dims[1]], |x| 1.0 + x / 2.0));
                let mut inputs = vec![x];
                parameters.into_iter().for_each(|tensor| inputs.push(self.constant(tensor)));
                return Some((TensorOp::BatchNormalization { epsilon }, inputs));
            }
            _ => {
                let axis = r.between(1, rank - 1);
                (TensorOp::LayerNormalization { axis, epsilon }, dims[axis..].to_vec())
            }
        };
        let [scale, shift] = [0; 2].map(|_| r.tensor(&parameters, |x| x));
        Some((op, vec![x, self.constant(scale), self.constant(shift)]))
    }

    /// Several nodes that passes and the planner look for.
    fn motif(&mut self, x: ValueId) -> Option<ValueId> {
        let dims = self.dims(x);
        let &[n, c, h, w] = &dims[..] else { return self.image_of_rows(x) };
        let map = |function| Op::Tensor(TensorOp::Map(function));
        let combine = |function| Op::Tensor(TensorOp::Combine { function, then: Unary::Identity });
        match self.random.below(7) {
            // A residual block.
            0 | 1 => {
                let (op, _) = self.conv(&dims, Some(c), true)?;
                let mut y = self.add(op, &[x])?;
                for _ in 0..self.random.below(3) {
                    let op = if self.random.one_in(2) { self.batch_normalization(c) } else { Op::Activation(Activation::Relu) };
                    y = self.add(op, &[y])?;
                }
                let operands = self.in_any_order(vec![x, y]);
                let sum = if self.random.one_in(2) { Op::Add(self.activation()) } else { combine(Binary::Add) };
                let sum = self.add(sum, &operands)?;
                if self.random.one_in(2) { self.add(Op::Activation(Activation::Relu), &[sum]) } else { Some(sum) }
            }
            // Channels dealt out by reshapes.
            2 => {
                let groups = self.random.pick(&divisors(c, c));
                let grouped = self.add(Op::Tensor(TensorOp::Reshape(vec![n, groups, c / groups, h, w])), &[x])?;
                let turned = self.add(Op::Tensor(TensorOp::Transpose(vec![0, 2, 1, 3, 4])), &[grouped])?;
                self.add(Op::Tensor(TensorOp::Reshape(dims)), &[turned])
            }
            // Zeros around an image, then a convolution.
            3 => {
                let pads: Vec<i64> = (0..8).map(|i| if i % 4 < 2 { 0 } else { self.random.below(3) as i64 }).collect();
                let padded = self.add(Op::Tensor(TensorOp::Pad { pads, mode: PadMode::Constant(0.0) }), &[x])?;
                let (op, _) = self.conv(&self.dims(padded), None, false)?;
                self.add(op, &[padded])
            }
            // A function of an image times the image.
            4 => {
                let function = self.random.pick(&[
                    Unary::Sigmoid,
                    Unary::Tanh,
                    Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
                    Unary::Softplus,
                    Unary::Erf,
                ]);
                let mut gate = self.add(map(function), &[x])?;
                if self.random.one_in(3) {
                    gate = self.add(map(Unary::Tanh), &[gate])?;
                }
                let operands = self.in_any_order(vec![x, gate]);
                self.add(combine(Binary::Mul), &operands)
            }
            // Squeeze and excitation.
            5 => {
                let mean = self.add(Op::GlobalAveragePool, &[x])?;
                let (op, _) = self.conv(&[n, c, 1, 1], Some(c), true)?;
                let scale = self.add(op, &[mean])?;
                let scale = self.add(map(Unary::Sigmoid), &[scale])?;
                self.add(combine(Binary::Mul), &[x, scale])
            }
            // A dense block.
            _ => {
                let mut y = x;
                for _ in 0..2 {
                    let dims = self.dims(y);
                    let more = self.random.pick(&[16, 16, 5]);
                    let (op, _) = self.conv(&dims, Some(more), true)?;
                    let new = self.add(op, &[y])?;
                    self.values.push(new);
                    y = self.add(Op::Tensor(TensorOp::Concat { axis: 1 }), &[y, new])?;
                }
                Some(y)
            }
        }
    }

    /// What is no image becomes one that a convolution reads.
    fn image_of_rows(&mut self, x: ValueId) -> Option<ValueId> {
        let dims = self.dims(x);
        let (n, count) = (*dims.first()?, dims.iter().product::<usize>());
        let h = self.random.pick(&divisors(count / n, 40));
        let w = self.random.pick(&divisors(count / n / h, 40));
        let shape = vec![n, count / n / h / w, h, w];
        let image = self.add(Op::Tensor(TensorOp::Reshape(shape.clone())), &[x])?;
        let (op, _) = self.conv(&shape, None, false)?;
        self.add(op, &[image])
    }
}
