//! Elements by their places.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered};
use crate::graph::TensorOp;

pub(super) const OPS: &[(&str, Lower)] = &[("Gather", gather), ("GatherElements", gather_elements), ("GatherND", gather_nd)];

fn gather(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (data, indices) = (c.input(0)?, c.input(1)?);
    let axis = c.axis(c.int("axis", 0), data.dims().len())?;
    // Known places need not be looked up in a run: one is a slice.
    if let (Known::Constant(constant), None) = (indices, data.constant())
        && let Some(&[index]) = constant.to_ints().as_deref().map(|ints| &ints[..])
    {
        let dim = data.dims()[axis];
        let from_behind = if index < 0 { index.saturating_add(dim as i64) } else { index };
        if !(0..dim as i64).contains(&from_behind) {
            return c.refuse(format!("index {index} of {dim}"));
        }
        let op = TensorOp::Slice { starts: vec![from_behind], ends: vec![from_behind + 1], axes: vec![axis], steps: vec![1] };
        let slice = b.emit(op, &[data], data.ty())?;
        let mut dims = data.dims().to_vec();
        dims.splice(axis..=axis, constant.dims.iter().copied());
        return Ok(vec![b.emit(TensorOp::Reshape(dims), &[&slice], data.ty())?]);
    }
    Ok(vec![b.emit(TensorOp::Gather { axis }, &[data, indices], data.ty())?])
}

fn gather_elements(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (data, indices) = (c.input(0)?, c.input(1)?);
    let axis = c.axis(c.int("axis", 0), data.dims().len())?;
    Ok(vec![b.emit(TensorOp::GatherElements { axis }, &[data, indices], data.ty())?])
}

fn gather_nd(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (data, indices) = (c.input(0)?, c.input(1)?);
    let batch = c.size("batch_dims", c.int("batch_dims", 0))?;
    Ok(vec![b.emit(TensorOp::GatherNd { batch }, &[data, indices], data.ty())?])
}
