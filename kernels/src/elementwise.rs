//! Sums, bounds and per-channel affine maps that no convolution took into its epilogue. Bound by memory.

use crate::parallel::{Executor, Parts, SharedPointer};
use crate::row::{RowArgs, RowFn};
use crate::{AlignedBuffer, BLOCK, Error, Geometry, KernelTable, Layout};

/// What is computed for every element.
enum Function {
    Add,
    Clamp,
    Affine { scale: AlignedBuffer, shift: AlignedBuffer },
}

/// An element-wise op with everything decided: `clamp(f(a))` or `clamp(f(a, b))`.
pub struct Elementwise {
    function: Function,
    a: Geometry,
    b: Option<Geometry>,
    output: Geometry,
    clamp: (f32, f32),
    table: &'static KernelTable,
}

impl Elementwise {
    /// `clamp(a + b)`
    ///
    /// # Errors
    /// When the three are not NCHW16c of one shape.
    pub fn add(a: Geometry, b: Geometry, output: Geometry, clamp: (f32, f32), table: &'static KernelTable) -> Result<Elementwise, Error> {
        Elementwise { function: Function::Add, a, b: Some(b), output, clamp, table }.checked()
    }

    /// `clamp(a)`
    ///
    /// # Errors
    /// When the two are not NCHW16c of one shape.
    pub fn clamp(a: Geometry, output: Geometry, clamp: (f32, f32), table: &'static KernelTable) -> Result<Elementwise, Error> {
        Elementwise { function: Function::Clamp, a, b: None, output, clamp, table }.checked()
    }

    /// `clamp(a · scale + shift)` with a scale and a shift for each channel.
    ///
    /// # Errors
    /// When the two are not NCHW16c of one shape, or scale and shift are not one value a channel.
    pub fn affine(
        a: Geometry,
        output: Geometry,
        scale: &[f32],
        shift: &[f32],
        clamp: (f32, f32),
        table: &'static KernelTable,
    ) -> Result<Elementwise, Error> {
        let pad = |values: &[f32], what| {
            if values.len() != a.c {
                return Err(Error::Length { what, expected: a.c, found: values.len() });
            }
            let mut padded = AlignedBuffer::zeros(a.c.next_multiple_of(BLOCK))?;
            padded[..a.c].copy_from_slice(values);
            Ok(padded)
        };
        let function = Function::Affine { scale: pad(scale, "scale")?, shift: pad(shift, "shift")? };
        Elementwise { function, a, b: None, output, clamp, table }.checked()
    }

    fn checked(self) -> Result<Elementwise, Error> {
        let dims = |g: &Geometry| [g.n, g.c, g.h, g.w];
        let fits = |g: &Geometry| g.layout == Layout::Nchw16c && dims(g) == dims(&self.output);
        if fits(&self.a) && fits(&self.output) && self.b.as_ref().is_none_or(fits) {
            return Ok(self);
        }
        let problem = format!("element-wise {:?}, {:?} into {:?}", self.a, self.b, self.output);
        Err(Error::Problem { problem, reason: "the buffers are not NCHW16c of one shape".into() })
    }

    /// Computes the op; `b` is read by a sum only.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, a sum's second operand is missing, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, a: &[f32], b: Option<&[f32]>, output: &mut [f32]) -> Result<(), Error> {
        self.a.check("element-wise operand", a.len())?;
        self.output.check("element-wise output", output.len())?;
        let b = match (self.b, b) {
            (Some(geometry), b) => {
                let b = b.unwrap_or(&[]);
                geometry.check("second element-wise operand", b.len())?;
                Some((geometry, b))
            }
            (None, _) => None,
        };
        let kernel: RowFn = match self.function {
            Function::Add => self.table.add,
            Function::Clamp => self.table.clamp,
            Function::Affine { .. } => self.table.affine,
        };
        let shared = SharedPointer::new(output);
        let (planes, height) = (self.output.planes(), self.output.h);
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for row in parts.range(self.output.n * planes * height, thread) {
                let (n, plane, y) = (row / (planes * height), row / height % planes, row % height);
                let (scale, shift) = match &self.function {
                    Function::Affine { scale, shift } => (scale[plane * BLOCK..].as_ptr(), shift[plane * BLOCK..].as_ptr()),
                    _ => (std::ptr::null(), std::ptr::null()),
                };
                let args = RowArgs {
                    a: a[self.a.offset(n, plane, y, 0)..].as_ptr(),
                    b: b.map_or(std::ptr::null(), |(g, b)| b[g.offset(n, plane, y, 0)..].as_ptr()),
                    scale,
                    shift,
                    clamp: self.clamp,
                    count: self.output.w,
                    output: shared.as_ptr().wrapping_add(self.output.offset(n, plane, y, 0)),
                };
                // SAFETY: the slices' lengths are checked above against geometries of one shape, so a row of each is inside
                // it; rows are shared out to the threads without overlap.
                unsafe {
                    kernel(&args);
                    if plane + 1 == planes {
                        // Bounds that exclude zero have moved them.
                        self.output.clear_padding(shared.as_ptr(), n, y, 0, self.output.w);
                    }
                    if y == 0 {
                        self.output.clear_halo(shared.as_ptr(), n, plane);
                    }
                }
            }
        })
    }
}
