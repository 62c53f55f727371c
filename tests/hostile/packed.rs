//! Packed networks whose header is a multitude of nearly nothing.

use super::measured::{alone, peak_of};
use stridewise::Model;
use stridewise::formats::packed::Checksums;
use xxhash_rust::xxh3::xxh3_64;

/// A header, and what says that it is one.
fn file(header: &[u8]) -> Vec<u8> {
    let versions = [1u32.to_le_bytes(), 1u32.to_le_bytes()].concat();
    let numbers = [(header.len() as u64).to_le_bytes(), xxh3_64(header).to_le_bytes()].concat();
    [b"SWPACKED", &versions[..], &numbers, header].concat()
}

fn many(part: &[u8]) -> Vec<u8> {
    // A million, as postcard writes the number.
    [&[0xc0, 0x84, 0x3d][..], &part.repeat(1_000_000)].concat()
}

#[test]
fn headers_of_many_small_parts_are_refused() {
    let _alone = alone();
    // No writer, no architecture, one pixel, mean 0, deviation 1; a graph without a name.
    let start = [&[0, 0, 1, 1, 1][..], &[0; 12], &[1f32.to_le_bytes(); 3].concat(), &[0]].concat();
    // A value without name or constant; an Identity without name or inputs; a scalar.
    for (what, header) in [
        ("values", [&start[..], &many(&[0, 0]), &[0; 6]].concat()),
        ("nodes", [&start[..], &[0], &many(&[0, 14, 0, 0]), &[0; 5]].concat()),
        ("shapes", [&start[..], &[0, 0, 0, 0, 0, 1], &many(&[0]), &[0]].concat()),
    ] {
        let path = tempfile::Builder::new().suffix("-many.swp").tempfile().unwrap().into_temp_path();
        std::fs::write(&path, file(&header)).unwrap();
        let (refused, peak) = peak_of(|| Model::from_packed(&path, Checksums::All).map(|_| ()));
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("-many.swp") && error.contains("header"), "{what}: {error}");
        assert!(peak <= 128 << 20, "a million {what}: {peak} bytes from a file of {}", header.len());
    }
}
