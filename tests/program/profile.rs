//! `profile`: its table, its trace and its page.

use super::*;
use stridewise::session::StepInfo;

/// The plan of the built-in network.
fn steps(threads: usize, batch: usize) -> Vec<StepInfo> {
    let options = SessionOptions { threads: threads.into(), batch, ..SessionOptions::default() };
    Model::builtin().unwrap().session(&options).unwrap().steps()
}

#[test]
fn profile_has_a_row_for_each_step_of_the_plan() {
    let report = json(&["profile", "--threads", "2", "--runs", "13", "--batch", "2"]);
    assert_eq!((&report["runs"], &report["threads"], &report["batch"]), (&13.into(), &2.into(), &2.into()));
    let (rows, steps) = (report["steps"].as_array().unwrap(), steps(2, 2));
    assert_eq!(rows.len(), steps.len());
    for (row, step) in rows.iter().zip(&steps) {
        assert_eq!((&row["name"], &row["op"]), (&step.name.as_str().into(), &step.op.into()));
        assert_eq!((&row["algorithm"], number(&row["macs"])), (&step.algorithm.into(), step.macs as f64));
        let times = ["min", "median", "p95"].map(|q| number(&row[format!("{q}_seconds").as_str()]));
        assert!(times[0] >= 0.0 && times.is_sorted(), "{row}");
        assert_eq!(row["gflops"].is_null(), step.macs == 0, "{row}");
        assert!(step.problem.is_empty() || row["problem"] == step.problem.as_str(), "{row}");
    }
    // Every layer but the first reads what the one before it wrote.
    let bytes = |name: &str| number(&rows.iter().find(|row| row["name"] == name).unwrap()["bytes"]);
    let weights = |name: &str| steps.iter().find(|step| step.name == name).unwrap().weight_bytes as f64;
    let image = 2.0 * 16.0 * 32.0 * 32.0 * 4.0;
    assert_eq!(bytes("layer1.0.conv1") - weights("layer1.0.conv1"), 2.0 * image);
    assert_eq!(bytes("layer1.0.conv2") - weights("layer1.0.conv2"), 3.0 * image, "with the residual");
    let parts = || rows.iter().chain([&report["input"], &report["output"]]);
    let sum = |of: &str| parts().map(|part| number(&part[of])).sum::<f64>();
    assert_eq!((number(&report["run"]["macs"]), number(&report["run"]["bytes"])), (sum("macs"), sum("bytes")));
    assert_eq!(number(&report["run"]["percent_of_run"]), 100.0);
    let run = number(&report["run"]["median_seconds"]);
    let outside = number(&report["outside"]["seconds"]);
    assert!((0.0..run).contains(&outside), "{outside} of {run} s outside kernels");
    assert!((number(&report["outside"]["percent_of_run"]) - 100.0 * outside / run).abs() < 1e-9);
    for row in rows {
        let outside = number(&row["outside_seconds"]);
        assert!((0.0..=number(&row["p95_seconds"])).contains(&outside), "{row}");
    }
    let kinds = report["kinds"].as_array().unwrap();
    assert_eq!(kinds.iter().map(|kind| number(&kind["parts"])).sum::<f64>(), parts().count() as f64);
    let seconds: f64 = kinds.iter().map(|kind| number(&kind["seconds"])).sum();
    assert!((seconds / sum("median_seconds") - 1.0).abs() < 1e-9);
    assert!(report["trace"].is_null() && report["report"].is_null() && report["memory"].is_null());
}

#[test]
fn profile_sorts_and_shortens_its_table() {
    let names = |arguments: &[&str]| -> Vec<String> {
        let said = succeed(&[&["profile", "--runs", "3", "--size", "40x32"], arguments].concat());
        assert!(said.contains("40x32, batch 1") && said.contains("measured FMA peak") && said.contains("\n (outside kernels) "), "{said}");
        let rows = said.lines().skip_while(|line| !line.contains('─')).skip(1).take_while(|line| !line.is_empty());
        rows.filter_map(|line| line.split_whitespace().next()).map(String::from).collect()
    };
    let mut in_order = vec!["(input)".to_string()];
    in_order.extend(steps(1, 1).into_iter().map(|step| step.name));
    in_order.extend(["(output)".to_string(), "run".to_string()]);
    assert_eq!(names(&[]), in_order);
    assert_eq!(
        names(&["--top", "3", "--sort", "order"]),
        [&in_order[..3], &[format!("({}", in_order.len() - 4), "run".to_string()]].concat()
    );
    assert_eq!(names(&["--top", "4"]).len(), 6);
    let mut by_time = names(&["--sort", "time", "--top", "1000"]);
    assert_eq!(by_time.last().map(String::as_str), Some("run"));
    by_time.sort();
    in_order.sort();
    assert_eq!(by_time, in_order);
}

#[test]
fn the_trace_adds_up_to_one_run() {
    let folder = Folder::new();
    let path = folder.path("trace.json");
    let report = json(&["profile", "--runs", "5", "--trace", &path]);
    assert_eq!(report["trace"], path.as_str());
    let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let events: Vec<&Value> = trace["traceEvents"].as_array().unwrap().iter().filter(|event| event["ph"] == "X").collect();
    let names: Vec<&str> = events.iter().map(|event| event["name"].as_str().unwrap()).collect();
    let steps = steps(1, 1);
    let expected: Vec<&str> = std::iter::once("(input)").chain(steps.iter().map(|s| s.name.as_str())).chain(["(output)"]).collect();
    assert_eq!(names, expected);
    let mut end = 0.0;
    for event in &events {
        assert!((number(&event["ts"]) - end).abs() < 1e-6 && number(&event["dur"]) >= 0.0, "{event}");
        end = number(&event["ts"]) + number(&event["dur"]);
    }
    let run = 1e6 * number(&report["run"]["median_seconds"]);
    assert!((end / run - 1.0).abs() < 1e-6, "{end} of {run} microseconds");
    let first = events.iter().find(|event| event["name"] == steps[0].name.as_str()).unwrap();
    assert_eq!((&first["args"]["problem"], &first["args"]["op"]), (&steps[0].problem.as_str().into(), &"Conv".into()));
    assert!(number(&first["args"]["gflops"]) > 0.0);
}

#[test]
fn the_page_shows_each_layer_and_loads_nothing() {
    let folder = Folder::new();
    let path = folder.path("profile.html");
    let said = succeed(&["profile", "--runs", "3", "--threads", "2", "--report", &path]);
    assert!(said.ends_with(&format!("report: {path}\n")), "{said}");
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!(page.matches("<svg").count(), 2, "bars and roofline");
    let (bars, rest) = page.split_once("Roofline").unwrap();
    for step in steps(1, 1) {
        assert!(bars.lines().any(|line| line.trim() == step.name), "{} has no bar", step.name);
        assert!(rest.contains(&format!("<code>{}</code>", step.name)), "{} has no row", step.name);
    }
    assert_eq!(page.matches("(outside kernels)").count(), 3, "in the table, the legend and the plot");
    assert!(page.contains("measured memory bandwidth") && page.contains("reading a buffer of 256 MiB"));
    for loads in ["<script", "<link", "src=", "url(", "@import"] {
        assert!(!page.contains(loads), "{loads}");
    }
    assert_eq!(folder.names(), ["profile.html"]);
}

#[test]
fn profile_leaves_nothing_behind_where_it_cannot_write() {
    let folder = Folder::new();
    let model = folder.model();
    let before = folder.names();
    for option in ["--trace", "--report"] {
        for path in [folder.path("no/such/folder.out"), folder.path("."), folder.path("net.safetensors/below")] {
            let said = fail(&mut program(&["profile", "--model", &model, "--runs", "1", option, &path]));
            assert!(said.contains(&path), "{said}");
        }
    }
    assert_eq!(folder.names(), before);
    let both = folder.path("both");
    for (arguments, says) in [
        (&["--report", both.as_str()][..], "two files"),
        (&["--runs", "0"], "--runs"),
        (&["--top", "0"], "--top"),
        (&["--sort", "name"], "--sort"),
        (&["--batch", "0"], "--batch"),
        (&["--size", "0x3"], "--size"),
        (&["--threads", "0"], "threads"),
    ] {
        let said = fail(program(&["profile", "--trace", &both]).args(arguments));
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    assert_eq!(folder.names(), before);
}
