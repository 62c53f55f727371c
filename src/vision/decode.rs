//! JPEG and PNG files become RGB pictures as Pillow's `Image.open(path).convert("RGB")` makes them.

use super::picture::{MAX_SIDE, Picture, zeroed};
use crate::error::{Error, Result};
use crate::regular_file;
use image::codecs::{jpeg::JpegDecoder, png::PngDecoder};
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, Limits};
use std::io::{Cursor, Read};
use std::path::Path;

/// Longest file that is read, and most memory that its decoded pixels may take.
const MAX_BYTES: u64 = 256 << 20;

impl Picture {
    /// Reads a JPEG or PNG file; the content says which, not the name.
    ///
    /// Palettes are looked up, grey becomes three equal channels, an alpha channel is dropped and not blended. Of 16 bits a
    /// channel the upper eight are kept, except that grey without alpha is clipped at 255: all this is what Pillow does. An
    /// orientation in the EXIF data is ignored, as torchvision ignores it. PNG pixels are Pillow's exactly; those of JPEG differ
    /// by up to four levels of 255, for the standard leaves rounding and chroma interpolation to the decoder.
    ///
    /// # Errors
    /// [`Error::Io`] when the file can't be read; [`Error::Format`] when it is neither JPEG nor PNG, truncated or corrupt;
    /// [`Error::TooLarge`] when the file, or its pixels decoded, take more than 256 MiB, or a side is longer than [`MAX_SIDE`].
    pub fn open(path: impl AsRef<Path>) -> Result<Picture> {
        let path = path.as_ref();
        let mut bytes = Vec::new();
        let read = regular_file::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|source| Error::Io { path: path.into(), source })?;
        decode(&bytes, path)
    }

    /// Decodes the bytes of a JPEG or PNG file as [`Picture::open`] does. Errors call the file `name`.
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn decode(bytes: &[u8], name: &str) -> Result<Picture> {
        decode(bytes, Path::new(name))
    }
}

fn decode(bytes: &[u8], path: &Path) -> Result<Picture> {
    let refuse = |reason: String| Error::Format { path: path.into(), reason };
    let fail = |error: ImageError| match error {
        ImageError::Limits(_) => too_large(path, "its pixels".into(), limits_text()),
        other => Error::Format { path: path.into(), reason: format!("can't be decoded: {other}") },
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(too_large(path, "the file".into(), format!("{MAX_BYTES} bytes")));
    }
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => {
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits()).map_err(fail)?;
            pixels(decoder, path)?.map_err(fail)
        }
        Ok(ImageFormat::Jpeg) => {
            // The decoder itself fills what is missing with grey.
            if !jpeg_is_whole(bytes) {
                return Err(refuse("truncated: the end of the JPEG image is missing".into()));
            }
            let mut decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(fail)?;
            decoder.set_limits(limits()).map_err(fail)?;
            pixels(decoder, path)?.map_err(fail)
        }
        _ => Err(refuse("neither a JPEG nor a PNG file".into())),
    }
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE as u32);
    limits.max_image_height = Some(MAX_SIDE as u32);
    limits.max_alloc = Some(MAX_BYTES);
    limits
}

fn limits_text() -> String {
    format!("{MAX_SIDE} pixels a side and {MAX_BYTES} bytes")
}

fn too_large(path: &Path, requested: String, limit: String) -> Error {
    Error::TooLarge { what: path.display().to_string(), requested, limit }
}

/// The outer error is of the sizes, the inner one the decoder's.
fn pixels(decoder: impl ImageDecoder, path: &Path) -> Result<Result<Picture, ImageError>> {
    let (width, height) = decoder.dimensions();
    // As they are decoded, and as the three channels that they become.
    let size = decoder.total_bytes().max(u64::from(width) * u64::from(height) * 3);
    if size > MAX_BYTES || width.max(height) as usize > MAX_SIDE {
        return Err(too_large(path, format!("{width}×{height} pixels of {size} bytes in all"), limits_text()));
    }
    let color = decoder.color_type();
    let mut bytes = zeroed(decoder.total_bytes() as usize)?;
    if let Err(error) = decoder.read_image(&mut bytes) {
        return Ok(Err(error));
    }
    let (width, height) = (width as usize, height as usize);
    let mut picture = if color == ColorType::Rgb8 {
        return Picture::from_rgb(width, height, bytes).map(Ok);
    } else {
        Picture::black(width, height)?
    };
    let targets = picture.pixels_mut().chunks_exact_mut(3);
    // Samples of 16 bits come in the machine's byte order.
    let wide = |pair: &[u8]| pair.try_into().map_or(0, u16::from_ne_bytes);
    let upper = |pair: &[u8]| (wide(pair) >> 8) as u8;
    match color {
        ColorType::L8 => targets.zip(bytes.iter()).for_each(|(to, from)| to.fill(*from)),
        ColorType::La8 => targets.zip(bytes.chunks_exact(2)).for_each(|(to, from)| to.fill(from[0])),
        ColorType::Rgba8 => targets.zip(bytes.chunks_exact(4)).for_each(|(to, from)| to.copy_from_slice(&from[..3])),
        ColorType::L16 => targets.zip(bytes.chunks_exact(2)).for_each(|(to, from)| to.fill(wide(from).min(255) as u8)),
        ColorType::La16 => targets.zip(bytes.chunks_exact(4)).for_each(|(to, from)| to.fill(upper(&from[..2]))),
        ColorType::Rgb16 | ColorType::Rgba16 => {
            let size = usize::from(color.bytes_per_pixel());
            for (to, from) in targets.zip(bytes.chunks_exact(size)) {
                to.iter_mut().zip(from.chunks_exact(2)).for_each(|(to, from)| *to = upper(from));
            }
        }
        other => {
            let reason = format!("pixels of type {other:?} are not read");
            return Err(Error::Format { path: path.into(), reason });
        }
    }
    Ok(Ok(picture))
}

/// Whether an end-of-image marker follows the first scan. Segments before it are skipped, for a thumbnail in them has its own.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        match rest {
            // A marker may be preceded by any number of fill bytes.
            [0xff, 0xff, ..] => rest = &rest[1..],
            // The start of the scan: in its data, 0xff is followed by 0 or a restart marker.
            [0xff, 0xda, data @ ..] => return data.windows(2).any(|pair| pair == [0xff, 0xd9]),
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(next) = rest.get(2 + length..) else { return false };
                rest = next;
            }
            // Not a marker: a decoder looks for the next one.
            [_, tail @ ..] => rest = tail,
            [] => return false,
        }
    }
}
