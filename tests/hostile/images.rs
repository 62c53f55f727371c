//! Pictures that claim to be larger than they are.

use super::CONSTANT;
use super::measured::{alone, peak_of};
use stridewise::vision::Picture;

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vision").join(name)).unwrap()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 }))
}

/// The picture of another size, with a checksum that is right.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = golden("noise_32x32.png");
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn jpeg_of(name: &str, marker: u8, width: u16, height: u16) -> Vec<u8> {
    let mut bytes = golden(name);
    let frame = bytes.windows(2).position(|w| w == [0xff, marker]).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

fn refused(bytes: &[u8], context: &str) -> usize {
    let (result, peak) = peak_of(|| Picture::decode(bytes, "hostile.image").map(|_| ()));
    let error = result.expect_err(context);
    assert!(error.to_string().contains("hostile.image"), "{context}: {error}");
    peak
}

#[test]
fn a_picture_over_the_limit_is_refused_before_its_memory_is_asked_for() {
    let _alone = alone();
    for (width, height) in [(1 << 16, 1), (1, 1 << 16), (65_535, 65_535), (u32::MAX >> 1, u32::MAX >> 1), (10_000, 9_000), (0, 1), (1, 0)] {
        let peak = refused(&png_of(width, height), &format!("{width}x{height} PNG"));
        assert!(peak <= CONSTANT, "{peak} bytes for a PNG of {width}x{height}");
    }
    for (name, marker) in [("turned_100x75.jpg", 0xc0), ("progressive_gray_100x75.jpg", 0xc2)] {
        for (width, height) in [(65_535, 65_535), (20_000, 20_000), (10_000, 9_000), (0, 100)] {
            let peak = refused(&jpeg_of(name, marker, width, height), &format!("{name} of {width}x{height}"));
            assert!(peak <= CONSTANT, "{peak} bytes for {name} of {width}x{height}");
        }
    }
}

/// Within the limit of 256 MiB of pixels the decoder may take as much again for coefficients and rows.
#[test]
fn a_picture_that_lies_within_the_limit_takes_no_more_than_twice_the_limit() {
    let _alone = alone();
    const MOST: usize = 512 << 20;
    let peak = refused(&png_of(9_000, 9_000), "large PNG");
    assert!(peak <= MOST + CONSTANT, "{peak} bytes");
    for (name, marker, side) in [("turned_100x75.jpg", 0xc0, 9_000), ("progressive_gray_100x75.jpg", 0xc2, 9_400)] {
        let bytes = jpeg_of(name, marker, side, side);
        let (result, peak) = peak_of(|| Picture::decode(&bytes, "hostile.image").map(|_| ()));
        assert!(peak <= MOST + CONSTANT, "{peak} bytes for {name} of side {side}: {result:?}");
    }
}
