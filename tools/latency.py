"""The loop of `examples/latency.rs` on Stridewise, ONNX Runtime and ncnn, in one run and in turns: a table of how long frames took.

    cargo build --release --example latency
    python3 -m venv target/peers && target/peers/bin/pip install torch torchvision onnx onnxscript onnxruntime ncnn pnnx numpy
    target/peers/bin/python tools/latency.py --prepare      # exports the networks to target/peers/networks
    target/peers/bin/python tools/latency.py --models resnet18,resnet50 --threads 1,2 --frames 3000 --peer-frames 3000 --busy 0

Each engine has a process of its own, and sleeps while another has its turn, of `--turn` frames. Weights are random: they make no
difference to time. Allocations of the other engines are not counted; `CPU between frames` is the processor time of all threads but the
one that runs the loop, from a millisecond after a frame to the next, as Linux counts it; `stolen` is the part of all processors' time
that the machine's host gave to others during an engine's turns.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SPIN = "import numpy as np\na = np.ones(4 << 20, np.float32)\nwhile True: a = a * np.float32(1.0001) + np.float32(1e-7)"


def prepare(name, folder):
    """Exports a network for every engine, where that has not been done."""
    onnx, param = folder / f"{name}.onnx", folder / f"{name}.ncnn.param"
    if onnx.exists() and param.exists():
        return
    import pnnx
    import torch
    import torchvision

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    module, image = torchvision.models.get_model(name, weights=None).eval(), torch.zeros(1, 3, 224, 224)
    torch.onnx.export(module, (image,), str(onnx), input_names=["input"], output_names=["output"], opset_version=18)
    os.chdir(folder)
    pnnx.export(module, f"{name}.pt", image, fp16=False)


def onnx_runtime(name, threads, folder):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"input": image})


def ncnn(name, threads, folder):
    import ncnn as engine
    import numpy as np

    net = engine.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = net.opt.use_bf16_storage = False
    net.load_param(str(folder / f"{name}.ncnn.param"))
    net.load_model(str(folder / f"{name}.ncnn.bin"))

    def run(image):
        extractor = net.create_extractor()
        extractor.input("in0", engine.Mat(image[0]))
        return np.array(extractor.extract("out0")[1])

    return run


PEERS = {"onnxruntime": ("ONNX Runtime", onnx_runtime), "ncnn": ("ncnn", ncnn)}


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


def stolen_ticks():
    """Ticks of all processors that the host gave to others, and all ticks."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)


def record(run, image, count, period):
    latencies, between, stolen = [], 0, stolen_ticks()
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
    stolen = [after - before for after, before in zip(stolen_ticks(), stolen)]
    return {"latencies": latencies, "allocations": None, "between": between / 1e6, "stolen": stolen}


def work(peer, name, threads, period, folder):
    """What `latency --worker` does: as many frames as each line of the standard input says."""
    import numpy as np

    title, load = PEERS[peer]
    run, image = load(name, threads, folder), np.zeros((1, 3, 224, 224), np.float32)
    for _ in range(20):
        run(image)
    print("ready", flush=True)
    for line in sys.stdin:
        # What had its turn before has filled the caches.
        record(run, image, 5, period)
        print(json.dumps({title: record(run, image, int(line), period)}), flush=True)


class Worker:
    def __init__(self, command, frames):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.left = frames
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit(f"{command[0]} is not ready")

    def turn(self, frames, results):
        """Has the engine do its next frames, and adds up what they were like."""
        frames = min(frames, self.left)
        if not frames:
            return
        self.left -= frames
        print(frames, file=self.process.stdin, flush=True)
        for engine, told in json.loads(self.process.stdout.readline()).items():
            so_far = results.setdefault(engine, {"latencies": [], "allocations": 0, "between": 0.0, "stolen": [0, 0]})
            so_far["latencies"] += told["latencies"]
            so_far["allocations"] = None if told["allocations"] is None else so_far["allocations"] + told["allocations"]
            so_far["between"] += told["between"] or 0.0
            so_far["stolen"] = [a + b for a, b in zip(so_far["stolen"], told["stolen"])]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def row(engine, name, threads, busy, result):
    latencies = sorted(result["latencies"])
    p50, p95, p99, p999, most = (latencies[max(0, math.ceil(q * len(latencies)) - 1)] for q in (0.5, 0.95, 0.99, 0.999, 1.0))
    allocations = "not counted" if result["allocations"] is None else result["allocations"]
    stolen = 100 * result["stolen"][0] / max(1, result["stolen"][1])
    return (
        f"| {engine} | {name} | {threads} | {busy} | {len(latencies)} | {p50:.2f} | {p95:.2f} | {p99:.2f} | {p999:.2f} | {most:.2f} "
        f"| {p99 / p50:.2f} | {allocations} | {result['between']:.3f} | {stolen:.1f} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="resnet18,resnet50")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--frames", type=int, default=3000, help="of Stridewise; an eighth as many of the fixed arithmetic")
    parser.add_argument("--peer-frames", type=int, default=3000, help="of each other engine")
    parser.add_argument("--turn", type=int, default=500, help="frames in a turn of Stridewise; the others have their share")
    parser.add_argument("--hz", type=float, default=30)
    parser.add_argument("--busy", type=int, default=0, help="processes that compute all the time beside it")
    parser.add_argument("--peers", default="onnxruntime,ncnn")
    parser.add_argument("--folder", type=Path, default=ROOT / "target/peers/networks", help="where exported networks are")
    parser.add_argument("--program", type=Path, default=ROOT / "target/release/examples/latency")
    parser.add_argument("--prepare", action="store_true", help="only export the networks")
    parser.add_argument("--worker", metavar="PEER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names, folder = arguments.models.split(","), arguments.folder.resolve()
    if arguments.worker:
        return work(arguments.worker, names[0], int(arguments.threads), 1 / arguments.hz, folder)
    peers = [peer for peer in arguments.peers.split(",") if peer]
    for name in names if peers else []:
        prepare(name, folder)
    if arguments.prepare:
        return None
    titles = "engine | network | threads | busy neighbours | frames | p50 ms | p95 | p99 | p99.9 | max | p99 / p50 | allocations"
    print(f"| {titles} | CPU between frames, ms | stolen, % |\n| --- | --- |{' --: |' * 12}", flush=True)
    for name in names:
        for threads in map(int, arguments.threads.split(",")):
            common = ["--models", name, "--threads", str(threads), "--hz", str(arguments.hz)]
            workers = [Worker([str(arguments.program), "--worker", *common], arguments.frames)]
            for peer in peers:
                command = [sys.executable, __file__, "--worker", peer, *common, "--folder", str(folder)]
                workers.append(Worker(command, arguments.peer_frames))
            neighbours = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(arguments.busy)]
            results, turns = {}, math.ceil(arguments.frames / arguments.turn)
            try:
                for _ in range(turns):
                    workers[0].turn(arguments.turn, results)
                    for worker in workers[1:]:
                        worker.turn(math.ceil(arguments.peer_frames / turns), results)
            finally:
                for neighbour in neighbours:
                    neighbour.kill()
                    neighbour.wait()
                for worker in workers:
                    worker.end()
            for engine, result in results.items():
                print(row(engine, name, threads, arguments.busy, result), flush=True)
    return None


if __name__ == "__main__":
    main()
