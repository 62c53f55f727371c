//! `.npy` files that lie.

use super::CONSTANT;
use super::measured::{alone, peak_of};
use stridewise::Tensor;
use stridewise::tensor::npy::NpyTensor;

fn npy(version: u8, header: &str, data: usize) -> Vec<u8> {
    let mut bytes = vec![0x93, b'N', b'U', b'M', b'P', b'Y', version, 0];
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn refused(bytes: &[u8], context: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.npy");
    std::fs::write(&path, bytes).unwrap();
    for read in [|path| NpyTensor::read(path).map(|_| ()), |path| Tensor::<f32>::read_npy(path).map(|_| ())] {
        let (result, peak) = peak_of(|| read(&path));
        let error = result.expect_err(context);
        assert!(error.to_string().contains("hostile.npy"), "{context}: {error}");
        assert!(peak <= CONSTANT + 2 * bytes.len(), "{context}: {peak} bytes for a file of {}", bytes.len());
    }
}

#[test]
fn headers_that_lie() {
    let _alone = alone();
    let header = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
    let cases = [
        ("more elements than bytes", header("(1000000,)"), 4),
        ("fewer elements than bytes", header("(1,)"), 8),
        ("terabytes", header("(1048576, 1048576, 64)"), 4),
        ("product that overflows", header("(18446744073709551615, 2)"), 4),
        ("product that overflows to its size", header("(4294967296, 4294967296)"), 0),
        ("number that overflows", header("(99999999999999999999999,)"), 4),
        ("bytes behind a zero dimension", header("(0, 3)"), 4),
        ("zero beside a huge one", header("(0, 18446744073709551615)"), 0),
        ("zero beside two that overflow", header("(4294967296, 0, 4294967296)"), 0),
        ("negative dimension", header("(-1,)"), 4),
        ("seven dimensions", header("(1, 1, 1, 1, 1, 1, 1)"), 4),
        ("no tuple", header("7"), 28),
        ("text for a shape", header("'x'"), 4),
        ("nested deep", header(&"(".repeat(3000)), 4),
        ("nested deep and closed", header(&format!("{}1,{}", "(".repeat(1000), ")".repeat(1000))), 4),
        ("no dictionary", "[]\n".into(), 0),
        ("empty", String::new(), 0),
        ("a key is missing", "{'descr': '<f4', 'shape': (1,), }\n".into(), 4),
        ("a key twice", "{'descr': '<f4', 'descr': '<f8', 'fortran_order': False, 'shape': (1,), }\n".into(), 1),
        ("objects", header("(1,)").replace("<f4", "|O"), 8),
        ("structures", header("(1,)").replace("'<f4'", "[('a', '<f4'), ('b', '<f4')]"), 8),
        ("an element of no size", header("(1,)").replace("<f4", "<f0"), 0),
        ("an element of a huge size", header("(1,)").replace("<f4", "<f18446744073709551615"), 4),
        ("zero bytes in it", header("(1,)").replace('\'', "\u{0}"), 4),
    ];
    for (context, header, data) in &cases {
        for version in [1, 2, 3] {
            refused(&npy(version, header, *data), context);
        }
    }
    for version in [0, 4, 255] {
        refused(&npy(version, &header("(1,)"), 4), "unknown version");
    }
    for length in [1u32, 9_999, 10_001, u32::MAX - 12, u32::MAX] {
        let mut bytes = npy(2, "", 0);
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        refused(&bytes, &format!("a header of {length} bytes"));
    }
}

#[test]
fn truncated_anywhere() {
    let _alone = alone();
    let whole = npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }\n", 60);
    for length in 0..whole.len() {
        refused(&whole[..length], &format!("cut to {length} bytes"));
    }
}

/// In an array NaN is a value like any other; a network carries it through.
#[test]
fn numbers_that_are_none_are_read_as_they_are() {
    let _alone = alone();
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut bytes = npy(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n", 0);
    bytes.extend(f32::NAN.to_le_bytes());
    bytes.extend(f32::INFINITY.to_le_bytes());
    std::fs::write(file.path(), bytes).unwrap();
    let tensor = Tensor::<f32>::read_npy(file.path()).unwrap();
    assert!(tensor.as_slice()[0].is_nan() && tensor.as_slice()[1] == f32::INFINITY);
}
