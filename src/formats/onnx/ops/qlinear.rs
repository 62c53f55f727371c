//! Ops on bytes that stand for floats: the ops on those floats, with scales and zero points around them; and ops on whole numbers.

use super::quantized::Grid;
use super::{Call, Lower, convolution, pooling, products};
use crate::formats::onnx::bind::{Binder, Known, Lowered, unsupported};
use crate::formats::onnx::constant::Constant;
use crate::formats::onnx::element::ElementType;
use crate::graph::TensorOp;
use stridewise_kernels::dense::Reduction;
use stridewise_kernels::{Binary, Unary};

/// Inputs from the `first`-th on: a tensor, its scale and its zero point, as floats.
fn real(b: &mut Binder, c: &Call<'_>, first: usize, axis: i64) -> Lowered<Known> {
    let grid = Grid::new(c.input(first + 1)?, c.optional(first + 2), axis);
    b.dequantize(c, c.input(first)?, &grid)
}

/// Floats as the bytes of a scale and a zero point, which are inputs from the `first`-th on.
fn bytes(b: &mut Binder, c: &Call<'_>, y: &Known, first: usize) -> Lowered<Vec<Known>> {
    let zero = c.optional(first + 1);
    let ty = zero.map_or(ElementType::Uint8, Known::ty);
    Ok(vec![b.quantize(c, y, &Grid::new(c.input(first)?, zero, 0), ty)?])
}

/// A bias of whole numbers of steps: those of the input times those of the weights.
fn bias(b: &mut Binder, bias: &Known, scales: [&Known; 2]) -> Lowered<Known> {
    let product = TensorOp::Combine { function: Binary::Mul, then: Unary::Identity };
    let step = b.emit(product.clone(), &scales, ElementType::Float)?;
    let y = b.emit(product, &[bias, &step], ElementType::Float)?;
    // Broadcasting with scales of one element may have added a dimension.
    b.emit(TensorOp::Reshape(bias.dims().to_vec()), &[&y], ElementType::Float)
}

fn lowered(b: &mut Binder, c: &Call<'_>, lower: Lower, inputs: Vec<Option<Known>>) -> Lowered<Known> {
    match lower(b, &c.with_inputs(inputs))?.into_iter().next() {
        Some(y) => Ok(y),
        None => c.refuse("it has no result"),
    }
}

pub(super) fn conv(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (x, weight) = (real(b, c, 0, 0)?, real(b, c, 3, 0)?);
    let summand = match c.optional(8) {
        Some(summand) => Some(bias(b, summand, [c.input(1)?, c.input(4)?])?),
        None => None,
    };
    let y = lowered(b, c, convolution::conv, vec![Some(x), Some(weight), summand])?;
    bytes(b, c, &y, 6)
}

/// The axis of rows, or of columns, of stacks of matrices.
fn from_behind(known: &Known, place: usize) -> i64 {
    known.dims().len().saturating_sub(place) as i64
}

pub(super) fn matmul(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (rows, columns) = (from_behind(c.input(0)?, 2), from_behind(c.input(3)?, 1));
    let (left, right) = (real(b, c, 0, rows)?, real(b, c, 3, columns)?);
    let y = lowered(b, c, products::matmul, vec![Some(left), Some(right)])?;
    bytes(b, c, &y, 6)
}

pub(super) fn gemm(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let columns = if c.int("transB", 0) != 0 { 0 } else { 1 };
    let (left, right) = (real(b, c, 0, 0)?, real(b, c, 3, columns)?);
    let summand = match c.optional(6) {
        Some(summand) if c.float("alpha", 1.0) == 1.0 => Some(bias(b, summand, [c.input(1)?, c.input(4)?])?),
        Some(_) => return unsupported("with a summand and alpha"),
        None => None,
    };
    let y = lowered(b, c, products::gemm, vec![Some(left), Some(right), summand])?;
    if c.optional(7).is_some() { bytes(b, c, &y, 7) } else { Ok(vec![y]) }
}

pub(super) fn binary(b: &mut Binder, c: &Call<'_>, function: Binary) -> Lowered<Vec<Known>> {
    let (left, right) = (real(b, c, 0, 0)?, real(b, c, 3, 0)?);
    let y = b.combine(function, &left, &right)?;
    bytes(b, c, &y, 6)
}

pub(super) fn unary(b: &mut Binder, c: &Call<'_>, function: Unary) -> Lowered<Vec<Known>> {
    let x = real(b, c, 0, 0)?;
    let y = b.emit(TensorOp::Map(function), &[&x], x.ty())?;
    bytes(b, c, &y, 3)
}

fn channels_first(c: &Call<'_>) -> Lowered<()> {
    if c.int("channels_last", 0) != 0 { unsupported("with the channels last") } else { Ok(()) }
}

pub(super) fn global_average_pool(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    channels_first(c)?;
    let x = real(b, c, 0, 0)?;
    let axes = (2..x.dims().len()).collect();
    let y = b.emit(TensorOp::Reduce { reduction: Reduction::Mean, axes, keep: true }, &[&x], x.ty())?;
    bytes(b, c, &y, 3)
}

pub(super) fn average_pool(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    channels_first(c)?;
    let x = real(b, c, 0, 0)?;
    let y = lowered(b, c, |b, c| pooling::pool(b, c, stridewise_kernels::pool::Reduction::Mean), vec![Some(x)])?;
    bytes(b, c, &y, 3)
}

pub(super) fn concat(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let parts = (2..c.inputs.len()).step_by(3).map(|first| real(b, c, first, 0)).collect::<Lowered<Vec<Known>>>()?;
    let Some(first) = parts.first() else { return c.refuse("it has no input") };
    let axis = c.axis(c.int("axis", 0), first.dims().len())?;
    let y = b.emit(TensorOp::Concat { axis }, &parts.iter().collect::<Vec<_>>(), first.ty())?;
    bytes(b, c, &y, 0)
}

/// A tensor of whole numbers less its zero point.
fn centred(b: &mut Binder, c: &Call<'_>, index: usize, zero: usize, axis: i64) -> Lowered<Known> {
    let one = Known::Constant(Constant::floats(Vec::new(), vec![1.0]));
    b.dequantize(c, c.input(index)?, &Grid::new(&one, c.optional(zero), axis))
}

pub(super) fn conv_integer(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (x, weight) = (centred(b, c, 0, 2, 0)?, centred(b, c, 1, 3, 0)?);
    let y = lowered(b, c, convolution::conv, vec![Some(x), Some(weight)])?;
    Ok(vec![y.with_type(ElementType::Int32)])
}

pub(super) fn matmul_integer(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (rows, columns) = (from_behind(c.input(0)?, 2), from_behind(c.input(1)?, 1));
    let (left, right) = (centred(b, c, 0, 2, rows)?, centred(b, c, 1, 3, columns)?);
    let y = lowered(b, c, products::matmul, vec![Some(left), Some(right)])?;
    Ok(vec![y.with_type(ElementType::Int32)])
}
