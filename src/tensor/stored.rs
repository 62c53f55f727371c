//! Shapes and tensors in files: dimensions, and little-endian bytes.

use super::{Shape, Tensor};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

impl Serialize for Shape {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.dims().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shape, D::Error> {
        Shape::new(&Vec::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for Tensor<f32> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let words: Vec<[u8; 4]> = self.as_slice().iter().map(|value| value.to_le_bytes()).collect();
        (self.shape(), Bytes(words.as_flattened())).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Tensor<f32> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tensor<f32>, D::Error> {
        let (shape, Bytes(bytes)) = <(Shape, Bytes<'de>)>::deserialize(deserializer)?;
        // Held against what is there before memory is asked for.
        if bytes.len() != shape.elements() * 4 {
            return Err(D::Error::custom(format!("a tensor of shape {shape} has {} bytes", bytes.len())));
        }
        let mut tensor = Tensor::zeros(shape).map_err(D::Error::custom)?;
        for (value, bytes) in tensor.as_mut_slice().iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(tensor)
    }
}

/// Bytes that are borrowed from what is read.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes<'a>, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Bytes)
    }
}
