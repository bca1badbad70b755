"""One Python thread at a time is in a model, and any number of the kernels' own threads gives the same bits."""

from __future__ import annotations

import copy
import threading

import pytest

from conftest import NO_JIT
from kernel_calls import tiny_chunks  # noqa: F401  (a fixture)
from minicnn import Sequential
from minicnn.callbacks import Callback
from minicnn.kernels.fast import parallel
from minicnn.layers import Conv2D, Dense, Flatten, Input, Layer
from networks import SPARSE
from plan_networks import SMALL_IMAGE, draw_small, fusible


@pytest.fixture(autouse=True)
def _fast(use_kernels, threads):
    use_kernels("fast")
    threads(1)


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
    model = Sequential([Input(SMALL_IMAGE), Conv2D(3, 3, activation="relu"), crowded, Flatten(),
                        Dense(3, activation="softmax")], seed=1)
    model.compile("sgd", SPARSE, fuse=fuse)
    x, y = draw_small(4)
    run_together(lambda: [model.train_on_batch(x, y) for _ in range(4)], lambda: [model.predict(x) for _ in range(4)],
                 lambda: [model.test_on_batch(x, y) for _ in range(4)], lambda: [model(x) for _ in range(4)],
                 lambda: [model.loss_and_gradients(x, y) for _ in range(4)])
    assert crowded.most == 1


def test_threads_get_what_they_would_get_alone():
    """Evaluation leaves out the softmax: a prediction meanwhile would be logits."""
    model = fusible()
    batches = [draw_small(n) for n in (3, 5, 2)]
    expected = [(model.predict(x).tobytes(), model.test_on_batch(x, y)) for x, y in batches]

    def ask(x, y):
        answers = {(model.predict(x).tobytes(), tuple(model.test_on_batch(x, y))) for _ in range(5)}
        assert len(answers) == 1
        return answers.pop()

    found = run_together(*(lambda x=x, y=y: ask(x, y) for x, y in batches))
    assert found == [(bits, tuple(values)) for bits, values in expected]


def test_a_model_that_is_not_built_is_built_once():
    model = Sequential([Conv2D(3, 3, activation="relu"), Flatten(), Dense(3, activation="softmax")], seed=1)
    x, _ = draw_small(2)
    found = run_together(*[lambda: model.predict(x).tobytes()] * 4)
    assert len(set(found)) == 1


def test_callbacks_may_use_the_model_while_others_do():
    model = fusible()
    x, y = draw_small(6)
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


@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("algorithm", ["auto", "winograd"])
def test_any_number_of_threads_trains_the_same_bits(algorithm, threads, monkeypatch):
    """After a hundred steps, ragged batches included; small as all is, most kernels share it out."""
    helpers = []
    original = parallel._pool.helpers
    monkeypatch.setattr(parallel._pool, "helpers", lambda count: (helpers.append(count), original(count))[1])
    sizes = [7, 1, 12, 3] if NO_JIT else [7, 20, 1, 33, 16] * 20
    digests = set()
    for count in (1, 2, 3, 4):
        threads(count)
        model = fusible(channels=5, algorithm=algorithm)
        for n in sizes:
            model.train_on_batch(*draw_small(n))
        assert model.updates == len(sizes)
        digests.add(model.weights_sha256())
    assert len(digests) == 1
    assert helpers.count(3) > 10 * len(sizes)  # so many kernels in a step, on average; a single image divides fewer
