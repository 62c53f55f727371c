//! Threads that kernels run on: none, a team of our own, or the caller's rayon pool.
//!
//! A team's threads are rayon workers that stay in one broadcast until the pool is dropped. Handing them work is a few atomic
//! operations: no allocation and no queue. Between two layers they spin for some microseconds, then they offer their processor
//! to others, since those that they wait for may need it, and after some more they park, so that an idle session uses none.

use crate::error::{Error, Result};
use rayon::prelude::*;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::Thread;
use stridewise_kernels::Executor;
use stridewise_kernels::denormals::FlushDenormals;

/// Most threads that a pool may have: more parts than these are never made of a layer.
pub const MAX_THREADS: usize = stridewise_kernels::MAX_THREADS;

/// Turns of a waiting loop before a thread offers its processor to others: ten microseconds or some more. A thread that it waits for
/// may have no other: a worker is often woken on the processor of the thread that woke it.
const SPINS: u32 = 1 << 9;

/// Offers before a worker parks. Where nobody takes them they last some tens of microseconds. Where two threads of the team share
/// a processor they hand it to each other with them, layer by layer, and a worker that parked would have to be woken for every layer.
const OFFERS: u32 = 128;

/// Threads that sessions run on. Cheap to clone; sessions that share a pool take turns.
#[derive(Clone)]
pub struct ThreadPool(Kind);

#[derive(Clone)]
enum Kind {
    Inline,
    Team(Arc<Resident>),
    Rayon(Arc<rayon::ThreadPool>),
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
            2..=MAX_THREADS => Resident::start(threads).map(|r| ThreadPool(Kind::Team(Arc::new(r)))).map_err(|e| refuse(e.to_string())),
            _ => Err(refuse(format!("at most {MAX_THREADS}"))),
        }
    }

    /// The caller's own rayon pool. Rayon allocates a block of its queue once in some dozen runs that are started from outside
    /// the pool; everything else promised of a pool of our own holds.
    pub fn from_rayon(pool: Arc<rayon::ThreadPool>) -> ThreadPool {
        ThreadPool(Kind::Rayon(pool))
    }

    /// Threads in all.
    pub fn threads(&self) -> usize {
        match &self.0 {
            Kind::Inline => 1,
            Kind::Team(resident) => resident.team.workers.len() + 1,
            Kind::Rayon(pool) => pool.current_num_threads(),
        }
    }
}

impl std::fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ThreadPool({} threads)", self.threads())
    }
}

/// Every part runs with denormals flushed to zero; the thread's setting is restored after it. A part must not run the pool that
/// it runs on: it would wait for itself.
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
            Kind::Team(resident) => resident.team.run(&part),
            Kind::Rayon(pool) => {
                let threads = pool.current_num_threads();
                pool.install(|| (0..threads).into_par_iter().with_max_len(1).for_each(part));
            }
        }
    }
}

/// Keeps a team's threads alive; they end when it is dropped.
struct Resident {
    team: Arc<Team>,
    /// Last, so that the threads have been told to leave before their pool goes.
    _threads: rayon::ThreadPool,
}

impl Resident {
    fn start(threads: usize) -> std::result::Result<Resident, rayon::ThreadPoolBuildError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads - 1).thread_name(|i| format!("stridewise-{}", i + 1)).build()?;
        let workers = (1..threads).map(|_| Worker { thread: OnceLock::new(), parked: AtomicBool::new(false) }).collect();
        let team = Arc::new(Team {
            turn: Mutex::new(()),
            job: UnsafeCell::new(None),
            epoch: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            leave: AtomicBool::new(false),
            workers,
        });
        let members = team.clone();
        pool.spawn_broadcast(move |context| members.work(context.index()));
        // Every worker has entered its loop, and made what a thread makes when it starts, before the first session runs.
        team.run(&|_| {});
        Ok(Resident { team, _threads: pool })
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.team.leave.store(true, Ordering::SeqCst);
        self.team.announce();
    }
}

/// A piece of work. The lifetime is erased: [`Team::run`] does not return before every worker is done with it.
type Job = *const (dyn Fn(usize) + Sync);

struct Worker {
    thread: OnceLock<Thread>,
    parked: AtomicBool,
}

struct Team {
    /// Held while a session uses the team.
    turn: Mutex<()>,
    /// Written by the holder of `turn` while no worker is busy, read by workers after `epoch` moved on.
    job: UnsafeCell<Option<Job>>,
    epoch: AtomicU64,
    busy: AtomicUsize,
    panicked: AtomicBool,
    leave: AtomicBool,
    workers: Vec<Worker>,
}

// SAFETY: `job` is written only by the holder of `turn` while `busy` is 0, and read only by workers between the release of
// `epoch` and their decrement of `busy`; what it points to is Sync.
#[allow(unsafe_code)]
unsafe impl Sync for Team {}
// SAFETY: as above; the pointer is not tied to a thread.
#[allow(unsafe_code)]
unsafe impl Send for Team {}

impl Team {
    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let erased: *const (dyn Fn(usize) + Sync + '_) = part;
        // SAFETY: only the lifetime changes. Workers use the job until they decrement `busy`, and we wait for that below,
        // also when our own part panics. `turn` is held and `busy` is 0, so nobody reads the cell now.
        #[allow(unsafe_code)]
        unsafe {
            *self.job.get() = Some(std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(erased));
        }
        self.busy.store(self.workers.len(), Ordering::SeqCst);
        self.announce();
        let own = catch_unwind(AssertUnwindSafe(|| part(0)));
        let done = || (self.busy.load(Ordering::Acquire) == 0).then_some(());
        if spin(done).is_none() {
            while done().is_none() {
                std::thread::yield_now();
            }
        }
        let worker_panicked = self.panicked.swap(false, Ordering::SeqCst);
        match own {
            Err(payload) => resume_unwind(payload),
            Ok(()) => assert!(!worker_panicked, "a worker thread panicked"),
        }
    }

    /// Starts the next epoch and wakes those who sleep.
    fn announce(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in &self.workers {
            if worker.parked.swap(false, Ordering::SeqCst)
                && let Some(thread) = worker.thread.get()
            {
                thread.unpark();
            }
        }
    }

    /// The life of worker `index`: it runs part `index + 1` of every job.
    fn work(&self, index: usize) {
        let Some(worker) = self.workers.get(index) else { return };
        // This function is a worker's only caller, so the cell is empty.
        let _ = worker.thread.set(std::thread::current());
        let mut seen = 0;
        loop {
            seen = self.next_epoch(worker, seen);
            if self.leave.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the epoch moved on, so `run` has written the job and waits until `busy` is 0.
            #[allow(unsafe_code)]
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: as above: `run` keeps what the job points to alive.
                #[allow(unsafe_code)]
                let part = unsafe { &*job };
                if catch_unwind(AssertUnwindSafe(|| part(index + 1))).is_err() {
                    self.panicked.store(true, Ordering::SeqCst);
                }
            }
            self.busy.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Waits until the epoch is another than `seen`: spinning first, then offering the processor to others, then parked.
    fn next_epoch(&self, worker: &Worker, seen: u64) -> u64 {
        let moved = || Some(self.epoch.load(Ordering::SeqCst)).filter(|&e| e != seen);
        if let Some(epoch) = spin(moved) {
            return epoch;
        }
        for _ in 0..OFFERS {
            std::thread::yield_now();
            if let Some(epoch) = moved() {
                return epoch;
            }
        }
        loop {
            worker.parked.store(true, Ordering::SeqCst);
            if let Some(epoch) = moved() {
                worker.parked.store(false, Ordering::SeqCst);
                return epoch;
            }
            std::thread::park();
        }
    }
}

/// What `reached` returns, as soon as there is something, in so many turns.
fn spin<T>(reached: impl Fn() -> Option<T>) -> Option<T> {
    for _ in 0..SPINS {
        if let Some(value) = reached() {
            return Some(value);
        }
        std::hint::spin_loop();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        for pool in [ThreadPool::new(1).unwrap(), ThreadPool::new(2).unwrap(), ThreadPool::new(7).unwrap(), ThreadPool::from_rayon(rayon)] {
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
