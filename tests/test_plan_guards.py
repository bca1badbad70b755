"""The fast path stays fast: guards without a clock."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
import tracemalloc

import numpy as np
import pytest

import recipes
import test_overwriting
from kernel_calls import tiny_chunks  # noqa: F401  (a fixture)
from minicnn import Sequential
from minicnn.kernels import fast
from minicnn.kernels.fast import memory
from minicnn.layers import Conv2D
from networks import SPARSE
from plan_networks import draw_small, fusible


@pytest.fixture(autouse=True)
def _fast(use_kernels, threads):
    use_kernels("fast")
    threads(1)


@pytest.fixture
def small_blocks(monkeypatch):
    """Small arrays too come from the memory that is used again, as the large ones of a real network do."""
    monkeypatch.setattr(memory, "SMALL", 1)
    memory.release()
    yield
    memory.release()


# --- the fast path is taken --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("recipe", "algorithms", "blocks"), [
    ("cnn", ["direct", *["winograd"] * 3], ["ConvolutionBlock"] * 4 + ["DenseBlock"] * 2),
    ("kaggle_cnn", ["direct", *["winograd"] * 3], ["ConvolutionBlock"] * 4 + ["DenseBlock"] * 2),
    ("explore_cnn", ["direct", *["winograd"] * 2], ["ConvolutionBlock"] * 3 + ["DenseBlock"] * 2),
    ("simple_cnn", ["direct"], ["ConvolutionBlock"] + ["DenseBlock"] * 2),
    ("dense", [], ["SingleBlock"] + ["DenseBlock"] * 4)])
def test_a_recipe_takes_the_algorithms_and_blocks_it_is_meant_for(recipe, algorithms, blocks):
    model = recipes.find(recipe).network((28, 28, 1), 10, 0)
    assert [layer.algorithm_in_use() for layer in model.layers if isinstance(layer, Conv2D)] == algorithms
    assert [type(block).__name__ for block in model.plan().blocks] == blocks


def test_a_fused_step_runs_no_layer_by_itself(monkeypatch):
    model = fusible()

    def refuse(*arguments, **options):
        raise AssertionError("a layer ran by itself")

    for kind in {type(layer) for layer in model.layers}:
        for method in ("forward", "backward"):
            monkeypatch.setattr(kind, method, refuse)
    for kernel in ("relu", "batch_norm", "max_pool2d", "dropout", "conv2d"):
        monkeypatch.setattr(fast, kernel, refuse)
    x, y = draw_small(3)
    model.train_on_batch(x, y)
    model.predict(x)
    model.evaluate(x, y)
    model.compile("adam", SPARSE, fuse=False)
    with pytest.raises(AssertionError, match="a layer ran by itself"):
        model.train_on_batch(x, y)


# --- nothing in float64, nothing compiled, no new memory, all aligned -------------------------------------------

BATCH = 37  # a prime: an array whose size is a multiple of it has something of every image


def batch_sized(function) -> dict[str, np.ndarray]:
    """Call a function; return the arrays with several numbers an image that the library's Python code held in it."""
    found: dict[str, np.ndarray] = {}

    def look(frame, event, argument):
        if event != "return" or "minicnn" not in frame.f_code.co_filename:
            return
        where = f"{frame.f_code.co_filename.rsplit('minicnn', 1)[1]}:{frame.f_code.co_name}"
        for name, value in {**frame.f_locals, "return": argument}.items():
            for number, array in enumerate(value if isinstance(value, tuple) else (value,)):
                if isinstance(array, np.ndarray) and array.size > BATCH and array.size % BATCH == 0:
                    found[f"{where} {name} {number} {array.dtype}"] = array

    sys.setprofile(look)
    try:
        function()
    finally:
        sys.setprofile(None)
    return found


def steps(model: Sequential, n: int) -> None:
    x, y = draw_small(n)
    model.train_on_batch(x, y)
    model.test_on_batch(x, y)
    model.predict(x, batch_size=n)


def test_no_float64_in_a_float32_step():
    """What has several numbers an image is float32, but for the labels, as distributions, before they are converted.

    One float64 number an image (losses, weights) or a channel (sums, means) is fine: exact, and as good as free.
    """
    model = fusible(dtype="float32")
    found = batch_sized(lambda: steps(model, BATCH))
    assert len(found) > 30
    assert any("blocks.py:forward" in name for name in found)
    wrong = {name: array.shape for name, array in found.items()
             if array.dtype == np.float64 and not name.startswith(("/losses.py:one_hot", "/losses.py:targets"))}
    assert not wrong, wrong
    for layer in model.layers:
        layer.astype("float64")
    found = batch_sized(lambda: steps(model, BATCH))
    assert any(array.dtype == np.float64 for array in found.values())           # the search finds what there is


def test_arrays_of_a_step_begin_at_a_cache_line_and_go_once_they_are_used(small_blocks):
    """Outputs, winners of pooling and gradients between blocks: from the memory that is used again."""
    model = fusible()
    x, _ = draw_small(5)
    plan = model.plan()
    for layer in model.layers:
        layer.step = 0
    out = plan.forward(x, training=True)
    seen = [array for block in plan.blocks for kept in block._kept if kept is not None
            for array in (kept if isinstance(kept, tuple) else (kept,))
            if isinstance(array, np.ndarray) and len(array) == len(x) and array.base is not x and array is not x]
    for block in plan.blocks:
        def watched(back, need_dx, backward=block.backward):
            returned = backward(back, need_dx)
            assert backward.__self__._kept is None              # the blocks before may have its memory
            seen.extend(array for array in (returned.dout, returned.largest) if array is not None)
            return returned
        block.backward = watched
    plan.backward(np.ones_like(out))
    assert len(seen) > 12
    assert not [array.shape for array in seen if array.ctypes.data % memory.ALIGNMENT]
    assert not [array.shape for array in seen if not isinstance(_owner(array), memory._Lease)]


def _owner(array):
    while isinstance(array, np.ndarray):
        array = array.base
    return array


@pytest.mark.no_jit_excluded("there is nothing to compile")
@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("count", [1, 2])
def test_nothing_is_compiled_after_the_first_step(count, threads):
    """Whatever the sizes of later batches are, and however many threads share them."""
    threads(count)
    modules = [importlib.import_module(f"{fast.__name__}.{info.name}") for info in pkgutil.iter_modules(fast.__path__)]

    def specialisations() -> int:
        kernels = {id(value): value for module in modules for value in vars(module).values()
                   if hasattr(value, "signatures") and hasattr(value, "py_func")}
        return sum(len(kernel.signatures) for kernel in kernels.values())

    model = fusible()
    steps(model, 8)
    before = specialisations()
    for n in (3, 1, 8, 21):
        steps(model, n)
    assert specialisations() == before > 20


@pytest.mark.usefixtures("tiny_chunks", "small_blocks")
@pytest.mark.parametrize("count", [1, 2])
def test_a_step_needs_no_new_memory_after_the_first(count, threads, monkeypatch):
    threads(count)
    model = fusible()
    blocks: list[int] = []

    class Counting:
        def __getattr__(self, name):
            return getattr(np, name)

        @staticmethod
        def empty(size, dtype):
            if size > memory.ALIGNMENT:  # not for arrays of nothing
                blocks.append(size)
            return np.empty(size, dtype)

    monkeypatch.setattr(memory, "np", Counting())
    x, y = draw_small(4)
    model.train_on_batch(x, y)
    assert len(blocks) > 20
    first = len(blocks)
    for _ in range(3):
        model.train_on_batch(x, y)
    assert len(blocks) == first


@pytest.mark.no_jit_excluded("a kernel in plain Python makes a small array for every vector")
def test_a_step_allocates_less_than_one_activation():
    """By whatever allocator: measured at its peak, over what was there before the step."""
    image, n = (24, 20, 2), 64
    model = fusible(image, channels=8)
    x, y = draw_small(n, image)
    for _ in range(3):
        model.train_on_batch(x, y)
    tracemalloc.start()
    try:
        model.train_on_batch(x, y)
        gc.collect()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        model.train_on_batch(x, y)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    activation = n * 24 * 20 * 8 * 4
    assert peak < activation / 2, f"{peak} bytes; one activation has {activation}"


def leases() -> int:
    gc.collect()
    return sum(type(thing) is memory._Lease for thing in gc.get_objects())  # isinstance would ask lazy modules


def test_nothing_large_outlives_a_step(small_blocks):
    """The gradients of the parameters stay, which users may read, and nothing of the size of a batch."""
    model = fusible()
    model.train_on_batch(*draw_small(4))
    model.predict(draw_small(4)[0])
    held = leases()
    for n in (9, 4, 16):
        x, y = draw_small(n)
        model.train_on_batch(x, y)
        model.predict(x)
        model.evaluate(x, y)
    assert leases() == held
    kept = model.forward(draw_small(4)[0], training=True)             # by hand: kept for backward
    assert leases() > held
    del kept


def test_what_a_user_holds_is_not_overwritten_where_memory_is_used_again(small_blocks):
    test_overwriting.test_what_a_user_holds_is_not_overwritten("fast")
