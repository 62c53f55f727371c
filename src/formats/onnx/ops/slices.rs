//! Parts of tensors, and tensors of parts.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered, unsupported};
use crate::graph::TensorOp;
use stridewise_kernels::dense::PadMode;

pub(super) const OPS: &[(&str, Lower)] = &[
    ("Concat", concat),
    ("Split", split),
    ("Slice", slice),
    ("Pad", pad),
    ("Tile", tile),
    ("DepthToSpace", depth_to_space),
    ("SpaceToDepth", space_to_depth),
];

fn concat(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let all = c.all_inputs()?;
    let ty = all[0].ty();
    let axis = c.axis(c.int("axis", 1), all[0].dims().len())?;
    let adds = |known: &Known| known.dims().get(axis) != Some(&0);
    let mut inputs = all.clone();
    if let Some(first) = all.iter().find(|known| adds(known)) {
        let (of, count) = (first.dims(), first.dims().len());
        let fits = |dims: &[usize]| dims.len() == count && (0..count).all(|i| i == axis || dims[i] == of[i]);
        // Without those that add nothing; of no shape at all are those that exporters write where a list begins.
        inputs.retain(|known| adds(known) || !(known.dims() == [0] || fits(known.dims())));
    }
    match inputs.as_slice() {
        [x] => Ok(vec![(*x).clone()]),
        _ => Ok(vec![b.emit(TensorOp::Concat { axis }, &inputs, ty)?]),
    }
}

fn split(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let axis = c.axis(c.int("axis", 0), x.dims().len())?;
    let dim = x.dims()[axis];
    let count = c.proto.output.len();
    let sizes = match c.ints_or_input("split", 1)? {
        Some(sizes) => c.sizes("a part", &sizes)?,
        None => {
            // The last part is smaller where they can't be equal.
            let each = dim.div_ceil(count.max(1));
            (0..count).map(|part| each.min(dim.saturating_sub(part * each))).collect()
        }
    };
    if sizes.len() != count || sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size)) != Some(dim) {
        return c.refuse(format!("{dim} elements in {count} parts of {sizes:?}"));
    }
    let mut first = 0i64;
    let mut parts = Vec::with_capacity(count);
    for size in sizes {
        let end = first + size as i64;
        let op = TensorOp::Slice { starts: vec![first], ends: vec![end], axes: vec![axis], steps: vec![1] };
        parts.push(b.emit(op, &[x], x.ty())?);
        first = end;
    }
    Ok(parts)
}

fn slice(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let rank = x.dims().len();
    let needed = |ints: Option<Vec<i64>>, what: &str| match ints {
        Some(ints) => Ok(ints),
        None => c.refuse(format!("it has no {what}")),
    };
    let starts = needed(c.ints_or_input("starts", 1)?, "starts")?;
    let ends = needed(c.ints_or_input("ends", 2)?, "ends")?;
    let axes = match c.ints_or_input("axes", 3)? {
        Some(axes) => c.axes(&axes, rank)?,
        None => (0..starts.len()).collect(),
    };
    let steps = match c.optional(4) {
        Some(_) => c.known_ints(4)?.to_vec(),
        None => vec![1; starts.len()],
    };
    if axes.iter().any(|&axis| axis >= rank) || [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return c.refuse(format!("{} starts, {} ends, {} axes and {} steps", starts.len(), ends.len(), axes.len(), steps.len()));
    }
    let everything = |i: usize| starts[i] == 0 && steps[i] == 1 && ends[i] >= x.dims()[axes[i]] as i64;
    if (0..axes.len()).all(everything) {
        return Ok(vec![x.clone()]);
    }
    Ok(vec![b.emit(TensorOp::Slice { starts, ends, axes, steps }, &[x], x.ty())?])
}

fn pad(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let rank = x.dims().len();
    let Some(given) = c.ints_or_input("pads", 1)? else { return c.refuse("it has no pads") };
    let axes = match c.optional(3) {
        Some(_) => c.axes(&c.known_ints(3)?, rank)?,
        None => (0..rank).collect(),
    };
    if given.len() != 2 * axes.len() {
        return c.refuse(format!("{} pads for {} axes", given.len(), axes.len()));
    }
    let mut pads = vec![0; 2 * rank];
    for (place, &axis) in axes.iter().enumerate() {
        pads[axis] = given[place];
        pads[rank + axis] = given[axes.len() + place];
    }
    let value = match c.optional(2) {
        Some(Known::Constant(constant)) => constant.to_floats().first().copied().unwrap_or(0.0),
        Some(_) => return unsupported("the value that it adds is computed in a run, and must be known before"),
        None => c.float("value", 0.0),
    };
    if pads.iter().all(|&pad| pad == 0) {
        return Ok(vec![x.clone()]);
    }
    let mode = match c.string("mode", "constant")? {
        "constant" => PadMode::Constant(value),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return unsupported(format!("mode = {other}")),
    };
    Ok(vec![b.emit(TensorOp::Pad { pads, mode }, &[x], x.ty())?])
}

fn tile(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let repeats = c.sizes("a repeat", &c.known_ints(1)?)?;
    Ok(vec![b.emit(TensorOp::Tile(repeats), &[x], x.ty())?])
}

fn depth_to_space(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let block = c.size("blocksize", c.int("blocksize", 0))?;
    let crd = match c.string("mode", "DCR")? {
        "DCR" => false,
        "CRD" => true,
        other => return unsupported(format!("mode = {other}")),
    };
    Ok(vec![b.emit(TensorOp::DepthToSpace { block, crd }, &[x], x.ty())?])
}

fn space_to_depth(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let block = c.size("blocksize", c.int("blocksize", 0))?;
    match (c.string("mode", "DCR")?, x.dims()) {
        ("DCR", _) => Ok(vec![b.emit(TensorOp::SpaceToDepth { block }, &[x], x.ty())?]),
        // The block is the inner part of the channel's number.
        ("CRD", &[n, channels, h, w]) => {
            let (Some(rows), Some(columns)) = (h.checked_div(block), w.checked_div(block)) else { return c.refuse("its block is 0") };
            let Some(deep) = channels.checked_mul(block).and_then(|c| c.checked_mul(block)) else { return c.refuse("its size overflows") };
            let cut = b.emit(TensorOp::Reshape(vec![n, channels, rows, block, columns, block]), &[x], x.ty())?;
            let moved = b.emit(TensorOp::Transpose(vec![0, 1, 3, 5, 2, 4]), &[&cut], x.ty())?;
            Ok(vec![b.emit(TensorOp::Reshape(vec![n, deep, rows, columns]), &[&moved], x.ty())?])
        }
        ("CRD", dims) => c.refuse(format!("an input of shape {dims:?}")),
        (other, _) => unsupported(format!("mode = {other}")),
    }
}
