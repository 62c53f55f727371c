//! Random graphs against an interpreter in f64: what the passes, the plan and the kernels compute together is what the ops are
//! documented to compute.

mod cases;
mod generator;
mod interpreter;

use generator::{Random, Recipe, build, recipes};
use interpreter::{Array, interpret};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use stridewise::graph::Graph;
use stridewise::{Isa, Model, Numerics, Precision, SessionOptions, Tensor, ThreadPool, Threads};

const GRAPHS: u32 = 500;

/// Those without scales of activations.
const PRECISIONS: &[Precision] = if cfg!(feature = "bf16") { &[Precision::F32, Precision::Bf16] } else { &[Precision::F32] };

/// What an op may lose, in parts of the largest number that it computes.
fn rounding(precision: Precision) -> f64 {
    if precision == Precision::F32 { 5e-7 } else { 8e-3 }
}

/// How many times as far from the interpreter's value a session's may be as one with errors of [`rounding`] behind every op is.
const SLACK: f64 = 2.0;

fn report(line: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("    {line}\n").as_bytes());
}

/// How a graph is run.
#[derive(Clone, Copy, Debug)]
struct Setup {
    isa: Isa,
    threads: usize,
    numerics: Numerics,
    precision: Precision,
    as_is: bool,
}

/// Every one of them.
fn setups() -> Vec<Setup> {
    let mut setups = Vec::new();
    for &isa in Isa::available() {
        for (threads, numerics) in [(1, Numerics::Fast), (3, Numerics::Fast), (1, Numerics::Exact), (3, Numerics::Exact)] {
            for precision in PRECISIONS {
                setups.extend([false, true].map(|as_is| Setup { isa, threads, numerics, precision: *precision, as_is }));
            }
        }
    }
    setups
}

/// Every instruction set, and threads, exact numerics, the graph as it is and now and then bf16 on one of them.
fn some_setups(random: &mut Random) -> Vec<Setup> {
    let (all, narrow) = (Isa::available(), usize::from(random.one_in(3)));
    let mut setups: Vec<Setup> =
        all.iter().map(|&isa| Setup { isa, threads: 1, numerics: Numerics::Fast, precision: Precision::F32, as_is: false }).collect();
    let mut any = |threads: usize, precision: Precision, as_is: bool| {
        let numerics = if random.one_in(3) { Numerics::Exact } else { Numerics::Fast };
        setups.push(Setup { isa: all[random.below(all.len())], threads, numerics, precision, as_is });
    };
    any(3, Precision::F32, false);
    any(1, Precision::F32, true);
    any(1, PRECISIONS[narrow % PRECISIONS.len()], false);
    setups
}

struct Oracle {
    three: ThreadPool,
    sessions: Cell<usize>,
    /// For each precision the largest difference from the interpreter's values, in parts of what is allowed.
    worst: [Cell<f64>; 2],
}

impl Oracle {
    fn new() -> Oracle {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        Oracle { three: ThreadPool::from_rayon(Arc::new(pool)), sessions: Cell::new(0), worst: Default::default() }
    }

    /// Compares all outputs of a graph with what the interpreter makes of it.
    fn check(&self, graph: &Graph, inputs: &[Tensor<f32>], setups: &[Setup]) -> Result<(), String> {
        let arrays: Vec<Array> = inputs.iter().map(Array::from).collect();
        let expected = interpret(graph, &arrays, |array, _| array);
        // An error in one direction may be cut off where one in the other is not, hence several of each.
        let spread = |precision: Precision| {
            let mut random = Random(1);
            let mut spreads = vec![0.0f64; expected.len()];
            let used = setups.iter().any(|setup| setup.precision == precision);
            let draws = if !used { 0 } else { [2, 5][usize::from(precision != Precision::F32)] };
            for _ in 0..draws {
                let rounded = interpret(graph, &arrays, |mut array, largest| {
                    // Errors of one tensor can have something in common, which sums and means of it then have, too.
                    let common = if random.one_in(2) { 1.0 } else { -1.0 };
                    array.data.iter_mut().for_each(|x| *x += rounding(precision) * largest * (common + f64::from(random.number())));
                    array
                });
                // Where an error can leave a function's domain, nothing is expected.
                let distance = |a: f64, b: f64| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
                for (spread, (a, b)) in spreads.iter_mut().zip(expected.iter().zip(&rounded)) {
                    *spread = a.data.iter().zip(&b.data).fold(*spread, |most, (&a, &b)| most.max(distance(a, b)));
                }
            }
            spreads
        };
        let spreads: Vec<Vec<f64>> = PRECISIONS.iter().map(|&precision| spread(precision)).collect();
        let named = || graph.inputs().iter().zip(inputs);
        let shapes: Vec<(String, Vec<usize>)> = named().map(|(input, tensor)| (input.name.clone(), tensor.dims().to_vec())).collect();
        let views: Vec<_> = named().map(|(input, tensor)| (input.name.as_str(), tensor.view())).collect();
        let refused = |error: stridewise::Error| format!("refused: {error}");
        let models = [Model::from_graph(graph.clone()).map_err(refused)?, Model::from_graph_as_is(graph.clone()).map_err(refused)?];
        for &Setup { isa, threads, numerics, precision, as_is } in setups {
            let what = |difference: String| format!("{isa}, {precision}, {threads} threads, {numerics}, as it is: {as_is}: {difference}");
            let threads = if threads == 1 { Threads::Count(1) } else { Threads::Pool(self.three.clone()) };
            let options = SessionOptions { isa: Some(isa), threads, numerics, precision, shapes: shapes.clone(), ..Default::default() };
            let mut session = models[usize::from(as_is)].session(&options).map_err(|error| what(refused(error)))?;
            let outputs = session.run_named(&views).map_err(|error| what(error.to_string()))?;
            self.sessions.set(self.sessions.get() + 1);
            for ((name, output), id) in outputs.iter().zip(graph.outputs()) {
                let (expected, index) = (&expected[id.index()], usize::from(precision != Precision::F32));
                let allowed = SLACK * spreads[index][id.index()].max(rounding(precision) * expected.largest());
                let worst = compare(output, expected, allowed)
                    .map_err(|difference| what(format!("`{name}`: {difference}\n{}", session.explain())))?;
                self.worst[index].set(self.worst[index].get().max(worst));
            }
            // In the buffers lies what the first run has left.
            let again = session.run_named(&views).map_err(|error| what(error.to_string()))?;
            if again != outputs {
                return Err(what(format!("a second run gives something else\n{}", session.explain())));
            }
        }
        Ok(())
    }
}

/// The largest difference, in parts of what is allowed.
fn compare(output: &Tensor<f32>, expected: &Array, allowed: f64) -> Result<f64, String> {
    if output.dims() != expected.dims {
        return Err(format!("shape {}, expected {:?}", output.shape(), expected.dims));
    }
    let mut worst = 0.0f64;
    for (i, (&found, &expected)) in output.as_slice().iter().zip(&expected.data).enumerate() {
        let difference = (f64::from(found) - expected).abs();
        if !(difference <= allowed || allowed.is_infinite()) {
            return Err(format!("element {i} is {found}, expected {expected} within {allowed:e}"));
        }
        worst = if difference > 0.0 { worst.max(difference / allowed) } else { worst };
    }
    Ok(worst)
}

/// The graph as text: each node with what it reads, weights by their shapes.
fn describe(graph: &Graph) -> String {
    let mut text = String::new();
    for node in graph.nodes() {
        let op: String = format!("{:?}", node.op).chars().take(400).collect();
        text += &format!("{:?} = {op} of {:?}\n", node.output, node.inputs);
    }
    text + &format!("outputs {:?}\n", graph.outputs())
}

#[test]
fn random_graphs_compute_what_their_ops_are_documented_to_compute() {
    let given = std::env::var("STRIDEWISE_SEED").ok().map(|seed| seed.parse().expect("STRIDEWISE_SEED is a number"));
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64 % 1_000_000_000);
    let seed: u64 = given.unwrap_or_else(now);
    report(&format!("random graphs: STRIDEWISE_SEED={seed}"));
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases: GRAPHS, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (oracle, ops) = (Oracle::new(), RefCell::new(BTreeMap::<&str, usize>::new()));
    let result = runner.run(&recipes(), |recipe: Recipe| {
        let (graph, inputs) = build(&recipe);
        graph.nodes().iter().for_each(|node| *ops.borrow_mut().entry(node.op.name()).or_default() += 1);
        let setups = some_setups(&mut Random(recipe.seed));
        oracle.check(&graph, &inputs, &setups).map_err(|difference| TestCaseError::fail(format!("{difference}\n{}", describe(&graph))))
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    let ops = ops.into_inner();
    let (nodes, sessions): (usize, usize) = (ops.values().sum(), oracle.sessions.get());
    report(&format!("{GRAPHS} random graphs of {nodes} nodes, {} different ops, in {sessions} sessions", ops.len()));
    for (precision, worst) in PRECISIONS.iter().zip(&oracle.worst) {
        report(&format!("the largest difference in {precision} is {:.2} of what is allowed", worst.get()));
    }
}
