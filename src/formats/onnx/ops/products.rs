//! Products of matrices.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered};
use crate::graph::{Activation, Op, TensorOp};

pub(super) const OPS: &[(&str, Lower)] = &[("Gemm", gemm), ("MatMul", matmul)];

pub(super) fn gemm(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (a, right, summand) = (c.input(0)?, c.input(1)?, c.optional(2));
    let ty = c.floats_only(a)?;
    let transpose = [c.int("transA", 0) != 0, c.int("transB", 0) != 0];
    let (alpha, beta) = (c.float("alpha", 1.0), c.float("beta", 1.0));
    let plain = !transpose[0] && alpha == 1.0 && beta == 1.0 && a.constant().is_none() && a.dims().len() == 2;
    if plain && let (Known::Constant(constant), [k, n]) = (right, right.dims()) {
        let outputs = if transpose[1] { *k } else { *n };
        let bias = match summand {
            None => Some(None),
            Some(Known::Constant(bias)) if bias.dims == [outputs] || bias.dims == [1, outputs] => Some(Some(bias)),
            _ => None,
        };
        if let Some(bias) = bias {
            let bias = bias.map(|bias| b.tensor(bias, &[outputs])).transpose()?;
            let rows = if transpose[1] { right.clone() } else { b.emit(TensorOp::Transpose(vec![1, 0]), &[right], ty)? };
            let constant = rows.constant().unwrap_or(constant);
            let steps = right.constant().and_then(|right| right.steps(usize::from(!transpose[1])));
            let weight = b.weight(constant, &constant.dims)?.with_steps(steps);
            return Ok(vec![b.add(Op::Gemm { weight, bias, activation: Activation::None }, &[a], ty)?]);
        }
    }
    let inputs: Vec<&Known> = [a, right].into_iter().chain(summand).collect();
    Ok(vec![b.emit(TensorOp::Product { transpose, alpha, beta }, &inputs, ty)?])
}

pub(super) fn matmul(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (a, right) = (c.input(0)?, c.input(1)?);
    let ty = c.floats_only(a)?;
    if let (Known::Constant(stored), 2, 2, None) = (right, right.dims().len(), a.dims().len(), a.constant()) {
        let rows = b.emit(TensorOp::Transpose(vec![1, 0]), &[right], ty)?;
        if let Some(constant) = rows.constant() {
            let weight = b.weight(constant, &constant.dims)?.with_steps(stored.steps(1));
            return Ok(vec![b.add(Op::Gemm { weight, bias: None, activation: Activation::None }, &[a], ty)?]);
        }
    }
    Ok(vec![b.emit(TensorOp::MatMul, &[a, right], ty)?])
}
