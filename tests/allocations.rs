//! `run_into` allocates nothing. A binary of its own, since it counts every allocation of the process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use stridewise::graph::{Activation, ConvAttributes, Dim, Graph, Op, TensorOp, ValueId};
use stridewise::quantize::{Calibrator, Method};
use stridewise::{Arch, Executor, Model, Precision, Session, SessionOptions, Shape, Tensor, ThreadPool, Threads};
use stridewise_kernels::dense::Extreme;
use stridewise_kernels::{Binary, Unary};

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
    // Ops on tensors of any rank, in blocks and row-major, with changes between the two.
    let mut session =
        Model::from_graph(of_any_rank()).unwrap().session(&SessionOptions { threads: 2.into(), ..Default::default() }).unwrap();
    let x = Tensor::zeros(session.input_shape()).unwrap();
    let mut outputs: Vec<Tensor<f32>> = session.output_shapes().into_iter().map(|shape| Tensor::zeros(shape).unwrap()).collect();
    let mut places: Vec<_> = outputs.iter_mut().map(Tensor::view_mut).collect();
    for round in 0..3 {
        ALLOCATIONS.store(0, Ordering::SeqCst);
        COUNT.store(true, Ordering::SeqCst);
        session.run_all_into(&[x.view()], &mut places).unwrap();
        COUNT.store(false, Ordering::SeqCst);
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst), 0, "ops of any rank, run {round}");
    }
    for (name, arch) in Arch::NAMED {
        // One VGG of each kind: their linear layers alone are half a gigabyte.
        if name.starts_with("vgg") && !["vgg11", "vgg11_bn"].contains(name) {
            continue;
        }
        let model = Model::random(*arch, 0).unwrap();
        for threads in [1, 2] {
            let options = SessionOptions { threads: Threads::Count(threads), size: Some([32, 32]), ..Default::default() };
            runs_without_allocating(&mut model.session(&options).unwrap(), &format!("{name}, {threads} threads"));
        }
    }
    for arch in [Arch::ResNet18, Arch::MobileNetV2] {
        let model = calibrated(arch);
        for precision in Precision::ALL {
            match precision {
                Precision::Bf16 if !cfg!(feature = "bf16") => continue,
                Precision::Int8 if !cfg!(feature = "int8") => continue,
                _ => {}
            }
            let executor = ThreadPool::from_executor(Arc::new(OneByOne(3))).unwrap();
            for (pool, threads) in [("a team", Threads::Count(2)), ("an executor of the caller's", executor.into())] {
                let options = SessionOptions { threads, precision, size: Some([32, 32]), ..Default::default() };
                runs_without_allocating(&mut model.session(&options).unwrap(), &format!("{arch} in {precision} on {pool}"));
            }
        }
    }
    // The counter counts: this allocates.
    COUNT.store(true, Ordering::SeqCst);
    let tensor = Tensor::<f32>::zeros(Shape::new(&[1024]).unwrap()).unwrap();
    COUNT.store(false, Ordering::SeqCst);
    assert!(ALLOCATIONS.load(Ordering::SeqCst) > 0 && tensor.as_slice()[0] == 0.0);
}

/// From the very first run on, and after threads have slept.
fn runs_without_allocating(session: &mut Session, what: &str) {
    let x = Tensor::zeros(session.input_shape()).unwrap();
    let mut y = Tensor::zeros(session.output_shape()).unwrap();
    for round in 0..3 {
        ALLOCATIONS.store(0, Ordering::SeqCst);
        COUNT.store(true, Ordering::SeqCst);
        session.run_into(x.view(), &mut y).unwrap();
        COUNT.store(false, Ordering::SeqCst);
        assert_eq!(ALLOCATIONS.load(Ordering::SeqCst), 0, "{what}, run {round}");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Calls the parts one after the other, on the calling thread.
struct OneByOne(usize);

impl Executor for OneByOne {
    fn threads(&self) -> usize {
        self.0
    }

    fn run(&self, part: &(dyn Fn(usize) + Sync)) {
        (0..self.0).for_each(part);
    }
}

/// A network with random weights, and scales for its activations.
fn calibrated(arch: Arch) -> Model {
    let model = Model::random(arch, 0).unwrap();
    let mut session = model.session(&SessionOptions { size: Some([32, 32]), ..Default::default() }).unwrap();
    let mut x = Tensor::<f32>::zeros(session.input_shape()).unwrap();
    x.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i * 37 % 256) as f32 / 128.0 - 1.0);
    let mut calibrator = Calibrator::default();
    calibrator.observe("input", &x);
    session.run_with_taps(&x, &mut |name, value| calibrator.observe(name, &value)).unwrap();
    model.with_quantization(calibrator.finish(Method::MinMax))
}

fn of_any_rank() -> Graph {
    let mut graph = Graph::without_inputs("ops of any rank");
    let x = graph.add_input("x", [1, 20, 8, 8].map(Dim::Fixed).to_vec()).unwrap();
    let weight = Tensor::zeros(Shape::new(&[20, 20, 1, 1]).unwrap()).unwrap().into();
    let conv = Op::Conv { weight, bias: None, attributes: ConvAttributes::default(), activation: Activation::Relu };
    let y = graph.add("conv", conv, &[x]).unwrap();
    let tensor = |graph: &mut Graph, name: &str, op: TensorOp, inputs: &[ValueId]| graph.add(name, Op::Tensor(op), inputs).unwrap();
    let silu = tensor(&mut graph, "silu", TensorOp::Map(Unary::Silu), &[y]);
    let both = tensor(&mut graph, "concat", TensorOp::Concat { axis: 1 }, &[silu, y]);
    let shuffled = tensor(&mut graph, "shuffle", TensorOp::ChannelShuffle { groups: 4 }, &[both]);
    let sum = tensor(&mut graph, "product", TensorOp::Combine { function: Binary::Mul, then: Unary::Tanh }, &[shuffled, both]);
    let last = tensor(&mut graph, "transpose", TensorOp::Transpose(vec![0, 2, 3, 1]), &[sum]);
    let right = graph.add_constant("right", Arc::new(Tensor::zeros(Shape::new(&[40, 24]).unwrap()).unwrap()));
    let product = tensor(&mut graph, "matmul", TensorOp::MatMul, &[last, right]);
    let softmax = tensor(&mut graph, "softmax", TensorOp::Softmax { axis: 3, log: false }, &[product]);
    let top = tensor(&mut graph, "top", TensorOp::TopK { axis: 3, k: 3, extreme: Extreme::Max, places: true }, &[softmax]);
    graph.set_outputs(&[sum, top]);
    graph
}
