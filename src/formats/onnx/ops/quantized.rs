//! Quantised tensors. What bytes stand for is a value of floats that are whole numbers of steps (`Unary::FakeQuantize`), and ops on
//! bytes become ops on that value; a plan then computes them with bytes where it can (`passes::quantized`). The bytes themselves are
//! computed only where something else reads them, such as an output of the network.

use super::{Call, Lower, qlinear};
use crate::formats::onnx::bind::{Binder, Known, Lowered, NOTHING, Quantized, unsupported};
use crate::formats::onnx::constant::{Constant, Data, Levels, StoredNumbers};
use crate::formats::onnx::element::ElementType;
use crate::graph::TensorOp;
use std::sync::Arc;
use stridewise_kernels::dense::Reduction;
use stridewise_kernels::{Binary, Unary};

pub(super) const OPS: &[(&str, Lower)] = &[
    ("QuantizeLinear", quantize_linear),
    ("DequantizeLinear", dequantize_linear),
    ("DynamicQuantizeLinear", dynamic_quantize_linear),
    ("QLinearConv", qlinear::conv),
    ("QLinearMatMul", qlinear::matmul),
    ("ConvInteger", qlinear::conv_integer),
    ("MatMulInteger", qlinear::matmul_integer),
];

/// The domain of ONNX Runtime's own ops.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// Those of them that its static quantisation writes.
pub(super) const MICROSOFT_OPS: &[(&str, Lower)] = &[
    ("QuantizeLinear", quantize_linear),
    ("DequantizeLinear", dequantize_linear),
    ("QGemm", qlinear::gemm),
    ("QLinearAdd", |b, c| qlinear::binary(b, c, Binary::Add)),
    ("QLinearMul", |b, c| qlinear::binary(b, c, Binary::Mul)),
    ("QLinearGlobalAveragePool", qlinear::global_average_pool),
    ("QLinearAveragePool", qlinear::average_pool),
    ("QLinearConcat", qlinear::concat),
    ("QLinearSigmoid", |b, c| qlinear::unary(b, c, Unary::Sigmoid)),
    ("QLinearLeakyRelu", |b, c| qlinear::unary(b, c, Unary::LeakyRelu { alpha: c.float("alpha", 0.01) })),
];

/// What whole numbers stand for: `scale · (number − zero point)`, of one scale, of one for each index of an axis, or of one for each block
/// of indices of it.
pub(super) struct Grid<'a> {
    pub scale: &'a Known,
    pub zero: Option<&'a Known>,
    pub axis: i64,
    /// Indices of the axis that share a scale; 0 where there are no blocks.
    pub block: usize,
}

impl<'a> Grid<'a> {
    /// One scale, or one for each index of an axis.
    pub fn new(scale: &'a Known, zero: Option<&'a Known>, axis: i64) -> Grid<'a> {
        Grid { scale, zero, axis, block: 0 }
    }

    /// Scale and zero point, where they are known and the same for all.
    fn single(&self) -> Option<(f32, i64)> {
        let zero = match self.zero {
            None => 0.0,
            Some(zero) => number(zero)?,
        };
        Some((number(self.scale)?, zero as i64))
    }
}

/// The one number that a constant is.
fn number(known: &Known) -> Option<f32> {
    known.constant().filter(|constant| constant.len() == 1).and_then(|constant| constant.to_floats().first().copied())
}

/// The least and the greatest number of a type that values are quantised to.
fn bounds(ty: ElementType) -> Option<(f32, f32)> {
    match ty {
        ElementType::Uint8 => Some((0.0, 255.0)),
        ElementType::Int8 => Some((-128.0, 127.0)),
        ElementType::Uint16 => Some((0.0, 65_535.0)),
        ElementType::Int16 => Some((-32_768.0, 32_767.0)),
        _ => None,
    }
}

/// Scales that a plan computes with bytes of; others are left to f32.
const SCALES: std::ops::RangeInclusive<f32> = 1e-12..=1e12;

/// What a grid of bytes leaves of a float.
fn fake_quantize(ty: ElementType, scale: f32, zero: i64) -> Option<Unary> {
    let (low, high) = bounds(ty).filter(|_| matches!(ty, ElementType::Uint8 | ElementType::Int8))?;
    let zero = zero as f32;
    let possible = SCALES.contains(&scale) && (low..=high).contains(&zero);
    possible.then_some(Unary::FakeQuantize { step: scale, low: low - zero, high: high - zero })
}

fn scalar(value: f32) -> Known {
    Known::Constant(Constant::floats(Vec::new(), vec![value]))
}

impl Binder {
    /// A scale or zero point, shaped so that it is broadcast to the values that it is for.
    fn spread(&mut self, c: &Call<'_>, dims: &[usize], parameter: &Known, grid: &Grid<'_>) -> Lowered<Known> {
        let rank = dims.len();
        if parameter.dims().iter().product::<usize>() == 1 {
            return self.emit(TensorOp::Reshape(Vec::new()), &[parameter], parameter.ty());
        }
        let axis = c.axis(grid.axis, rank)?;
        let mut shape = vec![1; rank];
        if grid.block == 0 {
            if parameter.dims() != [dims[axis]] {
                return c.refuse(format!("scales or zero points {:?} for axis {axis} of {dims:?}", parameter.dims()));
            }
            shape[axis] = dims[axis];
            return self.emit(TensorOp::Reshape(shape), &[parameter], parameter.ty());
        }
        let mut expected = dims.to_vec();
        expected[axis] = dims[axis].div_ceil(grid.block);
        if parameter.dims() != expected {
            return c.refuse(format!("scales or zero points {:?} for blocks of {} of {dims:?}", parameter.dims(), grid.block));
        }
        let Some(whole) = expected[axis].checked_mul(grid.block) else { return c.refuse("its sizes overflow") };
        let mut apart = expected.clone();
        apart.insert(axis + 1, 1);
        let mut repeated = apart.clone();
        repeated[axis + 1] = grid.block;
        let mut together = expected;
        together[axis] = whole;
        let ty = parameter.ty();
        let apart = self.emit(TensorOp::Reshape(apart), &[parameter], ty)?;
        let repeated = self.emit(TensorOp::Expand(repeated), &[&apart], ty)?;
        let together = self.emit(TensorOp::Reshape(together), &[&repeated], ty)?;
        if whole == dims[axis] {
            return Ok(together);
        }
        let (starts, ends, axes, steps) = (vec![0], vec![dims[axis] as i64], vec![axis], vec![1]);
        self.emit(TensorOp::Slice { starts, ends, axes, steps }, &[&together], ty)
    }

    /// The whole numbers of a type that stand for floats.
    pub(super) fn quantize(&mut self, c: &Call<'_>, x: &Known, grid: &Grid<'_>, ty: ElementType) -> Lowered<Known> {
        let Some((low, high)) = bounds(ty) else { return unsupported(format!("to {ty}")) };
        let single = grid.single().filter(|_| x.constant().is_none());
        if let Some((scale, zero)) = single
            && let Some(rounded) = fake_quantize(ty, scale, zero)
        {
            let real = self.emit(TensorOp::Map(rounded), &[x], ElementType::Float)?;
            return self.numbers(&real, scale, zero, ty);
        }
        let scale = self.spread(c, x.dims(), grid.scale, grid)?;
        let divided = TensorOp::Combine { function: Binary::Div, then: Unary::Round };
        let y = self.emit(divided, &[x, &scale], ElementType::Float)?;
        let clip = Unary::Clip { low, high };
        match grid.zero {
            None => self.emit(TensorOp::Map(clip), &[&y], ty),
            Some(zero) => {
                let zero = self.spread(c, x.dims(), zero, grid)?.with_type(ElementType::Float);
                self.emit(TensorOp::Combine { function: Binary::Add, then: clip }, &[&y, &zero], ty)
            }
        }
    }

    /// The bytes that stand for a value of whole numbers of steps.
    fn numbers(&mut self, real: &Known, scale: f32, zero: i64, ty: ElementType) -> Lowered<Known> {
        let divided = TensorOp::Combine { function: Binary::Div, then: Unary::Round };
        let y = self.emit(divided, &[real, &scalar(scale)], ElementType::Float)?;
        let (low, high) = bounds(ty).unwrap_or((f32::NEG_INFINITY, f32::INFINITY));
        let added = TensorOp::Combine { function: Binary::Add, then: Unary::Clip { low, high } };
        let y = self.emit(added, &[&y, &scalar(zero as f32)], ty)?;
        match (y, real) {
            (Known::Computed { value, dims, ty, .. }, Known::Computed { value: real, .. }) => {
                Ok(Known::Computed { value, dims, ty, quantized: Some(Quantized { real: *real, scale, zero }) })
            }
            (y, _) => Ok(y),
        }
    }

    /// The floats that whole numbers stand for.
    pub(super) fn dequantize(&mut self, c: &Call<'_>, x: &Known, grid: &Grid<'_>) -> Lowered<Known> {
        let ty = grid.scale.ty();
        match x {
            Known::Computed { dims, quantized: Some(q), .. } if grid.single() == Some((q.scale, q.zero)) => {
                return Ok(Known::Computed { value: q.real, dims: dims.clone(), ty, quantized: None });
            }
            Known::Constant(constant) => {
                if let Some(stored) = self.stored(c, constant, grid)? {
                    return Ok(Known::Constant(stored.with_type(ty)));
                }
            }
            _ => {}
        }
        let mut y = x.clone().with_type(ElementType::Float);
        if let Some(zero) = grid.zero
            && number(zero) != Some(0.0)
        {
            let zero = self.spread(c, x.dims(), zero, grid)?.with_type(ElementType::Float);
            y = self.emit(TensorOp::Combine { function: Binary::Sub, then: Unary::Identity }, &[&y, &zero], ElementType::Float)?;
        }
        if number(grid.scale) != Some(1.0) {
            let scale = self.spread(c, x.dims(), grid.scale, grid)?;
            y = self.emit(TensorOp::Combine { function: Binary::Mul, then: Unary::Identity }, &[&y, &scale], ty)?;
        }
        // Changes nothing, and tells a plan that bytes hold the value.
        match grid.single().and_then(|(scale, zero)| fake_quantize(x.ty(), scale, zero)) {
            Some(rounded) if y.constant().is_none() => self.emit(TensorOp::Map(rounded), &[&y], ty),
            _ => Ok(y.with_type(ty)),
        }
    }

    /// Bytes of a constant with what they stand for, where scales and zero points are known.
    fn stored(&mut self, c: &Call<'_>, constant: &Constant, grid: &Grid<'_>) -> Lowered<Option<Constant>> {
        let rank = constant.dims.len();
        let bytes = matches!(constant.ty, ElementType::Uint8 | ElementType::Int8) && constant.len() > 0 && rank > 0;
        let (Some(scales), Some(zeros)) = (grid.scale.constant(), grid.zero.map_or(Some(None), |zero| zero.constant().map(Some))) else {
            return Ok(None);
        };
        if !bytes || grid.block != 0 {
            return Ok(None);
        }
        let (scales, zeros) = (scales.to_floats(), zeros.map_or_else(|| Arc::new(vec![0.0]), Constant::to_floats));
        let count = scales.len().max(zeros.len());
        if [scales.len(), zeros.len()].iter().any(|len| *len != 1 && *len != count) {
            return c.refuse(format!("{} scales and {} zero points", scales.len(), zeros.len()));
        }
        let axis = if count == 1 { 0 } else { c.axis(grid.axis, rank)? };
        if count != 1 && constant.dims[axis] != count {
            return c.refuse(format!("{count} scales or zero points for axis {axis} of {:?}", constant.dims));
        }
        // Scales and zero points, and bytes that are not the file's.
        let bytes = if matches!(constant.data, Data::Stored(_)) { 0 } else { constant.len() };
        self.charge(count.saturating_mul(size_of::<f32>() + size_of::<i32>()).saturating_add(bytes), 1)?;
        let run = if count == 1 { constant.len() } else { constant.dims[axis + 1..].iter().product() };
        let repeated = |values: &[f32]| -> Vec<f32> { (0..count).map(|i| values[if values.len() == 1 { 0 } else { i }]).collect() };
        let levels = Levels { axis, run, scales: repeated(&scales).into(), zeros: repeated(&zeros).iter().map(|z| *z as i32).collect() };
        let stored = match &constant.data {
            Data::Stored(stored) => StoredNumbers {
                path: stored.path.clone(),
                name: stored.name.clone(),
                ty: stored.ty,
                bytes: stored.bytes.clone(),
                levels: Some(levels),
            },
            _ => {
                let bytes: Vec<u8> = constant.to_ints().map_or_else(Vec::new, |ints| ints.iter().map(|v| *v as u8).collect());
                let (path, name) = (c.network.path().to_path_buf(), c.proto.name.clone());
                StoredNumbers { path, name, ty: constant.ty, bytes: bytes.into(), levels: Some(levels) }
            }
        };
        Ok(Some(Constant { ty: ElementType::Float, dims: constant.dims.clone(), data: Data::Stored(Arc::new(stored)) }))
    }
}

fn quantize_linear(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (x, scale, zero) = (c.input(0)?, c.input(1)?, c.optional(2));
    let named = i32::try_from(c.int("output_dtype", 0)).unwrap_or(-1);
    let ty = match (zero, named) {
        (Some(zero), _) => zero.ty(),
        (None, 0) => ElementType::Uint8,
        (None, number) => match ElementType::from_number(number) {
            Some(ty) => ty,
            None => return unsupported(format!("to element type {number}")),
        },
    };
    let block = c.size("block_size", c.int("block_size", 0))?;
    let grid = Grid { scale, zero, axis: c.int("axis", 1), block };
    Ok(vec![b.quantize(c, x, &grid, ty)?])
}

fn dequantize_linear(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (x, scale, zero) = (c.input(0)?, c.input(1)?, c.optional(2));
    if x.ty().is_float() {
        return unsupported(format!("of {}", x.ty()));
    }
    let block = c.size("block_size", c.int("block_size", 0))?;
    let grid = Grid { scale, zero, axis: c.int("axis", 1), block };
    Ok(vec![b.dequantize(c, x, &grid)?])
}

/// Scale and zero point are those of the range of this input, with zero in it.
fn dynamic_quantize_linear(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    if x.is_empty() {
        return unsupported(NOTHING);
    }
    let float = ElementType::Float;
    let axes: Vec<usize> = (0..x.dims().len()).collect();
    let end = |b: &mut Binder, reduction, bound| {
        let found = b.emit(TensorOp::Reduce { reduction, axes: axes.clone(), keep: false }, &[x], float)?;
        b.emit(TensorOp::Map(bound), &[&found], float)
    };
    let high = end(b, Reduction::Max, Unary::Relu)?;
    let low = end(b, Reduction::Min, Unary::Clip { low: f32::NEG_INFINITY, high: 0.0 })?;
    let combine = |function, then| TensorOp::Combine { function, then };
    let range = b.emit(combine(Binary::Sub, Unary::Identity), &[&high, &low], float)?;
    let scale = b.emit(combine(Binary::Div, Unary::Identity), &[&range, &scalar(255.0)], float)?;
    let steps = b.emit(combine(Binary::Div, Unary::Round), &[&low, &scale], float)?;
    let zero = b.emit(TensorOp::Map(Unary::Neg), &[&steps], float)?;
    let zero = b.emit(TensorOp::Map(Unary::Clip { low: 0.0, high: 255.0 }), &[&zero], ElementType::Uint8)?;
    let y = b.quantize(c, x, &Grid::new(&scale, Some(&zero), 0), ElementType::Uint8)?;
    Ok(vec![y, scale, zero])
}

/// What stands behind the input of a node that moves bytes about, or takes the greatest of some: it does the same to what they stand
/// for.
pub(super) fn moved(call: &Call<'_>) -> Option<Quantized> {
    let of = |known: &Option<Known>| match known {
        Some(Known::Computed { quantized, .. }) => *quantized,
        _ => None,
    };
    let first = call.inputs.first().and_then(of)?;
    match &call.proto.op_type[..] {
        "MaxPool" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose" | "Slice" => Some(first),
        "Concat" => {
            let alike = |known: &Option<Known>| of(known).is_some_and(|q| (q.scale, q.zero) == (first.scale, first.zero));
            call.inputs.iter().all(alike).then_some(first)
        }
        _ => None,
    }
}

/// Lowers such a node.
pub(super) fn moving(b: &mut Binder, call: &Call<'_>, lower: Lower, grid: Quantized) -> Lowered<Vec<Known>> {
    let ty = call.input(0)?.ty();
    let all = call.proto.op_type == "Concat";
    let real = |(index, known): (usize, &Option<Known>)| match known {
        Some(Known::Computed { dims, quantized: Some(q), .. }) if index == 0 || all => {
            Some(Known::Computed { value: q.real, dims: dims.clone(), ty: ElementType::Float, quantized: None })
        }
        other => other.clone(),
    };
    let inputs = call.inputs.iter().enumerate().map(real).collect();
    let mut outputs = lower(b, &call.with_inputs(inputs))?;
    if let Some(first) = outputs.first_mut() {
        *first = b.numbers(first, grid.scale, grid.zero, ty)?;
    }
    Ok(outputs)
}
