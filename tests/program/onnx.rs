//! ONNX files where a command takes a model. The files are those of `tools/make_onnx.py`.

use super::*;

fn golden(name: &str) -> String {
    format!("{}/tests/golden/onnx/{name}.onnx", env!("CARGO_MANIFEST_DIR"))
}

fn array(folder: &Folder, name: &str, dims: &[usize], values: &[f32]) -> String {
    let path = folder.path(name);
    Tensor::from_slice(Shape::new(dims).unwrap(), values).unwrap().write_npy(&path).unwrap();
    path
}

#[test]
fn run_takes_and_writes_arrays_by_name() {
    let folder = Folder::new();
    let a = format!("a={}", array(&folder, "a.npy", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let b = format!("b={}", array(&folder, "b.npy", &[2, 1], &[10.0, 100.0]));
    let out = folder.path("out");
    let report = json(&["run", "--model", &golden("two_inputs"), "--input", &b, "--input", &a, "--output", &out]);
    let outputs = report["outputs"].as_array().unwrap();
    assert_eq!((outputs[0]["name"].as_str(), outputs[1]["name"].as_str()), (Some("sum"), Some("product")));
    let read = |index: usize| Tensor::<f32>::read_npy(format!("{out}/{index}.npy")).unwrap();
    assert_eq!(read(0).as_slice(), [11.0, 12.0, 13.0, 104.0, 105.0, 106.0]);
    assert_eq!(read(1).as_slice(), [10.0, 20.0, 30.0, 400.0, 500.0, 600.0]);

    let nothing =
        ["a", "b"].map(|name| format!("{name}={}", array(&folder, &format!("no_{name}.npy"), &[0, if name == "a" { 3 } else { 1 }], &[])));
    let report = json(&["run", "--model", &golden("two_inputs"), "--input", &nothing[0], "--input", &nothing[1], "--output", &out]);
    assert_eq!(report["outputs"][1]["shape"], serde_json::json!([0, 3]));
    assert_eq!(read(1).dims(), [0, 3]);

    let missing = fail(&mut program(&["run", "--model", &golden("two_inputs"), "--input", &a, "--output", &out]));
    assert!(missing.contains("`b`") && missing.contains("missing"), "{missing}");
    let nameless = a.replace("a=", "");
    let unknown = fail(&mut program(&["run", "--model", &golden("two_inputs"), "--input", &nameless, "--output", &out]));
    assert!(unknown.contains("a, b") && unknown.contains("NAME=FILE"), "{unknown}");
}

#[test]
fn run_takes_images_of_any_size_and_bench_times_them() {
    let folder = Folder::new();
    let images: Vec<f32> = (0..2 * 3 * 9 * 7).map(|i| (i % 13) as f32 / 6.0 - 1.0).collect();
    let input = array(&folder, "x.npy", &[2, 3, 9, 7], &images);
    let output = folder.path("y.npy");
    let text = succeed(&["run", "--model", &golden("classifier"), "--input", &input, "--output", &output]);
    assert!(text.contains("logits [2, 10]"), "{text}");
    assert_eq!(Tensor::<f32>::read_npy(&output).unwrap().dims(), [2, 10]);
    let size = ["--size", "9x7", "--runs", "2", "--threads", "1"];
    let report = json(&[&["bench", "--model", &golden("classifier")][..], &size].concat());
    assert!(number(&report["results"][0]["median_seconds"]) > 0.0);
    let two = succeed(&["bench", "--model", &golden("two_inputs"), "--runs", "2", "--threads", "1", "--batch", "3"]);
    assert!(two.starts_with(&format!("two_inputs from {}\n", golden("two_inputs"))), "{two}");
    let refused = fail(&mut program(&["profile", "--model", &golden("two_inputs")]));
    assert!(refused.contains("two_inputs: it has 2 inputs and 2 outputs") && !refused.contains("run_"), "{refused}");
    let same = json(&["compare", "--model", &golden("classifier"), "--input", &input, "--reference", &output]);
    assert!(same.is_object());
}

#[test]
fn inspect_shows_inputs_outputs_and_ops_and_the_plan() {
    let text = succeed(&["inspect", "--model", &golden("classifier")]);
    for part in ["opset 17", "image", "[N, 3, H, W]", "logits", "[1, 10]", "GlobalAveragePool", "Every node is supported"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let plan = succeed(&["inspect", "--model", &golden("classifier"), "--plan", "--shape", "image=1x3x20x30"]);
    assert!(plan.contains("n1c3h20w30o8k3s1p1") && plan.contains("relu"), "{plan}");
    let report = json(&["inspect", "--model", &golden("two_inputs")]);
    assert_eq!(report["inputs"][1]["shape"], "[N, 1]");
    assert_eq!(report["outputs"][0]["element_type"], "float32");
}

#[test]
fn every_node_that_is_not_supported_is_listed() {
    let report = json(&["inspect", "--model", &golden("unsupported")]);
    let listed: Vec<&str> = report["unsupported"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    assert_eq!(listed, ["determinant", "places"]);
    let folder = Folder::new();
    let input = array(&folder, "x.npy", &[2, 2], &[0.0; 4]);
    let error = fail(&mut program(&["run", "--model", &golden("unsupported"), "--input", &input, "--output", &folder.path("y.npy")]));
    assert!(error.contains("2 nodes are not supported") && error.contains("Det `determinant`"), "{error}");
    assert!(error.contains("NonZero `places`"), "{error}");
    let arch = fail(&mut program(&["bench", "--model", &golden("classifier"), "--arch", "resnet18"]));
    assert!(arch.contains("--arch") && arch.contains("ONNX"), "{arch}");
}

/// `flattened` is a network of images of 48 numbers and of no others.
#[test]
fn every_command_takes_the_shape_that_a_network_fits() {
    let folder = Folder::new();
    let (model, output) = (golden("flattened"), folder.path("y.npy"));
    let input = array(&folder, "x.npy", &[2, 3, 4, 4], &(0..96).map(|i| i as f32 / 50.0 - 1.0).collect::<Vec<_>>());
    let with = |command: &[&str]| json(&[command, &["--model", &model, "--shape", "image=2x3x4x4"]].concat());
    let fast = ["--threads", "1", "--runs", "3"];
    let bench = with(&[&["bench"][..], &fast].concat());
    assert_eq!((&bench["size"], &bench["results"][0]["batch"]), (&serde_json::json!([4, 4]), &2.into()));
    let profile = with(&[&["profile"][..], &fast].concat());
    assert_eq!((&profile["size"], &profile["batch"]), (&serde_json::json!([4, 4]), &2.into()));
    assert_eq!(with(&[&["tune", "--output", &folder.path("times.txt")][..], &fast].concat())["batch"], 2);
    assert_eq!(with(&["inspect", "--plan"])["input_shape"], serde_json::json!([2, 3, 4, 4]));
    assert_eq!(with(&["inspect"])["outputs"][0]["shape"], "[2, 2]");
    let packed = folder.path("net.swp");
    assert_eq!(with(&["pack", "--output", &packed])["sessions"], 1);
    let shape = ["--shape", "image=2x3x4x4"];
    assert_eq!(json(&[&["bench", "--model", &packed][..], &fast, &shape].concat())["results"][0]["batch"], 2);
    // The array says its own shape.
    succeed(&["run", "--model", &model, "--input", &input, "--output", &output]);
    assert!(with(&["compare", "--input", &input, "--reference", &output])["passed"] == true);

    let misfit = fail(&mut program(&["bench", "--model", &model]));
    assert!(misfit.contains("`fc`"), "{misfit}");
    let named = ["--model", &model, "--input", &input, "--output", &output];
    for (command, says) in [
        (&["run", "--shape", "image=1x3x4x4"][..], "--shape image=…: the shapes are those of the arrays"),
        (&["run", "--batch", "3"], "--batch 3: the arrays of an ONNX file run whole"),
    ] {
        let said = fail(program(command).args(named));
        assert!(said.contains(says), "{said}");
    }
    for more in [["--batch", "3"], ["--size", "4"]] {
        let said = fail(program(&["bench", "--model", &model]).args(shape).args(more));
        assert!(said.contains(more[0]) && said.contains("--shape"), "{said}");
    }
    let packed = folder.path("packed.swp");
    let said = fail(&mut program(&["pack", &golden("classifier"), "-o", &packed, "--batch", "1,3"]));
    assert!(said.contains("--batch") && said.contains("--shape"), "{said}");
    let images = fail(&mut program(&["compare", "--input", &input, "--reference", &output, "--shape", "input=1x3x4x4"]));
    assert!(images.contains("--shape input=…: it is for ONNX files here"), "{images}");
}

#[test]
fn a_shape_stands_for_batch_and_size_of_any_network() {
    let report = json(&["bench", "--shape", "input=2x3x16x24", "--threads", "1", "--runs", "2"]);
    assert_eq!((&report["size"], &report["results"][0]["batch"]), (&serde_json::json!([16, 24]), &2.into()));
    let unknown = fail(&mut program(&["bench", "--shape", "image=2x3x16x24"]));
    assert!(unknown.contains("`image`") && unknown.contains("input"), "{unknown}");
}
