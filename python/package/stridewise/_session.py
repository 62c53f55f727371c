"""Running: arrays of every kind in, NumPy arrays out."""

from collections.abc import Mapping

import numpy as np

from . import _native
from ._native import Session


def as_array(value):
    """A contiguous NumPy array of what `value` holds: itself where it is one, else through DLPack or `__array__` without a copy where
    its memory allows. The element type is left as it is."""
    if not isinstance(value, np.ndarray):
        if hasattr(value, "detach"):
            value = value.detach()
        # A sign that is only noted on a tensor of torch is not part of its memory.
        if hasattr(value, "resolve_neg"):
            value = value.resolve_neg()
        value = np.from_dlpack(value) if hasattr(value, "__dlpack__") else np.asarray(value)
    return np.require(np.ascontiguousarray(value), requirements="A")


def run(self, inputs):
    """Runs the network. An array gives an array; a dict of arrays by input name gives a dict of arrays by output name. Other shapes
    than the last run's are planned anew. Float32 arrays that are contiguous are not copied."""
    if isinstance(inputs, Mapping):
        return self._run_named({name: as_array(value) for name, value in inputs.items()})
    return self._run(as_array(inputs))


def run_into(self, inputs, out):
    """Runs the network with the planned shape, and writes its output to `out`, a contiguous float32 array."""
    self._run_into(as_array(inputs), out)


def profile(self, inputs, runs=10):
    """Runs the network `runs` times and says how long each step took, in seconds.

    A dict with `run_seconds`, `input_seconds`, `output_seconds` (one for each run), and `steps`, a list of dicts with `name`, `op`,
    `problem`, `macs`, `algorithm` and `seconds` (one for each run)."""
    return self._profile(as_array(inputs), runs)


def compare_output(self, inputs, reference, max_error=None):
    """Runs the network and says how far its output is from a reference; see `stridewise.compare`."""
    return compare(run(self, inputs), reference, max_error)


def compare(value, reference, max_error=None):
    """How far an array is from a reference of the same shape.

    A dict with `relative_to_max` (max|d| / max|reference|), `max_abs` and where (`max_abs_at`), `max_rel`, `rms`, `cosine`, `snr_db`,
    for two dimensions `argmax_equal` (rows that agree, rows), `not_finite`, and `passed`: all is finite where the reference is, and
    `relative_to_max` is at most `max_error`."""
    return _native._compare(as_array(value), as_array(reference), max_error)


Session.run = run
Session.run_into = run_into
Session.profile = profile
Session.compare = compare_output
