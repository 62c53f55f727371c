//! A valid safetensors file with bytes changed, cut out or put in: what still loads is planned and run.

use arbitrary::{Result, Unstructured};
use std::collections::HashMap;
use std::sync::OnceLock;
use stridewise::formats::safetensors::{Precision, save};
use stridewise::models::init::Initializer;
use stridewise::models::{Cifar, Shortcut, WeightSource};
use stridewise::{Arch, Model, SessionOptions, Tensor, Threads};

pub fn run(bytes: &[u8]) {
    let mut file = whole().to_vec();
    // Bytes that end early change less.
    let _ = damage(&mut file, &mut Unstructured::new(bytes));
    let model = match Model::from_safetensors_bytes(None, &file) {
        Ok(model) => model,
        Err(error) => {
            assert!(error.to_string().contains("bytes in memory"), "no file in: {error}");
            return;
        }
    };
    let options = SessionOptions { threads: Threads::Count(1), max_memory: 64 << 20, ..Default::default() };
    // What a BatchNorm makes infinite is refused here, and by its node's name.
    let Ok(mut session) = model.session(&options) else { return };
    let input = Tensor::zeros(session.input_shape()).expect("a small tensor");
    session.run(&input).expect("a session that was made");
}

/// A network of one block a stage.
fn whole() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        let arch = Arch::Cifar(Cifar { blocks: 1, shortcut: Shortcut::Projection });
        let mut source = Initializer::new(1);
        let parameters = arch.module(10).and_then(|m| m.parameters()).expect("a known architecture");
        let tensors: Vec<_> = parameters.iter().map(|p| (p.name.clone(), source.tensor(p).expect("random weights"))).collect();
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        save(file.path(), &tensors, Precision::BF16, HashMap::new()).expect("a temporary file");
        std::fs::read(file.path()).expect("a temporary file")
    })
}

/// Changes a file in as many places as the bytes say, most of them in its header.
fn damage(file: &mut Vec<u8>, u: &mut Unstructured<'_>) -> Result<()> {
    for _ in 0..u.int_in_range(0..=12)? {
        let header = file.get(..8).map_or(0, |b| b.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)));
        let end = if u.ratio(3, 4)? { file.len().min(header.saturating_add(8)) } else { file.len() };
        let at = u.int_in_range(0..=end.saturating_sub(1))?;
        match u.int_in_range(0..=5)? {
            0 => file.truncate(at),
            1 if at < file.len() => file[at] = u.arbitrary()?,
            2 if at < file.len() => file[at] ^= 1 << u.int_in_range(0..=7)?,
            3 => {
                let len = u.int_in_range(1..=64)?;
                file.drain(at..file.len().min(at + len));
            }
            4 => {
                let len = u.int_in_range(1..=16)?;
                let bytes = u.bytes(len)?.to_vec();
                file.splice(at..at, bytes);
            }
            // A digit of a shape or an offset, and the like.
            _ if at < file.len() => file[at] = *u.choose(b"0123456789-[]{}\",:eE.")?,
            _ => {}
        }
    }
    Ok(())
}
