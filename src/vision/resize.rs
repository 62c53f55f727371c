//! Shorter side to a size, then the centre: Pillow's antialiased bilinear resampling, in its integer arithmetic.
//!
//! Pillow convolves rows and columns one after the other. Each output byte is a sum of input bytes with weights of 22 fractional
//! bits (a triangle whose base is two output pixels, or two input pixels when enlarging), rounded by adding a half. Other
//! libraries use 15 bits, which differs from Pillow by one level in a fifth of the bytes of a noisy picture.
//!
//! Only the rows and columns that the crop needs are computed, so that time and memory depend on the crop and the source, and
//! not on how long the other side of the resized picture would be.

use super::picture::{Picture, zeroed};
use crate::error::Result;
use std::ops::Range;

const FRACTION_BITS: u32 = 22;
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// `Resize(shorter)` and `CenterCrop([height, width])` of torchvision. Where the crop is larger it is padded with black.
pub(super) fn resize_and_crop(source: &Picture, shorter: usize, [height, width]: [usize; 2]) -> Result<Picture> {
    let resized = resized(source.height(), source.width(), shorter);
    let (rows, columns) = (Window::centre(resized[0], height), Window::centre(resized[1], width));
    let horizontal = Filter::new(source.width(), resized[1], columns.kept.clone());
    let vertical = Filter::new(source.height(), resized[0], rows.kept.clone());
    let cropped = if columns_first([source.height(), source.width()], resized) {
        let short = convolve_columns(source.pixels(), source.width(), &vertical, 0)?;
        convolve_rows(&short, source.width(), &horizontal)?
    } else {
        let needed = vertical.sources();
        let bytes = &source.pixels()[3 * source.width() * needed.start..3 * source.width() * needed.end];
        let narrow = convolve_rows(bytes, source.width(), &horizontal)?;
        convolve_columns(&narrow, horizontal.taps.len(), &vertical, needed.start)?
    };
    let pitch = 3 * horizontal.taps.len();
    if cropped.len() == 3 * width * height {
        return Picture::from_rgb(width, height, cropped);
    }
    let mut padded = Picture::black(width, height)?;
    for (line, target) in cropped.chunks_exact(pitch).zip(padded.pixels_mut().chunks_exact_mut(3 * width).skip(rows.before)) {
        target[3 * columns.before..][..pitch].copy_from_slice(line);
    }
    Ok(padded)
}

/// Which pass Pillow does first, which matters because bytes are rounded in between. Since version 13 it is the columns when
/// they shrink by more than twice as many pixels as the rows, so for pictures at least twice as tall as wide; before, never.
fn columns_first(from: [usize; 2], to: [u64; 2]) -> bool {
    let less = [0, 1].map(|axis| from[axis] as i64 - to[axis] as i64);
    less[0] > 0 && less[0] > 2 * less[1]
}

/// Every row of a picture `width` pixels wide, resized.
fn convolve_rows(bytes: &[u8], width: usize, filter: &Filter) -> Result<Vec<u8>> {
    let pitch = 3 * filter.taps.len();
    let mut result = zeroed(bytes.len() / (3 * width) * pitch)?;
    for (row, target) in bytes.chunks_exact(3 * width).zip(result.chunks_exact_mut(pitch)) {
        for (taps, target) in filter.taps.iter().zip(target.chunks_exact_mut(3)) {
            let mut sums = [HALF; 3];
            for (&weight, pixel) in filter.weights(taps).iter().zip(row[3 * taps.start..].chunks_exact(3)) {
                for (sum, &byte) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(byte);
                }
            }
            for (byte, sum) in target.iter_mut().zip(sums) {
                *byte = round(sum);
            }
        }
    }
    Ok(result)
}

/// Every column of a picture `width` pixels wide, resized. Its first row is row `origin` of what the filter counts in.
fn convolve_columns(bytes: &[u8], width: usize, filter: &Filter, origin: usize) -> Result<Vec<u8>> {
    let pitch = 3 * width;
    let mut result = zeroed(filter.taps.len() * pitch)?;
    let mut sums = vec![0; pitch];
    for (taps, target) in filter.taps.iter().zip(result.chunks_exact_mut(pitch)) {
        sums.fill(HALF);
        for (&weight, line) in filter.weights(taps).iter().zip(bytes[(taps.start - origin) * pitch..].chunks_exact(pitch)) {
            for (sum, &byte) in sums.iter_mut().zip(line) {
                *sum += weight * i32::from(byte);
            }
        }
        for (byte, &sum) in target.iter_mut().zip(&sums) {
            *byte = round(sum);
        }
    }
    Ok(result)
}

fn round(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// Height and width when the shorter side becomes `shorter`; the longer one is rounded down. Sides are at most
/// [`MAX_SIDE`](super::MAX_SIDE), so the product fits.
fn resized(height: usize, width: usize, shorter: usize) -> [u64; 2] {
    let longer = |long: usize, short: usize| shorter as u64 * long as u64 / short as u64;
    let shorter = shorter as u64;
    if width <= height { [longer(height, width), shorter] } else { [shorter, longer(width, height)] }
}

/// One axis of a centred crop.
#[derive(Debug, PartialEq)]
struct Window {
    /// The pixels of the resized picture that are in the crop.
    kept: Range<u64>,
    /// Black pixels of the crop before them.
    before: usize,
}

impl Window {
    fn centre(size: u64, crop: usize) -> Window {
        let wanted = crop as u64;
        if wanted > size {
            return Window { kept: 0..size, before: ((wanted - size) / 2) as usize };
        }
        // Python rounds half a pixel to the even offset.
        let margin = size - wanted;
        let start = if margin % 4 == 3 { margin / 2 + 1 } else { margin / 2 };
        Window { kept: start..start + wanted, before: 0 }
    }
}

/// The weights of one axis.
struct Filter {
    taps: Vec<Taps>,
    weights: Vec<i32>,
}

/// What one output pixel is made from: its first source pixel, and where its weights lie.
struct Taps {
    start: usize,
    weights: Range<usize>,
}

impl Filter {
    /// The output pixels `kept` of an axis that goes from `size` to `resized` pixels. Pillow's formulas in Pillow's order of
    /// operations: another order rounds some weights differently.
    fn new(size: usize, resized: u64, kept: Range<u64>) -> Filter {
        let scale = size as f64 / resized as f64;
        let radius = scale.max(1.0);
        let steepness = 1.0 / radius;
        let mut filter = Filter { taps: Vec::new(), weights: Vec::new() };
        let mut exact = Vec::new();
        for pixel in kept {
            let centre = (pixel as f64 + 0.5) * scale;
            // A cast cuts towards zero and negative numbers to zero.
            let start = (centre - radius + 0.5) as usize;
            let end = ((centre + radius + 0.5) as usize).min(size);
            exact.clear();
            exact.extend((start..end).map(|x| (1.0 - ((x as f64 - centre + 0.5) * steepness).abs()).max(0.0)));
            let total: f64 = exact.iter().sum();
            let first = filter.weights.len();
            filter.weights.extend(exact.iter().map(|weight| (0.5 + weight / total * f64::from(1 << FRACTION_BITS)) as i32));
            filter.taps.push(Taps { start, weights: first..filter.weights.len() });
        }
        filter
    }

    fn weights(&self, taps: &Taps) -> &[i32] {
        &self.weights[taps.weights.clone()]
    }

    /// The source pixels that any output pixel needs.
    fn sources(&self) -> Range<usize> {
        match (self.taps.first(), self.taps.last()) {
            (Some(first), Some(last)) => first.start..last.start + last.weights.len(),
            _ => 0..0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_torchvisions() {
        assert_eq!(resized(375, 500, 256), [256, 341]);
        assert_eq!(resized(500, 375, 256), [341, 256]);
        assert_eq!(resized(900, 64, 256), [3600, 256]);
        assert_eq!(resized(32, 32, 256), [256, 256]);
        assert_eq!(resized(1, 65_535, 65_535), [65_535, 65_535 * 65_535]);
    }

    #[test]
    fn offsets_round_half_to_even_as_in_python() {
        // int(round((size - 10) / 2.0)) for sizes 10 to 18, from Python.
        for (size, start) in (10..19).zip([0, 0, 1, 2, 2, 2, 3, 4, 4]) {
            assert_eq!(Window::centre(size, 10), Window { kept: start..start + 10, before: 0 });
        }
        assert_eq!(Window::centre(5, 10), Window { kept: 0..5, before: 2 });
    }

    #[test]
    fn the_same_size_is_the_same_picture() {
        let pixels: Vec<u8> = (0..7 * 7 * 3u32).map(|i| (i * 37 % 256) as u8).collect();
        let picture = Picture::from_rgb(7, 7, pixels).unwrap();
        assert_eq!(resize_and_crop(&picture, 7, [7, 7]).unwrap(), picture);
    }

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for (size, resized) in [(1, 1), (1, 300), (500, 341), (65_535, 1), (65_535, 224), (3, 7), (7, 3)] {
            let filter = Filter::new(size, resized, 0..resized);
            for taps in &filter.taps {
                let sum: i64 = filter.weights(taps).iter().map(|&w| i64::from(w)).sum();
                assert!((sum - (1 << FRACTION_BITS)).abs() <= taps.weights.len() as i64, "{size} to {resized}: {sum}");
                assert!(!taps.weights.is_empty() && taps.start + taps.weights.len() <= size);
            }
        }
    }

    #[test]
    fn a_line_of_pixels_costs_no_more_than_its_crop() {
        // Resized whole, this would take 65,535 × 4,294,836,225 pixels.
        let line = Picture::from_rgb(65_535, 1, vec![200; 3 * 65_535]).unwrap();
        let crop = resize_and_crop(&line, 65_535, [5, 9]).unwrap();
        assert_eq!((crop.height(), crop.width()), (5, 9));
        assert!(crop.pixels().iter().all(|&p| p == 200));
        let column = Picture::from_rgb(1, 65_535, vec![9; 3 * 65_535]).unwrap();
        assert!(resize_and_crop(&column, 256, [224, 224]).unwrap().pixels().iter().all(|&p| p == 9));
    }

    #[test]
    fn a_crop_beyond_the_picture_is_black() {
        let picture = Picture::from_rgb(2, 2, vec![255; 12]).unwrap();
        let crop = resize_and_crop(&picture, 2, [5, 3]).unwrap();
        let rows: Vec<Vec<u8>> = crop.pixels().chunks(9).map(|row| row.iter().step_by(3).copied().collect()).collect();
        assert_eq!(rows, [[0, 0, 0], [255, 255, 0], [255, 255, 0], [0, 0, 0], [0, 0, 0]]);
    }
}
