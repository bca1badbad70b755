"""The same seed gives the same bits: on any number of threads, alone or in a batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from minicnn.layers import LAYERS
from minicnn.models import Sequential
from minicnn.optimizers import SGD
from networks import draw_images, error, small_cnn, train

# --- seeds and threads -------------------------------------------------------------------------------------------

def test_the_same_seed_gives_the_same_weights_twice(kernel_set):
    first, second = train(), train()
    assert first.digest == second.digest
    assert first.history == second.history


def test_the_number_of_threads_does_not_show(kernel_set, threads):
    results = []
    for n in (1, 2, 3):
        threads(n)
        results.append(train())
    assert len({result.digest for result in results}) == 1
    assert results[0].history == results[1].history == results[2].history


@pytest.mark.no_jit_excluded("needs arrays large enough to be cut into chunks for threads")
@pytest.mark.parametrize("n", [1, 2, 37])
def test_the_number_of_threads_does_not_show_where_work_is_divided(threads, use_kernels, n):
    """Arrays beyond the size below which the fast kernels stay on one thread, and a batch no thread count divides."""
    use_kernels("fast")
    from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
    results = []
    for count, blas_threads in ((1, 2), (2, 1), (3, 2)):
        threads(count)
        model = Sequential([Conv2D(16, 5, padding="same", activation="relu", input_shape=(26, 22, 1)),
                            BatchNormalization(), Conv2D(24, 3, padding="same", activation="relu"), MaxPooling2D(2),
                            Dropout(0.3), Flatten(), Dense(32, activation="relu"), BatchNormalization(),
                            Dense(5, activation="softmax")], seed=8)
        model.compile("adam", "sparse_categorical_crossentropy")
        x, y = draw_images(np.random.default_rng(2), n, (26, 22, 1), 5)
        with threadpool_limits(blas_threads, user_api="blas"):
            for _ in range(2):
                model.train_on_batch(x, y)
            loss = model.loss_and_gradients(x, y)
            results.append((model.weights_sha256(), loss, model.input_gradient.tobytes(), model.predict(x).tobytes()))
    assert results[0] == results[1] == results[2]


def test_the_number_of_blas_threads_does_not_show(kernel_set):
    """The products of these sizes are summed in one order by any number of BLAS threads."""
    digests = set()
    for n in (1, 2):
        with threadpool_limits(n, user_api="blas"):
            digests.add(train().digest)
    assert len(digests) == 1


def test_another_process_gets_the_same_weights(kernel_set):
    """Nothing may depend on Python's hashes, which differ from process to process (a set of parameters would)."""
    code = (f"from minicnn import kernels; from networks import train; kernels.use({kernel_set!r}); "
            f"print(train().digest)")
    for hash_seed in ("1", "2"):
        path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                              env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": path})
        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[-1] == train().digest


def test_different_seeds_give_different_weights(kernel_set):
    first, second = small_cnn(seed=1), small_cnn(seed=2)
    assert first.weights_sha256() != second.weights_sha256()
    assert train(seed=1).digest != train(seed=2).digest


def test_equal_layers_at_different_places_start_differently():
    model = Sequential([LAYERS["Dense"](4, input_shape=(4,)), LAYERS["Dense"](4)], seed=3)
    first, second = (layer.params["kernel"] for layer in model.layers)
    assert not np.array_equal(first, second)


def test_numpys_global_random_state_is_neither_read_nor_moved(kernel_set):
    np.random.seed(1)                                                           # noqa: NPY002
    first = train()
    state = np.random.get_state()[1].copy()                                     # noqa: NPY002
    second = train()
    np.testing.assert_array_equal(np.random.get_state()[1], state)              # noqa: NPY002
    assert first.digest == second.digest


# --- the order of the data ---------------------------------------------------------------------------------------

class Spy(LAYERS["Flatten"]):
    """Writes down the first number of each sample it is trained on."""

    def __init__(self, **base) -> None:
        super().__init__(**base)
        self.seen: list[list[float]] = []

    def forward(self, x, training=False):
        if training:
            self.seen.append(x[:, 0].tolist())
        return super().forward(x, training)


def orders(epochs: int, seed: int = 0, fits: int = 1, **options) -> list[list[float]]:
    """Return the order of seven samples in each epoch."""
    spy = Spy(input_shape=(2,))
    model = Sequential([spy, LAYERS["Dense"](2, activation="softmax")], seed=seed)
    model.compile("sgd", "sparse_categorical_crossentropy")
    x = np.arange(14, dtype=np.float32).reshape(7, 2) / 14
    for _ in range(fits):
        model.fit(x, np.zeros(7), epochs=epochs, batch_size=3, verbose=0, **options)
    assert [len(batch) for batch in spy.seen] == [3, 3, 1] * (epochs * fits)
    in_a_row = [value for batch in spy.seen for value in batch]
    return [np.rint(np.array(in_a_row[start:start + 7]) * 7).astype(int).tolist()
            for start in range(0, len(in_a_row), 7)]


def test_every_epoch_has_its_own_order_and_all_samples():
    drawn = orders(4)
    assert all(sorted(order) == list(range(7)) for order in drawn)
    assert len({tuple(order) for order in drawn}) == 4


def test_the_orders_repeat_with_the_seed():
    assert orders(3, seed=5) == orders(3, seed=5)
    assert orders(3, seed=5) != orders(3, seed=6)


def test_a_second_fit_goes_on_instead_of_repeating_the_orders():
    assert orders(2, fits=2) == orders(4)


def test_without_shuffling_the_order_stays():
    assert orders(2, shuffle=False) == [list(range(7))] * 2


def test_dropout_masks_differ_from_step_to_step_and_from_layer_to_layer(kernel_set):
    model = Sequential([LAYERS["Dropout"](0.5, input_shape=(40,)), LAYERS["Dropout"](0.5)], seed=2)
    x = np.ones((3, 40), np.float32)
    masks = []
    for step in (0, 1):
        for layer in model.layers:
            layer.step = step
            masks.append(layer.forward(x, training=True) > 0)
    assert len({mask.tobytes() for mask in masks}) == 4
    assert len({row.tobytes() for row in masks[0]}) == 3                        # images too


def test_every_training_step_of_a_model_draws_its_own_masks(kernel_set):
    """With a learning rate of 0, only the masks can change the loss from step to step."""
    def losses() -> list[float]:
        model = Sequential([LAYERS["Dropout"](0.5, input_shape=(12,)), LAYERS["Dense"](3, activation="softmax")])
        model.compile(SGD(0.0), "sparse_categorical_crossentropy")
        x, y = draw_images(np.random.default_rng(1), 5, (12,))
        return [model.train_on_batch(x, y) for _ in range(4)]

    drawn = losses()
    assert len(set(drawn)) == 4
    assert losses() == drawn


# --- predictions -------------------------------------------------------------------------------------------------

def test_an_image_predicts_the_same_alone_as_in_a_batch(kernel_set):
    """Bit for bit under the fast set; NumPy's products choose their order by the size of the batch."""
    model = train().model
    x, _ = draw_images(np.random.default_rng(9), 13)
    together = model.predict(x)
    for batch_size in (1, 2, 5):
        apart = model.predict(x, batch_size=batch_size)
        if kernel_set == "fast":
            assert apart.tobytes() == together.tobytes()
        assert error(apart, together) < 1e-5
    assert error(model(x[4:5]), together[4:5]) < 1e-5
    assert error(model.predict(x[::-1])[::-1], together) < 1e-5


@pytest.mark.no_jit_excluded("needs layers wide enough for the products of a real network")
def test_an_image_predicts_the_same_alone_at_the_size_of_cnn(use_kernels, rng):
    import recipes
    use_kernels("fast")
    model = recipes.cnn((28, 28, 1), 10, 0)
    x, _ = draw_images(rng, 7, (28, 28, 1), 10)
    together = model(x)
    assert np.concatenate([model(x[n:n + 1]) for n in range(7)]).tobytes() == together.tobytes()
    assert model(x[2:5]).tobytes() == together[2:5].tobytes()
