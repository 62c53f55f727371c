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
    FormatError,
    ShapeError,
    TimedOut,
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
    "FormatError",
    "Model",
    "Session",
    "ShapeError",
    "ThreadPool",
    "TimedOut",
    "WeightsError",
    "__version__",
    "architectures",
    "builtin",
    "compare",
    "instruction_sets",
    "load",
]


def load(source=None, *, arch=None, seed=0):
    """A model from a file, from a state_dict, or of random weights.

    source: the path of a safetensors or packed (.swp) file, or a state_dict: a mapping of names to torch tensors or NumPy arrays.
        None makes random weights, initialised as PyTorch does, the same for a `seed` on every machine.
    arch: the architecture's name, such as "resnet50" (see `architectures()`); None for the one that the file or the tensors tell.
    """
    if source is None:
        if arch is None:
            raise ArgumentError("arch: with no file and no state_dict, the name of an architecture is needed")
        return Model._random(arch, seed)
    if isinstance(source, (str, os.PathLike)):
        return Model._from_file(os.fspath(source), arch)
    if isinstance(source, Mapping):
        return Model._from_bytes(to_safetensors(source), arch)
    raise ArgumentError(f"source: expected a path, a state_dict or None, found {type(source).__name__}")


def builtin():
    """The ResNet-20 for CIFAR-10 that comes with the package."""
    return Model._builtin()
