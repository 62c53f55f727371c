"""The messages of errors are those of every other binding: `tests/golden/messages.txt` has them."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

import stridewise

ROOT = Path(__file__).resolve().parents[2]


def expected(case, directory):
    lines = (ROOT / "tests" / "golden" / "messages.txt").read_text().splitlines()
    for index, line in enumerate(lines):
        name, _, message = line.partition(": ")
        if name == case:
            rest = itertools.takewhile(lambda line: line.startswith("  "), lines[index + 1 :])
            return "\n".join([message, *rest]).replace("{dir}", str(directory))
    raise KeyError(case)


def raises(kind, case, directory, call):
    with pytest.raises(kind) as raised:
        call()
    assert isinstance(raised.value, stridewise.Error)
    assert str(raised.value) == expected(case, directory)


def test_files(tmp_path):
    raises(OSError, "missing file", tmp_path, lambda: stridewise.load(tmp_path / "missing.safetensors"))
    (tmp_path / "corrupt.safetensors").write_bytes(b"not a network at all")
    raises(ValueError, "corrupt model", tmp_path, lambda: stridewise.load(tmp_path / "corrupt.safetensors"))
    data = (ROOT / "assets" / "resnet20_cifar10.safetensors").read_bytes()
    (tmp_path / "dtype.safetensors").write_bytes(data.replace(b'"F16"', b'"I16"', 1))
    raises(TypeError, "dtype of a weight", tmp_path, lambda: stridewise.load(tmp_path / "dtype.safetensors"))
    shutil.copy(ROOT / "tests" / "golden" / "onnx" / "unsupported.onnx", tmp_path)
    raises(stridewise.UnsupportedError, "unsupported op", tmp_path, lambda: stridewise.load(tmp_path / "unsupported.onnx"))


def test_arrays(tmp_path):
    session = stridewise.builtin().session()
    out = np.zeros((1, 10), np.float32)
    raises(ValueError, "shape of an input", tmp_path, lambda: session.run_into(np.zeros((1, 4, 32, 32), np.float32), out))
    raises(TypeError, "dtype of an input", tmp_path, lambda: session.run(np.zeros((1, 3, 32, 32), np.float64)))


def test_arguments_that_mean_nothing():
    for call in [
        lambda: stridewise.load(),
        lambda: stridewise.load(7),
        lambda: stridewise.load(arch="resnet51"),
        lambda: stridewise.builtin().session(threads=0),
        lambda: stridewise.builtin().session(numerics="sloppy"),
        lambda: stridewise.builtin().session(precision="fp8"),
        lambda: stridewise.builtin().session(isa="mmx"),
        lambda: stridewise.ThreadPool(0),
    ]:
        with pytest.raises(stridewise.Error):
            call()


def test_errors_can_be_told_apart():
    model = stridewise.builtin()
    flattened = ROOT / "tests" / "golden" / "onnx" / "flattened.onnx"
    for kind, builtin, call in [
        (stridewise.TooLargeError, ValueError, lambda: model.session(max_memory=1)),
        (stridewise.GraphError, ValueError, lambda: stridewise.load(flattened)),
        (stridewise.KernelError, RuntimeError, lambda: model.session(isa="mmx")),
        (stridewise.ArgumentError, ValueError, lambda: stridewise.load(flattened, arch="resnet18")),
    ]:
        with pytest.raises(kind) as raised:
            call()
        assert isinstance(raised.value, (stridewise.Error, builtin)) and type(raised.value) is kind
    assert issubclass(stridewise.ForkedError, RuntimeError)
