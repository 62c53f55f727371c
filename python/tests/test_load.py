"""Models from files, state_dicts and names, held against golden activations or PyTorch."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

import stridewise

ROOT = Path(__file__).resolve().parents[2]


def read_safetensors(path):
    data = Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    types = {"F32": np.float32, "F16": np.float16, "I64": np.int64}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[8 + length + begin : 8 + length + end], types[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def test_a_state_dict_is_the_file_that_it_was_read_from():
    path = ROOT / "assets" / "resnet20_cifar10.safetensors"
    x = np.linspace(-1, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)
    from_file = stridewise.load(path).session().run(x)
    assert np.array_equal(stridewise.load(read_safetensors(path)).session().run(x), from_file)
    assert np.array_equal(stridewise.builtin().session().run(x), from_file)


def test_random_weights_are_those_of_their_seed():
    x = np.ones((1, 3, 32, 32), np.float32)
    run = lambda seed: stridewise.load(arch="resnet20-cifar10", seed=seed).session().run(x)
    assert np.array_equal(run(3), run(3)) and not np.array_equal(run(3), run(4))
    assert "resnet50" in stridewise.architectures()


def test_pictures_are_what_they_show():
    model = stridewise.builtin()
    session = model.session()
    for path in sorted((ROOT / "assets" / "samples").glob("*.png")):
        label = model.labels[int(session.run(model.load_image(path)).argmax())]
        assert label == path.stem
        assert np.array_equal(model.decode_image(path.read_bytes()), model.load_image(path))


def test_a_state_dict_of_pytorch_gives_what_pytorch_gives():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; the files in assets/ stand for it")
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    torch.manual_seed(0)
    network = torchvision.models.resnet18(weights=None).eval()
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        reference = network(x).numpy()
    session = stridewise.load(network.state_dict()).session(threads=2)
    assert stridewise.compare(session.run(x), reference, max_error=1e-4)["passed"]
    x.requires_grad_()
    assert stridewise.compare(session.run(x), reference, max_error=1e-4)["passed"]
