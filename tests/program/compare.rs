//! `compare`: metrics, layers, exit codes and the report.

use super::*;
use std::path::Path;
use stridewise::formats::safetensors::{Precision, save};

/// Model, input, reference and taps that agree, written by the library itself.
fn comparable(folder: &Folder, spoil: Option<(&str, f32)>) -> [String; 4] {
    let model = folder.model();
    let (input, images) = folder.images("x.npy", 2);
    let mut taps = Vec::new();
    let mut session = Model::from_safetensors(None, &model).unwrap().session(&SessionOptions::default()).unwrap();
    let output = session
        .run_with_taps(&images, &mut |name, mut tensor| {
            if let Some((_, by)) = spoil.filter(|(layer, _)| *layer == name) {
                tensor.as_mut_slice()[7] += by;
            }
            taps.push((name.to_string(), tensor));
        })
        .unwrap();
    taps.push(("layer1.0.bn1".into(), images.clone()));
    taps.push(("no.such.layer".into(), images.clone()));
    let (reference, tap_file) = (folder.path("y.npy"), folder.path("taps.safetensors"));
    output.write_npy(&reference).unwrap();
    save(Path::new(&tap_file), &taps, Precision::F32, Default::default()).unwrap();
    [model, input, reference, tap_file]
}

#[test]
fn compare_passes_when_output_and_layers_agree() {
    let folder = Folder::new();
    let [model, input, reference, taps] = comparable(&folder, None);
    let page = folder.path("report.html");
    let arguments = ["compare", "--model", &model, "--input", &input, "--reference", &reference, "--taps", &taps, "--report", &page];
    let report = json(&arguments);
    assert_eq!((&report["passed"], &report["output"]["max_abs"]), (&Value::Bool(true), &0.0.into()));
    assert_eq!(report["output"]["snr_db"], Value::Null, "infinite");
    assert_eq!(report["first_diverging_layer"], Value::Null);
    assert_eq!(report["fused_away"], serde_json::json!(["layer1.0.bn1"]));
    assert_eq!(report["unknown"], serde_json::json!(["no.such.layer"]));
    assert!(report["layers"].as_array().unwrap().len() > 20);
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("within tolerance") && page.contains("<svg") && page.contains("layer3.2.relu_1"));
    let said = succeed(&arguments);
    assert!(
        said.contains("no layer diverges") && said.contains("1 reference fused away") && said.ends_with("within tolerance\n"),
        "{said}"
    );
}

#[test]
fn compare_names_the_first_diverging_layer_and_exits_with_1() {
    let folder = Folder::new();
    let [model, input, reference, taps] = comparable(&folder, Some(("layer2.1.relu", 0.5)));
    let arguments = ["compare", "--model", &model, "--input", &input, "--reference", &reference, "--taps", &taps];
    let output = run(&arguments);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("first diverging layer: layer2.1.relu\n") && said.ends_with("BEYOND TOLERANCE\n"), "{said}");
    let report: Value = serde_json::from_slice(&run(&[&["--json"], &arguments[..]].concat()).stdout).unwrap();
    assert_eq!(report["first_diverging_layer"], "layer2.1.relu");
    assert_eq!((&report["passed"], &report["output"]["passed"]), (&Value::Bool(false), &Value::Bool(true)));
}

#[test]
fn compare_holds_each_element_to_rtol_and_atol() {
    let folder = Folder::new();
    let model = folder.model();
    let (input, images) = folder.images("x.npy", 2);
    let mut values = logits(&model, &images);
    values.as_mut_slice()[3] += 0.01;
    let reference = folder.path("y.npy");
    values.write_npy(&reference).unwrap();
    let base = ["compare", "--model", &model, "--input", &input, "--reference", &reference];
    let code = |more: &[&str]| run(&[&base[..], more].concat()).status.code();
    assert_eq!(code(&[]), Some(1));
    assert_eq!(code(&["--atol", "0.02"]), Some(0));
    assert_eq!(code(&["--atol", "0.005"]), Some(1));
    assert_eq!(code(&["--atol", "0.02", "--max-error", "1e-5"]), Some(1));
    assert_eq!(code(&["--max-error", "10"]), Some(0));
    values.as_mut_slice()[0] = f32::NAN;
    values.write_npy(&reference).unwrap();
    assert_eq!(code(&["--atol", "1e30", "--rtol", "1e30"]), Some(1), "a NaN is beyond any tolerance");
    assert!(fail(program(&base).args(["--rtol", "-1"])).contains("rtol"));
    assert!(fail(&mut program(&["compare", "--model", &model, "--input", &input])).contains("--reference"));
}
