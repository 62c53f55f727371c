//! The committed header is the one that the crate's source makes.

use std::path::Path;

#[test]
fn the_header_is_what_the_source_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let sources = ["status", "tensor", "model", "pool", "session", "lib"].map(|name| root.join(format!("src/{name}.rs")));
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in sources {
        builder = builder.with_src(source);
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    let path = root.join("include/stridewise.h");
    if std::env::var_os("STRIDEWISE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read(&path).unwrap();
    assert!(committed == text, "include/stridewise.h is not what src/ makes: run with STRIDEWISE_BLESS=1 and commit it");
}
