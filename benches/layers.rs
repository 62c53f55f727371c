//! Every convolution of ResNet-50, ResNet-18, MobileNetV2 and VGG-16, and linear layers, with every algorithm that computes it and
//! on every instruction set of this machine, one thread, weights and input where the runs before left them; then pooling and what is
//! element-wise. A convolution's throughput counts a multiply-add of direct summation as two operations, whatever the algorithm does:
//! Winograd can be above 100 % of the measured FMA peak. Prints a table of all convolutions that the filter let through:
//! `cargo bench --bench layers -- k3s1`.

mod figures;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use figures::{Table, Times, isas};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use stridewise::Arch;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::peak::measure_fma_peak;
use stridewise_kernels::pool::{Pool, Reduction, Windows};
use stridewise_kernels::{AlignedBuffer, BLOCK, ConvProblem, Geometry, Halo, Inline, Isa, KernelTable, Layout};

/// Networks whose convolutions are measured, each distinct one once, under the first network that has it.
const NETWORKS: &[Arch] = &[Arch::ResNet50, Arch::ResNet18, Arch::MobileNetV2, Arch::Vgg16];

/// Grouped convolutions of ResNeXt-50.
const GROUPED: &[&str] = &["n1c128h56w56o128k3p1g32", "n1c1024h7w7o1024k3p1g32"];

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

/// A network's input is read in planes; everything behind it lies in blocks.
fn layout(problem: &ConvProblem) -> Layout {
    if problem.c < BLOCK { Layout::Nchw } else { Layout::Nchw16c }
}

fn case(problem: &ConvProblem, algorithm: Algorithm, isa: Isa) -> Case {
    let table = KernelTable::get(isa).unwrap();
    let [oh, ow] = problem.output();
    let layout = layout(problem);
    let input = Geometry::new(layout, [problem.n, problem.c, problem.h, problem.w], algorithm.required_halo(problem)).unwrap();
    let output = Geometry::new(Layout::Nchw16c, [problem.n, problem.oc, oh, ow], Halo::NONE).unwrap();
    let weight = buffer(problem.weight_len());
    let weights = Arc::new(PackedWeights::pack(table, problem, algorithm, layout, &weight, None, &Inline).unwrap());
    let conv = Conv::new(*problem, algorithm, input, output, None, weights, (0.0, f32::INFINITY), 1).unwrap();
    let scratch = AlignedBuffer::zeros(conv.scratch_per_thread()).unwrap();
    Case { conv, input: buffer(input.len()), output: AlignedBuffer::zeros(output.len()).unwrap(), scratch }
}

/// Every algorithm that computes the problem from the layout that a network would have it in, on every instruction set.
fn algorithms(c: &mut Criterion, network: &str, problem: &ConvProblem, peaks: &[(Isa, f64)], table: &mut Table) {
    let mut group = c.benchmark_group(network);
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    group.throughput(Throughput::Elements(2 * problem.macs()));
    for algorithm in Algorithm::ALL.into_iter().filter(|a| a.check(problem, layout(problem)).is_ok()) {
        for &(isa, peak) in peaks {
            let times = Times::default();
            let mut prepared = None;
            let id = BenchmarkId::new(problem.to_string(), format!("{} {isa}", algorithm.name()));
            group.bench_function(id, |b| {
                let case = prepared.get_or_insert_with(|| case(problem, algorithm, isa));
                b.iter_custom(|iterations| {
                    times.measure(iterations, || {
                        case.conv.run(&Inline, &case.input, Residual::None, &mut case.output, &mut case.scratch).unwrap()
                    })
                });
            });
            let (Some(seconds), Some(case)) = (times.median(), prepared) else { continue };
            let flops = 2.0 * problem.macs() as f64 / seconds;
            table.add([
                network.to_string(),
                problem.to_string(),
                algorithm.name().to_string(),
                isa.to_string(),
                case.conv.tile(),
                format!("{:.1}", seconds * 1e6),
                format!("{:.1}", flops / 1e9),
                format!("{:.1}", 100.0 * flops / peak),
            ]);
        }
    }
    group.finish();
}

fn convolutions(c: &mut Criterion) {
    let peaks: Vec<(Isa, f64)> = isas().into_iter().map(|isa| (isa, measure_fma_peak(isa).unwrap())).collect();
    let mut table = Table::new(5, ["network", "problem", "algorithm", "isa", "tile", "µs", "GFLOP/s", "% of peak"]);
    let mut seen = HashSet::new();
    for &arch in NETWORKS {
        for problem in figures::convolutions(arch, 1) {
            if seen.insert(problem) {
                algorithms(c, &arch.to_string(), &problem, &peaks, &mut table);
            }
        }
    }
    for text in GROUPED {
        algorithms(c, "resnext50_32x4d", &text.parse().unwrap(), &peaks, &mut table);
    }
    let peaks = peaks.iter().map(|(isa, peak)| format!("{isa} {:.1}", peak / 1e9)).collect::<Vec<_>>().join(", ");
    table.print(&format!("one thread, medians; FMA peak in GFLOP/s: {peaks}"));
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
