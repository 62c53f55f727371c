//! Functions of each element.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered, NOTHING, unsupported};
use crate::formats::onnx::constant::Constant;
use crate::formats::onnx::element::ElementType;
use crate::graph::TensorOp;
use stridewise_kernels::{Binary, Unary};

pub(super) const OPS: &[(&str, Lower)] = &[
    ("Relu", |b, c| b.unary(c, Unary::Relu, true)),
    ("LeakyRelu", |b, c| b.unary(c, Unary::LeakyRelu { alpha: c.float("alpha", 0.01) }, false)),
    ("Clip", clip),
    ("Sigmoid", |b, c| b.unary(c, Unary::Sigmoid, false)),
    ("HardSigmoid", |b, c| b.unary(c, Unary::HardSigmoid { alpha: c.float("alpha", 0.2), beta: c.float("beta", 0.5) }, false)),
    ("HardSwish", |b, c| b.unary(c, Unary::HardSwish, false)),
    ("Swish", |b, c| b.unary(c, Unary::Swish { alpha: c.float("alpha", 1.0) }, false)),
    ("Mish", |b, c| b.unary(c, Unary::Mish, false)),
    ("Elu", |b, c| b.unary(c, Unary::Elu { alpha: c.float("alpha", 1.0) }, false)),
    ("Selu", |b, c| {
        let (alpha, gamma) = (c.float("alpha", 1.673_263_2), c.float("gamma", 1.050_701));
        b.unary(c, Unary::Selu { alpha, gamma }, false)
    }),
    ("Celu", |b, c| b.unary(c, Unary::Celu { alpha: c.float("alpha", 1.0) }, false)),
    ("Gelu", |b, c| match c.string("approximate", "none")? {
        "none" => b.unary(c, Unary::Gelu, false),
        "tanh" => b.unary(c, Unary::GeluTanh, false),
        other => unsupported(format!("approximate = {other}")),
    }),
    ("Erf", |b, c| b.unary(c, Unary::Erf, false)),
    ("Tanh", |b, c| b.unary(c, Unary::Tanh, false)),
    ("Softplus", |b, c| b.unary(c, Unary::Softplus, false)),
    ("Softsign", |b, c| b.unary(c, Unary::Softsign, false)),
    ("ThresholdedRelu", |b, c| b.unary(c, Unary::ThresholdedRelu { alpha: c.float("alpha", 1.0) }, false)),
    ("Exp", |b, c| b.unary(c, Unary::Exp, false)),
    ("Log", |b, c| b.unary(c, Unary::Log, false)),
    ("Sqrt", |b, c| b.unary(c, Unary::Sqrt, false)),
    ("Abs", |b, c| b.unary(c, Unary::Abs, true)),
    ("Neg", |b, c| b.unary(c, Unary::Neg, true)),
    ("Reciprocal", |b, c| b.unary(c, Unary::Reciprocal, false)),
    ("Sign", |b, c| b.unary(c, Unary::Sign, true)),
    ("Floor", |b, c| b.unary(c, Unary::Floor, false)),
    ("Ceil", |b, c| b.unary(c, Unary::Ceil, false)),
    ("Round", |b, c| b.unary(c, Unary::Round, false)),
    ("IsNaN", |b, c| {
        let x = c.input(0)?;
        Ok(vec![b.emit(TensorOp::Map(Unary::IsNan), &[x], ElementType::Bool)?])
    }),
    ("Not", |b, c| {
        let x = c.input(0)?;
        Ok(vec![b.emit(TensorOp::Map(Unary::Not), &[x], ElementType::Bool)?])
    }),
    ("PRelu", |b, c| b.binary(c, Binary::PRelu)),
    ("Add", |b, c| b.binary(c, Binary::Add)),
    ("Sub", |b, c| b.binary(c, Binary::Sub)),
    ("Mul", |b, c| b.binary(c, Binary::Mul)),
    ("Div", |b, c| b.binary(c, Binary::Div)),
    ("Pow", pow),
    ("Mod", |b, c| b.binary(c, if c.int("fmod", 0) == 1 { Binary::Fmod } else { Binary::Mod })),
    ("Min", |b, c| b.variadic(c, Binary::Min)),
    ("Max", |b, c| b.variadic(c, Binary::Max)),
    ("Sum", |b, c| b.variadic(c, Binary::Add)),
    ("Mean", |b, c| {
        let sum = b.variadic(c, Binary::Add)?;
        let scale = Unary::Affine { scale: 1.0 / c.inputs.len() as f32, shift: 0.0 };
        let ty = c.floats_only(&sum[0])?;
        Ok(vec![b.emit(TensorOp::Map(scale), &[&sum[0]], ty)?])
    }),
    ("Equal", |b, c| b.comparison(c, Binary::Equal)),
    ("Less", |b, c| b.comparison(c, Binary::Less)),
    ("LessOrEqual", |b, c| b.comparison(c, Binary::LessOrEqual)),
    ("Greater", |b, c| b.comparison(c, Binary::Greater)),
    ("GreaterOrEqual", |b, c| b.comparison(c, Binary::GreaterOrEqual)),
    ("And", |b, c| b.comparison(c, Binary::And)),
    ("Or", |b, c| b.comparison(c, Binary::Or)),
    ("Xor", |b, c| b.comparison(c, Binary::Xor)),
    ("Where", select),
    ("Cast", |b, c| {
        let number = c.int("to", 0);
        let ty = i32::try_from(number).ok().and_then(ElementType::from_number);
        let Some(ty) = ty else { return unsupported(format!("to element type {number}")) };
        Ok(vec![b.cast(c.input(0)?, ty)?])
    }),
    ("CastLike", |b, c| Ok(vec![b.cast(c.input(0)?, c.input(1)?.ty())?])),
    ("Identity", |_, c| Ok(vec![c.input(0)?.clone()])),
    ("Dropout", dropout),
];

impl Binder {
    fn unary(&mut self, call: &Call<'_>, function: Unary, whole: bool) -> Lowered<Vec<Known>> {
        let x = call.input(0)?;
        if !whole {
            call.floats_only(x)?;
        }
        Ok(vec![self.emit(TensorOp::Map(function), &[x], x.ty())?])
    }

    /// A function of two; quotients of whole numbers are cut off, and narrow types would wrap around.
    pub fn combine(&mut self, function: Binary, a: &Known, b: &Known) -> Lowered<Known> {
        let ty = a.ty();
        let constants = a.constant().is_some() && b.constant().is_some();
        if ty.is_narrow() && !constants && !matches!(function, Binary::Min | Binary::Max | Binary::Mod | Binary::Fmod | Binary::Div) {
            return unsupported(format!("of {ty}, which wraps around"));
        }
        if !ty.is_float() && !constants {
            if ty.is_unsigned() && function == Binary::Sub {
                return unsupported(format!("of {ty}"));
            }
            let then = if function == Binary::Div { Unary::Trunc } else { Unary::Identity };
            return self.emit(TensorOp::Combine { function, then }, &[a, b], ty);
        }
        self.emit(TensorOp::Combine { function, then: Unary::Identity }, &[a, b], ty)
    }

    fn binary(&mut self, call: &Call<'_>, function: Binary) -> Lowered<Vec<Known>> {
        let a = call.input(0)?;
        let b = self.aligned(call, a, call.input(1)?)?;
        Ok(vec![self.combine(function, a, &b)?])
    }

    /// The second operand as opset 6 broadcasts it: its dimensions stand for those of the first from an axis on. A slope for each
    /// channel had none of its own.
    fn aligned(&mut self, call: &Call<'_>, a: &Known, b: &Known) -> Lowered<Known> {
        let (rank, own) = (a.dims().len(), b.dims().len());
        let slopes = call.proto.op_type == "PRelu" && own == 1 && b.dims() != [1] && rank > 1;
        if call.opset > 6 || rank <= own || !(call.has("axis") || slopes) {
            return Ok(b.clone());
        }
        let axis = call.axis(call.int("axis", 1), rank)?;
        if axis + own > rank {
            return call.refuse(format!("{own} dimensions from axis {axis} of {rank} on"));
        }
        let mut dims = b.dims().to_vec();
        dims.resize(rank - axis, 1);
        self.emit(TensorOp::Reshape(dims), &[b], b.ty())
    }

    fn variadic(&mut self, call: &Call<'_>, function: Binary) -> Lowered<Vec<Known>> {
        let mut result = call.input(0)?.clone();
        for index in 1..call.inputs.len() {
            result = self.combine(function, &result, call.input(index)?)?;
        }
        Ok(vec![result])
    }

    fn comparison(&mut self, call: &Call<'_>, function: Binary) -> Lowered<Vec<Known>> {
        let a = call.input(0)?;
        let b = self.aligned(call, a, call.input(1)?)?;
        Ok(vec![self.emit(TensorOp::Combine { function, then: Unary::Identity }, &[a, &b], ElementType::Bool)?])
    }

    /// The values as another type has them.
    pub fn cast(&mut self, x: &Known, to: ElementType) -> Lowered<Known> {
        let from = x.ty();
        if from == to {
            return Ok(x.clone());
        }
        if let Known::Constant(constant) = x {
            self.charge(constant.len(), if to.is_float() { size_of::<f32>() } else { size_of::<i64>() })?;
            return Ok(Known::Constant(cast_constant(constant, to)));
        }
        let map = |binder: &mut Binder, function: Unary, x: &Known| binder.emit(TensorOp::Map(function), &[x], to);
        match (from.is_float(), to) {
            (_, ElementType::Float16) => map(self, Unary::RoundToHalf, x),
            (_, ElementType::Bfloat16) => map(self, Unary::RoundToBfloat, x),
            (_, ElementType::Float | ElementType::Double) => Ok(x.clone().with_type(to)),
            (_, ElementType::Bool) => {
                let not = map(self, Unary::Not, x)?;
                map(self, Unary::Not, &not)
            }
            (true, to) if !to.is_narrow() && !to.is_unsigned() => map(self, Unary::Trunc, x),
            (false, ElementType::Int32 | ElementType::Int64) => Ok(x.clone().with_type(to)),
            _ if from == ElementType::Bool => Ok(x.clone().with_type(to)),
            _ => unsupported(format!("from {from} to {to}, which wraps around")),
        }
    }
}

fn cast_constant(constant: &Constant, to: ElementType) -> Constant {
    use crate::formats::onnx::tensor::narrow;
    let dims = constant.dims.clone();
    if to.is_float() {
        let round = |v: &f32| match to {
            ElementType::Float16 => half::f16::from_f32(*v).to_f32(),
            ElementType::Bfloat16 => half::bf16::from_f32(*v).to_f32(),
            _ => *v,
        };
        return Constant::floats(dims, constant.to_floats().iter().map(round).collect()).with_type(to);
    }
    let values = match constant.to_ints() {
        Some(ints) => ints.iter().map(|&v| narrow(to, v)).collect(),
        None if to == ElementType::Bool => constant.to_floats().iter().map(|&v| i64::from(v != 0.0)).collect(),
        None => constant.to_floats().iter().map(|&v| narrow(to, v as i64)).collect(),
    };
    Constant::ints(dims, values).with_type(to)
}

fn clip(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let mut x = c.input(0)?.clone();
    let ty = x.ty();
    if c.opset < 11 {
        let (low, high) = (c.float("min", f32::NEG_INFINITY), c.float("max", f32::INFINITY));
        return Ok(vec![b.emit(TensorOp::Map(Unary::Clip { low, high }), &[&x], ty)?]);
    }
    if [1, 2].iter().any(|&index| c.optional(index).is_some_and(Known::is_empty)) {
        return unsupported(NOTHING);
    }
    let scalar = |index: usize| match c.optional(index) {
        None => Some(None),
        Some(Known::Constant(constant)) if constant.len() == 1 && constant.is_exact() => constant.to_floats().first().copied().map(Some),
        Some(_) => None,
    };
    if let (Some(low), Some(high)) = (scalar(1), scalar(2)) {
        let (low, high) = (low.unwrap_or(f32::NEG_INFINITY), high.unwrap_or(f32::INFINITY));
        return Ok(vec![b.emit(TensorOp::Map(Unary::Clip { low, high }), &[&x], ty)?]);
    }
    for (index, function) in [(1, Binary::Max), (2, Binary::Min)] {
        if let Some(bound) = c.optional(index) {
            x = b.combine(function, &x, bound)?;
        }
    }
    Ok(vec![x])
}

fn pow(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (x, exponent) = (c.input(0)?, c.input(1)?);
    let ty = x.ty();
    if !ty.is_float() {
        // Powers are rounded correctly, or so nearly that whole ones are whole.
        if ty.is_narrow() {
            return unsupported(format!("of {ty}"));
        }
        return Ok(vec![b.emit(TensorOp::Combine { function: Binary::Pow, then: Unary::Trunc }, &[x, exponent], ty)?]);
    }
    if let Known::Constant(constant) = exponent
        && constant.len() == 1
        && constant.dims.len() <= x.dims().len()
    {
        let exponent = constant.to_floats()[0];
        let function = if exponent == 0.5 { Unary::Sqrt } else { Unary::Power { exponent } };
        if exponent == 2.0 {
            return Ok(vec![b.emit(TensorOp::Combine { function: Binary::Mul, then: Unary::Identity }, &[x, x], ty)?]);
        }
        return Ok(vec![b.emit(TensorOp::Map(function), &[x], ty)?]);
    }
    Ok(vec![b.emit(TensorOp::Combine { function: Binary::Pow, then: Unary::Identity }, &[x, exponent], ty)?])
}

fn select(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (condition, x, y) = (c.input(0)?, c.input(1)?, c.input(2)?);
    // Whole numbers of constants are exact only among themselves.
    Ok(vec![b.emit(TensorOp::Where, &[condition, x, y], x.ty())?])
}

fn dropout(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?.clone();
    let training = match c.optional(2) {
        Some(Known::Constant(constant)) => constant.to_floats().first().is_some_and(|&mode| mode != 0.0),
        Some(_) => return unsupported("whether it is training must be known before a run"),
        None => false,
    };
    let ratio = match c.optional(1) {
        Some(Known::Constant(constant)) => constant.to_floats().first().copied(),
        _ => None,
    };
    if training && ratio != Some(0.0) {
        return unsupported("in training");
    }
    let mut outputs = vec![x.clone()];
    if c.writes(1) {
        let len = x.dims().iter().try_fold(1usize, |product, &dim| product.checked_mul(dim)).filter(|len| *len < 1 << 24);
        let Some(len) = len else { return unsupported("its mask is too large") };
        b.charge(len, size_of::<i64>())?;
        outputs.push(Known::Constant(Constant::ints(x.dims().to_vec(), vec![1; len]).with_type(ElementType::Bool)));
    }
    Ok(outputs)
}
