//! Bad input gets one message that names the offender, exit code 2, and no partial effect.

use super::*;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use stridewise::graph::{Activation, Dim, Graph, Op, TensorOp};

fn zeros(dims: &[usize]) -> Tensor<f32> {
    Tensor::zeros(Shape::new(dims).unwrap()).unwrap()
}

#[test]
fn bench_worker_refuses_unknown_requests() {
    let folder = Folder::new();
    let model = folder.model();
    let (input, _) = folder.images("x.npy", 1);
    for request in ["stop", "run many", "run 99999999999999999999", "output /no/such/folder/y.npy"] {
        let mut child = program(&["bench-worker", "--model", &model, "--input", &input])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{request}").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{request}");
        assert!(text(&output.stderr).starts_with("error: "), "{request}");
        assert_eq!(text(&output.stdout).lines().count(), 1, "{request}: only the ready line");
    }
}

#[test]
fn bad_models_are_refused_by_name() {
    let folder = Folder::new();
    let model = folder.model();
    let bytes = std::fs::read(&model).unwrap();
    let cut = folder.write("cut.safetensors", &bytes[..bytes.len() - 100]);
    let header = folder.write("header.safetensors", &bytes[..20]);
    let lying = folder.write("lying.safetensors", &[&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    let empty = folder.write("empty.safetensors", b"");
    let pickle = folder.write("resnet50.pth", b"PK\x03\x04archive");
    let missing = folder.path("missing.safetensors");
    let directory = folder.path(".");
    for (path, says) in [
        (&cut, "cut.safetensors"),
        (&header, "header.safetensors"),
        (&lying, "lying.safetensors"),
        (&empty, "empty"),
        (&pickle, "torch.load"),
        (&missing, "missing.safetensors"),
        (&directory, "not a regular file"),
    ] {
        let said = fail(&mut program(&["inspect", "--model", path]));
        assert!(said.contains(says), "{path}: {said}");
    }
    let said = fail(&mut program(&["inspect", "--model", &model, "--arch", "resnet50"]));
    assert!(
        said.contains("do not fit resnet50") && said.contains("missing     layer4.2.conv3.weight: expected [2048, 512, 1, 1]"),
        "{said}"
    );
}

#[test]
fn bad_arrays_are_refused_by_name() {
    let folder = Folder::new();
    let output = folder.path("y.npy");
    let shape = |dims: &[usize]| Shape::new(dims).unwrap();
    let save = |name: &str, dims: &[usize]| {
        let path = folder.path(name);
        Tensor::<f32>::zeros(shape(dims)).unwrap().write_npy(&path).unwrap();
        path
    };
    let grey = save("grey.npy", &[2, 1, 32, 32]);
    let flat = save("flat.npy", &[2, 3072]);
    let double = folder.path("double.npy");
    Tensor::<f64>::zeros(shape(&[1, 3, 32, 32])).unwrap().write_npy(&double).unwrap();
    let bytes = std::fs::read(&grey).unwrap();
    let cut = folder.write("cut.npy", &bytes[..bytes.len() - 4]);
    let header = |dims: &str| {
        let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {dims}, }}");
        while (10 + text.len() + 1) % 64 != 0 {
            text.push(' ');
        }
        text.push('\n');
        [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
    };
    let zero = folder.write("zero.npy", &header("(0, 3, 32, 32)"));
    let huge = folder.write("huge.npy", &header("(4000000000, 3, 4000000, 4000000)"));
    let other = folder.write("other.npy", b"no array at all");
    for (path, says) in [
        (&grey, "expected shape [N, 3, H, W], found [2, 1, 32, 32]"),
        (&flat, "found [2, 3072]"),
        (&double, "found float64"),
        (&cut, "cut.npy"),
        (&zero, "zero.npy"),
        (&huge, "huge.npy"),
        (&other, "other.npy"),
        (&folder.path("absent.npy"), "absent.npy"),
    ] {
        let said = fail(&mut program(&["run", "--input", path, "--output", &output]));
        assert!(said.contains(says), "{path}: {said}");
    }
    assert!(!Path::new(&output).exists());
}

#[test]
fn bad_pictures_are_refused_by_name() {
    let folder = Folder::new();
    let good = std::fs::read(folder.picture("good.png", [1, 2, 3])).unwrap();
    let cut = folder.write("cut.png", &good[..good.len() / 2]);
    let words = folder.write("words.jpg", b"a thousand words");
    for (path, says) in [(cut, "cut.png"), (words, "words.jpg"), (folder.path("absent.png"), "absent.png"), (folder.path("."), "")] {
        let output = run(&["classify", &path]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.starts_with("error: ") && said.contains(says) && !said.contains("panicked"), "{path}: {said}");
    }
}

#[test]
fn outputs_that_cannot_be_written_leave_nothing_behind() {
    let folder = Folder::new();
    let model = folder.model();
    let (input, images) = folder.images("x.npy", 1);
    let reference = folder.path("y.npy");
    logits(&model, &images).write_npy(&reference).unwrap();
    let before = folder.names();
    let nowhere = folder.path("no/such/folder/file");
    let itself = folder.path(".");
    for output in [&nowhere, &itself] {
        fail(&mut program(&["run", "--model", &model, "--input", &input, "--output", output]));
        fail(&mut program(&["init", "--arch", "resnet20-cifar10", "-o", output]));
        fail(&mut program(&["compare", "--model", &model, "--input", &input, "--reference", &reference, "--report", output]));
    }
    assert_eq!(folder.names(), before);
    if Path::new("/dev/full").exists() {
        let said = fail(&mut program(&["run", "--model", &model, "--input", &input, "--output", "/dev/full"]));
        assert!(said.contains("/dev/full"), "{said}");
    }
}

#[test]
fn bad_arguments_are_refused_by_name() {
    let folder = Folder::new();
    let (input, _) = folder.images("x.npy", 1);
    let output = folder.path("y.npy");
    let base = ["run", "--input", &input, "--output", &output];
    for (more, says) in [
        (&["--isa", "sse9"][..], "unknown instruction set `sse9`"),
        (&["--threads", "0"], "threads"),
        (&["--threads", "100000"], "threads"),
        (&["--arch", "resnet51"], "resnet51"),
        (&["--arch", "resnet50"], "--random SEED"),
        (&["--random", "3"], "--arch"),
        (&["--batch", "0"], "--batch"),
        (&["--no-such-option"], "--no-such-option"),
    ] {
        let said = fail(program(&base).args(more));
        assert!(said.contains(says), "{more:?}: {said}");
    }
    let absent = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    for (name, says) in [("mmx", "unknown instruction set `mmx`"), (absent, "not available here")] {
        let said = fail(program(&base).env("STRIDEWISE_ISA", name));
        assert!(said.contains("STRIDEWISE_ISA: ") && said.contains(says), "{said}");
    }
    assert!(fail(program(&base).args(["--isa", absent])).contains("not available here"));
    assert!(fail(&mut program(&["bench", "--size", "0x3"])).contains("--size"));
    assert!(fail(&mut program(&["bench", "--seconds", "nan"])).contains("--seconds"));
    assert!(fail(&mut program(&["bench", "--batch", "1,0"])).contains("--batch"));
    // What would not be read is refused.
    for more in [["--threads", "1"], ["--isa", "portable"], ["--numerics", "exact"], ["--precision", "f32"], ["--tuning", "x"]] {
        let said = fail(program(&["inspect"]).args(more));
        assert!(said.contains("--plan") && said.contains("required"), "{more:?}: {said}");
    }
    assert!(fail(&mut program(&["inspect", "--shape", "foo=1x2"])).contains("--shape foo"));
    let onnx = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/onnx/residual.onnx");
    for more in [&["--size", "32"][..], &["--batch", "1"], &["--tree"], &["--table"]] {
        let said = fail(program(&["inspect", "--model", onnx]).args(more));
        assert!(said.contains(more[0]), "{more:?}: {said}");
    }
    assert!(fail(&mut program(&["inspect", "--arch", "resnet50", "--size", "4000000000"])).contains("4000000000"));
    assert!(fail(&mut program(&["init", "--arch", "resnet18", "--classes", "0", "-o", &output])).contains("0 classes"));
    assert!(!Path::new(&output).exists());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = program(&["inspect", "--arch", "resnet50"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    // Nor does it make one good: what was found, or could not be read, is still told.
    let mut child = program(&["classify", "nowhere.png"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.code() == Some(2) && text(&output.stderr).starts_with("error: "), "{output:?}");
}

/// Outputs that are not one part for each image, of a packed network that anyone may have made.
#[test]
fn networks_whose_outputs_are_no_images_are_refused() {
    let folder = Folder::new();
    let (model, input, labels, output) = (folder.path("t.swp"), folder.path("x.npy"), folder.path("l.npy"), folder.path("y.npy"));
    let mut graph = Graph::without_inputs("transposed");
    let x = graph.add_input("x", [3, 4, 5, 5].map(Dim::Fixed).to_vec()).unwrap();
    let mean = graph.add("mean", Op::GlobalAveragePool, &[x]).unwrap();
    let flat = graph.add("flat", Op::Flatten, &[mean]).unwrap();
    let gemm = Op::Gemm { weight: zeros(&[10, 4]).into(), bias: None, activation: Activation::None };
    let logits = graph.add("logits", gemm, &[flat]).unwrap();
    let last = graph.add("transposed", Op::Tensor(TensorOp::Transpose(vec![1, 0])), &[logits]).unwrap();
    graph.set_outputs(&[last]);
    let network = Model::from_graph(graph).unwrap();
    network.session(&SessionOptions::default()).unwrap();
    network.save_packed(&model).unwrap();
    zeros(&[3, 4, 5, 5]).write_npy(&input).unwrap();
    zeros(&[3]).write_npy(&labels).unwrap();
    for command in [["run", "--input", &input, "--output", &output], ["evaluate", "--images", &input, "--labels", &labels]] {
        let said = fail(program(&command).args(["--model", &model]));
        assert!(said.contains("output") && said.contains("[10, 3]"), "{said}");
    }
    assert!(!Path::new(&output).exists());
}

#[cfg(unix)]
#[test]
fn paths_that_are_no_text_are_printed_as_json_all_the_same() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let path = Path::new(&folder.path("o")).with_file_name(std::ffi::OsStr::from_bytes(b"o\xff.safetensors"));
    let output = program(&["--json", "init", "--arch", "resnet20-cifar10", "-o"]).arg(&path).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["output"].as_str().unwrap(), path.to_string_lossy());
}

#[test]
fn a_stdout_that_is_full_is_an_error() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("skipped: this system has no /dev/full");
        return;
    };
    let output = program(&["inspect"]).stdout(Stdio::from(full)).stderr(Stdio::piped()).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("error: stdout: "), "{said}");
}

#[cfg(unix)]
#[test]
fn pipes_and_devices_are_no_models_and_no_arrays() {
    let folder = Folder::new();
    let pipe = folder.path("pipe.safetensors");
    if !Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: mkfifo does not run here");
        return;
    }
    for path in [pipe.as_str(), "/dev/zero", "/dev/null"] {
        let said = fail(&mut program(&["inspect", "--model", path]));
        assert!(said.contains("not a regular file"), "{path}: {said}");
        let said = fail(&mut program(&["run", "--input", path, "--output", &folder.path("y.npy")]));
        assert!(said.contains("not a regular file"), "{path}: {said}");
    }
}
