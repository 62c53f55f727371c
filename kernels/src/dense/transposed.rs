//! ConvTranspose: what each input pixel gives to the outputs under its window is a matrix product, and the outputs collect it.
//!
//! Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), section 4; the product's columns go back to the image
//! as those of im2col came from it.

use super::{check, elements};
use crate::gemm::{Gemm, Matrix, Right};
use crate::parallel::{Executor, MAX_THREADS, Parts, SharedPointer};
use crate::{Error, KernelTable};

/// A transposed convolution of `[N, C, H, W]`. One of a single dimension has H = 1 and a kernel of one row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvTransposeProblem {
    /// Images, channels, rows and columns of the input.
    pub input: [usize; 4],
    /// Channels of the output.
    pub oc: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Output pixels from an input pixel's window to the next's.
    pub stride: [usize; 2],
    /// Output pixels from a tap to the next.
    pub dilation: [usize; 2],
    /// Rows and columns that are cut off the full result: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Rows and columns added at the bottom and right.
    pub output_padding: [usize; 2],
    /// Groups of channels that have nothing to do with each other.
    pub groups: usize,
}

impl ConvTransposeProblem {
    /// Rows and columns of the output.
    ///
    /// # Errors
    /// When a size, stride, dilation or the number of groups is zero, the groups do not divide the channels, the pads leave nothing, or
    /// the sizes overflow.
    pub fn output(&self) -> Result<[usize; 2], Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("{self:?}"), reason: reason.into() };
        let sizes = [&self.input[..], &self.kernel, &self.stride, &self.dilation, &[self.oc, self.groups]].concat();
        if sizes.contains(&0) {
            return Err(refuse("a size, a step or the number of groups is zero"));
        }
        if !self.input[1].is_multiple_of(self.groups) || !self.oc.is_multiple_of(self.groups) {
            return Err(refuse("the groups do not divide the channels"));
        }
        let along = |axis: usize| {
            let full = (self.input[2 + axis] - 1)
                .checked_mul(self.stride[axis])?
                .checked_add((self.kernel[axis] - 1).checked_mul(self.dilation[axis])?)?
                .checked_add(1)?
                .checked_add(self.output_padding[axis])?;
            // Less than a quarter of the address space: signed differences of positions cannot overflow.
            (full <= isize::MAX as usize / 4).then_some(full)
        };
        let (Some(h), Some(w)) = (along(0), along(1)) else { return Err(refuse("the sizes overflow")) };
        let cut = |size: usize, axis: usize| size.checked_sub(self.pads[axis])?.checked_sub(self.pads[axis + 2]).filter(|s| *s > 0);
        match (cut(h, 0), cut(w, 1)) {
            (Some(h), Some(w)) => Ok([h, w]),
            _ => Err(refuse("the pads leave nothing")),
        }
    }
}

/// A transposed convolution with everything decided.
pub struct ConvTranspose {
    problem: ConvTransposeProblem,
    output: [usize; 2],
    lens: [usize; 3],
    gemm: Gemm,
    /// Elements of what all windows of an image give.
    columns: usize,
}

impl ConvTranspose {
    /// Prepares it.
    ///
    /// # Errors
    /// As [`ConvTransposeProblem::output`], and when a tensor is too large.
    pub fn new(problem: ConvTransposeProblem, table: &'static KernelTable) -> Result<ConvTranspose, Error> {
        let output @ [oh, ow] = problem.output()?;
        let [n, c, h, w] = problem.input;
        let [kh, kw] = problem.kernel;
        let lens = [elements(&[n, c, h, w])?, elements(&[c, problem.oc / problem.groups, kh, kw])?, elements(&[n, problem.oc, oh, ow])?];
        let columns = elements(&[problem.oc, kh, kw, h, w])?;
        let gemm = Gemm::new(problem.oc / problem.groups * kh * kw, h * w, c / problem.groups, table);
        Ok(ConvTranspose { problem, output, lens, gemm, columns })
    }

    /// Images, channels, rows and columns of the output.
    pub fn output_shape(&self) -> [usize; 4] {
        [self.problem.input[0], self.problem.oc, self.output[0], self.output[1]]
    }

    /// Elements of scratch memory for a number of threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.gemm.scratch_len(false).saturating_mul(threads.clamp(1, MAX_THREADS)).saturating_add(self.columns)
    }

    /// Computes it. `weight` is `[C, OC / groups, KH, KW]`.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, `scratch` is shorter than [`ConvTranspose::scratch_len`] of the executor's threads,
    /// or the executor leaves a part out.
    pub fn run(
        &self,
        executor: &dyn Executor,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        output: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        check("input of a transposed convolution", self.lens[0], input.len())?;
        check("weight of a transposed convolution", self.lens[1], weight.len())?;
        check("output of a transposed convolution", self.lens[2], output.len())?;
        if let Some(bias) = bias {
            check("bias of a transposed convolution", self.problem.oc, bias.len())?;
        }
        let parts = Parts::of(executor);
        let needed = self.scratch_len(parts.count());
        if scratch.len() < needed {
            return Err(Error::Length { what: "scratch of a transposed convolution", expected: needed, found: scratch.len() });
        }
        let (columns, memory) = scratch.split_at_mut(self.columns);
        let ConvTransposeProblem { groups, oc, input: [n, c, h, w], .. } = self.problem;
        let pixels = self.output[0] * self.output[1];
        let each = self.gemm.scratch_len(false);
        let partition = if groups.is_multiple_of(parts.count()) { [1, 1] } else { self.gemm.partition(parts.count()) };
        let shares = partition[0] * partition[1];
        let (m, k) = (self.gemm.m, self.gemm.k);
        for image in 0..n {
            let (shared, memory) = (SharedPointer::new(columns), SharedPointer::new(memory));
            parts.run(&|thread| {
                // SAFETY: the scratch holds so much for each part, and no index comes twice.
                let scratch = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr().add(thread * each), each) };
                for item in parts.range(groups * shares, thread) {
                    let (group, share) = (item / shares, item % shares);
                    let (panels, rows) = self.gemm.part(partition, share);
                    let a = Matrix { data: weight, offset: group * k * m, row: 1, column: m };
                    let b = Matrix { data: input, offset: (image * c + group * k) * h * w, row: h * w, column: 1 };
                    // SAFETY: the columns hold the products of all groups; parts of them are shared out without overlap.
                    unsafe {
                        let to = shared.as_ptr().add(group * m * h * w);
                        self.gemm.run(a, Right::Plain(b), to, panels, rows, scratch);
                    }
                }
            })?;
            let columns = &*columns;
            let shared = SharedPointer::new(&mut output[image * oc * pixels..(image + 1) * oc * pixels]);
            parts.run(&|thread| {
                for channel in parts.range(oc, thread) {
                    // SAFETY: an image of the output holds all channels, which are shared out to the threads.
                    let plane = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(channel * pixels), pixels) };
                    plane.fill(bias.map_or(0.0, |b| b[channel]));
                    self.collect(columns, channel, plane);
                }
            })?;
        }
        Ok(())
    }

    /// Adds what every tap gives to a plane of the output, tap by tap.
    fn collect(&self, columns: &[f32], channel: usize, plane: &mut [f32]) {
        let ConvTransposeProblem { kernel, stride, dilation, pads, input: [_, _, h, w], .. } = self.problem;
        let [oh, ow] = self.output;
        // The input positions whose tap falls inside the output.
        let inside = |tap: usize, axis: usize, size: usize, limit: usize| {
            let shift = (tap * dilation[axis]) as isize - pads[axis] as isize;
            let first = if shift < 0 { shift.unsigned_abs().div_ceil(stride[axis]) } else { 0 };
            let room = limit as isize - shift;
            let behind = if room <= 0 { 0 } else { (room as usize).div_ceil(stride[axis]).min(size) };
            (first, behind, shift)
        };
        for ky in 0..kernel[0] {
            let (top, bottom, down) = inside(ky, 0, h, oh);
            for kx in 0..kernel[1] {
                let (left, right, across) = inside(kx, 1, w, ow);
                if left >= right {
                    continue;
                }
                let tap = &columns[((channel * kernel[0] + ky) * kernel[1] + kx) * h * w..][..h * w];
                for y in top..bottom {
                    let row = (y * stride[0]) as isize + down;
                    let first = (left * stride[1]) as isize + across;
                    let to = &mut plane[row as usize * ow + first as usize..];
                    let from = &tap[y * w + left..y * w + right];
                    to.iter_mut().step_by(stride[1]).zip(from).for_each(|(to, from)| *to += from);
                }
            }
        }
    }
}
