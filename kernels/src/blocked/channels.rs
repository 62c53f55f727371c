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
    /// For each plane of the output, the pieces that it is made of.
    planes: Vec<Vec<Piece>>,
    joined: bool,
    table: &'static KernelTable,
}

impl Channels {
    /// `map` has, for each channel of the output, an input and a channel of it. All are NCHW16c, with as many images, rows and columns.
    ///
    /// # Errors
    /// When a buffer is of another shape or layout, `map` has not one entry a channel, or an entry is out of range.
    pub fn new(inputs: &[Geometry], output: Geometry, map: &[(usize, usize)], table: &'static KernelTable) -> Result<Channels, Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("channels of {inputs:?} into {output:?}"), reason: reason.into() };
        let fits = |g: &Geometry| g.layout == Layout::Nchw16c && [g.n, g.h, g.w] == [output.n, output.h, output.w];
        if !fits(&output) || !inputs.iter().all(fits) {
            return Err(refuse("the buffers are not NCHW16c of as many images, rows and columns"));
        }
        if map.len() != output.c || map.iter().any(|&(input, channel)| inputs.get(input).is_none_or(|g| channel >= g.c)) {
            return Err(refuse("the map has not one entry a channel, or an entry is out of range"));
        }
        let planes = map.chunks(BLOCK).map(|lanes| {
            let mut pieces: Vec<Piece> = Vec::new();
            for (lane, &(input, channel)) in lanes.iter().enumerate() {
                let (plane, from) = (channel / BLOCK, channel % BLOCK);
                match pieces.last_mut() {
                    Some(p) if p.input == input && p.plane == plane && p.from + p.count == from => p.count += 1,
                    _ => pieces.push(Piece { input, plane, from, to: lane, count: 1 }),
                }
            }
            pieces
        });
        let planes = planes.collect();
        let joined = is_gapless(&output) && inputs.iter().all(is_gapless);
        Ok(Channels { inputs: inputs.to_vec(), output, planes, joined, table })
    }

    /// The inputs' channels one behind the other.
    ///
    /// # Errors
    /// As [`Channels::new`].
    pub fn concat(inputs: &[Geometry], output: Geometry, table: &'static KernelTable) -> Result<Channels, Error> {
        let total = inputs.iter().fold(0usize, |sum, g| sum.saturating_add(g.c));
        if total != output.c {
            let problem = format!("concatenation of {inputs:?} into {output:?}");
            return Err(Error::Problem { problem, reason: format!("the inputs have {total} channels") });
        }
        let map: Vec<(usize, usize)> = inputs.iter().enumerate().flat_map(|(i, g)| (0..g.c).map(move |c| (i, c))).collect();
        Channels::new(inputs, output, &map, table)
    }

    /// The output's channels are those of the input from `first` on, `step` apart.
    ///
    /// # Errors
    /// As [`Channels::new`].
    pub fn slice(input: Geometry, output: Geometry, first: usize, step: usize, table: &'static KernelTable) -> Result<Channels, Error> {
        let map: Vec<(usize, usize)> = (0..output.c).map(|c| (0, first.saturating_add(c.saturating_mul(step)))).collect();
        Channels::new(&[input], output, &map, table)
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
        let map: Vec<(usize, usize)> = (0..output.c).map(|c| (0, c % groups * each + c / groups)).collect();
        Channels::new(&[input], output, &map, table)
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
        let pieces = &self.planes[plane];
        let source = |p: &Piece| &inputs[p.input][self.inputs[p.input].offset(n, p.plane, y, 0)..][..to.len()];
        let whole = self.output.c - plane * BLOCK >= BLOCK;
        if let ([piece], true) = (&pieces[..], whole) {
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
