//! Channels taken from one or several buffers in any order: concatenation, splitting, slicing, shuffling.

use super::{for_stretches, is_gapless};
use crate::function::blend::{BlendArgs, MAX_SOURCES, Source};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{BLOCK, Error, Geometry, KernelTable, Layout};

/// Lanes that come side by side from one block of an input.
struct Piece {
    input: usize,
    plane: usize,
    /// The first lane in the input, in the output, and how many.
    from: usize,
    to: usize,
    count: usize,
}

/// An op that moves channels, with everything decided.
pub struct Channels {
    inputs: Vec<Geometry>,
    output: Geometry,
    /// What the output's planes are made of, one behind the other.
    pieces: Vec<Piece>,
    /// Where the pieces of each plane begin, and where the last ends.
    starts: Vec<usize>,
    joined: bool,
    table: &'static KernelTable,
}

impl Channels {
    /// `map` tells for each channel of the output an input and a channel of it. All are NCHW16c, with as many images, rows and columns.
    ///
    /// # Errors
    /// When a buffer is of another shape or layout, a channel that is told is out of range, or there is no memory.
    pub fn new(
        inputs: &[Geometry],
        output: Geometry,
        map: impl Fn(usize) -> (usize, usize),
        table: &'static KernelTable,
    ) -> Result<Channels, Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("channels of {inputs:?} into {output:?}"), reason: reason.into() };
        let fits = |g: &Geometry| g.layout == Layout::Nchw16c && [g.n, g.h, g.w] == [output.n, output.h, output.w];
        if !fits(&output) || !inputs.iter().all(fits) {
            return Err(refuse("the buffers are not NCHW16c of as many images, rows and columns"));
        }
        let out_of_memory = |elements: usize| Error::OutOfMemory { bytes: elements.saturating_mul(size_of::<Piece>()) };
        let (mut pieces, mut starts): (Vec<Piece>, Vec<usize>) = (Vec::new(), Vec::new());
        starts.try_reserve_exact(output.planes() + 1).map_err(|_| out_of_memory(output.planes()))?;
        for channel in 0..output.c {
            let lane = channel % BLOCK;
            if lane == 0 {
                starts.push(pieces.len());
            }
            let (input, channel) = map(channel);
            if inputs.get(input).is_none_or(|g| channel >= g.c) {
                return Err(refuse("a channel is out of range"));
            }
            let (plane, from) = (channel / BLOCK, channel % BLOCK);
            match pieces.last_mut() {
                Some(p) if lane > 0 && p.input == input && p.plane == plane && p.from + p.count == from => p.count += 1,
                _ => {
                    pieces.try_reserve(1).map_err(|_| out_of_memory(pieces.len() + 1))?;
                    pieces.push(Piece { input, plane, from, to: lane, count: 1 });
                }
            }
        }
        starts.push(pieces.len());
        let joined = is_gapless(&output) && inputs.iter().all(is_gapless);
        Ok(Channels { inputs: inputs.to_vec(), output, pieces, starts, joined, table })
    }

    /// Most bytes of the table for an output of `channels`.
    pub fn bytes_needed(channels: usize) -> usize {
        // A table that grows is twice as large for a while.
        channels.saturating_mul(3 * size_of::<Piece>() + size_of::<usize>())
    }

    /// The inputs' channels one behind the other.
    ///
    /// # Errors
    /// As [`Channels::new`].
    pub fn concat(inputs: &[Geometry], output: Geometry, table: &'static KernelTable) -> Result<Channels, Error> {
        let mut ends = Vec::with_capacity(inputs.len());
        let total = inputs.iter().fold(0usize, |sum, g| {
            ends.push(sum.saturating_add(g.c));
            sum.saturating_add(g.c)
        });
        if total != output.c {
            let problem = format!("concatenation of {inputs:?} into {output:?}");
            return Err(Error::Problem { problem, reason: format!("the inputs have {total} channels") });
        }
        let map = |channel: usize| {
            let input = ends.partition_point(|end| *end <= channel);
            (input, channel - input.checked_sub(1).map_or(0, |before| ends[before]))
        };
        Channels::new(inputs, output, map, table)
    }

    /// The output's channels are those of the input from `first` on, `step` apart.
    ///
    /// # Errors
    /// As [`Channels::new`].
    pub fn slice(input: Geometry, output: Geometry, first: usize, step: usize, table: &'static KernelTable) -> Result<Channels, Error> {
        Channels::new(&[input], output, |c| (0, first.saturating_add(c.saturating_mul(step))), table)
    }

    /// The channels of `groups` groups in turn: `[groups, C / groups]` transposed.
    ///
    /// # Errors
    /// When the channels are no multiple of the groups; as [`Channels::new`].
    pub fn shuffle(input: Geometry, output: Geometry, groups: usize, table: &'static KernelTable) -> Result<Channels, Error> {
        if groups == 0 || !output.c.is_multiple_of(groups) {
            let problem = format!("shuffling of {input:?}");
            return Err(Error::Problem { problem, reason: format!("the channels are no multiple of {groups} groups") });
        }
        let each = output.c / groups;
        Channels::new(&[input], output, |c| (0, c % groups * each + c / groups), table)
    }

    /// Moves the channels.
    ///
    /// # Errors
    /// When there are more or fewer inputs, a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, inputs: &[&[f32]], output: &mut [f32]) -> Result<(), Error> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::Length { what: "inputs of moved channels", expected: self.inputs.len(), found: inputs.len() });
        }
        for (geometry, input) in self.inputs.iter().zip(inputs) {
            geometry.check("input of moved channels", input.len())?;
        }
        self.output.check("output of moved channels", output.len())?;
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        parts.share_out_rows(self.output.n * self.output.planes() * self.output.h, &|rows| {
            for_stretches(&self.output, rows, self.joined, |n, plane, y, count| {
                let pixels = count * self.output.w;
                let start = self.output.offset(n, plane, y, 0);
                // SAFETY: the output was checked; rows are shared out to the threads without overlap.
                let to = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(start), pixels * BLOCK) };
                self.row(inputs, [n, plane, y], to);
                if y == 0 {
                    // SAFETY: likewise; the first row's thread clears the plane's halo.
                    unsafe { self.output.clear_halo(shared.as_ptr(), n, plane) };
                }
            });
        })
    }

    fn row(&self, inputs: &[&[f32]], [n, plane, y]: [usize; 3], to: &mut [f32]) {
        let pieces = &self.pieces[self.starts[plane]..self.starts[plane + 1]];
        let source = |p: &Piece| &inputs[p.input][self.inputs[p.input].offset(n, p.plane, y, 0)..][..to.len()];
        let whole = self.output.c - plane * BLOCK >= BLOCK;
        if let ([piece], true) = (pieces, whole) {
            to.copy_from_slice(source(piece));
            return;
        }
        let pixels = to.len() / BLOCK;
        // The first and the last pixel apart: a vector that is shifted to its lanes hangs over them.
        let inner = if pieces.len() <= MAX_SOURCES && pixels > 2 { 1..pixels - 1 } else { 0..0 };
        if !inner.is_empty() {
            let mut args =
                BlendArgs { sources: [Source::NOTHING; MAX_SOURCES], used: pieces.len(), count: inner.len(), output: std::ptr::null_mut() };
            for (to, piece) in args.sources.iter_mut().zip(pieces) {
                // From the second pixel's lane that comes to lane 0, which may be one of the first pixel's.
                to.data = source(piece)[BLOCK + piece.from - piece.to..].as_ptr();
                to.mask[piece.to..piece.to + piece.count].fill(u32::MAX);
            }
            args.output = to[BLOCK..].as_mut_ptr();
            // SAFETY: each source is a row of as many pixels, of which the vectors of inner pixels read at most fifteen elements of the
            // pixel before or behind; the output's inner pixels are `to`'s.
            unsafe { (self.table.functions.blend)(&args) };
        }
        for pixel in (0..inner.start).chain(inner.end.max(inner.start)..pixels) {
            let lanes = &mut to[pixel * BLOCK..][..BLOCK];
            lanes.fill(0.0);
            for p in pieces {
                let from = &inputs[p.input][self.inputs[p.input].offset(n, p.plane, y, 0) + pixel * BLOCK + p.from..][..p.count];
                lanes[p.to..p.to + p.count].copy_from_slice(from);
            }
        }
    }
}
