#!/usr/bin/env bash
# ray_test.sh: examples/ray_batch.py on a local cluster of two workers, one of which is killed on the way. Builds and installs the wheel as
# test.sh does, and Ray from PyPI; takes a gigabyte of disk. Not part of the test suite.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
./test.sh --with 'ray[data]' pillow
PYTHONPATH=../examples ../target/python/venv/bin/python ray_test.py
