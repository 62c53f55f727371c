#!/usr/bin/env python3
"""Writes tests/golden/onnx/residual.onnx: a small residual network with every kind of thing that an exporter writes.

Needs onnx and numpy. The file is the same in every run with the same onnx.

    python tools/make_onnx_sample.py
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model() -> onnx.ModelProto:
    random = np.random.default_rng(7)
    nodes, initializers = [], []

    def constant(name: str, values: np.ndarray) -> str:
        initializers.append(numpy_helper.from_array(values, name))
        return name

    def weights(name: str, *shape: int) -> str:
        return constant(name, (random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32))

    def node(op: str, inputs: list[str], output: str, **attributes) -> str:
        nodes.append(helper.make_node(op, inputs, [output], name=f"/{output}/{op}", **attributes))
        return output

    def conv(x: str, name: str, oc: int, c: int, kernel: int, **attributes) -> str:
        pads = [kernel // 2] * 4
        return node("Conv", [x, weights(f"{name}.weight", oc, c, kernel, kernel), weights(f"{name}.bias", oc)], name, pads=pads, **attributes)

    def normalised(x: str, name: str, c: int) -> str:
        statistics = [
            constant(f"{name}.weight", random.uniform(0.5, 1.5, c).astype(np.float32)),
            constant(f"{name}.bias", random.standard_normal(c).astype(np.float32)),
            constant(f"{name}.running_mean", random.standard_normal(c).astype(np.float32)),
            constant(f"{name}.running_var", random.uniform(0.5, 1.5, c).astype(np.float32)),
        ]
        return node("BatchNormalization", [x, *statistics], name, epsilon=1e-5)

    stem = node("Relu", [normalised(conv("image", "stem", 8, 3, 3, strides=[2, 2]), "bn", 8)], "relu")
    pooled = node("MaxPool", [stem], "pooled", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    branch = conv(node("HardSwish", [conv(pooled, "expand", 24, 8, 1)], "swish"), "depthwise", 24, 1, 3, group=24)
    gate = node("GlobalAveragePool", [branch], "squeezed")
    gate = node("Sigmoid", [conv(gate, "excite", 24, 24, 1)], "gate")
    branch = conv(node("Mul", [branch, gate], "scaled"), "project", 8, 24, 1)
    sum_ = node("Add", [branch, pooled], "sum")
    halves = node("Concat", [node("Clip", [sum_, constant("low", np.float32(0)), constant("high", np.float32(6))], "clip"), pooled], "both", axis=1)
    mean = node("ReduceMean", [halves], "mean", axes=[2, 3], keepdims=1)
    shape = node("Shape", [mean], "shape")
    batch = node("Gather", [shape, constant("zero", np.int64(0))], "batch")
    batch = node("Unsqueeze", [batch, constant("axis", np.array([0], np.int64))], "batch_axis")
    target = node("Concat", [batch, constant("rest", np.array([-1], np.int64))], "target", axis=0)
    flat = node("Reshape", [mean, target], "flat")
    logits = node("Gemm", [flat, weights("fc.weight", 5, 16), weights("fc.bias", 5)], "logits", transB=1)
    node("Softmax", [logits], "probabilities", axis=1)

    graph = helper.make_graph(
        nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 5])],
        initializers,
    )
    made = helper.make_model(graph, producer_name="stridewise", opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parent.parent / "tests/golden/onnx/residual.onnx"
    parser.add_argument("--output", type=Path, default=default)
    path = parser.parse_args().output
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model().SerializeToString(deterministic=True))
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
