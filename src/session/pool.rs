//! Threads that kernels run on: none but the caller's, a team of our own, the caller's rayon pool, or any other executor.

use super::team::{Resident, Running};
use crate::error::{Error, Result};
use rayon::prelude::*;
use std::sync::Arc;
use stridewise_kernels::Executor;
use stridewise_kernels::denormals::FlushDenormals;

/// Most threads that a pool may have: more parts than these are never made of a layer.
pub const MAX_THREADS: usize = stridewise_kernels::MAX_THREADS;

/// Threads that sessions run on. Cheap to clone; sessions that share a pool take turns.
///
/// The thread that runs a session takes part in the work; with a rayon pool it waits, and the pool's threads do all of it. Threads that a
/// pool has started have ended when its last clone, and with it the last session on it, is dropped. They are not there in a forked
/// process: a session on such a pool refuses to run in one with [`Error::Forked`]. A model may be used on both sides of a fork, and so may
/// a pool of one thread.
#[derive(Clone)]
pub struct ThreadPool(Kind);

#[derive(Clone)]
enum Kind {
    Inline,
    Team(Arc<Resident>),
    Rayon(Arc<rayon::ThreadPool>, u32),
    Other(Arc<dyn Executor + Send + Sync>, usize),
}

impl ThreadPool {
    /// A pool of `threads` threads in all, the calling one included: 1 starts none and touches none.
    ///
    /// # Errors
    /// When `threads` is 0 or over [`MAX_THREADS`], or the system refuses to start them.
    pub fn new(threads: usize) -> Result<ThreadPool> {
        let refuse = |reason: String| Error::InvalidArgument { argument: format!("threads = {threads}"), reason };
        match threads {
            0 => Err(refuse("at least 1, the calling thread, is needed".into())),
            1 => Ok(ThreadPool(Kind::Inline)),
            2..=MAX_THREADS => {
                Resident::start(threads - 1, true).map(|r| ThreadPool(Kind::Team(Arc::new(r)))).map_err(|e| refuse(e.to_string()))
            }
            _ => Err(refuse(format!("at most {MAX_THREADS}"))),
        }
    }

    /// A pool that starts one thread for each of `cores` and binds it there. The calling thread makes one more, and stays as it is:
    /// with `&[2, 3]` a session has three threads. Cores are numbered as by the system.
    ///
    /// # Errors
    /// When `cores` is empty or too long, names a core that this process may not run on, or the system refuses.
    #[cfg(feature = "affinity")]
    pub fn pinned(cores: &[usize]) -> Result<ThreadPool> {
        let refuse = |reason: String| Error::InvalidArgument { argument: format!("cores {cores:?}"), reason };
        if cores.is_empty() || cores.len() >= MAX_THREADS {
            return Err(refuse(format!("expected 1 to {} cores", MAX_THREADS - 1)));
        }
        let available = core_affinity::get_core_ids().unwrap_or_default();
        let mut places = Vec::with_capacity(cores.len());
        for core in cores {
            let known: Vec<usize> = available.iter().map(|c| c.id).collect();
            let found = available.iter().find(|c| c.id == *core);
            places.push(*found.ok_or_else(|| refuse(format!("core {core} is none that this process may run on: {known:?}")))?);
        }
        let resident = Resident::start(cores.len(), false).map_err(|e| refuse(e.to_string()))?;
        let bound = std::sync::atomic::AtomicUsize::new(0);
        resident.run(&|thread| {
            let place = thread.checked_sub(1).and_then(|worker| places.get(worker));
            if place.is_some_and(|core| core_affinity::set_for_current(*core)) {
                bound.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        match bound.into_inner() {
            all if all == places.len() => Ok(ThreadPool(Kind::Team(Arc::new(resident)))),
            some => Err(refuse(format!("the system bound {some} of {} threads", places.len()))),
        }
    }

    /// The caller's own rayon pool: its threads do all of the work, and a thread of another pool or none waits for them. Rayon allocates
    /// a block of its queue once in some dozen runs that are started from outside the pool; everything else promised of a pool of our
    /// own holds.
    pub fn from_rayon(pool: Arc<rayon::ThreadPool>) -> ThreadPool {
        ThreadPool(Kind::Rayon(pool, std::process::id()))
    }

    /// Any other threads of the caller's. How many they are is asked once, here. Sessions that share the executor call it from
    /// several threads at once.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use stridewise::{Arch, Executor, Model, SessionOptions, ThreadPool};
    ///
    /// struct Scoped(usize); // a thread pool, a job system, a fibre scheduler
    ///
    /// impl Executor for Scoped {
    ///     fn threads(&self) -> usize {
    ///         self.0
    ///     }
    ///     fn run(&self, part: &(dyn Fn(usize) + Sync)) {
    ///         std::thread::scope(|scope| {
    ///             (1..self.0).for_each(|index| drop(scope.spawn(move || part(index))));
    ///             part(0); // on the calling thread
    ///         });
    ///     }
    /// }
    ///
    /// let pool = ThreadPool::from_executor(Arc::new(Scoped(2)))?;
    /// let options = SessionOptions { threads: pool.into(), ..Default::default() };
    /// let session = Model::random(Arch::ResNet20Cifar, 0)?.session(&options)?;
    /// assert_eq!(session.threads(), 2);
    /// # Ok::<(), stridewise::Error>(())
    /// ```
    ///
    /// An executor that leaves a part out makes the run an error; one that calls a part twice, or one that there is not, changes
    /// nothing.
    ///
    /// # Errors
    /// When it says that it has no threads, or more than [`MAX_THREADS`].
    pub fn from_executor(executor: Arc<dyn Executor + Send + Sync>) -> Result<ThreadPool> {
        match executor.threads() {
            threads @ 1..=MAX_THREADS => Ok(ThreadPool(Kind::Other(executor, threads))),
            threads => Err(Error::InvalidArgument {
                argument: "executor".into(),
                reason: format!("it says that it has {threads} threads; expected 1 to {MAX_THREADS}"),
            }),
        }
    }

    /// Threads that share the work. Where they are the library's own, the calling one is among them.
    pub fn threads(&self) -> usize {
        match &self.0 {
            Kind::Inline => 1,
            Kind::Team(resident) => resident.threads(),
            Kind::Rayon(pool, _) => pool.current_num_threads(),
            Kind::Other(_, threads) => *threads,
        }
    }

    /// Tells threads of our own that a run goes on until the result is dropped.
    pub(super) fn running(&self) -> Option<Running<'_>> {
        match &self.0 {
            Kind::Team(resident) => Some(resident.running()),
            _ => None,
        }
    }

    /// Checks that the pool's threads are in this process.
    pub(super) fn check_process(&self) -> Result<()> {
        let started = match &self.0 {
            Kind::Team(resident) => resident.process(),
            Kind::Rayon(_, process) => *process,
            // Without threads, or with threads of which the caller knows.
            Kind::Inline | Kind::Other(..) => return Ok(()),
        };
        match std::process::id() {
            process if process == started => Ok(()),
            process => Err(Error::Forked { started, process }),
        }
    }
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadPool({} threads)", self.threads())
    }
}

/// Every part runs with denormals flushed to zero; the thread's setting is restored after it. A part must not run the pool that
/// it runs on: it would wait for itself. Nor may a fork run a pool that was started before it: nobody would answer.
impl Executor for ThreadPool {
    fn threads(&self) -> usize {
        ThreadPool::threads(self)
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        let part = |thread| {
            let _flush = FlushDenormals::new();
            part(thread);
        };
        match &self.0 {
            Kind::Inline => part(0),
            Kind::Team(resident) => resident.run(&part),
            Kind::Rayon(pool, _) => {
                let threads = pool.current_num_threads();
                pool.install(|| (0..threads).into_par_iter().with_max_len(1).for_each(part));
            }
            Kind::Other(executor, _) => executor.run(&part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// A thread for each part but the caller's.
    struct Scoped(usize);

    impl Executor for Scoped {
        fn threads(&self) -> usize {
            self.0
        }

        fn run(&self, part: &(dyn Fn(usize) + Sync)) {
            std::thread::scope(|scope| {
                (1..self.0).for_each(|index| drop(scope.spawn(move || part(index))));
                part(0);
            });
        }
    }

    fn counts(pool: &ThreadPool) -> Vec<usize> {
        let counters: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&|thread| {
            counters[thread].fetch_add(1, Ordering::SeqCst);
        });
        counters.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_part_runs_once_in_every_kind_of_pool() {
        let rayon = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap());
        let other = ThreadPool::from_executor(Arc::new(Scoped(3))).unwrap();
        for pool in
            [ThreadPool::new(1).unwrap(), ThreadPool::new(2).unwrap(), ThreadPool::new(7).unwrap(), ThreadPool::from_rayon(rayon), other]
        {
            for round in 0..200 {
                assert!(counts(&pool).iter().all(|&c| c == 1), "round {round}");
                if round % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
        }
    }

    #[test]
    fn threads_out_of_range_are_refused() {
        assert!(ThreadPool::new(0).is_err());
        assert!(ThreadPool::new(MAX_THREADS + 1).is_err());
        for threads in [0, MAX_THREADS + 1, usize::MAX] {
            let error = ThreadPool::from_executor(Arc::new(Scoped(threads))).unwrap_err().to_string();
            assert!(error.contains("executor") && error.contains(&threads.to_string()), "{error}");
        }
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller_and_leaves_the_pool_usable() {
        let pool = ThreadPool::new(3).unwrap();
        for culprit in 0..3 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|thread| {
                    if thread == culprit {
                        // Without the hook's message on stderr.
                        resume_unwind(Box::new("on purpose"));
                    }
                });
            }));
            assert!(result.is_err());
            assert!(counts(&pool).iter().all(|&c| c == 1));
        }
    }

    #[test]
    fn a_pool_shared_by_several_threads_serves_them_in_turn() {
        let pool = ThreadPool::new(3).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        assert!(counts(&pool).iter().all(|&c| c == 1));
                    }
                });
            }
        });
    }
}
