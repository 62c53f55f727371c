//! The caller's buffers.

use crate::status::{missing, text};
use std::ffi::{c_char, c_void};
use std::fmt::Display;
use std::ops::Range;
use stridewise::tensor::TensorViewMut;
use stridewise::{Error, Shape, TensorView};

/// Most dimensions of a tensor.
pub const STRIDEWISE_MAX_RANK: usize = 6;

const _: () = assert!(STRIDEWISE_MAX_RANK == stridewise::tensor::MAX_RANK);

/// Element types of buffers. Networks compute with f32, and take and give nothing else.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dtype {
    /// 32-bit floating point.
    F32 = 0,
    /// 64-bit floating point.
    F64 = 1,
    /// Bytes.
    U8 = 2,
    /// 64-bit whole numbers.
    I64 = 3,
}

/// A dense row-major tensor in the caller's memory.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tensor {
    /// The elements; any alignment that the element type allows, and NULL if there are none.
    pub data: *mut c_void,
    /// Their type, one of `StridewiseDtype`.
    pub dtype: u32,
    /// Number of dimensions.
    pub rank: usize,
    /// The dimensions, outermost first: `[N, C, H, W]` for images.
    pub dims: [usize; STRIDEWISE_MAX_RANK],
}

impl Tensor {
    /// Of these dimensions and of f32, without data. What are more than [`STRIDEWISE_MAX_RANK`] is refused.
    pub(crate) fn of(dims: &[usize], what: &dyn Display) -> Result<Tensor, Error> {
        let mut padded = [0; STRIDEWISE_MAX_RANK];
        padded.get_mut(..dims.len()).ok_or_else(|| too_many_dimensions(&what.to_string(), dims.len()))?.copy_from_slice(dims);
        Ok(Tensor { data: std::ptr::null_mut(), dtype: Dtype::F32 as u32, rank: dims.len(), dims: padded })
    }

    /// Checks type and shape; gives the elements: where there are none, a pointer that is none of the caller's.
    fn check(&self, what: &dyn Display) -> Result<(*mut f32, Shape), Error> {
        if self.dtype != Dtype::F32 as u32 {
            let names = ["f32", "f64", "u8", "i64"];
            let found = names.get(self.dtype as usize).map_or_else(|| format!("number {}", self.dtype), |name| name.to_string());
            return Err(Error::DType { what: what.to_string(), expected: "f32".into(), found });
        }
        let dims = self.dims.get(..self.rank).ok_or_else(|| too_many_dimensions(&what.to_string(), self.rank))?;
        let shape = Shape::new(dims)?;
        if shape.is_empty() {
            return Ok((std::ptr::NonNull::dangling().as_ptr(), shape));
        }
        let data = self.data.cast::<f32>();
        if data.is_null() {
            return Err(missing(&format!("the data of {what}")));
        }
        if !data.is_aligned() {
            let reason = "it is not aligned to its elements' 4 bytes".into();
            return Err(Error::InvalidArgument { argument: format!("the data of {what}"), reason });
        }
        Ok((data, shape))
    }

    /// The addresses of the elements.
    pub(crate) fn place(&self, what: &dyn Display) -> Result<Range<usize>, Error> {
        let (data, shape) = self.check(what)?;
        let start = data.addr();
        Ok(start..start.saturating_add(shape.elements().saturating_mul(size_of::<f32>())))
    }

    /// The tensor as an input.
    ///
    /// # Safety
    /// `data` points to as many elements as the dimensions say, which nobody writes to while the result is used.
    pub(crate) unsafe fn view<'a>(&self, what: &dyn Display) -> Result<TensorView<'a, f32>, Error> {
        let (data, shape) = self.check(what)?;
        // SAFETY: not NULL, aligned, and by this function's contract as long as the shape says, whose size is checked; or of no elements.
        TensorView::new(shape, unsafe { std::slice::from_raw_parts(data, shape.elements()) })
    }

    /// The tensor as an output.
    ///
    /// # Safety
    /// As [`Tensor::view`], and nobody else reads or writes the elements.
    pub(crate) unsafe fn view_mut<'a>(&self, what: &dyn Display) -> Result<TensorViewMut<'a, f32>, Error> {
        let (data, shape) = self.check(what)?;
        // SAFETY: as in `view`, and by this function's contract ours alone.
        TensorViewMut::new(shape, unsafe { std::slice::from_raw_parts_mut(data, shape.elements()) })
    }
}

/// The shape of one input of a network.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct InputShape {
    /// The input's name.
    pub name: *const c_char,
    /// Number of dimensions.
    pub rank: usize,
    /// The dimensions, outermost first.
    pub dims: [usize; STRIDEWISE_MAX_RANK],
}

/// Shapes by name, as the library has them.
///
/// # Safety
/// `shapes` points to so many, whose names are strings that end with a zero, unless it is NULL or `count` is 0.
pub(crate) unsafe fn named_shapes(shapes: *const InputShape, count: usize) -> Result<Vec<(String, Vec<usize>)>, Error> {
    // SAFETY: this function's contract.
    let shapes = unsafe { slice(shapes, count, "options.shapes")? };
    let mut named = Vec::new();
    for (index, shape) in shapes.iter().enumerate() {
        let argument = format!("options.shapes[{index}].name");
        // SAFETY: this function's contract.
        let name = unsafe { text(shape.name, &argument)? }.ok_or_else(|| missing(&argument))?;
        let dims = shape.dims.get(..shape.rank).ok_or_else(|| too_many_dimensions(&format!("input `{name}`"), shape.rank))?;
        if named.iter().any(|(before, _)| before == name) {
            return Err(Error::InvalidArgument { argument: format!("input `{name}`"), reason: "its shape is given twice".into() });
        }
        named.push((name.to_string(), dims.to_vec()));
    }
    Ok(named)
}

pub(crate) fn too_many_dimensions(what: &str, rank: usize) -> Error {
    Error::TooLarge { what: format!("the rank of {what}"), requested: rank.to_string(), limit: STRIDEWISE_MAX_RANK.to_string() }
}

/// An array of the caller's.
///
/// # Safety
/// `pointer` points to `count` elements, unless it is NULL or `count` is 0.
pub(crate) unsafe fn slice<'a, T>(pointer: *const T, count: usize, argument: &str) -> Result<&'a [T], Error> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(missing(argument));
    }
    if count > isize::MAX as usize / size_of::<T>().max(1) {
        let (what, requested, limit) = (format!("the length of {argument}"), count.to_string(), "the address space".into());
        return Err(Error::TooLarge { what, requested, limit });
    }
    // SAFETY: not NULL, and by this function's contract so long.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}
