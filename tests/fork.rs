//! A process and its fork. A binary of its own, with one test: nothing else of the process may be running meanwhile.
#![cfg(target_os = "linux")]

use std::time::{Duration, Instant};
use stridewise::{Arch, Error, Executor, Model, SessionOptions, Tensor, ThreadPool};

/// The threads of this process by name.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok()).collect()
}

fn pool_threads() -> usize {
    threads().iter().filter(|name| name.starts_with("stridewise-")).count()
}

#[test]
fn no_thread_outlives_its_pool_and_a_fork_is_told_that_it_has_none() {
    let model = Model::random(Arch::ResNet20Cifar, 0).unwrap();
    let pool = ThreadPool::new(3).unwrap();
    let options = SessionOptions { threads: pool.clone().into(), ..Default::default() };
    let mut session = model.session(&options).unwrap();
    let x = Tensor::zeros(session.input_shape()).unwrap();
    let y = session.run(&x).unwrap();
    assert_eq!(pool_threads(), 2);

    // SAFETY: the child runs this thread alone, calls no test harness, and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        let forked = |result: stridewise::Result<Tensor<f32>>| matches!(result, Err(Error::Forked { .. }));
        let mut good = forked(session.run(&x)) && forked(model.session(&options).and_then(|mut s| s.run(&x)));
        drop((session, options, pool));
        // The model, and a pool started here, are as good as any.
        let mut own = model.session(&SessionOptions { threads: 2.into(), ..Default::default() }).unwrap();
        good &= own.run(&x).unwrap() == y;
        // SAFETY: ends the child without running what the parent's harness has registered.
        unsafe { libc::_exit(if good { 0 } else { 1 }) };
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut status = -1;
    loop {
        // SAFETY: `status` is a valid place for the status of a child that is ours.
        match unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } {
            0 if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            0 => {
                // SAFETY: the child is ours and has not been waited for.
                unsafe { libc::kill(child, libc::SIGKILL) };
                panic!("the forked process hangs");
            }
            _ => break,
        }
    }
    assert_eq!(status, 0, "the forked process found something else than it should");

    assert_eq!(session.run(&x).unwrap(), y);
    drop((session, options));
    assert_eq!(pool_threads(), 2, "the pool's last clone is still here");
    Executor::run(&pool, &|_| {});
    drop(pool);
    assert_eq!(pool_threads(), 0, "threads outlive their pool: {:?}", threads());
}
