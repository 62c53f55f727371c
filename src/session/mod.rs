//! A planned network with its memory: what runs.

mod explain;
mod limits;
mod pool;
mod profile;
mod team;

pub use crate::plan::{Numerics, StepInfo};
pub use limits::CancelToken;
pub use pool::{MAX_THREADS, ThreadPool};
pub use profile::{Profile, StepTimes};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::plan::{self, Plan, Request};
use crate::tensor::{Shape, Tensor, TensorView};
use limits::Limits;
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
    /// Most bytes that activations, scratch and packed weights of a plan may take together. While another shape is planned, the
    /// activations and scratch of the plan before are still there.
    pub max_memory: usize,
    /// N that is planned at first.
    pub batch: usize,
    /// H and W that are planned at first; `None` for those that the network was made for.
    pub size: Option<[usize; 2]>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { threads: Threads::Count(1), isa: None, numerics: Numerics::Fast, max_memory: 8 << 30, batch: 1, size: None }
    }
}

/// Called with nothing when the input is in its buffer, then after each step with the step and the buffer that it wrote.
type Observer<'a> = dyn FnMut(Option<(&plan::Step, &[f32])>) -> Result<()> + 'a;

/// One caller's running network: its plan, its arena, its threads. `Send`; one run at a time.
pub struct Session {
    model: Model,
    pool: ThreadPool,
    table: &'static KernelTable,
    numerics: Numerics,
    max_memory: usize,
    plan: Plan,
    arena: AlignedBuffer,
    scratch: AlignedBuffer,
    limits: Limits,
}

impl Session {
    pub(crate) fn new(model: Model, options: &SessionOptions) -> Result<Session> {
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
        let size = options.size.unwrap_or(model.graph().input().size);
        let request =
            Request { batch: options.batch, size, table, numerics: options.numerics, executor: &pool, max_memory: options.max_memory };
        let plan = Plan::new(model.graph(), &request, model.packed())?;
        let [arena, scratch] = buffers(&plan)?;
        Ok(Session {
            model,
            pool,
            table,
            numerics: options.numerics,
            max_memory: options.max_memory,
            plan,
            arena,
            scratch,
            limits: Limits::default(),
        })
    }

    /// Runs the network on NCHW `input`; returns its output, `[N, classes]` for a classifier. Another batch or image size than
    /// the last run's is planned anew.
    ///
    /// # Errors
    /// When the input is not NCHW with the network's channels, or its size does not fit the network.
    pub fn run(&mut self, input: &Tensor<f32>) -> Result<Tensor<f32>> {
        self.plan_for(input.shape())?;
        let mut output = Tensor::zeros(self.plan.output_shape)?;
        self.run_into(input.view(), &mut output)?;
        Ok(output)
    }

    /// Runs the network into a tensor that the caller owns. Allocates nothing and takes no lock but the pool's turn.
    ///
    /// # Errors
    /// When `input` or `output` has another shape than [`Session::input_shape`] or [`Session::output_shape`].
    pub fn run_into(&mut self, input: TensorView<'_, f32>, output: &mut Tensor<f32>) -> Result<()> {
        self.execute(input, output, &mut |_| Ok(()))
    }

    /// Like [`Session::run`], and hands the value of every step, NCHW, to `tap` with its name. Values that fusion made
    /// disappear (a BatchNorm's input, say) are not seen.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_with_taps(&mut self, input: &Tensor<f32>, tap: &mut dyn FnMut(&str, Tensor<f32>)) -> Result<Tensor<f32>> {
        self.plan_for(input.shape())?;
        let mut output = Tensor::zeros(self.plan.output_shape)?;
        let model = self.model.clone();
        let pool = self.pool.clone();
        self.execute(input.view(), &mut output, &mut |written| {
            let Some((step, buffer)) = written else { return Ok(()) };
            for (value, shape) in std::iter::once(&step.value).chain(&step.aliases) {
                let mut tensor = Tensor::zeros(*shape)?;
                layout::to_nchw(&pool, buffer, &step.geometry, tensor.as_mut_slice())?;
                tap(&model.graph().values[value.0].name, tensor);
            }
            Ok(())
        })?;
        Ok(output)
    }

    fn execute(&mut self, input: TensorView<'_, f32>, output: &mut Tensor<f32>, observe: &mut Observer<'_>) -> Result<()> {
        let mismatch = |what: &str, expected: Shape, found: Shape| Error::Shape {
            what: what.into(),
            expected: expected.to_string(),
            found: found.to_string(),
        };
        if input.shape() != self.plan.input_shape {
            return Err(mismatch("input", self.plan.input_shape, input.shape()));
        }
        if output.shape() != self.plan.output_shape {
            return Err(mismatch("output", self.plan.output_shape, output.shape()));
        }
        self.pool.check_process()?;
        let watch = self.limits.start();
        let (place, geometry) = &self.plan.input;
        layout::from_nchw(&self.pool, input.as_slice(), geometry, &mut self.arena[place.clone()])?;
        observe(None)?;
        for step in &self.plan.steps {
            watch.check(&step.info.name)?;
            step.run(&self.pool, &mut self.arena, &mut self.scratch)?;
            observe(Some((step, &self.arena[step.output.clone()])))?;
        }
        let (place, geometry) = &self.plan.output;
        layout::to_nchw(&self.pool, &self.arena[place.clone()], geometry, output.as_mut_slice())?;
        Ok(())
    }

    /// Plans for another input shape if it is another one. On an error the session keeps the plan that it had.
    fn plan_for(&mut self, shape: Shape) -> Result<()> {
        if shape == self.plan.input_shape {
            return Ok(());
        }
        self.pool.check_process()?;
        let channels = self.model.graph().input().channels;
        let [batch, h, w] = match *shape.dims() {
            [batch, c, h, w] if c == channels => [batch, h, w],
            _ => {
                let (expected, found) = (format!("[N, {channels}, H, W]"), shape.to_string());
                return Err(Error::Shape { what: "input".into(), expected, found });
            }
        };
        let request =
            Request { batch, size: [h, w], table: self.table, numerics: self.numerics, executor: &self.pool, max_memory: self.max_memory };
        let plan = Plan::new(self.model.graph(), &request, self.model.packed())?;
        let [arena, scratch] = buffers(&plan)?;
        (self.plan, self.arena, self.scratch) = (plan, arena, scratch);
        Ok(())
    }

    /// The NCHW shape that is planned.
    pub fn input_shape(&self) -> Shape {
        self.plan.input_shape
    }

    /// The shape of the output for that input.
    pub fn output_shape(&self) -> Shape {
        self.plan.output_shape
    }

    /// What the plan decided, step by step.
    pub fn steps(&self) -> Vec<StepInfo> {
        self.plan.steps.iter().map(|s| s.info.clone()).collect()
    }

    /// Bytes of activations and scratch that this session holds.
    pub fn memory_required(&self) -> usize {
        self.plan.memory()
    }

    /// Bytes of packed weights that this session uses; sessions of one model share them.
    pub fn weight_bytes(&self) -> usize {
        self.plan.weight_bytes
    }

    /// Fast or exact.
    pub fn numerics(&self) -> Numerics {
        self.numerics
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.table.isa()
    }

    /// Threads in use, the calling one included.
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
