"""Writes safetensors files whose bytes depend on nothing but the content: the header is sorted."""

import json
import os

from safetensors.torch import save


def save_sorted(tensors, path, metadata):
    """Writes contiguous `tensors` and text `metadata` beside `path`, then renames: no half-written file stays."""
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata=metadata)
    body = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8:body]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    with open(f"{path}.part", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + data[body:])
    os.replace(f"{path}.part", path)
