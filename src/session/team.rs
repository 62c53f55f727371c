//! Threads of our own. Between two layers they spin for some microseconds; then they park, so that an idle session uses no
//! processor time. Handing them work is a few atomic operations: no allocation and no queue.

use super::placement::{Place, processor};
use std::cell::UnsafeCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a thread waits for the next layer before it parks.
const SPIN: Duration = Duration::from_micros(50);

/// Likewise while a run goes on: the next layer comes as soon as the slowest thread has done the last piece of this one, and to be woken
/// for it would take longer than many a layer does.
const SPIN_IN_A_RUN: Duration = Duration::from_micros(300);

/// A team with its threads; they have ended when its drop returns.
pub(super) struct Resident {
    team: Arc<Team>,
    threads: Vec<JoinHandle<()>>,
    /// The process that the threads are in.
    process: u32,
}

impl Resident {
    /// Starts `workers` threads. `free` ones may be kept off the processor of a thread that calls.
    pub fn start(workers: usize, free: bool) -> io::Result<Resident> {
        let worker = || Worker { thread: OnceLock::new(), parked: AtomicBool::new(false), place: Place::default() };
        let members = (0..workers).map(|_| worker()).collect();
        let team = Arc::new(Team {
            turn: Mutex::new(()),
            job: UnsafeCell::new(None),
            epoch: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            leave: AtomicBool::new(false),
            runs: AtomicUsize::new(0),
            free,
            workers: members,
        });
        // Dropped when a thread does not start: those before it leave.
        let mut resident = Resident { team, threads: Vec::with_capacity(workers), process: std::process::id() };
        for index in 0..workers {
            let members = resident.team.clone();
            let thread = std::thread::Builder::new().name(format!("stridewise-{}", index + 1)).spawn(move || members.work(index))?;
            resident.threads.push(thread);
        }
        // Every worker has entered its loop, and made what a thread makes when it starts, before the first session runs.
        resident.run(&|_| {});
        Ok(resident)
    }

    /// Threads in all, the calling one included.
    pub fn threads(&self) -> usize {
        self.team.workers.len() + 1
    }

    /// The process that the threads are in: a fork has none of them.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Tells the threads that more work comes until the result is dropped.
    pub fn running(&self) -> Running<'_> {
        self.team.runs.fetch_add(1, Ordering::Relaxed);
        Running(&self.team.runs)
    }

    /// Runs `part` with each index below [`Resident::threads`]; 0 is the calling thread's.
    pub fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        self.team.run(part);
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // In a fork there is nobody to wait for, and nothing that may be told to the system of these threads.
            self.threads.drain(..).for_each(std::mem::forget);
            return;
        }
        self.team.leave.store(true, Ordering::SeqCst);
        self.team.announce();
        for thread in self.threads.drain(..) {
            // A worker catches its parts' panics; had it one of its own, it has ended all the same.
            let _ = thread.join();
        }
    }
}

/// A piece of work. The lifetime is erased: [`Team::run`] does not return before every worker is done with it.
type Job = *const (dyn Fn(usize) + Sync);

struct Worker {
    thread: OnceLock<Thread>,
    parked: AtomicBool,
    place: Place,
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
    /// Runs of sessions that are going on.
    runs: AtomicUsize,
    /// Whether nobody has said where the workers are to run.
    free: bool,
    workers: Vec<Worker>,
}

/// While it lives a run goes on.
pub(super) struct Running<'a>(&'a AtomicUsize);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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
        let mut spins = 0u32;
        while self.busy.load(Ordering::Acquire) != 0 {
            // Workers that were parked may share this core with us.
            if spins > 1 << 14 {
                std::thread::yield_now()
            } else {
                std::hint::spin_loop()
            }
            spins = spins.saturating_add(1);
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
        let mut own = None;
        for worker in &self.workers {
            if worker.parked.swap(false, Ordering::SeqCst)
                && let Some(thread) = worker.thread.get()
            {
                if self.free
                    && let Some(own) = *own.get_or_insert_with(processor)
                {
                    worker.place.keep_off(own, self.workers.len() + 1);
                }
                thread.unpark();
            }
        }
    }

    /// The life of worker `index`: it runs part `index + 1` of every job.
    fn work(&self, index: usize) {
        let Some(worker) = self.workers.get(index) else { return };
        // This function is a worker's only caller, so the cell is empty.
        let _ = worker.thread.set(std::thread::current());
        worker.place.enter();
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

    /// Waits until the epoch is another than `seen`, spinning first, then parked.
    fn next_epoch(&self, worker: &Worker, seen: u64) -> u64 {
        let moved = || Some(self.epoch.load(Ordering::SeqCst)).filter(|&e| e != seen);
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if let Some(epoch) = moved() {
                    return epoch;
                }
                std::hint::spin_loop();
            }
            let patience = if self.runs.load(Ordering::Relaxed) > 0 { SPIN_IN_A_RUN } else { SPIN };
            if start.elapsed() > patience {
                break;
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
