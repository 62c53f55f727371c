//! Kernels over rows of numbers: functions of one and of two.

use super::lanes::Lanes;
use super::{binary, unary};

/// A row of numbers and a function of each.
pub(crate) struct UnaryArgs {
    /// The numbers.
    pub input: *const f32,
    /// Where the results go; may be the numbers' own place.
    pub output: *mut f32,
    /// How many.
    pub len: usize,
    /// The function's parameters.
    pub params: [f32; 3],
}

/// A kernel over a row of numbers.
///
/// # Safety
/// The processor has the instruction set; `input` and `output` are valid for `len` elements, the same or apart, and no other
/// thread touches `output`.
pub(crate) type UnaryFn = unsafe fn(&UnaryArgs);

/// The function numbered K.
///
/// # Safety
/// As [`UnaryFn`] says.
#[inline(always)]
pub(crate) unsafe fn unary<V: Lanes, const K: usize>(args: &UnaryArgs) {
    // SAFETY: the caller keeps UnaryFn's contract; the last few elements go through a buffer of their own.
    unsafe {
        let params = [V::splat(args.params[0]), V::splat(args.params[1]), V::splat(args.params[2])];
        let (vectors, rest) = (args.len / 16, args.len % 16);
        let mut buffer = [0.0f32; 16];
        std::ptr::copy_nonoverlapping(args.input.add(vectors * 16), buffer.as_mut_ptr(), rest);
        // One loop for whole vectors and the last: functions are much code.
        for i in 0..args.len.div_ceil(16) {
            let (from, to) =
                if i < vectors { (args.input.add(i * 16), args.output.add(i * 16)) } else { (buffer.as_ptr(), buffer.as_mut_ptr()) };
            unary::evaluate::<V, K>(V::load(from), &params).store(to);
        }
        std::ptr::copy_nonoverlapping(buffer.as_ptr(), args.output.add(vectors * 16), rest);
    }
}

/// Where a row's operand comes from: sixteen elements for each sixteen results.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    /// The first element.
    pub data: *const f32,
    /// From one vector to the next: 16, or 0 when all are the same, or whatever when `splat`.
    pub step: usize,
    /// Whether each vector is one element, sixteen times.
    pub splat: bool,
}

impl Operand {
    /// As many elements as results.
    pub(crate) fn vectors(data: *const f32) -> Operand {
        Operand { data, step: 16, splat: false }
    }

    #[inline(always)]
    unsafe fn load<V: Lanes>(&self, index: usize) -> V {
        // SAFETY: the caller keeps BinaryFn's contract.
        unsafe {
            let p = self.data.add(index * self.step);
            if self.splat { V::splat(*p) } else { V::load(p) }
        }
    }

    /// The last vector, of which only `rest` elements may be there.
    #[inline(always)]
    unsafe fn load_rest<V: Lanes>(&self, index: usize, rest: usize) -> V {
        // SAFETY: the caller keeps BinaryFn's contract.
        unsafe {
            if self.splat || self.step == 0 {
                return self.load(index);
            }
            let mut buffer = [0.0f32; 16];
            std::ptr::copy_nonoverlapping(self.data.add(index * self.step), buffer.as_mut_ptr(), rest);
            V::load(buffer.as_ptr())
        }
    }
}

/// Two rows of numbers and a function of each two.
pub(crate) struct BinaryArgs {
    /// The first operand.
    pub a: Operand,
    /// The second.
    pub b: Operand,
    /// Where the results go; may be an operand's own place.
    pub output: *mut f32,
    /// How many.
    pub len: usize,
}

/// A kernel over two rows of numbers.
///
/// # Safety
/// The processor has the instruction set; `output` is valid for `len` elements, the operands for what their steps say (the last
/// vector of one with step 16 for as many elements as are left), each the same as `output` or apart from it, and no other thread
/// touches `output`.
pub(crate) type BinaryFn = unsafe fn(&BinaryArgs);

/// The function numbered K.
///
/// # Safety
/// As [`BinaryFn`] says.
#[inline(always)]
pub(crate) unsafe fn binary<V: Lanes, const K: usize>(args: &BinaryArgs) {
    // SAFETY: the caller keeps BinaryFn's contract.
    unsafe {
        let (vectors, rest) = (args.len / 16, args.len % 16);
        let mut buffer = [0.0f32; 16];
        // One loop for whole vectors and the last: functions are much code.
        for i in 0..args.len.div_ceil(16) {
            let (a, b, to): (V, V, _) = if i < vectors {
                (args.a.load(i), args.b.load(i), args.output.add(i * 16))
            } else {
                (args.a.load_rest(i, rest), args.b.load_rest(i, rest), buffer.as_mut_ptr())
            };
            binary::evaluate::<V, K>(a, b).store(to);
        }
        std::ptr::copy_nonoverlapping(buffer.as_ptr(), args.output.add(vectors * 16), rest);
    }
}
