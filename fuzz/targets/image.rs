//! A picture is decoded and becomes a network's input, or is refused with an error that names it.

use stridewise::Model;
use stridewise::vision::Picture;

pub fn run(bytes: &[u8]) {
    match Picture::decode(bytes, "fuzzed.image") {
        Ok(picture) => {
            assert_eq!(picture.pixels().len(), picture.width() * picture.height() * 3);
            // Resizing a large picture is only slow.
            if picture.pixels().len() < 1 << 20 {
                let model = Model::random(stridewise::Arch::ResNet20Cifar, 0).expect("random weights");
                let tensor = model.preprocessing().apply(&picture).expect("a picture that was decoded");
                assert!(tensor.as_slice().iter().all(|v| v.is_finite()));
            }
        }
        Err(error) => assert!(error.to_string().contains("fuzzed.image"), "no file in: {error}"),
    }
}
