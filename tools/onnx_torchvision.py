#!/usr/bin/env python3
"""Exports torchvision's networks to ONNX and compares what the engine makes of them with PyTorch.

Each network has random weights, and BatchNorms with random scales, shifts and running statistics, so that no layer is the identity;
statistics follow the activations, so that numbers stay of one size through any depth. It is exported with a symbolic batch and image
size where the exporter can, run by the `stridewise` program at batch 1 and 3, at its usual size and at an odd one, and compared with
PyTorch in float32: max |difference| / max |reference| over all outputs.

    pip install torch torchvision onnx onnxscript numpy
    cargo build --release
    python tools/onnx_torchvision.py                             all networks
    python tools/onnx_torchvision.py resnet34 mobilenet_v2       some of them
    python tools/onnx_torchvision.py --time --threads 2          and median latencies beside ONNX Runtime's (pip install onnxruntime)

Exit status 0: all within the tolerance. 1: some are not. 77: a package is missing.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

CLASSIFIERS = """alexnet vgg11_bn resnet34 wide_resnet50_2 resnext50_32x4d densenet121 squeezenet1_1 mobilenet_v2 mobilenet_v3_small
    mobilenet_v3_large shufflenet_v2_x1_0 mnasnet1_0 efficientnet_b0 efficientnet_v2_s regnet_y_400mf googlenet inception_v3
    convnext_tiny""".split()
SEGMENTERS = ["fcn_resnet50", "deeplabv3_resnet50"]

# Pooling to a grid of several windows is exported for one size, and only where it changes nothing.
FIXED_GRIDS = {"alexnet", "vgg11_bn"}
# Where the usual size is not 224, and the odd one not 193×257.
SIZES = {"inception_v3": 299}
ODD_SIZES = {"alexnet": [229, 231], "vgg11_bn": [233, 241], "inception_v3": [331, 267]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help="names of torchvision [default: all]")
    parser.add_argument("--binary", type=pathlib.Path, help="the program [default: target/release/stridewise]")
    parser.add_argument("--tolerance", type=float, default=1e-5)
    parser.add_argument("--time", action="store_true", help="median latency at batch 1 beside ONNX Runtime's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=30, help="timed runs of each engine")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the .onnx files")
    arguments = parser.parse_args()
    try:
        import numpy  # noqa: F401
        import onnx  # noqa: F401
        import torch
        import torchvision  # noqa: F401
    except ImportError as missing:
        print(f"skipped: {missing}")
        return 77
    torch.set_num_threads(arguments.threads)
    binary = arguments.binary or pathlib.Path(__file__).resolve().parent.parent / "target" / "release" / "stridewise"
    names = arguments.networks or CLASSIFIERS + SEGMENTERS
    timed = " stridewise ms | ONNX Runtime ms |" if arguments.time else ""
    print(f"| network | nodes | input | max error |{timed}")
    print("| --- | --: | --- | --: |" + (" --: | --: |" if arguments.time else ""))
    beyond = 0
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            beyond += compare(name, arguments, str(binary), arguments.keep or pathlib.Path(folder))
    return 1 if beyond else 0


def network(name):
    """A network in evaluation, whose BatchNorms have statistics of its own activations."""
    import torch
    import torchvision

    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if name in SEGMENTERS:
            made = getattr(torchvision.models.segmentation, name)(weights=None, weights_backbone=None)
        elif name in ("googlenet", "inception_v3"):
            made = getattr(torchvision.models, name)(weights=None, init_weights=False, aux_logits=False)
        else:
            made = getattr(torchvision.models, name)(weights=None)
    norms = [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.uniform_(-0.5, 0.5)
            norm.momentum = None
        for module in made.modules():
            if hasattr(module, "layer_scale"):
                module.layer_scale.uniform_(0.5, 1.5)
        made.train()
        for module in made.modules():
            if isinstance(module, (torch.nn.Dropout, torchvision.ops.StochasticDepth)):
                module.eval()
        if norms:
            size = SIZES.get(name, 224)
            made(torch.randn(4, 3, size, size))
            for norm in norms:
                norm.running_mean += 0.1 * torch.randn_like(norm.running_mean)
                norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
    return made.eval()


def compare(name, arguments, binary, folder):
    """Prints a line for each input; returns how many are beyond the tolerance."""
    import numpy
    import onnx
    import torch

    made = network(name)
    size = SIZES.get(name, 224)
    odd = ODD_SIZES.get(name, [193, 257])
    path = folder / f"{name}.onnx"
    outputs = ["out"] if name in SEGMENTERS else ["logits"]
    exported = Only(made) if name in SEGMENTERS else made

    def export(height, width, axes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                exported,
                (torch.randn(2, 3, height, width),),
                str(path),
                input_names=["image"],
                output_names=outputs,
                dynamic_axes={"image": axes},
                dynamo=False,
                opset_version=17,
            )

    fixed = name in FIXED_GRIDS
    if not fixed:
        export(size, size, {0: "N", 2: "H", 3: "W"})
    beyond = 0
    for batch, (height, width) in [(1, (size, size)), (3, (size, size)), (1, odd), (3, odd)]:
        if fixed:
            export(height, width, {0: "N"})
        nodes = len(onnx.load(str(path), load_external_data=False).graph.node)
        image = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            reference = exported(image).numpy()
        numpy.save(folder / "x.npy", image.numpy())
        command = [binary, "run", "--model", str(path), "--input", str(folder / "x.npy"), "--output", str(folder / "y.npy")]
        done = subprocess.run([*command, "--threads", str(arguments.threads)], capture_output=True, text=True)
        times = ""
        if done.returncode != 0:
            error = " ".join(done.stderr.split())[:200]
            beyond += 1
        else:
            found = numpy.load(folder / "y.npy")
            if found.shape != reference.shape:
                error, beyond = f"shape {found.shape}, expected {reference.shape}", beyond + 1
            else:
                relative = float(numpy.abs(found - reference).max() / numpy.abs(reference).max())
                beyond += not relative <= arguments.tolerance
                error = f"{relative:.1e}"
                if arguments.time:
                    times = " | |" if batch > 1 or height != width else latencies(path, image.numpy(), binary, arguments)
        print(f"| {name} | {nodes} | {batch}×3×{height}×{width} | {error} |{times}", flush=True)
    return beyond


def latencies(path, image, binary, arguments):
    """Median milliseconds of both engines."""
    import onnxruntime

    command = [binary, "--json", "bench", "--model", str(path), "--threads", str(arguments.threads), "--runs", str(arguments.runs)]
    done = subprocess.run(command, capture_output=True, text=True)
    own = "?"
    if done.returncode == 0:
        report = json.loads(done.stdout)
        own = f"{1e3 * report['results'][0]['median_seconds']:.2f}"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    seconds = []
    for _ in range(arguments.runs + 3):
        start = time.perf_counter()
        session.run(None, {"image": image})
        seconds.append(time.perf_counter() - start)
    return f" {own} | {1e3 * statistics.median(seconds[3:]):.2f} |"


def Only(made):
    """A segmenter's main output alone."""
    import torch

    class Main(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.made = made

        def forward(self, image):
            return self.made(image)["out"]

    return Main().eval()


if __name__ == "__main__":
    sys.exit(main())
