//! Every convolution of ResNet-50 in bytes and in bfloat16, one thread, on every table of this machine that is not plain code, with the
//! rate as a share of the measured peak of its own products: `cargo bench --bench low_precision -- int8` (or `bf16`, or a problem). The last
//! lines are the sums over all 1×1 convolutions.

mod figures;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use figures::{Table, Times};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stridewise::Arch;
use stridewise_kernels::bf16::Bf16Table;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Requantize, Residual};
use stridewise_kernels::int8::Int8Table;
use stridewise_kernels::peak::{measure_bf16_peak, measure_int8_peak};
use stridewise_kernels::{AlignedBuffer, ConvProblem, Element, Geometry, Halo, Inline, Isa};

#[derive(Clone, Copy)]
enum Kernels {
    Int8(&'static Int8Table),
    Bf16(&'static Bf16Table),
}

impl Kernels {
    fn name(self) -> String {
        match self {
            Kernels::Int8(table) => format!("int8 {}", table.name()),
            Kernels::Bf16(table) => format!("bf16 {}", table.name()),
        }
    }

    fn all() -> Vec<(Kernels, f64)> {
        let fast = |isa: Isa| isa != Isa::Portable || Isa::available().len() == 1;
        let int8 = Int8Table::all().into_iter().filter(|t| fast(t.isa())).map(|t| (Kernels::Int8(t), measure_int8_peak(t)));
        let bf16 = Bf16Table::all().into_iter().filter(|t| fast(t.isa())).map(|t| (Kernels::Bf16(t), measure_bf16_peak(t)));
        int8.chain(bf16).collect()
    }

    fn element(self) -> Element {
        if let Kernels::Int8(_) = self { Element::U8 } else { Element::Bf16 }
    }
}

struct Case {
    conv: Conv,
    input: AlignedBuffer,
    output: AlignedBuffer,
    scratch: AlignedBuffer,
}

fn case(kernels: Kernels, p: &ConvProblem) -> Case {
    let algorithm = Algorithm::Direct;
    let element = kernels.element();
    let layout = if p.c < 16 { element.planar() } else { element.blocked() };
    let [oh, ow] = p.output();
    let input = Geometry::new(layout, [p.n, p.c, p.h, p.w], algorithm.required_halo(p)).unwrap();
    let output = Geometry::new(element.blocked(), [p.n, p.oc, oh, ow], Halo::NONE).unwrap();
    let relu = (0.0, f32::INFINITY);
    let conv = match kernels {
        Kernels::Int8(table) => {
            let weight: Vec<i8> = (0..p.weight_len()).map(|i| (i % 251) as i8).collect();
            let weights = Arc::new(PackedWeights::pack_int8(table, p, algorithm, layout, &weight, None, 0, &Inline).unwrap());
            let scales = vec![1e-3; p.oc];
            let requantize = Requantize { scales: &scales, residual_scale: 1.0, clamp: relu, sums: false };
            Conv::quantized(*p, algorithm, input, output, None, weights, &requantize, 1).unwrap()
        }
        Kernels::Bf16(table) => {
            let weight: Vec<f32> = (0..p.weight_len()).map(|i| (i % 251) as f32 / 125.0 - 1.0).collect();
            let weights = Arc::new(PackedWeights::pack_bf16(table, p, algorithm, layout, &weight, None, &Inline).unwrap());
            Conv::new(*p, algorithm, input, output, None, weights, relu, 1).unwrap()
        }
    };
    let mut data = AlignedBuffer::zeros(input.len()).unwrap();
    let word = if let Kernels::Int8(_) = kernels { 0x0705_0301 } else { 0x3f80_bf00 };
    data.fill(f32::from_bits(word));
    let scratch = AlignedBuffer::zeros(conv.scratch_per_thread()).unwrap();
    Case { conv, input: data, output: AlignedBuffer::zeros(output.len()).unwrap(), scratch }
}

fn convolutions(c: &mut Criterion) {
    let kernels = Kernels::all();
    let mut table = Table::new(2, ["problem", "kernels", "tile", "times", "µs", "Gop/s", "% of peak"]);
    let mut counts: BTreeMap<String, (ConvProblem, usize)> = BTreeMap::new();
    for p in figures::convolutions(Arch::ResNet50, 1) {
        counts.entry(p.to_string()).or_insert((p, 0)).1 += 1;
    }
    let mut pointwise: BTreeMap<String, (f64, f64, f64)> = BTreeMap::new();
    let mut group = c.benchmark_group("resnet50");
    group.sample_size(10).warm_up_time(Duration::from_millis(100)).measurement_time(Duration::from_millis(500));
    for (text, (p, count)) in &counts {
        group.throughput(Throughput::Elements(2 * p.macs()));
        for &(kernels, peak) in &kernels {
            let times = Times::default();
            let mut prepared = None;
            group.bench_function(BenchmarkId::new(kernels.name(), text), |b| {
                let case = prepared.get_or_insert_with(|| case(kernels, p));
                b.iter_custom(|iterations| {
                    times.measure(iterations, || {
                        case.conv.run(&Inline, &case.input, Residual::None, &mut case.output, &mut case.scratch).unwrap()
                    })
                });
            });
            let (Some(seconds), Some(case)) = (times.median(), prepared) else { continue };
            let operations = 2.0 * p.macs() as f64;
            table.add([
                text.clone(),
                kernels.name(),
                case.conv.tile(),
                count.to_string(),
                format!("{:.1}", seconds * 1e6),
                format!("{:.1}", operations / seconds / 1e9),
                format!("{:.1}", 100.0 * operations / seconds / peak),
            ]);
            if p.kernel == [1, 1] && p.h > 1 {
                let sum = pointwise.entry(kernels.name()).or_insert((0.0, 0.0, peak));
                sum.0 += operations * *count as f64;
                sum.1 += seconds * *count as f64;
            }
        }
    }
    group.finish();
    table.print("one thread, medians");
    for (name, (operations, seconds, peak)) in pointwise {
        let rate = operations / seconds;
        println!(
            "{name}: all 1x1 convolutions {:.2} ms, {:.1} % of the peak of {:.1} Gop/s",
            seconds * 1e3,
            100.0 * rate / peak,
            peak / 1e9
        );
    }
}

criterion_group!(benches, convolutions);
criterion_main!(benches);
