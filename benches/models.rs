//! Whole networks: model × batch × threads, best instruction set. Throughput counts a multiply-add as two operations.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use stridewise::{Arch, Model, SessionOptions, Tensor, Threads};

fn models(c: &mut Criterion) {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    for (name, batches) in
        [("resnet18", &[1usize, 8][..]), ("resnet50", &[1, 8]), ("resnext50_32x4d", &[1]), ("vgg16", &[1]), ("resnet20-cifar10", &[1, 64])]
    {
        let mut group = c.benchmark_group(name);
        group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(2));
        let model = Model::random(name.parse::<Arch>().unwrap(), 0).unwrap();
        for &batch in batches {
            for threads in if cores > 1 { vec![1, cores] } else { vec![1] } {
                let options = SessionOptions { threads: Threads::Count(threads), batch, ..Default::default() };
                let mut session = model.session(&options).unwrap();
                let mut x = Tensor::zeros(session.input_shape()).unwrap();
                x.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 251) as f32 / 125.0 - 1.0);
                let mut y = Tensor::zeros(session.output_shape()).unwrap();
                let macs: u64 = session.steps().iter().map(|s| s.macs).sum();
                group.throughput(Throughput::Elements(2 * macs));
                group.bench_function(BenchmarkId::new(format!("batch {batch}"), format!("{threads} threads")), |b| {
                    b.iter(|| session.run_into(x.view(), &mut y).unwrap());
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, models);
criterion_main!(benches);
