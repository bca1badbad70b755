"""Pooling in a convolution's epilogue: the same bits as pooling what the convolution has written."""

import copy
import importlib

import numpy as np
import pytest

from minicnn import Input, Sequential
from minicnn.kernels.fast.ends import Target
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D


def both(*layers, shape=(7, 9, 3)):
    """Return the network fused and not fused, with the same random weights."""
    models = []
    for fuse in (True, False):
        model = Sequential([Input(shape), *(copy.deepcopy(layer) for layer in layers)], seed=3)
        model.compile("sgd", "sparse_categorical_crossentropy", fuse=fuse)
        rng = np.random.default_rng(0)
        model.set_weights([rng.integers(-3, 4, array.shape).astype(array.dtype) if array.ndim > 1
                           else rng.choice([-2.0, -0.5, 0.5, 2.0], array.shape).astype(array.dtype)
                           for array in model.get_weights()])
        for layer in model.layers:
            if isinstance(layer, BatchNormalization):
                layer.state["moving_variance"] = np.abs(layer.state["moving_variance"])
        models.append(model)
    return models


def ends(classes=3):
    return [Flatten(), Dense(classes, activation="softmax")]


@pytest.mark.parametrize("activation", ["relu", "linear"])
@pytest.mark.parametrize("filters", [5, 16, 20])
@pytest.mark.parametrize(("algorithm", "padding", "strides"), [("direct", "valid", 1), ("direct", "same", 2),
                                                               ("winograd", "same", 1), ("winograd", "valid", 1)])
def test_training_gives_the_same(activation, filters, algorithm, padding, strides, rng):
    """With small whole numbers there are ties in plenty, and they must go to the same pixel."""
    first = Conv2D(filters, 3, strides=strides, padding=padding, activation=activation, algorithm=algorithm)
    fused, plain = both(first, MaxPooling2D(), Dropout(0.4), *ends(), shape=(11, 14, 3))
    x, y = rng.integers(-2, 3, (6, 11, 14, 3)).astype(np.float32), rng.integers(0, 3, 6)
    assert np.array_equal(fused.predict(x, verbose=0), plain.predict(x, verbose=0))
    assert fused.loss_and_gradients(x, y) == plain.loss_and_gradients(x, y)
    for one, other in zip(fused.layers, plain.layers, strict=True):
        for key, gradient in one.grads.items():
            np.testing.assert_allclose(gradient, other.grads[key], rtol=2e-5, atol=1e-5 * np.abs(gradient).max())


def test_places_are_those_of_the_first_that_wins():
    """In whole numbers the gradient of a kernel has no rounding; with few of them there are ties everywhere."""
    layers = [Conv2D(4, 1, activation="relu"), MaxPooling2D()]
    gradients = []
    for model in both(*layers, Flatten(), Dense(3)):
        x = np.random.default_rng(1).integers(0, 2, (5, 7, 9, 3)).astype(np.float32)
        network = model._current_plan() or model
        out = network.forward(x, training=True)
        dout = np.random.default_rng(2).integers(-3, 4, out.shape).astype(np.float32)
        gradients.append([network.backward(dout), *(g for layer in model.layers for g in layer.grads.values())])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("filters", [5, 16])
def test_inference_through_a_batch_normalization_of_either_sign(filters, rng):
    """Where gamma is negative the smallest number of a window is the largest after normalization."""
    fused, plain = both(Conv2D(filters, 3, activation="relu"), BatchNormalization(), MaxPooling2D(), *ends())
    assert (fused.layers[1].params["gamma"] < 0).any()
    assert (fused.layers[1].params["gamma"] > 0).any()
    x = rng.standard_normal((4, 7, 9, 3)).astype(np.float32)
    np.testing.assert_allclose(fused.predict(x, verbose=0), plain.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_nothing_is_written_that_nobody_reads(monkeypatch, rng):
    """In training the block before writes a quarter, and who won; in inference not even that."""
    module = importlib.import_module("minicnn.kernels.fast.conv2d")
    seen: list[Target] = []
    original = module.target_of
    monkeypatch.setattr(module, "target_of", lambda *args: (seen.append(original(*args)), seen[-1])[1])
    fused, _ = both(Conv2D(5, 3, activation="relu"), MaxPooling2D(), *ends())
    x, y = rng.standard_normal((2, 7, 9, 3)).astype(np.float32), np.array([0, 1])
    fused.predict(x, verbose=0)
    fused.loss_and_gradients(x, y)
    assert [(target.out.size, target.places.size) for target in seen] == [(2 * 2 * 3 * 5, 0), (2 * 2 * 3 * 5,) * 2]


@pytest.mark.parametrize("place", range(4))
def test_nan_wins(place):
    fused, plain = both(Conv2D(1, 1, kernel_initializer="ones"), MaxPooling2D(), *ends(), shape=(2, 2, 1))
    x = np.zeros((1, 2, 2, 1), np.float32)
    x[0, place // 2, place % 2] = np.nan
    assert np.isnan(fused.forward(x)).all()
    assert np.isnan(plain.forward(x)).all()
