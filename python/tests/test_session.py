"""Sessions: arrays in and out, by every way, and what other threads may do meanwhile."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

import stridewise

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model():
    return stridewise.builtin()


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)


def test_arrays_of_every_kind_give_the_same(model, x):
    session = model.session()
    y = session.run(x)
    assert y.shape == (1, 10) and y.dtype == np.float32
    padded = np.zeros((1, 3, 32, 40), np.float32)
    padded[..., :32] = x

    class Holder:
        def __array__(self, dtype=None, copy=None):
            return x

    class Exporter:
        def __dlpack__(self, **options):
            return x.__dlpack__(**options)

        def __dlpack_device__(self):
            return x.__dlpack_device__()

    read_only = x.copy()
    read_only.setflags(write=False)
    for same in [padded[..., :32], np.asfortranarray(x), read_only, Holder(), Exporter()]:
        assert np.array_equal(session.run(same), y)


def test_run_into_writes_the_callers_array(model, x):
    session = model.session(threads=2)
    expected = session.run(x)
    out = np.full((1, 10), 7, np.float32)
    assert session.run_into(x, out) is None
    assert np.array_equal(out, expected)
    with pytest.raises(stridewise.ShapeError, match="output"):
        session.run_into(x, np.zeros((1, 11), np.float32))
    with pytest.raises(stridewise.ArgumentError, match="output.*contiguous"):
        session.run_into(x, np.zeros((10, 2), np.float32).T[:1])
    memory = bytearray(4 * (x.size + 5))
    shared = np.frombuffer(memory, np.float32, count=x.size).reshape(x.shape)
    with pytest.raises(stridewise.ArgumentError, match="output.*overlaps"):
        session.run_into(shared, np.frombuffer(memory, np.float32, offset=4 * (x.size - 5)).reshape(1, 10))
    odd = np.frombuffer(bytearray(41), np.float32, offset=1).reshape(1, 10)
    with pytest.raises(stridewise.ArgumentError, match="output"):
        session.run_into(x, odd)
    unaligned = np.frombuffer(b"?" + x.tobytes(), np.float32, offset=1).reshape(x.shape)
    assert np.array_equal(session.run(unaligned), expected)
    frozen = np.zeros((1, 10), np.float32)
    frozen.setflags(write=False)
    with pytest.raises(stridewise.ArgumentError, match="output"):
        session.run_into(x, frozen)


def test_inputs_and_outputs_by_name(model, x):
    session = model.session()
    (name,), (output,) = session.input_names, session.output_names
    assert (session.input_shapes, session.output_shapes) == ([[1, 3, 32, 32]], [[1, 10]])
    named = session.run({name: x})
    assert list(named) == [output] and np.array_equal(named[output], session.run(x))
    with pytest.raises(stridewise.ArgumentError, match="nonsense"):
        session.run({"nonsense": x})


def test_another_batch_is_planned(model, x):
    session = model.session(numerics="exact")
    one = session.run(x)
    assert np.array_equal(session.run(np.concatenate([x, x, x])), np.concatenate([one, one, one]))


def test_bfloat16_is_near_and_bytes_need_scales(model, x):
    exact, near = model.session().run(x), model.session(precision="bf16").run(x)
    # The same where the processor multiplies f32 faster.
    assert np.abs(near - exact).max() < 0.05 * np.abs(exact).max()
    with pytest.raises(stridewise.ArgumentError, match="stridewise quantize"):
        model.session(precision="int8")


def test_threads_share_models_pools_and_sessions(model, x):
    pool = stridewise.ThreadPool(2)
    sessions = [model.session(threads=pool), model.session(threads=pool), model.session(threads=1)]
    assert [s.threads for s in sessions] == [2, 2, 1]
    expected = sessions[0].run(x)
    wrong = []

    def work(session):
        for _ in range(20):
            if not np.array_equal(session.run(x), expected):
                wrong.append(session)

    threads = [threading.Thread(target=work, args=(session,)) for session in sessions * 2]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_the_interpreter_goes_on_while_a_network_runs():
    session = stridewise.load(arch="resnet18").session()
    x = np.zeros((1, 3, 224, 224), np.float32)
    session.run(x)
    running, turns = True, 0

    def work():
        nonlocal running
        for _ in range(3):
            session.run(x)
        running = False

    thread = threading.Thread(target=work)
    thread.start()
    # With the lock held throughout, this thread would get a turn between the runs at most.
    while running:
        turns += 1
        time.sleep(0.0005)
    thread.join()
    assert turns > 6


def test_runs_are_cancelled_and_limited_in_time(model, x):
    session = model.session()
    token = stridewise.CancelToken()
    session.set_cancel_token(token)
    session.run(x)
    threading.Thread(target=token.cancel).start()
    while not token.cancelled:
        time.sleep(0.001)
    with pytest.raises(stridewise.Cancelled):
        session.run(x)
    token.reset()
    for limit in (1e-9, 0.0, -1e-9, -1.0, float("-inf")):
        session.set_time_limit(limit)
        with pytest.raises(TimeoutError, match="limit"):
            session.run(x)
    session.set_time_limit(None)
    session.run(x)
    with pytest.raises(stridewise.ArgumentError, match="seconds = NaN"):
        session.set_time_limit(float("nan"))
    session.run(x)


def test_explain_profile_and_compare(model, x):
    session = model.session()
    assert "conv1" in session.explain() and session.isa in session.explain()
    profile = session.profile(x, runs=3)
    assert len(profile["run_seconds"]) == 3 and all(len(step["seconds"]) == 3 for step in profile["steps"])
    assert sum(step["macs"] for step in profile["steps"]) > 40_000_000
    y = session.run(x)
    same = session.compare(x, y, max_error=0.0)
    assert same["passed"] and same["max_abs"] == 0 and same["argmax_equal"] == (1, 1)
    other = y.copy()
    other[0, 3] += 1
    assert not stridewise.compare(y, other, max_error=1e-3)["passed"]
    assert stridewise.compare(y, other)["max_abs_at"] == [0, 3]


def test_a_packed_network_gives_the_same(model, x, tmp_path):
    session = model.session()
    path = tmp_path / "packed.swp"
    model.save_packed(path)
    packed = stridewise.load(path)
    assert packed.arch == model.arch and packed.labels == model.labels
    assert np.array_equal(packed.session().run(x), session.run(x))


def test_algorithms_are_chosen_by_a_file_of_measured_times(model, x, tmp_path):
    path = tmp_path / "tuning.txt"
    path.write_text("stridewise tuning 1\n")
    assert np.array_equal(model.session(tuning=path).run(x), model.session().run(x))
    path.write_text("nonsense\n")
    with pytest.raises(stridewise.FormatError, match="tuning.txt.*line 1"):
        model.session(tuning=path)
    with pytest.raises(stridewise.FileError, match="missing.txt"):
        model.session(tuning=tmp_path / "missing.txt")


def test_what_is_for_one_input_says_how_many_there_are():
    two = stridewise.load(ROOT / "tests" / "golden" / "onnx" / "two_inputs.onnx").session()
    with pytest.raises(stridewise.ArgumentError, match="2 inputs and 2 outputs.*by name"):
        two.profile(np.zeros((1, 3), np.float32))
