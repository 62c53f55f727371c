//! Reductions along axes, and what else goes along one.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered, unsupported};
use crate::formats::onnx::element::ElementType;
use crate::graph::TensorOp;
use stridewise_kernels::Unary;
use stridewise_kernels::dense::{Extreme, Reduction};

pub(super) const OPS: &[(&str, Lower)] = &[
    ("ReduceSum", |b, c| reduce(b, c, Reduction::Sum)),
    ("ReduceMean", |b, c| reduce(b, c, Reduction::Mean)),
    ("ReduceMax", |b, c| reduce(b, c, Reduction::Max)),
    ("ReduceMin", |b, c| reduce(b, c, Reduction::Min)),
    ("ReduceProd", |b, c| reduce(b, c, Reduction::Prod)),
    ("ReduceL1", |b, c| reduce(b, c, Reduction::L1)),
    ("ReduceL2", |b, c| reduce(b, c, Reduction::L2)),
    ("ReduceLogSum", |b, c| reduce(b, c, Reduction::LogSum)),
    ("ReduceLogSumExp", |b, c| reduce(b, c, Reduction::LogSumExp)),
    ("ReduceSumSquare", |b, c| reduce(b, c, Reduction::SumSquare)),
    ("ArgMax", |b, c| arg_reduce(b, c, Extreme::Max)),
    ("ArgMin", |b, c| arg_reduce(b, c, Extreme::Min)),
    ("Softmax", |b, c| softmax(b, c, false)),
    ("LogSoftmax", |b, c| softmax(b, c, true)),
    ("CumSum", cum_sum),
    ("TopK", top_k),
];

fn reduce(b: &mut Binder, c: &Call<'_>, reduction: Reduction) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let rank = x.dims().len();
    let whole = matches!(reduction, Reduction::Sum | Reduction::Max | Reduction::Min | Reduction::Prod);
    if !whole && x.constant().is_none() {
        c.floats_only(x)?;
    }
    if x.ty().is_narrow() && x.constant().is_none() && matches!(reduction, Reduction::Sum | Reduction::Prod) {
        return unsupported(format!("of {}, which wraps around", x.ty()));
    }
    let axes = match c.ints_or_input("axes", 1)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => c.axes(&axes, rank)?,
        None if c.int("noop_with_empty_axes", 0) != 0 => {
            // The function of each element alone.
            let function = match reduction {
                Reduction::L1 | Reduction::L2 => Unary::Abs,
                Reduction::LogSum => Unary::Log,
                Reduction::SumSquare => Unary::Power { exponent: 2.0 },
                _ => return Ok(vec![x.clone()]),
            };
            return Ok(vec![b.emit(TensorOp::Map(function), &[x], x.ty())?]);
        }
        None => (0..rank).collect(),
    };
    let keep = c.int("keepdims", 1) != 0;
    Ok(vec![b.emit(TensorOp::Reduce { reduction, axes, keep }, &[x], x.ty())?])
}

fn arg_reduce(b: &mut Binder, c: &Call<'_>, extreme: Extreme) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let axis = c.axis(c.int("axis", 0), x.dims().len())?;
    let (keep, last) = (c.int("keepdims", 1) != 0, c.int("select_last_index", 0) != 0);
    Ok(vec![b.emit(TensorOp::ArgReduce { extreme, axis, keep, last }, &[x], ElementType::Int64)?])
}

fn softmax(b: &mut Binder, c: &Call<'_>, log: bool) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let ty = c.floats_only(x)?;
    let rank = x.dims().len();
    if c.opset >= 13 {
        let axis = c.axis(c.int("axis", -1), rank)?;
        return Ok(vec![b.emit(TensorOp::Softmax { axis, log }, &[x], ty)?]);
    }
    // Of a matrix: all axes from this one on together.
    let axis = c.axis(c.int("axis", 1), rank)?;
    if axis + 1 == rank {
        return Ok(vec![b.emit(TensorOp::Softmax { axis, log }, &[x], ty)?]);
    }
    let (rows, columns) = (x.dims()[..axis].iter().product(), x.dims()[axis..].iter().product());
    let matrix = b.emit(TensorOp::Reshape(vec![rows, columns]), &[x], ty)?;
    let y = b.emit(TensorOp::Softmax { axis: 1, log }, &[&matrix], ty)?;
    Ok(vec![b.emit(TensorOp::Reshape(x.dims().to_vec()), &[&y], ty)?])
}

fn cum_sum(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let axis = match c.known_ints(1)?[..] {
        [axis] => c.axis(axis, x.dims().len())?,
        _ => return c.refuse("its axis is not one number"),
    };
    let (exclusive, reverse) = (c.int("exclusive", 0) != 0, c.int("reverse", 0) != 0);
    Ok(vec![b.emit(TensorOp::CumSum { axis, exclusive, reverse }, &[x], x.ty())?])
}

fn top_k(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let axis = c.axis(c.int("axis", -1), x.dims().len())?;
    let k = match c.ints_or_input("k", 1)? {
        _ if c.opset < 10 => c.int("k", 0),
        Some(k) if k.len() == 1 => k[0],
        _ => return c.refuse("k is not one number"),
    };
    let k = c.size("k", k)?;
    let extreme = if c.int("largest", 1) != 0 { Extreme::Max } else { Extreme::Min };
    let op = |places: bool| TensorOp::TopK { axis, k, extreme, places };
    Ok(vec![b.emit(op(false), &[x], x.ty())?, b.emit(op(true), &[x], ElementType::Int64)?])
}
