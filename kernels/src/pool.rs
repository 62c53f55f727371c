//! Pooling over blocked layouts of floats: every kind is a grid of windows, each a range of rows times a range of columns.

use crate::parallel::{Executor, Parts, SharedPointer};
use crate::row::{PoolArgs, PoolFn};
use crate::{Element, Error, Geometry, KernelTable, Layout};

/// What a window becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Reduction {
    /// Its maximum; NaN wins.
    Maximum,
    /// Its sum over the product of the two divisors of its row and column.
    Mean,
}

/// One axis of a grid of windows.
#[derive(Clone, PartialEq, Debug)]
pub struct Windows {
    ranges: Vec<(usize, usize)>,
    divisors: Vec<f32>,
    /// From an element of a window to its next.
    step: usize,
}

/// How windows slide along an axis, with ONNX's attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Sliding {
    /// Elements of a window.
    pub kernel: usize,
    /// From a window to the next.
    pub stride: usize,
    /// From an element of a window to its next.
    pub dilation: usize,
    /// Padding before the first and behind the last element.
    pub pads: [usize; 2],
    /// Whether a last window may hang over the padding; one that would begin behind it is left out.
    pub ceil_mode: bool,
    /// Whether a mean's divisor counts the padding.
    pub count_include_pad: bool,
}

impl Sliding {
    /// The dilation, or as much of it as can make a difference: one element has no next. For sizes that [`Sliding::count`] accepted.
    pub(crate) fn dilation_within(&self, size: usize) -> usize {
        self.dilation.min(size + self.pads[0] + self.pads[1])
    }

    /// How many windows slide over `size` elements.
    ///
    /// # Errors
    /// When kernel, stride or dilation is zero, the sizes overflow, or the padded elements are fewer than a window's.
    pub fn count(&self, size: usize) -> Result<usize, Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("pooling of {size} elements by {self:?}"), reason: reason.into() };
        if self.kernel == 0 || self.stride == 0 || self.dilation == 0 {
            return Err(refuse("kernel, stride or dilation is zero"));
        }
        let extent = (self.kernel - 1).checked_mul(self.dilation).and_then(|e| e.checked_add(1));
        let padded = size.checked_add(self.pads[0]).and_then(|s| s.checked_add(self.pads[1]));
        let (Some(extent), Some(padded)) = (extent, padded) else { return Err(refuse("the sizes overflow")) };
        let Some(room) = padded.checked_sub(extent) else { return Err(refuse("a window is larger than what it slides over")) };
        if !self.ceil_mode {
            return Ok(room / self.stride + 1);
        }
        let count = room.div_ceil(self.stride) + 1;
        Ok(if (count - 1).saturating_mul(self.stride) >= size + self.pads[0] { count - 1 } else { count })
    }
}

impl Windows {
    /// `count` windows of `kernel` elements, `stride` apart, over `size` elements with `before` and `after` elements of padding.
    /// A mean's divisor counts the padding (but nothing behind it) if `count_padding`.
    ///
    /// # Errors
    /// When the stride is zero, a window would cover no element at all, or there is no memory.
    pub fn sliding(
        size: usize,
        [kernel, stride]: [usize; 2],
        [before, after]: [usize; 2],
        count: usize,
        count_padding: bool,
    ) -> Result<Windows, Error> {
        if stride == 0 {
            return Err(Error::Problem { problem: "pooling".into(), reason: "a stride is zero".into() });
        }
        // Asked of the last window first: memory for all of them is only then taken.
        if count > 0 && (count - 1).saturating_mul(stride) >= size.saturating_add(before) {
            return Err(empty_window(count - 1, size));
        }
        let mut windows = Windows::with_capacity(count)?;
        for i in 0..count {
            let start = i.saturating_mul(stride);
            let end = start.saturating_add(kernel).min(size.saturating_add(before).saturating_add(after));
            let range = (start.saturating_sub(before), end.saturating_sub(before).min(size));
            windows.push(range, if count_padding { end.saturating_sub(start) } else { range.1.saturating_sub(range.0) }, size)?;
        }
        Ok(windows)
    }

    /// The windows that slide over `size` elements as ONNX's pooling ops define it.
    ///
    /// # Errors
    /// As [`Sliding::count`], and when a window covers padding alone or there is no memory.
    pub fn onnx(size: usize, sliding: &Sliding) -> Result<Windows, Error> {
        let Sliding { kernel, stride, pads: [before, after], count_include_pad, .. } = *sliding;
        let count = sliding.count(size)?;
        let dilation = sliding.dilation_within(size);
        let mut windows = Windows::with_capacity(count)?;
        // Elements that are both inside are no further apart.
        windows.step = dilation.min(size.max(1));
        for i in 0..count {
            let start = i * stride;
            // The taps that are inside, and those before the end of the padding.
            let first = before.saturating_sub(start).div_ceil(dilation);
            let taps = |end: usize| end.saturating_sub(start).div_ceil(dilation).min(kernel);
            let (behind, padded) = (taps(size + before), taps(size + before + after));
            if first >= behind {
                return Err(empty_window(i, size));
            }
            let begin = start + first * dilation - before;
            let divisor = if count_include_pad { padded } else { behind - first };
            windows.push((begin, begin + (behind - 1 - first) * dilation + 1), divisor, size)?;
        }
        Ok(windows)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ranges.len()
    }

    /// `count` windows that share out `size` elements as PyTorch's adaptive pooling does: window i covers
    /// `⌊i·size/count⌋ .. ⌈(i+1)·size/count⌉`. With `count` 1, all of them.
    ///
    /// # Errors
    /// When `size` is zero or there is no memory.
    pub fn adaptive(size: usize, count: usize) -> Result<Windows, Error> {
        if size == 0 {
            return Err(empty_window(0, size));
        }
        let mut windows = Windows::with_capacity(count)?;
        for i in 0..count {
            let range =
                ((i as u128 * size as u128 / count as u128) as usize, ((i as u128 + 1) * size as u128).div_ceil(count as u128) as usize);
            windows.push(range, range.1 - range.0, size)?;
        }
        Ok(windows)
    }

    /// Whether there are `count` of them, all inside `size` elements, and so are their steps.
    pub(crate) fn fit(&self, size: usize, count: usize) -> bool {
        self.ranges.len() == count && self.step <= size.max(1) && self.ranges.iter().all(|r| r.1 <= size)
    }

    /// Elements of the longest.
    pub(crate) fn longest(&self) -> usize {
        self.ranges.iter().map(|r| (r.1 - r.0).div_ceil(self.step)).max().unwrap_or(0)
    }

    /// The first element of each, and the one behind its last.
    pub(crate) fn ranges(&self) -> &[(usize, usize)] {
        &self.ranges
    }

    pub(crate) fn range(&self, index: usize) -> (usize, usize) {
        self.ranges[index]
    }

    pub(crate) fn divisors(&self) -> &[f32] {
        &self.divisors
    }

    /// From an element of a window to its next.
    pub(crate) fn step(&self) -> usize {
        self.step
    }

    fn with_capacity(count: usize) -> Result<Windows, Error> {
        let mut windows = Windows { ranges: Vec::new(), divisors: Vec::new(), step: 1 };
        let reserved = windows.ranges.try_reserve_exact(count).and_then(|()| windows.divisors.try_reserve_exact(count));
        reserved.map_err(|_| Error::OutOfMemory { bytes: count.saturating_mul(size_of::<(usize, usize)>() + size_of::<f32>()) })?;
        Ok(windows)
    }

    fn push(&mut self, range: (usize, usize), divisor: usize, size: usize) -> Result<(), Error> {
        if range.0 >= range.1 || range.1 > size {
            return Err(empty_window(self.ranges.len(), size));
        }
        self.ranges.push(range);
        self.divisors.push(divisor as f32);
        Ok(())
    }
}

fn empty_window(index: usize, size: usize) -> Error {
    Error::Problem { problem: "pooling".into(), reason: format!("window {index} covers no element of {size}") }
}

/// A pooling op with everything decided.
pub struct Pool {
    kernel: PoolFn,
    input: Geometry,
    output: Geometry,
    rows: Windows,
    columns: Windows,
}

impl Pool {
    /// Prepares pooling of `input` into `output`, both NCHW16c or both NCHW32c, of the same N and C; H and W of the output are the
    /// numbers of windows. Neither buffer needs a halo.
    ///
    /// # Errors
    /// When a geometry does not fit the windows.
    pub fn new(
        reduction: Reduction,
        input: Geometry,
        output: Geometry,
        rows: Windows,
        columns: Windows,
        table: &'static KernelTable,
    ) -> Result<Pool, Error> {
        let kernel = match (input.layout.element(), reduction) {
            (Element::Bf16, Reduction::Maximum) => table.bf16()?.pool_max,
            (Element::Bf16, Reduction::Mean) => table.bf16()?.pool_mean,
            (_, Reduction::Maximum) => table.pool_max,
            (_, Reduction::Mean) => table.pool_mean,
        };
        let fits = matches!(input.layout, Layout::Nchw16c | Layout::Nchw32c)
            && output.layout == input.layout
            && [input.n, input.c] == [output.n, output.c]
            && rows.fit(input.h, output.h)
            && columns.fit(input.w, output.w);
        if !fits {
            let problem = format!("pooling of {input:?} into {output:?}");
            return Err(Error::Problem { problem, reason: "the windows do not fit the buffers".into() });
        }
        Ok(Pool { kernel, input, output, rows, columns })
    }

    /// The same op of bfloat16 by the kernels of another table.
    ///
    /// # Panics
    /// When it is one of f32.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn with_table(self, reduction: Reduction, table: &'static crate::bf16::Bf16Table) -> Pool {
        assert_eq!(self.input.layout.element(), Element::Bf16);
        let kernel = if reduction == Reduction::Maximum { table.pool_max } else { table.pool_mean };
        Pool { kernel, ..self }
    }

    /// Pools. Results do not depend on the executor's number of threads.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("pooling input", input.len())?;
        self.output.check("pooling output", output.len())?;
        let shared = SharedPointer::new(output);
        let (blocks, height) = (self.output.blocks(), self.output.h);
        let parts = Parts::of(executor);
        parts.share_out_rows(self.output.n * blocks * height, &|rows| {
            for row in rows {
                let (n, block, y) = (row / (blocks * height), row / height % blocks, row % height);
                let (begin, end) = self.rows.ranges[y];
                let at = |g: &Geometry, y: usize| g.offset(n, 0, y, 0) + g.block_offset(block);
                let args = PoolArgs {
                    input: input[at(&self.input, begin)..].as_ptr(),
                    row_stride: self.input.row_stride() * self.rows.step,
                    rows: (end - begin).div_ceil(self.rows.step),
                    columns: self.columns.ranges.as_ptr(),
                    column_step: self.columns.step,
                    column_divisors: self.columns.divisors.as_ptr(),
                    row_divisor: self.rows.divisors[y],
                    count: self.output.w,
                    output: shared.as_ptr().wrapping_add(at(&self.output, y)),
                };
                // SAFETY: `Pool::new` checked that every window lies inside a plane and that there is one for each output;
                // the slices' lengths are checked above; rows are shared out to the threads without overlap.
                unsafe {
                    (self.kernel)(&args);
                    self.output.clear_around(shared.as_ptr(), n, block, y);
                }
            }
        })
    }
}
