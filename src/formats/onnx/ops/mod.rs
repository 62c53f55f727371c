//! Each ONNX op as ops of the graph. One function an op; what it can't do in a run it refuses with a reason.

mod convolution;
mod elementwise;
mod indices;
mod normalize;
mod pooling;
mod products;
mod qlinear;
mod quantized;
mod reduce;
mod resize;
mod shapes;
mod slices;

use super::Network;
use super::bind::{Binder, Known, Lowered, Refusal, unsupported};
use super::constant::Constant;
use super::element::ElementType;
use super::proto::{AttributeProto, NodeProto};
use crate::error::Error;
use std::sync::Arc;

/// What a node becomes: its outputs, as many as are known.
pub(super) type Lower = fn(&mut Binder, &Call<'_>) -> Lowered<Vec<Known>>;

/// One node with its inputs.
pub(super) struct Call<'a> {
    pub proto: &'a NodeProto,
    pub index: usize,
    pub opset: i64,
    pub network: &'a Network,
    pub inputs: Vec<Option<Known>>,
}

/// The function that lowers a node's op, if there is one.
pub(super) fn find(node: &NodeProto) -> Option<Lower> {
    let own = node.domain.is_empty() || node.domain == "ai.onnx";
    if !own && node.domain != quantized::MICROSOFT {
        return None;
    }
    let tables = [
        convolution::OPS,
        elementwise::OPS,
        indices::OPS,
        normalize::OPS,
        pooling::OPS,
        products::OPS,
        quantized::OPS,
        reduce::OPS,
        resize::OPS,
        shapes::OPS,
        slices::OPS,
    ];
    let tables = if own { &tables[..] } else { &[quantized::MICROSOFT_OPS] };
    tables.iter().flat_map(|table| table.iter()).find(|(name, _)| *name == node.op_type).map(|(_, lower)| *lower)
}

/// Lowers a node; where it only moves bytes that were quantised, what they stand for is moved in their place.
pub(super) fn lower(b: &mut Binder, call: &Call<'_>, lower: Lower) -> Lowered<Vec<Known>> {
    match quantized::moved(call) {
        Some(grid) => quantized::moving(b, call, lower, grid),
        None => lower(b, call),
    }
}

impl Call<'_> {
    pub(super) fn refuse<T>(&self, reason: impl Into<String>) -> Lowered<T> {
        let reason = format!("{}: {}", self.proto.op_type, reason.into());
        Err(Refusal::Invalid(Error::Graph { node: self.proto.name.clone(), reason }))
    }

    /// The same node with other inputs.
    pub fn with_inputs(&self, inputs: Vec<Option<Known>>) -> Call<'_> {
        Call { proto: self.proto, index: self.index, opset: self.opset, network: self.network, inputs }
    }

    /// An input that must be there.
    pub fn input(&self, index: usize) -> Lowered<&Known> {
        match self.optional(index) {
            Some(known) => Ok(known),
            None => self.refuse(format!("input {index} is missing")),
        }
    }

    /// An input that may be left out.
    pub fn optional(&self, index: usize) -> Option<&Known> {
        self.inputs.get(index).and_then(Option::as_ref)
    }

    /// All inputs, none of which may be left out.
    pub fn all_inputs(&self) -> Lowered<Vec<&Known>> {
        (0..self.inputs.len().max(1)).map(|index| self.input(index)).collect()
    }

    /// Whether an output has readers or is one of the network's.
    pub fn writes(&self, output: usize) -> bool {
        self.proto.output.get(output).is_some_and(|name| !name.is_empty())
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |attribute| attribute.i)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |attribute| attribute.f)
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| &attribute.ints[..])
    }

    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        self.attribute(name).map(|attribute| &attribute.floats[..])
    }

    pub fn string(&self, name: &str, default: &'static str) -> Lowered<&str> {
        match self.attribute(name) {
            None => Ok(default),
            Some(attribute) => match std::str::from_utf8(&attribute.s) {
                Ok(text) => Ok(text),
                Err(_) => self.refuse(format!("attribute `{name}` is no text")),
            },
        }
    }

    pub fn tensor(&self, name: &str) -> Option<&Constant> {
        self.network.tensors.get(&(self.index, name.to_string()))
    }

    /// Whole numbers from an input, which must be known before a run.
    pub fn known_ints(&self, index: usize) -> Lowered<Arc<Vec<i64>>> {
        match self.input(index)? {
            Known::Constant(constant) => match constant.to_ints() {
                Some(ints) => Ok(ints),
                None => self.refuse(format!("input {index} has no whole numbers")),
            },
            _ => unsupported(format!("input {index} is computed in a run, and must be known before")),
        }
    }

    /// Floating-point numbers from an input, which must be known before a run.
    pub fn known_floats(&self, index: usize) -> Lowered<Arc<Vec<f32>>> {
        match self.input(index)? {
            Known::Constant(constant) => Ok(constant.to_floats()),
            _ => unsupported(format!("input {index} is computed in a run, and must be known before")),
        }
    }

    /// Whole numbers from an attribute, or in newer opsets from an input; nothing where there is neither.
    pub fn ints_or_input(&self, attribute: &str, input: usize) -> Lowered<Option<Vec<i64>>> {
        match (self.ints(attribute), self.optional(input)) {
            (Some(ints), _) => Ok(Some(ints.to_vec())),
            (None, Some(_)) => Ok(Some(self.known_ints(input)?.to_vec())),
            (None, None) => Ok(None),
        }
    }

    /// An axis of so many; negative ones count from behind.
    pub fn axis(&self, axis: i64, rank: usize) -> Lowered<usize> {
        let from_behind = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
        match usize::try_from(from_behind) {
            Ok(found) if found < rank => Ok(found),
            _ => self.refuse(format!("there is no axis {axis} of {rank}")),
        }
    }

    /// Axes without repetition.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Lowered<Vec<usize>> {
        let mut found = Vec::with_capacity(axes.len());
        for &axis in axes {
            let axis = self.axis(axis, rank)?;
            if found.contains(&axis) {
                return self.refuse(format!("axis {axis} comes twice"));
            }
            found.push(axis);
        }
        Ok(found)
    }

    /// Refuses inputs that are no floating-point numbers.
    pub fn floats_only(&self, known: &Known) -> Lowered<ElementType> {
        if known.ty().is_float() { Ok(known.ty()) } else { unsupported(format!("of {} it is not supported", known.ty())) }
    }

    /// A number that must not be negative.
    pub fn size(&self, what: &str, value: i64) -> Lowered<usize> {
        match usize::try_from(value) {
            Ok(size) => Ok(size),
            Err(_) => self.refuse(format!("{what} is {value}")),
        }
    }

    /// Numbers that must not be negative.
    pub fn sizes(&self, what: &str, values: &[i64]) -> Lowered<Vec<usize>> {
        values.iter().map(|&value| self.size(what, value)).collect()
    }
}
