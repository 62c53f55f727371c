//! Pooling and sums of bytes.

use super::Int8Table;
use super::rows::{ElementArgs, MeanArgs};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::pool::{Reduction, Windows};
use crate::row::PoolArgs;
use crate::{BLOCK, Element, Error, Geometry};

/// The largest factor between two scales, and its reciprocal the smallest.
const LARGEST: f32 = 1e18;

/// Checks a quotient of scales.
pub(super) fn check_scale(what: &str, scale: f32) -> Result<(), Error> {
    if scale.is_finite() && scale > 0.0 && (1.0 / LARGEST..=LARGEST).contains(&scale) {
        return Ok(());
    }
    Err(Error::Problem { problem: what.into(), reason: format!("the scale {scale} is not between {:e} and {LARGEST:e}", 1.0 / LARGEST) })
}

fn is_blocked_bytes(g: &Geometry) -> bool {
    g.layout.is_blocked() && g.layout.element() == Element::U8
}

/// Pooling of bytes. A maximum keeps scale and zero point; of a mean the output may have others.
pub struct QuantizedPool {
    reduction: Reduction,
    input: Geometry,
    output: Geometry,
    rows: Windows,
    columns: Windows,
    scale: f32,
    table: &'static Int8Table,
}

impl QuantizedPool {
    /// Prepares pooling of `input` into `output`, both NCHW64c of the same N and C; H and W of the output are the numbers of windows.
    /// `scale` is that of the input over that of the output. A mean is `(sum − n · zero) · (scale / divisor)`, rounded to the nearest
    /// integer, ties to even, plus the output's zero point.
    ///
    /// # Errors
    /// When a geometry does not fit the windows, the windows of a mean have more elements than a sum can hold, or a maximum's scale is
    /// not 1 or its zero points differ.
    pub fn new(
        reduction: Reduction,
        input: Geometry,
        output: Geometry,
        rows: Windows,
        columns: Windows,
        scale: f32,
        table: &'static Int8Table,
    ) -> Result<QuantizedPool, Error> {
        let problem = format!("pooling of {input:?} into {output:?}");
        let refuse = |reason: &str| Err(Error::Problem { problem: problem.clone(), reason: reason.into() });
        let fits = is_blocked_bytes(&input)
            && is_blocked_bytes(&output)
            && [input.n, input.c] == [output.n, output.c]
            && rows.fit(input.h, output.h)
            && columns.fit(input.w, output.w);
        if !fits {
            return refuse("the windows do not fit the buffers");
        }
        check_scale(&problem, scale)?;
        match reduction {
            Reduction::Maximum if scale != 1.0 || input.zero_point() != output.zero_point() => {
                return refuse("a maximum has the scale and zero point of its input");
            }
            Reduction::Mean if rows.longest().saturating_mul(columns.longest()) > 1 << 23 => {
                return refuse("a window has more elements than a sum of 32 bits holds");
            }
            _ => {}
        }
        Ok(QuantizedPool { reduction, input, output, rows, columns, scale, table })
    }

    /// Pools. Results do not depend on the executor's number of threads.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("pooling input", input.len())?;
        self.output.check("pooling output", output.len())?;
        let shared = SharedPointer::new(output);
        // A maximum is taken of 64 channels at a time, a mean of 16.
        let step = match self.reduction {
            Reduction::Maximum => self.output.layout.lanes() / BLOCK,
            Reduction::Mean => 1,
        };
        let (blocks, height) = (self.output.blocks().div_ceil(step), self.output.h);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for row in parts.range(self.output.n * blocks * height, thread) {
                let (n, block, y) = (row / (blocks * height), row / height % blocks * step, row % height);
                let (begin, end) = self.rows.range(y);
                let from = self.input.offset(n, 0, begin, 0) + self.input.block_offset(block);
                let pool = PoolArgs {
                    input: input[from..].as_ptr(),
                    row_stride: self.input.row_stride() * self.rows.step(),
                    rows: (end - begin).div_ceil(self.rows.step()),
                    columns: self.columns.ranges().as_ptr(),
                    column_step: self.columns.step(),
                    column_divisors: self.columns.divisors().as_ptr(),
                    row_divisor: self.rows.divisors()[y],
                    count: self.output.w,
                    output: shared.as_ptr().wrapping_add(self.output.offset(n, 0, y, 0) + self.output.block_offset(block)),
                };
                // SAFETY: `QuantizedPool::new` checked that every window lies inside a plane and that there is one for each output;
                // the slices' lengths are checked above; rows are shared out to the threads without overlap.
                unsafe {
                    match self.reduction {
                        Reduction::Maximum => (self.table.pool_max)(&pool),
                        Reduction::Mean => {
                            let zeros = [&self.input, &self.output].map(|g| i32::from(g.zero_point()));
                            (self.table.pool_mean)(&MeanArgs { pool, scale: self.scale, zeros });
                        }
                    }
                    let last = (block + step).min(self.output.blocks()) - 1;
                    self.output.clear_around(shared.as_ptr(), n, last, y);
                    if last != block {
                        self.output.clear_around(shared.as_ptr(), n, block, y);
                    }
                }
            }
        })
    }
}

/// The sum of two buffers of bytes, each with a scale and zero point of its own, and an activation.
pub struct QuantizedAdd {
    a: Geometry,
    b: Geometry,
    output: Geometry,
    scales: [f32; 2],
    clamp: (f32, f32),
    table: &'static Int8Table,
}

impl QuantizedAdd {
    /// `fma(a, sa, fma(b, sb, −za·sa − zb·sb))`, bounded, rounded to the nearest integer, ties to even, plus the output's zero point.
    /// `scales` are those of the operands over that of the output, `clamp` is in units of the output's scale.
    ///
    /// # Errors
    /// When the three are not NCHW64c of one shape, or a scale or bound is out of range.
    pub fn new(
        a: Geometry,
        b: Geometry,
        output: Geometry,
        scales: [f32; 2],
        clamp: (f32, f32),
        table: &'static Int8Table,
    ) -> Result<QuantizedAdd, Error> {
        let problem = format!("sum of {a:?} and {b:?} into {output:?}");
        let fits = |g: &Geometry| is_blocked_bytes(g) && g.dims() == output.dims();
        if ![&a, &b, &output].into_iter().all(fits) || clamp.0.is_nan() || clamp.1.is_nan() {
            return Err(Error::Problem { problem, reason: "the buffers are not NCHW64c of one shape, or a bound is NaN".into() });
        }
        for scale in scales {
            check_scale(&problem, scale)?;
        }
        Ok(QuantizedAdd { a, b, output, scales, clamp, table })
    }

    /// Adds.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, a: &[f32], b: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.a.check("first summand", a.len())?;
        self.b.check("second summand", b.len())?;
        self.output.check("sum", output.len())?;
        let shared = SharedPointer::new(output);
        let (blocks, height) = (self.output.blocks(), self.output.h);
        let zero = f32::from(self.output.zero_point());
        let [shift_a, shift_b] = [(&self.a, self.scales[0]), (&self.b, self.scales[1])].map(|(g, s)| f32::from(g.zero_point()) * s);
        let bound = |x: f32| x.clamp(-zero, 255.0 - zero);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for row in parts.range(self.output.n * blocks * height, thread) {
                let (n, block, y) = (row / (blocks * height), row / height % blocks, row % height);
                let at = |g: &Geometry| g.offset(n, 0, y, 0) + g.block_offset(block);
                let args = ElementArgs {
                    a: a[at(&self.a)..].as_ptr(),
                    b: b[at(&self.b)..].as_ptr(),
                    scales: self.scales,
                    shift: -shift_a - shift_b,
                    zero: i32::from(self.output.zero_point()),
                    clamp: (bound(self.clamp.0), bound(self.clamp.1)),
                    count: self.output.w,
                    output: shared.as_ptr().wrapping_add(at(&self.output)),
                };
                // SAFETY: the slices' lengths are checked above against geometries of one shape, so a row of each is inside it;
                // rows are shared out to the threads without overlap.
                unsafe {
                    (self.table.add)(&args);
                    self.output.clear_around(shared.as_ptr(), n, block, y);
                }
            }
        })
    }
}
