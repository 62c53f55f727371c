"""Prints the table of `examples/latency.rs` for ONNX Runtime and ncnn: the same loop of 30 frames a second, the same networks.

    python3 -m venv target/peers && target/peers/bin/pip install torch torchvision onnx onnxscript onnxruntime ncnn pnnx numpy
    target/peers/bin/python tools/latency_peers.py --models resnet18,resnet50 --threads 1,2 --frames 3000 --hz 30 --busy 0

Weights are random: they make no difference to time. Allocations are not counted here; `CPU between frames` is the processor time of all
threads but the one that runs the loop, from a millisecond after a frame to the next, as Linux counts it.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SPIN = "import numpy as np\na = np.ones(4 << 20, np.float32)\nwhile True: a = a * np.float32(1.0001) + np.float32(1e-7)"


def network(name):
    import torch
    import torchvision

    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval(), torch.zeros(1, 3, 224, 224)


def onnx_runtime(name, threads, folder):
    import onnxruntime
    import torch

    path = folder / f"{name}.onnx"
    if not path.exists():
        module, image = network(name)
        torch.onnx.export(module, (image,), str(path), input_names=["input"], output_names=["output"], opset_version=18)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"input": image})


def ncnn(name, threads, folder):
    import ncnn as engine
    import pnnx

    param = folder / f"{name}.ncnn.param"
    if not param.exists():
        module, image = network(name)
        here = os.getcwd()
        os.chdir(folder)
        try:
            pnnx.export(module, f"{name}.pt", image)
        finally:
            os.chdir(here)
    net = engine.Net()
    net.opt.num_threads = threads
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False

    def run(image):
        extractor = net.create_extractor()
        extractor.input("in0", engine.Mat(image[0]))
        return np.array(extractor.extract("out0")[1])

    return run


def time_of_others():
    """Nanoseconds that all threads but this one have run for."""
    own, total = os.readlink("/proc/thread-self").rsplit("/", 1)[1], 0
    for thread in os.listdir("/proc/self/task"):
        if thread != own:
            try:
                total += int(Path("/proc/self/task", thread, "schedstat").read_text().split()[0])
            except FileNotFoundError:
                pass
    return total


def frames(run, count, period):
    image, latencies, between = np.zeros((1, 3, 224, 224), np.float32), [], 0
    run(image)
    due = time.perf_counter() + period
    for frame in range(count):
        time.sleep(0.001)
        before = time_of_others()
        time.sleep(max(0.0, due - time.perf_counter()))
        between += time_of_others() - before
        image.flat[frame % 1000] = 0.5
        start = time.perf_counter()
        run(image)
        latencies.append((time.perf_counter() - start) * 1e3)
        due = max(due + period, time.perf_counter())
    return sorted(latencies), between / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet18,resnet50")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--frames", type=int, default=3000)
    parser.add_argument("--hz", type=float, default=30)
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--engines", default="onnxruntime,ncnn")
    arguments = parser.parse_args()
    known = {"onnxruntime": ("ONNX Runtime", onnx_runtime), "ncnn": ("ncnn", ncnn)}
    print("| engine | network | threads | busy neighbours | p50 ms | p95 | p99 | p99.9 | max | allocations | CPU between frames, ms |")
    print("| --- | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
    with tempfile.TemporaryDirectory() as folder:
        for engine in arguments.engines.split(","):
            title, load = known[engine]
            for name in arguments.models.split(","):
                for threads in map(int, arguments.threads.split(",")):
                    run = load(name, threads, Path(folder))
                    neighbours = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(arguments.busy)]
                    try:
                        latencies, between = frames(run, arguments.frames, 1 / arguments.hz)
                    finally:
                        for neighbour in neighbours:
                            neighbour.kill()
                            neighbour.wait()
                    quantiles = [latencies[max(0, math.ceil(q * len(latencies)) - 1)] for q in (0.5, 0.95, 0.99, 0.999, 1.0)]
                    shown = " | ".join(f"{q:.2f}" for q in quantiles)
                    print(f"| {title} | {name} | {threads} | {arguments.busy} | {shown} | not counted | {between:.3f} |", flush=True)


if __name__ == "__main__":
    main()
