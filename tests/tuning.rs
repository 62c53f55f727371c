//! Measured choices of algorithms: what is measured, what a plan makes of it, and files that are damaged or lie.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stridewise::models::{Block, ResNet};
use stridewise::session::{StepInfo, Tuning};
use stridewise::{Arch, Error, Model, Numerics, SessionOptions, Shape, Tensor};
use stridewise_kernels::processor;

/// A grouped ResNet: stem, 1x1, grouped 3x3 and linear layers.
fn resnext() -> Model {
    Model::random(Arch::ResNet(ResNet::new(Block::Bottleneck, [1, 1, 1, 1]).with_groups(32, 4)), 1).unwrap()
}

fn cifar() -> Model {
    Model::random(Arch::ResNet20Cifar, 1).unwrap()
}

fn options(tuning: Option<&Tuning>, numerics: Numerics, threads: usize) -> SessionOptions {
    SessionOptions { threads: threads.into(), numerics, size: Some([32, 32]), tuning: tuning.cloned().map(Arc::new), ..Default::default() }
}

fn tuned(model: &Model, numerics: Numerics) -> Tuning {
    let mut tuning = Tuning::default();
    model.tune(&options(None, numerics, 1), 1, &mut tuning, &mut |_, _| {}).unwrap();
    tuning
}

fn steps(model: &Model, tuning: Option<&Tuning>, numerics: Numerics, threads: usize) -> Vec<StepInfo> {
    let session = model.session(&options(tuning, numerics, threads)).unwrap();
    let steps = session.steps();
    assert_eq!(session.explain().contains("tuned"), steps.iter().any(is_tuned));
    steps
}

fn is_tuned(step: &StepInfo) -> bool {
    step.reason.starts_with("tuned: ")
}

#[test]
fn every_algorithm_of_every_convolution_is_measured_once() {
    for model in [resnext(), cifar()] {
        let mut tuning = Tuning::default();
        let mut told = Vec::new();
        let problems = model.tune(&options(None, Numerics::Fast, 1), 7, &mut tuning, &mut |done, total| told.push((done, total))).unwrap();
        let convolutions: HashSet<String> = steps(&model, None, Numerics::Fast, 1).into_iter().map(|s| s.problem).collect();
        assert!(!problems.is_empty() && problems.len() == tuning.len());
        for p in &problems {
            assert!(convolutions.contains(&p.problem) && p.seconds.len() > 1 && !p.known, "{p:?}");
            assert!(p.seconds.iter().all(|(_, s)| *s > 0.0) && p.seconds.is_sorted_by(|a, b| a.1 <= b.1), "{p:?}");
            assert!(p.fastest == p.seconds[0].0 && p.seconds.iter().any(|(a, _)| *a == p.by_rule), "{p:?}");
        }
        let total = told[0].1;
        assert!(total.is_multiple_of(7) && told.is_sorted() && told.last() == Some(&(total, total)), "{told:?}");
        let before = tuning.clone();
        let again = model.tune(&options(None, Numerics::Fast, 1), 7, &mut tuning, &mut |_, _| panic!("measured twice")).unwrap();
        assert!(again.iter().all(|p| p.known) && again.len() == problems.len() && tuning == before);
    }
    let grouped = resnext().tune(&options(None, Numerics::Fast, 1), 1, &mut Tuning::default(), &mut |_, _| {}).unwrap();
    assert!(grouped.iter().any(|p| p.seconds.iter().any(|(a, _)| *a == "grouped")), "{grouped:?}");
}

#[test]
fn a_plan_follows_the_table_and_says_so() {
    let model = cifar();
    let table = tuned(&model, Numerics::Fast);
    let problems = model.tune(&options(None, Numerics::Fast, 1), 1, &mut table.clone(), &mut |_, _| {}).unwrap();
    // The table turned around: what was slowest is now fastest, whatever this machine measured.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuning.txt");
    let mut lines = vec!["stridewise tuning 1".to_string(), format!("processor {}", processor())];
    let isa = model.session(&options(None, Numerics::Fast, 1)).unwrap().isa();
    for p in &problems {
        let layout = if p.problem.contains("c3h") { "nchw" } else { "nchw16c" };
        let ranks = p.seconds.iter().rev().enumerate().map(|(rank, (name, _))| format!("\t{name}\t{}", rank + 1));
        lines.push(format!("{isa} 1 {layout} {}{}", p.problem, ranks.collect::<String>()));
    }
    std::fs::write(&path, lines.join("\n")).unwrap();
    let reversed = Tuning::load(&path).unwrap();
    for (table, rank) in [(&table, 0), (&reversed, usize::MAX)] {
        let planned = steps(&model, Some(table), Numerics::Fast, 1);
        for p in &problems {
            let expected = p.seconds[rank.min(p.seconds.len() - 1)].0;
            let of_problem: Vec<_> = planned.iter().filter(|s| s.problem == p.problem).collect();
            assert!(of_problem.iter().all(|s| is_tuned(s) && s.algorithm == expected), "{p:?}: {of_problem:?}");
        }
        // Runs, and gives the logits of the untuned network but for rounding.
        let mut x = Tensor::zeros(Shape::new(&[1, 3, 32, 32]).unwrap()).unwrap();
        x.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 17) as f32 / 8.0 - 1.0);
        let run = |tuning| model.session(&options(tuning, Numerics::Fast, 1)).unwrap().run(&x).unwrap();
        let (found, expected) = (run(Some(table)), run(None));
        let scale = expected.as_slice().iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(found.as_slice().iter().zip(expected.as_slice()).all(|(a, b)| (a - b).abs() <= 1e-5 * scale));
    }
}

#[test]
fn what_was_not_measured_is_chosen_by_shape() {
    let model = cifar();
    let by_shape = |numerics, threads| steps(&model, None, numerics, threads).iter().map(|s| s.algorithm).collect::<Vec<_>>();
    let table = tuned(&model, Numerics::Exact);
    let same = |tuning: &Tuning, numerics, threads| {
        let planned = steps(&model, Some(tuning), numerics, threads);
        !planned.iter().any(is_tuned) && planned.iter().map(|s| s.algorithm).eq(by_shape(numerics, threads))
    };
    assert!(steps(&model, Some(&table), Numerics::Exact, 1).iter().any(is_tuned));
    assert!(same(&table, Numerics::Exact, 2), "other threads");
    // The network's 3x3 convolutions of stride 1 have Winograd in Fast, which Exact did not measure.
    let fast = steps(&model, Some(&table), Numerics::Fast, 1);
    let has_winograd = |s: &StepInfo| s.problem.contains("k3s1") && s.name != "conv1";
    assert!(fast.iter().all(|s| is_tuned(s) != has_winograd(s) || s.problem.is_empty()), "{fast:?}");
    assert!(same(&Tuning::default(), Numerics::Fast, 1));
    let elsewhere = text(&table).replace(processor(), "some other processor");
    let (_folder, path) = file(elsewhere.as_bytes());
    let other = Tuning::load(&path).unwrap();
    assert!(other.is_empty() && same(&other, Numerics::Exact, 1));
    // And exact sums take no Winograd from a table that has it.
    let exact = steps(&model, Some(&tuned(&model, Numerics::Fast)), Numerics::Exact, 1);
    assert!(exact.iter().any(is_tuned) && exact.iter().all(|s| !s.algorithm.starts_with("winograd")));
}

#[test]
fn exact_sums_have_the_same_bits_with_any_table() {
    let model = resnext();
    let mut x = Tensor::zeros(Shape::new(&[1, 3, 32, 32]).unwrap()).unwrap();
    x.as_mut_slice().iter_mut().enumerate().for_each(|(i, v)| *v = (i % 17) as f32 / 8.0 - 1.0);
    let bits = |tuning: Option<&Tuning>| -> Vec<u32> {
        let mut session = model.session(&options(tuning, Numerics::Exact, 1)).unwrap();
        session.run(&x).unwrap().as_slice().iter().map(|v| v.to_bits()).collect()
    };
    let expected = bits(None);
    let measured = tuned(&model, Numerics::Exact);
    assert_eq!(bits(Some(&measured)), expected);
    // One algorithm after the other is made the fastest.
    let text = text(&measured);
    for favourite in ["direct", "grouped", "im2col+gemm"] {
        let line = |line: &str| {
            let mut fields: Vec<String> = line.split('\t').map(String::from).collect();
            for index in (1..fields.len()).step_by(2) {
                let favoured = fields[index] == favourite;
                fields[index + 1] = if favoured { "1".into() } else { "2".into() };
            }
            fields.join("\t")
        };
        let lines: Vec<String> = text.lines().map(line).collect();
        let (_folder, path) = file(lines.join("\n").as_bytes());
        let table = Tuning::load(&path).unwrap();
        let count = steps(&model, Some(&table), Numerics::Exact, 1).iter().filter(|s| is_tuned(s) && s.algorithm == favourite).count();
        assert!(count > 0, "{favourite}");
        assert_eq!(bits(Some(&table)), expected, "{favourite}");
    }
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tuning.txt");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn saved(tuning: &Tuning) -> (tempfile::TempDir, PathBuf) {
    let (folder, path) = file(b"");
    tuning.save(&path).unwrap();
    (folder, path)
}

fn text(tuning: &Tuning) -> String {
    let (_folder, path) = saved(tuning);
    std::fs::read_to_string(path).unwrap()
}

fn refused(path: &Path) -> String {
    let error = Tuning::load(path).unwrap_err();
    assert!(matches!(&error, Error::Format { path: p, .. } if p == path), "{error}");
    error.to_string()
}

#[test]
fn files_keep_the_table() {
    let table = tuned(&cifar(), Numerics::Fast);
    let (_folder, path) = saved(&table);
    let read = Tuning::load(&path).unwrap();
    assert_eq!((read.len(), read.is_empty()), (table.len(), false));
    // Times are written in microseconds, so that a digit may be lost once, and not again.
    let (_folder, again) = saved(&read);
    assert_eq!(Tuning::load(&again).unwrap(), read);
    let missing = path.with_file_name("missing.txt");
    assert!(matches!(Tuning::load(&missing).unwrap_err(), Error::Io { path: p, .. } if p == missing));
}

#[test]
fn a_bad_line_is_named() {
    let good = "avx2 1 nchw16c n1c16h8w8o16k3s1p1\tdirect\t12.5\twinograd F(4x4,3x3)\t9";
    let bad = [
        ("", "expected instruction set, threads, layout and problem"),
        ("avx2 1 nchw16c", "expected instruction set"),
        ("sse9 1 nchw16c n1c16h8w8o16k3s1p1\tdirect\t1", "sse9"),
        ("avx2 0 nchw16c n1c16h8w8o16k3s1p1\tdirect\t1", "`0` is no number of threads"),
        ("avx2 99999 nchw16c n1c16h8w8o16k3s1p1\tdirect\t1", "99999"),
        ("avx2 1 nhwc n1c16h8w8o16k3s1p1\tdirect\t1", "unknown layout `nhwc`"),
        ("avx2 1 nchw16c n1c16h8w8o16\tdirect\t1", "`k` is missing"),
        ("avx2 1 nchw16c n9999999999c9999999999h9w9o16k1\tdirect\t1", "overflows"),
        ("avx2 1 nchw16c n1c16h8w8o16k3s1p1\tmagic\t1", "unknown algorithm `magic`"),
        ("avx2 1 nchw16c n1c16h8w8o16k3s2p1\twinograd F(4x4,3x3)\t1", "does not compute this"),
        ("avx2 1 nchw16c n1c16h8w8o16k3s1p1\tdirect", "direct has no time"),
        ("avx2 1 nchw16c n1c16h8w8o16k3s1p1\tdirect\t1\tdirect\t2", "direct is there twice"),
        ("avx2 1 nchw16c n1c16h8w8o16k3s1p1", "no algorithm was measured"),
        ("avx2 1 nchw16c n1c16h8w8o16k3s1p1\tdirect\tNaN", "`NaN` is no time"),
        ("avx2 1 nchw16c n1c16h8w8o16k3s1p1\tdirect\t-1", "`-1` is no time"),
        ("avx2 1 nchw16c n1c16h8w8o16k3s1p1\tdirect\t1e999", "`1e999` is no time"),
        (good, "is there twice"),
    ];
    for (line, says) in bad {
        let (_folder, path) = file(format!("stridewise tuning 1\nprocessor p\n{good}\n{line}\n{good}\n").as_bytes());
        let said = refused(&path);
        assert!(said.contains("line 4: ") && said.contains(says), "{line:?}: {said}");
    }
    for (bytes, says) in [
        (&b""[..], "line 1: not a table of measured times"),
        (b"stridewise tuning 2\n", "expected `stridewise tuning 1`"),
        (b"\x80\x02 a pickle", "not a table"),
        (b"stridewise tuning 1\navx2 1 nchw n1c3h8w8o16k3\tdirect\t1\n", "line 2: a time before the first `processor` line"),
        (b"stridewise tuning 1\nprocessor \xff\n", "line 2: not UTF-8"),
    ] {
        let (_folder, path) = file(bytes);
        let said = refused(&path);
        assert!(said.contains(says), "{said}");
    }
    let (_folder, path) = file(&[]);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    let error = Tuning::load(&path).unwrap_err();
    assert!(matches!(&error, Error::TooLarge { .. }) && error.to_string().contains("tuning.txt"), "{error}");
}

#[test]
fn a_damaged_file_is_refused_or_plans_a_network_that_runs() {
    let model = cifar();
    let (_folder, whole) = saved(&tuned(&model, Numerics::Fast));
    let whole = std::fs::read(whole).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut loaded, mut refusals) = (0, 0);
    for round in 0..3000 {
        let mut bytes = whole.clone();
        match round % 3 {
            0 => bytes.truncate(random(whole.len())),
            1 => {
                for _ in 0..1 + random(3) {
                    let at = random(bytes.len());
                    bytes[at] = b"0123456789 \t\nxcknhw.e-\xff\0"[random(24)];
                }
            }
            _ => {
                let (from, to) = (random(whole.len()), random(whole.len()));
                let piece = whole[from..(from + random(200)).min(whole.len())].to_vec();
                bytes.splice(to..to, piece);
            }
        }
        let (_folder, path) = file(&bytes);
        match Tuning::load(&path) {
            Ok(tuning) => {
                loaded += 1;
                if loaded % 40 == 0 {
                    let mut session = model.session(&options(Some(&tuning), Numerics::Fast, 1)).unwrap();
                    let logits = session.run(&Tensor::zeros(session.input_shape()).unwrap()).unwrap();
                    assert!(logits.as_slice().iter().all(|v| v.is_finite()));
                }
            }
            Err(Error::Format { path: p, .. }) if p == path => refusals += 1,
            Err(other) => panic!("round {round}: {other}"),
        }
    }
    println!("{loaded} loaded, {refusals} refused");
    assert!(loaded > 40 && refusals > 40);
}

#[test]
fn runs_out_of_range_are_refused() {
    for runs in [0, usize::MAX] {
        let error = cifar().tune(&options(None, Numerics::Fast, 1), runs, &mut Tuning::default(), &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("runs"), "{error}");
    }
}
