//! What is promised of sessions however they are used: many at once, dropped at any moment, beside panics, and with whatever
//! floating-point setting the caller has.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use stridewise::graph::{Activation, ConvAttributes, Graph, Op};
use stridewise::models::{Cifar, Shortcut};
use stridewise::{Arch, Executor, Model, Session, SessionOptions, Shape, Tensor, ThreadPool, Threads};
use stridewise_kernels::denormals::FlushDenormals;

/// A convolution, pooling and a linear layer: as small as a network is.
fn tiny() -> Model {
    let filled = |dims: &[usize]| {
        let mut tensor = Tensor::zeros(Shape::new(dims).unwrap()).unwrap();
        tensor.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i * 37 % 23) as f32 / 11.0 - 1.0);
        tensor
    };
    let mut graph = Graph::new("tiny", 3, [8, 8]);
    let input = graph.input().value;
    let attributes = ConvAttributes { pads: [1; 4], ..Default::default() };
    let conv = Op::Conv { weight: filled(&[16, 3, 3, 3]).into(), bias: None, attributes, activation: Activation::Relu };
    let conv = graph.add("conv", conv, &[input]).unwrap();
    let pool = graph.add("pool", Op::GlobalAveragePool, &[conv]).unwrap();
    let flat = graph.add("flat", Op::Flatten, &[pool]).unwrap();
    let linear = Op::Gemm { weight: filled(&[10, 16]).into(), bias: None, activation: Activation::None };
    let output = graph.add("linear", linear, &[flat]).unwrap();
    graph.set_outputs(&[output]);
    Model::from_graph(graph).unwrap()
}

fn cifar() -> Model {
    Model::random(Arch::Cifar(Cifar { blocks: 1, shortcut: Shortcut::Projection }), 4).unwrap()
}

fn input(session: &Session, seed: usize) -> Tensor<f32> {
    let mut tensor = Tensor::zeros(session.input_shape()).unwrap();
    tensor.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 7919 + seed * 31) % 1009) as f32 / 504.5 - 1.0);
    tensor
}

fn on(pool: &ThreadPool) -> SessionOptions {
    SessionOptions { threads: Threads::Pool(pool.clone()), ..Default::default() }
}

fn rayon_pool(threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

/// Bytes of memory that the process has in use.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split(' ').nth(1)?.parse::<usize>().ok().map(|pages| pages * 4096)
}

/// 40,000 inferences by four sessions on one pool; `STRIDEWISE_INFERENCES=1000000` makes them a million.
#[test]
fn concurrent_sessions_of_one_model_and_one_pool_keep_their_bits_and_their_memory() {
    let total: usize = std::env::var("STRIDEWISE_INFERENCES").map_or(40_000, |n| n.parse().expect("STRIDEWISE_INFERENCES is a number"));
    let model = tiny();
    let mut alone = model.session(&SessionOptions::default()).unwrap();
    let x: Vec<Tensor<f32>> = (0..7).map(|seed| input(&alone, seed)).collect();
    let expected: Vec<Tensor<f32>> = x.iter().map(|x| alone.run(x).unwrap()).collect();
    assert!(expected.windows(2).all(|pair| pair[0] != pair[1]));
    for pool in [ThreadPool::new(2).unwrap(), ThreadPool::from_rayon(rayon_pool(2))] {
        let done = AtomicUsize::new(0);
        let before = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for offset in 0..4 {
                let (model, pool, x, expected, done, before) = (&model, &pool, &x, &expected, &done, &before);
                scope.spawn(move || {
                    let mut session = model.session(&on(pool)).unwrap();
                    let mut y = Tensor::zeros(session.output_shape()).unwrap();
                    for i in 0..total / 8 {
                        let which = (i + offset) % x.len();
                        session.run_into(x[which].view(), &mut y).unwrap();
                        assert!(y == expected[which], "inference {i} of session {offset}");
                        // A tenth of the way, everything that is made once has been made.
                        if done.fetch_add(1, Ordering::Relaxed) == total / 20 {
                            before.store(resident().unwrap_or(0), Ordering::Relaxed);
                        }
                        if i % 1000 == 999 {
                            session = model.session(&on(pool)).unwrap();
                        }
                    }
                });
            }
        });
        match (before.into_inner(), resident()) {
            (before, Some(after)) if before > 0 => {
                let grown = after.saturating_sub(before);
                assert!(grown < 8 << 20, "{grown} bytes more than after a tenth of {total} inferences");
            }
            _ => println!("skipped: no /proc to read the resident size from"),
        }
    }
}

#[test]
fn a_session_may_be_dropped_in_any_state() {
    let model = cifar();
    let expected = {
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let x = input(&session, 1);
        session.run(&x).unwrap()
    };
    let pools = || [ThreadPool::new(1).unwrap(), ThreadPool::new(3).unwrap(), ThreadPool::from_rayon(rayon_pool(3))];
    for pool in pools() {
        // Never run; after a run; after a refused input; after its shape was planned anew.
        drop(model.session(&on(&pool)).unwrap());
        let mut session = model.session(&on(&pool)).unwrap();
        let x = input(&session, 1);
        assert!(session.run(&x).unwrap() == expected);
        drop(session);
        let mut session = model.session(&on(&pool)).unwrap();
        session.run(&Tensor::zeros(Shape::new(&[1, 4, 2, 2]).unwrap()).unwrap()).unwrap_err();
        drop(session);
        let mut session = model.session(&on(&pool)).unwrap();
        session.run(&Tensor::zeros(Shape::new(&[2, 3, 16, 16]).unwrap()).unwrap()).unwrap();
        drop(session);
        // On another thread, while other sessions of the pool run.
        let mut running = model.session(&on(&pool)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let session = model.session(&on(&pool)).unwrap();
                scope.spawn(move || drop(session));
                assert!(running.run(&x).unwrap() == expected);
            }
        });
        // By a panic that unwinds through it.
        let session = model.session(&on(&pool)).unwrap();
        catch_unwind(AssertUnwindSafe(move || {
            let _session = session;
            resume_unwind(Box::new("on purpose"));
        }))
        .unwrap_err();
        assert!(running.run(&x).unwrap() == expected);
    }
    // The model and the pool go first; the session, which is left, still runs and then ends them.
    for pool in pools() {
        let model = model.clone();
        let mut session = model.session(&on(&pool)).unwrap();
        drop(model);
        drop(pool);
        let x = input(&session, 1);
        assert!(session.run(&x).unwrap() == expected);
    }
    // The last owner of a rayon pool may be a session that is dropped inside it.
    let rayon = rayon_pool(2);
    let session = model.session(&on(&ThreadPool::from_rayon(rayon.clone()))).unwrap();
    rayon.install(move || drop(session));
}

#[test]
fn a_panic_in_the_callers_pool_or_callback_leaves_sessions_usable() {
    let model = cifar();
    let rayon = rayon_pool(3);
    for pool in [ThreadPool::from_rayon(rayon.clone()), ThreadPool::new(3).unwrap()] {
        let mut session = model.session(&on(&pool)).unwrap();
        let x = input(&session, 2);
        let expected = session.run(&x).unwrap();
        for _ in 0..20 {
            // Other work of the pool panics, on its threads and beside the session.
            let panicking = catch_unwind(AssertUnwindSafe(|| {
                rayon.install(|| {
                    rayon::join(|| session.run(&x).map(|y| assert!(y == expected)), || resume_unwind(Box::new("on purpose"))).0.unwrap();
                });
            }));
            panicking.unwrap_err();
            // The caller's own callback panics in the middle of a run.
            let callback = catch_unwind(AssertUnwindSafe(|| {
                let mut seen = 0;
                session.run_with_taps(&x, &mut |_, _| {
                    seen += 1;
                    if seen == 3 {
                        resume_unwind(Box::new("on purpose"));
                    }
                })
            }));
            assert!(callback.is_err());
            assert!(session.run(&x).unwrap() == expected);
        }
    }
}

/// Three parts on the calling thread; one of the runs panics before its last part.
struct Panicking(AtomicUsize);

const NEVER: usize = usize::MAX / 2;

impl Executor for Panicking {
    fn threads(&self) -> usize {
        3
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        part(2);
        part(0);
        if self.0.fetch_sub(1, Ordering::SeqCst) == 0 {
            resume_unwind(Box::new("on purpose"));
        }
        part(1);
    }
}

#[test]
fn an_executor_of_the_callers_that_panics_leaves_sessions_usable() {
    let model = cifar();
    let executor = Arc::new(Panicking(AtomicUsize::new(NEVER)));
    let pool = ThreadPool::from_executor(executor.clone()).unwrap();
    let mut session = model.session(&on(&pool)).unwrap();
    let x = input(&session, 4);
    let expected = session.run(&x).unwrap();
    let mut panicked = 0;
    // In each step of a run, and in none of them.
    for step in 0..session.steps().len() + 3 {
        executor.0.store(step, Ordering::SeqCst);
        panicked += usize::from(catch_unwind(AssertUnwindSafe(|| session.run(&x))).is_err());
        executor.0.store(NEVER, Ordering::SeqCst);
        assert!(halved() > 0.0, "denormals are still flushed");
        assert!(session.run(&x).unwrap() == expected);
        // While a session is made, which packs weights.
        executor.0.store(step, Ordering::SeqCst);
        let _ = catch_unwind(AssertUnwindSafe(|| cifar().session(&on(&pool)).map(drop)));
    }
    assert!(panicked >= session.steps().len(), "{panicked} runs panicked");
}

/// A number that is a denormal, unless the thread flushes them.
fn halved() -> f32 {
    std::hint::black_box(f32::MIN_POSITIVE) * std::hint::black_box(0.5)
}

#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn the_floating_point_setting_of_every_thread_is_restored() {
    let model = tiny();
    let rayon = rayon_pool(3);
    let pools = [ThreadPool::new(1).unwrap(), ThreadPool::new(3).unwrap(), ThreadPool::from_rayon(rayon.clone())];
    for pool in pools {
        let mut session = model.session(&on(&pool)).unwrap();
        let x = input(&session, 3);
        assert!(halved() > 0.0, "making a session left denormals flushed");
        let expected = session.run(&x).unwrap();
        assert!(halved() > 0.0, "a run left denormals flushed");
        assert!(rayon.broadcast(|_| halved()).iter().all(|v| *v > 0.0), "a run left denormals flushed on the pool's threads");
        session.run(&Tensor::zeros(Shape::new(&[1, 1, 1, 1]).unwrap()).unwrap()).unwrap_err();
        assert!(halved() > 0.0, "a refused run left denormals flushed");
        // A caller who flushes them gets the same bits, and goes on flushing.
        let flush = FlushDenormals::new();
        let flushed = session.run(&x).unwrap();
        assert_eq!(halved(), 0.0, "a run took the caller's own setting away");
        drop(flush);
        assert!(flushed == expected);
    }
}

/// A network of denormals gives zeros, on every instruction set and in every kind of pool: none of them is computed with.
#[test]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn denormals_are_flushed_while_a_session_runs() {
    let mut weight = Tensor::zeros(Shape::new(&[20, 20, 3, 3]).unwrap()).unwrap();
    weight.as_mut_slice().fill(1.0);
    let mut graph = Graph::new("denormals", 20, [9, 9]);
    let input = graph.input().value;
    let attributes = ConvAttributes { pads: [1; 4], ..Default::default() };
    let conv = Op::Conv { weight: weight.into(), bias: None, attributes, activation: Activation::None };
    let output = graph.add("conv", conv, &[input]).unwrap();
    graph.set_outputs(&[output]);
    let model = Model::from_graph(graph).unwrap();
    for &isa in stridewise::Isa::available() {
        // Without fused multiply-add, plain code calls the C library's, which has its own rules.
        if isa == stridewise::Isa::Portable && stridewise::Isa::available().len() == 1 && cfg!(target_arch = "x86_64") {
            println!("skipped: this processor has no fused multiply-add");
            continue;
        }
        for pool in [ThreadPool::new(1).unwrap(), ThreadPool::new(3).unwrap(), ThreadPool::from_rayon(rayon_pool(2))] {
            let mut session = model.session(&SessionOptions { isa: Some(isa), ..on(&pool) }).unwrap();
            let mut x = Tensor::zeros(session.input_shape()).unwrap();
            x.as_mut_slice().fill(1e-40);
            assert!(session.run(&x).unwrap().as_slice().iter().all(|v| *v == 0.0), "{isa}, {pool:?}");
        }
    }
}
