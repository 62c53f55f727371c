//! Normalisations.

use super::convolution::{as_image, sequence};
use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered, unsupported};
use crate::graph::{Op, TensorOp};
use stridewise_kernels::dense::Reduction;
use stridewise_kernels::{Binary, Unary};

pub(super) const OPS: &[(&str, Lower)] = &[
    ("BatchNormalization", batch),
    ("InstanceNormalization", instance),
    ("LayerNormalization", layer),
    ("GroupNormalization", group),
    ("LRN", lrn),
];

fn batch(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let ty = c.floats_only(x)?;
    if c.opset < 14 && (1..5).any(|output| c.writes(output)) {
        return unsupported("in training");
    }
    if c.int("spatial", 1) == 0 {
        return unsupported("spatial = 0");
    }
    let epsilon = c.float("epsilon", 1e-5);
    if c.int("training_mode", 0) != 0 {
        return batch_in_training(b, c, x, epsilon);
    }
    let parameters = [c.input(1)?, c.input(2)?, c.input(3)?, c.input(4)?];
    let constants: Option<Vec<_>> = parameters.iter().map(|known| known.constant()).collect();
    let rank = x.dims().len();
    if let (Some(constants), 2..=4, None) = (constants, rank, x.constant()) {
        let tensors = constants.iter().map(|constant| b.tensor(constant, &constant.dims)).collect::<Lowered<Vec<_>>>()?;
        if let Ok([scale, bias, mean, variance]) = <[_; 4]>::try_from(tensors) {
            let image = b.emit(TensorOp::Reshape(as_image(x.dims())), &[x], ty)?;
            let op = Op::BatchNormalization { scale, bias, mean, variance, epsilon: f64::from(epsilon) };
            let y = b.add(op, &[&image], ty)?;
            return Ok(vec![sequence(b, y, rank)?]);
        }
    }
    let inputs: Vec<&Known> = [x].into_iter().chain(parameters).collect();
    Ok(vec![b.emit(TensorOp::BatchNormalization { epsilon }, &inputs, ty)?])
}

/// By the statistics of the batch itself; the running ones move towards them.
fn batch_in_training(b: &mut Binder, c: &Call<'_>, x: &Known, epsilon: f32) -> Lowered<Vec<Known>> {
    let (ty, rank) = (x.ty(), x.dims().len());
    let mean = |keep| {
        let axes = (0..rank).filter(|&axis| axis != 1).collect();
        TensorOp::Reduce { reduction: Reduction::Mean, axes, keep }
    };
    let combine = |function| TensorOp::Combine { function, then: Unary::Identity };
    let center = b.emit(mean(true), &[x], ty)?;
    let distance = b.emit(combine(Binary::Sub), &[x, &center], ty)?;
    let square = b.emit(combine(Binary::Mul), &[&distance, &distance], ty)?;
    let statistics = [b.emit(mean(false), &[x], ty)?, b.emit(mean(false), &[&square], ty)?];
    let [batch_mean, variance] = &statistics;
    let op = TensorOp::BatchNormalization { epsilon };
    let mut outputs = vec![b.emit(op, &[x, c.input(1)?, c.input(2)?, batch_mean, variance], ty)?];
    let momentum = c.float("momentum", 0.9);
    for (index, statistic) in statistics.iter().enumerate() {
        let part = |b: &mut Binder, known: &Known, scale: f32| b.emit(TensorOp::Map(Unary::Affine { scale, shift: 0.0 }), &[known], ty);
        let (old, new) = (part(b, c.input(3 + index)?, momentum)?, part(b, statistic, 1.0 - momentum)?);
        outputs.push(b.emit(combine(Binary::Add), &[&old, &new], ty)?);
    }
    Ok(outputs)
}

fn instance(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let op = TensorOp::InstanceNormalization { epsilon: c.float("epsilon", 1e-5) };
    Ok(vec![b.emit(op, &[x, c.input(1)?, c.input(2)?], c.floats_only(x)?)?])
}

fn layer(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (x, scale) = (c.input(0)?, c.input(1)?);
    let ty = c.floats_only(x)?;
    let (rank, epsilon) = (x.dims().len(), c.float("epsilon", 1e-5));
    let axis = c.axis(c.int("axis", -1), rank)?;
    let shift = match c.optional(2) {
        Some(shift) => shift.clone(),
        None => b.emit(TensorOp::Map(Unary::Affine { scale: 0.0, shift: 0.0 }), &[scale], ty)?,
    };
    let each = x.dims()[axis..].to_vec();
    let full = |b: &mut Binder, known: &Known| match known.dims() == each {
        true => Ok(known.clone()),
        false => b.emit(TensorOp::Expand(each.clone()), &[known], ty),
    };
    let (scale, shift) = (full(b, scale)?, full(b, &shift)?);
    let mut outputs = vec![b.emit(TensorOp::LayerNormalization { axis, epsilon }, &[x, &scale, &shift], ty)?];
    if c.writes(1) || c.writes(2) {
        let mean = TensorOp::Reduce { reduction: Reduction::Mean, axes: (axis..rank).collect(), keep: true };
        let center = b.emit(mean.clone(), &[x], ty)?;
        let combine = |function| TensorOp::Combine { function, then: Unary::Identity };
        let distance = b.emit(combine(Binary::Sub), &[x, &center], ty)?;
        let square = b.emit(combine(Binary::Mul), &[&distance, &distance], ty)?;
        let variance = b.emit(mean, &[&square], ty)?;
        let padded = b.emit(TensorOp::Map(Unary::Affine { scale: 1.0, shift: epsilon }), &[&variance], ty)?;
        let deviation = b.emit(TensorOp::Map(Unary::Sqrt), &[&padded], ty)?;
        outputs.push(center);
        outputs.push(b.emit(TensorOp::Map(Unary::Reciprocal), &[&deviation], ty)?);
    }
    Ok(outputs)
}

fn group(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let ty = c.floats_only(x)?;
    let groups = c.size("num_groups", c.int("num_groups", 0))?;
    let Some(&channels) = x.dims().get(1) else { return c.refuse("its input has no channels") };
    if groups == 0 || !channels.is_multiple_of(groups) {
        return c.refuse(format!("{channels} channels in {groups} groups"));
    }
    // Until opset 21 there is one number a group.
    let per_channel = |b: &mut Binder, known: &Known| match known.dims() {
        [count] if *count == groups && groups != channels => {
            let column = b.emit(TensorOp::Reshape(vec![groups, 1]), &[known], ty)?;
            let wide = b.emit(TensorOp::Expand(vec![groups, channels / groups]), &[&column], ty)?;
            b.emit(TensorOp::Reshape(vec![channels]), &[&wide], ty)
        }
        _ => Ok(known.clone()),
    };
    let (scale, shift) = (per_channel(b, c.input(1)?)?, per_channel(b, c.input(2)?)?);
    let op = TensorOp::GroupNormalization { groups, epsilon: c.float("epsilon", 1e-5) };
    Ok(vec![b.emit(op, &[x, &scale, &shift], ty)?])
}

fn lrn(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let size = c.size("size", c.int("size", 0))?;
    let coefficients = [c.float("alpha", 1e-4), c.float("beta", 0.75), c.float("bias", 1.0)];
    Ok(vec![b.emit(TensorOp::Lrn { size, coefficients }, &[x], c.floats_only(x)?)?])
}
