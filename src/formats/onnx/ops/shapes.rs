//! Shapes, and what is made of them.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered, check_rank, unsupported};
use crate::formats::onnx::constant::Constant;
use crate::formats::onnx::element::ElementType;
use crate::graph::{Op, TensorOp};

pub(super) const OPS: &[(&str, Lower)] = &[
    ("Reshape", reshape),
    ("Flatten", flatten),
    ("Squeeze", squeeze),
    ("Unsqueeze", unsqueeze),
    ("Transpose", transpose),
    ("Expand", expand),
    ("Shape", shape),
    ("Size", size),
    ("Constant", constant),
    ("ConstantOfShape", constant_of_shape),
    ("Range", range),
];

/// Most elements of a range.
const MOST_ELEMENTS: usize = 1 << 26;

fn reshape(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let target = match c.ints("shape") {
        Some(target) => target.to_vec(),
        None => c.known_ints(1)?.to_vec(),
    };
    let zero_is_zero = c.int("allowzero", 0) != 0;
    let mut dims = Vec::with_capacity(target.len());
    let mut inferred = None;
    // What -1 is inferred from: kept dimensions cancel out, so that those of no images are kept, too.
    let (mut left, mut others) = (x.dims().to_vec(), Vec::with_capacity(target.len()));
    for (axis, &dim) in target.iter().enumerate() {
        dims.push(match dim {
            -1 if inferred.is_none() => {
                inferred = Some(axis);
                1
            }
            0 if !zero_is_zero => match x.dims().get(axis) {
                Some(&dim) => {
                    left[axis] = 1;
                    dim
                }
                None => return c.refuse(format!("there is no dimension {axis} to keep")),
            },
            dim => {
                let dim = c.size("a dimension", dim)?;
                others.push(dim);
                dim
            }
        });
    }
    if let Some(axis) = inferred {
        let product = |dims: &[usize]| dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        match product(&left).zip(product(&others)) {
            Some((left, others)) if others > 0 && left.is_multiple_of(others) => dims[axis] = left / others,
            _ => return c.refuse(format!("{:?} as {target:?}", x.dims())),
        }
    }
    Ok(vec![reshaped(b, x, dims)?])
}

/// The elements under another shape; the rows of what is flattened can be read by a linear layer as they lie.
fn reshaped(b: &mut Binder, x: &Known, dims: Vec<usize>) -> Lowered<Known> {
    match (x.dims(), &dims[..]) {
        ([n, _, _, _], [rows, _]) if n == rows && x.constant().is_none() => {
            if x.dims().iter().product::<usize>() != dims.iter().product::<usize>() {
                return b.invalid(format!("{:?} as {dims:?}", x.dims()));
            }
            b.add(Op::Flatten, &[x], x.ty())
        }
        _ => b.emit(TensorOp::Reshape(dims), &[x], x.ty()),
    }
}

fn flatten(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let rank = x.dims().len();
    let axis = match c.int("axis", 1) {
        axis if axis == rank as i64 => rank,
        axis => c.axis(axis, rank)?,
    };
    let dims = vec![x.dims()[..axis].iter().product(), x.dims()[axis..].iter().product()];
    Ok(vec![reshaped(b, x, dims)?])
}

fn squeeze(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let axes = match c.ints_or_input("axes", 1)? {
        Some(axes) => c.axes(&axes, x.dims().len())?,
        None => (0..x.dims().len()).filter(|&axis| x.dims()[axis] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|axis| x.dims()[**axis] != 1) {
        return c.refuse(format!("axis {axis} of {:?} is not 1", x.dims()));
    }
    let dims = x.dims().iter().enumerate().filter(|(axis, _)| !axes.contains(axis)).map(|(_, &dim)| dim).collect();
    Ok(vec![reshaped(b, x, dims)?])
}

fn unsqueeze(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let Some(axes) = c.ints_or_input("axes", 1)? else { return c.refuse("it has no axes") };
    let rank = x.dims().len() + axes.len();
    check_rank(rank)?;
    let axes = c.axes(&axes, rank)?;
    let mut own = x.dims().iter().copied();
    let dims = (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { own.next().unwrap_or(1) }).collect();
    Ok(vec![b.emit(TensorOp::Reshape(dims), &[x], x.ty())?])
}

fn transpose(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let rank = x.dims().len();
    let perm = match c.ints("perm") {
        Some(perm) => c.axes(perm, rank)?,
        None => (0..rank).rev().collect(),
    };
    if perm.len() != rank {
        return c.refuse(format!("perm {perm:?} of {rank} axes"));
    }
    if perm.iter().copied().eq(0..rank) {
        return Ok(vec![x.clone()]);
    }
    // Where only dimensions of 1 change their places, no element does.
    let moved = |perm: &[usize]| perm.iter().copied().filter(|&axis| x.dims()[axis] != 1).collect::<Vec<usize>>();
    if moved(&perm).is_sorted() {
        let dims = perm.iter().map(|&axis| x.dims()[axis]).collect();
        return Ok(vec![b.emit(TensorOp::Reshape(dims), &[x], x.ty())?]);
    }
    Ok(vec![b.emit(TensorOp::Transpose(perm), &[x], x.ty())?])
}

fn expand(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let target = c.sizes("a dimension", &c.known_ints(1)?)?;
    if stridewise_kernels::dense::broadcast(x.dims(), &target).is_ok_and(|dims| dims == x.dims()) {
        return Ok(vec![x.clone()]);
    }
    Ok(vec![b.emit(TensorOp::Expand(target), &[x], x.ty())?])
}

fn shape(_: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let dims = c.input(0)?.dims();
    let rank = dims.len() as i64;
    let bound = |value: i64| if value < 0 { value.saturating_add(rank) } else { value }.clamp(0, rank) as usize;
    let (start, end) = (bound(c.int("start", 0)), bound(c.int("end", rank)));
    let part: Vec<i64> = dims.get(start..end).unwrap_or_default().iter().map(|&dim| dim as i64).collect();
    Ok(vec![Known::Constant(Constant::ints(vec![part.len()], part))])
}

fn size(_: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let count = c.input(0)?.dims().iter().try_fold(1i64, |product, &dim| product.checked_mul(i64::try_from(dim).ok()?));
    match count {
        Some(count) => Ok(vec![Known::Constant(Constant::ints(Vec::new(), vec![count]))]),
        None => c.refuse("it overflows"),
    }
}

fn constant(_: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let constant = if let Some(tensor) = c.tensor("value") {
        tensor.clone()
    } else if c.has("value_float") {
        Constant::floats(Vec::new(), vec![c.float("value_float", 0.0)])
    } else if c.has("value_int") {
        Constant::ints(Vec::new(), vec![c.int("value_int", 0)])
    } else if let Some(values) = c.floats("value_floats") {
        Constant::floats(vec![values.len()], values.to_vec())
    } else if let Some(values) = c.ints("value_ints") {
        Constant::ints(vec![values.len()], values.to_vec())
    } else {
        return unsupported("a value that is no tensor of numbers");
    };
    Ok(vec![Known::Constant(constant)])
}

fn constant_of_shape(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let dims = c.sizes("a dimension", &c.known_ints(0)?)?;
    let one = match c.tensor("value") {
        Some(value) if value.len() == 1 => value.clone(),
        Some(value) => return c.refuse(format!("its value has the shape {:?}", value.dims)),
        None => Constant::floats(vec![1], vec![0.0]),
    };
    let (one, ty) = (Known::Constant(Constant { dims: Vec::new(), ..one.clone() }), one.ty);
    Ok(vec![b.emit(TensorOp::Expand(dims), &[&one], ty)?])
}

fn range(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let ty = c.input(0)?.ty();
    if ty.is_float() {
        let part = |index: usize| -> Lowered<f64> { Ok(c.known_floats(index)?.first().map_or(0.0, |&v| f64::from(v))) };
        let (start, limit, step) = (part(0)?, part(1)?, part(2)?);
        let count = ((limit - start) / step).ceil().max(0.0);
        if count > MOST_ELEMENTS as f64 {
            return c.refuse(format!("from {start} to {limit} in steps of {step}"));
        }
        b.charge(count as usize, size_of::<f32>())?;
        let values: Vec<f32> = (0..count as usize).map(|i| (start + i as f64 * step) as f32).collect();
        return Ok(vec![Known::Constant(Constant::floats(vec![values.len()], values).with_type(ty))]);
    }
    let part = |index: usize| -> Lowered<i128> { Ok(c.known_ints(index)?.first().map_or(0, |&v| i128::from(v))) };
    let (start, limit, step) = (part(0)?, part(1)?, part(2)?);
    let span = if step > 0 { limit - start } else { start - limit };
    if step == 0 || span.max(0) / step.abs() >= MOST_ELEMENTS as i128 {
        return c.refuse(format!("from {start} to {limit} in steps of {step}"));
    }
    let count = (span.max(0) + step.abs() - 1) / step.abs();
    b.charge(count as usize, size_of::<i64>())?;
    let values: Vec<i64> = (0..count).map(|i| (start + i * step) as i64).collect();
    Ok(vec![Known::Constant(Constant::ints(vec![values.len()], values).with_type(if ty == ElementType::Bool {
        ElementType::Int64
    } else {
        ty
    }))])
}
