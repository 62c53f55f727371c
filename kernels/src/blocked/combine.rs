//! A function of two operands, each of the output's shape or broadcast along some of its axes.

use super::{for_stretches, is_gapless};
use crate::function::rows::{BinaryArgs, BinaryFn, Operand, UnaryArgs, UnaryFn};
use crate::function::{Binary, Kind, Unary};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{BLOCK, Element, Error, Geometry, KernelTable, Layout};

/// `then(f(a, b))` for every element of a buffer of NCHW16c.
pub struct Combine {
    kernel: BinaryFn,
    then: Option<(UnaryFn, [f32; 3])>,
    a: Source,
    b: Source,
    output: Geometry,
    joined: bool,
}

/// An operand: where a row of it begins, and how it goes on.
struct Source {
    geometry: Geometry,
    /// From an image, plane or row to the next; 0 where it is broadcast.
    strides: [usize; 3],
    step: usize,
    splat: bool,
}

impl Source {
    fn new(geometry: Geometry, output: &Geometry) -> Option<Source> {
        let (own, all) = (geometry.dims(), output.dims());
        let fits = own.iter().zip(all).all(|(&own, all)| own == all || own == 1);
        // One channel is one lane, or a plane of NCHW; several are lanes only in blocks.
        let splat = geometry.c == 1 && output.c != 1;
        if !fits || geometry.layout.element() != Element::F32 || (geometry.layout == Layout::Nchw && geometry.c != 1) {
            return None;
        }
        let splat = splat || geometry.layout == Layout::Nchw;
        let stride = |axis: usize, stride: usize| if own[axis] == all[axis] { stride } else { 0 };
        let strides = [stride(0, geometry.image_stride()), stride(1, geometry.plane_stride()), stride(2, geometry.row_stride())];
        Some(Source { geometry, strides, step: stride(3, geometry.layout.lanes()), splat })
    }

    /// Whether rows of a plane can be gone through as one.
    fn joins(&self, output: &Geometry) -> bool {
        let row = self.step * output.w;
        output.h == 1 || self.strides[2] == row
    }

    /// # Safety
    /// `data` is a buffer of the geometry, and the row one of the output's.
    unsafe fn row(&self, data: *const f32, n: usize, plane: usize, y: usize) -> Operand {
        let first = self.geometry.offset(0, 0, 0, 0);
        let offset = first + n * self.strides[0] + plane * self.strides[1] + y * self.strides[2];
        // SAFETY: the caller says so.
        Operand { data: unsafe { data.add(offset) }, step: self.step, splat: self.splat }
    }
}

impl Combine {
    /// Prepares `then(f(a, b))` into `output`. Every dimension of `a` and `b` is the output's or 1: per-channel operands are
    /// `[N|1, C, 1, 1]`, per-pixel ones `[N|1, 1, H, W]`. An operand with one channel may be NCHW, all else is NCHW16c.
    ///
    /// # Errors
    /// When an operand is not broadcastable to the output, or has another layout.
    pub fn new(
        function: Binary,
        a: Geometry,
        b: Geometry,
        output: Geometry,
        then: Unary,
        table: &'static KernelTable,
    ) -> Result<Combine, Error> {
        let refuse =
            |reason: &str| Error::Problem { problem: format!("{function:?} of {a:?} and {b:?} into {output:?}"), reason: reason.into() };
        if output.layout != Layout::Nchw16c {
            return Err(refuse("the output is not NCHW16c"));
        }
        let source =
            |g| Source::new(g, &output).ok_or_else(|| refuse("an operand is not NCHW16c of the output's shape, or broadcastable to it"));
        let (a, b) = (source(a)?, source(b)?);
        let joined = is_gapless(&output) && a.joins(&output) && b.joins(&output);
        let (kind, params) = then.kernel();
        let then = (kind != Kind::Identity).then(|| (table.functions.unary[kind as usize], params));
        Ok(Combine { kernel: table.functions.binary[function as usize], then, a, b, output, joined })
    }

    /// Computes the op.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, a: &[f32], b: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.a.geometry.check("first operand", a.len())?;
        self.b.geometry.check("second operand", b.len())?;
        self.output.check("output of two operands", output.len())?;
        self.launch(executor, a.as_ptr(), b.as_ptr(), output.as_mut_ptr())
    }

    /// Computes the op into its first operand.
    ///
    /// # Errors
    /// When the first operand was not prepared with the output's geometry, a slice has another length than its geometry, or the
    /// executor leaves a part out.
    pub fn run_in_place(&self, executor: &dyn Executor, a: &mut [f32], b: &[f32]) -> Result<(), Error> {
        if self.a.geometry != self.output {
            let problem = format!("a function of {:?} and another into {:?}, in place", self.a.geometry, self.output);
            return Err(Error::Problem { problem, reason: "the geometries differ".into() });
        }
        self.output.check("first operand", a.len())?;
        self.b.geometry.check("second operand", b.len())?;
        let a = a.as_mut_ptr();
        self.launch(executor, a.cast_const(), b.as_ptr(), a)
    }

    fn launch(&self, executor: &dyn Executor, a: *const f32, b: *const f32, output: *mut f32) -> Result<(), Error> {
        let (a, b) = (SharedPointer::from_ptr(a.cast_mut()), SharedPointer::from_ptr(b.cast_mut()));
        let to = SharedPointer::from_ptr(output);
        let parts = Parts::of(executor);
        let planes = self.output.planes();
        parts.share_out_rows(self.output.n * planes * self.output.h, &|rows| {
            for_stretches(&self.output, rows, self.joined, |n, plane, y, count| {
                // SAFETY: the callers checked that the buffers are of their geometries, which were found to fit the output's; rows
                // are shared out to the threads without overlap.
                unsafe {
                    let row = to.as_ptr().add(self.output.offset(n, plane, y, 0));
                    let len = self.output.w * BLOCK * count;
                    let args =
                        BinaryArgs { a: self.a.row(a.as_ptr(), n, plane, y), b: self.b.row(b.as_ptr(), n, plane, y), output: row, len };
                    (self.kernel)(&args);
                    if let Some((kernel, params)) = self.then {
                        kernel(&UnaryArgs { input: row.cast_const(), output: row, len, params });
                    }
                    if plane + 1 == planes {
                        for y in y..y + count {
                            self.output.clear_padding(to.as_ptr(), n, y, 0, self.output.w);
                        }
                    }
                    if y == 0 {
                        self.output.clear_halo(to.as_ptr(), n, plane);
                    }
                }
            });
        })
    }
}
