//! A [`TensorOp`] on row-major tensors: its kernel, prepared for given shapes. Preparing it, short of tables, is also how its output's
//! shape is inferred, and running it on constants is how they are folded.

use super::{ConvAttributes, TensorOp};
use crate::error::Result;
use std::sync::Arc;
use stridewise_kernels::conv::{Algorithm, Conv, PackedWeights, Residual};
use stridewise_kernels::dense::{self, ConvTranspose, ConvTransposeProblem};
use stridewise_kernels::resize::{AxisMap, Rule};
use stridewise_kernels::{AlignedBuffer, ConvProblem, Error, Executor, Geometry, Halo, KernelTable, Layout, Unary, layout};

/// A kernel for row-major tensors with everything decided.
pub(crate) struct DenseKernel {
    kind: Kind,
    shape: Vec<usize>,
}

enum Kind {
    Copy,
    Map(dense::Map),
    Combine(dense::Combine),
    Select(dense::Select),
    Pool(dense::Pool),
    MaxPlaces(dense::Pool),
    MatMul(Box<dense::MatMul>),
    ConvTranspose(Box<ConvTranspose>),
    Convolution(Box<Convolution>),
    Rearrange(dense::Rearrange),
    Concat(dense::Concat),
    Gather(dense::Gather),
    Reduce(dense::Reduce),
    ArgReduce(dense::ArgReduce),
    CumSum(dense::CumSum),
    TopK { kernel: dense::TopK, places: bool },
    Softmax(dense::Softmax),
    Norm(dense::Norm),
    BatchNorm(dense::BatchNorm),
    Lrn(dense::Lrn),
    Resize(dense::Resize),
}

/// A convolution whose weights are known only when it runs: they are packed in every run, into memory of the run's own.
struct Convolution {
    problem: ConvProblem,
    table: &'static KernelTable,
}

/// The shape of an op's result. Nothing is made for it that is as large as a tensor may be.
///
/// # Errors
/// As [`DenseKernel::new`].
pub(crate) fn output_dims(op: &TensorOp, shapes: &[&[usize]], table: &'static KernelTable) -> Result<Vec<usize>, Error> {
    match op {
        TensorOp::Resize { axes, rules, .. } => Ok(resized(op, shapes, axes, rules)?.0),
        _ => Ok(DenseKernel::new(op, shapes, table)?.shape),
    }
}

/// Bytes that an op's kernel, dense or blocked, takes beside its inputs, output and scratch: tables for each axis, and what it packs in a
/// run.
///
/// # Errors
/// As [`DenseKernel::new`].
pub(crate) fn table_bytes(op: &TensorOp, shapes: &[&[usize]], table: &'static KernelTable) -> Result<usize, Error> {
    match op {
        TensorOp::Resize { axes, rules, .. } => Ok(resized(op, shapes, axes, rules)?.1),
        TensorOp::Convolution(_) => match DenseKernel::new(op, shapes, table)?.kind {
            Kind::Convolution(convolution) => convolution.bytes_needed(),
            _ => Ok(0),
        },
        _ => Ok(0),
    }
}

/// The shape of a resize's result, and the bytes of its tables.
fn resized(op: &TensorOp, shapes: &[&[usize]], axes: &[Option<(usize, f64)>], rules: &[Rule]) -> Result<(Vec<usize>, usize), Error> {
    let refuse = |reason: &str| refuse(op, shapes, reason);
    let &[x] = shapes else { return Err(refuse("expected one input")) };
    if axes.len() != x.len() || rules.len() != x.len() {
        return Err(refuse("it has not one size an axis"));
    }
    let (mut shape, mut bytes) = (x.to_vec(), 0usize);
    for ((dim, axis), rule) in shape.iter_mut().zip(axes).zip(rules) {
        let needed = match *axis {
            Some((size, scale)) => AxisMap::bytes_needed(std::mem::replace(dim, size), size, scale, rule)?,
            // In blocks it gets a map too, if there can be one.
            None => AxisMap::bytes_needed(*dim, *dim, 1.0, rule).unwrap_or(0),
        };
        bytes = bytes.saturating_add(needed);
    }
    Ok((shape, bytes))
}

fn refuse(op: &TensorOp, shapes: &[&[usize]], reason: &str) -> Error {
    Error::Problem { problem: format!("{} of {shapes:?}", op.name()), reason: reason.into() }
}

impl DenseKernel {
    /// Prepares an op for inputs of these shapes.
    ///
    /// # Errors
    /// When the shapes do not fit the op, or a size overflows.
    pub fn new(op: &TensorOp, shapes: &[&[usize]], table: &'static KernelTable) -> Result<DenseKernel, Error> {
        let refuse = |reason: &str| refuse(op, shapes, reason);
        let arity = arity(op);
        if !arity.contains(&shapes.len()) {
            return Err(refuse(&format!("expected {} to {} inputs", arity.start(), arity.end())));
        }
        let x = shapes[0];
        let len = |shape: &[usize]| {
            // Without the zeros: strides are products of dimensions too.
            let whole = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim.max(1)));
            whole.map(|whole| if shape.contains(&0) { 0 } else { whole })
        };
        let kind = match op {
            TensorOp::Map(function) => {
                let len = len(x).ok_or_else(|| refuse("its size overflows"))?;
                let kind = if *function == Unary::Identity { Kind::Copy } else { Kind::Map(dense::Map::new(*function, len, table)) };
                return Ok(DenseKernel { kind, shape: x.to_vec() });
            }
            TensorOp::Reshape(to) => {
                if len(x) != len(to) || len(x).is_none() {
                    return Err(refuse(&format!("it has not as many elements as {to:?}")));
                }
                return Ok(DenseKernel { kind: Kind::Copy, shape: to.clone() });
            }
            TensorOp::Combine { function, then } => Kind::Combine(dense::Combine::new(*function, x, shapes[1], *then, table)?),
            TensorOp::Where => Kind::Select(dense::Select::new(x, shapes[1], shapes[2])?),
            TensorOp::Pool { reduction, windows } => Kind::Pool(dense::Pool::new(*reduction, x, windows)?),
            TensorOp::MaxPoolPlaces { windows, column_major } => {
                let pool = dense::Pool::new(stridewise_kernels::pool::Reduction::Maximum, x, windows)?;
                Kind::MaxPlaces(pool.with_places(*column_major)?)
            }
            TensorOp::MatMul => Kind::MatMul(Box::new(dense::MatMul::new(x, shapes[1], table)?)),
            TensorOp::Product { transpose, alpha, beta } => {
                let c = shapes.get(2).copied();
                Kind::MatMul(Box::new(dense::MatMul::gemm([x, shapes[1]], c, *transpose, [*alpha, *beta], table)?))
            }
            TensorOp::Convolution(attributes) => {
                let convolution = Convolution::new(attributes, shapes, table).map_err(|reason| refuse(&reason))?;
                let ([oh, ow], problem) = (convolution.problem.output(), &convolution.problem);
                let shape = vec![x[0], problem.oc, oh, ow];
                return Ok(DenseKernel { kind: Kind::Convolution(Box::new(convolution)), shape });
            }
            TensorOp::ConvTranspose(a) => {
                let (&[n, c, h, w], &[wc, per_group, kh, kw]) = (x, shapes[1]) else {
                    return Err(refuse("expected an input [N, C, H, W] and weights [C, OC/groups, KH, KW]"));
                };
                let oc =
                    per_group.checked_mul(a.groups).filter(|_| wc == c).ok_or_else(|| refuse("the weights do not fit the channels"))?;
                if shapes.get(2).is_some_and(|bias| *bias != [oc]) {
                    return Err(refuse("the bias has not one value a channel"));
                }
                let problem = ConvTransposeProblem {
                    input: [n.max(1), c, h, w],
                    oc,
                    kernel: [kh, kw],
                    stride: a.stride,
                    dilation: a.dilation,
                    pads: a.pads,
                    output_padding: a.output_padding,
                    groups: a.groups,
                };
                let kernel = ConvTranspose::new(problem, table)?;
                let [_, oc, oh, ow] = kernel.output_shape();
                return Ok(DenseKernel { kind: Kind::ConvTranspose(Box::new(kernel)), shape: vec![n, oc, oh, ow] });
            }
            TensorOp::Transpose(perm) => Kind::Rearrange(dense::Rearrange::transpose(x, perm)?),
            TensorOp::Slice { starts, ends, axes, steps } => Kind::Rearrange(dense::Rearrange::slice(x, starts, ends, axes, steps)?),
            TensorOp::Expand(target) => Kind::Rearrange(dense::Rearrange::expand(x, target)?),
            TensorOp::Tile(repeats) => Kind::Rearrange(dense::Rearrange::tile(x, repeats)?),
            TensorOp::Pad { pads, mode } => Kind::Rearrange(dense::Rearrange::pad(x, pads, *mode)?),
            TensorOp::DepthToSpace { block, crd } => Kind::Rearrange(dense::Rearrange::depth_to_space(x, *block, *crd)?),
            TensorOp::SpaceToDepth { block } => Kind::Rearrange(dense::Rearrange::space_to_depth(x, *block)?),
            TensorOp::ChannelShuffle { groups } => Kind::Rearrange(dense::Rearrange::channel_shuffle(x, *groups)?),
            TensorOp::Concat { axis } => Kind::Concat(dense::Concat::new(shapes, *axis)?),
            TensorOp::Gather { axis } => Kind::Gather(dense::Gather::slices(x, shapes[1], *axis)?),
            TensorOp::GatherElements { axis } => Kind::Gather(dense::Gather::elements(x, shapes[1], *axis)?),
            TensorOp::GatherNd { batch } => Kind::Gather(dense::Gather::tuples(x, shapes[1], *batch)?),
            TensorOp::Reduce { reduction, axes, keep } => {
                let shape = reduced(x, axes, *keep);
                return Ok(DenseKernel { kind: Kind::Reduce(dense::Reduce::new(*reduction, x, axes)?), shape });
            }
            TensorOp::ArgReduce { extreme, axis, keep, last } => {
                let shape = reduced(x, &[*axis], *keep);
                return Ok(DenseKernel { kind: Kind::ArgReduce(dense::ArgReduce::new(*extreme, x, *axis, *last)?), shape });
            }
            TensorOp::CumSum { axis, exclusive, reverse } => {
                let kind = Kind::CumSum(dense::CumSum::new(x, *axis, *exclusive, *reverse)?);
                return Ok(DenseKernel { kind, shape: x.to_vec() });
            }
            TensorOp::TopK { axis, k, extreme, places } => {
                let kernel = dense::TopK::new(x, *axis, *k, *extreme)?;
                let mut shape = x.to_vec();
                shape[*axis] = *k;
                return Ok(DenseKernel { kind: Kind::TopK { kernel, places: *places }, shape });
            }
            TensorOp::Softmax { axis, log } => {
                let kind = Kind::Softmax(dense::Softmax::new(x, *axis, *log, table)?);
                return Ok(DenseKernel { kind, shape: x.to_vec() });
            }
            TensorOp::LayerNormalization { axis, epsilon } => {
                let each = x.get(*axis..).unwrap_or_default();
                if len(shapes[1]) != len(each) || len(shapes[2]) != len(each) {
                    return Err(refuse("scale and shift have not one value for each element that is normalised"));
                }
                let kind = Kind::Norm(dense::Norm::layer(x, *axis, *epsilon, table)?);
                return Ok(DenseKernel { kind, shape: x.to_vec() });
            }
            TensorOp::InstanceNormalization { epsilon } | TensorOp::GroupNormalization { epsilon, .. } => {
                let channels = x.get(1).copied();
                if shapes[1..].iter().any(|shape| len(shape) != channels) {
                    return Err(refuse("scale and shift have not one value a channel"));
                }
                let kernel = match op {
                    TensorOp::GroupNormalization { groups, .. } => dense::Norm::group(x, *groups, *epsilon, table)?,
                    _ => dense::Norm::instance(x, *epsilon, table)?,
                };
                return Ok(DenseKernel { kind: Kind::Norm(kernel), shape: x.to_vec() });
            }
            TensorOp::BatchNormalization { epsilon } => {
                let channels = if x.len() == 1 { 1 } else { x.get(1).copied().unwrap_or(0) };
                if shapes[1..].iter().any(|shape| len(shape) != Some(channels)) {
                    return Err(refuse("the statistics have not one value a channel"));
                }
                let kind = Kind::BatchNorm(dense::BatchNorm::new(x, *epsilon, table)?);
                return Ok(DenseKernel { kind, shape: x.to_vec() });
            }
            TensorOp::Lrn { size, coefficients } => {
                let kind = Kind::Lrn(dense::Lrn::new(x, *size, *coefficients, table)?);
                return Ok(DenseKernel { kind, shape: x.to_vec() });
            }
            TensorOp::Resize { axes, rules, extrapolation } => {
                if axes.len() != x.len() || rules.len() != x.len() {
                    return Err(refuse("it has not one size an axis"));
                }
                let map = |((size, rule), &dim): ((&Option<(usize, f64)>, &_), &usize)| {
                    size.map(|(size, scale)| AxisMap::new(dim, size, scale, rule)).transpose()
                };
                let maps = axes.iter().zip(rules).zip(x).map(map).collect::<Result<Vec<_>, _>>()?;
                Kind::Resize(dense::Resize::new(x, maps, *extrapolation)?)
            }
        };
        let shape = match &kind {
            Kind::Combine(kernel) => kernel.output_shape().to_vec(),
            Kind::Select(kernel) => kernel.output_shape().to_vec(),
            Kind::Pool(kernel) | Kind::MaxPlaces(kernel) => kernel.output_shape().to_vec(),
            Kind::MatMul(kernel) => kernel.output_shape().to_vec(),
            Kind::Rearrange(kernel) => kernel.output_shape().to_vec(),
            Kind::Concat(kernel) => kernel.output_shape().to_vec(),
            Kind::Gather(kernel) => kernel.output_shape().to_vec(),
            Kind::Resize(kernel) => kernel.output_shape().to_vec(),
            _ => x.to_vec(),
        };
        Ok(DenseKernel { kind, shape })
    }

    /// The shape of the result.
    #[cfg(feature = "onnx")]
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Packs a right operand that is the same in every run; it is then not read again.
    pub fn with_right(self, executor: &dyn Executor, right: &[f32]) -> Result<DenseKernel, Error> {
        let kind = match self.kind {
            Kind::MatMul(kernel) => Kind::MatMul(Box::new(kernel.with_right(executor, right)?)),
            kind => kind,
        };
        Ok(DenseKernel { kind, shape: self.shape })
    }

    /// Bytes of a packed right operand.
    pub fn packed_bytes(&self) -> usize {
        match &self.kind {
            Kind::MatMul(kernel) => kernel.packed_bytes(),
            _ => 0,
        }
    }

    /// Elements of scratch memory for a number of threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        match &self.kind {
            Kind::MatMul(kernel) => kernel.scratch_len(threads),
            Kind::ConvTranspose(kernel) => kernel.scratch_len(threads),
            Kind::Resize(kernel) => kernel.scratch_len(),
            // The other of values and places.
            Kind::TopK { .. } | Kind::MaxPlaces(_) => self.shape.iter().product(),
            _ => 0,
        }
    }

    /// Computes the op in its first input's place.
    pub fn run_in_place(&self, executor: &dyn Executor, data: &mut [f32]) -> Result<(), Error> {
        match &self.kind {
            Kind::Map(kernel) => kernel.run_in_place(executor, data),
            _ => Err(Error::Problem { problem: "an op in place".into(), reason: "it is no function of one number".into() }),
        }
    }

    /// Computes the op.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, an index that is an input is out of range, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, inputs: &[&[f32]], output: &mut [f32], scratch: &mut [f32]) -> Result<(), Error> {
        let missing = |index: usize| Error::Length { what: "inputs of an op", expected: index + 1, found: inputs.len() };
        let input = |index: usize| inputs.get(index).copied().ok_or_else(|| missing(index));
        let x = input(0)?;
        match &self.kind {
            Kind::Copy => {
                if x.len() != output.len() {
                    return Err(Error::Length { what: "output of a copy", expected: x.len(), found: output.len() });
                }
                output.copy_from_slice(x);
                Ok(())
            }
            Kind::Map(kernel) => kernel.run(executor, x, output),
            Kind::Combine(kernel) => kernel.run(executor, x, input(1)?, output),
            Kind::Select(kernel) => kernel.run(executor, x, input(1)?, input(2)?, output),
            Kind::Pool(kernel) => kernel.run(executor, x, output, None),
            Kind::MaxPlaces(kernel) => {
                let found = scratch.len();
                let values = scratch.get_mut(..output.len());
                let values = values.ok_or(Error::Length { what: "scratch of places", expected: output.len(), found })?;
                kernel.run(executor, x, values, Some(output))
            }
            Kind::MatMul(kernel) => {
                let b = if kernel.packed_bytes() > 0 { &[] } else { input(1)? };
                kernel.run(executor, x, b, inputs.get(2).copied(), output, scratch)
            }
            Kind::ConvTranspose(kernel) => kernel.run(executor, x, input(1)?, inputs.get(2).copied(), output, scratch),
            Kind::Convolution(convolution) => convolution.run(executor, x, input(1)?, inputs.get(2).copied(), output),
            Kind::Rearrange(kernel) => kernel.run(executor, x, output),
            Kind::Concat(kernel) => kernel.run(executor, inputs, output),
            Kind::Gather(kernel) => kernel.run(executor, x, input(1)?, output),
            Kind::Reduce(kernel) => kernel.run(executor, x, output),
            Kind::ArgReduce(kernel) => kernel.run(executor, x, output),
            Kind::CumSum(kernel) => kernel.run(executor, x, output),
            Kind::TopK { kernel, places } => {
                let found = scratch.len();
                let other = scratch.get_mut(..output.len());
                let other = other.ok_or(Error::Length { what: "scratch of TopK", expected: output.len(), found })?;
                if *places { kernel.run(executor, x, other, output) } else { kernel.run(executor, x, output, other) }
            }
            Kind::Softmax(kernel) => kernel.run(executor, x, output),
            Kind::Norm(kernel) => kernel.run(executor, x, input(1)?, input(2)?, output),
            Kind::BatchNorm(kernel) => kernel.run(executor, x, [input(1)?, input(2)?, input(3)?, input(4)?], output),
            Kind::Lrn(kernel) => kernel.run(executor, x, output),
            Kind::Resize(kernel) => kernel.run(executor, x, output, scratch),
        }
    }
}

fn arity(op: &TensorOp) -> std::ops::RangeInclusive<usize> {
    match op {
        TensorOp::Combine { .. } | TensorOp::MatMul => 2..=2,
        TensorOp::Gather { .. } | TensorOp::GatherElements { .. } | TensorOp::GatherNd { .. } => 2..=2,
        TensorOp::Product { .. } | TensorOp::Convolution(_) | TensorOp::ConvTranspose(_) => 2..=3,
        TensorOp::Where | TensorOp::LayerNormalization { .. } => 3..=3,
        TensorOp::InstanceNormalization { .. } | TensorOp::GroupNormalization { .. } => 3..=3,
        TensorOp::BatchNormalization { .. } => 5..=5,
        TensorOp::Concat { .. } => 1..=usize::MAX,
        _ => 1..=1,
    }
}

/// A shape without some axes, or with 1 in their place.
fn reduced(shape: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let dims = shape.iter().enumerate();
    dims.filter_map(|(axis, &dim)| if !axes.contains(&axis) { Some(dim) } else { keep.then_some(1) }).collect()
}

impl Convolution {
    fn new(a: &ConvAttributes, shapes: &[&[usize]], table: &'static KernelTable) -> Result<Convolution, String> {
        let (&[n, c, h, w], &[oc, width, kh, kw]) = (shapes[0], shapes[1]) else {
            return Err("expected an input [N, C, H, W] and weights [OC, C/groups, KH, KW]".into());
        };
        if a.groups == 0 || width.checked_mul(a.groups) != Some(c) {
            return Err(format!("the weights with {} groups do not fit {c} input channels", a.groups));
        }
        if shapes.get(2).is_some_and(|bias| *bias != [oc]) {
            return Err("the bias has not one value a channel".into());
        }
        let (stride, dilation) = (a.stride, a.dilation);
        // What no images become is inferred as if there were one; there is nothing to run then.
        let problem = ConvProblem { n: n.max(1), c, h, w, oc, kernel: [kh, kw], stride, pads: a.pads, dilation, groups: a.groups };
        problem.validate().map_err(|e| e.to_string())?;
        Ok(Convolution { problem, table })
    }

    fn algorithm(&self) -> Algorithm {
        if self.problem.is_depthwise() { Algorithm::Depthwise } else { Algorithm::Im2colGemm }
    }

    /// The input and output, in blocks.
    fn buffers(&self) -> Result<[Geometry; 2], Error> {
        let p = &self.problem;
        let input = Geometry::new(Layout::Nchw16c, [p.n, p.c, p.h, p.w], self.algorithm().required_halo(p))?;
        let [oh, ow] = p.output();
        Ok([input, Geometry::new(Layout::Nchw16c, [p.n, p.oc, oh, ow], Halo::NONE)?])
    }

    /// Bytes of the packed weights and of the buffers.
    fn bytes_needed(&self) -> Result<usize, Error> {
        let weights = PackedWeights::bytes_needed(self.table, &self.problem, self.algorithm(), Layout::Nchw16c)?;
        Ok(self.buffers()?.iter().fold(weights, |sum, g| sum.saturating_add(g.len().saturating_mul(size_of::<f32>()))))
    }

    fn run(&self, executor: &dyn Executor, x: &[f32], weight: &[f32], bias: Option<&[f32]>, output: &mut [f32]) -> Result<(), Error> {
        let (p, algorithm, [input, blocked]) = (&self.problem, self.algorithm(), self.buffers()?);
        let packed = PackedWeights::pack(self.table, p, algorithm, Layout::Nchw16c, weight, bias, executor)?;
        let (mut from, mut to) = (AlignedBuffer::zeros(input.len())?, AlignedBuffer::zeros(blocked.len())?);
        let bounds = (f32::NEG_INFINITY, f32::INFINITY);
        let conv = Conv::new(*p, algorithm, input, blocked, None, Arc::new(packed), bounds, executor.threads())?;
        let mut scratch = AlignedBuffer::zeros(conv.scratch_per_thread().saturating_mul(executor.threads()))?;
        layout::from_nchw(executor, x, &input, &mut from)?;
        conv.run(executor, &from, Residual::None, &mut to, &mut scratch)?;
        layout::to_nchw(executor, &to, &blocked, output)
    }
}
