//! A graph and an input shape become a list of steps in which everything is decided: algorithm, layout, place in memory, share
//! of each thread, packed weights. A session walks the list.

mod algorithm;
mod layout;
mod memory;
mod step;

pub use algorithm::Numerics;
pub(crate) use step::Step;
pub use step::StepInfo;

use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Node, Op, ScaledWeight, ValueId};
use crate::model::PackedCache;
use crate::tensor::Shape;
use layout::{Buffers, problem_of};
use memory::Lifetime;
use std::ops::Range;
use std::sync::Arc;
use step::Compute;
use stridewise_kernels::conv::{Algorithm, Conv, Order, PackedWeights, schedule_prefetch};
use stridewise_kernels::elementwise::Elementwise;
use stridewise_kernels::pool::{Pool, Reduction, Windows};
use stridewise_kernels::{Executor, Geometry, KernelTable, Layout};

/// Everything that a run of one graph at one input shape needs, but the memory.
pub(crate) struct Plan {
    pub input_shape: Shape,
    pub output_shape: Shape,
    /// Where the input goes, and how.
    pub input: (Range<usize>, Geometry),
    /// Where the output is found, and how.
    pub output: (Range<usize>, Geometry),
    pub steps: Vec<Step>,
    /// Elements of the arena.
    pub arena: usize,
    /// Elements of the scratch memory of all threads.
    pub scratch: usize,
    /// Bytes of the packed weights that the steps use.
    pub weight_bytes: usize,
}

/// Weights of a network that a level-3 cache may keep between two runs.
const RESIDENT_BYTES: usize = 8 << 20;

/// What a plan is made for.
pub(crate) struct Request<'a> {
    pub batch: usize,
    pub size: [usize; 2],
    pub table: &'static KernelTable,
    pub numerics: Numerics,
    pub executor: &'a dyn Executor,
    /// Bytes that arena, scratch and packed weights may take together.
    pub max_memory: usize,
}

impl Plan {
    pub fn new(graph: &Graph, request: &Request<'_>, packed: &PackedCache) -> Result<Plan> {
        let &[output] = graph.outputs() else {
            let reason = format!("a session returns one output; the graph has {}", graph.outputs().len());
            return Err(Error::Graph { node: graph.name.clone(), reason });
        };
        let shapes = graph.infer_shapes(request.batch, request.size)?;
        let buffers = layout::assign(graph, &shapes, request.numerics)?;
        let (slots, in_place) = lifetimes(graph, &buffers, output);
        let (offsets, arena) = memory::place(&slots.lifetimes).ok_or_else(|| Error::TooLarge {
            what: format!("the activations of {} at batch {}, size {:?}", graph.name, request.batch, request.size),
            requested: "more than the address space holds".into(),
            limit: format!("{} bytes", request.max_memory),
        })?;
        let place = |value: ValueId| {
            let root = buffers.root[value.0];
            let offset = offsets[slots.of_value[root.0]];
            offset..offset + buffers.geometry[root.0].len()
        };
        check_memory(graph, &buffers, request, arena)?;

        let mut plan = Plan {
            input_shape: shapes[graph.input().value.0],
            output_shape: shapes[output.0],
            input: (place(graph.input().value), buffers.geometry_of(graph.input().value)),
            output: (place(output), buffers.geometry_of(output)),
            steps: Vec::new(),
            arena,
            scratch: 0,
            weight_bytes: 0,
        };
        let builder = Builder { graph, shapes: &shapes, buffers: &buffers, request, packed };
        for (index, node) in graph.nodes().iter().enumerate() {
            let root = buffers.root[node.output.0];
            if root != node.output {
                // Another name of what an earlier step wrote, not always the last one; of the graph's input there is no step.
                if let Some(step) = plan.steps.iter_mut().find(|step| step.value.0 == root) {
                    step.aliases.push((node.output, shapes[node.output.0]));
                }
                continue;
            }
            let (compute, info) = builder.step(index, node)?;
            if let Compute::Conv(conv) = &compute {
                let per_thread = conv.scratch_per_thread();
                plan.scratch = plan.scratch.max(per_thread.saturating_mul(request.executor.threads()));
                plan.weight_bytes += conv.weight_bytes();
            }
            plan.steps.push(Step {
                compute,
                inputs: node.inputs.iter().map(|&v| place(v)).collect(),
                output: place(node.output),
                in_place: in_place[index],
                geometry: buffers.geometry_of(node.output),
                value: (node.output, shapes[node.output.0]),
                aliases: Vec::new(),
                info,
            });
        }
        plan.prefetch_weights();
        // Scratch depends on the algorithms' tiles, so it is known only now; nothing of it is allocated yet.
        within_limit(graph, request, plan.memory().saturating_add(plan.weight_bytes))?;
        Ok(plan)
    }

    /// The convolutions bring each other's weights into cache, unless those of all stay there from run to run.
    fn prefetch_weights(&mut self) {
        if self.weight_bytes <= RESIDENT_BYTES {
            return;
        }
        let convs = self.steps.iter_mut().filter_map(|step| match &mut step.compute {
            Compute::Conv(conv) => Some(&mut **conv),
            _ => None,
        });
        schedule_prefetch(&mut convs.collect::<Vec<_>>());
    }

    /// Bytes of arena and scratch memory.
    pub fn memory(&self) -> usize {
        self.arena.saturating_add(self.scratch).saturating_mul(size_of::<f32>())
    }
}

/// Which slot of the arena each value is in.
struct Slots {
    of_value: Vec<usize>,
    lifetimes: Vec<Lifetime>,
}

/// The slots of the arena, and for each node whether its output takes the place of its residual.
///
/// Step i runs at time i + 1; the input is written at 0, the output read after all.
fn lifetimes(graph: &Graph, buffers: &Buffers, output: ValueId) -> (Slots, Vec<bool>) {
    let end = graph.nodes().len() + 1;
    let mut last_use = vec![0; graph.value_count()];
    for (index, node) in graph.nodes().iter().enumerate() {
        for value in &node.inputs {
            let root = buffers.root[value.0].0;
            last_use[root] = last_use[root].max(index + 1);
        }
    }
    last_use[buffers.root[output.0].0] = end;
    let mut slots = Slots { of_value: vec![usize::MAX; graph.value_count()], lifetimes: Vec::new() };
    let open = |slots: &mut Slots, value: ValueId, now: usize| {
        slots.of_value[value.0] = slots.lifetimes.len();
        let len = buffers.geometry[value.0].len();
        slots.lifetimes.push(Lifetime { len, first: now, last: last_use[value.0].max(now) });
    };
    open(&mut slots, graph.input().value, 0);
    let mut in_place = vec![false; graph.nodes().len()];
    for (index, node) in graph.nodes().iter().enumerate() {
        let now = index + 1;
        if buffers.root[node.output.0] != node.output {
            continue;
        }
        let residual = match (&node.op, node.inputs.as_slice()) {
            (Op::Conv { .. }, &[x, residual]) => Some((buffers.root[x.0], buffers.root[residual.0])),
            _ => None,
        };
        match residual {
            Some((x, residual))
                if x != residual && last_use[residual.0] == now && buffers.geometry[residual.0] == buffers.geometry[node.output.0] =>
            {
                let slot = slots.of_value[residual.0];
                slots.of_value[node.output.0] = slot;
                slots.lifetimes[slot].last = last_use[node.output.0].max(now);
                in_place[index] = true;
            }
            _ => open(&mut slots, node.output, now),
        }
    }
    (slots, in_place)
}

/// Holds arena and packed weights against the limit, before anything is allocated.
fn check_memory(graph: &Graph, buffers: &Buffers, request: &Request<'_>, arena: usize) -> Result<()> {
    let mut bytes = arena.saturating_mul(size_of::<f32>());
    for node in graph.nodes() {
        let Some(&x) = node.inputs.first() else { continue };
        let g = buffers.geometry_of(x);
        if let Some(problem) = problem_of(node, g.dims()) {
            let algorithm = algorithm::choose(&problem, g.layout(), request.numerics).algorithm;
            let needed = PackedWeights::bytes_needed(request.table, &problem, algorithm, g.layout());
            let refuse = |e: stridewise_kernels::Error| Error::Graph { node: node.name.clone(), reason: e.to_string() };
            bytes = bytes.saturating_add(needed.map_err(refuse)?);
        }
    }
    within_limit(graph, request, bytes)
}

fn within_limit(graph: &Graph, request: &Request<'_>, bytes: usize) -> Result<()> {
    if bytes <= request.max_memory {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: format!(
            "memory for {} at batch {}, size {:?} (activations, scratch and packed weights)",
            graph.name, request.batch, request.size
        ),
        requested: format!("{bytes} bytes"),
        limit: format!("{} bytes (SessionOptions::max_memory)", request.max_memory),
    })
}

/// What the steps of one plan are built from.
struct Builder<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    buffers: &'a Buffers,
    request: &'a Request<'a>,
    packed: &'a PackedCache,
}

impl Builder<'_> {
    fn step(&self, index: usize, node: &Node) -> Result<(Compute, StepInfo)> {
        let refuse = |reason: String| Error::Graph { node: node.name.clone(), reason };
        let &x = node.inputs.first().ok_or_else(|| refuse("no input".into()))?;
        let (input, output) = (self.buffers.geometry_of(x), self.buffers.geometry_of(node.output));
        let table = self.request.table;
        let mut info = StepInfo {
            name: node.name.clone(),
            value: self.graph.values[node.output.0].name.clone(),
            op: node.op.name(),
            input: self.shapes[x.0],
            output: self.shapes[node.output.0],
            isa: table.isa(),
            ..StepInfo::empty(self.shapes[x.0])
        };
        let windows = |axis: usize, pool: &crate::graph::PoolAttributes, size: usize, count: usize, padding: bool| {
            Windows::sliding(size, [pool.kernel[axis], pool.stride[axis]], [pool.pads[axis], pool.pads[axis + 2]], count, padding)
        };
        let pool =
            |reduction, rows, columns| -> Result<Compute> { Ok(Compute::Pool(Pool::new(reduction, input, output, rows, columns, table)?)) };
        let compute = match &node.op {
            Op::Conv { weight, bias, activation, .. } | Op::Gemm { weight, bias, activation } => {
                let problem = problem_of(node, input.dims())
                    .ok_or_else(|| refuse(format!("weights of shape {} are no convolution", weight.shape())))?;
                let choice = algorithm::choose(&problem, input.layout(), self.request.numerics);
                let bias = bias.as_ref().map(|b| b.as_slice());
                let weights = self.packed.get(
                    index,
                    table,
                    &problem,
                    choice.algorithm,
                    input.layout(),
                    &weight.source(&node.name),
                    bias,
                    self.request.executor,
                )?;
                let residual = node.inputs.get(1).map(|&r| self.buffers.geometry_of(r));
                let threads = self.request.executor.threads();
                let conv = Conv::new(problem, choice.algorithm, input, output, residual, weights, clamp(*activation), threads)?;
                info.describe_conv(&conv, choice.reason, residual.is_some(), *activation);
                Compute::Conv(Box::new(conv))
            }
            Op::BatchNormalization { scale, bias, mean, variance, epsilon } => {
                let mut scales = Vec::with_capacity(input.c());
                let mut shifts = Vec::with_capacity(input.c());
                let columns = scale.as_slice().iter().zip(bias.as_slice()).zip(mean.as_slice().iter().zip(variance.as_slice()));
                for ((gamma, beta), (mean, variance)) in columns {
                    let factor = f64::from(*gamma) / (f64::from(*variance) + epsilon).sqrt();
                    scales.push(factor as f32);
                    shifts.push((f64::from(*beta) - f64::from(*mean) * factor) as f32);
                }
                Compute::Elementwise(Elementwise::affine(input, output, &scales, &shifts, clamp(Activation::None), table)?)
            }
            Op::Activation(activation) => Compute::Elementwise(Elementwise::clamp(input, output, clamp(*activation), table)?),
            Op::Add(activation) => {
                let &other = node.inputs.get(1).ok_or_else(|| refuse("a sum needs two inputs".into()))?;
                Compute::Elementwise(Elementwise::add(input, self.buffers.geometry_of(other), output, clamp(*activation), table)?)
            }
            Op::MaxPool(p) => {
                pool(Reduction::Maximum, windows(0, p, input.h(), output.h(), false)?, windows(1, p, input.w(), output.w(), false)?)?
            }
            Op::AveragePool { pool: p, count_include_pad } => pool(
                Reduction::Mean,
                windows(0, p, input.h(), output.h(), *count_include_pad)?,
                windows(1, p, input.w(), output.w(), *count_include_pad)?,
            )?,
            Op::GlobalAveragePool => pool(Reduction::Mean, Windows::adaptive(input.h(), 1)?, Windows::adaptive(input.w(), 1)?)?,
            Op::AdaptiveAveragePool([oh, ow]) => {
                pool(Reduction::Mean, Windows::adaptive(input.h(), *oh)?, Windows::adaptive(input.w(), *ow)?)?
            }
            Op::Slice { step } => Compute::Copy { from: input, step: *step, before: 0, to: output },
            Op::Pad { before, .. } => Compute::Copy { from: input, step: [1, 1], before: *before, to: output },
            Op::Flatten => Compute::Flatten { from: input, to: output },
            Op::Softmax => Compute::Softmax { from: input, to: output },
            Op::Identity | Op::Dropout => return Err(refuse("shares its input's buffer and is no step".into())),
        };
        Ok((compute, info))
    }
}

/// The bounds that an activation is to a kernel.
fn clamp(activation: Activation) -> (f32, f32) {
    match activation {
        Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
        Activation::Relu => (0.0, f32::INFINITY),
        Activation::Clamp(low, high) => (low, high),
    }
}

/// Which weights a packing was made from, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PackedKey {
    node: usize,
    isa: stridewise_kernels::Isa,
    order: Order,
    layout: Layout,
    kernel: [usize; 2],
}

impl PackedCache {
    #[allow(clippy::too_many_arguments)]
    fn get(
        &self,
        node: usize,
        table: &'static KernelTable,
        problem: &stridewise_kernels::ConvProblem,
        algorithm: Algorithm,
        layout: Layout,
        weight: &ScaledWeight<'_>,
        bias: Option<&[f32]>,
        executor: &dyn Executor,
    ) -> Result<Arc<PackedWeights>> {
        let key = PackedKey { node, isa: table.isa(), order: algorithm.weight_order(), layout, kernel: problem.kernel };
        self.get_or_insert(key, || PackedWeights::pack_from(table, problem, algorithm, layout, weight, bias, executor))
    }
}
