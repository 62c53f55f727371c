//! Element types of ONNX's tensors.

/// An element type, as far as values of it can be read. A run computes with f32: whole numbers are exact below 2^24, and f64 is
/// rounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ElementType {
    /// `float`
    Float,
    /// `uint8`
    Uint8,
    /// `int8`
    Int8,
    /// `uint16`
    Uint16,
    /// `int16`
    Int16,
    /// `int32`
    Int32,
    /// `int64`
    Int64,
    /// `bool`
    Bool,
    /// `float16`
    Float16,
    /// `double`
    Double,
    /// `uint32`
    Uint32,
    /// `uint64`
    Uint64,
    /// `bfloat16`
    Bfloat16,
}

impl ElementType {
    /// By its number in `TensorProto.DataType`.
    pub(super) fn from_number(number: i32) -> Option<ElementType> {
        Some(match number {
            1 => ElementType::Float,
            2 => ElementType::Uint8,
            3 => ElementType::Int8,
            4 => ElementType::Uint16,
            5 => ElementType::Int16,
            6 => ElementType::Int32,
            7 => ElementType::Int64,
            9 => ElementType::Bool,
            10 => ElementType::Float16,
            11 => ElementType::Double,
            12 => ElementType::Uint32,
            13 => ElementType::Uint64,
            16 => ElementType::Bfloat16,
            _ => return None,
        })
    }

    /// What NumPy calls it.
    pub fn name(self) -> &'static str {
        match self {
            ElementType::Float => "float32",
            ElementType::Uint8 => "uint8",
            ElementType::Int8 => "int8",
            ElementType::Uint16 => "uint16",
            ElementType::Int16 => "int16",
            ElementType::Int32 => "int32",
            ElementType::Int64 => "int64",
            ElementType::Bool => "bool",
            ElementType::Float16 => "float16",
            ElementType::Double => "float64",
            ElementType::Uint32 => "uint32",
            ElementType::Uint64 => "uint64",
            ElementType::Bfloat16 => "bfloat16",
        }
    }

    /// Bytes of an element.
    pub(super) fn size(self) -> usize {
        match self {
            ElementType::Uint8 | ElementType::Int8 | ElementType::Bool => 1,
            ElementType::Uint16 | ElementType::Int16 | ElementType::Float16 | ElementType::Bfloat16 => 2,
            ElementType::Float | ElementType::Int32 | ElementType::Uint32 => 4,
            ElementType::Int64 | ElementType::Double | ElementType::Uint64 => 8,
        }
    }

    /// The least and the greatest of a type of whole numbers that an `i64` holds.
    pub(super) fn whole_numbers(self) -> Option<(i64, i64)> {
        Some(match self {
            ElementType::Bool => (0, 1),
            ElementType::Uint8 => (0, u8::MAX.into()),
            ElementType::Int8 => (i8::MIN.into(), i8::MAX.into()),
            ElementType::Uint16 => (0, u16::MAX.into()),
            ElementType::Int16 => (i16::MIN.into(), i16::MAX.into()),
            ElementType::Uint32 => (0, u32::MAX.into()),
            ElementType::Int32 => (i32::MIN.into(), i32::MAX.into()),
            ElementType::Int64 => (i64::MIN, i64::MAX),
            _ => return None,
        })
    }

    /// Whether its values are not all whole numbers.
    pub(super) fn is_float(self) -> bool {
        matches!(self, ElementType::Float | ElementType::Float16 | ElementType::Double | ElementType::Bfloat16)
    }

    /// Whether it wraps around where exact whole numbers of f32 do not end yet.
    pub(super) fn is_narrow(self) -> bool {
        matches!(self, ElementType::Uint8 | ElementType::Int8 | ElementType::Uint16 | ElementType::Int16)
    }

    /// Whether it has no negative numbers.
    pub(super) fn is_unsigned(self) -> bool {
        matches!(self, ElementType::Uint8 | ElementType::Uint16 | ElementType::Uint32 | ElementType::Uint64 | ElementType::Bool)
    }
}

impl std::fmt::Display for ElementType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
