//! Which ops on tensors run in NCHW16c, and with which kernels.

use super::layout::dims4;
use super::step::Compute;
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, TensorOp};
use crate::tensor::Shape;
use stridewise_kernels::blocked::{Channels, Combine, Depth, InstanceNorm, Lrn, Map, Resample, Window};
use stridewise_kernels::dense::{PadMode, Reduction};
use stridewise_kernels::pool::{self, Pool, Sliding, Windows};
use stridewise_kernels::resize::{AxisMap, Coordinates};
use stridewise_kernels::{Geometry, KernelTable};

/// Whether a node can work in blocks of channels.
pub(super) fn supports(op: &TensorOp, graph: &Graph, shapes: &[Shape], node: &Node) -> bool {
    let shape = |index: usize| node.inputs.get(index).map(|v| shapes[v.0].dims());
    let constant = |index: usize| node.inputs.get(index).is_some_and(|v| graph.values[v.0].constant.is_some());
    let output = shapes[node.output.0].dims();
    let Some(x) = shape(0) else { return false };
    let (rank, image) = (x.len(), dims4(output).is_some() && dims4(x).is_some());
    match op {
        TensorOp::Map(_) | TensorOp::ChannelShuffle { .. } => image,
        // A constant is laid out as the output needs it; what is computed has its own dimensions.
        TensorOp::Combine { .. } => {
            let fits = |index: usize| constant(index) || shape(index).is_some_and(|s| s.len() == output.len());
            dims4(output).is_some() && (0..2).all(fits)
        }
        TensorOp::Pool { .. } | TensorOp::Lrn { .. } => image && rank >= 3,
        TensorOp::Reduce { reduction, axes, .. } => {
            matches!(reduction, Reduction::Mean | Reduction::Max) && rank >= 3 && image && axes.iter().copied().eq(2..rank)
        }
        TensorOp::Concat { axis } => *axis == 1 && image,
        TensorOp::Slice { axes, steps, .. } => image && (axes == &[1] || axes.iter().all(|&a| a >= 2)) && steps.iter().all(|&s| s > 0),
        TensorOp::Pad { pads, mode: PadMode::Constant(_) } => {
            image && rank >= 3 && pads.len() == 2 * rank && (0..2).all(|axis| pads[axis] == 0 && pads[rank + axis] == 0)
        }
        TensorOp::Resize { axes, rules, .. } => {
            let crops = rules.iter().any(|rule| matches!(rule.coordinates, Coordinates::TfCropAndResize { .. }));
            image && rank >= 3 && axes[..2].iter().all(Option::is_none) && !crops
        }
        TensorOp::DepthToSpace { .. } | TensorOp::SpaceToDepth { .. } => rank == 4,
        TensorOp::InstanceNormalization { .. } => image && rank >= 3 && constant(1) && constant(2),
        _ => false,
    }
}

/// The kernel of a node that [`supports`] said yes to.
pub(super) fn compute(
    op: &TensorOp,
    graph: &Graph,
    shapes: &[Shape],
    node: &Node,
    inputs: &[Geometry],
    output: Geometry,
    table: &'static KernelTable,
) -> Result<Compute> {
    let refuse = |reason: &str| Error::Graph { node: node.name.clone(), reason: reason.into() };
    let (Some(&input), Some(value)) = (inputs.first(), node.inputs.first()) else { return Err(refuse("no input")) };
    let x = shapes[value.0].dims();
    let rank = x.len();
    // Rows and columns, of a sequence one row.
    let spatial = |axis: usize| axis.checked_sub(4usize.saturating_sub(rank)).filter(|&axis| axis >= 2);
    let windows = |axis: usize, windows: &[Sliding]| match spatial(axis).and_then(|axis| windows.get(axis - 2)) {
        Some(sliding) => Windows::onnx(input.dims()[axis], sliding),
        None => Windows::adaptive(1, 1),
    };
    Ok(match op {
        TensorOp::Map(function) => Compute::Map(Map::new(*function, input, output, table)?),
        TensorOp::Combine { function, then } => {
            let &[a, b] = inputs else { return Err(refuse("expected two inputs")) };
            Compute::Combine(Box::new(Combine::new(*function, a, b, output, *then, table)?))
        }
        TensorOp::Pool { reduction, windows: sliding } => {
            let (rows, columns) = (windows(2, sliding)?, windows(3, sliding)?);
            Compute::Pool(Pool::new(*reduction, input, output, rows, columns, table)?)
        }
        TensorOp::Reduce { reduction, .. } => {
            let reduction = if *reduction == Reduction::Max { pool::Reduction::Maximum } else { pool::Reduction::Mean };
            let (rows, columns) = (Windows::adaptive(input.h(), 1)?, Windows::adaptive(input.w(), 1)?);
            Compute::Pool(Pool::new(reduction, input, output, rows, columns, table)?)
        }
        TensorOp::Lrn { size, coefficients } => Compute::Lrn(Lrn::new(input, output, *size, *coefficients, table)?),
        TensorOp::Concat { .. } => Compute::Channels(Channels::concat(inputs, output, table)?),
        TensorOp::ChannelShuffle { groups } => Compute::Channels(Channels::shuffle(input, output, *groups, table)?),
        TensorOp::Slice { starts, axes, steps, .. } => {
            // As many as the output has, from the first on: ends do not matter any more.
            let start = |i: usize, dim: usize| {
                let from_behind = if starts[i] < 0 { starts[i].saturating_add(dim as i64) } else { starts[i] };
                from_behind.clamp(0, dim as i64) as usize
            };
            if axes == &[1] {
                let step = usize::try_from(steps[0]).map_err(|_| refuse("a step is negative"))?;
                Compute::Channels(Channels::slice(input, output, start(0, x[1]), step, table)?)
            } else {
                let (mut before, mut step) = ([0isize; 2], [1usize; 2]);
                for (i, &axis) in axes.iter().enumerate() {
                    let place = axis + 4 - rank - 2;
                    before[place] = -(start(i, x[axis]) as isize);
                    // A step over the end is as good as one to the end.
                    step[place] = usize::try_from(steps[i]).map_err(|_| refuse("a step is negative"))?.min(x[axis]);
                }
                Compute::Window(Window::new(input, output, before, step, 0.0)?)
            }
        }
        TensorOp::Pad { pads, mode } => {
            let PadMode::Constant(fill) = *mode else { return Err(refuse("the padding is no constant")) };
            let before = |axis: usize| spatial(axis).map_or(0, |axis| pads[axis] as isize);
            Compute::Window(Window::new(input, output, [before(2), before(3)], [1, 1], fill)?)
        }
        TensorOp::Resize { axes, rules, .. } => {
            let map = |axis: usize| -> Result<AxisMap> {
                let size = input.dims()[axis];
                let (rule, target) = match spatial(axis) {
                    Some(axis) => (&rules[axis], axes[axis].unwrap_or((size, 1.0))),
                    None => (&rules[rank - 1], (1, 1.0)),
                };
                Ok(AxisMap::new(size, target.0, target.1, rule)?)
            };
            Compute::Resample(Box::new(Resample::new(input, output, map(2)?, map(3)?, table)?))
        }
        TensorOp::DepthToSpace { block, crd } => Compute::Depth(Depth::to_space(input, output, *block, *crd)?),
        TensorOp::SpaceToDepth { block } => Compute::Depth(Depth::to_depth(input, output, *block)?),
        TensorOp::InstanceNormalization { epsilon } => {
            let values = |index: usize| {
                let tensor = node.inputs.get(index).and_then(|v| graph.values[v.0].constant.as_deref());
                tensor.map(|tensor| tensor.as_slice()).ok_or_else(|| refuse("scale and shift are no constants"))
            };
            Compute::InstanceNorm(Box::new(InstanceNorm::new(input, output, values(1)?, values(2)?, *epsilon, table)?))
        }
        _ => return Err(refuse("it does not run in blocks")),
    })
}
