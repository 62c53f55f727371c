//! On which processor a worker is woken. Linux tends to wake a thread on the processor of the one that wakes it, also where another is
//! idle: on virtual machines that do not say which processors share a cache, nearly always. Both then take turns there for
//! milliseconds, until its scheduler moves one of them away. So a worker that sleeps is kept off the processor of the thread that calls.

#[cfg(target_os = "linux")]
pub(super) use linux::{Place, processor};
#[cfg(not(target_os = "linux"))]
pub(super) use others::{Place, processor};

#[cfg(target_os = "linux")]
mod linux {
    use libc::{CPU_CLR, CPU_COUNT, CPU_EQUAL, CPU_ISSET, CPU_SETSIZE, cpu_set_t, pid_t};
    use std::sync::{Mutex, OnceLock, PoisonError};

    /// The processor that the calling thread runs on at this moment.
    pub fn processor() -> Option<usize> {
        // SAFETY: it asks for nothing.
        #[allow(unsafe_code)]
        let found = unsafe { libc::sched_getcpu() };
        usize::try_from(found).ok().filter(|processor| *processor < CPU_SETSIZE as usize)
    }

    /// Where a thread may run.
    #[derive(Default)]
    pub struct Place {
        thread: OnceLock<pid_t>,
        kept: Mutex<Option<Kept>>,
    }

    /// What was changed.
    struct Kept {
        off: usize,
        /// Where the thread might run before,
        before: cpu_set_t,
        /// and where it may now, unless someone else has changed that.
        now: cpu_set_t,
    }

    impl Place {
        /// Makes it the calling thread's.
        pub fn enter(&self) {
            // SAFETY: it asks for nothing.
            #[allow(unsafe_code)]
            let thread = unsafe { libc::gettid() };
            self.thread.get_or_init(|| thread);
        }

        /// Lets the thread run on every processor that it could run on, but on this one, if enough are left for all of a team of
        /// `threads`. What the system refuses stays as it is.
        pub fn keep_off(&self, processor: usize, threads: usize) {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            let (Some(&thread), false) = (self.thread.get(), kept.as_ref().is_some_and(|kept| kept.off == processor)) else { return };
            let size = size_of::<cpu_set_t>();
            // SAFETY: a set of processors is plain numbers, zero included; the calls read and write sets of the size that they are told,
            // and `processor` is below the number of processors of a set.
            #[allow(unsafe_code)]
            unsafe {
                let mut now: cpu_set_t = std::mem::zeroed();
                if libc::sched_getaffinity(thread, size, &mut now) != 0 {
                    return;
                }
                let before = kept.as_ref().filter(|kept| CPU_EQUAL(&kept.now, &now)).map_or(now, |kept| kept.before);
                let mut wanted = before;
                if CPU_ISSET(processor, &before) && usize::try_from(CPU_COUNT(&before)).is_ok_and(|count| count >= threads.max(2)) {
                    CPU_CLR(processor, &mut wanted);
                }
                if !CPU_EQUAL(&wanted, &now) && libc::sched_setaffinity(thread, size, &wanted) != 0 {
                    wanted = now;
                }
                *kept = Some(Kept { off: processor, before, now: wanted });
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod others {
    /// It is not asked for.
    pub fn processor() -> Option<usize> {
        None
    }

    /// Where a thread may run: anywhere.
    #[derive(Default)]
    pub struct Place;

    impl Place {
        /// Makes it the calling thread's.
        pub fn enter(&self) {}

        /// Does nothing.
        pub fn keep_off(&self, _: usize, _: usize) {}
    }
}

#[cfg(all(test, target_os = "linux"))]
#[allow(unsafe_code)]
mod tests {
    use super::Place;
    use crate::session::team::Resident;
    use libc::{CPU_ISSET, CPU_SET, CPU_SETSIZE, cpu_set_t, pid_t};
    use std::sync::{Arc, Mutex, mpsc};
    use std::time::Duration;

    /// Where a thread may run; 0 is the calling one.
    fn processors(thread: pid_t) -> Vec<usize> {
        // SAFETY: a set is plain numbers, and every processor that is asked for is one of a set's.
        unsafe {
            let mut set: cpu_set_t = std::mem::zeroed();
            assert_eq!(libc::sched_getaffinity(thread, size_of::<cpu_set_t>(), &mut set), 0);
            (0..CPU_SETSIZE as usize).filter(|processor| CPU_ISSET(*processor, &set)).collect()
        }
    }

    fn bind(thread: pid_t, processors: &[usize]) {
        // SAFETY: as above.
        unsafe {
            let mut set: cpu_set_t = std::mem::zeroed();
            processors.iter().for_each(|processor| CPU_SET(*processor, &mut set));
            assert_eq!(libc::sched_setaffinity(thread, size_of::<cpu_set_t>(), &set), 0);
        }
    }

    /// The first two processors of this thread, and all of them.
    fn two_of_all() -> Option<([usize; 2], Vec<usize>)> {
        let all = processors(0);
        let two = all.first_chunk::<2>().copied();
        if two.is_none() {
            println!("skipped: this thread may run on one processor only");
        }
        two.map(|two| (two, all))
    }

    #[test]
    fn a_thread_is_kept_off_one_processor_and_never_where_it_may_not_run() {
        let Some(([a, b], all)) = two_of_all() else { return };
        let place = Arc::new(Place::default());
        let (told, thread) = mpsc::channel();
        let (leave, wait) = mpsc::channel::<()>();
        let sleeper = std::thread::spawn({
            let place = place.clone();
            move || {
                place.enter();
                // SAFETY: it asks for nothing.
                told.send(unsafe { libc::gettid() }).unwrap();
                let _ = wait.recv();
            }
        });
        let thread = thread.recv().unwrap();
        let all_but = |processor| all.iter().copied().filter(|p| *p != processor).collect::<Vec<_>>();
        place.keep_off(a, all.len() + 1);
        assert_eq!(processors(thread), all, "too few for the team");
        place.keep_off(b, all.len());
        assert_eq!(processors(thread), all_but(b));
        place.keep_off(a, 2);
        assert_eq!(processors(thread), all_but(a), "the other is free again");
        bind(thread, &[a]);
        place.keep_off(b, 2);
        assert_eq!(processors(thread), [a], "someone else has bound it");
        place.keep_off(a, 2);
        assert_eq!(processors(thread), [a], "nothing would be left");
        drop(leave);
        sleeper.join().unwrap();
    }

    #[test]
    fn sleeping_workers_keep_off_the_processor_that_calls() {
        let Some((two, all)) = two_of_all() else { return };
        let caller = move |free: bool| {
            let resident = Resident::start(1, free).unwrap();
            let found = Mutex::new(Vec::new());
            let mut kept = [false; 2];
            for (kept, own) in kept.iter_mut().zip(two) {
                bind(0, &[own]);
                // It may take its time to fall asleep.
                for _ in 0..200 {
                    std::thread::sleep(Duration::from_millis(2));
                    resident.run(&|index| {
                        if index == 1 {
                            *found.lock().unwrap() = processors(0);
                        }
                    });
                    *kept |= !found.lock().unwrap().contains(&own);
                    if *kept {
                        break;
                    }
                }
            }
            (kept, found.into_inner().unwrap())
        };
        let (kept, at_last) = std::thread::spawn(move || caller(true)).join().unwrap();
        assert_eq!(kept, [true; 2]);
        assert_eq!(at_last.len(), all.len() - 1);
        // Those of a pinned pool stay where they were put.
        let (kept, at_last) = std::thread::spawn(move || caller(false)).join().unwrap();
        assert_eq!((kept, at_last), ([false; 2], all));
    }
}
