"""The same seed gives the same bits: on any number of threads, alone or in a batch; and nobody's array is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from minicnn.layers import LAYERS
from minicnn.models import Sequential
from minicnn.optimizers import SGD
from networks import draw_images, error, small_cnn


class Trained(NamedTuple):
    """What a training left behind."""

    digest: str
    history: dict[str, list[float]]
    model: Sequential


def train(seed: int = 1, n: int = 19, **options) -> Trained:
    """Train the small ``cnn``; 19 images in batches of 8 leave a ragged batch of 3."""
    model = small_cnn(seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = draw_images(np.random.default_rng(4), n)
    history = model.fit(x, y, **{"batch_size": 8, "epochs": 2, "verbose": 0, "validation_split": 0.2} | options)
    return Trained(model.weights_sha256(), history.history, model)


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
    code = (f"from minicnn import kernels; from test_determinism import train; kernels.use({kernel_set!r}); "
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


# --- nobody's array is overwritten -------------------------------------------------------------------------------

class Held:
    """Arrays a user holds, with copies of what they were."""

    def __init__(self) -> None:
        self.arrays: list[tuple[str, np.ndarray, np.ndarray]] = []

    def hold(self, name: str, array: np.ndarray) -> None:
        self.arrays.append((name, array, array.copy()))

    def check(self) -> None:
        for name, array, copy in self.arrays:
            np.testing.assert_array_equal(array, copy, f"{name} was overwritten")


def test_what_a_user_holds_is_not_overwritten(kernel_set):
    model = small_cnn(seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    held = Held()
    for round_ in range(3):
        rng = np.random.default_rng(round_)
        x, y = draw_images(rng, 6)
        held.hold("predict", model.predict(x))
        held.hold("model(x)", model(x))
        held.hold("forward", model.forward(x, training=True))
        dout = rng.standard_normal((6, 3)).astype(np.float32)
        held.hold("dout", dout)
        held.hold("backward", model.backward(dout))
        for layer in model.layers:
            for key, array in layer.grads.items():
                held.hold(f"backward {layer.name}/{key}", array)
        model.loss_and_gradients(x, y)
        held.hold("input_gradient", model.input_gradient)
        for layer in model.layers:
            for key, array in layer.grads.items():
                held.hold(f"loss_and_gradients {layer.name}/{key}", array)
        for number, array in enumerate(model.get_weights()):
            held.hold(f"get_weights {number}", array)
        model.train_on_batch(x, y)
        for layer in model.layers:
            for key, array in layer.grads.items():
                held.hold(f"train_on_batch {layer.name}/{key}", array)
        model.fit(x, y, verbose=0)
        held.check()
    assert len(held.arrays) > 100


ALONE = {f"{name} {number}": make for name, makers in {
    "Activation": [lambda kind=kind: LAYERS["Activation"](kind)
                   for kind in ("linear", "relu", "sigmoid", "softmax", "tanh")],
    "BatchNormalization": [lambda: LAYERS["BatchNormalization"]()],
    "Conv2D": [lambda: LAYERS["Conv2D"](3, (3, 2), activation="relu"),
               lambda: LAYERS["Conv2D"](2, 1, use_bias=False), lambda: LAYERS["Conv2D"](2, (2, 4), strides=(1, 2))],
    "Dense": [lambda: LAYERS["Dense"](4, activation="tanh"), lambda: LAYERS["Dense"](3, use_bias=False)],
    "Dropout": [lambda: LAYERS["Dropout"](0.4), lambda: LAYERS["Dropout"](0)],
    "Flatten": [lambda: LAYERS["Flatten"]()],
    "Input": [lambda: LAYERS["Input"]((5, 4, 2))],
    "MaxPooling2D": [lambda: LAYERS["MaxPooling2D"]((3, 2), strides=1)]}.items() for number, make in enumerate(makers)}


def test_all_layers_are_tried_alone():
    assert {name.split()[0] for name in ALONE} == set(LAYERS)


@pytest.mark.parametrize("name", ALONE)
def test_a_layer_overwrites_neither_its_inputs_nor_what_it_handed_out(kernel_set, name, rng):
    layer = ALONE[name]()
    held = Held()
    for _ in range(3):
        x = rng.standard_normal((6, 9) if name.startswith("Dense") else (6, 5, 4, 2)).astype(np.float32)
        held.hold("x", x)
        out = layer.forward(x, training=True)
        held.hold("out", out)
        dout = rng.standard_normal(out.shape).astype(np.float32)
        held.hold("dout", dout)
        held.hold("dx", layer.backward(dout))
        for key, array in layer.grads.items():
            held.hold(key, array)
        held.hold("inference", layer.forward(x))
    held.check()


def test_what_layers_hand_out_is_not_overwritten(kernel_set, rng):
    """Every layer of the network in turn: outputs and gradients of one call outlive the next."""
    model = small_cnn(seed=1)
    held = Held()
    x, _ = draw_images(rng, 6)
    for layer in model.layers:
        held.hold(f"{layer.name} x", x)
        for _ in range(2):
            out = layer.forward(x, training=True)
            dout = rng.standard_normal(out.shape).astype(np.float32)
            held.hold(f"{layer.name} out", out)
            held.hold(f"{layer.name} dout", dout)
            held.hold(f"{layer.name} dx", layer.backward(dout))
            for key, array in layer.grads.items():
                held.hold(f"{layer.name} {key}", array)
        held.hold(f"{layer.name} inference", layer.forward(x))
        x = out
    held.check()


def test_a_user_may_write_into_what_was_handed_out(kernel_set):
    """Predictions, weights and gradients are the user's own: writing into them changes nothing else."""
    model = train().model
    x, y = draw_images(np.random.default_rng(0), 5)
    expected, digest = model.predict(x).copy(), model.weights_sha256()
    for array in (model.predict(x), *model.get_weights()):
        array[...] = 7
    assert model.weights_sha256() == digest
    np.testing.assert_array_equal(model.predict(x), expected)
    weights = model.get_weights()
    model.set_weights(weights)
    for array in weights:
        array[...] = 7
    assert model.weights_sha256() == digest
    assert model.evaluate(x, y) == model.evaluate(x, y)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_inputs_are_read_only(kernel_set, dtype):
    """Arrays that cannot be written to work everywhere, and writable ones are as they were."""
    rng = np.random.default_rng(3)
    x, y = draw_images(rng, 11)
    x = (x * 2).astype(dtype) if dtype == "uint8" else x.astype(dtype)
    arrays = [x, y, rng.uniform(0.5, 2, 11)]
    copies = [array.copy() for array in arrays]
    digests = set()
    for writable in (False, True):
        for array in arrays:
            array.flags.writeable = writable
        model = small_cnn(seed=1)
        model.compile("adam", "sparse_categorical_crossentropy")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("minicnn.training.warn_if_not_scaled", lambda x: None)
            model.fit(*arrays[:2], sample_weight=arrays[2], batch_size=4, epochs=2, verbose=0, validation_split=0.2)
        model.evaluate(x, y, sample_weight=arrays[2])
        model.predict(x)
        model.train_on_batch(*arrays)
        model.loss_and_gradients(*arrays)
        model(x, training=True)
        digests.add(model.weights_sha256())
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert len(digests) == 1


def test_how_the_inputs_lie_in_memory_does_not_show(kernel_set):
    model = train().model
    x, _ = draw_images(np.random.default_rng(1), 6)
    expected = model.predict(x).tobytes()
    assert model.predict(np.asfortranarray(x)).tobytes() == expected
    assert model.predict(np.repeat(x, 2, axis=0)[::2]).tobytes() == expected
    assert model.predict(np.flip(np.flip(x, 1).copy(), 1)).tobytes() == expected


def test_prediction_and_evaluation_change_nothing(kernel_set):
    model = train().model
    x, y = draw_images(np.random.default_rng(1), 6)
    digest, iterations = model.weights_sha256(), model.optimizer.iterations
    model.predict(x)
    model.evaluate(x, y)
    model.test_on_batch(x, y)
    assert (model.weights_sha256(), model.optimizer.iterations) == (digest, iterations)


def test_loss_and_gradients_change_no_parameter(kernel_set):
    """The moving averages follow every training forward, as in Keras; parameters change in updates only."""
    model = train().model
    x, y = draw_images(np.random.default_rng(1), 6)
    before = {name: array.copy() for name, array in model.named_weights().items()}
    first = model.loss_and_gradients(x, y)
    gradients = [layer.grads[key].copy() for layer in model.layers for key in layer.params]
    assert model.loss_and_gradients(x, y) == first                              # the same dropout masks
    again = [layer.grads[key] for layer in model.layers for key in layer.params]
    assert all(np.array_equal(one, other) for one, other in zip(gradients, again, strict=True))
    for name, array in model.named_weights().items():
        if "moving" not in name:
            np.testing.assert_array_equal(array, before[name], name)
    model.train_on_batch(x, y)
    assert model.loss_and_gradients(x, y) != first
