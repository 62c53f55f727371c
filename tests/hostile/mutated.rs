//! 200 mutated copies of a real file: each is refused by an error that names it, or runs.

use super::measured::{alone, peak_of};
use stridewise::{Error, Model, SessionOptions, Tensor};

/// Numbers that depend on nothing but the seed.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }
}

/// A copy of a file with up to eight pieces of damage: bytes changed, bits turned, pieces cut out, doubled, exchanged, the end cut
/// off. Half of it is among the first `header` bytes, where names and sizes stand.
pub fn mutate(file: &[u8], header: usize, numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = file.to_vec();
    for _ in 0..1 + numbers.below(8) {
        let reach = if numbers.below(2) == 0 { header.min(bytes.len()) } else { bytes.len() };
        let at = numbers.below(reach);
        let len = (1 + numbers.below(40)).min(bytes.len() - at.min(bytes.len()));
        match numbers.below(8) {
            0 if numbers.below(4) == 0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..at + len)),
            2 => {
                let piece = bytes[at..at + len].to_vec();
                bytes.splice(at..at, piece);
            }
            3 => {
                let to = numbers.below(reach);
                let len = len.min(bytes.len() - to);
                bytes.copy_within(at..at + len, to);
            }
            4 if at < bytes.len() => bytes[at] = b"0123456789[]{},:\"-"[numbers.below(18)],
            5 if at < bytes.len() => bytes[at] = [0, 0x7f, 0x80, 0xff][numbers.below(4)],
            6 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            _ if at < bytes.len() => bytes[at] = numbers.below(256) as u8,
            _ => {}
        }
    }
    bytes
}

/// Loads, plans and runs 200 mutated copies; prints how many were refused when.
pub fn two_hundred_copies(file: &[u8], header: usize, name: &str, load: impl Fn(&std::path::Path) -> Result<Model, Error>) {
    const MAX_MEMORY: usize = 32 << 20;
    const CONSTANT: usize = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut numbers = Numbers::new(17);
    let (mut refused, mut unplanned, mut ran) = (0, 0, 0);
    for copy in 0..200 {
        let bytes = mutate(file, header, &mut numbers);
        std::fs::write(&path, &bytes).unwrap();
        let (outcome, peak) = peak_of(|| {
            let model = load(&path).map_err(|error| (error, true))?;
            let options = SessionOptions { max_memory: MAX_MEMORY, ..Default::default() };
            let mut session = model.session(&options).map_err(|error| (error, false))?;
            let mut input = Tensor::zeros(session.input_shape()).map_err(|error| (error, false))?;
            input.as_mut_slice().fill(0.5);
            session.run(&input).map_err(|error| (error, false))
        });
        assert!(peak <= MAX_MEMORY + CONSTANT + 8 * file.len(), "copy {copy}: {peak} bytes");
        match outcome {
            Ok(_) => ran += 1,
            Err((error, true)) => {
                let text = error.to_string();
                // The file, or the node of the graph that it holds.
                assert!(text.contains(name) || matches!(error, Error::Graph { .. }), "copy {copy}: {text}");
                refused += 1;
            }
            Err((_, false)) => unplanned += 1,
        }
    }
    println!("{name}: of 200 mutated copies {refused} were refused, {unplanned} could not be planned, {ran} ran");
    assert!(refused > 50 && ran > 5, "{refused} refused, {ran} ran: the damage is too small or too large to say anything");
}

#[test]
fn two_hundred_copies_of_a_safetensors_file() {
    let _alone = alone();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/resnet20_cifar10.safetensors");
    let file = std::fs::read(path).unwrap();
    let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    two_hundred_copies(&file, header, "mutated.safetensors", |path| Model::from_safetensors(None, path));
}
