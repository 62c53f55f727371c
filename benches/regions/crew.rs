//! One broadcast for a whole inference: the pool's threads stay in it from layer to layer, and wait for each other at barriers that
//! they spin at for a while and then offer the processor to others.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use stridewise_kernels::Executor;

/// Turns of a waiting loop before a thread offers its processor to others in each.
const SPINS: usize = 1 << 10;

/// The threads of one pool, the calling one included.
pub struct Crew {
    others: rayon::ThreadPool,
    job: UnsafeCell<Option<Job>>,
    /// Moves on when there is a job, or nothing more to do.
    epoch: AtomicUsize,
    /// Threads that have not finished the job.
    busy: AtomicUsize,
    leave: AtomicBool,
}

/// A layer's work, its lifetime erased: [`Crew::run`] does not return before all threads are done with it.
type Job = *const (dyn Fn(usize) + Sync);

// SAFETY: `job` is written by the thread that runs the inference, while no other is busy, and read by the others between the move
// of `epoch` and their decrement of `busy`; what it points to is Sync.
unsafe impl Sync for Crew {}

impl Crew {
    /// So many threads in all, at least two.
    pub fn new(threads: usize) -> Crew {
        let others = rayon::ThreadPoolBuilder::new().num_threads(threads - 1).build().unwrap();
        let (epoch, busy, leave) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        Crew { others, job: UnsafeCell::new(None), epoch, busy, leave }
    }

    /// Runs an inference, whose layers call [`Crew::run`].
    pub fn inference(&self, layers: impl FnOnce()) {
        let begin = self.epoch.load(Ordering::SeqCst);
        self.leave.store(false, Ordering::SeqCst);
        self.others.in_place_scope(|scope| {
            scope.spawn_broadcast(|_, context| self.serve(begin, context.index() + 1));
            // Also when a layer panics, or the scope would wait for ever.
            let _leaving = Leaving(self);
            layers();
        });
    }

    fn serve(&self, mut seen: usize, index: usize) {
        loop {
            wait_until(|| self.epoch.load(Ordering::Acquire) != seen);
            seen = seen.wrapping_add(1);
            if self.leave.load(Ordering::SeqCst) {
                return;
            }
            // SAFETY: the epoch moved on, so `run` has written the job, and waits for this thread before it returns.
            if let Some(job) = unsafe { *self.job.get() } {
                // SAFETY: as above: `run` keeps alive what the job points to.
                unsafe { (*job)(index) };
            }
            self.busy.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

struct Leaving<'a>(&'a Crew);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leave.store(true, Ordering::SeqCst);
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
    }
}

impl Executor for Crew {
    fn threads(&self) -> usize {
        self.others.current_num_threads() + 1
    }

    /// Inside [`Crew::inference`] only.
    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        let erased: *const (dyn Fn(usize) + Sync + '_) = part;
        // SAFETY: only the lifetime changes, and all threads are waited for below; nobody reads the cell while `busy` is 0.
        unsafe { *self.job.get() = Some(std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(erased)) };
        self.busy.store(self.others.current_num_threads(), Ordering::SeqCst);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        part(0);
        wait_until(|| self.busy.load(Ordering::Acquire) == 0);
    }
}

fn wait_until(reached: impl Fn() -> bool) {
    let mut spins = 0;
    while !reached() {
        if spins < SPINS {
            std::hint::spin_loop();
            spins += 1;
        } else {
            std::thread::yield_now();
        }
    }
}
