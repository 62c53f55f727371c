#!/usr/bin/env bash
# test.sh [--with PACKAGE…]: builds the wheel, installs it into an environment of its own under target/python, and runs its tests and its
# example. `--with torch torchvision` compares with PyTorch too. STRIDEWISE_PYTHON names another Python than python3.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
packages=()
if [ "${1:-}" = --with ]; then
    shift
    packages=("$@")
fi
environment=../target/python/venv
[ -x "$environment/bin/python" ] || "${STRIDEWISE_PYTHON:-python3}" -m venv "$environment"
python=$PWD/$environment/bin/python
"$python" -m pip install --quiet --disable-pip-version-check 'maturin>=1.9,<2' numpy pytest tqdm "${packages[@]}"
rm -rf ../target/python/wheels
"$python" -m maturin build --release --locked --quiet --out ../target/python/wheels --target-dir ../target
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall ../target/python/wheels/*.whl
"$python" -m pytest -q
"$python" examples/classify_folder.py ../assets/samples
ls -l ../target/python/wheels
