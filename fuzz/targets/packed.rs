//! The bytes of a packed network, whatever they are: refused by name, or a model that is planned and, where it is small, run. The checksum
//! of the header is made right first, or nothing behind it would be read.

use stridewise::formats::packed::Checksums;
use stridewise::{Isa, Model, SessionOptions, Tensor};
use xxhash_rust::xxh3::xxh3_64;

/// Most bytes of a session.
const MOST: usize = 8 << 20;

pub fn run(bytes: &[u8]) {
    let file = tempfile::Builder::new().suffix("-fuzzed.swp").tempfile().expect("a temporary file");
    std::fs::write(file.path(), with_checksum(bytes)).expect("a temporary file");
    for checksums in [Checksums::Header, Checksums::All] {
        let model = match Model::from_packed(file.path(), checksums) {
            Ok(model) => model,
            Err(error) => {
                assert!(error.to_string().contains("-fuzzed.swp"), "no file in: {error}");
                return;
            }
        };
        // The files of the corpus are packed for tiles of this width.
        let options = SessionOptions { max_memory: MOST, isa: Some(Isa::Portable), ..Default::default() };
        let Ok(mut session) = model.session(&options) else { continue };
        assert!(session.memory_required() + session.weight_bytes() <= MOST);
        if session.steps().iter().map(|s| s.macs).fold(0, u64::saturating_add) > 1 << 22 {
            return;
        }
        let input = Tensor::zeros(session.input_shape()).expect("a small tensor");
        // Networks of several inputs or outputs have their own ways to run.
        let _ = session.run(&input);
    }
}

/// With the checksum of the header in its place, where there is a whole header.
fn with_checksum(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let len = bytes.get(16..24).and_then(|len| len.try_into().ok()).map(u64::from_le_bytes);
    let header = len.and_then(|len| bytes.get(32..)?.get(..usize::try_from(len).ok()?));
    if let Some(checksum) = header.map(xxh3_64) {
        bytes[24..32].copy_from_slice(&checksum.to_le_bytes());
    }
    bytes
}
