//! Interpolation.

use super::{Call, Lower};
use crate::formats::onnx::bind::{Binder, Known, Lowered, NOTHING, unsupported};
use crate::graph::TensorOp;
use stridewise_kernels::resize::{Coordinates, Interpolation, Nearest, Rule};

pub(super) const OPS: &[(&str, Lower)] = &[("Resize", resize), ("Upsample", resize)];

fn resize(b: &mut Binder, c: &Call<'_>) -> Lowered<Vec<Known>> {
    let x = c.input(0)?;
    let rank = x.dims().len();
    let old = c.opset < 11 || c.proto.op_type == "Upsample";
    let axes = match c.ints("axes") {
        Some(axes) => c.axes(axes, rank)?,
        None => (0..rank).collect(),
    };
    let present = |index: usize| c.optional(index).is_some_and(|known| known.dims().iter().all(|&dim| dim > 0));
    let mut target: Vec<Option<(usize, f64)>> = vec![None; rank];
    let scales = match (old, c.floats("scales")) {
        (true, Some(scales)) => Some(scales.to_vec()),
        (true, None) => Some(c.known_floats(1)?.to_vec()),
        (false, _) if present(2) => Some(c.known_floats(2)?.to_vec()),
        (false, _) => None,
    };
    match scales {
        Some(scales) => {
            if scales.len() != axes.len() {
                return c.refuse(format!("{} scales for {} axes", scales.len(), axes.len()));
            }
            for (&axis, &scale) in axes.iter().zip(&scales).filter(|(axis, _)| x.dims()[**axis] > 0) {
                let size = (x.dims()[axis] as f64 * f64::from(scale)).floor();
                if !(size >= 1.0 && size < (1u64 << 40) as f64) {
                    return c.refuse(format!("scale {scale} of axis {axis}"));
                }
                target[axis] = Some((size as usize, f64::from(scale)));
            }
        }
        None => {
            let sizes = c.known_ints(3)?;
            if sizes.len() != axes.len() {
                return c.refuse(format!("{} sizes for {} axes", sizes.len(), axes.len()));
            }
            let sizes = c.sizes("a size", &sizes)?;
            let quotients = axes.iter().zip(&sizes).map(|(&axis, &size)| size as f64 / x.dims()[axis] as f64);
            let common = match c.string("keep_aspect_ratio_policy", "stretch")? {
                "stretch" => None,
                "not_larger" => Some(quotients.fold(f64::INFINITY, f64::min)),
                "not_smaller" => Some(quotients.fold(0.0, f64::max)),
                other => return unsupported(format!("keep_aspect_ratio_policy = {other}")),
            };
            for (&axis, &size) in axes.iter().zip(&sizes) {
                match (x.dims()[axis], size) {
                    (0, 0) => continue,
                    (0, _) => return unsupported(NOTHING),
                    _ => {}
                }
                target[axis] = Some(match common {
                    None => (size, size as f64 / x.dims()[axis] as f64),
                    Some(scale) => ((scale * x.dims()[axis] as f64 + 0.5).floor().clamp(1.0, 1e12) as usize, scale),
                });
            }
        }
    }
    let coordinates = c.string("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" })?;
    let crop = coordinates == "tf_crop_and_resize";
    let region = if crop { c.known_floats(1)?.to_vec() } else { Vec::new() };
    if crop && region.len() != 2 * axes.len() {
        return c.refuse(format!("a region of {} numbers for {} axes", region.len(), axes.len()));
    }
    let extrapolation = c.float("extrapolation_value", 0.0);
    let interpolation = interpolation(c, old)?;
    let mut rules = Vec::with_capacity(rank);
    for axis in 0..rank {
        let place = axes.iter().position(|&a| a == axis);
        let coordinates = match (coordinates, place) {
            ("half_pixel", _) => Coordinates::HalfPixel,
            ("half_pixel_symmetric", _) => Coordinates::HalfPixelSymmetric,
            ("pytorch_half_pixel", _) => Coordinates::PytorchHalfPixel,
            ("align_corners", _) => Coordinates::AlignCorners,
            ("asymmetric", _) => Coordinates::Asymmetric,
            ("tf_half_pixel_for_nn", _) => Coordinates::TfHalfPixelForNearest,
            ("tf_crop_and_resize", Some(place)) => {
                Coordinates::TfCropAndResize { start: region[place], end: region[axes.len() + place], extrapolation }
            }
            ("tf_crop_and_resize", None) => Coordinates::HalfPixel,
            (other, _) => return unsupported(format!("coordinate_transformation_mode = {other}")),
        };
        let (exclude_outside, antialias) = (c.int("exclude_outside", 0) != 0, c.int("antialias", 0) != 0);
        rules.push(Rule { coordinates, interpolation, exclude_outside, antialias });
    }
    if !crop {
        for (target, &dim) in target.iter_mut().zip(x.dims()) {
            if *target == Some((dim, 1.0)) {
                *target = None;
            }
        }
    }
    if target.iter().all(Option::is_none) {
        return Ok(vec![x.clone()]);
    }
    Ok(vec![b.emit(TensorOp::Resize { axes: target, rules, extrapolation }, &[x], x.ty())?])
}

fn interpolation(c: &Call<'_>, old: bool) -> Lowered<Interpolation> {
    Ok(match c.string("mode", "nearest")? {
        "nearest" => Interpolation::Nearest(match c.string("nearest_mode", if old { "floor" } else { "round_prefer_floor" })? {
            "round_prefer_floor" => Nearest::RoundPreferFloor,
            "round_prefer_ceil" => Nearest::RoundPreferCeil,
            "floor" => Nearest::Floor,
            "ceil" => Nearest::Ceil,
            other => return unsupported(format!("nearest_mode = {other}")),
        }),
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic { coefficient: c.float("cubic_coeff_a", -0.75) },
        other => return unsupported(format!("mode = {other}")),
    })
}
