"""Rounds the float32 tensors of a safetensors file to float16, names and metadata kept.

    python convert_half.py IN.safetensors OUT.safetensors [--data DATA]

A tensor with a value that float16 cannot hold (infinite, or a variance that becomes 0) is refused, by name. With --data
(test_x.npy u8 [N,3,32,32], test_y.npy) the file must be a network of `train_cifar.py`; its top-1 accuracy with the
rounded weights is measured, printed, and written to the metadata as `float16_top1`. Needs torch, numpy and safetensors.
"""

import argparse
import ast
import os

import torch
from safetensors import safe_open

from cifar_net import CifarNet, top1
from tensor_file import save_sorted
from train_cifar import load


def read(path):
    """Tensors by name, and the metadata."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})


def rounded(name, tensor):
    if tensor.dtype != torch.float32:
        raise SystemExit(f"{name} is {tensor.dtype}, expected float32")
    half = tensor.half()
    if not half.isfinite().all():
        raise SystemExit(f"{name}: {tensor.abs().max().item()} is too large for float16")
    if name.endswith("running_var") and half.min() <= 0:
        raise SystemExit(f"{name}: the variance {tensor.min().item()} is 0 in float16")
    return half


def cifar_net(tensors, metadata):
    """The network of `train_cifar.py` that the metadata names, computing in float32 with these weights."""
    arch = metadata.get("arch", "")
    kind = "resnet" if arch.startswith("resnet") else "plain"
    depth = arch.removeprefix(kind).removesuffix("-cifar10")
    if not arch.endswith("-cifar10") or not depth.isdigit():
        raise SystemExit(f"the metadata's arch is {arch!r}, expected resnetN-cifar10 or plainN-cifar10")
    net = CifarNet(int(depth), "none" if kind == "plain" else "projection")
    state = {name: tensor.float() for name, tensor in tensors.items()}
    wrong = net.load_state_dict(state, strict=False)
    missing = [name for name in wrong.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or wrong.unexpected_keys:
        raise SystemExit(f"{arch}: missing {missing}, unexpected {wrong.unexpected_keys}")
    return net.eval()


def normalisation(metadata):
    """The mean and standard deviation that the metadata gives as text, such as "(0.5, 0.5, 0.5)"."""
    return ast.literal_eval(metadata["mean"]), ast.literal_eval(metadata["std"])


def main():
    title, _, details = __doc__.partition("\n\n")
    p = argparse.ArgumentParser(description=title, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("source", metavar="IN.safetensors")
    p.add_argument("out", metavar="OUT.safetensors")
    p.add_argument("--data", metavar="DATA", help="folder with test_x.npy and test_y.npy: measure the accuracy")
    a = p.parse_args()

    tensors, metadata = read(a.source)
    halves = {name: rounded(name, tensor) for name, tensor in tensors.items()}
    if a.data:
        images, labels = load(a.data, "test")
        before = top1(cifar_net(tensors, metadata), images, labels, *normalisation(metadata))
        after = top1(cifar_net(halves, metadata), images, labels, *normalisation(metadata))
        print(f"top-1 of {len(images)}: {before} with float32 weights, {after} with float16 weights")
        metadata["float16_top1"] = str(after / len(images))
    save_sorted(halves, a.out, metadata)
    print(f"{a.out}: {len(halves)} tensors, {sum(t.numel() for t in halves.values())} values, {os.path.getsize(a.out)} bytes")


if __name__ == "__main__":
    main()
