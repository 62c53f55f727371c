//! From the module tree to the graph. Nodes get the names that torchvision's feature extraction gives them: the path of the
//! module, with `_1`, `_2`, … when it is called again (`layer1.0.relu_1`), or of the function called in a module
//! (`layer1.0.add`, `flatten`). A `Conv2dNormActivation`, which torchvision takes as one node, gives its name to its last one.

use super::block::Shortcut;
use super::module::{Kind, Module, Parameter, join};
use crate::error::{Error, Result};
use crate::graph::{Activation, ConvAttributes, Graph, Op, PoolAttributes, ValueId, Weight};
use crate::tensor::{Shape, Tensor};
use std::sync::Arc;

/// Where a network's tensors come from: a file, or an initialisation.
pub trait WeightSource {
    /// The tensor for a parameter, of the parameter's shape.
    ///
    /// # Errors
    /// When there is none, or no memory for it.
    fn tensor(&mut self, parameter: &Parameter) -> Result<Tensor<f32>>;

    /// The weights of a convolution or linear layer: the tensor, unless they can be read later.
    ///
    /// # Errors
    /// As [`WeightSource::tensor`].
    fn weight(&mut self, parameter: &Parameter) -> Result<Weight> {
        Ok(self.tensor(parameter)?.into())
    }
}

/// Writes the graph of a network for inputs `[N, channels, H, W]`.
pub(super) fn graph(name: &str, module: &Module, channels: usize, size: [usize; 2], source: &mut dyn WeightSource) -> Result<Graph> {
    let mut forward = Forward { graph: Graph::new(name, channels, size), channels, source };
    let input = forward.graph.input().value;
    let output = forward.call("", module, input)?;
    forward.graph.set_outputs(&[output]);
    Ok(forward.graph)
}

struct Forward<'a> {
    graph: Graph,
    /// Channels of the value that the next module reads.
    channels: usize,
    source: &'a mut dyn WeightSource,
}

impl Forward<'_> {
    fn call(&mut self, path: &str, module: &Module, x: ValueId) -> Result<ValueId> {
        match &module.kind {
            Kind::Sequential => self.chain(path, module, x),
            Kind::ConvNormActivation => self.conv_norm_activation(path, module, x),
            Kind::InvertedResidual { adds } => {
                let y = self.chain(path, module, x)?;
                if *adds { self.add(&join(path, "add"), Op::Add(Activation::None), &[x, y]) } else { Ok(y) }
            }
            Kind::Network { mean_before, .. } => self.network(path, module, *mean_before, x),
            Kind::Block { shortcut, .. } => self.block(path, module, *shortcut, x),
            leaf => {
                let op = self.leaf(path, module, leaf)?;
                self.add(path, op, &[x])
            }
        }
    }

    fn chain(&mut self, path: &str, module: &Module, mut x: ValueId) -> Result<ValueId> {
        for (name, child) in &module.children {
            x = self.call(&join(path, name), child, x)?;
        }
        Ok(x)
    }

    fn conv_norm_activation(&mut self, path: &str, module: &Module, mut x: ValueId) -> Result<ValueId> {
        for (index, (name, child)) in module.children.iter().enumerate() {
            let own = join(path, name);
            let op = self.leaf(&own, child, &child.kind)?;
            x = self.add(if index + 1 < module.children.len() { &own } else { path }, op, &[x])?;
        }
        Ok(x)
    }

    fn network(&mut self, path: &str, module: &Module, mean_before: Option<&str>, mut x: ValueId) -> Result<ValueId> {
        for (name, child) in &module.children {
            if mean_before == Some(name) {
                x = self.add(&join(path, "adaptive_avg_pool2d"), Op::GlobalAveragePool, &[x])?;
                x = self.add(&join(path, "flatten"), Op::Flatten, &[x])?;
            }
            x = self.call(&join(path, name), child, x)?;
            if matches!(child.kind, Kind::AdaptiveAvgPool2d { .. }) {
                x = self.add(&join(path, "flatten"), Op::Flatten, &[x])?;
            }
        }
        Ok(x)
    }

    fn block(&mut self, path: &str, module: &Module, shortcut: Shortcut, input: ValueId) -> Result<ValueId> {
        let relu = join(path, "relu");
        let convolutions = module.children.iter().filter(|(_, m)| matches!(m.kind, Kind::Conv2d { .. })).count();
        let channels = self.channels;
        let stride = module.children.iter().map(|(_, m)| m.stride()).max().unwrap_or(1);
        let mut x = input;
        let mut seen = 0;
        for (name, child) in &module.children {
            match child.kind {
                Kind::Conv2d { .. } => x = self.call(&join(path, name), child, x)?,
                Kind::BatchNorm2d { .. } => {
                    x = self.call(&join(path, name), child, x)?;
                    seen += 1;
                    if seen < convolutions {
                        x = self.add(&relu, Op::Activation(Activation::Relu), &[x])?;
                    }
                }
                _ => {}
            }
        }
        let outputs = std::mem::replace(&mut self.channels, channels);
        let identity = match (shortcut, module.children.iter().find(|(name, _)| name == "downsample")) {
            (Shortcut::None, _) => None,
            (_, Some((name, downsample))) => Some(self.call(&join(path, name), downsample, input)?),
            (Shortcut::PadChannels, None) if outputs > channels || stride > 1 => {
                let sliced = self.add(&join(path, "getitem"), Op::Slice { step: [stride; 2] }, &[input])?;
                let before = outputs.saturating_sub(channels) / 2;
                let after = outputs.saturating_sub(channels) - before;
                Some(self.add(&join(path, "pad"), Op::Pad { before, after }, &[sliced])?)
            }
            _ => Some(input),
        };
        self.channels = outputs;
        if let Some(identity) = identity {
            x = self.add(&join(path, "add"), Op::Add(Activation::None), &[x, identity])?;
        }
        self.add(&relu, Op::Activation(Activation::Relu), &[x])
    }

    fn leaf(&mut self, path: &str, module: &Module, kind: &Kind) -> Result<Op> {
        let refuse = || Error::Graph { node: path.into(), reason: "its parameters are not those of its kind".into() };
        let mut parameters = module.parameters()?.into_iter().map(|mut parameter| {
            // A leaf's parameters are listed as `.weight`.
            parameter.name.insert_str(0, path);
            parameter
        });
        let mut next = || parameters.next().ok_or_else(refuse);
        Ok(match *kind {
            Kind::Conv2d { stride, padding: [ph, pw], groups, bias, oc, .. } => {
                let attributes = ConvAttributes { stride, pads: [ph, pw, ph, pw], dilation: [1, 1], groups };
                let weight = self.weight(&next()?)?;
                let bias = if bias { Some(self.tensor(&next()?)?) } else { None };
                self.channels = oc;
                Op::Conv { weight, bias, attributes, activation: Activation::None }
            }
            Kind::BatchNorm2d { .. } => {
                let mut tensor = || self.tensor(&next()?);
                Op::BatchNormalization { scale: tensor()?, bias: tensor()?, mean: tensor()?, variance: tensor()?, epsilon: 1e-5 }
            }
            Kind::Relu => Op::Activation(Activation::Relu),
            Kind::Relu6 => Op::Activation(Activation::Clamp(0.0, 6.0)),
            Kind::MaxPool2d { kernel, stride, padding } => {
                Op::MaxPool(PoolAttributes { kernel: [kernel; 2], stride: [stride; 2], pads: [padding; 4], ceil_mode: false })
            }
            Kind::AdaptiveAvgPool2d { size: [1, 1] } => Op::GlobalAveragePool,
            Kind::AdaptiveAvgPool2d { size } => Op::AdaptiveAveragePool(size),
            Kind::Linear { .. } => {
                let weight = self.weight(&next()?)?;
                Op::Gemm { weight, bias: Some(self.tensor(&next()?)?), activation: Activation::None }
            }
            Kind::Dropout { .. } => Op::Dropout,
            Kind::Sequential | Kind::ConvNormActivation | Kind::InvertedResidual { .. } | Kind::Block { .. } | Kind::Network { .. } => {
                return Err(refuse());
            }
        })
    }

    fn tensor(&mut self, parameter: &Parameter) -> Result<Arc<Tensor<f32>>> {
        let tensor = self.source.tensor(parameter)?;
        check_shape(parameter, tensor.shape())?;
        Ok(Arc::new(tensor))
    }

    fn weight(&mut self, parameter: &Parameter) -> Result<Weight> {
        let weight = self.source.weight(parameter)?;
        check_shape(parameter, weight.shape())?;
        Ok(weight)
    }

    /// Adds a node named after `name`, numbered when the name is taken.
    fn add(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> Result<ValueId> {
        let taken = |name: &str| self.graph.has_node(name);
        let mut unique = name.to_string();
        let mut count = 0;
        while taken(&unique) {
            count += 1;
            unique = format!("{name}_{count}");
        }
        self.graph.add(unique, op, inputs)
    }
}

fn check_shape(parameter: &Parameter, found: Shape) -> Result<()> {
    if found == parameter.shape {
        return Ok(());
    }
    Err(Error::Shape { what: parameter.name.clone(), expected: parameter.shape.to_string(), found: found.to_string() })
}

impl Module {
    fn stride(&self) -> usize {
        match self.kind {
            Kind::Conv2d { stride, .. } => stride[0],
            _ => 1,
        }
    }
}
