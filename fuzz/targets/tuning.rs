//! A file of measured times, whatever it holds: refused by name, or a network is planned by it.

use std::sync::Arc;
use std::sync::OnceLock;
use stridewise::models::{Cifar, Shortcut};
use stridewise::session::Tuning;
use stridewise::{Arch, Model, SessionOptions, Tensor};

pub fn run(bytes: &[u8]) {
    let file = tempfile::Builder::new().suffix("-fuzzed.tuning").tempfile().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("a temporary file");
    match Tuning::load(file.path()) {
        Ok(tuning) => {
            let options = SessionOptions { tuning: Some(Arc::new(tuning)), ..Default::default() };
            let mut session = network().session(&options).expect("a plan, whatever was measured");
            session.run(&Tensor::zeros(session.input_shape()).expect("a small tensor")).expect("a session that was made");
        }
        Err(error) => assert!(error.to_string().contains("-fuzzed.tuning"), "no file in: {error}"),
    }
}

fn network() -> &'static Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::random(Arch::Cifar(Cifar { blocks: 1, shortcut: Shortcut::Projection }), 0).expect("random weights"))
}
