//! Whole networks against the same networks in float64: the largest difference of a logit over the largest logit.
//!
//! Weights are random, those of each layer scaled so that its output has a standard deviation of about one, and BatchNorms have parameters
//! around one and zero: activations keep their size from the first layer to the last, as a trained network's do. Everything in float64
//! is a plain loop here.

use rayon::prelude::*;
use std::collections::HashMap;
use stridewise::graph::{Activation, Graph, Op, PoolAttributes, ValueId};
use stridewise::models::init::Initializer;
use stridewise::models::{Parameter, WeightSource};
use stridewise::{Arch, Model, Numerics, Result, SessionOptions, Shape, Tensor};

/// What the networks were made for: at another size the planner takes other algorithms.
const SIZE: usize = 224;

/// Largest difference over largest logit that is allowed.
const BOUNDS: [(Numerics, f64); 2] = [(Numerics::Exact, 1e-6), (Numerics::Fast, 3e-6)];

/// Initialised weights of convolutions and linear layers, each layer's scaled by a factor; uniform values for the rest.
struct Weights {
    initial: Initializer,
    /// Powers of two, so that nothing is rounded, by the layer's name.
    factors: HashMap<String, f32>,
}

impl WeightSource for Weights {
    fn tensor(&mut self, parameter: &Parameter) -> Result<Tensor<f32>> {
        let name = parameter.name.as_str();
        if parameter.shape.dims().len() > 1 {
            let factor = name.strip_suffix(".weight").and_then(|layer| self.factors.get(layer)).copied().unwrap_or(1.0);
            let mut tensor = self.initial.tensor(parameter)?;
            tensor.as_mut_slice().iter_mut().for_each(|w| *w *= factor);
            return Ok(tensor);
        }
        let around_one = name.ends_with(".running_var") || name.ends_with(".weight");
        let mut random = Random(name.bytes().fold(1, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(0x0100_0193)) | 1);
        let values = (0..parameter.shape.elements()).map(|_| if around_one { 1.0 + random.next() / 2.0 } else { random.next() / 6.0 });
        Tensor::from_slice(parameter.shape, &values.collect::<Vec<_>>())
    }
}

/// Xorshift: Marsaglia, Xorshift RNGs (2003).
struct Random(u32);

impl Random {
    /// Between -1 and 1.
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// One image: C, H, W and its values. A row of features is so many channels of one pixel.
#[derive(Clone)]
struct Image {
    dims: [usize; 3],
    values: Vec<f64>,
}

impl Image {
    fn plane(&self, channel: usize) -> &[f64] {
        let [_, h, w] = self.dims;
        &self.values[channel * h * w..(channel + 1) * h * w]
    }

    fn map(mut self, f: impl Fn(f64) -> f64) -> Image {
        self.values.iter_mut().for_each(|v| *v = f(*v));
        self
    }

    /// With a border of one value: top, left, bottom, right.
    fn padded(&self, [top, left, bottom, right]: [usize; 4], border: f64) -> Image {
        let [c, h, w] = self.dims;
        let dims = [c, h + top + bottom, w + left + right];
        let mut values = vec![border; dims.iter().product()];
        for (row, from) in self.values.chunks_exact(w).enumerate() {
            let start = ((row / h) * dims[1] + row % h + top) * dims[2] + left;
            values[start..start + w].copy_from_slice(from);
        }
        Image { dims, values }
    }
}

fn activate(activation: Activation) -> impl Fn(f64) -> f64 {
    move |x| match activation {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Clamp(low, high) => x.clamp(low.into(), high.into()),
    }
}

/// Cross-correlation with weights `[OC, C, KH, KW]`, one group.
fn convolution(x: &Image, weight: &Tensor<f32>, stride: usize, pads: [usize; 4]) -> Image {
    let &[oc, c, kh, kw] = weight.dims() else { panic!("weights of shape {}", weight.shape()) };
    let x = x.padded(pads, 0.0);
    let [_, h, w] = x.dims;
    let [oh, ow] = [(h - kh) / stride + 1, (w - kw) / stride + 1];
    let mut values = vec![0.0; oc * oh * ow];
    values.par_chunks_exact_mut(oh * ow).enumerate().for_each(|(o, out)| {
        for (tap, &factor) in weight.as_slice()[o * c * kh * kw..(o + 1) * c * kh * kw].iter().enumerate() {
            let (channel, dy, dx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
            let (plane, factor) = (x.plane(channel), f64::from(factor));
            if (kh, kw, stride) == (1, 1, 1) {
                out.iter_mut().zip(plane).for_each(|(y, x)| *y += factor * x);
                continue;
            }
            for (y, row) in out.chunks_exact_mut(ow).enumerate() {
                let from = &plane[(y * stride + dy) * w + dx..(y * stride + dy + 1) * w];
                match stride {
                    1 => row.iter_mut().zip(from).for_each(|(y, x)| *y += factor * x),
                    _ => row.iter_mut().zip(from.iter().step_by(stride)).for_each(|(y, x)| *y += factor * x),
                }
            }
        }
    });
    Image { dims: [oc, oh, ow], values }
}

fn maximum(x: &Image, pool: &PoolAttributes) -> Image {
    assert!(!pool.ceil_mode && pool.stride[0] == pool.stride[1]);
    let x = x.padded(pool.pads, f64::NEG_INFINITY);
    let ([c, h, w], [kh, kw], stride) = (x.dims, pool.kernel, pool.stride[0]);
    let [oh, ow] = [(h - kh) / stride + 1, (w - kw) / stride + 1];
    let window = |channel: usize, y: usize, column: usize| {
        let rows = (0..kh).flat_map(|dy| x.plane(channel)[(y * stride + dy) * w + column * stride..].iter().take(kw));
        rows.copied().fold(f64::NEG_INFINITY, f64::max)
    };
    let values = (0..c * oh * ow).map(|i| window(i / (oh * ow), i / ow % oh, i % ow)).collect();
    Image { dims: [c, oh, ow], values }
}

/// The power of two that brings the standard deviation of values near one.
fn factor(values: &[f64]) -> f32 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (-0.5 * variance.log2()).round().exp2() as f32
}

/// The logits of an image in float64, and the factors of the layers' weights.
fn forward(graph: &Graph, image: &Image) -> (Vec<f64>, HashMap<String, f32>) {
    let mut factors = HashMap::new();
    let mut layer = |name: &str, x: &Image, weight: &Tensor<f32>, bias: Option<&Tensor<f32>>, stride: usize, pads: [usize; 4]| {
        let mut y = convolution(x, weight, stride, pads);
        let factor = factor(&y.values);
        factors.insert(name.to_string(), factor);
        let pixels = y.dims[1] * y.dims[2];
        for (channel, plane) in y.values.chunks_exact_mut(pixels).enumerate() {
            let bias = bias.map_or(0.0, |b| f64::from(b.as_slice()[channel]));
            plane.iter_mut().for_each(|v| *v = *v * f64::from(factor) + bias);
        }
        y
    };
    let mut values: HashMap<ValueId, Image> = HashMap::from([(graph.input().value, image.clone())]);
    for (index, node) in graph.nodes().iter().enumerate() {
        let x = &values[&node.inputs[0]];
        let y = match &node.op {
            Op::Conv { weight, bias, attributes: a, activation } => {
                assert!(a.groups == 1 && a.dilation == [1, 1] && a.stride[0] == a.stride[1] && node.inputs.len() == 1, "{}", node.name);
                let weight = weight.read(&node.name).unwrap();
                layer(&node.name, x, &weight, bias.as_deref(), a.stride[0], a.pads).map(activate(*activation))
            }
            Op::BatchNormalization { scale, bias, mean, variance, epsilon } => {
                let mut y = x.clone();
                for (channel, plane) in y.values.chunks_exact_mut(x.dims[1] * x.dims[2]).enumerate() {
                    let [scale, bias, mean, variance] = [scale, bias, mean, variance].map(|t| f64::from(t.as_slice()[channel]));
                    let factor = scale / (variance + epsilon).sqrt();
                    plane.iter_mut().for_each(|v| *v = (*v - mean) * factor + bias);
                }
                y
            }
            Op::Activation(activation) => x.clone().map(activate(*activation)),
            Op::Add(activation) => {
                let mut y = x.clone();
                y.values.iter_mut().zip(&values[&node.inputs[1]].values).for_each(|(a, b)| *a += b);
                y.map(activate(*activation))
            }
            Op::MaxPool(pool) => maximum(x, pool),
            Op::GlobalAveragePool => {
                let mean = |channel| x.plane(channel).iter().sum::<f64>() / x.plane(channel).len() as f64;
                Image { dims: [x.dims[0], 1, 1], values: (0..x.dims[0]).map(mean).collect() }
            }
            Op::Flatten => Image { dims: [x.values.len(), 1, 1], values: x.values.clone() },
            Op::Gemm { weight, bias, activation } => {
                let matrix = weight.read(&node.name).unwrap();
                let shape = Shape::new(&[weight.dims()[0], weight.dims()[1], 1, 1]).unwrap();
                let weight = Tensor::from_slice(shape, matrix.as_slice()).unwrap();
                layer(&node.name, x, &weight, bias.as_deref(), 1, [0; 4]).map(activate(*activation))
            }
            other => panic!("{}: {} is no op of a ResNet", node.name, other.name()),
        };
        values.insert(node.output, y);
        // What nobody reads any more.
        let read_later =
            |value: &ValueId| graph.nodes()[index + 1..].iter().any(|n| n.inputs.contains(value)) || graph.outputs().contains(value);
        values.retain(|value, _| read_later(value));
    }
    (values[&graph.outputs()[0]].values.clone(), factors)
}

/// Values within ±2.5 with detail of every size, each as strong as the others, as pictures have it. Of mere noise the deep layers
/// see nearly the same everywhere.
fn picture(shape: Shape) -> Vec<f32> {
    let mut random = Random(0x2545_f491);
    let mut pixels = vec![0.0; shape.elements()];
    for cell in [1, 4, 16, 64, 256].map(|cell| SIZE.min(cell)) {
        let across = SIZE.div_ceil(cell);
        let squares: Vec<f32> = (0..3 * across * across).map(|_| random.next() / 2.0).collect();
        for (index, pixel) in pixels.iter_mut().enumerate() {
            let (channel, y, x) = (index / (SIZE * SIZE), index / SIZE % SIZE, index % SIZE);
            *pixel += squares[(channel * across + y / cell) * across + x / cell];
        }
    }
    pixels
}

fn check(arch: Arch) {
    let shape = Shape::new(&[1, 3, SIZE, SIZE]).unwrap();
    let pixels = picture(shape);
    let image = Image { dims: [3, SIZE, SIZE], values: pixels.iter().copied().map(f64::from).collect() };
    let mut weights = Weights { initial: Initializer::new(1), factors: HashMap::new() };
    let graph = arch.graph(1000, &mut weights).unwrap();
    let (expected, factors) = forward(&graph, &image);
    assert!(!factors.is_empty() && expected.len() == 1000);
    weights.factors = factors;
    let model = Model::from_graph(arch.graph(1000, &mut weights).unwrap()).unwrap();
    let x = Tensor::from_slice(shape, &pixels).unwrap();
    let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    assert!((1e-3..1e3).contains(&largest), "{arch}: the largest logit is {largest}");
    for (numerics, bound) in BOUNDS {
        let options = SessionOptions { numerics, threads: 2.into(), size: Some([SIZE, SIZE]), ..Default::default() };
        let logits = model.session(&options).unwrap().run(&x).unwrap();
        let differences = logits.as_slice().iter().zip(&expected).map(|(found, expected)| (f64::from(*found) - expected).abs());
        let error = differences.fold(0.0, f64::max) / largest;
        println!("{arch}, {numerics}, {SIZE}x{SIZE}: largest difference over largest logit {error:.2e}");
        assert!(error <= bound, "{arch}, {numerics}: {error:.2e} is over {bound:.0e}");
    }
}

#[test]
fn resnet18_is_as_exact_as_promised() {
    check(Arch::ResNet18);
}

#[test]
fn resnet50_is_as_exact_as_promised() {
    check(Arch::ResNet50);
}

#[test]
fn resnet152_is_as_exact_as_promised() {
    check(Arch::ResNet152);
}
