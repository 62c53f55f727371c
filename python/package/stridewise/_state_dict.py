"""A state_dict as the bytes of a safetensors file."""

import json
import struct

import numpy as np

from ._errors import DTypeError

_TYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "int64": "I64", "int32": "I32", "uint8": "U8"}


def _array(name, tensor):
    if hasattr(tensor, "detach"):
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        tensor = tensor.contiguous().numpy()
    array = np.ascontiguousarray(tensor)
    if array.dtype.name not in _TYPES:
        raise DTypeError(f"tensor `{name}`: expected element type F32, F16 or BF16, found {array.dtype.name}")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def to_safetensors(state_dict):
    """The mapping's tensors, in its order."""
    header, parts, offset = {}, [], 0
    for name, tensor in state_dict.items():
        array = _array(name, tensor)
        data = array.tobytes()
        header[str(name)] = {"dtype": _TYPES[array.dtype.name], "shape": list(np.shape(tensor)), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])
