//! `run_into` allocates nothing. A binary of its own, since it counts every allocation of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use stridewise::{Arch, Model, SessionOptions, Shape, Tensor, Threads};

struct Counting;

static COUNT: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

fn note() {
    if COUNT.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: hands every call to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn run_into_allocates_nothing_in_any_model() {
    for (name, arch) in Arch::NAMED {
        // One VGG of each kind: their linear layers alone are half a gigabyte.
        if name.starts_with("vgg") && !["vgg11", "vgg11_bn"].contains(name) {
            continue;
        }
        let model = Model::random(*arch, 0).unwrap();
        for threads in [1, 2] {
            let options = SessionOptions { threads: Threads::Count(threads), size: Some([32, 32]), ..Default::default() };
            let mut session = model.session(&options).unwrap();
            let x = Tensor::zeros(session.input_shape()).unwrap();
            let mut y = Tensor::zeros(session.output_shape()).unwrap();
            // From the very first run on, and after threads have slept.
            for round in 0..3 {
                ALLOCATIONS.store(0, Ordering::SeqCst);
                COUNT.store(true, Ordering::SeqCst);
                session.run_into(x.view(), &mut y).unwrap();
                COUNT.store(false, Ordering::SeqCst);
                assert_eq!(ALLOCATIONS.load(Ordering::SeqCst), 0, "{name}, {threads} threads, run {round}");
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }
    // The counter counts: this allocates.
    COUNT.store(true, Ordering::SeqCst);
    let tensor = Tensor::<f32>::zeros(Shape::new(&[1024]).unwrap()).unwrap();
    COUNT.store(false, Ordering::SeqCst);
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > 0 && tensor.as_slice()[0] == 0.0);
}
