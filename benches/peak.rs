//! What this machine can do at best, on one core and on all: multiply-adds in registers with each instruction set, and reading with
//! its widest loads from each level of cache and from memory. What kernels are held against.

mod figures;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use figures::{Table, Times, isas, thread_counts};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};
use stridewise::Isa;
use stridewise_kernels::{AlignedBuffer, peak};

/// Rounds of multiply-adds in one call: about 50 µs.
const ROUNDS: u64 = 20_000;

/// A level of memory and the bytes that one core reads of it: half of a cache, so that nothing else of the process drives it out.
struct Level {
    name: &'static str,
    bytes: usize,
}

/// Sizes of the caches of the first core, as Linux tells them, or else those of a common server.
fn levels() -> Vec<Level> {
    let size_of_cache = |level: &str| -> Option<usize> {
        (0..8).find_map(|index| {
            let read = |what: &str| std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{what}")).ok();
            let data = read("type")?.trim() != "Instruction";
            (data && read("level")?.trim() == level).then(|| read("size")?.trim().strip_suffix('K')?.parse::<usize>().ok()).flatten()
        })
    };
    let bytes = ["1", "2", "3"].map(|level| size_of_cache(level).map(|kib| kib << 10));
    let known = bytes.iter().all(Option::is_some);
    let caches = [(32 << 10), (1 << 20), (32 << 20)];
    let [l1, l2, l3] = std::array::from_fn(|i| bytes[i].unwrap_or(caches[i]));
    println!("caches: {l1}, {l2} and {l3} bytes{}", if known { "" } else { " (some are guesses: the system does not tell)" });
    let memory = (4 * l3).max(256 << 20);
    vec![
        Level { name: "L1", bytes: l1 / 2 },
        Level { name: "L2", bytes: l2 / 2 },
        // The third level is shared by the cores.
        Level { name: "L3", bytes: (l3 / 2 / thread_counts().last().unwrap_or(&1)).max(l2 * 2) },
        Level { name: "memory", bytes: memory },
    ]
}

/// Runs `work` on so many threads at once, `iterations` times each; the time from the first one's start to the last one's end.
fn on_threads(threads: usize, iterations: u64, work: &(dyn Fn(usize) + Sync)) -> Duration {
    let barrier = Barrier::new(threads);
    let run = |thread: usize| {
        barrier.wait();
        let start = Instant::now();
        for _ in 0..iterations {
            work(thread);
        }
        (start, Instant::now())
    };
    let spans = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let own = run(0);
        std::iter::once(own).chain(others.into_iter().map(|t| t.join().unwrap())).collect::<Vec<_>>()
    });
    let (first, last) = (spans.iter().map(|s| s.0).min().unwrap(), spans.iter().map(|s| s.1).max().unwrap());
    last - first
}

fn peaks(c: &mut Criterion) {
    let levels = levels();
    for threads in thread_counts() {
        let mut table = Table::new(1, ["", "FMA GFLOP/s", "L1 GB/s", "L2 GB/s", "L3 GB/s", "memory GB/s"]);
        for isa in isas() {
            let mut cells = vec![isa.name().to_string(), fma(c, isa, threads)];
            cells.extend(levels.iter().map(|level| read(c, isa, threads, level)));
            table.add(cells);
        }
        table.print(&format!("peaks of {threads} thread{}", if threads == 1 { "" } else { "s" }));
    }
}

fn rate(per_iteration: f64, times: &Times) -> String {
    times.median().map_or_else(String::new, |seconds| format!("{:.1}", per_iteration / seconds / 1e9))
}

fn fma(c: &mut Criterion, isa: Isa, threads: usize) -> String {
    let flop = peak::multiply_add(isa, ROUNDS).unwrap() * threads as u64;
    let times = Times::default();
    let mut group = group(c, "fma");
    group.throughput(Throughput::Elements(flop));
    group.bench_function(BenchmarkId::new(isa.name(), format!("{threads} threads")), |b| {
        b.iter_custom(|iterations| {
            let elapsed = on_threads(threads, iterations, &|_| {
                black_box(peak::multiply_add(isa, ROUNDS).unwrap());
            });
            times.record(elapsed, iterations);
            elapsed
        });
    });
    group.finish();
    rate(flop as f64, &times)
}

fn read(c: &mut Criterion, isa: Isa, threads: usize, level: &Level) -> String {
    // Each thread reads a buffer of its own that no other has touched; small ones several times, so that a call is worth timing.
    let mut buffers: Vec<AlignedBuffer> = (0..threads).map(|_| AlignedBuffer::zeros(level.bytes / 4).unwrap()).collect();
    buffers.iter_mut().for_each(|buffer| buffer.fill(1.0));
    let passes = ((1 << 20) / level.bytes).max(1);
    let bytes = level.bytes * passes * threads;
    let times = Times::default();
    let mut group = group(c, &format!("read {}", level.name));
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function(BenchmarkId::new(isa.name(), format!("{threads} threads")), |b| {
        b.iter_custom(|iterations| {
            let elapsed = on_threads(threads, iterations, &|thread| {
                for _ in 0..passes {
                    black_box(peak::read(isa, black_box(&buffers[thread])).unwrap());
                }
            });
            times.record(elapsed, iterations);
            elapsed
        });
    });
    group.finish();
    rate(bytes as f64, &times)
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> criterion::BenchmarkGroup<'a, criterion::measurement::WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    group
}

criterion_group!(benches, peaks);
criterion_main!(benches);
