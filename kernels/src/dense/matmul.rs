//! Matrix products: ONNX's MatMul with batches, and Gemm.

use super::{broadcast, broadcast_strides, check, elements};
use crate::gemm::{Gemm, Matrix, Panels, Right};
use crate::parallel::{Executor, Parts, SharedPointer};
use crate::{Error, KernelTable};

/// A product of two tensors of matrices, with everything decided.
pub struct MatMul {
    gemm: Option<Gemm>,
    /// Row and column strides of a matrix of each operand.
    strides: [[usize; 2]; 2],
    /// How many products there are, and over which dimensions they are broadcast: each with the steps of the operands, in elements.
    products: usize,
    batch: Vec<(usize, [usize; 2])>,
    lens: [usize; 3],
    shape: Vec<usize>,
    scale: f32,
    addend: Option<Addend>,
    packed: Option<Panels>,
}

/// What a Gemm adds: `factor · c`, broadcast.
struct Addend {
    factor: f32,
    len: usize,
    strides: [usize; 2],
}

impl MatMul {
    /// The product as NumPy's `matmul` defines it: of the last two dimensions, with all others broadcast; a tensor of one dimension is
    /// a row on the left and a column on the right.
    ///
    /// # Errors
    /// When an operand has no dimension, the shapes do not fit, or the result is too large.
    pub fn new(a: &[usize], b: &[usize], table: &'static KernelTable) -> Result<MatMul, Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("product of {a:?} and {b:?}"), reason: reason.into() };
        let lens = [elements(a)?, elements(b)?];
        let (&[.., k], [_, ..]) = (a, b) else { return Err(refuse("an operand has no dimension")) };
        let m = if a.len() > 1 { a[a.len() - 2] } else { 1 };
        let (rows, n) = if b.len() > 1 { (b[b.len() - 2], b[b.len() - 1]) } else { (b[0], 1) };
        if rows != k {
            return Err(refuse("the inner dimensions differ"));
        }
        let (a_batch, b_batch) = (&a[..a.len().saturating_sub(2)], &b[..b.len().saturating_sub(2)]);
        let batch = broadcast(a_batch, b_batch)?;
        let mut shape = batch.clone();
        shape.extend((a.len() > 1).then_some(m));
        shape.extend((b.len() > 1).then_some(n));
        let products: usize = batch.iter().product();
        elements(&shape)?;
        let strides = [[k, 1], [n, 1]];
        // Matrices on the left that all meet the same one on the right are one matrix.
        if b_batch.iter().all(|&dim| dim == 1) {
            return MatMul::build(a, b, [products * m, n, k], strides, usize::from(products > 0), lens, shape, table);
        }
        let steps = broadcast_strides(a_batch, &batch).into_iter().zip(broadcast_strides(b_batch, &batch));
        let steps = steps.map(|(a, b)| [a as usize * m * k, b as usize * k * n]);
        let product = MatMul::build(a, b, [m, n, k], strides, products, lens, shape, table)?;
        Ok(MatMul { batch: batch.iter().copied().zip(steps).collect(), ..product })
    }

    /// `alpha · A · B + beta · C`, A and B of two dimensions and each transposed first if so told; C is broadcast to the product.
    ///
    /// # Errors
    /// When an operand has not two dimensions, the shapes do not fit, or the result is too large.
    pub fn gemm(
        [a, b]: [&[usize]; 2],
        c: Option<&[usize]>,
        [transpose_a, transpose_b]: [bool; 2],
        [alpha, beta]: [f32; 2],
        table: &'static KernelTable,
    ) -> Result<MatMul, Error> {
        let refuse = |reason: &str| Error::Problem { problem: format!("product of {a:?} and {b:?}, plus {c:?}"), reason: reason.into() };
        let lens = [elements(a)?, elements(b)?];
        let (&[a0, a1], &[b0, b1]) = (a, b) else { return Err(refuse("an operand has not two dimensions")) };
        let ([m, k], a_strides) = if transpose_a { ([a1, a0], [1, a1]) } else { ([a0, a1], [a1, 1]) };
        let ([rows, n], b_strides) = if transpose_b { ([b1, b0], [1, b1]) } else { ([b0, b1], [b1, 1]) };
        if rows != k {
            return Err(refuse("the inner dimensions differ"));
        }
        let shape = vec![m, n];
        elements(&shape)?;
        let addend = match c {
            None => None,
            Some(c) => {
                if c.len() > 2 || broadcast(c, &shape)? != shape {
                    return Err(refuse("the summand cannot be broadcast to the product"));
                }
                let strides = broadcast_strides(c, &shape);
                Some(Addend { factor: beta, len: elements(c)?, strides: [strides[0] as usize, strides[1] as usize] })
            }
        };
        let product = MatMul::build(a, b, [m, n, k], [a_strides, b_strides], 1, lens, shape, table)?;
        Ok(MatMul { scale: alpha, addend, ..product })
    }

    #[allow(clippy::too_many_arguments)]
    fn build(
        a: &[usize],
        b: &[usize],
        [m, n, k]: [usize; 3],
        strides: [[usize; 2]; 2],
        products: usize,
        lens: [usize; 2],
        shape: Vec<usize>,
        table: &'static KernelTable,
    ) -> Result<MatMul, Error> {
        let refuse =
            || Error::Problem { problem: format!("product of {a:?} and {b:?}"), reason: "the packed operands are too large".into() };
        let len = elements(&shape)?;
        // Packing pads each dimension, at most to four blocks.
        let padded =
            |dims: [usize; 2]| elements(&[dims[0].checked_add(64).ok_or_else(refuse)?, dims[1].checked_add(64).ok_or_else(refuse)?]);
        padded([m, k])?;
        padded([k, n])?;
        padded([m, n])?;
        let gemm = (m > 0 && n > 0 && k > 0 && products > 0).then(|| Gemm::new(m, n, k, table));
        let (lens, batch) = ([lens[0], lens[1], len], Vec::new());
        Ok(MatMul { gemm, strides, products, batch, lens, shape, scale: 1.0, addend: None, packed: None })
    }

    /// Packs the right operand now, once for all runs, which are then given none.
    ///
    /// # Errors
    /// When the slice has another length than the operand, there is one right operand for each product, it is packed already, or there is
    /// no memory.
    pub fn with_right(mut self, executor: &dyn Executor, b: &[f32]) -> Result<MatMul, Error> {
        if self.products > 1 || self.packed.is_some() {
            let problem = format!("product into {:?}", self.shape);
            return Err(Error::Problem { problem, reason: "only a single right operand is packed beforehand, and once".into() });
        }
        check("right operand", self.lens[1], b.len())?;
        if let Some(gemm) = &self.gemm {
            let [row, column] = self.strides[1];
            self.packed = Some(Panels::new(gemm, Matrix { data: b, offset: 0, row, column }, executor)?);
            self.lens[1] = 0;
        }
        Ok(self)
    }

    /// Where the matrices of a product begin.
    fn offsets(&self, product: usize) -> [usize; 2] {
        let (mut rest, mut at) = (product, [0, 0]);
        for &(dim, [a, b]) in self.batch.iter().rev() {
            at[0] += rest % dim * a;
            at[1] += rest % dim * b;
            rest /= dim;
        }
        at
    }

    /// The shape of the result.
    pub fn output_shape(&self) -> &[usize] {
        &self.shape
    }

    /// Bytes of a right operand that was packed.
    pub fn packed_bytes(&self) -> usize {
        self.packed.as_ref().map_or(0, Panels::bytes)
    }

    /// Elements of scratch memory for a number of threads.
    pub fn scratch_len(&self, threads: usize) -> usize {
        let each = self.gemm.as_ref().map_or(0, |gemm| gemm.scratch_len(self.packed.is_some()));
        each.saturating_mul(threads.clamp(1, crate::MAX_THREADS))
    }

    /// Multiplies. `b` is empty if it was packed beforehand; `c` is what a Gemm with a summand adds.
    ///
    /// # Errors
    /// When a slice has another length than its tensor, `scratch` is shorter than [`MatMul::scratch_len`] of the executor's threads, or
    /// the executor leaves a part out.
    pub fn run(
        &self,
        executor: &dyn Executor,
        a: &[f32],
        b: &[f32],
        c: Option<&[f32]>,
        output: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        check("left operand", self.lens[0], a.len())?;
        check("right operand", self.lens[1], b.len())?;
        check("summand", self.addend.as_ref().map_or(0, |a| a.len), c.map_or(0, <[f32]>::len))?;
        check("product", self.lens[2], output.len())?;
        let parts = Parts::of(executor);
        let needed = self.scratch_len(parts.count());
        if scratch.len() < needed {
            return Err(Error::Length { what: "scratch of a product", expected: needed, found: scratch.len() });
        }
        let Some(gemm) = &self.gemm else {
            // A sum of nothing.
            output.fill(0.0);
            return self.finish(executor, c, output);
        };
        let each = gemm.scratch_len(self.packed.is_some());
        // Products are dealt out whole where that is even enough.
        let products = self.products;
        let whole = products.is_multiple_of(parts.count()) || products >= 8 * parts.count();
        let partition = if whole { [1, 1] } else { gemm.partition(parts.count()) };
        let shares = partition[0] * partition[1];
        let (shared, memory) = (SharedPointer::new(output), SharedPointer::new(scratch));
        parts.run(&|thread| {
            // SAFETY: the scratch holds so much for each part, and no index comes twice.
            let scratch = unsafe { std::slice::from_raw_parts_mut(memory.as_ptr().add(thread * each), each) };
            for item in parts.range(products * shares, thread) {
                let (product, share) = (item / shares, item % shares);
                let [at_a, at_b] = self.offsets(product);
                let matrix = |data, offset, [row, column]: [usize; 2]| Matrix { data, offset, row, column };
                let right = match &self.packed {
                    Some(panels) => Right::Packed(panels),
                    None => Right::Plain(matrix(b, at_b, self.strides[1])),
                };
                let (panels, rows) = gemm.part(partition, share);
                // SAFETY: the output holds all products, checked above; parts of them are shared out to the threads without overlap.
                unsafe {
                    let c = shared.as_ptr().add(product * gemm.m * gemm.n);
                    gemm.run(matrix(a, at_a, self.strides[0]), right, c, panels, rows, scratch);
                }
            }
        })?;
        self.finish(executor, c, output)
    }

    /// `scale · product + factor · c`, where there is something to do.
    fn finish(&self, executor: &dyn Executor, c: Option<&[f32]>, output: &mut [f32]) -> Result<(), Error> {
        if (self.scale == 1.0 && self.addend.is_none()) || output.is_empty() {
            return Ok(());
        }
        let width = self.shape[self.shape.len() - 1];
        let shared = SharedPointer::new(output);
        let parts = Parts::of(executor);
        let scaled = |x: f32| if self.scale == 1.0 { x } else { self.scale * x };
        parts.run(&|thread| {
            for row in parts.range(self.lens[2] / width, thread) {
                // SAFETY: rows of the output, whose length was checked, are shared out to the threads without overlap.
                let values = unsafe { std::slice::from_raw_parts_mut(shared.as_ptr().add(row * width), width) };
                let (Some(addend), Some(c)) = (&self.addend, c) else {
                    values.iter_mut().for_each(|x| *x = scaled(*x));
                    continue;
                };
                let c = &c[row * addend.strides[0]..];
                if addend.strides[1] == 0 {
                    let summand = addend.factor * c[0];
                    values.iter_mut().for_each(|x| *x = scaled(*x) + summand);
                } else {
                    values.iter_mut().zip(c).for_each(|(x, c)| *x = scaled(*x) + addend.factor * c);
                }
            }
        })
    }
}
