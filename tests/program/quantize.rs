//! `quantize`, and what is done with the file that it writes.

use super::*;

fn asset(name: &str) -> String {
    format!("{}/assets/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// The built-in model, calibrated with the sample pictures.
fn quantized(folder: &Folder, more: &[&str]) -> (String, Value) {
    let path = folder.path("net.int8.safetensors");
    let (model, pictures) = (asset("resnet20_cifar10.safetensors"), asset("samples"));
    let report = json(&[&["quantize", "--model", &model, "--calibrate", &pictures, "-o", &path], more].concat());
    (path, report)
}

#[test]
fn quantize_writes_a_network_that_runs_in_every_precision() {
    let folder = Folder::new();
    for method in ["min-max", "percentile:99.99", "entropy", "mse"] {
        let (path, report) = quantized(&folder, &["--method", method]);
        assert_eq!((&report["method"], &report["images"]), (&method.into(), &10.into()));
        assert!(number(&report["top1_agreement"]) >= 0.9 && number(&report["top5_agreement"]) == 1.0, "{report}");
        // Of ten drawings the divergence of distributions says little.
        let least = if method == "entropy" { 3.0 } else { 20.0 };
        assert!(number(&report["sqnr_db"]) > least, "{report}");
        let layers = report["layers"].as_array().unwrap();
        assert!(layers.len() > 20 && layers.iter().all(|l| number(&l["sqnr_db"]) > least && l["lost_db"].is_number()), "{report}");
        assert_eq!(folder.names(), ["net.int8.safetensors"]);
        for precision in ["f32", "bf16", "int8"] {
            let cat = asset("samples/cat.png");
            let said = json(&["classify", "--model", &path, "--precision", precision, &cat]);
            assert!(said.to_string().contains("cat"), "{precision}: {said}");
        }
    }
}

#[test]
fn layers_stay_in_f32_where_that_is_asked_for_or_a_budget_demands_it() {
    let folder = Folder::new();
    let floats = |report: &Value| -> Vec<String> {
        report["floats"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_string()).collect()
    };
    let (path, report) = quantized(&folder, &["--float-ends", "--float", "layer2.0.conv1"]);
    assert_eq!(floats(&report).len(), 3, "{report}");
    let plan = succeed(&["inspect", "--model", &path, "--plan", "--precision", "int8"]);
    assert!(plan.contains("nchw64c-u8"), "{plan}");
    // Nothing that rounds keeps every class of every image within a budget below none.
    let (_, kept) = quantized(&folder, &["--budget", "0"]);
    let changed = 1.0 - number(&kept["top1_agreement"]);
    assert!(changed <= 0.0, "{kept}");

    let (model, pictures) = (asset("resnet20_cifar10.safetensors"), asset("samples"));
    let unknown = fail(&mut program(&["quantize", "--model", &model, "--calibrate", &pictures, "--float", "no.such.layer"]));
    assert!(unknown.contains("no.such.layer") && unknown.contains("layer1.0.conv1"), "{unknown}");
    let empty = fail(&mut program(&["quantize", "--model", &model, "--calibrate", folder.0.path().to_str().unwrap()]));
    assert!(empty.contains("no picture"), "{empty}");
    let nowhere = fail(&mut program(&["quantize", "--calibrate", &pictures, "-o", &folder.path("x.safetensors")]));
    assert!(nowhere.contains("--model"), "{nowhere}");
    let packed = folder.path("net.swp");
    succeed(&["pack", &model, "-o", &packed]);
    let said = fail(&mut program(&["quantize", "--model", &packed, "--calibrate", &pictures]));
    assert!(said.contains(&packed) && said.contains("the file that it was packed from"), "{said}");
    let quantised = format!("{}/tests/golden/quantized/qdq.onnx", env!("CARGO_MANIFEST_DIR"));
    let twice = fail(&mut program(&["quantize", "--model", &quantised, "--calibrate", &pictures]));
    assert!(twice.contains("quantised already"), "{twice}");
}

#[test]
fn compare_holds_a_network_against_itself_in_another_precision() {
    let folder = Folder::new();
    let (path, _) = quantized(&folder, &[]);
    let (input, _) = folder.images("x.npy", 20);
    let base = ["compare", "--model", &path, "--input", &input];
    for (precision, least) in [("int8", 12.0), ("bf16", 30.0)] {
        let arguments = [&base[..], &["--precision", precision, "--against", "f32"]].concat();
        let report = json(&arguments);
        assert_eq!((&report["precision"], &report["against"], &report["images"]), (&precision.into(), &"f32".into(), &20.into()));
        assert!(number(&report["sqnr_db"]) > least && number(&report["top5_agreement"]) >= number(&report["top1_agreement"]), "{report}");
        let layers = report["layers"].as_array().unwrap();
        let lost = report["lost_in"].as_str().unwrap();
        assert!(layers.len() > 20 && layers.iter().any(|l| l["name"] == lost), "{report}");
        let said = succeed(&arguments);
        assert!(said.contains("loses most") && said.contains("among the first five"), "{said}");
    }
    let same = fail(program(&base).args(["--against", "f32"]));
    assert!(same.contains("nothing to compare"), "{same}");
}

#[test]
fn bench_and_its_worker_run_in_any_precision() {
    let folder = Folder::new();
    let (path, _) = quantized(&folder, &[]);
    let report = json(&["bench", "--model", &path, "--threads", "1", "--runs", "2", "--precision", "f32,bf16,int8"]);
    let precisions: Vec<&str> = report["results"].as_array().unwrap().iter().map(|r| r["precision"].as_str().unwrap()).collect();
    assert_eq!(precisions, ["f32", "bf16", "int8"]);
    assert!(report["results"].as_array().unwrap().iter().all(|r| number(&r["percent_of_peak"]) > 0.0), "{report}");
    let (input, images) = folder.images("x.npy", 1);
    let output = folder.path("y.npy");
    let mut worker = program(&["bench-worker", "--model", &path, "--input", &input, "--precision", "int8"]);
    let mut child = worker.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    use std::io::Write;
    child.stdin.take().unwrap().write_all(format!("run 1\noutput {output}\n").as_bytes()).unwrap();
    let said = text(&child.wait_with_output().unwrap().stdout);
    assert!(said.starts_with("ready ") && said.ends_with("ok\n"), "{said}");
    let found = Tensor::<f32>::read_npy(&output).unwrap();
    assert!(found.as_slice() != logits(&path, &images).as_slice(), "in bytes the logits are others than in f32");
}
