//! A graph and an input shape become a list of steps in which everything is decided: algorithm, layout, place in memory, share
//! of each thread, packed weights. A session walks the list.

mod algorithm;
mod blocked;
mod builder;
mod concat;
mod layout;
mod memory;
mod precision;
mod quantized;
mod schedule;
mod step;
mod tuning;

pub use algorithm::Numerics;
pub(crate) use algorithm::candidates;
pub(crate) use builder::PackedKey;
pub(crate) use precision::Arithmetic;
pub use precision::Precision;
pub use step::StepInfo;
pub(crate) use step::{Source, Step};
pub(crate) use tuning::Setting;
pub use tuning::Tuning;

use crate::error::{Error, Result};
use crate::graph::{Graph, Op, TensorOp, ValueId};
use crate::model::PackedCache;
use crate::tensor::Shape;
use builder::Builder;
use layout::{Form, Forms};
use schedule::{Call, Operand, Schedule};
use step::{Compute, Written};
use stridewise_kernels::blocked::Channels;
use stridewise_kernels::conv::{Algorithm, PackedWeights, schedule_prefetch};
use stridewise_kernels::{AlignedBuffer, BLOCK, ConvProblem, Executor, Geometry, KernelTable, Layout, layout as copies};

/// Where an input goes, or an output is found.
pub(crate) struct Port {
    pub shape: Shape,
    /// Nowhere if it has no elements. An input that steps read as it is given goes to itself.
    pub place: Option<(Source, Geometry)>,
}

/// Everything that a run of one graph for given shapes of its inputs needs, but the memory.
pub(crate) struct Plan {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub steps: Vec<Step>,
    /// What steps read and no step writes, as their kernels read it.
    pub constants: Vec<AlignedBuffer>,
    /// Elements of the arena.
    pub arena: usize,
    /// Elements of the scratch memory of all threads.
    pub scratch: usize,
    /// Bytes of the packed weights and constants that the steps use.
    pub weight_bytes: usize,
}

/// Weights of a network that a level-3 cache may keep between two runs.
const RESIDENT_BYTES: usize = 8 << 20;

/// What a plan is made for.
pub(crate) struct Request<'a> {
    /// Of all inputs.
    pub shapes: Vec<Shape>,
    pub table: &'static KernelTable,
    pub numerics: Numerics,
    pub arithmetic: Arithmetic,
    pub preference: Preference<'a>,
    pub executor: &'a dyn Executor,
    /// Bytes that arena, scratch, packed weights and constants may take together.
    pub max_memory: usize,
}

/// What comes before the rules by which algorithms are chosen.
#[derive(Clone, Copy)]
pub(crate) enum Preference<'a> {
    /// Nothing.
    Rules,
    /// The fastest where all candidates were measured.
    Tuned(&'a Tuning),
    /// One algorithm wherever it is a candidate.
    Trial(Algorithm),
}

impl Request<'_> {
    /// What a measured time depends on.
    pub fn setting(&self, problem: &ConvProblem, input: Layout) -> Setting {
        Setting { isa: self.table.isa(), threads: self.executor.threads(), layout: input, problem: *problem }
    }
}

impl Plan {
    pub fn new(graph: &Graph, request: &Request<'_>, packed: &PackedCache) -> Result<Plan> {
        let shapes = graph.infer_shapes_for(&request.shapes)?;
        let tables = graph.table_bytes(&shapes, request.max_memory, request.table)?;
        let forms = Forms::of(graph, &shapes, request)?;
        let mut schedule = Schedule::new(graph, &shapes, &forms)?;
        let (slots, lifetimes) = schedule.slots(|call| may_replace(graph, &forms, call));
        let (offsets, arena) = memory::place(&lifetimes).ok_or_else(|| Error::TooLarge {
            what: format!("the activations of {}", described(graph, request)),
            requested: "more than the address space holds".into(),
            limit: format!("{} bytes", request.max_memory),
        })?;
        check_memory(graph, &shapes, &forms, &schedule, request, [arena, tables])?;

        let place = |buffer: usize| {
            let offset = offsets[slots[buffer]] + schedule.parts[buffer].map_or(0, |(_, offset)| offset);
            offset..offset + schedule.buffers[buffer].len()
        };
        let source = |operand: &Operand| match *operand {
            Operand::Buffer(buffer) => schedule.caller_input(buffer).map_or_else(|| Source::Arena(place(buffer)), Source::Input),
            Operand::Constant(constant) => Source::Constant(constant),
            Operand::Packed => Source::Packed,
        };
        let port = |value: ValueId, operand: Option<Operand>| {
            let place = operand.and_then(|operand| Some((source(&operand), schedule.geometry(&operand)?)));
            Port { shape: shapes[value.0], place }
        };
        let mut plan = Plan {
            inputs: graph.inputs().iter().zip(&schedule.inputs).map(|(i, buffer)| port(i.value, buffer.map(Operand::Buffer))).collect(),
            outputs: graph.outputs().iter().zip(&schedule.outputs).map(|(value, operand)| port(*value, *operand)).collect(),
            steps: Vec::with_capacity(schedule.calls.len()),
            constants: Vec::with_capacity(schedule.constants.len()),
            arena,
            scratch: 0,
            weight_bytes: 0,
        };
        for constant in &schedule.constants {
            let mut buffer = AlignedBuffer::zeros(constant.geometry.len())?;
            copies::from_nchw(request.executor, constant.tensor.as_slice(), &constant.geometry, &mut buffer)?;
            plan.weight_bytes = plan.weight_bytes.saturating_add(buffer.len() * size_of::<f32>());
            plan.constants.push(buffer);
        }
        let builder = Builder { graph, shapes: &shapes, forms: &forms, schedule: &schedule, request, packed };
        for call in &schedule.calls {
            let (compute, mut info) = builder.step(call)?;
            info.layout = schedule.buffers[call.output].layout().name();
            plan.scratch = plan.scratch.max(compute.scratch_len(request.executor.threads()));
            plan.weight_bytes = plan.weight_bytes.saturating_add(compute.weight_bytes());
            plan.steps.push(Step {
                compute,
                inputs: call.inputs.iter().map(source).collect(),
                output: place(call.output),
                in_place: call.in_place,
                written: Vec::new(),
                info,
            });
        }
        for &(call, value, buffer) in &schedule.written {
            let scale = forms.scale(schedule.calls[call].value).map_or(1.0, |s| s.scale);
            plan.steps[call].written.push(Written::new(value, shapes[value.0], place(buffer), schedule.buffers[buffer], scale));
        }
        plan.prefetch_weights();
        // Scratch depends on the algorithms' tiles, so it is known only now; nothing of it is allocated yet.
        within_limit(graph, request, plan.memory().saturating_add(plan.weight_bytes).saturating_add(tables))?;
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

    /// For each step that is a convolution its problem, the layout of its input and its algorithm.
    pub fn convolutions(&self) -> impl Iterator<Item = Option<(&ConvProblem, Layout, Algorithm)>> {
        self.steps.iter().map(|step| match &step.compute {
            Compute::Conv(conv) => Some((conv.problem(), conv.input_layout(), conv.algorithm())),
            _ => None,
        })
    }

    /// Bytes of arena and scratch memory.
    pub fn memory(&self) -> usize {
        self.arena.saturating_add(self.scratch).saturating_mul(size_of::<f32>())
    }
}

/// The input in whose place a call may write its output, if that is read for the last time and of the same geometry.
fn may_replace(graph: &Graph, forms: &Forms, call: &Call) -> Option<usize> {
    let index = call.node?;
    match &graph.nodes()[index].op {
        Op::Conv { .. } => (call.inputs.len() == 2 && call.inputs[0] != call.inputs[1]).then_some(1),
        Op::Tensor(TensorOp::Map(function)) => (*function != stridewise_kernels::Unary::Identity).then_some(0),
        Op::Tensor(TensorOp::Combine { .. }) => (forms.node[index] == Form::Blocked).then_some(0),
        _ => None,
    }
}

/// Holds arena, in elements, tables, in bytes, constants and packed weights against the limit, before anything is allocated.
fn check_memory(
    graph: &Graph,
    shapes: &[Shape],
    forms: &Forms,
    schedule: &Schedule,
    request: &Request<'_>,
    [arena, tables]: [usize; 2],
) -> Result<()> {
    let constants = schedule.constants.iter().fold(arena, |sum, constant| sum.saturating_add(constant.geometry.len()));
    let mut bytes = constants.saturating_mul(size_of::<f32>()).saturating_add(tables);
    for call in &schedule.calls {
        let Some(index) = call.node else { continue };
        let node = &graph.nodes()[index];
        if let Some(problem) = forms.problem(graph, shapes, index)? {
            let layout = forms.node[index].layout();
            let algorithm = algorithm::choose(&problem, layout, request).algorithm;
            let needed = PackedWeights::bytes_needed(request.table, &problem, algorithm, layout);
            let refuse = |e: stridewise_kernels::Error| Error::Graph { node: node.name.clone(), reason: e.to_string() };
            bytes = bytes.saturating_add(needed.map_err(refuse)?);
        }
        let moves = matches!(node.op, Op::Tensor(TensorOp::Concat { .. } | TensorOp::Slice { .. } | TensorOp::ChannelShuffle { .. }));
        let channels = schedule.buffers[call.output].c();
        if moves && forms.node[index] == Form::Blocked {
            bytes = bytes.saturating_add(Channels::bytes_needed(channels));
        }
        if matches!(node.op, Op::BatchNormalization { .. } | Op::ScaleShift { .. }) {
            // A factor and a summand for each.
            bytes = bytes.saturating_add(channels.saturating_mul(2 * size_of::<f32>()));
        }
        for (operand, value) in call.inputs.iter().zip(&node.inputs) {
            if *operand == Operand::Packed {
                // A matrix is packed in blocks of sixteen steps and columns.
                let padded = shapes[value.0].dims().iter().fold(size_of::<f32>(), |product, dim| {
                    dim.checked_next_multiple_of(BLOCK).map_or(usize::MAX, |dim| product.saturating_mul(dim))
                });
                bytes = bytes.saturating_add(padded);
            }
        }
    }
    within_limit(graph, request, bytes)
}

fn within_limit(graph: &Graph, request: &Request<'_>, bytes: usize) -> Result<()> {
    if bytes <= request.max_memory {
        return Ok(());
    }
    Err(Error::TooLarge {
        what: format!("memory for {} (activations, scratch, packed weights and tables)", described(graph, request)),
        requested: format!("{bytes} bytes"),
        limit: format!("{} bytes (SessionOptions::max_memory)", request.max_memory),
    })
}

/// The graph and the shapes of its inputs, for messages.
fn described(graph: &Graph, request: &Request<'_>) -> String {
    let shapes: Vec<String> = request.shapes.iter().map(Shape::to_string).collect();
    format!("{} at input {}", graph.name, shapes.join(", "))
}
