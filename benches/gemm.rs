//! Matrix products on one core, to be compared with the peak that is printed first: large ones should reach 85 % of it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;
use stridewise_kernels::dense::MatMul;
use stridewise_kernels::{AlignedBuffer, Inline, Isa, KernelTable, peak};

/// M, N, K: squares, the products of ConvNeXt and of a vision transformer at 224×224, and what im2col makes of a 3×3 convolution.
const SHAPES: &[[usize; 3]] = &[
    [256, 256, 256],
    [512, 512, 512],
    [1024, 1024, 1024],
    [2048, 2048, 2048],
    [3136, 384, 96],
    [784, 768, 192],
    [196, 1536, 384],
    [49, 3072, 768],
    [197, 2304, 768],
    [197, 768, 3072],
    [3136, 64, 576],
    [196, 256, 2304],
    [49, 512, 4608],
];

fn buffer(len: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::zeros(len).unwrap();
    buffer.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 251) as f32 / 125.0 - 1.0);
    buffer
}

fn gemm(c: &mut Criterion) {
    for &isa in Isa::available() {
        // Plain code is slow, and measured only where there is nothing else.
        if isa == Isa::Portable && Isa::available().len() > 1 {
            continue;
        }
        let table = KernelTable::get(isa).unwrap();
        println!("{isa}: the peak of one core is {:.1} GFLOP/s", peak::measure_fma_peak(isa).unwrap() / 1e9);
        let mut group = c.benchmark_group(format!("gemm {isa}"));
        group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
        for &[m, n, k] in SHAPES {
            group.throughput(Throughput::Elements(2 * (m * n * k) as u64));
            let name = format!("{m}x{n}x{k}");
            let (a, b, mut output) = (buffer(m * k), buffer(k * n), buffer(m * n));
            let both = MatMul::new(&[m, k], &[k, n], table).unwrap();
            let mut scratch = AlignedBuffer::zeros(both.scratch_len(1)).unwrap();
            group.bench_function(BenchmarkId::new("two tensors", &name), |bench| {
                bench.iter(|| both.run(&Inline, &a, &b, None, &mut output, &mut scratch).unwrap());
            });
            let packed = MatMul::new(&[m, k], &[k, n], table).unwrap().with_right(&Inline, &b).unwrap();
            group.bench_function(BenchmarkId::new("weights packed before", &name), |bench| {
                bench.iter(|| packed.run(&Inline, &a, &[], None, &mut output, &mut scratch).unwrap());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, gemm);
criterion_main!(benches);
