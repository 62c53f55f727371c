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
    python tools/onnx_torchvision.py --time --threads 2          and latencies beside ONNX Runtime's (pip install onnxruntime)

Latencies are of the usual size at batch 1. The two engines take turns, each a few runs at a time: a machine that slows down slows
both. Each turn begins with a run that is not timed, since the other engine has had the caches, and after a pause in which the other
engine's threads stop waiting for work. `--keep FOLDER` leaves the exported networks there, and `--time-only`
computes nothing but latencies, of what is there if it is.

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
    parser.add_argument("--time", action="store_true", help="latency at batch 1 beside ONNX Runtime's")
    parser.add_argument("--time-only", action="store_true", help="latencies alone")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--numerics", choices=["fast", "exact"], default="fast")
    parser.add_argument("--runs", type=int, default=40, help="timed runs of each engine")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for the .onnx files")
    arguments = parser.parse_args()
    arguments.time |= arguments.time_only
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
    latency = " stridewise ms: median, least | ONNX Runtime ms: median, least | ratio of medians |" if arguments.time else ""
    accuracy = "" if arguments.time_only else " max error |"
    print(f"| network | nodes | input |{accuracy}{latency}")
    print("| --- | --: | --- |" + (" --: |" if accuracy else "") + (" --: | --: | --: |" if latency else ""))
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
            # What a block adds is less than what goes past it, as in trained networks: otherwise rounding errors grow from block to block,
            # PyTorch's beyond the tolerance too.
            if isinstance(module, (torchvision.models.resnet.BasicBlock, torchvision.models.resnet.Bottleneck)):
                getattr(module, "bn3", module.bn2).weight.uniform_(0.1, 0.5)
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
                # In units of the channel's own spread: a channel of small numbers would become one of large ones.
                norm.running_mean += 0.1 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
                norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.7, 1.4)
    return made.eval()


def compare(name, arguments, binary, folder):
    """Prints a line for each input; returns how many are beyond the tolerance."""
    import numpy
    import torch

    size = SIZES.get(name, 224)
    path = folder / f"{name}.onnx"
    if arguments.time_only and path.exists():
        print_line(name, path, [1, 3, size, size], latencies(path, size, folder, binary, arguments))
        return 0
    made = network(name)
    odd = ODD_SIZES.get(name, [193, 257])
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
    export(size, size, {0: "N"} if fixed else {0: "N", 2: "H", 3: "W"})
    times = latencies(path, size, folder, binary, arguments) if arguments.time else []
    if arguments.time_only:
        print_line(name, path, [1, 3, size, size], times)
        return 0
    beyond = 0
    for batch, (height, width) in [(1, (size, size)), (3, (size, size)), (1, odd), (3, odd)]:
        if fixed and height != size:
            export(height, width, {0: "N"})
        image = torch.randn(batch, 3, height, width)
        with torch.no_grad():
            reference = exported(image).numpy()
        numpy.save(folder / "x.npy", image.numpy())
        command = [binary, "run", "--model", str(path), "--input", str(folder / "x.npy"), "--output", str(folder / "y.npy")]
        options = ["--threads", str(arguments.threads), "--numerics", arguments.numerics]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        if done.returncode != 0:
            error, agrees = " ".join(done.stderr.split())[:200], False
        else:
            found = numpy.load(folder / "y.npy")
            if found.shape != reference.shape:
                error, agrees = f"shape {found.shape}, expected {reference.shape}", False
            else:
                relative = float(numpy.abs(found - reference).max() / numpy.abs(reference).max())
                error, agrees = f"{relative:.1e}", relative <= arguments.tolerance
        beyond += not agrees
        print_line(name, path, [batch, 3, height, width], [error, *times])
        times = [""] * len(times)
    return beyond


def print_line(name, path, dims, figures):
    import onnx

    nodes = len(onnx.load(str(path), load_external_data=False).graph.node)
    print(" | ".join([f"| {name}", str(nodes), "×".join(map(str, dims)), *figures]) + " |", flush=True)


# Runs of an engine before it is the other's turn.
TURN = 5
# Seconds between turns. ONNX Runtime's threads keep a processor busy for some 60 ms behind its last run.
PAUSE = 0.15


def latencies(path, size, folder, binary, arguments):
    """Milliseconds of both engines, median and least, and the quotient of the medians."""
    import numpy
    import onnxruntime

    image = numpy.random.default_rng(0).standard_normal((1, 3, size, size), numpy.float32)
    numpy.save(folder / "x.npy", image)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = arguments.threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def other(runs):
        seconds = []
        for _ in range(runs):
            start = time.perf_counter()
            session.run(None, {"image": image})
            seconds.append(time.perf_counter() - start)
        return seconds

    command = [binary, "bench-worker", "--model", str(path), "--input", str(folder / "x.npy"), "--threads", str(arguments.threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        if not worker.stdout.readline().startswith("ready"):
            return ["?"] * 3

        def own(runs):
            worker.stdin.write(f"run {runs}\n")
            worker.stdin.flush()
            return json.loads(worker.stdout.readline())["seconds"]

        seconds = [[], []]
        while len(seconds[0]) < arguments.runs:
            for engine, run in enumerate((own, other)):
                time.sleep(PAUSE)
                seconds[engine] += run(TURN + 1)[1:]
        worker.stdin.close()
    medians = [statistics.median(times) for times in seconds]
    shown = [f"{1e3 * median:.2f}, {1e3 * min(times):.2f}" for median, times in zip(medians, seconds)]
    return [*shown, f"{medians[0] / medians[1]:.2f}"]


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
