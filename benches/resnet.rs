//! Whole networks: model × batch × threads, best instruction set. Throughput counts a multiply-add of a direct convolution as two
//! operations. Prints a table of medians with images a second, GFLOP/s, and the share of the measured FMA peak of so many cores.
//! `STRIDEWISE_ISA` chooses another instruction set, a filter some of the networks: `cargo bench --bench resnet -- resnet50`.

mod figures;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use figures::{Table, Times, convolutions, input, thread_counts};
use std::time::Duration;
use stridewise::{Arch, Isa, Model, Numerics, SessionOptions, Tensor, Threads};
use stridewise_kernels::peak::measure_fma_peak;

const NETWORKS: &[(&str, &[usize])] = &[
    ("resnet18", &[1, 8]),
    ("resnet50", &[1, 8]),
    ("resnet152", &[1, 8]),
    ("resnext50_32x4d", &[1, 8]),
    ("vgg16", &[1, 8]),
    ("mobilenet_v2", &[1, 8]),
    ("resnet20-cifar10", &[1, 8, 64]),
];

fn networks(c: &mut Criterion) {
    let isa = Isa::best().unwrap();
    let peak = measure_fma_peak(isa).unwrap();
    let mut table = Table::new(2, ["network", "numerics", "batch", "threads", "ms", "images/s", "GFLOP/s", "% of peak"]);
    for &(name, batches) in NETWORKS {
        let mut group = c.benchmark_group(name);
        group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(2));
        let arch: Arch = name.parse().unwrap();
        let macs: u64 = convolutions(arch, 1).iter().map(|p| p.macs()).sum();
        // Made when the first benchmark of it is not filtered out.
        let mut model = None;
        for (numerics, &batch, threads) in settings(batches) {
            let options = SessionOptions { threads: Threads::Count(threads), isa: Some(isa), numerics, batch, ..Default::default() };
            let times = Times::default();
            let id = BenchmarkId::new(format!("{numerics}, batch {batch}"), format!("{threads} threads"));
            let flop = 2 * macs * batch as u64;
            group.throughput(Throughput::Elements(flop));
            let mut session = None;
            group.bench_function(id, |b| {
                let model = model.get_or_insert_with(|| Model::random(arch, 0).unwrap());
                let session = session.get_or_insert_with(|| model.session(&options).unwrap());
                let x = input(session.input_shape());
                let mut y = Tensor::zeros(session.output_shape()).unwrap();
                b.iter_custom(|iterations| times.measure(iterations, || session.run_into(x.view(), &mut y).unwrap()));
            });
            let Some(seconds) = times.median() else { continue };
            let flops = flop as f64 / seconds;
            table.add([
                name.to_string(),
                numerics.to_string(),
                batch.to_string(),
                threads.to_string(),
                format!("{:.3}", seconds * 1e3),
                format!("{:.1}", batch as f64 / seconds),
                format!("{:.1}", flops / 1e9),
                format!("{:.1}", 100.0 * flops / (peak * threads as f64)),
            ]);
        }
        group.finish();
    }
    table.print(&format!("{isa}; FMA peak of one core {:.1} GFLOP/s; medians", peak / 1e9));
}

/// Fast at every batch, exact at the first.
fn settings(batches: &[usize]) -> Vec<(Numerics, &usize, usize)> {
    let fast = batches.iter().map(|batch| (Numerics::Fast, batch));
    let all = fast.chain(batches.first().map(|batch| (Numerics::Exact, batch)));
    all.flat_map(|(numerics, batch)| thread_counts().into_iter().map(move |threads| (numerics, batch, threads))).collect()
}

criterion_group!(benches, networks);
criterion_main!(benches);
