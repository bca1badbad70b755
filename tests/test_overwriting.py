"""Nobody's array is overwritten, neither by a layer nor by a model; and what only asks changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.layers import LAYERS
from networks import draw_images, small_cnn, train


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
    "AveragePooling2D": [lambda: LAYERS["AveragePooling2D"]((3, 2), strides=1)],
    "BatchNormalization": [lambda: LAYERS["BatchNormalization"]()],
    "Conv2D": [lambda: LAYERS["Conv2D"](3, (3, 2), activation="relu"),
               lambda: LAYERS["Conv2D"](2, 1, use_bias=False), lambda: LAYERS["Conv2D"](2, (2, 4), strides=(1, 2))],
    "Dense": [lambda: LAYERS["Dense"](4, activation="tanh"), lambda: LAYERS["Dense"](3, use_bias=False)],
    "Dropout": [lambda: LAYERS["Dropout"](0.4), lambda: LAYERS["Dropout"](0)],
    "Flatten": [lambda: LAYERS["Flatten"]()],
    "GlobalAveragePooling2D": [lambda: LAYERS["GlobalAveragePooling2D"]()],
    "Input": [lambda: LAYERS["Input"]((5, 4, 2))],
    "LeakyReLU": [lambda: LAYERS["LeakyReLU"]()],
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
