//! Sums, bounds and per-channel affine maps that no convolution took into its epilogue. Bound by memory.

use crate::parallel::{Executor, Parts, SharedPointer};
use crate::row::{RowArgs, RowFn};
use crate::{AlignedBuffer, BLOCK, Element, Error, Geometry, KernelTable, Layout};

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
    kernel: RowFn,
}

/// Sum, bounds and affine map of a buffer's elements.
fn kernels(g: &Geometry, table: &'static KernelTable) -> Result<[RowFn; 3], Error> {
    if g.layout.element() == Element::Bf16 {
        let bf16 = table.bf16()?;
        return Ok([bf16.add, bf16.clamp, bf16.affine]);
    }
    Ok([table.add, table.clamp, table.affine])
}

impl Elementwise {
    /// `clamp(a + b)`
    ///
    /// # Errors
    /// When the three are not NCHW16c, or NCHW32c, of one shape.
    pub fn add(a: Geometry, b: Geometry, output: Geometry, clamp: (f32, f32), table: &'static KernelTable) -> Result<Elementwise, Error> {
        Elementwise { function: Function::Add, a, b: Some(b), output, clamp, kernel: kernels(&a, table)?[0] }.checked()
    }

    /// `clamp(a)`
    ///
    /// # Errors
    /// When the two are not NCHW16c, or NCHW32c, of one shape.
    pub fn clamp(a: Geometry, output: Geometry, clamp: (f32, f32), table: &'static KernelTable) -> Result<Elementwise, Error> {
        Elementwise { function: Function::Clamp, a, b: None, output, clamp, kernel: kernels(&a, table)?[1] }.checked()
    }

    /// `clamp(a · scale + shift)` with a scale and a shift for each channel.
    ///
    /// # Errors
    /// When the two are not NCHW16c, or NCHW32c, of one shape, or scale and shift are not one value a channel.
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
        Elementwise { function, a, b: None, output, clamp, kernel: kernels(&a, table)?[2] }.checked()
    }

    /// The same op of bfloat16 by the kernels of another table.
    ///
    /// # Panics
    /// When it is one of f32.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn with_table(self, table: &'static crate::bf16::Bf16Table) -> Elementwise {
        assert_eq!(self.a.layout.element(), Element::Bf16);
        let kernel = match self.function {
            Function::Add => table.add,
            Function::Clamp => table.clamp,
            Function::Affine { .. } => table.affine,
        };
        Elementwise { kernel, ..self }
    }

    fn checked(self) -> Result<Elementwise, Error> {
        let dims = |g: &Geometry| [g.n, g.c, g.h, g.w];
        let fits = |g: &Geometry| g.layout == self.a.layout && dims(g) == dims(&self.output);
        let floats = matches!(self.a.layout, Layout::Nchw16c | Layout::Nchw32c);
        if floats && fits(&self.a) && fits(&self.output) && self.b.as_ref().is_none_or(fits) {
            return Ok(self);
        }
        let problem = format!("element-wise {:?}, {:?} into {:?}", self.a, self.b, self.output);
        Err(Error::Problem { problem, reason: "the buffers are not NCHW16c, or NCHW32c, of one shape".into() })
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
        let shared = SharedPointer::new(output);
        let (blocks, height) = (self.output.blocks(), self.output.h);
        let parts = Parts::of(executor);
        parts.share_out_rows(self.output.n * blocks * height, &|rows| {
            for row in rows {
                let (n, block, y) = (row / (blocks * height), row / height % blocks, row % height);
                let at = |g: &Geometry| g.offset(n, 0, y, 0) + g.block_offset(block);
                let (scale, shift) = match &self.function {
                    Function::Affine { scale, shift } => (scale[block * BLOCK..].as_ptr(), shift[block * BLOCK..].as_ptr()),
                    _ => (std::ptr::null(), std::ptr::null()),
                };
                let args = RowArgs {
                    a: a[at(&self.a)..].as_ptr(),
                    b: b.map_or(std::ptr::null(), |(g, b)| b[at(&g)..].as_ptr()),
                    scale,
                    shift,
                    clamp: self.clamp,
                    count: self.output.w,
                    output: shared.as_ptr().wrapping_add(at(&self.output)),
                };
                // SAFETY: the slices' lengths are checked above against geometries of one shape, so a row of each is inside
                // it; rows are shared out to the threads without overlap.
                unsafe {
                    (self.kernel)(&args);
                    // Bounds that exclude zero have moved the channels that pad the last plane.
                    self.output.clear_around(shared.as_ptr(), n, block, y);
                }
            }
        })
    }
}
