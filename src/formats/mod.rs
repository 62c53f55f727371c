//! Files to graphs. Whatever a file says is checked before it is believed.

pub(crate) mod mapped;
mod names;
#[cfg(feature = "onnx")]
pub mod onnx;
#[cfg(feature = "packed")]
pub mod packed;
pub mod safetensors;
mod stored;

use crate::error::{Error, Result};
use crate::regular_file;
use std::io::Read;
use std::path::Path;

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Safetensors,
    Onnx,
    Packed,
}

impl Format {
    /// The error of a build that can't read it.
    pub(crate) fn unknown(self, path: &Path) -> Error {
        let feature = if self == Format::Onnx { "onnx" } else { "packed" };
        Error::Format { path: path.into(), reason: format!("this program was built without the feature `{feature}`, which reads it") }
    }
}

/// What a file is, by its first bytes and, of those that begin with nothing of their own, its name.
pub(crate) fn of(path: &Path) -> Result<Format> {
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        return Ok(Format::Onnx);
    }
    let mut start = Vec::new();
    let read = regular_file::open(path)?.take(8).read_to_end(&mut start);
    read.map_err(|source| Error::Io { path: path.into(), source })?;
    Ok(if of_bytes(&start) == Format::Packed { Format::Packed } else { Format::Safetensors })
}

/// What the bytes of a file are. What is none of them is held for the format whose function says so best.
pub(crate) fn of_bytes(bytes: &[u8]) -> Format {
    match bytes {
        [b'S', b'W', b'P', b'A', b'C', b'K', b'E', b'D', ..] => Format::Packed,
        // The length of a header of less than a terabyte, and its first byte.
        [_, _, _, _, _, 0, 0, 0, b'{', ..] => Format::Safetensors,
        // The field `ir_version`, which every ONNX file has, and whose number is the lowest.
        [0x08, ..] => Format::Onnx,
        _ => Format::Safetensors,
    }
}
