//! Which kernel calls a graph becomes, in which order, over which buffers; and which of them are one in memory.

use super::concat::Place;
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
    /// Of each buffer that is a part of another that one, and where it begins there, in elements.
    pub parts: Vec<Option<(usize, usize)>>,
    pub constants: Vec<Constant>,
    /// Where each input goes, if it has elements.
    pub inputs: Vec<Option<usize>>,
    /// Where each output is found, if it has elements.
    pub outputs: Vec<Option<Operand>>,
    /// Values, with the call behind which each is whole, and its buffer.
    pub written: Vec<(usize, ValueId, usize)>,
}

struct Scheduler<'a> {
    graph: &'a Graph,
    shapes: &'a [Shape],
    forms: &'a Forms,
    schedule: Schedule,
    /// The buffer of each value in each form.
    buffer_of: [Vec<Option<usize>>; Form::ALL.len()],
    constant_of: HashMap<(ValueId, Geometry), usize>,
    /// The call behind which each value is whole, and its buffer.
    writer: Vec<Option<(usize, usize)>>,
}

impl Schedule {
    pub fn new(graph: &Graph, shapes: &[Shape], forms: &Forms) -> Result<Schedule> {
        let schedule = Schedule {
            calls: Vec::with_capacity(graph.nodes().len()),
            buffers: Vec::new(),
            parts: Vec::new(),
            constants: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            written: Vec::new(),
        };
        let none = vec![None; graph.value_count()];
        let writer = vec![None; graph.value_count()];
        let mut scheduler = Scheduler {
            graph,
            shapes,
            forms,
            schedule,
            buffer_of: std::array::from_fn(|_| none.clone()),
            constant_of: HashMap::new(),
            writer,
        };
        for input in graph.inputs() {
            let nothing = shapes[input.value.0].is_empty();
            let buffer = if nothing { None } else { Some(scheduler.open(input.value, forms.home[input.value.0])?) };
            scheduler.schedule.inputs.push(buffer);
        }
        for index in 0..graph.nodes().len() {
            scheduler.node(index)?;
        }
        for &value in graph.outputs() {
            let operand = match &graph.values[value.0].constant {
                _ if shapes[value.0].is_empty() => None,
                Some(tensor) => Some(scheduler.constant(value, tensor, dense(&shapes[value.0])?)?),
                None => Some(Operand::Buffer(scheduler.buffer(value, forms.home[value.0].in_f32())?)),
            };
            scheduler.schedule.outputs.push(operand);
        }
        Ok(scheduler.schedule)
    }
}

impl Schedule {
    /// The input that a buffer would be a mere copy of: calls read the caller's tensor itself. What is an output, too, is copied.
    pub fn caller_input(&self, buffer: usize) -> Option<usize> {
        let geometry = self.buffers[buffer];
        let as_given = geometry.layout() == Layout::Nchw && geometry.halo() == Halo::NONE;
        let index = self.inputs.iter().position(|input| *input == Some(buffer)).filter(|_| as_given)?;
        (!self.outputs.contains(&Some(Operand::Buffer(buffer)))).then_some(index)
    }

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
            // Of the graph's input there is no call.
            if let Some((call, buffer)) = node.inputs.first().and_then(|v| self.writer[v.0]) {
                self.wrote(call, node.output, buffer);
            }
            return Ok(());
        }
        if self.writer[node.output.0].is_some() {
            return Ok(());
        }
        // One along another axis than the channels' is computed row-major, whatever its result is a part of.
        let concatenates = matches!(node.op, Op::Tensor(TensorOp::Concat { .. })) && forms.node[index] == Form::Blocked;
        if concatenates && forms.is_assembled(node.output) {
            return self.assemble(index);
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
        // What follows the convolution is computed with it.
        let value = forms.follower(graph, index).map_or(node.output, |(_, value)| value);
        let output = self.open(value, forms.home[value.0])?;
        self.wrote(self.schedule.calls.len(), value, output);
        self.schedule.calls.push(Call { node: Some(index), value, inputs, output, in_place: None });
        Ok(())
    }

    fn wrote(&mut self, call: usize, value: ValueId, buffer: usize) {
        self.writer[value.0] = Some((call, buffer));
        self.schedule.written.push((call, value, buffer));
    }

    /// A concatenation most of which is where it belongs: what is not, is copied there.
    fn assemble(&mut self, index: usize) -> Result<()> {
        let node = &self.graph.nodes()[index];
        let output = match self.buffer_of[Form::Blocked as usize][node.output.0] {
            Some(buffer) => buffer,
            None => self.open(node.output, Form::Blocked)?,
        };
        let Place { whole, channel: first } = self.forms.place(node.output).unwrap_or(Place { whole: node.output, channel: 0 });
        let (mut channel, mut from, mut elsewhere) = (first, first, Vec::new());
        for &value in &node.inputs {
            let constant = self.graph.values[value.0].constant.as_ref();
            let operand = match constant {
                Some(tensor) => self.constant(value, tensor, self.broadcast(value, node.output)?)?,
                None => Operand::Buffer(self.buffer(value, Form::Blocked)?),
            };
            let there = constant.is_none() && self.forms.place(value) == Some(Place { whole, channel });
            if there {
                self.copy(index, Place { whole, channel: from }, channel - from, &mut elsewhere)?;
            } else {
                elsewhere.push(operand);
            }
            channel = channel.saturating_add(dims4(self.shapes[value.0].dims()).map_or(0, |[_, c, _, _]| c));
            if there {
                from = channel;
            }
        }
        self.copy(index, Place { whole, channel: from }, channel - from, &mut elsewhere)?;
        if let Some(last) = self.schedule.calls.len().checked_sub(1) {
            self.wrote(last, node.output, output);
        }
        Ok(())
    }

    /// Calls a concatenation of some of its inputs into a place of the whole.
    fn copy(&mut self, index: usize, place: Place, channels: usize, inputs: &mut Vec<Operand>) -> Result<()> {
        if inputs.is_empty() {
            return Ok(());
        }
        let output = self.open_part(place, channels)?;
        let (inputs, value) = (std::mem::take(inputs), self.graph.nodes()[index].output);
        self.schedule.calls.push(Call { node: Some(index), value, inputs, output, in_place: None });
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
        let buffer = match self.forms.place(value).filter(|_| form == Form::Blocked) {
            Some(place) => self.open_part(place, geometry.c())?,
            None => {
                self.schedule.buffers.push(geometry);
                self.schedule.parts.push(None);
                self.schedule.buffers.len() - 1
            }
        };
        self.buffer_of[form as usize][value.0] = Some(buffer);
        Ok(buffer)
    }

    /// A buffer that is some channels of another value's of one image.
    fn open_part(&mut self, place: Place, channels: usize) -> Result<usize> {
        let whole = match self.buffer_of[Form::Blocked as usize][place.whole.0] {
            Some(whole) => whole,
            None => self.open(place.whole, Form::Blocked)?,
        };
        let geometry = self.schedule.buffers[whole];
        let [n, _, h, w] = geometry.dims();
        let part = Geometry::new(geometry.layout(), [n, channels, h, w], geometry.halo())?;
        self.schedule.buffers.push(part);
        self.schedule.parts.push(Some((whole, place.channel / geometry.layout().lanes() * geometry.plane_stride())));
        Ok(self.schedule.buffers.len() - 1)
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
        // Row-major it may be the same as a value of another shape, which nothing may have needed in that form yet.
        let dense = self.forms.root(root, Form::Dense);
        let (other, mut from) = match found {
            Some(found) => found,
            None if dense != root => (Form::Dense, self.buffer(dense, Form::Dense)?),
            None => {
                let (node, reason) = (self.graph.values[value.0].name.clone(), "it is read before it is written".into());
                return Err(Error::Graph { node, reason });
            }
        };
        let reshaped = other == Form::Dense && dense != root;
        if form != form.in_f32() && (other != other.in_f32() || reshaped) {
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
    /// The slot of the arena of each buffer, and when each slot is in use; parts have that of the whole. A call whose output can take
    /// the place of one of its inputs, which is read for the last time, is told so.
    ///
    /// Call i runs at time i + 1; inputs are written at 0, outputs read after all.
    pub fn slots(&mut self, may_replace: impl Fn(&Call) -> Option<usize>) -> (Vec<usize>, Vec<Lifetime>) {
        let end = self.calls.len() + 1;
        let whole: Vec<usize> = (0..self.buffers.len()).map(|buffer| self.parts[buffer].map_or(buffer, |(whole, _)| whole)).collect();
        let mut last_use = vec![0; self.buffers.len()];
        for (index, call) in self.calls.iter().enumerate() {
            for operand in &call.inputs {
                if let Operand::Buffer(buffer) = operand {
                    last_use[whole[*buffer]] = index + 1;
                }
            }
        }
        for operand in self.outputs.iter().flatten() {
            if let Operand::Buffer(buffer) = operand {
                last_use[whole[*buffer]] = end;
            }
        }
        let mut slots = vec![usize::MAX; self.buffers.len()];
        let mut lifetimes: Vec<Lifetime> = Vec::new();
        // All inputs are there from the beginning, read or not.
        for &buffer in self.inputs.iter().flatten() {
            slots[buffer] = lifetimes.len();
            let len = if self.caller_input(buffer).is_some() { 0 } else { self.buffers[buffer].len() };
            lifetimes.push(Lifetime { len, first: 0, last: last_use[buffer] });
        }
        for index in 0..self.calls.len() {
            let (now, call) = (index + 1, &self.calls[index]);
            let output = whole[call.output];
            let replaced = may_replace(call).filter(|_| self.parts[call.output].is_none()).and_then(|place| match call.inputs.get(place) {
                Some(&Operand::Buffer(buffer)) => {
                    let alone = call.inputs.iter().filter(|o| **o == Operand::Buffer(buffer)).count() == 1;
                    let fits = self.buffers[buffer] == self.buffers[output] && self.parts[buffer].is_none();
                    let ours = self.caller_input(buffer).is_none();
                    (alone && fits && ours && last_use[buffer] == now).then_some((place, buffer))
                }
                _ => None,
            });
            match replaced {
                Some((place, buffer)) => {
                    let slot = slots[buffer];
                    slots[output] = slot;
                    lifetimes[slot].last = last_use[output].max(now);
                    self.calls[index].in_place = Some(place);
                }
                // Another part was written before.
                None if slots[output] != usize::MAX => {}
                None => {
                    slots[output] = lifetimes.len();
                    lifetimes.push(Lifetime { len: self.buffers[output].len(), first: now, last: last_use[output].max(now) });
                }
            }
            let output_last = &mut lifetimes[slots[output]].last;
            *output_last = (*output_last).max(now);
        }
        for buffer in 0..self.buffers.len() {
            slots[buffer] = slots[whole[buffer]];
        }
        (slots, lifetimes)
    }
}
