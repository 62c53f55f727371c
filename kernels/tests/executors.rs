//! Executors that break their contract: never a stray or a torn write, and an error where something was left out.

mod harness;

use harness::{Guarded, Threads, bits, buffer_of, dense_of, noise};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual, Winograd};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::pool::{Pool, Reduction, Windows};
use stridewise_kernels::testing::{share_out, share_out_rows};
use stridewise_kernels::{ConvProblem, Error, Executor, Geometry, Halo, Inline, KernelTable, Layout, MAX_THREADS, layout};

/// Promises some number of parts and calls others.
struct Liar {
    threads: usize,
    calls: Vec<usize>,
    together: bool,
}

impl Liar {
    fn new(threads: usize, calls: impl IntoIterator<Item = usize>) -> Liar {
        Liar { threads, calls: calls.into_iter().collect(), together: false }
    }
}

impl Executor for Liar {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        if self.together {
            std::thread::scope(|scope| self.calls.iter().for_each(|&index| drop(scope.spawn(move || part(index)))));
        } else {
            self.calls.iter().for_each(|&index| part(index));
        }
    }
}

/// Gives another number of threads each time it is asked, and always calls as many parts as the largest of them.
struct Fickle(AtomicUsize);

impl Executor for Fickle {
    fn threads(&self) -> usize {
        1 + self.0.fetch_add(1, Ordering::Relaxed) % 7
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        (0..7).for_each(part);
    }
}

/// Goes on after a part panicked.
struct Swallower;

impl Executor for Swallower {
    fn threads(&self) -> usize {
        3
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        for index in 0..3 {
            let _ = catch_unwind(AssertUnwindSafe(|| part(index)));
        }
    }
}

/// A way to run an op on an executor.
type Run = Box<dyn Fn(&dyn Executor) -> Result<Vec<f32>, Error>>;

const NO_BOUNDS: (f32, f32) = (f32::NEG_INFINITY, f32::INFINITY);

fn blocked(dims: [usize; 4]) -> Geometry {
    Geometry::new(Layout::Nchw16c, dims, Halo { top: 1, left: 1, bottom: 1, right: 1 }).unwrap()
}

/// A convolution planned for three threads, its weights packed on the executor too.
fn convolution(text: &str, algorithm: Algorithm) -> Run {
    let p: ConvProblem = text.parse().unwrap();
    let [oh, ow] = p.output();
    let from = Geometry::new(Layout::Nchw16c, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).unwrap();
    let to = blocked([p.n, p.oc, oh, ow]);
    let (input, weight) = (noise(1, p.n * p.c * p.h * p.w), noise(2, p.weight_len()));
    let table = *KernelTable::all().last().unwrap();
    Box::new(move |executor| {
        let packed = PackedWeights::pack(table, &p, algorithm, Layout::Nchw16c, &weight, None, executor)?;
        let conv = Conv::new(p, algorithm, from, to, None, Arc::new(packed), NO_BOUNDS, 3)?;
        let mut output = Guarded::filled(to.len(), f32::NAN);
        let mut scratch = Guarded::filled(conv.scratch_per_thread() * executor.threads().clamp(1, MAX_THREADS), f32::NAN);
        conv.run(executor, &buffer_of(&from, &input), Residual::None, &mut output, &mut scratch)?;
        Ok(dense_of(&to, &output))
    })
}

/// Every op that is given an executor.
fn ops() -> Vec<(&'static str, Run)> {
    let table = *KernelTable::all().last().unwrap();
    let dims = [2, 33, 5, 6];
    let g = blocked(dims);
    let dense = noise(3, dims.iter().product());
    let buffer = move || buffer_of(&g, &noise(3, dims.iter().product()));
    let windows = || Windows::adaptive(5, 5).unwrap();
    let pool = Pool::new(Reduction::Maximum, g, blocked([2, 33, 5, 5]), windows(), Windows::adaptive(6, 5).unwrap(), table).unwrap();
    let clamp = Elementwise::clamp(g, g, (-0.5, 0.5), table).unwrap();
    let flat = Geometry::new(Layout::Nchw16c, [2, 33 * 30, 1, 1], Halo::NONE).unwrap();
    let finish = |g: Geometry, result: Result<Guarded, Error>| result.map(|buffer| dense_of(&g, &buffer));
    let into = |g: Geometry| Guarded::filled(g.len(), f32::NAN);
    vec![
        ("direct", convolution("n2c20h6w7o40k3p1", Algorithm::Direct)),
        ("im2col", convolution("n2c20h6w7o40k3p1", Algorithm::Im2colGemm)),
        ("winograd", convolution("n2c40h9w7o70k3p1", Algorithm::Winograd(Winograd::F4))),
        ("depthwise", convolution("n2c40h6w7o40k3p1g40", Algorithm::Depthwise)),
        (
            "pool",
            Box::new(move |executor| {
                let to = blocked([2, 33, 5, 5]);
                let mut output = into(to);
                finish(to, pool.run(executor, &buffer(), &mut output).map(|()| output))
            }),
        ),
        (
            "clamp",
            Box::new(move |executor| {
                let mut output = into(g);
                finish(g, clamp.run(executor, &buffer(), None, &mut output).map(|()| output))
            }),
        ),
        (
            "from_nchw",
            Box::new(move |executor| {
                let mut output = into(g);
                finish(g, layout::from_nchw(executor, &dense, &g, &mut output).map(|()| output))
            }),
        ),
        (
            "to_nchw",
            Box::new(move |executor| {
                let mut output = Guarded::filled(dims.iter().product(), f32::NAN);
                layout::to_nchw(executor, &buffer(), &g, &mut output).map(|()| output.to_vec())
            }),
        ),
        (
            "flatten",
            Box::new(move |executor| {
                let mut output = into(flat);
                finish(flat, layout::flatten(executor, &buffer(), &g, &mut output, &flat).map(|()| output))
            }),
        ),
    ]
}

/// More parts than it promised, the same part several times, one after the other and together, and numbers that change: the
/// result is that of one thread.
#[test]
fn parts_called_twice_or_out_of_range_change_nothing() {
    for (name, run) in ops() {
        let expected = bits(&run(&Inline).unwrap());
        let many = || (0..3).chain([2, 0, 1, 3, 4, 63, 64, 1023, 1024, 1 << 20, usize::MAX]).chain(0..3);
        let executors: [&dyn Executor; 4] = [
            &Liar::new(3, many()),
            &Liar { together: true, ..Liar::new(3, many()) },
            &Fickle(AtomicUsize::new(0)),
            &Liar::new(0, [5, 0, 0]),
        ];
        for (i, executor) in executors.into_iter().enumerate() {
            // A change of mind between the size of the scratch memory and the run may make it too short: that is an error too.
            match run(executor) {
                Ok(found) => assert_eq!(bits(&found), expected, "{name}, executor {i}"),
                Err(error) => assert!(i == 2 && matches!(error, Error::Length { .. }), "{name}, executor {i}: {error}"),
            }
        }
    }
}

#[test]
fn parts_left_out_are_an_error() {
    for (name, run) in ops() {
        for (executor, expected, finished) in [
            (Liar::new(3, [0, 2]), 3, 2),
            (Liar::new(2, [7, 1, 1]), 2, 1),
            (Liar::new(1, []), 1, 0),
            (Liar::new(usize::MAX, 0..5), MAX_THREADS, 5),
        ] {
            assert_eq!(run(&executor).map(|_| ()), Err(Error::Executor { expected, finished }), "{name}");
        }
    }
}

#[test]
fn a_part_that_panicked_is_not_finished() {
    let result = share_out(&Swallower, 3, &|piece| assert_ne!(piece, 1, "meant to panic"));
    assert_eq!(result, Err(Error::Executor { expected: 3, finished: 2 }));
}

/// On no more threads than there are lists of pieces, which are 64, and on more; fewer pieces than threads, and none.
#[test]
fn every_piece_is_taken_once() {
    for threads in [1, 2, 5, 67] {
        for total in [0, 1, 7, 100] {
            let taken: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
            let count = |index: usize| {
                taken[index].fetch_add(1, Ordering::Relaxed);
            };
            share_out(&Threads(threads), total, &count).unwrap();
            let lengths = Mutex::new(Vec::new());
            let rows = |rows: Range<usize>| {
                lengths.lock().unwrap().push(rows.len());
                rows.for_each(count);
            };
            share_out_rows(&Threads(threads), total, &rows).unwrap();
            assert!(taken.into_iter().all(|count| count.into_inner() == 2), "{threads} threads, {total} pieces");
            let lengths = lengths.into_inner().unwrap();
            let (shortest, longest) = (lengths.iter().min().unwrap_or(&0), lengths.iter().max().unwrap_or(&0));
            assert!(shortest + 1 >= *longest, "{threads} threads, {total} rows: {lengths:?}");
        }
    }
}

/// What is done twice is added twice to a residual that the output itself is.
#[test]
fn every_piece_of_a_convolution_is_done_once() {
    let cases = [
        ("n2c20h6w7o70k3p1", Algorithm::Direct),
        ("n2c20h6w7o70k3p1", Algorithm::Im2colGemm),
        ("n2c40h9w7o70k3p1", Algorithm::Winograd(Winograd::F2)),
        ("n2c40h9w7o70k3p1", Algorithm::Winograd(Winograd::F4)),
        ("n2c40h6w7o40k3p1g40", Algorithm::Depthwise),
        ("n2c40h6w7o40k3p1g10", Algorithm::Grouped),
    ];
    let table = *KernelTable::all().last().unwrap();
    for (text, algorithm) in cases {
        let p: ConvProblem = text.parse().unwrap();
        let [oh, ow] = p.output();
        let from = Geometry::new(Layout::Nchw16c, [p.n, p.c, p.h, p.w], algorithm.required_halo(&p)).unwrap();
        let to = blocked([p.n, p.oc, oh, ow]);
        let (input, weight, addend) = (noise(1, p.n * p.c * p.h * p.w), noise(2, p.weight_len()), noise(3, p.n * p.oc * oh * ow));
        let (input, addend) = (buffer_of(&from, &input), buffer_of(&to, &addend));
        let packed = Arc::new(PackedWeights::pack(table, &p, algorithm, Layout::Nchw16c, &weight, None, &Inline).unwrap());
        let run = |threads: usize, in_place: bool| {
            let conv = Conv::new(p, algorithm, from, to, Some(to), packed.clone(), NO_BOUNDS, threads).unwrap();
            let mut output = Guarded::of(&addend);
            let mut scratch = Guarded::filled(conv.scratch_per_thread() * threads, f32::NAN);
            let residual = if in_place { Residual::InPlace } else { Residual::Buffer(&addend) };
            conv.run(&Threads(threads), &input, residual, &mut output, &mut scratch).unwrap();
            bits(&dense_of(&to, &output))
        };
        let expected = run(1, false);
        for threads in [1, 2, 5, 67] {
            assert!(run(threads, true) == expected, "{algorithm:?} {text} on {threads} threads");
        }
    }
}

/// A plan for three threads gives the same on any other number, more than a plan can have included.
#[test]
fn results_do_not_depend_on_the_number_of_threads_planned_for() {
    for (name, run) in ops() {
        let expected = bits(&run(&Inline).unwrap());
        for threads in [2, 3, 5, 16] {
            assert_eq!(bits(&run(&Threads(threads)).unwrap()), expected, "{name} on {threads} threads");
        }
        let crowd = Liar::new(MAX_THREADS + 500, 0..MAX_THREADS + 500);
        assert_eq!(bits(&run(&crowd).unwrap()), expected, "{name} on more threads than a kernel is cut up for");
    }
}

#[test]
fn a_number_of_threads_to_plan_for_is_taken_or_refused() {
    let p: ConvProblem = "n1c16h4w4o16k1".parse().unwrap();
    let g = blocked([1, 16, 4, 4]);
    let table = KernelTable::all()[0];
    let packed =
        Arc::new(PackedWeights::pack(table, &p, Algorithm::Direct, Layout::Nchw16c, &vec![0.5; p.weight_len()], None, &Inline).unwrap());
    let plan = |threads| Conv::new(p, Algorithm::Im2colGemm, g, g, None, packed.clone(), NO_BOUNDS, threads);
    assert!(matches!(plan(0).map(|_| ()), Err(Error::Problem { .. })));
    let conv = plan(usize::MAX).unwrap();
    assert!(conv.partition().iter().product::<usize>() <= MAX_THREADS);
    // Scratch for so many threads overflows nothing: it is asked for, and not there.
    let liar = Liar::new(usize::MAX, 0..1);
    let error = conv.run(&liar, &vec![0.0; g.len()], Residual::None, &mut vec![0.0; g.len()], &mut []);
    assert!(matches!(error, Err(Error::Length { what: "convolution scratch", .. })), "{error:?}");
}
