//! Every kernel family over the shapes of ResNet-50, on every instruction set of this machine, one thread. A convolution's throughput
//! counts a multiply-add as two operations: compare it with what `stridewise isa` measures as the FMA peak.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use std::time::Duration;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual, Winograd};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::pool::{Pool, Reduction, Windows};
use stridewise_kernels::{AlignedBuffer, BLOCK, ConvProblem, Geometry, Halo, Inline, Isa, KernelTable, Layout};

/// The convolutions of ResNet-50, each once, and what an im2col path would be given.
const STEM: &[&str] = &["n1c3h224w224o64k7s2p3"];
const POINTWISE: &[&str] = &[
    "n1c64h56w56o64k1",
    "n1c64h56w56o256k1",
    "n1c256h56w56o64k1",
    "n1c256h56w56o128k1",
    "n1c128h28w28o512k1",
    "n1c512h28w28o128k1",
    "n1c512h28w28o256k1",
    "n1c256h14w14o1024k1",
    "n1c1024h14w14o256k1",
    "n1c1024h14w14o512k1",
    "n1c512h7w7o2048k1",
    "n1c2048h7w7o512k1",
];
const PROJECTION: &[&str] = &["n1c256h56w56o512k1s2", "n1c512h28w28o1024k1s2", "n1c1024h14w14o2048k1s2"];
const SPATIAL: &[&str] = &[
    "n1c64h56w56o64k3p1",
    "n1c128h28w28o128k3p1",
    "n1c256h14w14o256k3p1",
    "n1c512h7w7o512k3p1",
    "n1c128h56w56o128k3s2p1",
    "n1c256h28w28o256k3s2p1",
    "n1c512h14w14o512k3s2p1",
];
const DEPTHWISE: &[&str] = &["n1c64h56w56o64k3p1g64", "n1c256h14w14o256k3p1g256"];
const GROUPED: &[&str] = &["n1c128h56w56o128k3p1g32", "n1c1024h7w7o1024k3p1g32"];
const LINEAR: &[&str] = &["n1c2048h1w1o1000k1"];

/// A prepared convolution and its buffers.
struct Case {
    conv: Conv,
    input: AlignedBuffer,
    output: AlignedBuffer,
    scratch: AlignedBuffer,
}

fn buffer(len: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeros(len).unwrap();
    buffer.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 251) as f32 / 125.0 - 1.0);
    buffer
}

fn case(problem: &ConvProblem, algorithm: Algorithm, isa: Isa) -> Case {
    let table = KernelTable::get(isa).unwrap();
    let [oh, ow] = problem.output();
    let layout = if problem.c < BLOCK { Layout::Nchw } else { Layout::Nchw16c };
    let input = Geometry::new(layout, [problem.n, problem.c, problem.h, problem.w], algorithm.required_halo(problem)).unwrap();
    let output = Geometry::new(Layout::Nchw16c, [problem.n, problem.oc, oh, ow], Halo::NONE).unwrap();
    let weight = buffer(problem.weight_len());
    let weights = Arc::new(PackedWeights::pack(table, problem, algorithm, layout, &weight, None, &Inline).unwrap());
    let conv = Conv::new(*problem, algorithm, input, output, None, weights, (0.0, f32::INFINITY), 1).unwrap();
    let scratch = AlignedBuffer::zeros(conv.scratch_per_thread()).unwrap();
    Case { conv, input: buffer(input.len()), output: AlignedBuffer::zeros(output.len()).unwrap(), scratch }
}

fn family(c: &mut Criterion, name: &str, problems: &[&str], algorithm: Algorithm) {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for text in problems {
        let problem: ConvProblem = text.parse().unwrap();
        group.throughput(Throughput::Elements(2 * problem.macs()));
        for &isa in Isa::available() {
            // Plain code is slow, and measured only where there is nothing else.
            if isa == Isa::Portable && Isa::available().len() > 1 {
                continue;
            }
            let mut case = case(&problem, algorithm, isa);
            group.bench_function(BenchmarkId::new(isa.name(), text), |b| {
                b.iter(|| case.conv.run(&Inline, &case.input, Residual::None, &mut case.output, &mut case.scratch).unwrap());
            });
        }
    }
    group.finish();
}

fn convolutions(c: &mut Criterion) {
    family(c, "stem", STEM, Algorithm::Direct);
    family(c, "pointwise", POINTWISE, Algorithm::Direct);
    family(c, "projection", PROJECTION, Algorithm::Direct);
    family(c, "spatial", SPATIAL, Algorithm::Direct);
    family(c, "depthwise", DEPTHWISE, Algorithm::Depthwise);
    family(c, "grouped", GROUPED, Algorithm::Direct);
    family(c, "winograd F(2x2,3x3)", &SPATIAL[..4], Algorithm::Winograd(Winograd::F2));
    family(c, "winograd F(4x4,3x3)", &SPATIAL[..4], Algorithm::Winograd(Winograd::F4));
    family(c, "im2col", SPATIAL, Algorithm::Im2colGemm);
    family(c, "linear", LINEAR, Algorithm::Direct);
}

/// The stem's max-pool and the head's mean: bound by memory, so throughput is bytes read.
fn pooling(c: &mut Criterion) {
    let mut group = c.benchmark_group("pooling");
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    for &isa in Isa::available() {
        let table = KernelTable::get(isa).unwrap();
        let geometry = |dims| Geometry::new(Layout::Nchw16c, dims, Halo::NONE).unwrap();
        let axis = |size| Windows::sliding(size, [3, 2], [1, 1], 56, false).unwrap();
        let cases = [
            ("max 3x3 s2 of 64x112x112", Reduction::Maximum, geometry([1, 64, 112, 112]), geometry([1, 64, 56, 56]), axis(112)),
            ("mean of 2048x7x7", Reduction::Mean, geometry([1, 2048, 7, 7]), geometry([1, 2048, 1, 1]), Windows::adaptive(7, 1).unwrap()),
        ];
        for (name, reduction, from, to, windows) in cases {
            let pool = Pool::new(reduction, from, to, windows.clone(), windows, table).unwrap();
            let (input, mut output) = (buffer(from.len()), AlignedBuffer::zeros(to.len()).unwrap());
            group.throughput(Throughput::Bytes((from.len() * size_of::<f32>()) as u64));
            group.bench_function(BenchmarkId::new(isa.name(), name), |b| b.iter(|| pool.run(&Inline, &input, &mut output).unwrap()));
        }
    }
    group.finish();
}

/// What no convolution took into its epilogue: bound by memory, so throughput is bytes read and written.
fn elementwise(c: &mut Criterion) {
    let mut group = c.benchmark_group("elementwise");
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    let geometry = Geometry::new(Layout::Nchw16c, [1, 256, 56, 56], Halo::NONE).unwrap();
    let (a, b, mut output) = (buffer(geometry.len()), buffer(geometry.len()), buffer(geometry.len()));
    let per_channel = [0.5; 256];
    let relu = (0.0, f32::INFINITY);
    for &isa in Isa::available() {
        let table = KernelTable::get(isa).unwrap();
        let ops = [
            ("add", Elementwise::add(geometry, geometry, geometry, relu, table).unwrap(), Some(&*b)),
            ("clamp", Elementwise::clamp(geometry, geometry, relu, table).unwrap(), None),
            ("affine", Elementwise::affine(geometry, geometry, &per_channel, &per_channel, relu, table).unwrap(), None),
        ];
        for (name, op, second) in ops {
            let buffers = if second.is_some() { 3 } else { 2 };
            group.throughput(Throughput::Bytes((buffers * geometry.len() * size_of::<f32>()) as u64));
            group.bench_function(BenchmarkId::new(isa.name(), format!("{name} of 256x56x56")), |bench| {
                bench.iter(|| op.run(&Inline, &a, second, &mut output).unwrap());
            });
        }
    }
    group.finish();
}

/// The head of a classifier: the same plain code on every instruction set.
fn softmax(c: &mut Criterion) {
    let mut group = c.benchmark_group("softmax");
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    let mut row = buffer(1000);
    group.bench_function("1000 classes", |b| b.iter(|| stridewise_kernels::softmax::softmax_rows(&mut row, 1000)));
    group.finish();
}

criterion_group!(benches, convolutions, pooling, elementwise, softmax);
criterion_main!(benches);
