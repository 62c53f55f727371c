//! The committed header is the one that the crate's source makes.

use std::collections::BTreeMap;
use std::path::Path;

fn header() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    // The modules of lib.rs are found by it.
    let bindings = cbindgen::Builder::new().with_config(config).with_src(root.join("src/lib.rs")).generate().unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).unwrap()
}

#[test]
fn the_header_is_what_the_source_says() {
    let text = header();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/stridewise.h");
    if std::env::var_os("STRIDEWISE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(committed == text, "include/stridewise.h is not what src/ makes: run with STRIDEWISE_BLESS=1 and commit it");
}

#[test]
fn every_name_is_declared_once() {
    let text = header();
    let mut declared: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with(['/', ' '])) {
        let named = |prefix: &str| line.strip_prefix(prefix)?.split([' ', ';']).find(|word| word.to_lowercase().starts_with("stridewise"));
        let function = || line.find("stridewise_").and_then(|at| line[at..].split('(').next());
        let name = ["typedef struct ", "} ", "#define "].into_iter().find_map(named).or_else(function);
        if let Some(name) = name {
            *declared.entry(name).or_default() += 1;
        }
    }
    let twice: Vec<_> = declared.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for name in ["stridewise_session_run", "stridewise_model_free", "StridewiseTensor", "StridewiseModel", "STRIDEWISE_MAX_RANK"] {
        assert!(declared.contains_key(name), "{name} is not found");
    }
}
