//! Each command does what its help says.

use super::*;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use stridewise::{Arch, Isa};
use stridewise_kernels::KernelTable;

#[test]
fn every_command_has_help() {
    for command in ["classify", "run", "compare", "bench", "profile", "inspect", "init", "isa", "evaluate", "bench-worker"] {
        let help = succeed(&[command, "--help"]);
        assert!(help.contains("Usage: stridewise") && help.contains(command), "{help}");
        assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
    }
    assert!(succeed(&["--help"]).contains("Exit codes"));
    assert!(succeed(&["--version"]).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn classify_ranks_classes_and_times_each_picture() {
    let folder = Folder::new();
    let pictures = [folder.picture("blue.png", [90, 140, 220]), folder.picture("green.jpg", [60, 160, 70])];
    let table = succeed(&["classify", &pictures[0], &pictures[1], "--top", "3"]);
    assert!(pictures.iter().all(|p| table.contains(p.as_str())), "{table}");
    assert!(table.contains("built-in resnet20-cifar10") && table.contains("inference") && table.contains('█'), "{table}");
    let report = json(&["classify", &pictures[0], &pictures[1], "--top", "10", "--threads", "1"]);
    assert_eq!(report["threads"], 1);
    for image in report["images"].as_array().unwrap() {
        let predictions = image["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), 10);
        let probabilities: Vec<f64> = predictions.iter().map(|p| number(&p["probability"])).collect();
        assert!(probabilities.is_sorted_by(|a, b| a >= b), "{probabilities:?}");
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(predictions.iter().all(|p| p["label"].is_string()));
        assert!(number(&image["inference_seconds"]) > 0.0);
    }
}

#[test]
fn classify_names_a_bad_picture_and_still_shows_the_others() {
    let folder = Folder::new();
    let good = folder.picture("good.png", [200, 30, 30]);
    let bad = folder.write("bad.png", b"\x89PNG\r\n\x1a\nand then nothing");
    let output = run(&["--json", "classify", &bad, &good]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("bad.png"), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["images"][0]["error"].as_str().unwrap().contains("bad.png"));
    assert!(report["images"][1]["predictions"].is_array());
}

#[test]
fn run_writes_what_the_library_computes_whatever_the_batch() {
    let folder = Folder::new();
    let model = folder.model();
    let (input, images) = folder.images("x.npy", 5);
    let expected = logits(&model, &images);
    for batch in ["1", "3", "32"] {
        let output = folder.path("y.npy");
        let report = json(&["run", "--model", &model, "--input", &input, "--output", &output, "--batch", batch, "--threads", "2"]);
        assert_eq!(report["output_shape"], serde_json::json!([5, 10]));
        assert_eq!(Tensor::<f32>::read_npy(&output).unwrap(), expected, "batch {batch}");
    }
    let said = succeed(&["run", "--model", &model, "--input", &input, "--output", &folder.path("y.npy")]);
    assert!(said.contains("[5, 3, 32, 32] -> [5, 10]"), "{said}");
}

#[test]
fn run_normalises_bytes_as_the_model_wants_it() {
    let folder = Folder::new();
    let bytes: Vec<u8> = (0..2 * 3 * 32 * 32).map(|i| (i * 31 % 256) as u8).collect();
    let pixels = Tensor::from_slice(Shape::new(&[2, 3, 32, 32]).unwrap(), &bytes).unwrap();
    let (input, output) = (folder.path("x.npy"), folder.path("y.npy"));
    pixels.write_npy(&input).unwrap();
    succeed(&["run", "--input", &input, "--output", &output]);
    let model = Model::builtin().unwrap();
    let images = model.preprocessing().normalise_u8(pixels.view()).unwrap();
    let expected = model.session(&SessionOptions::default()).unwrap().run(&images).unwrap();
    assert_eq!(Tensor::<f32>::read_npy(&output).unwrap(), expected);
}

#[test]
fn bench_measures_every_combination() {
    let report = json(&["bench", "--arch", "resnet20-cifar10", "--threads", "1,2", "--batch", "1,3", "--runs", "4"]);
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    for result in results {
        assert_eq!(result["runs"], 4);
        let times: Vec<f64> =
            ["min", "median", "p95", "p99", "max"].iter().map(|q| number(&result[format!("{q}_seconds").as_str()])).collect();
        assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
        let flops = 2.0 * number(&result["macs"]) / times[1] / 1e9;
        assert!((number(&result["gflops"]) / flops - 1.0).abs() < 1e-9);
        assert!(number(&result["percent_of_peak"]) > 0.0);
    }
    assert_eq!(number(&results[3]["macs"]), 3.0 * number(&results[0]["macs"]));
    let table = succeed(&["bench", "--isa", "portable", "--seconds", "0.05", "--size", "40x32"]);
    assert!(table.contains("portable") && table.contains("40x32") && table.contains("GFLOP/s"), "{table}");
}

#[test]
fn inspect_counts_resnet50() {
    let report = json(&["inspect", "--arch", "resnet50"]);
    assert_eq!(report["parameters"], 25_557_032);
    assert_eq!(report["convolutions"], 53);
    assert_eq!(report["macs"], 4_089_184_256u64);
    assert_eq!(report["output_shape"], serde_json::json!([1, 1000]));
    let layers = report["layers"].as_array().unwrap();
    let sum: f64 = layers.iter().map(|layer| number(&layer["parameters"])).sum();
    assert_eq!(sum, 25_557_032.0);
    let said = succeed(&["inspect", "--arch", "resnet50"]);
    assert!(
        said.starts_with("ResNet(\n  (conv1): Conv2d(3, 64, kernel_size=(7, 7), stride=(2, 2), padding=(3, 3), bias=False)\n"),
        "{said}"
    );
    assert!(said.contains("25,557,032 parameters (102.2 MB as float32), 53 convolutions, 4.09 GMAC"), "{said}");
    let tree = succeed(&["inspect", "--arch", "resnet50", "--tree"]);
    assert_eq!(tree.matches("Bottleneck(").count(), 16);
    assert!(tree.ends_with("(fc): Linear(in_features=2048, out_features=1000, bias=True)\n)\n"), "{tree}");
}

#[test]
fn inspect_reads_files_and_shows_plans() {
    let folder = Folder::new();
    let path = folder.path("w.safetensors");
    succeed(&["init", "--arch", "resnet18", "--classes", "7", "-o", &path]);
    let report = json(&["inspect", "--model", &path, "--batch", "2", "--size", "64x96"]);
    assert_eq!((&report["arch"], &report["output_shape"]), (&"resnet18".into(), &serde_json::json!([2, 7])));
    assert_eq!(report["input_shape"], serde_json::json!([2, 3, 64, 96]));
    let plan = json(&["inspect", "--arch", "resnet50", "--plan"]);
    assert_eq!((&plan["convolutions"], &plan["macs"]), (&53.into(), &4_089_184_256u64.into()));
    assert!(succeed(&["inspect", "--plan"]).contains("n1c3h32w32o16k3s1p1"));
}

#[test]
fn init_writes_the_same_file_for_the_same_seed() {
    let folder = Folder::new();
    let write = |name: &str, more: &[&str]| {
        let path = folder.path(name);
        let report = json(&[&["init", "--arch", "plain20-cifar10", "-o", &path], more].concat());
        assert_eq!(report["bytes"], std::fs::metadata(&path).unwrap().len());
        (std::fs::read(&path).unwrap(), path)
    };
    let (first, path) = write("a", &["--seed", "5"]);
    // Not `assert_eq`, which would print the files.
    assert!(write("b", &["--seed", "5"]).0 == first);
    assert!(write("c", &["--seed", "6"]).0 != first);
    let (half, half_path) = write("d", &["--seed", "5", "--dtype", "f16"]);
    assert!(half.len() < first.len() * 6 / 10);
    assert!(write("e", &["--seed", "5", "--dtype", "bf16"]).0.len() < first.len() * 6 / 10);
    for path in [path, half_path] {
        assert_eq!(Model::from_safetensors(None, path).unwrap().arch(), Some(Arch::Plain20Cifar));
    }
}

#[test]
fn isa_lists_what_is_here() {
    let report = json(&["isa"]);
    let isas = report["isas"].as_array().unwrap();
    for isa in isas {
        let here = isa["available"].as_bool().unwrap();
        assert_eq!(isa["peak_gflops"].is_number(), here);
        assert_eq!(isa["kernels"].as_array().unwrap().is_empty(), !here);
    }
    let best = isas.iter().find(|isa| isa["name"] == report["best"]).unwrap();
    assert_eq!(best["available"], true);
    let said = succeed(&["isa", "--kernels"]);
    assert!(said.contains("used"), "{said}");
    let kernels = KernelTable::get(Isa::Portable).unwrap().kernels();
    assert!(kernels.iter().all(|kernel| said.contains(&kernel.name)), "{said}");
    let capped = program(&["isa", "--json"]).env("STRIDEWISE_ISA", "portable").output().unwrap();
    let capped: Value = serde_json::from_slice(&capped.stdout).unwrap();
    assert_eq!((&capped["best"], &capped["stridewise_isa"]), (&"portable".into(), &"portable".into()));
    let empty = program(&["isa", "--json"]).env("STRIDEWISE_ISA", "").output().unwrap();
    let empty: Value = serde_json::from_slice(&empty.stdout).unwrap();
    assert_eq!((&empty["best"], &empty["stridewise_isa"]), (&Isa::available().last().unwrap().name().into(), &Value::Null));
}

#[test]
fn evaluate_counts_what_the_library_gets_right() {
    let folder = Folder::new();
    let model = folder.model();
    let (input, images) = folder.images("x.npy", 7);
    let logits = logits(&model, &images);
    let order = |row: &[f32]| {
        let mut classes: Vec<usize> = (0..row.len()).collect();
        classes.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
        classes
    };
    // The first three images get their best class, the next two their fifth, the others their worst.
    let ranks = [0, 0, 0, 4, 4, 9, 9];
    let labels: Vec<u8> = logits.as_slice().chunks(10).zip(ranks).map(|(row, rank)| order(row)[rank] as u8).collect();
    let label_file = folder.path("labels.npy");
    Tensor::from_slice(Shape::new(&[7]).unwrap(), &labels).unwrap().write_npy(&label_file).unwrap();
    let base = ["evaluate", "--model", &model, "--images", &input, "--labels", &label_file];
    let report = json(&[&base[..], &["--batch", "3"]].concat());
    assert_eq!((&report["top1_right"], &report["top5_right"], &report["images"]), (&3.into(), &5.into(), &7.into()));
    assert!(succeed(&base).contains("top-1  42.86 %  (3 of 7)"));
    // What NumPy makes of integers on some systems.
    let labels: Vec<i32> = labels.into_iter().map(i32::from).collect();
    Tensor::from_slice(Shape::new(&[7]).unwrap(), &labels).unwrap().write_npy(&label_file).unwrap();
    assert!(succeed(&base).contains("top-1  42.86 %  (3 of 7)"));
    Tensor::from_slice(Shape::new(&[7]).unwrap(), &[0i64, 1, 2, 3, 10, 5, 6]).unwrap().write_npy(&label_file).unwrap();
    assert!(fail(&mut program(&base)).contains("label 4 is 10; the network has classes 0 to 9"));
    Tensor::from_slice(Shape::new(&[6]).unwrap(), &[0u8; 6]).unwrap().write_npy(&label_file).unwrap();
    assert!(fail(&mut program(&base)).contains("expected shape [7]"));
    Tensor::from_slice(Shape::new(&[7]).unwrap(), &[0f32; 7]).unwrap().write_npy(&label_file).unwrap();
    assert!(fail(&mut program(&base)).contains("found float32"));
}

#[test]
fn bench_worker_speaks_the_protocol() {
    let folder = Folder::new();
    let model = folder.model();
    let (input, images) = folder.images("x.npy", 3);
    let mut child = program(&["bench-worker", "--model", &model, "--input", &input, "--threads", "2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut requests, mut answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let mut answer = || {
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "{line:?}");
        line.trim_end().to_string()
    };
    let ready: Value = serde_json::from_str(answer().strip_prefix("ready ").unwrap()).unwrap();
    assert!(number(&ready["load_s"]) > 0.0 && ready["version"].as_str().unwrap().starts_with("stridewise "));
    for runs in [1, 5, 0] {
        writeln!(requests, "run {runs}").unwrap();
        let times: Value = serde_json::from_str(&answer()).unwrap();
        let times = times["seconds"].as_array().unwrap();
        assert_eq!(times.len(), runs);
        assert!(times.iter().all(|t| number(t) > 0.0));
    }
    let output = folder.path("a name with blanks.npy");
    writeln!(requests, "output {output}").unwrap();
    assert_eq!(answer(), "ok");
    assert_eq!(Tensor::<f32>::read_npy(&output).unwrap(), logits(&model, &images));
    drop(requests);
    let rest = child.wait_with_output().unwrap();
    assert_eq!((rest.status.code(), text(&rest.stderr)), (Some(0), String::new()));
}

#[test]
fn sample_pictures_are_what_they_show() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/samples");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&samples).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "png"));
    assert!(!files.is_empty(), "{} has no pictures", samples.display());
    for file in files {
        let report = json(&["classify", file.to_str().unwrap()]);
        let shown = file.file_stem().unwrap().to_str().unwrap();
        assert_eq!(report["images"][0]["predictions"][0]["label"], shown, "{report}");
    }
}
