//! The bytes of an ONNX file, whatever they are: refused by name, or a model that is planned and, where it is small, run.

use stridewise::{Model, OnnxOptions, SessionOptions, Tensor};

/// Most bytes of constants, and of a session.
const MOST: usize = 8 << 20;

pub fn run(bytes: &[u8]) {
    let model = match Model::from_onnx_bytes(bytes, &OnnxOptions { shapes: Vec::new(), max_memory: MOST }) {
        Ok(model) => model,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let Ok(mut session) = model.session(&SessionOptions { max_memory: MOST, ..Default::default() }) else { return };
    assert!(session.memory_required() + session.weight_bytes() <= MOST);
    if session.steps().iter().map(|s| s.macs).fold(0, u64::saturating_add) > 1 << 22 {
        return;
    }
    let input = Tensor::zeros(session.input_shape()).expect("a small tensor");
    // Networks of several inputs or outputs, or of others than f32, have their own ways to run.
    let _ = session.run(&input);
}
