//! Windows that slide over spatial axes, and the whole of them.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered, NOTHING, unsupported};
use crate::formats::onnx::element::ElementType;
use crate::graph::TensorOp;
use stridewise_kernels::dense;
use stridewise_kernels::pool::{Reduction, Sliding};

pub(super) const OPS: &[(&str, Lower)] = &[
    ("MaxPool", |b, c| pool(b, c, Reduction::Maximum)),
    ("AveragePool", |b, c| pool(b, c, Reduction::Mean)),
    ("GlobalMaxPool", |b, c| global(b, c, dense::Reduction::Max)),
    ("GlobalAveragePool", |b, c| global(b, c, dense::Reduction::Mean)),
];

pub(super) fn pool(b: &mut Binder, c: &Call<'_>, reduction: Reduction) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let maximum = reduction == Reduction::Maximum;
    if !maximum {
        c.floats_only(x)?;
    }
    let Some(sizes) = x.dims().get(2..).filter(|sizes| !sizes.is_empty()) else {
        return c.refuse(format!("an input of shape {:?}", x.dims()));
    };
    if sizes.contains(&0) {
        return unsupported(NOTHING);
    }
    let window = c.window(sizes, None)?;
    let rank = sizes.len();
    let (ceil_mode, count_include_pad) = (c.int("ceil_mode", 0) != 0, c.int("count_include_pad", 0) != 0);
    let sliding = |axis: usize| Sliding {
        kernel: window.kernel[axis],
        stride: window.stride[axis],
        dilation: window.dilation[axis],
        pads: [window.pads[axis], window.pads[rank + axis]],
        ceil_mode,
        count_include_pad,
    };
    let windows: Vec<Sliding> = (0..rank).map(sliding).collect();
    let mut outputs = vec![b.emit(TensorOp::Pool { reduction, windows: windows.clone() }, &[x], x.ty())?];
    if c.writes(1) {
        if !maximum {
            return c.refuse("it has a second output");
        }
        let column_major = c.int("storage_order", 0) != 0;
        outputs.push(b.emit(TensorOp::MaxPoolPlaces { windows, column_major }, &[x], ElementType::Int64)?);
    }
    Ok(outputs)
}

fn global(b: &mut Binder, c: &Call<'_>, reduction: dense::Reduction) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    if x.dims().len() < 3 {
        return unsupported(format!("of an input of shape {:?}", x.dims()));
    }
    if x.dims()[2..].contains(&0) {
        return unsupported(NOTHING);
    }
    let axes = (2..x.dims().len()).collect();
    Ok(vec![b.emit(TensorOp::Reduce { reduction, axes, keep: true }, &[x], c.floats_only(x)?)?])
}
