//! Which kernel calls a graph becomes, in which order, over which buffers; and which of them are one in memory.

use super::layout::{Form, Forms, dims4};
use super::memory::Lifetime;
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, TensorOp, ValueId};
use crate::tensor::{Shape, Tensor};
use std::collections::HashMap;
use std::sync::Arc;
use stridewise_kernels::{Geometry, Halo, Layout};

/// What a call reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operand {
    /// A buffer of the arena.
    Buffer(usize),
    /// One of [`Schedule::constants`].
    Constant(usize),
    /// Something that the call's kernel holds already.
    Packed,
}

/// A constant as a kernel reads it.
pub(super) struct Constant {
    pub tensor: Arc<Tensor<f32>>,
    pub geometry: Geometry,
}

/// A kernel call.
pub(super) struct Call {
    /// The node that it computes; none for a change of form.
    pub node: Option<usize>,
    pub value: ValueId,
    pub inputs: Vec<Operand>,
    pub output: usize,
    /// The input in whose place the output is written.
    pub in_place: Option<usize>,
}

pub(super) struct Schedule {
    pub calls: Vec<Call>,
    /// The geometry of each buffer.
    pub buffers: Vec<Geometry>,
    pub constants: Vec<Constant>,
    /// Where each input goes.
    pub inputs: Vec<usize>,
    /// Where each output is found.
    pub outputs: Vec<Operand>,
    /// For each value that shares a buffer with another the call that writes it, if one does.
    pub aliases: Vec<(usize, ValueId)>,
}

struct Scheduler<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    forms: &'a Forms,
    schedule: Schedule,
    /// The buffer of each value in each form.
    buffer_of: [Vec<Option<usize>>; Form::ALL.len()],
    constant_of: HashMap<(ValueId, Geometry), usize>,
    /// The call that writes each value.
    writer: Vec<Option<usize>>,
}

impl Schedule {
    pub fn new(graph: &Graph, shapes: &[Shape], forms: &Forms) -> Result<Schedule> {
        let schedule = Schedule {
            calls: Vec::with_capacity(graph.nodes().len()),
            buffers: Vec::new(),
            constants: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            aliases: Vec::new(),
        };
        let none = vec![None; graph.value_count()];
        let mut scheduler = Scheduler {
            graph,
            shapes,
            forms,
            schedule,
            buffer_of: std::array::from_fn(|_| none.clone()),
            constant_of: HashMap::new(),
            writer: none,
        };
        for input in graph.inputs() {
            let buffer = scheduler.open(input.value, forms.home[input.value.0])?;
            scheduler.schedule.inputs.push(buffer);
        }
        for index in 0..graph.nodes().len() {
            scheduler.node(index)?;
        }
        for &value in graph.outputs() {
            let operand = match &graph.values[value.0].constant {
                Some(tensor) => scheduler.constant(value, tensor, dense(&shapes[value.0])?)?,
                None => Operand::Buffer(scheduler.buffer(value, forms.home[value.0].in_f32())?),
            };
            scheduler.schedule.outputs.push(operand);
        }
        Ok(scheduler.schedule)
    }
}

impl Schedule {
    /// The geometry of what a call reads; what its kernel holds already has none.
    pub fn geometry(&self, operand: &Operand) -> Option<Geometry> {
        match *operand {
            Operand::Buffer(buffer) => Some(self.buffers[buffer]),
            Operand::Constant(constant) => Some(self.constants[constant].geometry),
            Operand::Packed => None,
        }
    }
}

/// A tensor without any gap.
fn dense(shape: &Shape) -> Result<Geometry> {
    Ok(Geometry::new(Layout::Nchw, [1, 1, 1, shape.elements()], Halo::NONE)?)
}

impl Scheduler<'_> {
    fn node(&mut self, index: usize) -> Result<()> {
        let (graph, forms) = (self.graph, self.forms);
        let node = &graph.nodes()[index];
        if forms.is_alias(node.output) {
            let writer = node.inputs.first().and_then(|v| self.writer[v.0]);
            self.writer[node.output.0] = writer;
            // Of the graph's input there is no call.
            self.schedule.aliases.extend(writer.map(|call| (call, node.output)));
            return Ok(());
        }
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for (place, &value) in node.inputs.iter().enumerate() {
            // A residual is added in blocks, and in the elements of the output, wherever the image comes from.
            let residual = place > 0 && matches!(node.op, Op::Conv { .. });
            let form = if residual { forms.home[node.output.0] } else { forms.node[index] };
            inputs.push(match &graph.values[value.0].constant {
                None => Operand::Buffer(self.buffer(value, form)?),
                Some(_) if is_packed(&node.op, place, &self.shapes[value.0], form) => Operand::Packed,
                Some(tensor) => {
                    let shape = &self.shapes[value.0];
                    let geometry = if form == Form::Dense { dense(shape)? } else { self.broadcast(value, node.output)? };
                    self.constant(value, tensor, geometry)?
                }
            });
        }
        let output = self.open(node.output, forms.home[node.output.0])?;
        self.writer[node.output.0] = Some(self.schedule.calls.len());
        self.schedule.calls.push(Call { node: Some(index), value: node.output, inputs, output, in_place: None });
        Ok(())
    }

    /// A constant's geometry in blocks, as an operand of what is broadcast to the output's shape.
    fn broadcast(&self, constant: ValueId, output: ValueId) -> Result<Geometry> {
        let (own, all) = (self.shapes[constant.0].dims(), self.shapes[output.0].dims());
        let mut dims = vec![1; all.len().saturating_sub(own.len())];
        dims.extend_from_slice(own);
        let name = || self.graph.values[constant.0].name.clone();
        let refuse = |reason: String| Error::Graph { node: name(), reason };
        let dims = dims4(&dims).ok_or_else(|| refuse(format!("a constant of shape {own:?} can't be laid out in blocks")))?;
        Geometry::new(Layout::Nchw16c, dims, Halo::NONE).map_err(|e| refuse(e.to_string()))
    }

    fn constant(&mut self, value: ValueId, tensor: &Arc<Tensor<f32>>, geometry: Geometry) -> Result<Operand> {
        let next = self.schedule.constants.len();
        let index = *self.constant_of.entry((value, geometry)).or_insert(next);
        if index == next {
            self.schedule.constants.push(Constant { tensor: tensor.clone(), geometry });
        }
        Ok(Operand::Constant(index))
    }

    /// A new buffer for a value.
    fn open(&mut self, value: ValueId, form: Form) -> Result<usize> {
        let geometry = self.forms.geometry(self.graph, self.shapes, value, form)?;
        self.schedule.buffers.push(geometry);
        let buffer = self.schedule.buffers.len() - 1;
        self.buffer_of[form as usize][value.0] = Some(buffer);
        Ok(buffer)
    }

    /// The buffer that holds a value in a form; it is brought into that form if it is not there yet.
    fn buffer(&mut self, value: ValueId, form: Form) -> Result<usize> {
        let root = self.forms.root(value, form);
        if let Some(buffer) = self.buffer_of[form as usize][root.0] {
            return Ok(buffer);
        }
        let held = |other: &Form| self.buffer_of[*other as usize][self.forms.root(root, *other).0].map(|buffer| (*other, buffer));
        let held: Vec<(Form, usize)> = Form::ALL.iter().filter_map(held).collect();
        // From f32 where that is there, or else by way of it.
        let found = held.iter().find(|(other, _)| *other == other.in_f32()).or(held.first()).copied();
        let (other, mut from) = found.ok_or_else(|| {
            let (node, reason) = (self.graph.values[value.0].name.clone(), "it is read before it is written".into());
            Error::Graph { node, reason }
        })?;
        if other != other.in_f32() && form != form.in_f32() {
            from = self.buffer(root, Form::Blocked)?;
        }
        let output = self.open(root, form)?;
        self.schedule.calls.push(Call { node: None, value: root, inputs: vec![Operand::Buffer(from)], output, in_place: None });
        Ok(output)
    }
}

/// Whether an op's kernel keeps a constant input to itself.
fn is_packed(op: &Op, place: usize, shape: &Shape, form: Form) -> bool {
    match op {
        Op::Tensor(TensorOp::MatMul | TensorOp::Product { .. }) => place == 1 && shape.dims().len() == 2,
        Op::Tensor(TensorOp::InstanceNormalization { .. }) => place > 0 && form == Form::Blocked,
        _ => false,
    }
}

impl Schedule {
    /// The slot of the arena of each buffer, and when each slot is in use. A call whose output can take the place of one of its
    /// inputs, which is read for the last time, is told so.
    ///
    /// Call i runs at time i + 1; inputs are written at 0, outputs read after all.
    pub fn slots(&mut self, may_replace: impl Fn(&Call) -> Option<usize>) -> (Vec<usize>, Vec<Lifetime>) {
        let end = self.calls.len() + 1;
        let mut last_use = vec![0; self.buffers.len()];
        for (index, call) in self.calls.iter().enumerate() {
            for operand in &call.inputs {
                if let Operand::Buffer(buffer) = operand {
                    last_use[*buffer] = index + 1;
                }
            }
        }
        for operand in &self.outputs {
            if let Operand::Buffer(buffer) = operand {
                last_use[*buffer] = end;
            }
        }
        let mut slots = vec![usize::MAX; self.buffers.len()];
        let mut lifetimes: Vec<Lifetime> = Vec::new();
        // All inputs are there from the beginning, read or not.
        for &buffer in &self.inputs {
            slots[buffer] = lifetimes.len();
            lifetimes.push(Lifetime { len: self.buffers[buffer].len(), first: 0, last: last_use[buffer] });
        }
        for index in 0..self.calls.len() {
            let (now, call) = (index + 1, &self.calls[index]);
            let replaced = may_replace(call).and_then(|place| match call.inputs.get(place) {
                Some(&Operand::Buffer(buffer)) => {
                    let alone = call.inputs.iter().filter(|o| **o == Operand::Buffer(buffer)).count() == 1;
                    let fits = self.buffers[buffer] == self.buffers[call.output];
                    (alone && fits && last_use[buffer] == now).then_some((place, buffer))
                }
                _ => None,
            });
            match replaced {
                Some((place, buffer)) => {
                    let slot = slots[buffer];
                    slots[call.output] = slot;
                    lifetimes[slot].last = last_use[call.output].max(now);
                    self.calls[index].in_place = Some(place);
                }
                None => {
                    let output = call.output;
                    slots[output] = lifetimes.len();
                    lifetimes.push(Lifetime { len: self.buffers[output].len(), first: now, last: last_use[output].max(now) });
                }
            }
        }
        (slots, lifetimes)
    }
}
