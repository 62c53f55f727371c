#!/usr/bin/env python3
"""Writes tests/golden/quantized/: a small network as ONNX Runtime's static quantisation exports it, and what ONNX Runtime computes.

    pip install onnx onnxruntime numpy
    python tools/make_quantized_onnx.py

Three forms: `qdq` (bytes of activations without sign), `qdq_signed` (with sign), `qoperator` (QLinearConv and its like). Their input is
`input.npy`; beside each is the output of a run without any optimisation of the graph.
"""

import pathlib
import tempfile

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import QuantFormat, QuantType

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "quantized"
SHAPE = [2, 3, 20, 18]


def network(path):
    """Convolutions of every kind, a pool of maxima, a residual, a function without a kernel for bytes, and a linear layer."""
    random = numpy.random.default_rng(7)
    nodes, constants = [], []

    def constant(name, *shape):
        values = random.standard_normal(shape) / max(1, numpy.prod(shape[1:])) ** 0.5
        constants.append(numpy_helper.from_array(values.astype(numpy.float32), name))
        return name

    def add(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(x, name, out_channels, channels, kernel, relu=True, **attributes):
        weight = constant(name + ".w", out_channels, channels, kernel, kernel)
        y = add("Conv", [x, weight, constant(name + ".b", out_channels)], name, pads=[kernel // 2] * 4, **attributes)
        return add("Relu", [y], name + ".relu") if relu else y

    x = conv("image", "stem", 16, 3, 3)
    x = add("MaxPool", [x], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    y = conv(x, "reduce", 24, 16, 1)
    y = conv(y, "depthwise", 24, 1, 3, group=24)
    y = conv(y, "expand", 16, 24, 1, relu=False)
    x = add("Relu", [add("Add", [y, x], "sum")], "sum.relu")
    x = add("Mul", [x, add("Sigmoid", [x], "gate")], "gated")
    x = add("Concat", [x, conv(x, "branch", 8, 16, 3)], "joined", axis=1)
    x = conv(x, "last", 40, 24, 3, strides=[2, 2])
    x = add("GlobalAveragePool", [x], "mean")
    x = add("Flatten", [x], "flat")
    add("Gemm", [x, constant("fc.w", 10, 40), constant("fc.b", 10)], "logits", transB=1)
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)  # noqa: E731
    graph = helper.make_graph(nodes, "quantized", [value("image", ["N", *SHAPE[1:]])], [value("logits", ["N", 10])], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=pathlib.Path(__file__).name)
    onnx.checker.check_model(model)
    onnx.save(model, path)


class Images(quantization.CalibrationDataReader):
    def __init__(self):
        random = numpy.random.default_rng(11)
        self.left = [random.standard_normal(SHAPE).astype(numpy.float32) for _ in range(8)]

    def get_next(self):
        return {"image": self.left.pop()} if self.left else None


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    image = numpy.random.default_rng(12).standard_normal(SHAPE).astype(numpy.float32)
    numpy.save(FOLDER / "input.npy", image)
    with tempfile.TemporaryDirectory() as folder:
        floats = pathlib.Path(folder) / "float.onnx"
        network(floats)
        for name, form, activations in [
            ("qdq", QuantFormat.QDQ, QuantType.QUInt8),
            ("qdq_signed", QuantFormat.QDQ, QuantType.QInt8),
            ("qoperator", QuantFormat.QOperator, QuantType.QUInt8),
        ]:
            path = FOLDER / f"{name}.onnx"
            quantization.quantize_static(
                floats, path, Images(), form, per_channel=True, activation_type=activations, weight_type=QuantType.QInt8
            )
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            logits = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
            numpy.save(FOLDER / f"{name}.npy", logits)
            exact = onnxruntime.InferenceSession(floats, providers=["CPUExecutionProvider"]).run(None, {"image": image})[0]
            error = 10 * numpy.log10((exact**2).sum() / ((exact - logits) ** 2).sum())
            ops = sorted({node.op_type for node in onnx.load(path).graph.node})
            print(f"{name}: {path.stat().st_size} bytes, {error:.1f} dB, {' '.join(ops)}")


if __name__ == "__main__":
    main()
