//! Every input that the fuzzers kept, in `fuzz/corpus/`, once more.
#![cfg(all(feature = "bf16", feature = "int8", feature = "vision", feature = "npy", feature = "onnx", feature = "packed"))]

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod targets;

use targets::*;

/// A target's name, and what runs an input.
type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("convolution", convolution::run),
    ("graph", graph::run),
    ("image", image::run),
    ("low_precision_convolution", low_precision_convolution::run),
    ("low_precision_graph", low_precision_graph::run),
    ("npy", npy::run),
    ("onnx", onnx::run),
    ("packed", packed::run),
    ("safetensors", safetensors::run),
    ("tuning", tuning::run),
    ("weights", weights::run),
];

fn replay(target: &str) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in &files {
        run(&std::fs::read(file).unwrap());
    }
    println!("{target}: {} inputs", files.len());
    assert!(!files.is_empty(), "{} is empty", folder.display());
}

#[test]
fn every_target_is_replayed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/targets");
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path().file_stem().unwrap().to_string_lossy().into()).collect();
    names.sort();
    assert!(names.iter().map(String::as_str).eq(TARGETS.iter().map(|(name, _)| *name)), "{names:?}");
}

#[test]
fn inputs_of_convolutions() {
    replay("convolution");
}

#[test]
fn inputs_of_graphs() {
    replay("graph");
}

#[test]
fn inputs_of_convolutions_in_low_precision() {
    replay("low_precision_convolution");
}

#[test]
fn inputs_of_graphs_in_low_precision() {
    replay("low_precision_graph");
}

#[test]
fn inputs_of_images() {
    replay("image");
}

#[test]
fn inputs_of_arrays() {
    replay("npy");
}

#[test]
fn inputs_of_safetensors() {
    replay("safetensors");
}

#[test]
fn inputs_of_mutated_weights() {
    replay("weights");
}

#[test]
fn inputs_of_onnx_files() {
    replay("onnx");
}

#[test]
fn inputs_of_packed_networks() {
    replay("packed");
}

#[test]
fn inputs_of_measured_times() {
    replay("tuning");
}
