"""Gradients held as tightly as float64 allows, part two: smooth layers, losses and whole networks.

Every entry of every tensor against the complex step through the reference forward pass (``complex_step.py``), which
judges the analytic gradients of both kernel sets.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import complex_step
from minicnn.activations import ACTIVATIONS
from minicnn.kernels import reference
from minicnn.layers import (
    LAYERS,
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    MaxPooling2D,
)
from minicnn.losses import LOSSES as LOSS_CLASSES
from minicnn.losses import CategoricalCrossentropy
from minicnn.models import Sequential
from networks import error
from test_gradients import DISTRIBUTIONS, LABELS, LOSSES, K, N, cnn_network, dense_network, smooth_network
from test_gradients_tight import LATTICE, Case, Gradients, judge, prepared, random_cases, rng_of

pytestmark = pytest.mark.gradient

SMOOTH: dict[str, Any] = {
    **random_cases("conv sigmoid", 6, Conv2D, filters=2, activation="sigmoid"),
    **random_cases("conv tanh", 6, Conv2D, filters=3, activation="tanh"),
    "conv softmax": (lambda: Conv2D(4, (2, 3), padding="same", activation="softmax"), (3, 5, 2), 3),
    "dense sigmoid": (lambda: Dense(6, activation="sigmoid"), (5,), 3),
    "dense tanh": (lambda: Dense(3, activation="tanh"), (5,), 1),
    "dense softmax": (lambda: Dense(4, activation="softmax"), (5,), 7),
    "sigmoid": (lambda: Activation("sigmoid"), (3, 4), 3),
    "tanh": (lambda: Activation("tanh"), (3, 4), 3),
    "softmax rank 2": (lambda: Activation("softmax"), (6,), 3),
    "softmax rank 4": (lambda: Activation("softmax"), (2, 3, 4), 1),
    "softmax of two": (lambda: Activation("softmax"), (2,), 5),
    "batch norm rank 2": (BatchNormalization, (6,), 5),
    "batch norm rank 3": (BatchNormalization, (7, 2), 2),
    "batch norm rank 4": (BatchNormalization, (3, 4, 2), 3),
    "batch norm of one image": (BatchNormalization, (5, 3, 2), 1),
    "batch norm of one column": (lambda: BatchNormalization(epsilon=0.1, momentum=0.9), (7, 1, 3), 2),
    "batch norm, small epsilon": (lambda: BatchNormalization(epsilon=1e-9), (2, 3, 5), 7),
    "batch norm frozen": (lambda: BatchNormalization(trainable=False), (3, 2, 4), 3),
}


@functools.cache
def smooth(name: str, scale: float = 1.0, around: float = 0.0) -> Case:
    """Return a layer with normal deviates everywhere, differentiated by the complex step."""
    make, shape, n = SMOOTH[name]
    rng, layer = rng_of(name), prepared(make, shape)
    for own in (layer.params, layer.state):
        for key, array in own.items():
            array[...] = rng.uniform(0.5, 2, array.shape) if key == "moving_variance" else rng.standard_normal(
                array.shape)
    x = around + scale * rng.standard_normal((n, *shape))
    with complex_step.reference_kernels():
        out = layer.forward(x.copy(), training=True)
    upstream = rng.standard_normal(out.shape)
    return Case(layer, x, upstream, out, complex_step.gradients([layer], x, upstream))


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth(name, kernel_set, gradient_table):
    smooth(name).check(name, kernel_set, "smooth", gradient_table)


def test_batch_norm_far_from_zero(kernel_set, gradient_table):
    """A mean of 500 deviations."""
    name = "batch norm rank 4"
    smooth(name, 0.5, 250.0).check(f"{name}, far from zero", kernel_set, "smooth", gradient_table)


def test_every_layer_and_activation_is_here():
    made = [make() for cases in (*LATTICE.values(), SMOOTH) for make, _, _ in cases.values()]
    assert {type(layer).__name__ for layer in made} == set(LAYERS)
    assert {layer.activation.name for layer in made if hasattr(layer, "activation")} == set(ACTIVATIONS)


# --- losses ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("weights", [np.ones(N) / N, np.array([0.3, 2.0, 0.0, 1.1, 0.7])], ids=["mean", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, weights, kernel_set, gradient_table):
    """The gradient of sum(weights * losses) in the predictions; probabilities here need not sum to 1."""
    loss, y = LOSSES[name]
    rng, targets = rng_of(name), loss.targets(y, K, np.float64)
    predicted = 2 * rng.standard_normal((N, K)) if loss.from_logits else rng.uniform(0.1, 0.9, (N, K))
    numeric = complex_step.gradients([Input((K,))], predicted, weights,
                                     lambda out: loss.forward(targets.astype(out.dtype), out, loss.from_logits)[0])
    _, probabilities = loss.forward(targets, predicted, loss.from_logits)
    analytic = {"input": loss.backward(targets, predicted, probabilities, weights, loss.from_logits)}
    judge(f"loss {name}", kernel_set, "smooth", gradient_table, analytic, numeric)


def test_every_loss_is_here():
    assert {type(loss) for loss, _ in LOSSES.values()} == set(LOSS_CLASSES.values())


# --- whole networks ----------------------------------------------------------------------------------------------

def odd_network() -> list[Layer]:
    """What the recipes do not have: pools that overlap and are padded, strides, no bias, a frozen normalization."""
    return [Input((9, 7, 2)), Conv2D(3, (2, 3), strides=(1, 2), padding="same", use_bias=False), BatchNormalization(),
            Activation("relu"), MaxPooling2D((3, 2), strides=(2, 1), padding="same"), Dropout(0.2),
            BatchNormalization(trainable=False), Conv2D(2, (3, 2), strides=(2, 1), activation="tanh"), Flatten(),
            Dense(5, activation="sigmoid"), Dense(K, activation="sigmoid")]


def bias_before_norm() -> list[Layer]:
    """Batch normalization takes out what a bias before it adds: the gradient of that bias is zero."""
    return [Input((4, 5, 1)), Conv2D(3, (3, 2)), BatchNormalization(), Activation("relu"), Flatten(),
            Dense(K, activation="softmax")]


SPARSE, SMOOTHED = "sparse_categorical_crossentropy", CategoricalCrossentropy(label_smoothing=0.1)
NETWORKS: dict[str, tuple[Callable[[], list[Layer]], Any, np.ndarray]] = {
    "dense": (dense_network, SPARSE, LABELS),
    "dense, one image": (dense_network, SPARSE, LABELS[:1]),
    "cnn": (cnn_network, SPARSE, LABELS),
    "cnn, smoothed, three images": (cnn_network, SMOOTHED, np.eye(K)[LABELS[:3]]),
    "smooth, logits": (smooth_network, CategoricalCrossentropy(from_logits=True), DISTRIBUTIONS),
    "odd": (odd_network, SPARSE, LABELS),
    "odd, one image": (odd_network, CategoricalCrossentropy(), DISTRIBUTIONS[:1]),
    "bias before norm": (bias_before_norm, SPARSE, LABELS),
}


@functools.cache
def network(name: str) -> tuple[Sequential, np.ndarray, np.ndarray, float, Gradients]:
    """Return a model in float64, its input, sample weights, loss, and the gradients by the complex step."""
    layers, loss, y = NETWORKS[name]
    rng, model = rng_of(name), Sequential(layers(), seed=1)
    model.compile("adam", loss)
    for layer in model.layers:
        layer.astype("float64")
        layer.step = 0
        for key, array in layer.weights.items():
            if key != "kernel":
                array += rng.uniform(0.05, 0.3, array.shape)
    x, weights = rng.standard_normal((len(y), *model.layers[0].input_shape)), rng.uniform(0.5, 1.5, len(y))
    targets = model.loss.targets(y, K, np.float64)
    with model._logits_for_loss() as from_logits:
        def losses(out: np.ndarray) -> np.ndarray:
            return model.loss.forward(targets.astype(out.dtype), out, from_logits)[0]                 # (N,)

        numeric = complex_step.gradients(model.layers, x, weights / len(y), losses)
        with complex_step.reference_kernels():
            value = losses(model.forward(x, training=True)) @ weights / len(y)
    return model, x, weights, value, numeric


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name, kernel_set, gradient_table):
    model, x, weights, value, numeric = network(name)
    model = copy.deepcopy(model)
    assert model.loss_and_gradients(x, NETWORKS[name][2], weights) == pytest.approx(value, rel=1e-12)
    analytic = {f"{layer.name}/{key}": gradient for layer in model.layers for key, gradient in layer.grads.items()}
    judge(f"network {name}", kernel_set, "whole network", gradient_table, analytic | {"input": model.input_gradient},
          numeric)


# --- the complex step itself -------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", complex_step.TWINS)
def test_a_kernel_written_again_is_the_reference_kernel_on_real_numbers(name, rng):
    x, (gamma, beta, mean) = rng.standard_normal((3, 5, 4, 2)), rng.standard_normal((3, 2))
    arguments: dict[str, tuple] = {
        "relu": (x,), "sigmoid": (x,), "max_pool2d": (x, (3, 2), (2, 1), (1, 1, 0, 1)),
        "batch_norm": (x, gamma, beta, 0.01), "batch_norm_inference": (x, gamma, beta, mean, mean**2, 0.01)}
    out, right = (getattr(module, name)(*arguments[name]) for module in (complex_step, reference))
    out, right = (result if isinstance(result, tuple) else (result,) for result in (out, right))
    for ours, theirs in zip(out, right, strict=True):
        if ours is not None:                             # the twin of max_pool2d does not say who won
            assert error(ours, theirs) < 1e-14
    complex_out = getattr(complex_step, name)(*(a.astype(complex) if isinstance(a, np.ndarray) else a
                                                for a in arguments[name]))
    first = complex_out[0] if isinstance(complex_out, tuple) else complex_out
    assert error(first.real, out[0]) < 1e-14
    assert not first.imag.any()


def test_the_kernels_taken_over_are_those_of_the_reference_set():
    for name in set(complex_step.__all__) - set(complex_step.TWINS):
        assert getattr(complex_step, name) is getattr(reference, name)
