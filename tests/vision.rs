//! Pictures become the tensors that torchvision makes: against `tests/golden/vision`, written by `tools/make_vision_golden.py`.
#![cfg(all(feature = "vision", feature = "npy"))]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use stridewise::vision::{Picture, Preprocessing};
use stridewise::{Error, Shape, Tensor};

const CIFAR: [(&str, &str); 2] = [("mean", "(0.4914, 0.4822, 0.4465)"), ("std", "(0.247, 0.2435, 0.2616)")];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/vision").join(name)
}

struct Case {
    input: String,
    expected: String,
    lossless: bool,
    preprocessing: Preprocessing,
}

fn cases() -> Vec<Case> {
    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(golden("cases.json")).unwrap()).unwrap();
    let list = json["cases"].as_array().unwrap();
    let size = |value: &serde_json::Value| value.as_u64().unwrap() as usize;
    let case = |case: &serde_json::Value| Case {
        input: case["input"].as_str().unwrap().into(),
        expected: case["expected"].as_str().unwrap().into(),
        lossless: case["lossless"].as_bool().unwrap(),
        preprocessing: {
            let [mean, std] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
            Preprocessing::new(size(&case["resize"]), [size(&case["crop"][0]), size(&case["crop"][1])], mean, std).unwrap()
        },
    };
    list.iter().map(case).collect()
}

#[test]
fn png_pixels_equal_torchvisions() {
    let mut compared = 0;
    for case in cases().iter().filter(|case| case.lossless) {
        let picture = Picture::open(golden(&case.input)).unwrap();
        let found = case.preprocessing.resize_and_crop(&picture).unwrap();
        let expected = Picture::open(golden(&case.expected)).unwrap();
        assert_eq!((found.width(), found.height()), (expected.width(), expected.height()), "{}", case.expected);
        let different = found.pixels().iter().zip(expected.pixels()).filter(|(a, b)| a != b).count();
        assert_eq!(different, 0, "{} of {} bytes of {}", different, found.pixels().len(), case.expected);
        compared += found.pixels().len();
    }
    assert!(compared > 230_000, "{compared}");
}

/// Pillow's libjpeg-turbo and the Rust decoder round differently.
#[test]
fn jpeg_pixels_equal_torchvisions_but_for_the_decoder() {
    for case in cases().iter().filter(|case| !case.lossless) {
        let picture = Picture::open(golden(&case.input)).unwrap();
        let found = case.preprocessing.resize_and_crop(&picture).unwrap();
        let expected = Picture::open(golden(&case.expected)).unwrap();
        assert_eq!((found.width(), found.height()), (expected.width(), expected.height()), "{}", case.expected);
        let levels = found.pixels().iter().zip(expected.pixels()).map(|(a, b)| a.abs_diff(*b));
        let mean = levels.clone().map(f64::from).sum::<f64>() / found.pixels().len() as f64;
        let most = levels.max().unwrap();
        println!("{}: at most {most} levels, {mean:.4} on average", case.expected);
        assert!(most <= 4 && mean < 0.5, "{}: at most {most} levels, {mean} on average", case.expected);
    }
}

#[test]
fn normalisation_equals_torchvisions_bit_for_bit() {
    let metadata = HashMap::from(CIFAR.map(|(key, value)| (key.into(), value.into())));
    for (name, metadata) in [("imagenet", HashMap::new()), ("cifar", metadata)] {
        let expected = Tensor::<f32>::read_npy(golden(&format!("table_{name}.npy"))).unwrap();
        let preprocessing = Preprocessing::for_model([32, 32], &metadata).unwrap();
        let bytes: Vec<u8> = (0..3).flat_map(|_| 0..=255).collect();
        let images = Tensor::from_slice(Shape::new(&[1, 3, 16, 16]).unwrap(), &bytes).unwrap();
        let found = preprocessing.normalise_u8(images.view()).unwrap();
        assert_eq!(found.as_bytes(), expected.as_bytes(), "{name}");
    }
}

#[test]
fn the_tensor_of_a_picture_is_its_normalised_crop() {
    let table = Tensor::<f32>::read_npy(golden("table_imagenet.npy")).unwrap();
    let preprocessing = Preprocessing::for_model([224, 224], &HashMap::new()).unwrap();
    let tensor = preprocessing.load_image(golden("drawing_317x241.png")).unwrap();
    assert_eq!(tensor.dims(), [1, 3, 224, 224]);
    let crop = Picture::open(golden("drawing_317x241_resize256_crop224x224.expected.png")).unwrap();
    for (i, pixel) in crop.pixels().chunks_exact(3).enumerate() {
        for (c, &byte) in pixel.iter().enumerate() {
            assert_eq!(tensor.as_slice()[c * 224 * 224 + i].to_bits(), table.as_slice()[c * 256 + usize::from(byte)].to_bits());
        }
    }
    let bytes = std::fs::read(golden("drawing_317x241.png")).unwrap();
    assert_eq!(preprocessing.decode_image(&bytes, "bytes").unwrap(), tensor);
}

#[test]
fn truncated_pictures_are_refused_by_name() {
    for name in ["noise_32x32.png", "rgb16_23x15.png", "turned_100x75.jpg", "progressive_gray_100x75.jpg"] {
        let whole = std::fs::read(golden(name)).unwrap();
        assert!(Picture::decode(&whole, name).is_ok());
        for length in (0..whole.len() - 20).step_by(1 + whole.len() / 300) {
            match Picture::decode(&whole[..length], name) {
                Err(Error::Format { path, .. }) => assert_eq!(path, Path::new(name)),
                other => panic!("{length} bytes of {name}: {other:?}"),
            }
        }
    }
}

/// A JPEG whose EXIF thumbnail is whole and whose own image is not.
#[test]
fn a_thumbnail_does_not_hide_a_truncated_jpeg() {
    let whole = std::fs::read(golden("turned_100x75.jpg")).unwrap();
    let mut bytes = vec![0xff, 0xd8, 0xff, 0xe1];
    bytes.extend((whole.len() as u16 + 2).to_be_bytes());
    bytes.extend(&whole);
    bytes.extend(&whole[2..]);
    assert!(Picture::decode(&bytes, "whole").is_ok());
    let error = Picture::decode(&bytes[..bytes.len() - 500], "cut.jpg").unwrap_err().to_string();
    assert!(error.starts_with("cut.jpg: truncated"), "{error}");
}

#[test]
fn what_is_no_picture_is_refused_by_name() {
    for (bytes, reason) in [(&b""[..], "neither"), (b"GIF89a\x01\x00\x01\x00", "neither"), (b"\x89PNG\r\n\x1a\nnot really", "decoded")] {
        let error = Picture::decode(bytes, "odd.png").unwrap_err().to_string();
        assert!(error.starts_with("odd.png: ") && error.contains(reason), "{error}");
    }
    assert!(matches!(Picture::open("no/such/picture.png"), Err(Error::Io { path, .. }) if path.ends_with("picture.png")));
    assert!(matches!(Picture::open(golden("")), Err(Error::Io { .. })));
}

/// Files of a hundred bytes that claim gigabytes of pixels.
#[test]
fn huge_pictures_are_refused_before_allocation() {
    let png = std::fs::read(golden("noise_32x32.png")).unwrap();
    for (width, height) in [(65_536u32, 1u32), (65_535, 65_535), (i32::MAX as u32, i32::MAX as u32), (16_000, 16_000)] {
        let mut bytes = png.clone();
        bytes[16..20].copy_from_slice(&width.to_be_bytes());
        bytes[20..24].copy_from_slice(&height.to_be_bytes());
        let checksum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
        match Picture::decode(&bytes, "huge.png") {
            Err(Error::TooLarge { what, .. }) => assert_eq!(what, "huge.png"),
            other => panic!("{width}×{height}: {other:?}"),
        }
    }
    let mut jpeg = std::fs::read(golden("turned_100x75.jpg")).unwrap();
    let frame = jpeg.windows(4).position(|w| w == [0xff, 0xc0, 0x00, 0x11]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    let error = Picture::decode(&jpeg, "huge.jpg").unwrap_err();
    assert!(matches!(&error, Error::TooLarge { what, .. } if what == "huge.jpg"), "{error}");
    assert!(error.to_string().contains("65535×65535 pixels"), "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes
        .iter()
        .fold(!0u32, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 }))
}

#[test]
fn random_damage_never_panics() {
    let mut state = 3u64;
    let mut next = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut refused = 0;
    for name in ["noise_32x32.png", "palette_90x70.png", "rgba16_23x15.png", "turned_100x75.jpg", "progressive_gray_100x75.jpg"] {
        let whole = std::fs::read(golden(name)).unwrap();
        for _ in 0..300 {
            let mut bytes = whole.clone();
            // Half of the damage goes to the headers, where sizes and tables stand.
            for _ in 0..1 + next(4) {
                let reach = if next(2) == 0 { bytes.len() } else { bytes.len().min(700) };
                bytes[next(reach)] = [0, 0xff, 1, next(256) as u8][next(4)];
            }
            refused += usize::from(Picture::decode(&bytes, name).is_err());
        }
    }
    assert!(refused > 300, "{refused}");
}
