//! NCHW tensors: what goes into a session and what comes out of it.

mod bytes;
pub(crate) mod half;
#[cfg(feature = "ndarray")]
mod ndarray;
#[cfg(feature = "npy")]
pub mod npy;
mod shape;
#[cfg(feature = "packed")]
mod stored;

pub use shape::{MAX_RANK, Shape};

use crate::error::{Error, Result};
use ::half::{bf16, f16};
use bytemuck::{Pod, Zeroable};

mod sealed {
    pub trait Sealed {}
}

/// The element types of a [`Tensor`]: `f32`, `f16`, `bf16`, `u8`, `i8`, and `f64` (references) and the other integers up to `i64` (labels).
pub trait Element: Pod + Copy + std::fmt::Debug + PartialEq + Send + Sync + sealed::Sealed + 'static {
    /// The type's name as NumPy and PyTorch users know it, for example `float32`.
    const NAME: &'static str;
}

macro_rules! element {
    ($($t:ty => $name:literal),*) => {$(
        impl sealed::Sealed for $t {}
        impl Element for $t {
            const NAME: &'static str = $name;
        }
    )*};
}
element!(f32 => "float32", f16 => "float16", bf16 => "bfloat16", u8 => "uint8", i8 => "int8", u16 => "uint16", i16 => "int16", u32 => "uint32", i32 => "int32",
    i64 => "int64", f64 => "float64");

/// One cache line: what makes every tensor start at a multiple of 64 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// A dense tensor in row-major order (NCHW for images), 64-byte aligned.
#[derive(Clone)]
pub struct Tensor<T: Element> {
    shape: Shape,
    lines: Vec<Line>,
    element: std::marker::PhantomData<T>,
}

impl<T: Element> Tensor<T> {
    /// A tensor of zeros. Fails when the system has no memory for it.
    pub fn zeros(shape: Shape) -> Result<Self> {
        let lines = (shape.elements() * size_of::<T>()).div_ceil(size_of::<Line>());
        let mut storage = Vec::new();
        storage.try_reserve_exact(lines).map_err(|_| Error::TooLarge {
            what: format!("a {} tensor of shape {shape}", T::NAME),
            requested: format!("{} bytes", lines * size_of::<Line>()),
            limit: "the memory that the system gives".into(),
        })?;
        storage.resize(lines, Line::zeroed());
        Ok(Tensor { shape, lines: storage, element: std::marker::PhantomData })
    }

    /// Copies `data`, which must hold exactly `shape.elements()` elements, row-major.
    pub fn from_slice(shape: Shape, data: &[T]) -> Result<Self> {
        if data.len() != shape.elements() {
            return Err(Error::Shape {
                what: "tensor data".into(),
                expected: format!("{shape} = {} elements", shape.elements()),
                found: format!("{} elements", data.len()),
            });
        }
        let mut tensor = Self::zeros(shape)?;
        tensor.as_mut_slice().copy_from_slice(data);
        Ok(tensor)
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All elements, row-major.
    pub fn as_slice(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.shape.elements()]
    }

    /// All elements, row-major.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.shape.elements()]
    }

    /// A borrowed view of the whole tensor.
    pub fn view(&self) -> TensorView<'_, T> {
        TensorView { shape: self.shape, data: self.as_slice() }
    }

    /// A borrowed view of the whole tensor, to write to.
    pub fn view_mut(&mut self) -> TensorViewMut<'_, T> {
        TensorViewMut { shape: self.shape, data: self.as_mut_slice() }
    }

    /// The same elements under another shape of the same size.
    pub fn reshape(mut self, shape: Shape) -> Result<Self> {
        if shape.elements() != self.shape.elements() {
            return Err(Error::Shape {
                what: "reshape".into(),
                expected: format!("{} elements", self.shape.elements()),
                found: format!("{shape} = {} elements", shape.elements()),
            });
        }
        self.shape = shape;
        Ok(self)
    }
}

impl<T: Element> std::fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor<{}>{}", T::NAME, self.shape)
    }
}

impl<T: Element> PartialEq for Tensor<T> {
    fn eq(&self, other: &Self) -> bool {
        self.shape == other.shape && self.as_slice() == other.as_slice()
    }
}

/// A borrowed dense tensor in row-major order: the caller's own buffer, whatever its alignment.
#[derive(Clone, Copy)]
pub struct TensorView<'a, T: Element> {
    shape: Shape,
    data: &'a [T],
}

impl<'a, T: Element> TensorView<'a, T> {
    /// Views `data`, which must hold exactly `shape.elements()` elements, row-major.
    pub fn new(shape: Shape, data: &'a [T]) -> Result<Self> {
        if data.len() != shape.elements() {
            return Err(Error::Shape {
                what: "tensor view".into(),
                expected: format!("{shape} = {} elements", shape.elements()),
                found: format!("{} elements", data.len()),
            });
        }
        Ok(TensorView { shape, data })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All elements, row-major.
    pub fn as_slice(&self) -> &'a [T] {
        self.data
    }

    /// Copies into a tensor of its own.
    pub fn to_tensor(&self) -> Result<Tensor<T>> {
        Tensor::from_slice(self.shape, self.data)
    }
}

impl<T: Element> std::fmt::Debug for TensorView<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TensorView<{}>{}", T::NAME, self.shape)
    }
}

/// A borrowed dense tensor in row-major order that is written to: the caller's own buffer, whatever its alignment.
pub struct TensorViewMut<'a, T: Element> {
    shape: Shape,
    data: &'a mut [T],
}

impl<'a, T: Element> TensorViewMut<'a, T> {
    /// Views `data`, which must hold exactly `shape.elements()` elements, row-major.
    pub fn new(shape: Shape, data: &'a mut [T]) -> Result<Self> {
        TensorView::new(shape, data)?;
        Ok(TensorViewMut { shape, data })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All elements, row-major.
    pub fn as_slice(&self) -> &[T] {
        self.data
    }

    /// All elements, row-major.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self.data
    }
}

impl<T: Element> std::fmt::Debug for TensorViewMut<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TensorViewMut<{}>{}", T::NAME, self.shape)
    }
}
