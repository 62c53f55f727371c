//! Ops on constants. Floating-point numbers go through the kernels that would compute them in a run; whole numbers, which shapes
//! are made of, stay exact.

use super::constant::Constant;
use super::element::ElementType;
use super::tensor::narrow;
use crate::graph::TensorOp;
use crate::graph::dense::{DenseKernel, output_dims, table_bytes};
use std::sync::Arc;
use stridewise_kernels::dense::{PadMode, Rearrange, Reduction};
use stridewise_kernels::{Binary, Error, Inline, KernelTable, Unary};

/// Most whole numbers that are moved: their places are counted in f32.
const MOST_MOVED: usize = 1 << 24;

/// Bytes of a whole number and of its place.
const WHOLE: usize = size_of::<i64>() + size_of::<f32>();

/// Takes the bytes of so many elements, and of what is needed to compute them, before they are asked for.
///
/// # Errors
/// When the budget does not suffice.
pub(super) fn charge(budget: &mut usize, len: usize, each: usize) -> Result<(), Error> {
    match budget.checked_sub(len.saturating_mul(each)) {
        Some(left) => {
            *budget = left;
            Ok(())
        }
        None => Err(Error::Problem {
            problem: "of constants".into(),
            reason: "those that are made while the network is read need more memory than is allowed: raise `OnnxOptions::max_memory`"
                .into(),
        }),
    }
}

fn refuse(op: &TensorOp, reason: &str) -> Error {
    Error::Problem { problem: format!("{} of constants", op.name()), reason: reason.into() }
}

/// Computes an op; `ty` is the type of the result. Takes what it needs of `budget`, in bytes.
///
/// # Errors
/// When the op does not fit its inputs, is not one of whole numbers, or the budget does not suffice.
pub(super) fn evaluate(
    op: &TensorOp,
    inputs: &[&Constant],
    ty: ElementType,
    table: &'static KernelTable,
    budget: &mut usize,
) -> Result<Constant, Error> {
    let moved = moved_inputs(op, inputs.len());
    let whole = |index: usize| inputs[index].is_whole();
    let constant = if !moved.is_empty() && moved.clone().all(whole) {
        move_ints(op, inputs, moved, table, budget)?
    } else if (0..inputs.len()).all(whole) && is_arithmetic(op) {
        compute_ints(op, inputs, ty, table, budget)?
    } else {
        let shapes: Vec<&[usize]> = inputs.iter().map(|c| &c.dims[..]).collect();
        charge(budget, table_bytes(op, &shapes, table)?, 1)?;
        let kernel = DenseKernel::new(op, &shapes, table)?;
        let dims = kernel.output_shape().to_vec();
        let len = dims.iter().product();
        let each = if ty.is_float() { size_of::<f32>() } else { WHOLE };
        charge(budget, kernel.scratch_len(1).saturating_add(len), each)?;
        let values: Vec<Arc<Vec<f32>>> = inputs.iter().map(|c| c.to_floats()).collect();
        let slices: Vec<&[f32]> = values.iter().map(|v| &v[..]).collect();
        let (mut output, mut scratch) = (vec![0.0; len], vec![0.0; kernel.scratch_len(1)]);
        kernel.run(&Inline, &slices, &mut output, &mut scratch)?;
        if ty.is_float() { Constant::floats(dims, output) } else { Constant::ints(dims, output.iter().map(|&v| v as i64).collect()) }
    };
    Ok(constant.with_type(ty))
}

/// The inputs whose elements an op moves and does not look at.
fn moved_inputs(op: &TensorOp, count: usize) -> std::ops::Range<usize> {
    match op {
        TensorOp::Concat { .. } => 0..count,
        TensorOp::Where => 1..count.min(3),
        TensorOp::Reshape(_)
        | TensorOp::Transpose(_)
        | TensorOp::Slice { .. }
        | TensorOp::Expand(_)
        | TensorOp::Tile(_)
        | TensorOp::Pad { .. }
        | TensorOp::Gather { .. }
        | TensorOp::GatherElements { .. }
        | TensorOp::GatherNd { .. }
        | TensorOp::DepthToSpace { .. }
        | TensorOp::SpaceToDepth { .. }
        | TensorOp::ChannelShuffle { .. } => 0..1.min(count),
        _ => 0..0,
    }
}

/// Whether an op of a tensor of no elements can have a result of some: a sum is 0 then and a maximum -∞, but a mean is nothing.
pub(super) fn is_defined_of_nothing(op: &TensorOp) -> bool {
    match op {
        TensorOp::Reduce { reduction, .. } => *reduction != Reduction::Mean,
        TensorOp::Concat { .. } | TensorOp::Pad { mode: PadMode::Constant(_), .. } => true,
        TensorOp::MatMul | TensorOp::Product { .. } => true,
        _ => false,
    }
}

fn is_arithmetic(op: &TensorOp) -> bool {
    matches!(op, TensorOp::Map(_) | TensorOp::Combine { .. } | TensorOp::Reduce { .. })
}

/// Moves the numbers of the elements instead of the elements, and then takes the elements that have them.
fn move_ints(
    op: &TensorOp,
    inputs: &[&Constant],
    moved: std::ops::Range<usize>,
    table: &'static KernelTable,
    budget: &mut usize,
) -> Result<Constant, Error> {
    // What is added around is the last element of all.
    let (numbered, fill) = match op {
        TensorOp::Pad { pads, mode: PadMode::Constant(fill) } => {
            (TensorOp::Pad { pads: pads.clone(), mode: PadMode::Constant(-1.0) }, *fill as i64)
        }
        _ => (op.clone(), 0),
    };
    let shapes: Vec<&[usize]> = inputs.iter().map(|c| &c.dims[..]).collect();
    let kernel = DenseKernel::new(&numbered, &shapes, table)?;
    let dims = kernel.output_shape().to_vec();
    let len: usize = dims.iter().product();
    let total = inputs.iter().fold(len, |sum, c| sum.saturating_add(c.len()));
    if total > MOST_MOVED {
        return Err(refuse(op, "there are more than 2^24 whole numbers"));
    }
    charge(budget, total, WHOLE)?;
    let (mut elements, mut values) = (Vec::new(), Vec::with_capacity(inputs.len()));
    for (index, constant) in inputs.iter().enumerate() {
        if moved.contains(&index) {
            let first = elements.len();
            elements.extend_from_slice(&constant.to_ints().ok_or_else(|| refuse(op, "an input has no whole numbers"))?);
            values.push(Arc::new((first..elements.len()).map(|i| i as f32).collect::<Vec<f32>>()));
        } else {
            values.push(constant.to_floats());
        }
    }
    let slices: Vec<&[f32]> = values.iter().map(|v| &v[..]).collect();
    let mut places = vec![0.0; len];
    kernel.run(&Inline, &slices, &mut places, &mut [])?;
    let output = places.iter().map(|&place| if place < 0.0 { fill } else { elements.get(place as usize).copied().unwrap_or(0) });
    Ok(Constant::ints(dims, output.collect()))
}

fn compute_ints(
    op: &TensorOp,
    inputs: &[&Constant],
    ty: ElementType,
    table: &'static KernelTable,
    budget: &mut usize,
) -> Result<Constant, Error> {
    let ints = |constant: &Constant| constant.to_ints().ok_or_else(|| refuse(op, "an input has no whole numbers"));
    match op {
        TensorOp::Map(function) => {
            charge(budget, inputs[0].len(), WHOLE)?;
            let apply = |v: &i64| unary(*function, *v);
            let output: Option<Vec<i64>> = ints(inputs[0])?.iter().map(|v| Some(narrow(ty, apply(v)?))).collect();
            let output = output.ok_or_else(|| refuse(op, "it is no function of whole numbers"))?;
            Ok(Constant::ints(inputs[0].dims.clone(), output))
        }
        TensorOp::Combine { function, .. } => {
            let dims = stridewise_kernels::dense::broadcast(&inputs[0].dims, &inputs[1].dims)?;
            let expand = |constant: &Constant, budget: &mut usize| -> Result<Arc<Vec<i64>>, Error> {
                match constant.dims == dims {
                    true => ints(constant),
                    false => ints(&move_ints(&TensorOp::Expand(dims.clone()), &[constant], 0..1, table, budget)?),
                }
            };
            let (a, b) = (expand(inputs[0], budget)?, expand(inputs[1], budget)?);
            charge(budget, a.len(), WHOLE)?;
            let apply = |(a, b): (&i64, &i64)| Some(narrow(ty, binary(*function, *a, *b)?));
            let output: Option<Vec<i64>> = a.iter().zip(b.iter()).map(apply).collect();
            Ok(Constant::ints(dims, output.ok_or_else(|| refuse(op, "it has no result in whole numbers"))?))
        }
        TensorOp::Reduce { reduction, axes, .. } => {
            let x = inputs[0];
            let shapes = [&x.dims[..]];
            let dims = output_dims(op, &shapes, table)?;
            // The axes that are reduced, behind all others.
            let kept = (0..x.dims.len()).filter(|axis| !axes.contains(axis));
            let order: Vec<usize> = kept.chain(axes.iter().copied()).collect();
            Rearrange::transpose(&x.dims, &order)?;
            let moved = move_ints(&TensorOp::Transpose(order), &[x], 0..1, table, budget)?;
            let values = ints(&moved)?;
            let len: usize = dims.iter().product();
            charge(budget, len, WHOLE)?;
            let each = values.len().checked_div(len).unwrap_or(0);
            let rows = (0..len).map(|i| reduce(*reduction, &values[i * each..][..each], ty));
            let output: Option<Vec<i64>> = rows.collect();
            Ok(Constant::ints(dims, output.ok_or_else(|| refuse(op, "it has no result in whole numbers"))?))
        }
        _ => Err(refuse(op, "it is not computed with whole numbers")),
    }
}

fn unary(function: Unary, v: i64) -> Option<i64> {
    Some(match function {
        Unary::Identity | Unary::Floor | Unary::Ceil | Unary::Round | Unary::Trunc => v,
        Unary::RoundToHalf | Unary::RoundToBfloat => return None,
        Unary::Neg => v.checked_neg()?,
        Unary::Abs => v.checked_abs()?,
        Unary::Sign => v.signum(),
        Unary::Relu => v.max(0),
        Unary::Not => i64::from(v == 0),
        Unary::Clip { low, high } => {
            let bounded = if (v as f32) < low { low as i64 } else { v };
            if bounded as f32 > high { high as i64 } else { bounded }
        }
        _ => return None,
    })
}

fn binary(function: Binary, a: i64, b: i64) -> Option<i64> {
    Some(match function {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b),
        Binary::Div => a.checked_div(b)?,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Pow => a.checked_pow(u32::try_from(b).ok()?)?,
        Binary::Fmod => a.checked_rem(b)?,
        Binary::Mod => {
            let rest = a.checked_rem(b)?;
            if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
        }
        Binary::Equal => i64::from(a == b),
        Binary::Less => i64::from(a < b),
        Binary::LessOrEqual => i64::from(a <= b),
        Binary::Greater => i64::from(a > b),
        Binary::GreaterOrEqual => i64::from(a >= b),
        Binary::And => i64::from(a != 0 && b != 0),
        Binary::Or => i64::from(a != 0 || b != 0),
        Binary::Xor => i64::from((a != 0) != (b != 0)),
        _ => return None,
    })
}

fn reduce(reduction: Reduction, values: &[i64], ty: ElementType) -> Option<i64> {
    match reduction {
        Reduction::Sum => Some(values.iter().fold(0, |sum: i64, v| sum.wrapping_add(*v))),
        Reduction::Prod => Some(values.iter().fold(1, |product: i64, v| product.wrapping_mul(*v))),
        // Of nothing the least and the greatest number of the type, which has no infinity.
        Reduction::Max => values.iter().max().copied().or_else(|| Some(ty.whole_numbers()?.0)),
        Reduction::Min => values.iter().min().copied().or_else(|| Some(ty.whole_numbers()?.1)),
        Reduction::Mean => Some(values.iter().fold(0, |sum: i64, v| sum.wrapping_add(*v)).checked_div(values.len() as i64)?),
        _ => None,
    }
}
