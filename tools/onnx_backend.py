#!/usr/bin/env python3
"""Runs the ONNX project's own backend tests through the engine.

The cases come with the `onnx` package (`onnx.backend.test.loader`). Each is written to a file and run by the `stridewise` program;
its outputs are compared with the expected ones by the tolerances of the case. A case counts as

  passed       every output is as expected,
  unsupported  the program says what it does not support, or the case has what it never reads (strings, sequences),
  failed       anything else: a wrong number, another error, a crash.

What an op has to know before a run (a shape, axes, pads: inputs of their own in these cases) is made an initializer when the program
says so.

    pip install onnx numpy
    cargo build --release
    python tools/onnx_backend.py                       every kind
    python tools/onnx_backend.py --kind node --case softmax --details

Exit status 0: none failed. 1: some did. 77: the package is missing.
"""

import argparse
import collections
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

KINDS = ["node", "simple", "pytorch-converted", "pytorch-operator", "real"]

# The ops that the engine sets out to run.
LISTED = set(
    """Conv ConvTranspose BatchNormalization InstanceNormalization LayerNormalization GroupNormalization LRN Relu LeakyRelu PRelu Clip
    Sigmoid HardSigmoid HardSwish Swish Mish Elu Gelu Erf Tanh Softplus Softmax LogSoftmax MaxPool AveragePool GlobalAveragePool
    GlobalMaxPool Gemm MatMul Add Sub Mul Div Pow Sqrt Min Max Concat Split Slice Pad Reshape Flatten Squeeze Unsqueeze Transpose
    ReduceMean ReduceMax ReduceSum ArgMax Resize DepthToSpace SpaceToDepth Identity Dropout Constant Cast Shape Gather Expand
    Where""".split()
)


class Unsupported(Exception):
    """The engine says so, or never reads such a thing."""


class Failed(Exception):
    """A wrong result, or an error that is none of support."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=KINDS, action="append", help="only cases of this kind; may be given several times")
    parser.add_argument("--case", default="", help="only cases whose names contain this")
    parser.add_argument("--binary", type=pathlib.Path, help="the program [default: target/release/stridewise]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases at a time")
    parser.add_argument("--details", action="store_true", help="a line for each case that did not pass")
    parser.add_argument("--ops", action="store_true", help="a table of ops for each kind, not for `node` alone")
    arguments = parser.parse_args()
    try:
        import onnx.backend.test.loader as loader
    except ImportError:
        print("skipped: the package `onnx` is not installed")
        return 77
    root = pathlib.Path(__file__).resolve().parent.parent
    binary = arguments.binary or root / "target" / "release" / "stridewise"
    if not binary.exists():
        print(f"no program {binary}: cargo build --release")
        return 2

    failed = 0
    for kind in arguments.kind or KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cases = [case for case in loader.load_model_tests(kind=kind) if arguments.case in case.name]
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            results = list(pool.map(lambda case: judge(case, str(binary)), cases))
        total = collections.Counter(result for _, _, result, _ in results)
        failed += total["failed"]
        print(f"{kind}: {len(cases)} cases, {total['passed']} passed, {total['unsupported']} unsupported, {total['failed']} failed")
        if kind == "node" or arguments.ops:
            print_ops(results)
        if kind == "node":
            mine = [result for op, float32, result, _ in results if float32 and op in LISTED]
            print(f"float32 cases of the listed ops: {mine.count('passed')} of {len(mine)} passed; the others:")
            for case, (op, float32, result, reason) in zip(cases, results):
                if float32 and op in LISTED and result != "passed":
                    print(f"  {case.name}: {reason.split(' supported: ')[-1]}")
        for case, (_, _, result, reason) in zip(cases, results):
            if result == "failed" or (arguments.details and result != "passed"):
                print(f"  {result} {case.name}: {reason}")
    return 1 if failed else 0


def print_ops(results):
    """Passed, unsupported and failed for each op."""
    ops = collections.defaultdict(collections.Counter)
    for op, _, result, _ in results:
        ops[op][result] += 1
    width = max(map(len, ops), default=2)
    print(f"  {'op':{width}}  passed  unsupported  failed")
    for op, counts in sorted(ops.items()):
        print(f"  {op:{width}}  {counts['passed']:6}  {counts['unsupported']:11}  {counts['failed']:6}")


def judge(case, binary):
    """Op, whether all its floating-point tensors are float32, result and reason of a case."""
    import onnx

    op, float32 = "?", False
    try:
        model, data_sets = load(case)
        nodes = model.graph.node
        op = nodes[0].op_type if len(nodes) == 1 else "(several ops)"
        kinds = {
            info.type.tensor_type.elem_type
            for info in [*model.graph.input, *model.graph.output]
            if info.type.HasField("tensor_type")
        }
        # Beside whole numbers and truth values.
        float32 = onnx.TensorProto.FLOAT in kinds and kinds <= {*range(1, 8), 9, 12, 13}
        for inputs, outputs in data_sets:
            run(model, inputs, outputs, binary, case.rtol, case.atol)
        return op, float32, "passed", ""
    except Unsupported as reason:
        return op, float32, "unsupported", str(reason)
    except Failed as reason:
        return op, float32, "failed", str(reason)


def load(case):
    """A case's model and its lists of inputs and outputs."""
    import onnx
    import onnx.numpy_helper

    if case.model is not None:
        return case.model, case.data_sets
    if case.url and "data/light" in case.url:
        return load_light(pathlib.Path(onnx.__file__).parent.parent / case.url)
    folder = pathlib.Path(case.model_dir)
    model = onnx.load(str(folder / "model.onnx"))
    data_sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        pair = []
        for what, infos in (("input", model.graph.input), ("output", model.graph.output)):
            files = sorted(data.glob(f"{what}_*.pb"), key=lambda path: int(path.stem.split("_")[1]))
            pair.append([read_tensor(path, infos[index].type if index < len(infos) else None) for index, path in enumerate(files)])
        data_sets.append(pair)
    return model, data_sets


def read_tensor(path, kind):
    import onnx
    import onnx.numpy_helper

    if kind is not None and not kind.HasField("tensor_type"):
        return []
    return onnx.numpy_helper.to_array(onnx.TensorProto.FromString(path.read_bytes()))


def load_light(path):
    """A network with weights that its file makes, the input that the package's own runner gives it, and the output beside the file."""
    import numpy
    import onnx

    model = onnx.load(str(path))
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for info in model.graph.input:
        if info.name not in initializers:
            shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
            size = int(numpy.prod(shape))
            inputs.append((numpy.arange(size).reshape(shape) / size).astype(numpy.float32))
    outputs = [read_tensor(path.with_name(f"{path.stem}_output_{index}.pb"), None) for index in range(len(model.graph.output))]
    return model, [(inputs, outputs)]


def run(model, inputs, expected, binary, rtol, atol):
    """Runs one list of inputs and compares the outputs."""
    import numpy

    inputs, expected = [read_array(value) for value in inputs], [read_array(value) for value in expected]
    initializers = {tensor.name for tensor in model.graph.initializer}
    names = [info.name for info in model.graph.input if info.name not in initializers]
    given = list(zip(names, inputs))
    # First as it is; then with all inputs known but the first; then with all known.
    attempts = [[], given[1:], given]
    for known in attempts:
        try:
            names = {name for name, _ in known}
            found = run_program(with_known(model, known), [pair for pair in given if pair[0] not in names], len(expected), binary)
            break
        except Unsupported as reason:
            if "must be known before" not in str(reason) or known is given:
                raise
    for index, (array, reference) in enumerate(zip(found, expected)):
        # The engine computes in float32, and rounds to half precision where a network casts: what a reference rounds after each op
        # may differ by two units of its last place. A double beyond float32 is infinite.
        rtol = max(rtol, {"float16": 2.0**-9, "bfloat16": 2.0**-6}.get(reference.dtype.name, 0.0))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = reference.astype(numpy.float32)
        if array.shape != reference.shape:
            raise Failed(f"output {index} has the shape {array.shape}, expected {reference.shape}")
        try:
            numpy.testing.assert_allclose(array.astype(numpy.float64), reference.astype(numpy.float64), rtol=rtol, atol=atol)
        except AssertionError as error:
            raise Failed(f"output {index}: {' '.join(str(error).split())[:300]}") from None


def read_array(value):
    """An array of a type that the engine reads."""
    import numpy
    import onnx
    import onnx.numpy_helper

    if isinstance(value, onnx.TensorProto):
        readable = {*range(1, 8), *range(9, 14), 16}
        if value.data_type not in readable:
            raise Unsupported(f"elements of type {onnx.TensorProto.DataType.Name(value.data_type)}")
        value = onnx.numpy_helper.to_array(value)
    if not isinstance(value, numpy.ndarray) and not numpy.isscalar(value):
        raise Unsupported("a sequence, map or optional value")
    array = numpy.asarray(value)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise Unsupported(f"elements of type {array.dtype}")
    return array


def with_known(model, known):
    """The model with some of its inputs as initializers."""
    import onnx
    import onnx.numpy_helper

    if not known:
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    names = {name for name, _ in known}
    kept = [info for info in changed.graph.input if info.name not in names]
    del changed.graph.input[:]
    changed.graph.input.extend(kept)
    changed.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in known)
    return changed


def run_program(model, inputs, outputs, binary):
    """The outputs that the program writes."""
    import numpy

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        with open(path, "wb") as file:
            file.write(model.SerializeToString())
        command = [binary, "run", "--threads", "2", "--model", path, "--output", os.path.join(folder, "y")]
        for index, (name, array) in enumerate(inputs):
            file = os.path.join(folder, f"x{index}.npy")
            whole = array.dtype.kind in "biu"
            numpy.save(file, array.astype(numpy.int64 if whole else numpy.float32))
            command += ["--input", f"{name}={file}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            message = " ".join(done.stderr.split())
            limits = ["not supported", "whole numbers up to"]
            if done.returncode == 2 and any(limit in message for limit in limits):
                raise Unsupported(message)
            raise Failed(f"exit status {done.returncode}: {message[:300]}")
        y = os.path.join(folder, "y")
        files = [y] if outputs == 1 else [os.path.join(y, f"{index}.npy") for index in range(outputs)]
        return [numpy.load(file) for file in files]


if __name__ == "__main__":
    sys.exit(main())
