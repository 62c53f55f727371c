#!/usr/bin/env bash
# size.sh [FEATURE…]: the size of examples/embed, stripped, without features and with each named one (`all` for every feature of the
# library). Fails when that without features is over 3 MB. No compiler but Rust's may be needed to build it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
limit=3000000
target=${CARGO_TARGET_DIR:-target}

if foreign=$(cargo tree --locked -p stridewise-embed -e normal,build --prefix none | grep -E '^(cc|cmake|bindgen|pkg-config|nasm-rs) '); then
    echo "the library needs another toolchain than Rust's: $foreign"
    exit 1
fi

# size FEATURES: builds the example and prints its size.
size() {
    cargo rustc --quiet --release --locked -p stridewise-embed --features "${1:+stridewise/$1}" -- -C strip=symbols
    stat -c %s "$target/release/embed"
}

features=("$@")
if [ "${1:-}" = all ]; then
    mapfile -t features < <(sed -n '/^\[features\]/,/^\[[^f]/s/^\([a-z0-9-]*\) *=.*/\1/p' Cargo.toml | grep -vxE 'default|cli')
fi
bare=$(size "")
echo "no feature: $bare bytes of $limit"
for feature in "${features[@]}"; do
    with=$(size "$feature")
    echo "$feature: $with bytes, $((with - bare)) more"
done
[ "$bare" -le "$limit" ] || { echo "over the limit"; exit 1; }
