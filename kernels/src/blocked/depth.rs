//! Channels into blocks of pixels, and blocks of pixels into channels.

use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{BLOCK, Error, Geometry, Layout};

/// Which way elements move.
#[derive(Clone, Copy)]
enum Direction {
    /// DepthSpace: the block is the outer part of the channel's number.
    Space,
    /// DepthSpace: the block is the inner part.
    SpaceInner,
    /// SpaceToDepth.
    Depth,
}

/// DepthSpace or SpaceToDepth, with everything decided.
pub struct Depth {
    direction: Direction,
    input: Geometry,
    output: Geometry,
    block: usize,
}

impl Depth {
    /// Blocks of `block` × `block` pixels out of as many channels; the block is the outer part of the channel's number, or with `crd` the
    /// inner.
    ///
    /// # Errors
    /// When the two are not NCHW16c of fitting shapes.
    pub fn to_space(input: Geometry, output: Geometry, block: usize, crd: bool) -> Result<Depth, Error> {
        Depth::check(&input, &output, block)?;
        Ok(Depth { direction: if crd { Direction::SpaceInner } else { Direction::Space }, input, output, block })
    }

    /// As many channels out of blocks of `block` × `block` pixels.
    ///
    /// # Errors
    /// When the two are not NCHW16c of fitting shapes.
    pub fn to_depth(input: Geometry, output: Geometry, block: usize) -> Result<Depth, Error> {
        Depth::check(&output, &input, block)?;
        Ok(Depth { direction: Direction::Depth, input, output, block })
    }

    fn check(deep: &Geometry, wide: &Geometry, block: usize) -> Result<(), Error> {
        let fits = || {
            let size = block.checked_mul(block)?;
            let same = deep.n == wide.n
                && Some(deep.c) == wide.c.checked_mul(size)
                && Some(wide.h) == deep.h.checked_mul(block)
                && Some(wide.w) == deep.w.checked_mul(block);
            (same && deep.layout == Layout::Nchw16c && wide.layout == Layout::Nchw16c).then_some(())
        };
        fits().ok_or_else(|| Error::Problem {
            problem: format!("blocks of {block} between {deep:?} and {wide:?}"),
            reason: "the buffers are not NCHW16c of fitting shapes".into(),
        })
    }

    /// Where the element of a channel and pixel of the output comes from, for the pixels of a row: channel, row and column of the
    /// first, and the step between columns that belong together. `phase` is a column within a block.
    fn source(&self, c: usize, y: usize, phase: usize) -> (usize, usize) {
        let b = self.block;
        match self.direction {
            Direction::Space => (((y % b) * b + phase) * self.output.c + c, y / b),
            Direction::SpaceInner => (c * b * b + (y % b) * b + phase, y / b),
            Direction::Depth => (c % self.input.c, y * b + c / self.input.c / b),
        }
    }

    /// Moves the elements.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of moved blocks", input.len())?;
        self.output.check("output of moved blocks", output.len())?;
        let shared = SharedPointer::new(output);
        let (planes, height) = (self.output.planes(), self.output.h);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for row in parts.range(self.output.n * planes * height, thread) {
                let (n, plane, y) = (row / (planes * height), row / height % planes, row % height);
                let start = self.output.offset(n, plane, y, 0);
                // SAFETY: the output was checked; rows are shared out to the threads without overlap.
                let to = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(start), self.output.w * BLOCK) };
                for lane in 0..BLOCK {
                    let c = plane * BLOCK + lane;
                    if c >= self.output.c {
                        to.iter_mut().skip(lane).step_by(BLOCK).for_each(|v| *v = 0.0);
                        continue;
                    }
                    self.lane(input, [n, c, y], &mut to[lane..]);
                }
                if y == 0 {
                    // SAFETY: likewise; the first row's thread clears the plane's halo.
                    unsafe { self.output.clear_halo(shared.as_ptr(), n, plane) };
                }
            }
        })
    }

    /// A row of one channel, sixteen elements apart.
    fn lane(&self, input: &[f32], [n, c, y]: [usize; 3], to: &mut [f32]) {
        let b = self.block;
        let first = |channel: usize, y: usize, x: usize| self.input.offset(n, channel / BLOCK, y, x) + channel % BLOCK;
        if let Direction::Depth = self.direction {
            let (channel, y) = self.source(c, y, 0);
            let from = input[first(channel, y, c / self.input.c % b)..].iter().step_by(b.saturating_mul(BLOCK));
            to.iter_mut().step_by(BLOCK).zip(from).for_each(|(to, x)| *to = *x);
            return;
        }
        for phase in 0..b {
            let (channel, y) = self.source(c, y, phase);
            let from = input[first(channel, y, 0)..].iter().step_by(BLOCK).take(self.input.w);
            to.iter_mut().skip(phase * BLOCK).step_by(b.saturating_mul(BLOCK)).zip(from).for_each(|(to, x)| *to = *x);
        }
    }
}
