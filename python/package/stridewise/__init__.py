"""Convolutional networks on a CPU, inside your program.

    model = stridewise.load("resnet50.safetensors")
    session = model.session(threads=2)
    logits = session.run(images)  # float32, [N, 3, 224, 224] -> [N, 1000]

Models are immutable and may be shared by threads; sessions of one model share its packed weights. A session runs one thing at a
time, without the interpreter's lock. Make pools and sessions after a fork: their threads are not in the child.
"""

import os
from collections.abc import Mapping



from ._errors import (
    ArgumentError,
    Cancelled,
    DTypeError,
    Error,
    FileError,
    ForkedError,
    FormatError,
    GraphError,
    KernelError,
    ShapeError,
    TimedOut,
    TooLargeError,
    UnsupportedError,
    WeightsError,
)
from ._native import CancelToken, Model, ThreadPool, __version__, architectures, instruction_sets
from ._session import Session, compare
from ._state_dict import to_safetensors

__all__ = [
    "ArgumentError",
    "CancelToken",
    "Cancelled",
    "DTypeError",
    "Error",
    "FileError",
    "ForkedError",
    "FormatError",
    "GraphError",
    "KernelError",
    "Model",
    "Session",
    "ShapeError",
    "ThreadPool",
    "TimedOut",
    "TooLargeError",
    "UnsupportedError",
    "WeightsError",
    "__version__",
    "architectures",
    "builtin",
    "compare",
    "instruction_sets",
    "load",
]


def load(source=None, *, arch=None, seed=0, shapes=None, max_memory=None):
    """A model from a file, from bytes, from a state_dict, or of random weights.

    source: the path of a safetensors, ONNX or packed (.swp) file, the bytes of a safetensors or an ONNX file, or a state_dict: a mapping
        of names to torch tensors or NumPy arrays. None makes random weights, initialised as PyTorch does, the same for a `seed` on every
        machine.
    arch: the architecture's name, such as "resnet50" (see `architectures()`); None for the one that the file or the tensors tell. A packed
        file must be of this one; an ONNX file has none.
    shapes: a mapping of inputs' names to shapes, for an ONNX file that does not fit batch 1, images of 224x224 and other dimensions of 1.
        Sessions may be made for other ones.
    max_memory: most bytes that constants of an ONNX file may take which are computed from constants, or of which a run needs a copy in
        f32.
    """
    if isinstance(source, (str, os.PathLike)):
        return Model._from_file(os.fspath(source), arch, shapes, max_memory)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Model._from_bytes(bytes(source), arch, shapes, max_memory)
    if shapes:
        raise ArgumentError("shapes: only an ONNX file is read for shapes; give them to the session")
    if source is None:
        if arch is None:
            raise ArgumentError("arch: with no file and no state_dict, the name of an architecture is needed")
        return Model._random(arch, seed)
    if isinstance(source, Mapping):
        return Model._from_bytes(to_safetensors(source), arch, None, None)
    raise ArgumentError(f"source: expected a path, bytes, a state_dict or None, found {type(source).__name__}")


def builtin():
    """The ResNet-20 for CIFAR-10 that comes with the package."""
    return Model._builtin()
