#!/usr/bin/env python3
"""Writes tests/golden/onnx/*.onnx: small networks that the program's tests read.

    pip install onnx numpy
    python tools/make_onnx.py
"""

import pathlib

import numpy
from onnx import TensorProto, helper, numpy_helper, save

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "onnx"


def write(name, nodes, inputs, outputs, initializers=()):
    floats = lambda pairs: [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in pairs]  # noqa: E731
    graph = helper.make_graph(nodes, name, floats(inputs), floats(outputs), list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="make_onnx.py")
    save(model, FOLDER / f"{name}.onnx")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    node = helper.make_node
    ramp = lambda *shape: (numpy.arange(numpy.prod(shape)).reshape(shape) % 7 - 3).astype(numpy.float32) / 4  # noqa: E731
    constant = numpy_helper.from_array

    # A convolution, global pooling and a linear layer, of any batch and size.
    write(
        "classifier",
        [
            node("Conv", ["image", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            node("Relu", ["c"], ["r"], name="relu"),
            node("GlobalAveragePool", ["r"], ["p"], name="pool"),
            node("Flatten", ["p"], ["f"], name="flatten"),
            node("Gemm", ["f", "fc", "b"], ["logits"], name="fc", transB=1),
        ],
        [("image", ["N", 3, "H", "W"])],
        [("logits", ["N", 10])],
        [constant(ramp(8, 3, 3, 3), "w"), constant(ramp(10, 8), "fc"), constant(ramp(10), "b")],
    )
    write(
        "two_inputs",
        [node("Add", ["a", "b"], ["sum"], name="add"), node("Mul", ["a", "b"], ["product"], name="mul")],
        [("a", ["N", 3]), ("b", ["N", 1])],
        [("sum", ["N", 3]), ("product", ["N", 3])],
    )
    # A linear layer that fits images of 4x4 alone, though the input says H and W.
    write(
        "flattened",
        [node("Flatten", ["image"], ["f"], name="flatten"), node("Gemm", ["f", "fc"], ["features"], name="fc", transB=1)],
        [("image", ["N", 3, "H", "W"])],
        [("features", ["N", 2])],
        [constant(ramp(2, 48), "fc")],
    )
    write(
        "unsupported",
        [
            node("Relu", ["x"], ["r"], name="relu"),
            node("Det", ["r"], ["d"], name="determinant"),
            node("NonZero", ["r"], ["z"], name="places"),
        ],
        [("x", [2, 2])],
        [("d", []), ("z", [2, None])],
    )


if __name__ == "__main__":
    main()
