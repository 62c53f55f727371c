//! Tensors as bytes in the machine's own order, without a copy where the alignment allows it.

use super::{Element, Shape, Tensor, TensorView};
use crate::error::{Error, Result};

fn check_length<T: Element>(shape: Shape, bytes: usize) -> Result<()> {
    let expected = shape.elements() * size_of::<T>();
    if bytes == expected {
        return Ok(());
    }
    Err(Error::Shape {
        what: format!("the bytes of a {} tensor", T::NAME),
        expected: format!("{shape} = {expected} bytes"),
        found: format!("{bytes} bytes"),
    })
}

impl<T: Element> Tensor<T> {
    /// Copies `bytes`, whatever their alignment: elements in the machine's byte order, row-major.
    ///
    /// # Errors
    /// When the length is not `shape.elements()` elements, or there is no memory for them.
    pub fn from_bytes(shape: Shape, bytes: &[u8]) -> Result<Self> {
        check_length::<T>(shape, bytes.len())?;
        let mut tensor = Self::zeros(shape)?;
        tensor.as_bytes_mut().copy_from_slice(bytes);
        Ok(tensor)
    }

    /// The elements as bytes in the machine's order.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self.as_slice())
    }

    /// The elements as bytes in the machine's order. Every pattern of bits is a value of every element type.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self.as_mut_slice())
    }
}

impl<'a, T: Element> TensorView<'a, T> {
    /// Views `bytes`: elements in the machine's byte order, row-major.
    ///
    /// # Errors
    /// When the length is not `shape.elements()` elements, or the bytes do not start where such an element may.
    pub fn from_bytes(shape: Shape, bytes: &'a [u8]) -> Result<Self> {
        check_length::<T>(shape, bytes.len())?;
        let data = bytemuck::try_cast_slice(bytes).map_err(|_| Error::InvalidArgument {
            argument: format!("the bytes of a {} tensor", T::NAME),
            reason: format!("they start at an address that is not a multiple of {}; Tensor::from_bytes copies them", align_of::<T>()),
        })?;
        TensorView::new(shape, data)
    }

    /// The elements as bytes in the machine's order.
    pub fn as_bytes(&self) -> &'a [u8] {
        bytemuck::cast_slice(self.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_in_and_out() {
        let shape = Shape::new(&[2, 3]).unwrap();
        let mut tensor = Tensor::from_slice(shape, &[1f32, 2.0, 3.0, 4.0, 5.0, -0.0]).unwrap();
        let copy = Tensor::<f32>::from_bytes(shape, tensor.as_bytes()).unwrap();
        assert_eq!(copy, tensor);
        let view = TensorView::<f32>::from_bytes(shape, tensor.as_bytes()).unwrap();
        assert_eq!(view.as_slice(), tensor.as_slice());
        assert_eq!(view.as_bytes(), tensor.as_bytes());
        tensor.as_bytes_mut().fill(0);
        assert_eq!(tensor.as_slice(), [0.0; 6]);
    }

    #[test]
    fn wrong_lengths_and_alignments_are_refused() {
        let shape = Shape::new(&[3]).unwrap();
        let tensor = Tensor::<f64>::zeros(Shape::new(&[4]).unwrap()).unwrap();
        let bytes = tensor.as_bytes();
        let error = Tensor::<f64>::from_bytes(shape, &bytes[..23]).unwrap_err().to_string();
        assert!(error.contains("24 bytes") && error.contains("23 bytes"), "{error}");
        assert!(matches!(TensorView::<f64>::from_bytes(shape, bytes), Err(Error::Shape { .. })));
        let error = TensorView::<f64>::from_bytes(shape, &bytes[1..25]).unwrap_err();
        assert!(matches!(&error, Error::InvalidArgument { .. }), "{error}");
        assert!(Tensor::<f64>::from_bytes(shape, &bytes[1..25]).is_ok());
    }
}
