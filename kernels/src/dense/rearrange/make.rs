//! The ops that are rearrangements: their shapes, and a rule for each axis.

use super::super::{broadcast, broadcast_strides, elements, strides};
use super::Rearrange;
use super::axis::{Axis, Padded};
use crate::Error;
use crate::resize::AxisMap;

/// What a padded tensor holds outside the input.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum PadMode {
    /// A number.
    Constant(f32),
    /// The input mirrored at its first and last element.
    Reflect,
    /// The first and last element.
    Edge,
    /// The input again.
    Wrap,
}

fn refuse(op: &str, shape: &[usize], reason: impl Into<String>) -> Error {
    Error::Problem { problem: format!("{op} of {shape:?}"), reason: reason.into() }
}

impl Rearrange {
    /// Dimension i of the result is dimension `perm[i]` of the input.
    ///
    /// # Errors
    /// When `perm` is no permutation of the dimensions, or the tensor is too large.
    pub fn transpose(shape: &[usize], perm: &[usize]) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..shape.len()) {
            return Err(refuse("transposition", shape, format!("{perm:?} is no permutation of its dimensions")));
        }
        let from = strides(shape);
        let axes = perm.iter().map(|&p| Axis::Strided(shape[p], from[p])).collect();
        Ok(Rearrange::new(len, perm.iter().map(|&p| shape[p]).collect(), 0, axes, 0.0))
    }

    /// ONNX's Slice: from `starts` to before `ends` along `axes` in `steps`; negative starts and ends count from behind, what lies
    /// outside is clamped, and steps may be negative.
    ///
    /// # Errors
    /// When the four differ in length, an axis is not one of the tensor or comes twice, a step is zero, or the tensor is too large.
    pub fn slice(shape: &[usize], starts: &[i64], ends: &[i64], axes: &[usize], steps: &[i64]) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(refuse("slice", shape, "starts, ends, axes and steps differ in length"));
        }
        let from = strides(shape);
        let mut result = shape.to_vec();
        let mut rules: Vec<Axis> = shape.iter().zip(&from).map(|(&dim, &stride)| Axis::Strided(dim, stride)).collect();
        let mut first = 0;
        for (i, &axis) in axes.iter().enumerate() {
            if axis >= shape.len() || axes[..i].contains(&axis) {
                return Err(refuse("slice", shape, format!("axis {axis} is not one of its axes, or comes twice")));
            }
            let (dim, step) = (shape[axis] as i64, steps[i]);
            if step == 0 {
                return Err(refuse("slice", shape, "a step is zero"));
            }
            let from_behind = |x: i64| if x < 0 { x.saturating_add(dim) } else { x };
            let (low, high) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
            let start = from_behind(starts[i]).clamp(if step > 0 { 0 } else { low.min(high) }, high.max(low));
            let end = from_behind(ends[i]).clamp(low, high.max(low));
            let span = if step > 0 { end - start } else { start - end };
            let count = if span <= 0 { 0 } else { (span as u64).div_ceil(step.unsigned_abs()) as usize };
            result[axis] = count;
            let stride = if count > 1 { from[axis] * step as isize } else { 0 };
            rules[axis] = Axis::Strided(count, stride);
            first += if count > 0 { start as isize * from[axis] } else { 0 };
        }
        Ok(Rearrange::new(len, result, first, rules, 0.0))
    }

    /// Broadcasts the tensor to the shape that it and `target` are broadcast to.
    ///
    /// # Errors
    /// When they cannot be, or the result is too large.
    pub fn expand(shape: &[usize], target: &[usize]) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        let result = broadcast(shape, target)?;
        let axes = result.iter().zip(broadcast_strides(shape, &result)).map(|(&dim, stride)| Axis::Strided(dim, stride)).collect();
        Ok(Rearrange::new(len, result, 0, axes, 0.0))
    }

    /// The tensor `repeats[i]` times along dimension i.
    ///
    /// # Errors
    /// When there is not one repeat a dimension, or the result is too large.
    pub fn tile(shape: &[usize], repeats: &[usize]) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        if shape.len() != repeats.len() {
            return Err(refuse("tiling", shape, format!("{repeats:?} is not one number a dimension")));
        }
        let products = shape.iter().zip(repeats).map(|(a, b)| a.checked_mul(*b));
        let result = products.collect::<Option<Vec<usize>>>().ok_or_else(|| refuse("tiling", shape, "the result is too large"))?;
        elements(&result)?;
        let each = shape.iter().zip(repeats).zip(strides(shape));
        let axes = each.flat_map(|((&dim, &times), stride)| [Axis::Strided(times, 0), Axis::Strided(dim, stride)]).collect();
        Ok(Rearrange::new(len, result, 0, axes, 0.0))
    }

    /// ONNX's Pad: `pads` has what is added in front of each dimension, then what is added behind each; less than nothing crops.
    ///
    /// # Errors
    /// When there are not two pads a dimension, more is cropped than is there, nothing is there to repeat, or the result is too large.
    pub fn pad(shape: &[usize], pads: &[i64], mode: PadMode) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        if pads.len() != 2 * shape.len() {
            return Err(refuse("padding", shape, format!("{pads:?} is not two numbers a dimension")));
        }
        let mut result = Vec::new();
        for (axis, &dim) in shape.iter().enumerate() {
            let size = i128::from(pads[axis]) + dim as i128 + i128::from(pads[axis + shape.len()]);
            let size = usize::try_from(size).map_err(|_| refuse("padding", shape, format!("{pads:?} leaves less than nothing")))?;
            if dim == 0 && size > 0 && !matches!(mode, PadMode::Constant(_)) {
                return Err(refuse("padding", shape, "there is nothing to repeat"));
            }
            result.push(size);
        }
        elements(&result)?;
        let each = strides(shape).into_iter().enumerate();
        let axes = each.map(|(i, stride)| Axis::Padded(Padded::new(result[i], shape[i], pads[i], stride, mode))).collect();
        let fill = if let PadMode::Constant(value) = mode { value } else { 0.0 };
        Ok(Rearrange::new(len, result, 0, axes, fill))
    }

    /// The channels of `groups` groups in turn: the first of each, then the second of each.
    ///
    /// # Errors
    /// When the tensor has no channels, they are no multiple of the groups, or it is too large.
    pub fn channel_shuffle(shape: &[usize], groups: usize) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        let &[n, c, ..] = shape else { return Err(refuse("channel shuffle", shape, "it has no channels")) };
        if groups == 0 || !c.is_multiple_of(groups) {
            return Err(refuse("channel shuffle", shape, format!("its channels are no multiple of {groups} groups")));
        }
        let (from, each) = (strides(shape), c / groups);
        let channels = [Axis::Strided(each, from[1]), Axis::Strided(groups, from[1] * each as isize)];
        let inner = shape[2..].iter().zip(&from[2..]).map(|(&dim, &stride)| Axis::Strided(dim, stride));
        let axes = std::iter::once(Axis::Strided(n, from[0])).chain(channels).chain(inner).collect();
        Ok(Rearrange::new(len, shape.to_vec(), 0, axes, 0.0))
    }

    /// Blocks of `block` × `block` pixels out of as many channels of `[N, C, H, W]`; the block is the outer part of the channel's
    /// number, or with `crd` the inner.
    ///
    /// # Errors
    /// When the tensor has not four dimensions, C is no multiple of the block's size, or the result is too large.
    pub fn depth_to_space(shape: &[usize], block: usize, crd: bool) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        let (&[n, c, h, w], Some(size)) = (shape, block.checked_mul(block)) else {
            return Err(refuse("depth to space", shape, format!("it has not four dimensions, or the block size {block} is too large")));
        };
        if size == 0 || !c.is_multiple_of(size) {
            return Err(refuse("depth to space", shape, format!("its channels are no multiple of {size}")));
        }
        let side = |dim: usize| dim.checked_mul(block).ok_or_else(|| refuse("depth to space", shape, "the result is too large"));
        let result = vec![n, c / size, side(h)?, side(w)?];
        elements(&result)?;
        let from = strides(shape);
        let (step, channel) = if crd { (from[1], from[1] * size as isize) } else { (from[1] * (c / size) as isize, from[1]) };
        let axes = vec![
            Axis::Strided(n, from[0]),
            Axis::Strided(c / size, channel),
            Axis::Strided(h, from[2]),
            Axis::Strided(block, step * block as isize),
            Axis::Strided(w, from[3]),
            Axis::Strided(block, step),
        ];
        Ok(Rearrange::new(len, result, 0, axes, 0.0))
    }

    /// As many channels out of blocks of `block` × `block` pixels of `[N, C, H, W]`; the block is the outer part of the channel's
    /// number.
    ///
    /// # Errors
    /// When the tensor has not four dimensions, H or W is no multiple of the block, or the result is too large.
    pub fn space_to_depth(shape: &[usize], block: usize) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        let &[n, c, h, w] = shape else { return Err(refuse("space to depth", shape, "it has not four dimensions")) };
        if block == 0 || !h.is_multiple_of(block) || !w.is_multiple_of(block) {
            return Err(refuse("space to depth", shape, format!("its height or width is no multiple of {block}")));
        }
        // Strides are products of the dimensions that are not zero.
        let channels = block.checked_mul(block).and_then(|size| size.checked_mul(c.max(1)));
        let channels = channels.ok_or_else(|| refuse("space to depth", shape, "the result is too large"))?;
        elements(&[n, channels, h / block, w / block])?;
        let result = vec![n, if c == 0 { 0 } else { channels }, h / block, w / block];
        let from = strides(shape);
        let side = block as isize;
        let axes = vec![
            Axis::Strided(n, from[0]),
            Axis::Strided(block, from[2]),
            Axis::Strided(block, from[3]),
            Axis::Strided(c, from[1]),
            Axis::Strided(h / block, from[2] * side),
            Axis::Strided(w / block, from[3] * side),
        ];
        Ok(Rearrange::new(len, result, 0, axes, 0.0))
    }

    /// Along each axis the first elements of a map, which takes just one for each, or all where there is none.
    pub(in super::super) fn pick(shape: &[usize], maps: &[Option<AxisMap>], fill: f32) -> Result<Rearrange, Error> {
        let len = elements(shape)?;
        let result: Vec<usize> = maps.iter().zip(shape).map(|(map, dim)| map.as_ref().map_or(*dim, AxisMap::output)).collect();
        elements(&result)?;
        let axis = |((map, &dim), stride): ((&Option<AxisMap>, &usize), isize)| match map {
            None => Axis::Strided(dim, stride),
            Some(map) => {
                let outside = |i: usize| map.outside.get(i).is_some_and(|o| *o);
                let offset = |(i, &start): (usize, &usize)| (!outside(i)).then_some(start as isize * stride);
                Axis::Table(map.starts.iter().enumerate().map(offset).collect())
            }
        };
        let axes = maps.iter().zip(shape).zip(strides(shape)).map(axis).collect();
        Ok(Rearrange::new(len, result, 0, axes, fill))
    }
}
