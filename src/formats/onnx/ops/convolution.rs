//! Convolutions, of sequences `[N, C, L]` (as images of one row) and of images.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered, NOTHING, unsupported};
use crate::graph::{Activation, ConvAttributes, ConvTransposeAttributes, Op, TensorOp};

pub(super) const OPS: &[(&str, Lower)] = &[("Conv", conv), ("ConvTranspose", conv_transpose)];

/// What slides along each spatial axis.
pub(super) struct Window {
    pub kernel: Vec<usize>,
    pub stride: Vec<usize>,
    pub dilation: Vec<usize>,
    /// Before all axes, then behind all.
    pub pads: Vec<usize>,
}

impl Call<'_> {
    /// The attributes of a window over spatial axes of these sizes; `kernel` is the window's shape where the op's inputs tell it.
    pub(super) fn window(&self, sizes: &[usize], kernel: Option<&[usize]>) -> Lowered<Window> {
        let rank = sizes.len();
        let per_axis = |name: &str, default: usize| match self.ints(name) {
            None => Ok(vec![default; rank]),
            Some(values) if values.len() == rank => self.sizes(name, values),
            Some(values) => self.refuse(format!("{name} has {} numbers for {rank} axes", values.len())),
        };
        let kernel = match kernel {
            Some(kernel) => {
                if let Some(shape) = self.ints("kernel_shape")
                    && self.sizes("kernel_shape", shape)? != kernel
                {
                    return self.refuse(format!("kernel_shape is {shape:?}, and the weights are of {kernel:?}"));
                }
                kernel.to_vec()
            }
            None if self.has("kernel_shape") => per_axis("kernel_shape", 1)?,
            None => return self.refuse("it has no kernel_shape"),
        };
        let (stride, dilation) = (per_axis("strides", 1)?, per_axis("dilations", 1)?);
        if kernel.len() != rank || kernel.contains(&0) || stride.contains(&0) || dilation.contains(&0) {
            return self.refuse(format!("a window of {kernel:?}, strides {stride:?} and dilations {dilation:?}"));
        }
        let mut pads = vec![0; 2 * rank];
        match self.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => {
                if let Some(given) = self.ints("pads") {
                    if given.len() != 2 * rank {
                        return self.refuse(format!("pads has {} numbers for {rank} axes", given.len()));
                    }
                    if given.iter().any(|&pad| pad < 0) {
                        return unsupported(format!("pads {given:?}"));
                    }
                    pads = self.sizes("pads", given)?;
                }
            }
            "VALID" => {}
            mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                for axis in 0..rank {
                    let extent = (kernel[axis] - 1).checked_mul(dilation[axis]).and_then(|extent| extent.checked_add(1));
                    let covered = (sizes[axis].div_ceil(stride[axis]).max(1) - 1).checked_mul(stride[axis]);
                    let Some(needed) = extent.zip(covered).and_then(|(extent, covered)| extent.checked_add(covered)) else {
                        return self.refuse("the window's sizes overflow");
                    };
                    let total = needed.saturating_sub(sizes[axis]);
                    let less = total / 2;
                    (pads[axis], pads[rank + axis]) = if mode == "SAME_UPPER" { (less, total - less) } else { (total - less, less) };
                }
            }
            mode => return self.refuse(format!("auto_pad is {mode}")),
        }
        Ok(Window { kernel, stride, dilation, pads })
    }
}

/// No images are no images afterwards; images without channels or pixels, and windows without, are refused.
fn check_window(x: &Known, weight: &Known) -> Lowered<()> {
    if x.dims()[1..].contains(&0) || weight.is_empty() { unsupported(NOTHING) } else { Ok(()) }
}

/// Two numbers, those of a sequence behind what an image of one row has.
fn two(values: &[usize], one_row: usize) -> [usize; 2] {
    match *values {
        [a, b] => [a, b],
        [b] => [one_row, b],
        _ => [one_row; 2],
    }
}

/// Top, left, bottom, right.
fn four(pads: &[usize]) -> [usize; 4] {
    match *pads {
        [top, left, bottom, right] => [top, left, bottom, right],
        [left, right] => [0, left, 0, right],
        _ => [0; 4],
    }
}

/// `[A, B, L]` as `[A, B, 1, L]`.
pub(super) fn as_image(dims: &[usize]) -> Vec<usize> {
    match *dims {
        [n, c, l] => vec![n, c, 1, l],
        _ => dims.to_vec(),
    }
}

pub(super) fn conv(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (x, weight, bias) = (c.input(0)?, c.input(1)?, c.optional(2));
    let ty = c.floats_only(x)?;
    let rank = x.dims().len();
    if rank < 3 || weight.dims().len() != rank {
        return c.refuse(format!("input {:?} and weights {:?}", x.dims(), weight.dims()));
    }
    if rank > 4 {
        return unsupported(format!("convolution along {} axes", rank - 2));
    }
    check_window(x, weight)?;
    let window = c.window(&x.dims()[2..], Some(&weight.dims()[2..]))?;
    let attributes = ConvAttributes {
        stride: two(&window.stride, 1),
        pads: four(&window.pads),
        dilation: two(&window.dilation, 1),
        groups: c.size("group", c.int("group", 1))?,
    };
    let image = b.emit(TensorOp::Reshape(as_image(x.dims())), &[x], ty)?;
    let folded = match (weight, bias) {
        (Known::Constant(weight), None) => Some((weight, None)),
        (Known::Constant(weight), Some(Known::Constant(bias))) => Some((weight, Some(bias))),
        _ => None,
    };
    let y = match folded {
        Some((weight, bias)) if x.constant().is_none() => {
            let weight = b.weight(weight, &as_image(&weight.dims))?;
            let bias = bias.map(|bias| b.tensor(bias, &bias.dims)).transpose()?;
            b.add(Op::Conv { weight, bias, attributes, activation: Activation::None }, &[&image], ty)?
        }
        _ => {
            let weight = b.emit(TensorOp::Reshape(as_image(weight.dims())), &[weight], ty)?;
            let inputs: Vec<&Known> = [&image, &weight].into_iter().chain(bias).collect();
            b.emit(TensorOp::Convolution(attributes), &inputs, ty)?
        }
    };
    Ok(vec![sequence(b, y, rank)?])
}

/// Back to a sequence.
pub(super) fn sequence(b: &mut Binder, y: Known, rank: usize) -> Lowered<Known> {
    match *y.dims() {
        [n, c, 1, l] if rank == 3 => b.emit(TensorOp::Reshape(vec![n, c, l]), &[&y], y.ty()),
        _ => Ok(y),
    }
}

fn conv_transpose(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let (x, weight, bias) = (c.input(0)?, c.input(1)?, c.optional(2));
    let ty = c.floats_only(x)?;
    let rank = x.dims().len();
    if rank < 3 || weight.dims().len() != rank {
        return c.refuse(format!("input {:?} and weights {:?}", x.dims(), weight.dims()));
    }
    if rank > 4 {
        return unsupported(format!("transposed convolution along {} axes", rank - 2));
    }
    check_window(x, weight)?;
    let axes = rank - 2;
    let per_axis = |name: &str, default: usize| match c.ints(name) {
        None => Ok(vec![default; axes]),
        Some(values) if values.len() == axes => c.sizes(name, values),
        Some(values) => c.refuse(format!("{name} has {} numbers for {axes} axes", values.len())),
    };
    let (stride, dilation) = (per_axis("strides", 1)?, per_axis("dilations", 1)?);
    let mut output_padding = per_axis("output_padding", 0)?;
    let kernel = &weight.dims()[2..];
    let auto = c.string("auto_pad", "NOTSET")?;
    // What all windows together cover, less what is cut off.
    let mut full = Vec::with_capacity(axes);
    for axis in 0..axes {
        let size = || {
            let windows = x.dims()[2 + axis].checked_sub(1)?.checked_mul(stride[axis])?;
            windows
                .checked_add(kernel[axis].checked_sub(1)?.checked_mul(dilation[axis])?)?
                .checked_add(1)?
                .checked_add(output_padding[axis])
        };
        match size() {
            Some(size) => full.push(size),
            None => return c.refuse("its sizes overflow"),
        }
    }
    let target = match (c.ints("output_shape"), auto) {
        (Some(shape), _) if shape.len() == axes => Some(c.sizes("output_shape", shape)?),
        // With the channels in front, as some exporters write it.
        (Some(shape), _) if shape.len() == rank => Some(c.sizes("output_shape", &shape[2..])?),
        (Some(shape), _) => return c.refuse(format!("output_shape is {shape:?}")),
        (None, "SAME_UPPER" | "SAME_LOWER") => {
            let sizes = x.dims()[2..].iter().zip(&stride).map(|(size, stride)| size.checked_mul(*stride));
            match sizes.collect::<Option<Vec<usize>>>() {
                Some(sizes) => Some(sizes),
                None => return c.refuse("its sizes overflow"),
            }
        }
        (None, _) => None,
    };
    let mut pads = vec![0; 2 * axes];
    match target {
        Some(target) => {
            for axis in 0..axes {
                if target[axis] > full[axis] {
                    // Beyond what is covered there are zeros, and the bias.
                    output_padding[axis] += target[axis] - full[axis];
                    continue;
                }
                let total = full[axis] - target[axis];
                let less = total / 2;
                (pads[axis], pads[axes + axis]) = if auto == "SAME_UPPER" { (less, total - less) } else { (total - less, less) };
            }
        }
        None if auto == "NOTSET" || auto.is_empty() => {
            if let Some(given) = c.ints("pads") {
                if given.len() != 2 * axes {
                    return c.refuse(format!("pads has {} numbers for {axes} axes", given.len()));
                }
                pads = c.sizes("pads", given)?;
            }
        }
        None => {}
    }
    let attributes = ConvTransposeAttributes {
        stride: two(&stride, 1),
        pads: four(&pads),
        dilation: two(&dilation, 1),
        output_padding: two(&output_padding, 0),
        groups: c.size("group", c.int("group", 1))?,
    };
    let image = b.emit(TensorOp::Reshape(as_image(x.dims())), &[x], ty)?;
    let weight = b.emit(TensorOp::Reshape(as_image(weight.dims())), &[weight], ty)?;
    let inputs: Vec<&Known> = [&image, &weight].into_iter().chain(bias).collect();
    let y = b.emit(TensorOp::ConvTranspose(attributes), &inputs, ty)?;
    Ok(vec![sequence(b, y, rank)?])
}
