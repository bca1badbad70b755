"""The fast path stays fast: guards without a clock. And one thread at a time, the same bits on any number of them."""

from __future__ import annotations

import copy
import gc
import importlib
import pkgutil
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import recipes
import test_overwriting
from conftest import NO_JIT
from minicnn import Sequential
from minicnn.callbacks import Callback
from minicnn.kernels import fast
from minicnn.kernels.fast import memory
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, Layer, MaxPooling2D
from networks import CLASSES, SPARSE, compiled, draw_images

IMAGE = (6, 4, 2)


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


def network(image: tuple[int, ...] = IMAGE, channels: int = 3, **options) -> Sequential:
    """Return the structure of the recipe ``cnn``, small; all of its layers can be fused."""
    return compiled(Sequential([
        Input(image), Conv2D(channels, 3, padding="same", activation="relu"), BatchNormalization(),
        Conv2D(channels, 3, padding="same", activation="relu", **options), BatchNormalization(), MaxPooling2D(),
        Dropout(0.25), Conv2D(channels, (2, 1), padding="same", activation="relu"), Dropout(0.2), Flatten(),
        Dense(7, activation="relu"), BatchNormalization(), Dropout(0.5), Dense(CLASSES, activation="softmax")],
        seed=3), "adam")


def data(n: int, image: tuple[int, ...] = IMAGE) -> tuple[np.ndarray, np.ndarray]:
    return draw_images(np.random.default_rng(n), n, image)


# --- the fast path is taken --------------------------------------------------------------------------------------

def test_the_recipe_takes_the_algorithms_it_is_meant_for():
    model = recipes.cnn((28, 28, 1), 10, 0)
    assert [layer.algorithm_in_use() for layer in model.layers if isinstance(layer, Conv2D)] == [
        "direct", "winograd", "winograd", "winograd"]
    assert [type(block).__name__ for block in model.plan().blocks] == ["ConvolutionBlock"] * 4 + ["DenseBlock"] * 2


def test_a_fused_step_runs_no_layer_by_itself(monkeypatch):
    model = network()

    def refuse(*arguments, **options):
        raise AssertionError("a layer ran by itself")

    for kind in {type(layer) for layer in model.layers}:
        for method in ("forward", "backward"):
            monkeypatch.setattr(kind, method, refuse)
    for kernel in ("relu", "batch_norm", "max_pool2d", "dropout", "conv2d"):
        monkeypatch.setattr(fast, kernel, refuse)
    x, y = data(3)
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
    x, y = data(n)
    model.train_on_batch(x, y)
    model.test_on_batch(x, y)
    model.predict(x, batch_size=n)


def test_no_float64_in_a_float32_step():
    """What has several numbers an image is float32, but for the labels, as distributions, before they are converted.

    One float64 number an image (losses, weights) or a channel (sums, means) is fine: exact, and as good as free.
    """
    model = network(dtype="float32")
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
    model = network()
    x, _ = data(5)
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
def test_nothing_is_compiled_after_the_first_step():
    """Whatever the sizes of later batches are."""
    modules = [importlib.import_module(f"{fast.__name__}.{info.name}") for info in pkgutil.iter_modules(fast.__path__)]

    def specialisations() -> int:
        kernels = {id(value): value for module in modules for value in vars(module).values()
                   if hasattr(value, "signatures") and hasattr(value, "py_func")}
        return sum(len(kernel.signatures) for kernel in kernels.values())

    model = network()
    steps(model, 8)
    before = specialisations()
    for n in (3, 1, 8, 21):
        steps(model, n)
    assert specialisations() == before > 20


def test_a_step_needs_no_new_memory_after_the_first_few(small_blocks, monkeypatch):
    model = network()
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
    x, y = data(4)
    for _ in range(3):
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
    model = network(image, channels=8)
    x, y = data(n, image)
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
    return sum(isinstance(thing, memory._Lease) for thing in gc.get_objects())


def test_nothing_large_outlives_a_step(small_blocks):
    """The gradients of the parameters stay, which users may read, and nothing of the size of a batch."""
    model = network()
    model.train_on_batch(*data(4))
    model.predict(data(4)[0])
    held = leases()
    for n in (9, 4, 16):
        x, y = data(n)
        model.train_on_batch(x, y)
        model.predict(x)
        model.evaluate(x, y)
    assert leases() == held
    kept = model.forward(data(4)[0], training=True)             # by hand: kept for backward
    assert leases() > held
    del kept


def test_what_a_user_holds_is_not_overwritten_where_memory_is_used_again(small_blocks):
    test_overwriting.test_what_a_user_holds_is_not_overwritten("fast")


# --- threads -----------------------------------------------------------------------------------------------------

class Crowded(Layer):
    """Counts how many threads are inside at once, and gives others time to come in."""

    def __init__(self, **base) -> None:
        super().__init__(**base)
        self.inside = self.most = 0

    def forward(self, x, training=False):
        self.inside += 1
        self.most = max(self.most, self.inside)
        threading.Event().wait(0.002)
        self.inside -= 1
        return x

    def backward(self, dout):
        self.grads = {}
        return self.forward(dout)

    def __deepcopy__(self, memo):
        return type(self)(name=self.name)


def run_together(*functions) -> list:
    """Call functions on threads of their own, all at once; return what they return, or raise what they raise."""
    results: list = [None] * len(functions)
    ready = threading.Barrier(len(functions))

    def call(place: int) -> None:
        ready.wait()
        try:
            results[place] = functions[place]()
        except BaseException as error:
            results[place] = error

    workers = [threading.Thread(target=call, args=(place,), daemon=True) for place in range(len(functions))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert not any(worker.is_alive() for worker in workers), "the threads wait for each other"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize("fuse", [True, False])
def test_one_thread_at_a_time_is_in_a_model(fuse):
    crowded = Crowded()
    model = Sequential([Input(IMAGE), Conv2D(3, 3, activation="relu"), crowded, Flatten(),
                        Dense(3, activation="softmax")], seed=1)
    model.compile("sgd", SPARSE, fuse=fuse)
    x, y = data(4)
    run_together(lambda: [model.train_on_batch(x, y) for _ in range(4)], lambda: [model.predict(x) for _ in range(4)],
                 lambda: [model.test_on_batch(x, y) for _ in range(4)], lambda: [model(x) for _ in range(4)],
                 lambda: [model.loss_and_gradients(x, y) for _ in range(4)])
    assert crowded.most == 1


def test_threads_get_what_they_would_get_alone():
    """Evaluation leaves out the softmax: a prediction meanwhile would be logits."""
    model = network()
    batches = [data(n) for n in (3, 5, 2)]
    expected = [(model.predict(x).tobytes(), model.test_on_batch(x, y)) for x, y in batches]

    def ask(x, y):
        answers = {(model.predict(x).tobytes(), tuple(model.test_on_batch(x, y))) for _ in range(5)}
        assert len(answers) == 1
        return answers.pop()

    found = run_together(*(lambda x=x, y=y: ask(x, y) for x, y in batches))
    assert found == [(bits, tuple(values)) for bits, values in expected]


def test_a_model_that_is_not_built_is_built_once():
    model = Sequential([Conv2D(3, 3, activation="relu"), Flatten(), Dense(3, activation="softmax")], seed=1)
    x, _ = data(2)
    found = run_together(*[lambda: model.predict(x).tobytes()] * 4)
    assert len(set(found)) == 1


def test_callbacks_may_use_the_model_while_others_do():
    model = network()
    x, y = data(6)
    seen = []

    class Asking(Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(model.predict(x[:2]).shape)
            model.evaluate(x[:3], y[:3])
            model.set_weights(model.get_weights())
            copy.deepcopy(model).predict(x[:1])

    run_together(lambda: model.fit(x, y, batch_size=2, epochs=2, verbose=0, callbacks=[Asking()]),
                 lambda: [model.predict(x) for _ in range(5)])
    assert seen == [(2, 3)] * 6


@pytest.mark.parametrize("algorithm", ["auto", "winograd"])
def test_any_number_of_threads_trains_the_same_bits(algorithm, threads):
    sizes = [7, 1, 12, 3] if NO_JIT else [7, 20, 1, 33, 16] * 20
    digests = set()
    for count in (1, 2, 3, 4):
        threads(count)
        model = network(channels=5, algorithm=algorithm)
        for n in sizes:
            model.train_on_batch(*data(n))
        assert model.updates == len(sizes)
        digests.add(model.weights_sha256())
    assert len(digests) == 1
