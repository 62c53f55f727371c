//! Resizing of tensors of any rank, axis by axis.

use super::combine::grains;
use super::rearrange::Rearrange;
use super::{check, elements};
use crate::Error;
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::resize::AxisMap;

/// A resize with everything decided.
pub struct Resize {
    shape: Vec<usize>,
    lens: [usize; 2],
    way: Way,
}

enum Way {
    /// Every element is one of the input, or a constant.
    Pick(Rearrange),
    /// One axis after the other.
    Interpolate { passes: Vec<Pass>, outside: Vec<Option<Vec<bool>>>, fill: f32 },
}

/// Interpolation along one axis of `[outer, input, inner]`.
struct Pass {
    map: AxisMap,
    outer: usize,
    inner: usize,
}

impl Pass {
    fn output(&self) -> usize {
        self.outer * self.map.output() * self.inner
    }
}

impl Resize {
    /// Prepares resizing of a tensor: a map for each axis, or nothing where it stays as it is. `extrapolation` is what elements are that
    /// a map has outside the input.
    ///
    /// # Errors
    /// When there is not one entry an axis, a map is of another size, or the result is too large.
    pub fn new(shape: &[usize], maps: Vec<Option<AxisMap>>, extrapolation: f32) -> Result<Resize, Error> {
        let input = elements(shape)?;
        let refuse = |reason: &str| Error::Problem { problem: format!("resizing of {shape:?}"), reason: reason.into() };
        if maps.len() != shape.len() || maps.iter().zip(shape).any(|(map, dim)| map.as_ref().is_some_and(|m| m.input != *dim)) {
            return Err(refuse("there is not a map of its size for each axis"));
        }
        let result: Vec<usize> = maps.iter().zip(shape).map(|(map, dim)| map.as_ref().map_or(*dim, AxisMap::output)).collect();
        let lens = [input, elements(&result)?];
        if maps.iter().flatten().all(AxisMap::picks) {
            let way = Way::Pick(Rearrange::pick(shape, &maps, extrapolation)?);
            return Ok(Resize { shape: result, lens, way });
        }
        let outside: Vec<Option<Vec<bool>>> =
            maps.iter().map(|map| map.as_ref().map(|m| m.outside.clone()).filter(|o| o.contains(&true))).collect();
        // What shrinks comes first, what grows last: less is computed in between.
        let mut order: Vec<(usize, AxisMap)> = maps.into_iter().enumerate().filter_map(|(axis, map)| Some((axis, map?))).collect();
        order.sort_by(|(_, a), (_, b)| (a.output() as u128 * b.input as u128).cmp(&(b.output() as u128 * a.input as u128)));
        let mut current = shape.to_vec();
        let mut passes = Vec::new();
        for (axis, map) in order {
            let (outer, inner) = (current[..axis].iter().product(), current[axis + 1..].iter().product());
            current[axis] = map.output();
            elements(&current)?;
            passes.push(Pass { map, outer, inner });
        }
        Ok(Resize { shape: result, lens, way: Way::Interpolate { passes, outside, fill: extrapolation } })
    }

    /// The shape of the result.
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements of scratch memory, for any number of threads: two tensors between the passes.
    pub fn scratch_len(&self) -> usize {
        let [first, second] = self.between();
        first.saturating_add(second)
    }

    /// The longest results of the passes but the last that go to the first and to the second buffer.
    fn between(&self) -> [usize; 2] {
        let Way::Interpolate { passes, .. } = &self.way else { return [0, 0] };
        let longest = |which: usize| passes.iter().take(passes.len() - 1).skip(which).step_by(2).map(Pass::output).max().unwrap_or(0);
        [longest(0), longest(1)]
    }

    /// Resizes.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, `scratch` is shorter than [`Resize::scratch_len`], or the executor leaves a part
    /// out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32], scratch: &mut [f32]) -> Result<(), Error> {
        check("input of a resize", self.lens[0], input.len())?;
        check("output of a resize", self.lens[1], output.len())?;
        let (passes, outside, fill) = match &self.way {
            Way::Pick(rearrange) => return rearrange.run(executor, input, output),
            Way::Interpolate { passes, outside, fill } => (passes, outside, *fill),
        };
        let [first, second] = self.between();
        if scratch.len() < first + second {
            return Err(Error::Length { what: "scratch of a resize", expected: first + second, found: scratch.len() });
        }
        let (first, second) = scratch.split_at_mut(first);
        for (i, pass) in passes.iter().enumerate() {
            let before = if i == 0 { self.lens[0] } else { passes[i - 1].output() };
            let last = i + 1 == passes.len();
            let len = pass.output();
            match (i % 2, last) {
                (0, true) => pass.run(executor, if i == 0 { input } else { &second[..before] }, output)?,
                (0, false) => pass.run(executor, if i == 0 { input } else { &second[..before] }, &mut first[..len])?,
                (_, true) => pass.run(executor, &first[..before], output)?,
                (_, false) => pass.run(executor, &first[..before], &mut second[..len])?,
            }
        }
        if outside.iter().any(Option::is_some) {
            for (i, value) in output.iter_mut().enumerate() {
                let mut rest = i;
                let is_outside = self.shape.iter().zip(outside).rev().any(|(dim, outside)| {
                    let index = rest % dim;
                    rest /= dim;
                    outside.as_ref().is_some_and(|o| o[index])
                });
                if is_outside {
                    *value = fill;
                }
            }
        }
        Ok(())
    }
}

impl Pass {
    fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        let (taps, size, inner) = (self.map.taps, self.map.input, self.inner);
        let rows = self.map.output();
        let total = self.output();
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            let range = grains(total, &parts, thread);
            let mut at = range.start;
            while at < range.end {
                let (outer, row, x) = (at / (rows * inner), at / inner % rows, at % inner);
                let len = (inner - x).min(range.end - at);
                // SAFETY: the output is a pass's result; ranges are shared out to the threads without overlap.
                let to = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(at), len) };
                let weights = &self.map.weights[row * taps..][..taps];
                for (tap, &weight) in weights.iter().enumerate() {
                    let from = &input[(outer * size + self.map.starts[row] + tap) * inner + x..][..len];
                    if tap == 0 {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to = weight * from);
                    } else if weight != 0.0 {
                        to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * from);
                    }
                }
                at += len;
            }
        })
    }
}
