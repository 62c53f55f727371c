//! How a network's layers are best handed to threads: one parallel region for each layer, on the threads that sessions have (they wait
//! for the next layer, and park when none comes) or on rayon's; or one rayon broadcast for each inference, with barriers between
//! the layers at which threads spin for a while. Every convolution and linear layer of a network, with the algorithms of its plan, back
//! to back and with idle time between inferences (in which one thread waits once); the ways take turns.
//!
//!     cargo bench --bench regions -- --models resnet20-cifar10,resnet50 --threads 2 --runs 3000 --gap-ms 33 --gap-runs 300
//!     cargo bench --bench regions -- --models resnet20-cifar10 --busy 1
//!
//! `--busy N` keeps N more threads of the process computing, as on a machine that is not ours alone. Prints a table: latencies, how often
//! threads had to wait for the system or were set aside by it, and the processor time of the idle process.

#[path = "regions/crew.rs"]
mod crew;
mod figures;

use crew::Crew;
use figures::{Table, idle_use, names, number, numbers, only_a_test, quantile, switches};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stridewise::{Arch, Model, SessionOptions, ThreadPool, Threads};
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual, schedule_prefetch};
use stridewise_kernels::{AlignedBuffer, BLOCK, ConvProblem, Executor, Geometry, Halo, Inline, Isa, KernelTable, Layout};

/// Timed inferences of one way before it is the next one's turn.
const TURN: usize = 50;

/// The convolutions of a network, each with buffers of its own.
struct Layers {
    convs: Vec<Conv>,
    /// Input and output of each.
    buffers: Vec<[AlignedBuffer; 2]>,
    scratch: AlignedBuffer,
}

impl Layers {
    fn new(arch: Arch, threads: usize) -> Layers {
        let table = KernelTable::get(Isa::best().unwrap()).unwrap();
        let model = Model::random(arch, 0).unwrap();
        let session = model.session(&SessionOptions { threads: Threads::Count(threads), ..Default::default() }).unwrap();
        let (mut convs, mut buffers) = (Vec::new(), Vec::new());
        for step in session.steps().into_iter().filter(|step| !step.problem.is_empty()) {
            let p: ConvProblem = step.problem.parse().unwrap();
            let algorithm = Algorithm::ALL.into_iter().find(|a| a.name() == step.algorithm).unwrap();
            let layout = if p.c < BLOCK { Layout::Nchw } else { Layout::Nchw16c };
            let [oh, ow] = p.output();
            let input = Geometry::new(layout, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).unwrap();
            let output = Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], Halo::NONE).unwrap();
            let weight = vec![0.01; p.weight_len()];
            let packed = Arc::new(PackedWeights::pack(table, &p, algorithm, layout, &weight, None, &Inline).unwrap());
            convs.push(Conv::new(p, algorithm, input, output, None, packed, (0.0, f32::INFINITY), threads).unwrap());
            buffers.push([input, output].map(|g| AlignedBuffer::zeros(g.len()).unwrap()));
        }
        schedule_prefetch(&mut convs.iter_mut().collect::<Vec<_>>());
        let scratch = convs.iter().map(Conv::scratch_per_thread).max().unwrap_or(0) * threads;
        Layers { convs, buffers, scratch: AlignedBuffer::zeros(scratch).unwrap() }
    }

    fn run(&mut self, executor: &dyn Executor) {
        for (conv, [input, output]) in self.convs.iter().zip(&mut self.buffers) {
            conv.run(executor, input, Residual::None, output, &mut self.scratch).unwrap();
        }
    }
}

/// A way of handing layers to threads.
enum Way {
    Region(ThreadPool),
    Broadcast(Crew),
}

impl Way {
    fn all(threads: usize) -> [(&'static str, Way); 3] {
        let rayon = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap());
        [
            ("a region each layer, session's threads", Way::Region(ThreadPool::new(threads).unwrap())),
            ("a region each layer, rayon", Way::Region(ThreadPool::from_rayon(rayon))),
            ("a broadcast each inference, barriers", Way::Broadcast(Crew::new(threads))),
        ]
    }

    fn run(&self, layers: &mut Layers) {
        match self {
            Way::Region(pool) => layers.run(pool),
            Way::Broadcast(crew) => crew.inference(|| layers.run(crew)),
        }
    }
}

/// The inferences of one way in one manner.
#[derive(Default)]
struct Series {
    seconds: Vec<f64>,
    switches: [u64; 2],
}

fn main() {
    let test = only_a_test();
    let (runs, gap_runs) = (number("--runs", if test { 3 } else { 3000 }), number("--gap-runs", if test { 1 } else { 300 }));
    let gap = Duration::from_millis(number("--gap-ms", 33) as u64);
    let cores = std::thread::available_parallelism().map_or(2, |n| n.get());
    let models =
        names("--models", if test { &["resnet20-cifar10"] } else { &["resnet20-cifar10", "mobilenet_v2", "resnet18", "resnet50"] });
    let threads = numbers("--threads", vec![cores.max(2)]);
    assert!(threads.iter().all(|&t| t > 1), "--threads: one thread is handed nothing");
    let idle = Duration::from_millis(if test { 0 } else { 1000 });
    let over = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..number("--busy", 0)).map(|_| std::thread::spawn(compute_until(over.clone()))).collect();
    let mut table = Table::new(
        2,
        [
            "network",
            "way",
            "threads",
            "idle ms between",
            "runs",
            "p50 ms",
            "p99 ms",
            "max ms",
            "waits a run",
            "set aside a run",
            "idle CPU ms/s",
        ],
    );
    for name in &models {
        let arch: Arch = name.parse().unwrap();
        for &threads in &threads {
            let mut layers = Layers::new(arch, threads);
            let ways = Way::all(threads);
            for (gap, runs) in [(Duration::ZERO, runs), (gap, gap_runs)] {
                let all = measure(&ways, &mut layers, runs, gap);
                for ((way, _), series) in ways.iter().zip(all) {
                    let mut sorted = series.seconds;
                    sorted.sort_by(f64::total_cmp);
                    let ms = |q: f64| format!("{:.3}", quantile(&sorted, q) * 1e3);
                    let each = |count: u64| format!("{:.2}", count as f64 / runs as f64);
                    // Of the whole process: the threads that compute on purpose would be all there is to see.
                    let idle = if busy.is_empty() { idle_use(idle) } else { None };
                    let shown_idle = idle.map_or_else(String::new, |share| format!("{:.2}", share * 1e3));
                    let [waits, aside] = series.switches.map(each);
                    let first = [name.clone(), way.to_string(), threads.to_string(), gap.as_millis().to_string(), runs.to_string()];
                    table.add(first.into_iter().chain([ms(0.5), ms(0.99), ms(1.0), waits, aside, shown_idle]));
                }
            }
        }
    }
    over.store(true, Ordering::Relaxed);
    let count = busy.len();
    busy.into_iter().for_each(|thread| thread.join().unwrap());
    table.print(&format!("{}; {cores} processors; {count} busy threads beside", Isa::best().unwrap()));
}

/// Each way in turn, until all have so many inferences.
fn measure(ways: &[(&'static str, Way)], layers: &mut Layers, runs: usize, gap: Duration) -> Vec<Series> {
    let mut all: Vec<Series> = ways.iter().map(|_| Series::default()).collect();
    let mut left = runs;
    while left > 0 {
        let turn = left.min(TURN);
        for ((_, way), series) in ways.iter().zip(&mut all) {
            // The threads of the way before are still waiting for more.
            std::thread::sleep(Duration::from_millis(2));
            way.run(layers);
            let before = switches();
            for _ in 0..turn {
                if !gap.is_zero() {
                    std::thread::sleep(gap);
                }
                let start = Instant::now();
                way.run(layers);
                series.seconds.push(start.elapsed().as_secs_f64());
            }
            if let (Some(before), Some(after)) = (before, switches()) {
                (0..2).for_each(|i| series.switches[i] += after[i].saturating_sub(before[i]));
            }
        }
        left -= turn;
    }
    all
}

fn compute_until(over: Arc<AtomicBool>) -> impl FnOnce() + Send {
    move || {
        while !over.load(Ordering::Relaxed) {
            black_box((0..1000u32).fold(0, |sum, i| black_box(sum ^ i)));
        }
    }
}
