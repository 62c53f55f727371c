//! A planned network with its memory: what runs.

mod explain;
mod limits;
mod placement;
mod pool;
mod profile;
mod team;
mod tune;

pub use crate::plan::{Numerics, Precision, StepInfo, Tuning};
pub use limits::CancelToken;
pub use pool::{MAX_THREADS, ThreadPool};
pub use profile::{Profile, StepTimes};
pub use tune::TunedProblem;

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::model::{Model, PackedCache};
use crate::plan::{self, Arithmetic, Plan, Preference, Request, Setting, Source};
use crate::tensor::{Shape, Tensor, TensorView, TensorViewMut};
use limits::Limits;
use std::sync::Arc;
use stridewise_kernels::conv::Algorithm;
use stridewise_kernels::{AlignedBuffer, Executor, Isa, KernelTable, layout};

/// Which threads a session runs on.
#[derive(Clone, Debug)]
pub enum Threads {
    /// So many in all, the calling one included: 1 runs everything on the calling thread and touches no other.
    Count(usize),
    /// A pool that sessions share.
    Pool(ThreadPool),
}

impl From<usize> for Threads {
    fn from(count: usize) -> Threads {
        Threads::Count(count)
    }
}

impl From<ThreadPool> for Threads {
    fn from(pool: ThreadPool) -> Threads {
        Threads::Pool(pool)
    }
}

/// What a session is made for. `Default`: one thread, the best instruction set, batch 1, the network's own input size.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// Threads to run on.
    pub threads: Threads,
    /// Instruction set; `None` for the one that `STRIDEWISE_ISA` names, or else the best.
    pub isa: Option<Isa>,
    /// Fast or exact.
    pub numerics: Numerics,
    /// What activations and weights are rounded to.
    pub precision: Precision,
    /// Measured times by which algorithms are chosen, where they are complete; the rules of shape choose elsewhere. Results are then no
    /// longer the same for every number of threads and on every machine.
    pub tuning: Option<Arc<Tuning>>,
    /// Most bytes that activations, scratch, packed weights and tables of a plan may take together. While another shape is planned, the
    /// activations and scratch of the plan before are still there.
    pub max_memory: usize,
    /// N that is planned at first.
    pub batch: usize,
    /// H and W that are planned at first; `None` for those that the network was made for.
    pub size: Option<[usize; 2]>,
    /// Shapes of inputs, by name, that are planned at first, where batch and size do not say it all.
    pub shapes: Vec<(String, Vec<usize>)>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            threads: Threads::Count(1),
            isa: None,
            numerics: Numerics::Fast,
            precision: Precision::F32,
            tuning: None,
            max_memory: 8 << 30,
            batch: 1,
            size: None,
            shapes: Vec::new(),
        }
    }
}

/// Called with nothing when the input is in its buffer, then after each step with the step and the arena.
type Observer<'a> = dyn FnMut(Option<(&plan::Step, &[f32])>) -> Result<()> + 'a;

/// One caller's running network: its plan, its arena, its threads. `Send`; one run at a time.
pub struct Session {
    model: Model,
    /// What the plan was made of.
    graph: Arc<Graph>,
    pool: ThreadPool,
    table: &'static KernelTable,
    numerics: Numerics,
    precision: Precision,
    tuning: Option<Arc<Tuning>>,
    max_memory: usize,
    plan: Plan,
    arena: AlignedBuffer,
    scratch: AlignedBuffer,
    limits: Limits,
}

impl Session {
    pub(crate) fn new(model: Model, options: &SessionOptions) -> Result<Session> {
        let preference = options.tuning.as_deref().map_or(Preference::Rules, Preference::Tuned);
        Session::prepare(&model, options, preference, model.packed())
    }

    fn prepare(model: &Model, options: &SessionOptions, preference: Preference<'_>, packed: &PackedCache) -> Result<Session> {
        let isa = match options.isa {
            Some(isa) => isa.require()?,
            None => Isa::best()?,
        };
        let table = KernelTable::get(isa)?;
        let pool = match &options.threads {
            Threads::Count(count) => ThreadPool::new(*count)?,
            Threads::Pool(pool) => pool.clone(),
        };
        pool.check_process()?;
        let (numerics, max_memory) = (options.numerics, options.max_memory);
        let shapes = model.input_shapes(options.batch, options.size, &options.shapes)?;
        let graph = model.graph_for(&shapes)?;
        let arithmetic = model.arithmetic(options.precision, &graph, table)?;
        let request = Request { shapes, table, numerics, arithmetic, preference, executor: &pool, max_memory };
        let plan = Plan::new(&graph, &request, packed)?;
        let [arena, scratch] = buffers(&plan)?;
        let (model, tuning, limits) = (model.clone(), options.tuning.clone(), Limits::default());
        let precision = if matches!(request.arithmetic, Arithmetic::Int8(_)) { Precision::Int8 } else { options.precision };
        Ok(Session { model, graph, pool, table, numerics, precision, tuning, max_memory, plan, arena, scratch, limits })
    }

    /// Runs a network of one input and one output; `[N, C, H, W]` to `[N, classes]` for a classifier. Another shape than the last
    /// run's is planned anew.
    ///
    /// # Errors
    /// When the network has several inputs or outputs, or the input's shape does not fit it.
    pub fn run(&mut self, input: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.single()?;
        self.plan_for(&[input.shape()])?;
        let mut output = Tensor::zeros(self.output_shape())?;
        self.run_into(input.view(), &mut output)?;
        Ok(output)
    }

    /// Runs a network of one input and one output into a tensor that the caller owns. Allocates nothing and takes no lock but the
    /// pool's turn.
    ///
    /// # Errors
    /// When the network has several inputs or outputs, or `input` or `output` has another shape than [`Session::input_shape`] or
    /// [`Session::output_shape`].
    pub fn run_into(&mut self, input: TensorView<'_, f32>, output: &mut Tensor<f32>) -> Result<()> {
        self.single()?;
        self.execute(&[input], &mut [output.view_mut()], &mut |_| Ok(()))
    }

    /// Runs the network on all of its inputs, in any order and by name; returns its outputs with their names, in their order. Other
    /// shapes than the last run's are planned anew.
    ///
    /// # Errors
    /// When a name is unknown, comes twice or is missing, or a shape does not fit; the error names the input.
    pub fn run_named(&mut self, inputs: &[(&str, TensorView<'_, f32>)]) -> Result<Vec<(String, Tensor<f32>)>> {
        let views = self.in_order(inputs)?;
        let shapes: Vec<Shape> = views.iter().map(|view| view.shape()).collect();
        self.plan_for(&shapes)?;
        let mut outputs = self.plan.outputs.iter().map(|port| Tensor::zeros(port.shape)).collect::<Result<Vec<_>>>()?;
        let mut places: Vec<TensorViewMut<'_, f32>> = outputs.iter_mut().map(Tensor::view_mut).collect();
        self.execute(&views, &mut places, &mut |_| Ok(()))?;
        let names = self.output_names().iter().cloned();
        Ok(names.zip(outputs).collect())
    }

    /// Runs the network on all of its inputs, in their order, into buffers that the caller owns, in the order of the outputs.
    /// Allocates nothing and takes no lock but the pool's turn.
    ///
    /// # Errors
    /// When there are more or fewer, or one has another shape than what is planned; the error names it.
    pub fn run_all_into(&mut self, inputs: &[TensorView<'_, f32>], outputs: &mut [TensorViewMut<'_, f32>]) -> Result<()> {
        self.execute(inputs, outputs, &mut |_| Ok(()))
    }

    /// Like [`Session::run`], and hands the value of every step, row-major, to `tap` with its name. Values that fusion made
    /// disappear (a BatchNorm's input, say) are not seen.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with_taps(&mut self, input: &Tensor<f32>, tap: &mut dyn FnMut(&str, Tensor<f32>)) -> Result<Tensor<f32>> {
        self.single()?;
        self.plan_for(&[input.shape()])?;
        let mut output = Tensor::zeros(self.output_shape())?;
        let graph = self.graph.clone();
        let (pool, table) = (self.pool.clone(), self.table);
        self.execute(&[input.view()], &mut [output.view_mut()], &mut |written| {
            let Some((step, arena)) = written else { return Ok(()) };
            for written in &step.written {
                let mut tensor = Tensor::zeros(written.shape)?;
                written.read(&pool, table, arena, tensor.as_mut_slice())?;
                tap(&graph.values[written.value.0].name, tensor);
            }
            Ok(())
        })?;
        Ok(output)
    }

    fn execute(
        &mut self,
        inputs: &[TensorView<'_, f32>],
        outputs: &mut [TensorViewMut<'_, f32>],
        observe: &mut Observer<'_>,
    ) -> Result<()> {
        let pool = self.pool.clone();
        self.execute_on(&pool, inputs, outputs, observe)
    }

    fn execute_on(
        &mut self,
        executor: &dyn Executor,
        inputs: &[TensorView<'_, f32>],
        outputs: &mut [TensorViewMut<'_, f32>],
        observe: &mut Observer<'_>,
    ) -> Result<()> {
        self.check_shapes(inputs, outputs)?;
        self.pool.check_process()?;
        let pool = self.pool.clone();
        let _running = pool.running();
        let watch = self.limits.start();
        for (port, input) in self.plan.inputs.iter().zip(inputs) {
            if let Some((Source::Arena(place), geometry)) = &port.place {
                layout::from_nchw(executor, input.as_slice(), geometry, &mut self.arena[place.clone()])?;
            }
        }
        observe(None)?;
        for step in &self.plan.steps {
            watch.check(&step.info.name)?;
            step.run(executor, inputs, &mut self.arena, &self.plan.constants, &mut self.scratch)?;
            observe(Some((step, &self.arena)))?;
        }
        for (port, output) in self.plan.outputs.iter().zip(outputs) {
            let Some((source, geometry)) = &port.place else { continue };
            let from = match source {
                Source::Arena(place) => &self.arena[place.clone()],
                Source::Constant(constant) => &self.plan.constants[*constant][..],
                Source::Input(_) | Source::Packed => &[],
            };
            layout::to_nchw(executor, from, geometry, output.as_mut_slice())?;
        }
        Ok(())
    }

    /// Holds the tensors of a run against the plan.
    fn check_shapes(&self, inputs: &[TensorView<'_, f32>], outputs: &[TensorViewMut<'_, f32>]) -> Result<()> {
        let count = |what: &str, expected: usize, found: usize| match expected == found {
            true => Ok(()),
            false => {
                let what = format!("the {what} of {}", self.model.graph().name);
                Err(Error::Shape { what, expected: format!("{expected} tensors"), found: format!("{found} tensors") })
            }
        };
        count("inputs", self.plan.inputs.len(), inputs.len())?;
        count("outputs", self.plan.outputs.len(), outputs.len())?;
        let check = |kind: &str, name: Option<&String>, expected: Shape, found: Shape| match expected == found {
            true => Ok(()),
            false => {
                let several = self.plan.inputs.len() > 1 || self.plan.outputs.len() > 1;
                let what = name.filter(|_| several).map_or_else(|| kind.into(), |name| format!("{kind} `{name}`"));
                Err(Error::Shape { what, expected: expected.to_string(), found: found.to_string() })
            }
        };
        for (index, (port, input)) in self.plan.inputs.iter().zip(inputs).enumerate() {
            check("input", self.graph.inputs().get(index).map(|input| &input.name), port.shape, input.shape())?;
        }
        for (index, (port, output)) in self.plan.outputs.iter().zip(outputs).enumerate() {
            check("output", self.output_names().get(index), port.shape, output.shape())?;
        }
        Ok(())
    }

    /// Tensors that are named, in the order of the inputs.
    fn in_order<'t>(&self, named: &[(&str, TensorView<'t, f32>)]) -> Result<Vec<TensorView<'t, f32>>> {
        let inputs = self.graph.inputs();
        let refuse = |name: &str, reason: String| Error::InvalidArgument { argument: format!("input `{name}`"), reason };
        for (index, (name, _)) in named.iter().enumerate() {
            if inputs.iter().all(|input| input.name != *name) {
                let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
                return Err(refuse(name, format!("no input has this name; there are {}", names.join(", "))));
            }
            if named[..index].iter().any(|(before, _)| before == name) {
                return Err(refuse(name, "it is given twice".into()));
            }
        }
        let find = |name: &str| named.iter().find(|(given, _)| *given == name).map(|(_, view)| *view);
        inputs.iter().map(|input| find(&input.name).ok_or_else(|| refuse(&input.name, "it is missing".into()))).collect()
    }

    fn single(&self) -> Result<()> {
        match (self.plan.inputs.len(), self.plan.outputs.len()) {
            (1, 1) => Ok(()),
            (inputs, outputs) => {
                let count = |n: usize, kind: &str| format!("{n} {kind}{}", if n == 1 { "" } else { "s" });
                let reason = format!(
                    "it has {} and {}; this takes a network of one each, and several are given by name",
                    count(inputs, "input"),
                    count(outputs, "output")
                );
                Err(Error::InvalidArgument { argument: format!("network {}", self.model.graph().name), reason })
            }
        }
    }

    /// Plans for other input shapes if they are others. On an error the session keeps the plan that it had.
    fn plan_for(&mut self, shapes: &[Shape]) -> Result<()> {
        if self.plan.inputs.iter().map(|port| port.shape).eq(shapes.iter().copied()) {
            return Ok(());
        }
        self.pool.check_process()?;
        let graph = self.model.graph_for(shapes)?;
        let request = Request {
            shapes: shapes.to_vec(),
            table: self.table,
            numerics: self.numerics,
            arithmetic: self.model.arithmetic(self.precision, &graph, self.table)?,
            preference: self.tuning.as_deref().map_or(Preference::Rules, Preference::Tuned),
            executor: &self.pool,
            max_memory: self.max_memory,
        };
        let plan = Plan::new(&graph, &request, self.model.packed())?;
        let [arena, scratch] = buffers(&plan)?;
        (self.graph, self.plan, self.arena, self.scratch) = (graph, plan, arena, scratch);
        Ok(())
    }

    /// The shape of the first input that is planned; that of a scalar where there is none.
    pub fn input_shape(&self) -> Shape {
        self.plan.inputs.first().map_or(Shape::SCALAR, |port| port.shape)
    }

    /// The shape of the first output for that input.
    pub fn output_shape(&self) -> Shape {
        self.plan.outputs.first().map_or(Shape::SCALAR, |port| port.shape)
    }

    /// The shapes of all inputs that are planned, in their order.
    pub fn input_shapes(&self) -> Vec<Shape> {
        self.plan.inputs.iter().map(|port| port.shape).collect()
    }

    /// The shapes of all outputs for those inputs, in their order.
    pub fn output_shapes(&self) -> Vec<Shape> {
        self.plan.outputs.iter().map(|port| port.shape).collect()
    }

    /// The names of all inputs, in their order.
    pub fn input_names(&self) -> Vec<&str> {
        self.graph.inputs().iter().map(|input| input.name.as_str()).collect()
    }

    /// The names of all outputs, in their order.
    pub fn output_names(&self) -> &[String] {
        self.graph.output_names()
    }

    /// For each step that is a convolution what its time depends on, and its algorithm.
    fn convolutions(&self) -> Vec<Option<(Setting, Algorithm)>> {
        let (isa, threads) = (self.isa(), self.threads());
        let setting = |(problem, layout, algorithm)| (Setting { isa, threads, layout, problem }, algorithm);
        self.plan.convolutions().map(|conv| conv.map(|(problem, layout, algorithm)| setting((*problem, layout, algorithm)))).collect()
    }

    /// What the plan decided, step by step.
    pub fn steps(&self) -> Vec<StepInfo> {
        self.plan.steps.iter().map(|s| s.info.clone()).collect()
    }

    /// Bytes of activations and scratch that this session holds.
    pub fn memory_required(&self) -> usize {
        self.plan.memory()
    }

    /// Of those, bytes of the arena that the activations share; the rest is scratch memory of the threads.
    pub fn arena_bytes(&self) -> usize {
        self.plan.arena * size_of::<f32>()
    }

    /// Bytes of packed weights and constants that this session uses; sessions of one model share packed weights.
    pub fn weight_bytes(&self) -> usize {
        self.plan.weight_bytes
    }

    /// Fast or exact.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// What activations and weights are rounded to.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.table.isa()
    }

    /// Threads that share the work. Where they are the library's own, the calling one is among them.
    pub fn threads(&self) -> usize {
        Executor::threads(&self.pool)
    }

    /// The plan as a table for people: per step its shape, multiply-accumulates, algorithm, tile, epilogue, threads and why.
    pub fn explain(&self) -> String {
        explain::table(self)
    }
}

/// The memory of a plan: arena and scratch, their pages in place before the first run.
fn buffers(plan: &Plan) -> Result<[AlignedBuffer; 2]> {
    let mut buffers = [AlignedBuffer::zeros(plan.arena)?, AlignedBuffer::zeros(plan.scratch)?];
    buffers.iter_mut().for_each(AlignedBuffer::touch);
    Ok(buffers)
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({:?}, {}, {}, {} threads)", self.model, self.input_shape(), self.isa(), self.threads())
    }
}
