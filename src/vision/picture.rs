//! An RGB picture in memory.

use crate::error::{Error, Result};

/// Longest side of a [`Picture`], and largest size that a [`Preprocessing`](super::Preprocessing) resizes or crops to.
pub const MAX_SIDE: usize = 65_535;

/// Pixels of three bytes, red, green, blue, row by row from the top.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// Takes `pixels`, which must be `height * width * 3` bytes.
    ///
    /// # Errors
    /// When a side is zero or over [`MAX_SIDE`], or the number of bytes is another.
    pub fn from_rgb(width: usize, height: usize, pixels: Vec<u8>) -> Result<Picture> {
        let expected = Picture::bytes(width, height)?;
        if pixels.len() != expected {
            return Err(Error::Shape {
                what: "the pixels of a picture".into(),
                expected: format!("[{height}, {width}, 3] = {expected} bytes"),
                found: format!("{} bytes", pixels.len()),
            });
        }
        Ok(Picture { width, height, pixels })
    }

    /// A black picture, whose memory is asked for and not taken for granted.
    pub(super) fn black(width: usize, height: usize) -> Result<Picture> {
        let pixels = zeroed(Picture::bytes(width, height)?)?;
        Ok(Picture { width, height, pixels })
    }

    fn bytes(width: usize, height: usize) -> Result<usize> {
        if width == 0 || height == 0 {
            return Err(Error::InvalidArgument {
                argument: format!("a picture of {width}×{height} pixels"),
                reason: "both sides must be at least 1".into(),
            });
        }
        let too_large = || Error::TooLarge {
            what: "a picture".into(),
            requested: format!("{width}×{height} pixels"),
            limit: format!("{MAX_SIDE} a side and the address space"),
        };
        if width > MAX_SIDE || height > MAX_SIDE {
            return Err(too_large());
        }
        width.checked_mul(height).and_then(|n| n.checked_mul(3)).filter(|&n| n <= isize::MAX as usize).ok_or_else(too_large)
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes: `[height][width][3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub(super) fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}×{})", self.width, self.height)
    }
}

/// Zeros, or an error when the system has no memory for them.
pub(super) fn zeroed(bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(bytes).map_err(|_| Error::TooLarge {
        what: "the pixels of a picture".into(),
        requested: format!("{bytes} bytes"),
        limit: "the memory that the system gives".into(),
    })?;
    buffer.resize(bytes, 0);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        let picture = Picture::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!((picture.width(), picture.height(), picture.pixels().len()), (2, 1, 6));
        let error = Picture::from_rgb(2, 1, vec![0; 7]).unwrap_err().to_string();
        assert!(error.contains("[1, 2, 3] = 6 bytes") && error.contains("7 bytes"), "{error}");
        assert!(matches!(Picture::from_rgb(0, 1, vec![]), Err(Error::InvalidArgument { .. })));
        for (width, height) in [(MAX_SIDE + 1, 1), (1, usize::MAX), (usize::MAX, usize::MAX)] {
            assert!(matches!(Picture::from_rgb(width, height, vec![]), Err(Error::TooLarge { .. })));
        }
    }
}
