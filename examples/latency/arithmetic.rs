//! A fixed number of multiply-adds in registers, on as many threads as a session has: whatever its times vary by is the machine's doing,
//! for it reads no memory and makes no decision.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use stridewise::Isa;
use stridewise_kernels::peak::multiply_add;

/// Multiply-adds of one thread in one frame.
#[derive(Clone, Copy)]
struct Work {
    isa: Isa,
    rounds: u64,
}

impl Work {
    fn run(self) {
        // An instruction set that is there; the count is of no use here.
        let _ = multiply_add(self.isa, self.rounds);
    }
}

/// The threads, which sleep between frames.
pub struct Arithmetic {
    work: Work,
    begin: Arc<Barrier>,
    end: Arc<Barrier>,
    stop: Arc<AtomicBool>,
    others: Vec<JoinHandle<()>>,
}

impl Arithmetic {
    /// Work of about this time.
    pub fn new(time: Duration, threads: usize) -> stridewise::Result<Arithmetic> {
        let isa = Isa::best()?;
        let trial = Work { isa, rounds: 200_000 };
        let shortest = (0..5).map(|_| {
            let start = Instant::now();
            trial.run();
            start.elapsed()
        });
        let shortest = shortest.min().unwrap_or_default().max(Duration::from_nanos(1));
        let work = Work { isa, rounds: (trial.rounds as f64 * time.as_secs_f64() / shortest.as_secs_f64()) as u64 };
        let [begin, end] = [(); 2].map(|_| Arc::new(Barrier::new(threads)));
        let stop = Arc::new(AtomicBool::new(false));
        let others = (1..threads).map(|_| {
            let (begin, end, stop) = (begin.clone(), end.clone(), stop.clone());
            std::thread::spawn(move || {
                loop {
                    begin.wait();
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    work.run();
                    end.wait();
                }
            })
        });
        let others = others.collect();
        Ok(Arithmetic { work, begin, end, stop, others })
    }

    pub fn run(&self) {
        self.begin.wait();
        self.work.run();
        self.end.wait();
    }
}

impl Drop for Arithmetic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.begin.wait();
        for thread in self.others.drain(..) {
            let _ = thread.join();
        }
    }
}
