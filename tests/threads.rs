//! Whose threads a session runs on, and what ends a run early.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use stridewise::{Arch, CancelToken, Error, Executor, Model, Session, SessionOptions, Tensor, ThreadPool, Threads};

fn model() -> Model {
    Model::random(Arch::ResNet20Cifar, 0).unwrap()
}

fn image(session: &Session) -> Tensor<f32> {
    let mut x = Tensor::zeros(session.input_shape()).unwrap();
    x.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = ((i * 37) % 256) as f32 / 128.0 - 1.0);
    x
}

/// Promises some number of parts and runs others, some of them together with the calling thread's.
struct Own {
    threads: usize,
    parts: Vec<usize>,
    calls: AtomicUsize,
}

impl Own {
    fn pool(threads: usize, parts: Vec<usize>) -> (Arc<Own>, Threads) {
        let own = Arc::new(Own { threads, parts, calls: AtomicUsize::new(0) });
        let pool = ThreadPool::from_executor(own.clone()).unwrap();
        (own, pool.into())
    }
}

impl Executor for Own {
    fn threads(&self) -> usize {
        self.threads
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|scope| self.parts.iter().for_each(|&index| drop(scope.spawn(move || part(index)))));
    }
}

#[test]
fn an_executor_of_the_callers_gives_the_same_bits_and_is_held_to_its_word() {
    let model = model();
    let mut alone = model.session(&SessionOptions::default()).unwrap();
    let x = image(&alone);
    let expected = alone.run(&x).unwrap();
    for parts in [vec![0, 1, 2], vec![2, 1, 0, 0, 2, 7, usize::MAX]] {
        let (own, threads) = Own::pool(3, parts);
        let mut first = model.session(&SessionOptions { threads: threads.clone(), ..Default::default() }).unwrap();
        let mut second = model.session(&SessionOptions { threads, ..Default::default() }).unwrap();
        let before = own.calls.load(Ordering::Relaxed);
        // Two sessions on one executor, at once.
        let results = std::thread::scope(|scope| {
            let runs = [&mut first, &mut second].map(|session| scope.spawn(|| session.run(&x).unwrap()));
            runs.map(|run| run.join().unwrap())
        });
        assert!(results.iter().all(|y| *y == expected));
        assert!(own.calls.load(Ordering::Relaxed) > before, "the executor was not used");
    }
    let (_, threads) = Own::pool(3, vec![0, 2]);
    let error = model.session(&SessionOptions { threads: threads.clone(), ..Default::default() }).and_then(|mut s| s.run(&x)).unwrap_err();
    assert!(error.to_string().contains("2 of 3 parts"), "{error}");
}

#[test]
fn a_run_is_cancelled_between_layers_and_the_session_stays_usable() {
    let mut session = model().session(&SessionOptions { threads: 2.into(), ..Default::default() }).unwrap();
    let x = image(&session);
    let expected = session.run(&x).unwrap();
    let steps = session.steps();
    let token = CancelToken::new();
    session.set_cancel_token(Some(token.clone()));
    let error = session
        .run_with_taps(&x, &mut |name, _| {
            if name == steps[2].value {
                std::thread::scope(|scope| scope.spawn(|| token.cancel()).join().unwrap());
            }
        })
        .unwrap_err();
    assert!(matches!(&error, Error::Cancelled { step } if *step == steps[3].name), "{error}");
    // Still cancelled, and the output is left alone.
    let mut y = expected.clone();
    y.as_mut_slice().fill(7.0);
    assert!(matches!(session.run_into(x.view(), &mut y), Err(Error::Cancelled { .. })));
    assert!(y.as_slice().iter().all(|v| *v == 7.0));
    token.reset();
    assert_eq!(session.run(&x).unwrap(), expected);
}

#[test]
fn a_run_that_is_late_ends_between_layers_and_says_where() {
    let mut session = model().session(&SessionOptions::default()).unwrap();
    let x = image(&session);
    let steps = session.steps();
    session.set_time_limit(Some(Duration::ZERO));
    let error = session.run(&x).unwrap_err();
    assert!(matches!(&error, Error::TimedOut { step, .. } if *step == steps[0].name), "{error}");
    let limit = Duration::from_millis(200);
    session.set_time_limit(Some(limit));
    let error = session.run_with_taps(&x, &mut |_, _| std::thread::sleep(limit)).unwrap_err();
    assert!(matches!(&error, Error::TimedOut { step, .. } if *step != steps[0].name), "{error}");
    session.set_time_limit(None);
    session.run(&x).unwrap();
}

#[cfg(feature = "affinity")]
#[test]
fn threads_are_bound_to_the_cores_that_were_asked_for() {
    let Some(core) = core_affinity::get_core_ids().and_then(|cores| cores.last().copied()) else {
        println!("skipped: the system does not say which cores there are");
        return;
    };
    let pool = ThreadPool::pinned(&[core.id, core.id]).unwrap();
    assert_eq!(pool.threads(), 3);
    let elsewhere = AtomicUsize::new(0);
    Executor::run(&pool, &|thread| {
        if thread > 0 && core_affinity::get_core_ids().unwrap() != [core] {
            elsewhere.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert_eq!(elsewhere.into_inner(), 0);
    for cores in [&[][..], &[core.id, 100_000], &[usize::MAX]] {
        let error = ThreadPool::pinned(cores).unwrap_err().to_string();
        assert!(error.contains(&format!("{cores:?}")), "{error}");
    }
}
