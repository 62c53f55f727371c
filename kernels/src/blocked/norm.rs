//! Normalisation of each channel of each image by its own mean and variance, and of each pixel by its neighbouring channels'.

use crate::function::lane_sums::LaneSumsArgs;
use crate::function::rows::{BinaryArgs, Operand, UnaryArgs};
use crate::function::{Binary, Unary};
use crate::parallel::{Executor, MAX_THREADS, Parts, SharedPointer};
use crate::row::RowArgs;
use crate::{AlignedBuffer, BLOCK, Error, Geometry, KernelTable, Layout};

fn check(what: &str, input: &Geometry, output: &Geometry) -> Result<(), Error> {
    if input.layout == Layout::Nchw16c && output.layout == Layout::Nchw16c && input.dims() == output.dims() {
        return Ok(());
    }
    let problem = format!("{what} of {input:?} into {output:?}");
    Err(Error::Problem { problem, reason: "the buffers are not NCHW16c of one shape".into() })
}

/// InstanceNormalization: `(x − mean) / √(variance + ε) · scale + shift`.
pub struct InstanceNorm {
    input: Geometry,
    output: Geometry,
    scale: AlignedBuffer,
    shift: AlignedBuffer,
    epsilon: f32,
    table: &'static KernelTable,
}

impl InstanceNorm {
    /// Prepares it, with a scale and a shift for each channel.
    ///
    /// # Errors
    /// When the two are not NCHW16c of one shape, or scale and shift are not one value a channel.
    pub fn new(
        input: Geometry,
        output: Geometry,
        scale: &[f32],
        shift: &[f32],
        epsilon: f32,
        table: &'static KernelTable,
    ) -> Result<InstanceNorm, Error> {
        check("instance normalisation", &input, &output)?;
        let pad = |values: &[f32], what| {
            if values.len() != input.c {
                return Err(Error::Length { what, expected: input.c, found: values.len() });
            }
            let mut padded = AlignedBuffer::zeros(input.c.next_multiple_of(BLOCK))?;
            padded[..input.c].copy_from_slice(values);
            Ok(padded)
        };
        Ok(InstanceNorm { input, output, scale: pad(scale, "scale")?, shift: pad(shift, "shift")?, epsilon, table })
    }

    /// Normalises.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, or the executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of a normalisation", input.len())?;
        self.output.check("output of a normalisation", output.len())?;
        let shared = SharedPointer::new(output);
        let planes = self.output.planes();
        let pixels = (self.output.h * self.output.w) as f32;
        let parts = Parts::of(executor);
        parts.run(&|thread| {
            for item in parts.range(self.output.n * planes, thread) {
                let (n, plane) = (item / planes, item % planes);
                let (mut mean, mut factor) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
                let sums = |kernel: usize, shift: *const f32, output: *mut f32| {
                    let args = LaneSumsArgs {
                        input: input[self.input.offset(n, plane, 0, 0)..].as_ptr(),
                        row_stride: self.input.row_stride(),
                        rows: self.input.h,
                        count: self.input.w,
                        shift,
                        output,
                    };
                    // SAFETY: the input was checked; both ends are buffers of sixteen.
                    unsafe { (self.table.functions.lane_sums[kernel])(&args) };
                };
                let nothing = [0.0f32; BLOCK];
                sums(0, nothing.as_ptr(), mean.as_mut_ptr());
                mean.iter_mut().for_each(|m| *m /= pixels);
                sums(1, mean.as_ptr(), factor.as_mut_ptr());
                let scale = &self.scale[plane * BLOCK..][..BLOCK];
                for (factor, scale) in factor.iter_mut().zip(scale) {
                    *factor = scale / (*factor / pixels + self.epsilon).sqrt();
                }
                for y in 0..self.output.h {
                    let row = shared.as_ptr().wrapping_add(self.output.offset(n, plane, y, 0));
                    // SAFETY: the lengths were checked against geometries of one shape; planes are shared out to the threads.
                    unsafe {
                        (self.table.functions.binary[Binary::Sub as usize])(&BinaryArgs {
                            a: Operand::vectors(input[self.input.offset(n, plane, y, 0)..].as_ptr()),
                            b: Operand { data: mean.as_ptr(), step: 0, splat: false },
                            output: row,
                            len: self.output.w * BLOCK,
                        });
                        (self.table.affine)(&RowArgs {
                            a: row.cast_const(),
                            b: std::ptr::null(),
                            scale: factor.as_ptr(),
                            shift: self.shift[plane * BLOCK..].as_ptr(),
                            clamp: (f32::NEG_INFINITY, f32::INFINITY),
                            count: self.output.w,
                            output: row,
                        });
                        if plane + 1 == planes {
                            self.output.clear_padding(shared.as_ptr(), n, y, 0, self.output.w);
                        }
                    }
                }
                // SAFETY: likewise.
                unsafe { self.output.clear_halo(shared.as_ptr(), n, plane) };
            }
        })
    }
}

/// LRN: `x / (bias + alpha / size · Σ x²)^beta`, the sum over `size` channels around each.
pub struct Lrn {
    input: Geometry,
    output: Geometry,
    size: usize,
    /// What a sum of squares becomes, less the power.
    affine: Unary,
    beta: f32,
    table: &'static KernelTable,
}

impl Lrn {
    /// Prepares it.
    ///
    /// # Errors
    /// When the two are not NCHW16c of one shape, or the size is zero.
    pub fn new(
        input: Geometry,
        output: Geometry,
        size: usize,
        [alpha, beta, bias]: [f32; 3],
        table: &'static KernelTable,
    ) -> Result<Lrn, Error> {
        check("local response normalisation", &input, &output)?;
        if size == 0 {
            let problem = format!("local response normalisation of {input:?}");
            return Err(Error::Problem { problem, reason: "the size is zero".into() });
        }
        // Beyond all channels there is nothing to sum.
        let affine = Unary::Affine { scale: alpha / size as f32, shift: bias };
        Ok(Lrn { input, output, size: size.min(2 * input.c + 1), affine, beta, table })
    }

    /// Elements of a line of squares: all channels of a pixel, and room for the neighbours of the first and last.
    fn line(&self) -> usize {
        self.output.planes() * BLOCK + self.size
    }

    /// Elements of scratch memory for a number of threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        self.line().saturating_mul(threads.clamp(1, MAX_THREADS))
    }

    /// Normalises.
    ///
    /// # Errors
    /// When a slice has another length than its geometry, `scratch` is shorter than [`Lrn::scratch_len`] of the executor's threads, or the
    /// executor leaves a part out.
    pub fn run(&self, executor: &dyn Executor, input: &[f32], output: &mut [f32], scratch: &mut [f32]) -> Result<(), Error> {
        self.input.check("input of a normalisation", input.len())?;
        self.output.check("output of a normalisation", output.len())?;
        let parts = Parts::of(executor);
        let needed = self.scratch_len(parts.count());
        if scratch.len() < needed {
            return Err(Error::Length { what: "scratch of a normalisation", expected: needed, found: scratch.len() });
        }
        let (shared, memory) = (SharedPointer::new(output), SharedPointer::new(scratch));
        let (planes, height) = (self.output.planes(), self.output.h);
        let before = (self.size - 1) / 2;
        parts.run(&|thread| {
            // SAFETY: the scratch holds a line for each part, and no index comes twice.
            let line = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr().add(thread * self.line()), self.line()) };
            line.fill(0.0);
            for row in parts.range(self.output.n * height, thread) {
                let (n, y) = (row / height, row % height);
                for x in 0..self.output.w {
                    for plane in 0..planes {
                        let from = &input[self.input.offset(n, plane, y, x)..][..BLOCK];
                        let squares = &mut line[before + plane * BLOCK..][..BLOCK];
                        squares.iter_mut().zip(from).for_each(|(s, x)| *s = x * x);
                    }
                    // What pads the last block counts nothing, whatever the input holds there.
                    line[before + self.output.c..].fill(0.0);
                    for plane in 0..planes {
                        let mut sum = [0.0f32; BLOCK];
                        for shift in 0..self.size {
                            let squares = &line[plane * BLOCK + shift..][..BLOCK];
                            sum.iter_mut().zip(squares).for_each(|(s, x)| *s += x);
                        }
                        self.divide(input[self.input.offset(n, plane, y, x)..].as_ptr(), sum, |value| {
                            // SAFETY: a pixel of the output, which was checked; rows are shared out to the threads without overlap.
                            unsafe {
                                let to = shared.as_ptr().add(self.output.offset(n, plane, y, x));
                                std::ptr::copy_nonoverlapping(value.as_ptr(), to, BLOCK);
                            }
                        });
                    }
                }
                // SAFETY: likewise; the first row's thread clears the planes' halos.
                unsafe {
                    self.output.clear_padding(shared.as_ptr(), n, y, 0, self.output.w);
                    if y == 0 {
                        (0..planes).for_each(|plane| self.output.clear_halo(shared.as_ptr(), n, plane));
                    }
                }
            }
        })
    }

    /// Sixteen elements over the power of what their sums of squares become.
    fn divide(&self, from: *const f32, mut sum: [f32; BLOCK], store: impl Fn(&[f32; BLOCK])) {
        let functions = &self.table.functions;
        let mut map = |function: Unary| {
            let (kind, params) = function.kernel();
            let data = sum.as_mut_ptr();
            // SAFETY: in place over sixteen elements.
            unsafe { (functions.unary[kind as usize])(&UnaryArgs { input: data.cast_const(), output: data, len: BLOCK, params }) };
        };
        map(self.affine);
        if self.beta == 0.75 {
            // √x · √√x: the usual power, without a general one.
            map(Unary::Sqrt);
            let root = sum;
            let data = sum.as_mut_ptr();
            let (a, b) = (Operand::vectors(data.cast_const()), Operand::vectors(root.as_ptr()));
            // SAFETY: over buffers of sixteen elements, in place or apart.
            unsafe {
                (functions.unary[crate::function::Kind::Sqrt as usize])(&UnaryArgs {
                    input: data.cast_const(),
                    output: data,
                    len: BLOCK,
                    params: [0.0; 3],
                });
                (functions.binary[Binary::Mul as usize])(&BinaryArgs { a, b, output: data, len: BLOCK });
            }
        } else {
            map(Unary::Power { exponent: self.beta });
        }
        let mut value = [0.0f32; BLOCK];
        let (a, b) = (Operand::vectors(from), Operand::vectors(sum.as_ptr()));
        // SAFETY: `from` is a pixel of the input, which the caller checked.
        unsafe { (functions.binary[Binary::Div as usize])(&BinaryArgs { a, b, output: value.as_mut_ptr(), len: BLOCK }) };
        store(&value);
    }
}
