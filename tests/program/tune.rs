//! `tune`, and `--tuning` of the commands that run networks.

use super::*;

#[test]
fn a_table_is_made_kept_and_followed() {
    let folder = Folder::new();
    let path = folder.path("tuning.txt");
    let tune = |more: &[&str]| json(&[&["tune", "--threads", "1", "--runs", "2", "-o", &path], more].concat());
    let report = tune(&[]);
    let problems = report["problems"].as_array().unwrap().clone();
    assert!(!problems.is_empty() && problems.iter().all(|p| p["known"] == false));
    assert_eq!(folder.names(), ["tuning.txt"]);
    // Measured once, and then known, by this network and by one that has the same convolutions.
    let written = std::fs::read(&path).unwrap();
    assert!(tune(&[])["problems"].as_array().unwrap().iter().all(|p| p["known"] == true));
    assert!(tune(&["--arch", "resnet20-cifar10"])["problems"].as_array().unwrap().iter().all(|p| p["known"] == true));
    assert_eq!(std::fs::read(&path).unwrap(), written);
    // A file of other machines keeps what they measured.
    let others = "stridewise tuning 1\nprocessor of another machine\navx2 1 nchw16c n1c16h8w8o16k3s1p1\tdirect\t12.5\n";
    std::fs::write(&path, others).unwrap();
    let again = tune(&["--again"]);
    assert!(again["problems"].as_array().unwrap().iter().all(|p| p["known"] == false));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(&others.lines().skip(1).collect::<Vec<_>>().join("\n")), "{text}");

    let plan = json(&["inspect", "--plan", "--threads", "1", "--tuning", &path]);
    let steps = plan["steps"].as_array().unwrap();
    for problem in again["problems"].as_array().unwrap() {
        let of_problem: Vec<_> = steps.iter().filter(|s| s["problem"] == problem["problem"]).collect();
        assert_eq!(number(&problem["steps"]), of_problem.len() as f64);
        for step in of_problem {
            assert_eq!(step["algorithm"], problem["fastest"]);
            assert!(step["reason"].as_str().unwrap().starts_with("tuned"), "{step}");
        }
    }
    let said = succeed(&["tune", "--threads", "1", "-o", &path]);
    assert!(said.contains(&format!("measured times: {path}")) && said.contains("(known)"), "{said}");
    for command in [&["profile", "--runs", "1"][..], &["bench", "--runs", "1"]] {
        succeed(&[command, &["--threads", "1", "--tuning", &path]].concat());
    }
}

#[test]
fn a_bad_table_is_named() {
    let folder = Folder::new();
    let bad = folder.write("bad.txt", b"stridewise tuning 1\nprocessor p\nnonsense\n");
    let missing = folder.path("missing.txt");
    let before = folder.names();
    for arguments in [
        &["tune", "-o", &bad][..],
        &["tune", "--again", "-o", &bad],
        &["bench", "--runs", "1", "--tuning", &bad],
        &["inspect", "--plan", "--tuning", &bad],
    ] {
        let said = fail(&mut program(arguments));
        assert!(said.contains(&bad) && said.contains("line 3"), "{said}");
    }
    let said = fail(&mut program(&["profile", "--tuning", &missing]));
    assert!(said.contains(&missing), "{said}");
    let said = fail(&mut program(&["tune", "--runs", "1", "-o", &folder.path("no/such/folder.txt")]));
    assert!(said.contains("folder.txt"), "{said}");
    assert_eq!(folder.names(), before);
    let packed = folder.path("net.swp");
    succeed(&["pack", "-o", &packed]);
    let said = fail(&mut program(&["tune", "--model", &packed, "-o", &missing]));
    assert!(said.contains(&packed) && said.contains("the file that it was packed from"), "{said}");
    for (arguments, says) in [(&["--runs", "0"][..], "--runs"), (&["--threads", "0"], "threads"), (&[], "--output")] {
        let said = fail(program(&["tune"]).args(arguments));
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
