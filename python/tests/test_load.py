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


FLATTENED = ROOT / "tests" / "golden" / "onnx" / "flattened.onnx"


def test_shapes_bind_the_dimensions_of_an_onnx_network():
    for source in (FLATTENED, FLATTENED.read_bytes()):
        model = stridewise.load(source, shapes={"image": (1, 3, 4, 4)})
        assert model.inputs == {"image": ["N", 3, "H", "W"]}
        session = model.session(shapes={"image": [2, 3, 4, 4]})
        assert session.input_shapes == [[2, 3, 4, 4]]
        ones = np.ones((2, 3, 4, 4), np.float32)
        assert np.array_equal(session.run(ones), np.float32([[-0.75, -0.5]] * 2))
        with pytest.raises(stridewise.ArgumentError, match="`picture`.*image"):
            model.session(shapes={"picture": (1, 3, 4, 4)})
        with pytest.raises(stridewise.ShapeError, match="image"):
            model.session(shapes={"image": (1, 4, 4)})
    with pytest.raises(stridewise.ArgumentError, match="`picture`"):
        stridewise.load(FLATTENED, shapes={"picture": (1, 3, 4, 4)})
    with pytest.raises(stridewise.ArgumentError, match="shapes.*safetensors"):
        stridewise.load(ROOT / "assets" / "resnet20_cifar10.safetensors", shapes={"input": (1, 3, 32, 32)})
    with pytest.raises(stridewise.ArgumentError, match="shapes"):
        stridewise.load(arch="resnet18", shapes={"input": (1, 3, 32, 32)})
    with pytest.raises(TypeError):
        stridewise.load(FLATTENED, shapes=[(1, 3, 4, 4)])


def test_bytes_are_the_file_that_they_were_read_from():
    path = ROOT / "assets" / "resnet20_cifar10.safetensors"
    x = np.ones((1, 3, 32, 32), np.float32)
    expected = stridewise.load(path).session().run(x)
    data = path.read_bytes()
    for source in (data, bytearray(data), memoryview(data)):
        assert np.array_equal(stridewise.load(source, arch="resnet20-cifar10").session().run(x), expected)
    with pytest.raises(stridewise.FormatError, match="bytes in memory"):
        stridewise.load(b"nothing")


def test_a_model_says_how_pictures_become_its_input():
    own = stridewise.builtin().preprocessing
    assert own["resize"] == 32 and own["crop"] == (32, 32)
    assert np.array_equal(np.float32(own["mean"]), np.float32([0.4914, 0.4822, 0.4465]))
    assert np.array_equal(np.float32(own["std"]), np.float32([0.247, 0.2435, 0.2616]))


def test_a_packed_network_is_held_against_the_architecture_that_is_named(tmp_path):
    model = stridewise.builtin()
    model.session()
    model.save_packed(tmp_path / "packed.swp")
    assert stridewise.load(tmp_path / "packed.swp", arch="resnet20-cifar10").arch == "resnet20-cifar10"
    with pytest.raises(stridewise.ArgumentError, match="resnet18.*packed.swp.*resnet20-cifar10"):
        stridewise.load(tmp_path / "packed.swp", arch="resnet18")
