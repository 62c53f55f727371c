//! What a second session of a model costs. A binary of its own, with one test: it measures the whole process.
#![cfg(target_os = "linux")]

use stridewise::{Arch, Model, SessionOptions, Tensor};

/// Bytes of memory that this process holds and no file does.
fn anonymous() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn a_second_session_adds_less_than_a_quarter_of_the_memory_of_the_first() {
    let model = Model::random(Arch::ResNet50, 0).unwrap();
    let session = || {
        let before = anonymous();
        let mut session = model.session(&SessionOptions::default()).unwrap();
        session.run(&Tensor::zeros(session.input_shape()).unwrap()).unwrap();
        (anonymous().saturating_sub(before), session)
    };
    let (first, one) = session();
    let (second, two) = session();
    println!("first session {first} bytes, second {second}; packed weights {}, activations {}", one.weight_bytes(), two.memory_required());
    assert!(first > one.weight_bytes(), "the first session took {first} bytes");
    assert!(second < first / 4, "the second session took {second} bytes, the first {first}");
}
