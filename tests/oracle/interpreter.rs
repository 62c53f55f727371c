//! Every op in plain loops over row-major f64, as its documentation and ONNX's say it is.

use stridewise::Tensor;
use stridewise::graph::{Activation, ConvAttributes, ConvTransposeAttributes, Graph, Op, TensorOp};
use stridewise_kernels::dense::{PadMode, Reduction};
use stridewise_kernels::pool::{self, Sliding};
use stridewise_kernels::resize::{Coordinates, Interpolation, Nearest, Rule};
use stridewise_kernels::{Binary, Unary};

/// A row-major tensor.
#[derive(Clone, Debug)]
pub struct Array {
    pub dims: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    /// The tensor whose element at each place is what a function makes of the place.
    pub fn from_fn(dims: &[usize], mut element: impl FnMut(&[usize]) -> f64) -> Array {
        let mut place = vec![0; dims.len()];
        let data = (0..dims.iter().product())
            .map(|_| {
                let value = element(&place);
                for (index, &dim) in place.iter_mut().zip(dims).rev() {
                    *index += 1;
                    if *index < dim {
                        break;
                    }
                    *index = 0;
                }
                value
            })
            .collect();
        Array { dims: dims.to_vec(), data }
    }

    pub fn at(&self, place: &[usize]) -> f64 {
        assert_eq!(place.len(), self.dims.len());
        self.data[place.iter().zip(&self.dims).fold(0, |offset, (index, dim)| offset * dim + index)]
    }

    pub fn largest(&self) -> f64 {
        self.data.iter().fold(0.0, |largest, x| x.abs().max(largest))
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Array {
        Array { dims: self.dims.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    fn reshaped(&self, dims: &[usize]) -> Array {
        assert_eq!(dims.iter().product::<usize>(), self.data.len());
        Array { dims: dims.to_vec(), data: self.data.clone() }
    }

    /// The element that a place of a tensor that this one is broadcast to has.
    fn broadcast_at(&self, place: &[usize]) -> f64 {
        let place = &place[place.len() - self.dims.len()..];
        let place: Vec<usize> = place.iter().zip(&self.dims).map(|(&index, &dim)| if dim == 1 { 0 } else { index }).collect();
        self.at(&place)
    }
}

impl From<&Tensor<f32>> for Array {
    fn from(tensor: &Tensor<f32>) -> Array {
        Array { dims: tensor.dims().to_vec(), data: tensor.as_slice().iter().map(|&x| x.into()).collect() }
    }
}

/// All values of a graph. `rounded` is given what an op computes, and the number whose rounding it may suffer from.
pub fn interpret(graph: &Graph, inputs: &[Array], mut rounded: impl FnMut(Array, f64) -> Array) -> Vec<Array> {
    let none = || Array { dims: vec![0], data: vec![] };
    let mut values: Vec<Array> = (0..graph.value_count()).map(|_| none()).collect();
    for (input, array) in graph.inputs().iter().zip(inputs) {
        values[input.value.index()] = rounded(array.clone(), array.largest());
    }
    for node in graph.nodes() {
        for &id in &node.inputs {
            if let Some(tensor) = graph.value(id).and_then(|value| value.constant.as_deref()) {
                values[id.index()] = tensor.into();
            }
        }
        let read: Vec<&Array> = node.inputs.iter().map(|id| &values[id.index()]).collect();
        let result = evaluate(&node.op, &read);
        let largest = if subtracts(&node.op) { read[0].largest().max(result.largest()) } else { result.largest() };
        // Sums in turn lose with each summand.
        let summands = read[0].data.len() as f64 / result.data.len() as f64;
        values[node.output.index()] = rounded(result, largest * (summands / 128.0).max(1.0));
    }
    values
}

/// Whether an op takes numbers off its input that may be as large: what is left may be little.
fn subtracts(op: &Op) -> bool {
    matches!(
        op,
        Op::Add(_)
            | Op::Tensor(
                TensorOp::Combine { function: Binary::Add | Binary::Sub, .. }
                    | TensorOp::Softmax { log: true, .. }
                    | TensorOp::LayerNormalization { .. }
                    | TensorOp::InstanceNormalization { .. }
                    | TensorOp::GroupNormalization { .. }
            )
    )
}

/// What an op makes of its inputs.
pub fn evaluate(op: &Op, inputs: &[&Array]) -> Array {
    let x = inputs[0];
    match op {
        Op::Conv { weight, bias, attributes, activation } => {
            let weight = Array::from(&weight.read("").unwrap());
            let bias = bias.as_deref().map(Array::from);
            let y = convolution(x, &weight, bias.as_ref(), attributes);
            let y = inputs.get(1).map_or(y.clone(), |residual| add(&y, residual));
            y.map(|y| activate(*activation, y))
        }
        Op::BatchNormalization { scale, bias, mean, variance, epsilon } => {
            let [scale, bias, mean, variance] = [scale, bias, mean, variance].map(|tensor| Array::from(&**tensor));
            batch_normalization(x, [&scale, &bias, &mean, &variance], *epsilon)
        }
        Op::ScaleShift { scale, shift, activation } => {
            let [scale, shift] = [scale, shift].map(|tensor| Array::from(&**tensor));
            Array::from_fn(&x.dims, |place| activate(*activation, scale.data[place[1]] * x.at(place) + shift.data[place[1]]))
        }
        Op::Activation(activation) => x.map(|x| activate(*activation, x)),
        Op::MaxPool(pool) => windows(x, &sliding(pool, false), pool::Reduction::Maximum),
        Op::AveragePool { pool, count_include_pad } => windows(x, &sliding(pool, *count_include_pad), pool::Reduction::Mean),
        Op::GlobalAveragePool => reduce(x, Reduction::Mean, &[2, 3], true),
        Op::AdaptiveAveragePool(size) => adaptive_average_pool(x, *size),
        Op::Gemm { weight, bias, activation } => {
            let weight = Array::from(&weight.read("").unwrap());
            let &[n, features] = &x.dims[..] else { panic!("Gemm of {:?}", x.dims) };
            let y = Array::from_fn(&[n, weight.dims[0]], |p| {
                let product: f64 = (0..features).map(|f| x.at(&[p[0], f]) * weight.at(&[p[1], f])).sum();
                product + bias.as_ref().map_or(0.0, |bias| bias.as_slice()[p[1]].into())
            });
            y.map(|y| activate(*activation, y))
        }
        Op::Add(activation) => add(x, inputs[1]).map(|y| activate(*activation, y)),
        Op::Flatten => x.reshaped(&[x.dims[0], x.dims[1..].iter().product()]),
        Op::Softmax => softmax(x, 1, false),
        Op::Slice { step } => {
            let size = [x.dims[2].div_ceil(step[0]), x.dims[3].div_ceil(step[1])];
            Array::from_fn(&[x.dims[0], x.dims[1], size[0], size[1]], |p| x.at(&[p[0], p[1], p[2] * step[0], p[3] * step[1]]))
        }
        Op::Pad { before, after } => {
            let channels = x.dims[1];
            Array::from_fn(&[x.dims[0], before + channels + after, x.dims[2], x.dims[3]], |p| {
                if (*before..before + channels).contains(&p[1]) { x.at(&[p[0], p[1] - before, p[2], p[3]]) } else { 0.0 }
            })
        }
        Op::Identity | Op::Dropout => x.clone(),
        Op::Tensor(op) => evaluate_tensor_op(op, inputs),
    }
}

fn evaluate_tensor_op(op: &TensorOp, inputs: &[&Array]) -> Array {
    let x = inputs[0];
    match op {
        TensorOp::Map(function) => x.map(|x| unary(*function, x)),
        TensorOp::Combine { function, then } => {
            let dims = broadcast(&x.dims, &inputs[1].dims);
            Array::from_fn(&dims, |p| unary(*then, binary(*function, x.broadcast_at(p), inputs[1].broadcast_at(p))))
        }
        TensorOp::Where => {
            let dims = broadcast(&x.dims, &broadcast(&inputs[1].dims, &inputs[2].dims));
            Array::from_fn(&dims, |p| inputs[if x.broadcast_at(p) != 0.0 { 1 } else { 2 }].broadcast_at(p))
        }
        TensorOp::Pool { reduction, windows: sliding } => windows(x, sliding, *reduction),
        TensorOp::Reshape(dims) => x.reshaped(dims),
        TensorOp::MatMul => matmul(x, inputs[1]),
        TensorOp::Product { transpose, alpha, beta } => product(inputs, *transpose, (*alpha).into(), (*beta).into()),
        TensorOp::Convolution(attributes) => convolution(x, inputs[1], inputs.get(2).copied(), attributes),
        TensorOp::ConvTranspose(attributes) => transposed_convolution(x, inputs[1], inputs.get(2).copied(), attributes),
        TensorOp::Transpose(perm) => {
            let dims: Vec<usize> = perm.iter().map(|&axis| x.dims[axis]).collect();
            Array::from_fn(&dims, |p| {
                let mut from = vec![0; p.len()];
                perm.iter().zip(p).for_each(|(&axis, &index)| from[axis] = index);
                x.at(&from)
            })
        }
        TensorOp::Slice { starts, ends, axes, steps } => slice(x, starts, ends, axes, steps),
        TensorOp::Expand(target) => Array::from_fn(&broadcast(&x.dims, target), |p| x.broadcast_at(p)),
        TensorOp::Tile(repeats) => {
            let dims: Vec<usize> = x.dims.iter().zip(repeats).map(|(dim, times)| dim * times).collect();
            Array::from_fn(&dims, |p| x.at(&p.iter().zip(&x.dims).map(|(index, dim)| index % dim).collect::<Vec<_>>()))
        }
        TensorOp::Pad { pads, mode } => pad(x, pads, *mode),
        TensorOp::Concat { axis } => concat(inputs, *axis),
        TensorOp::Gather { axis } => gather(x, inputs[1], *axis),
        TensorOp::Reduce { reduction, axes, keep } => reduce(x, *reduction, axes, *keep),
        TensorOp::CumSum { axis, exclusive, reverse } => cumulative_sum(x, *axis, *exclusive, *reverse),
        TensorOp::Softmax { axis, log } => softmax(x, *axis, *log),
        TensorOp::LayerNormalization { axis, epsilon } => {
            let group = |p: &[usize]| p[..*axis].to_vec();
            let of = |parameter: &Array, p: &[usize]| parameter.broadcast_at(p);
            normalise(x, *epsilon, group, |p| of(inputs[1], p), |p| of(inputs[2], p))
        }
        TensorOp::InstanceNormalization { epsilon } => {
            normalise(x, *epsilon, |p| p[..2].to_vec(), |p| inputs[1].data[p[1]], |p| inputs[2].data[p[1]])
        }
        TensorOp::GroupNormalization { groups, epsilon } => {
            let channels = x.dims[1] / groups;
            normalise(x, *epsilon, |p| vec![p[0], p[1] / channels], |p| inputs[1].data[p[1]], |p| inputs[2].data[p[1]])
        }
        TensorOp::BatchNormalization { epsilon } => batch_normalization(x, [inputs[1], inputs[2], inputs[3], inputs[4]], (*epsilon).into()),
        TensorOp::Lrn { size, coefficients } => local_response_normalization(x, *size, coefficients.map(f64::from)),
        TensorOp::Resize { axes, rules, .. } => resize(x, axes, rules),
        TensorOp::DepthToSpace { block, crd } => depth_to_space(x, *block, *crd),
        TensorOp::SpaceToDepth { block } => space_to_depth(x, *block),
        TensorOp::ChannelShuffle { groups } => {
            let each = x.dims[1] / groups;
            Array::from_fn(&x.dims, |p| {
                let mut from = p.to_vec();
                from[1] = p[1] % groups * each + p[1] / groups;
                x.at(&from)
            })
        }
        _ => panic!("{} has no interpretation here", op.name()),
    }
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Clamp(low, high) => x.max(low.into()).min(high.into()),
    }
}

fn add(a: &Array, b: &Array) -> Array {
    assert_eq!(a.dims, b.dims);
    Array { dims: a.dims.clone(), data: a.data.iter().zip(&b.data).map(|(a, b)| a + b).collect() }
}

/// What a tensor has at a place that may lie outside it.
fn inside(place: usize, before: usize, size: usize) -> Option<usize> {
    place.checked_sub(before).filter(|&index| index < size)
}

fn convolution(x: &Array, weight: &Array, bias: Option<&Array>, a: &ConvAttributes) -> Array {
    let (&[n, _, h, w], &[oc, width, kh, kw]) = (&x.dims[..], &weight.dims[..]) else { panic!("convolution of {:?}", x.dims) };
    let oh = (h + a.pads[0] + a.pads[2] - (kh - 1) * a.dilation[0] - 1) / a.stride[0] + 1;
    let ow = (w + a.pads[1] + a.pads[3] - (kw - 1) * a.dilation[1] - 1) / a.stride[1] + 1;
    Array::from_fn(&[n, oc, oh, ow], |p| {
        let mut sum = bias.map_or(0.0, |bias| bias.data[p[1]]);
        let first = p[1] / (oc / a.groups) * width;
        for c in 0..width {
            for ky in 0..kh {
                let Some(y) = inside(p[2] * a.stride[0] + ky * a.dilation[0], a.pads[0], h) else { continue };
                for kx in 0..kw {
                    let Some(x_) = inside(p[3] * a.stride[1] + kx * a.dilation[1], a.pads[1], w) else { continue };
                    sum += weight.at(&[p[1], c, ky, kx]) * x.at(&[p[0], first + c, y, x_]);
                }
            }
        }
        sum
    })
}

fn transposed_convolution(x: &Array, weight: &Array, bias: Option<&Array>, a: &ConvTransposeAttributes) -> Array {
    let (&[n, c, h, w], &[_, per_group, kh, kw]) = (&x.dims[..], &weight.dims[..]) else { panic!("of {:?}", x.dims) };
    let full = |axis: usize, size: usize, kernel: usize| {
        (size - 1) * a.stride[axis] + (kernel - 1) * a.dilation[axis] + 1 + a.output_padding[axis] - a.pads[axis] - a.pads[axis + 2]
    };
    let (oc, oh, ow) = (per_group * a.groups, full(0, h, kh), full(1, w, kw));
    let mut y = Array::from_fn(&[n, oc, oh, ow], |p| bias.map_or(0.0, |bias| bias.data[p[1]]));
    for p in places(&[n, c, h, w, per_group, kh, kw]) {
        let &[image, channel, row, column, o, ky, kx] = &p[..] else { unreachable!() };
        let Some(to_row) = inside(row * a.stride[0] + ky * a.dilation[0], a.pads[0], oh) else { continue };
        let Some(to_column) = inside(column * a.stride[1] + kx * a.dilation[1], a.pads[1], ow) else { continue };
        let o_all = channel / (c / a.groups) * per_group + o;
        y.data[((image * oc + o_all) * oh + to_row) * ow + to_column] +=
            x.at(&[image, channel, row, column]) * weight.at(&[channel, o, ky, kx]);
    }
    y
}

/// All places of a tensor, in order.
fn places(dims: &[usize]) -> Vec<Vec<usize>> {
    let mut places = Vec::new();
    Array::from_fn(dims, |place| {
        places.push(place.to_vec());
        0.0
    });
    places
}

fn batch_normalization(x: &Array, [scale, bias, mean, variance]: [&Array; 4], epsilon: f64) -> Array {
    Array::from_fn(&x.dims, |p| {
        let c = p[1];
        (x.at(p) - mean.data[c]) / (variance.data[c] + epsilon).sqrt() * scale.data[c] + bias.data[c]
    })
}

fn sliding(pool: &stridewise::graph::PoolAttributes, count_include_pad: bool) -> Vec<Sliding> {
    let axis = |i: usize| Sliding {
        kernel: pool.kernel[i],
        stride: pool.stride[i],
        dilation: 1,
        pads: [pool.pads[i], pool.pads[i + 2]],
        ceil_mode: pool.ceil_mode,
        count_include_pad,
    };
    vec![axis(0), axis(1)]
}

/// How many windows slide over an axis. With `ceil_mode` the last may hang over the padding, but not begin behind the input.
pub fn window_count(s: &Sliding, size: usize) -> usize {
    let room = size + s.pads[0] + s.pads[1] - ((s.kernel - 1) * s.dilation + 1);
    let count = if s.ceil_mode { room.div_ceil(s.stride) } else { room / s.stride } + 1;
    if s.ceil_mode && (count - 1) * s.stride >= size + s.pads[0] { count - 1 } else { count }
}

/// The elements of a window that the axis has.
pub fn taps(s: &Sliding, size: usize, window: usize) -> Vec<usize> {
    (0..s.kernel).filter_map(|tap| inside(window * s.stride + tap * s.dilation, s.pads[0], size)).collect()
}

fn windows(x: &Array, sliding: &[Sliding], reduction: pool::Reduction) -> Array {
    let mut dims = x.dims[..2].to_vec();
    dims.extend(sliding.iter().zip(&x.dims[2..]).map(|(s, &size)| window_count(s, size)));
    Array::from_fn(&dims, |p| {
        let axes = || sliding.iter().zip(&x.dims[2..]).zip(&p[2..]);
        let taps: Vec<Vec<usize>> = axes().map(|((s, &size), &window)| taps(s, size, window)).collect();
        let counts: Vec<usize> = taps.iter().map(Vec::len).collect();
        let elements = places(&counts).into_iter().map(|place| {
            let mut from = p[..2].to_vec();
            from.extend(place.iter().zip(&taps).map(|(&index, taps)| taps[index]));
            x.at(&from)
        });
        match reduction {
            pool::Reduction::Maximum => elements.fold(f64::NEG_INFINITY, f64::max),
            pool::Reduction::Mean => {
                // Padding counts as far as it reaches, what a window has behind it does not.
                let divisor = |((s, &size), &window): ((&Sliding, &usize), &usize)| {
                    let padded = |tap: &usize| window * s.stride + tap * s.dilation < size + s.pads[0] + s.pads[1];
                    if s.count_include_pad { (0..s.kernel).filter(padded).count() } else { self::taps(s, size, window).len() }
                };
                elements.sum::<f64>() / axes().map(divisor).product::<usize>() as f64
            }
        }
    })
}

fn adaptive_average_pool(x: &Array, [oh, ow]: [usize; 2]) -> Array {
    let &[n, c, h, w] = &x.dims[..] else { panic!("pooling of {:?}", x.dims) };
    let range = |i: usize, size: usize, count: usize| i * size / count..((i + 1) * size).div_ceil(count);
    Array::from_fn(&[n, c, oh, ow], |p| {
        let (rows, columns) = (range(p[2], h, oh), range(p[3], w, ow));
        let count = rows.len() * columns.len();
        let elements = rows.flat_map(|y| columns.clone().map(move |x| [y, x]));
        elements.map(|[row, column]| x.at(&[p[0], p[1], row, column])).sum::<f64>() / count as f64
    })
}

fn softmax(x: &Array, axis: usize, log: bool) -> Array {
    let sums = reduce(&x.map(f64::exp), Reduction::Sum, &[axis], true);
    Array::from_fn(&x.dims, |p| {
        let log_of = x.at(p) - sums.broadcast_at(p).ln();
        if log { log_of } else { log_of.exp() }
    })
}

fn reduce(x: &Array, reduction: Reduction, axes: &[usize], keep: bool) -> Array {
    let kept: Vec<usize> = x.dims.iter().enumerate().map(|(axis, &dim)| if axes.contains(&axis) { 1 } else { dim }).collect();
    let mut groups = vec![Vec::new(); kept.iter().product()];
    for p in places(&x.dims) {
        let group = p.iter().zip(&kept).fold(0, |offset, (&index, &dim)| offset * dim + if dim == 1 { 0 } else { index });
        groups[group].push(x.at(&p));
    }
    let of = |elements: Vec<f64>| {
        let sum = |f: fn(f64) -> f64| elements.iter().map(|&x| f(x)).sum::<f64>();
        match reduction {
            Reduction::Sum => sum(|x| x),
            Reduction::Mean => sum(|x| x) / elements.len() as f64,
            Reduction::Max => elements.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            Reduction::Min => elements.iter().copied().fold(f64::INFINITY, f64::min),
            Reduction::Prod => elements.iter().product(),
            Reduction::L1 => sum(f64::abs),
            Reduction::L2 => sum(|x| x * x).sqrt(),
            Reduction::LogSum => sum(|x| x).ln(),
            Reduction::LogSumExp => sum(f64::exp).ln(),
            Reduction::SumSquare => sum(|x| x * x),
        }
    };
    let data = groups.into_iter().map(of).collect();
    let left = || x.dims.iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &dim)| dim).collect();
    Array { dims: if keep { kept } else { left() }, data }
}

fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let dim = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis]);
    (0..rank)
        .map(|axis| {
            let (a, b) = (dim(a, axis), dim(b, axis));
            assert!(a == b || a == 1 || b == 1);
            a.max(b)
        })
        .collect()
}

fn matmul(a: &Array, b: &Array) -> Array {
    let (&[.., m, k], &[.., rows, n]) = (&a.dims[..], &b.dims[..]) else { panic!("product of {:?} and {:?}", a.dims, b.dims) };
    assert_eq!(k, rows);
    let mut dims = broadcast(&a.dims[..a.dims.len() - 2], &b.dims[..b.dims.len() - 2]);
    dims.extend([m, n]);
    let element = |x: &Array, p: &[usize], row: usize, column: usize| {
        let mut p = p[p.len() - x.dims.len()..].to_vec();
        p.iter_mut().zip(&x.dims).for_each(|(index, dim)| *index *= usize::from(*dim > 1));
        let rank = p.len();
        (p[rank - 2], p[rank - 1]) = (row, column);
        x.at(&p)
    };
    Array::from_fn(&dims, |p| {
        let (row, column) = (p[p.len() - 2], p[p.len() - 1]);
        (0..k).map(|i| element(a, p, row, i) * element(b, p, i, column)).sum()
    })
}

fn product(inputs: &[&Array], transpose: [bool; 2], alpha: f64, beta: f64) -> Array {
    let element = |x: &Array, transposed: bool, row: usize, column: usize| x.at(&if transposed { [column, row] } else { [row, column] });
    let size = |x: &Array, transposed: bool| if transposed { [x.dims[1], x.dims[0]] } else { [x.dims[0], x.dims[1]] };
    let ([m, k], [_, n]) = (size(inputs[0], transpose[0]), size(inputs[1], transpose[1]));
    Array::from_fn(&[m, n], |p| {
        let product: f64 = (0..k).map(|i| element(inputs[0], transpose[0], p[0], i) * element(inputs[1], transpose[1], i, p[1])).sum();
        alpha * product + inputs.get(2).map_or(0.0, |c| beta * c.broadcast_at(p))
    })
}

fn slice(x: &Array, starts: &[i64], ends: &[i64], axes: &[usize], steps: &[i64]) -> Array {
    let mut kept: Vec<Vec<usize>> = x.dims.iter().map(|&dim| (0..dim).collect()).collect();
    for (i, &axis) in axes.iter().enumerate() {
        let dim = x.dims[axis] as i64;
        let from_behind = |place: i64| if place < 0 { place.saturating_add(dim) } else { place };
        let (start, end) = (from_behind(starts[i]), from_behind(ends[i]));
        kept[axis] = if steps[i] > 0 {
            (start.clamp(0, dim)..end.clamp(0, dim)).step_by(steps[i] as usize).map(|p| p as usize).collect()
        } else {
            let (start, end) = (start.clamp(0, dim - 1), end.clamp(-1, dim - 1));
            (end + 1..=start).rev().step_by(steps[i].unsigned_abs() as usize).map(|p| p as usize).collect()
        };
    }
    let dims: Vec<usize> = kept.iter().map(Vec::len).collect();
    Array::from_fn(&dims, |p| x.at(&p.iter().zip(&kept).map(|(&index, kept)| kept[index]).collect::<Vec<_>>()))
}

fn pad(x: &Array, pads: &[i64], mode: PadMode) -> Array {
    let rank = x.dims.len();
    let dims: Vec<usize> = x.dims.iter().enumerate().map(|(i, &dim)| (dim as i64 + pads[i] + pads[i + rank]) as usize).collect();
    Array::from_fn(&dims, |p| {
        let mut from = Vec::new();
        for (axis, &index) in p.iter().enumerate() {
            let (index, dim) = (index as i64 - pads[axis], x.dims[axis] as i64);
            let index = match mode {
                PadMode::Constant(fill) if !(0..dim).contains(&index) => return fill.into(),
                PadMode::Constant(_) => index,
                PadMode::Edge => index.clamp(0, dim - 1),
                PadMode::Wrap => index.rem_euclid(dim),
                PadMode::Reflect if dim == 1 => 0,
                PadMode::Reflect => {
                    let place = index.rem_euclid(2 * (dim - 1));
                    place.min(2 * (dim - 1) - place)
                }
            };
            from.push(index as usize);
        }
        x.at(&from)
    })
}

fn concat(inputs: &[&Array], axis: usize) -> Array {
    let mut dims = inputs[0].dims.clone();
    dims[axis] = inputs.iter().map(|x| x.dims[axis]).sum();
    Array::from_fn(&dims, |p| {
        let mut from = p.to_vec();
        for x in inputs {
            if from[axis] < x.dims[axis] {
                return x.at(&from);
            }
            from[axis] -= x.dims[axis];
        }
        unreachable!()
    })
}

fn gather(x: &Array, indices: &Array, axis: usize) -> Array {
    let dims = [&x.dims[..axis], &indices.dims, &x.dims[axis + 1..]].concat();
    let rank = indices.dims.len();
    Array::from_fn(&dims, |p| {
        let index = indices.at(&p[axis..axis + rank]);
        let index = if index < 0.0 { index + x.dims[axis] as f64 } else { index };
        x.at(&[&p[..axis], &[index as usize], &p[axis + rank..]].concat())
    })
}

fn cumulative_sum(x: &Array, axis: usize, exclusive: bool, reverse: bool) -> Array {
    Array::from_fn(&x.dims, |p| {
        let counts = |i: &usize| (*i != p[axis] || !exclusive) && if reverse { *i >= p[axis] } else { *i <= p[axis] };
        let mut from = p.to_vec();
        let mut element = |i: usize| {
            from[axis] = i;
            x.at(&from)
        };
        (0..x.dims[axis]).filter(counts).map(&mut element).sum()
    })
}

/// Less the mean and over the deviation of the group that a place is in, then times scale and plus shift.
fn normalise(
    x: &Array,
    epsilon: f32,
    group: impl Fn(&[usize]) -> Vec<usize>,
    scale: impl Fn(&[usize]) -> f64,
    shift: impl Fn(&[usize]) -> f64,
) -> Array {
    let mut groups = std::collections::BTreeMap::<Vec<usize>, Vec<f64>>::new();
    for p in places(&x.dims) {
        groups.entry(group(&p)).or_default().push(x.at(&p));
    }
    let statistics = |elements: &Vec<f64>| {
        let mean = elements.iter().sum::<f64>() / elements.len() as f64;
        (mean, elements.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / elements.len() as f64)
    };
    let statistics: std::collections::BTreeMap<_, _> = groups.iter().map(|(key, elements)| (key, statistics(elements))).collect();
    Array::from_fn(&x.dims, |p| {
        let (mean, variance) = statistics[&group(p)];
        (x.at(p) - mean) / (variance + f64::from(epsilon)).sqrt() * scale(p) + shift(p)
    })
}

fn local_response_normalization(x: &Array, size: usize, [alpha, beta, bias]: [f64; 3]) -> Array {
    Array::from_fn(&x.dims, |p| {
        let channels = p[1].saturating_sub((size - 1) / 2)..(p[1] + size / 2 + 1).min(x.dims[1]);
        let mut from = p.to_vec();
        let mut square = |c: usize| {
            from[1] = c;
            x.at(&from).powi(2)
        };
        x.at(p) / (bias + alpha / size as f64 * channels.map(&mut square).sum::<f64>()).powf(beta)
    })
}

fn resize(x: &Array, axes: &[Option<(usize, f64)>], rules: &[Rule]) -> Array {
    let mut y = x.clone();
    for (axis, (target, rule)) in axes.iter().zip(rules).enumerate() {
        let &Some((size, scale)) = target else { continue };
        let from = y;
        let (mut dims, last) = (from.dims.clone(), (from.dims[axis] - 1) as f64);
        dims[axis] = size;
        y = Array::from_fn(&dims, |p| {
            let place = p[axis] as f64;
            let place = match rule.coordinates {
                Coordinates::HalfPixel => (place + 0.5) / scale - 0.5,
                Coordinates::Asymmetric => place / scale,
                Coordinates::AlignCorners if size == 1 => 0.0,
                Coordinates::AlignCorners => place * last / (size - 1) as f64,
                other => panic!("{other:?} has no interpretation here"),
            };
            let at = |index: f64| {
                let mut from_place = p.to_vec();
                from_place[axis] = index.clamp(0.0, last) as usize;
                from.at(&from_place)
            };
            match rule.interpolation {
                Interpolation::Nearest(Nearest::Floor) => at(place.floor()),
                Interpolation::Nearest(Nearest::Ceil) => at(place.ceil()),
                Interpolation::Nearest(Nearest::RoundPreferFloor) => at((place - 0.5).ceil()),
                Interpolation::Nearest(Nearest::RoundPreferCeil) => at((place + 0.5).floor()),
                Interpolation::Linear => {
                    let part = place - place.floor();
                    at(place.floor()) * (1.0 - part) + at(place.floor() + 1.0) * part
                }
                other => panic!("{other:?} has no interpretation here"),
            }
        });
    }
    y
}

fn depth_to_space(x: &Array, block: usize, crd: bool) -> Array {
    let &[n, c, h, w] = &x.dims[..] else { panic!("depth to space of {:?}", x.dims) };
    let channels = c / (block * block);
    Array::from_fn(&[n, channels, h * block, w * block], |p| {
        let within = p[2] % block * block + p[3] % block;
        let channel = if crd { p[1] * block * block + within } else { within * channels + p[1] };
        x.at(&[p[0], channel, p[2] / block, p[3] / block])
    })
}

fn space_to_depth(x: &Array, block: usize) -> Array {
    let &[n, c, h, w] = &x.dims[..] else { panic!("space to depth of {:?}", x.dims) };
    Array::from_fn(&[n, c * block * block, h / block, w / block], |p| {
        let within = p[1] / c;
        x.at(&[p[0], p[1] % c, p[2] * block + within / block, p[3] * block + within % block])
    })
}

fn unary(function: Unary, x: f64) -> f64 {
    let elu = |alpha: f64, x: f64| if x < 0.0 { alpha * x.exp_m1() } else { x };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match function {
        Unary::Identity => x,
        Unary::Relu => x.max(0.0),
        Unary::LeakyRelu { alpha } => {
            if x < 0.0 {
                f64::from(alpha) * x
            } else {
                x
            }
        }
        Unary::Clip { low, high } => x.max(low.into()).min(high.into()),
        Unary::Sigmoid => sigmoid(x),
        Unary::HardSigmoid { alpha, beta } => (f64::from(alpha) * x + f64::from(beta)).clamp(0.0, 1.0),
        Unary::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Unary::Silu => x * sigmoid(x),
        Unary::Swish { alpha } => x * sigmoid(f64::from(alpha) * x),
        Unary::Mish => x * x.exp().ln_1p().tanh(),
        Unary::Elu { alpha } => elu(alpha.into(), x),
        Unary::Selu { alpha, gamma } => f64::from(gamma) * elu(alpha.into(), x),
        Unary::Celu { alpha } => x.max(0.0) + (f64::from(alpha) * (x / f64::from(alpha)).exp_m1()).min(0.0),
        Unary::Gelu => x / 2.0 * (1.0 + libm::erf(x / 2f64.sqrt())),
        Unary::GeluTanh => x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        Unary::Erf => libm::erf(x),
        Unary::Tanh => x.tanh(),
        Unary::Softplus => x.exp().ln_1p(),
        Unary::Softsign => x / (1.0 + x.abs()),
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Reciprocal => 1.0 / x,
        Unary::Power { exponent } => x.powf(exponent.into()),
        Unary::Affine { scale, shift } => f64::from(scale) * x + f64::from(shift),
        other => panic!("{other:?} has no interpretation here"),
    }
}

fn binary(function: Binary, a: f64, b: f64) -> f64 {
    match function {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Pow => a.powf(b),
        Binary::PRelu => {
            if a < 0.0 {
                a * b
            } else {
                a
            }
        }
        other => panic!("{other:?} has no interpretation here"),
    }
}
