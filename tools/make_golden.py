"""Writes the golden activations of small networks that the tests compare with: tests/golden/networks/*.safetensors.

    python make_golden.py [OUT] [--only NETWORK]

Weights and inputs are not stored: both sides generate them from the tensors' names, bit for bit. For element i (row-major)
of the tensor named t, all integers 64-bit and wrapping:

    seed = FNV-1a 64 of t in UTF-8         offset 0xCBF29CE484222325, prime 0x100000001B3
    z = seed + i * 0x9E3779B97F4A7C15
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9
    z = (z ^ z >> 27) * 0x94D049BB133111EB
    z = z ^ z >> 31
    u = (z >> 40) / 2^24                   exact in float32, in [0, 1)

and the value, in float32 with constants rounded to float32 and every operation rounded once:

    input                          (2u - 1) * 2
    *.weight of 2 or more dims     (2u - 1) * s    s = sqrt(6 / fan_in) in float64, rounded; fan_in = product of dims[1..]
    *.weight of 1 dim              0.5 + u
    *.bias, *.running_mean         (u - 0.5) * 0.2
    *.running_var                  0.5 + u

For a check, the bits of first elements: `input` 0xBFFA3D08; `conv1.weight` [64,3,7,7] 0xBD962C76; `bn1.weight` 0x3F2C5986;
`bn1.bias` 0xBB8DDCE7; `bn1.running_mean` 0x3D9E067A; `bn1.running_var` 0x3F885CAE.

A file holds, by torchvision's node names, the outputs that survive the fusion of convolution, BatchNorm, addition and
ReLU: every ReLU, projection (`downsample.1`), pooling, flatten and the classifier's last layer; of MobileNetV2 every ReLU6, each
block's sum, and its last BatchNorm where there is none. To keep the files small,
tensors of more than NETWORKS' limit of elements are left out, except a stage's last output up to STAGE_LIMIT. All is computed
in float64 from the float32 weights, in eval mode, and rounded to float32.

Metadata: `model`, `input` (its shape), `classes`, `torch`, `torchvision`, `script`, and two JSON objects by node name:
`max_abs`, max|y| in float64, and `float32_error`, max|y32 - y64| / max|y64| of PyTorch in float32: what a float32 engine
may be held to. Of MobileNetV2 it is the larger one of PyTorch's and of PyTorch's with every BatchNorm folded in float64 and rounded
once: clamped between 0 and 6, its layers double a difference in the last bits so fast that one computation alone says little.
Needs torch, torchvision, numpy and safetensors.
"""

import argparse
import copy
import json
import os
import re

import numpy as np
import torch
import torchvision
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cifar_net import CifarNet
from export_taps import record
from tensor_file import save_sorted

HERE = os.path.dirname(os.path.abspath(__file__))
STAGE_LIMIT = 16384

# name: (builder, input shape, limit)
NETWORKS = {
    "resnet18": (torchvision.models.resnet18, (1, 3, 33, 41), 8192),
    "resnet50": (torchvision.models.resnet50, (2, 3, 32, 32), 4096),
    "resnext50_32x4d": (torchvision.models.resnext50_32x4d, (1, 3, 32, 32), 4096),
    "vgg11_bn": (torchvision.models.vgg11_bn, (1, 3, 32, 32), 8192),
    "mobilenet_v2": (torchvision.models.mobilenet_v2, (1, 3, 41, 32), 4096),
    "cifar_resnet20_option_a": (lambda: CifarNet(20, "padding"), (2, 3, 32, 32), 8192),
    "cifar_resnet20_option_b": (lambda: CifarNet(20, "projection"), (2, 3, 32, 32), 8192),
    "cifar_plain20": (lambda: CifarNet(20, "none"), (2, 3, 32, 32), 8192),
}


def uniform(name, count):
    """`count` float32 numbers in [0, 1) that the name alone determines."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    out = np.empty(count, np.float32)
    chunk = 1 << 22
    for start in range(0, count, chunk):
        i = np.arange(start, min(start + chunk, count), dtype=np.uint64)
        z = np.uint64(seed) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        out[start : start + chunk] = (z >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return out


def generate(name, shape):
    """The tensor that the docstring's table gives for this name and shape."""
    f = np.float32
    u = uniform(name, int(np.prod(shape)))
    if name == "input":
        value = (f(2) * u - f(1)) * f(2)
    elif name.endswith(".weight") and len(shape) >= 2:
        value = (f(2) * u - f(1)) * f(np.sqrt(6 / np.prod(shape[1:], dtype=np.float64)))
    elif name.endswith((".weight", ".running_var")):
        value = f(0.5) + u
    elif name.endswith((".bias", ".running_mean")):
        value = (u - f(0.5)) * f(0.2)
    else:
        raise SystemExit(f"{name}: no rule for this tensor")
    assert value.dtype == np.float32
    return torch.from_numpy(value.reshape(shape))


def survives(model, name):
    """Whether the node's output exists after fusion: no convolution, BatchNorm or addition that something follows."""
    if re.search(r"(^|\.)(relu(_\d+)?|maxpool|avgpool|flatten|fc|downsample\.1)$", name):
        return True
    if isinstance(model, torchvision.models.MobileNetV2):
        return survives_in_mobilenet(model, name)
    try:
        module = model.get_submodule(name)
    except AttributeError:
        return False
    return isinstance(module, (torch.nn.ReLU, torch.nn.MaxPool2d)) or name == "classifier.6"


def survives_in_mobilenet(model, name):
    """As `survives`; a block's convolution and BatchNorm become one, and its sum is part of both."""
    if re.fullmatch(r"features\.\d+\.add|adaptive_avg_pool2d|flatten|classifier\.1", name):
        return True
    block = re.fullmatch(r"features\.\d+", name.split(".conv.")[0])
    if not block or name.endswith(".add"):
        return False
    module = model.get_submodule(name)
    adds = getattr(model.get_submodule(block[0]), "use_res_connect", False)
    return isinstance(module, torchvision.ops.Conv2dNormActivation) or isinstance(module, torch.nn.BatchNorm2d) and not adds


def folded(model):
    """A copy with each BatchNorm folded into the convolution before it."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:]):
            if isinstance(conv, torch.nn.Conv2d) and isinstance(norm, torch.nn.BatchNorm2d):
                setattr(parent, conv_name, fuse_conv_bn_eval(conv.double(), norm.double()).float())
                setattr(parent, norm_name, torch.nn.Identity())
    return model.eval()


def golden(name, out):
    """Computes one network and writes its file; the size in bytes."""
    build, shape, limit = NETWORKS[name]
    model = build().eval()
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                tensor.copy_(generate(key, tuple(tensor.shape)))
    x = generate("input", shape)
    singles = [record(model, x)]
    if isinstance(model, torchvision.models.MobileNetV2):
        singles.append(record(folded(model), x))
    double = record(model.double(), x.double())

    last = {node.split(".")[0]: node for node in double if re.match(r"layer\d\.", node)}
    taps, error, peak = {}, {}, {}
    for node in (n for n in double if survives(model, n)):
        exact = double[node]
        peak[node] = exact.abs().max().item()
        error[node] = max((single[node].double() - exact).abs().max().item() for single in singles) / peak[node]
        kept = exact.numel() <= (STAGE_LIMIT if node in last.values() else limit)
        if kept:
            taps[node] = exact.float()
        note = "" if kept else "  not stored"
        zero = (exact == 0).double().mean().item()
        shown = f"  {node:<24}{str(list(exact.shape)):<20}max {peak[node]:<10.4g}"
        print(f"{shown} zeros {100 * zero:3.0f} %  float32 error {error[node]:.1e}{note}")
    metadata = {
        "model": name,
        "input": json.dumps(list(shape)),
        "classes": str(double[list(double)[-1]].shape[1]),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "script": "tools/make_golden.py",
        "float32_error": json.dumps({n: float(f"{error[n]:.3e}") for n in taps}),
        "max_abs": json.dumps({n: float(f"{peak[n]:.6e}") for n in taps}),
    }
    path = os.path.join(out, f"{name}.safetensors")
    save_sorted(taps, path, metadata)
    print(f"{name}: {len(taps)} tensors, {os.path.getsize(path)} bytes, worst float32 error {max(error.values()):.1e}")
    return os.path.getsize(path)


def main():
    title, _, details = __doc__.partition("\n\n")
    p = argparse.ArgumentParser(description=title, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("out", metavar="OUT", nargs="?", default=os.path.join(HERE, "..", "tests", "golden", "networks"))
    p.add_argument("--only", metavar="NETWORK", choices=NETWORKS, action="append", help="this one; may be repeated")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    total = sum(golden(name, a.out) for name in a.only or NETWORKS)
    print(f"total: {total} bytes")


if __name__ == "__main__":
    main()
