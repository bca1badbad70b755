"""Gradients held as tightly as float64 allows, part one: layers whose differences are exact.

The error of a tensor is max|analytic - numeric| / max|numeric|, over all its entries. The numeric gradient is that of
the reference forward pass and judges the analytic gradients of both kernel sets:

- where the output is linear in each entry, by a difference with step 1 (limit 1e-12);
- where it is so piece by piece (ReLU, max-pooling), by a difference with step 1/32, a power of two, so that it is exact
  as well. Inputs lie on a lattice that keeps every point more than four steps away from a kink or a tie (limit 1e-10);
  that is checked: the function must be straight over four steps to both sides;
- where it is smooth, and for whole networks, by the complex step: ``test_gradients_complex_step.py`` (limit 1e-9).

All that need not lie on the lattice has 53 significant bits, the upstream gradient above all, and sums are taken in
float64: on whole numbers a gradient that was float32 for a while would be right to the last bit.

``test_gradients.py`` does the same with the public gradient check, which knows nothing about what it checks.
"""

from __future__ import annotations

import copy
import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import complex_step
from minicnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    Layer,
    LeakyReLU,
    MaxPooling2D,
)
from minicnn.layers.pooling2d import Pooling2D
from networks import error
from proof import record

pytestmark = pytest.mark.gradient

LIMITS = {"linear": 1e-12, "piecewise linear": 1e-10, "smooth": 1e-9, "whole network": 1e-9}
STEPS = {"linear": 1.0, "piecewise linear": 2.0**-5}

Gradients = dict[str, np.ndarray]


def judge(name: str, kernel_set: str, klass: str, table: Any, analytic: Gradients, numeric: Gradients) -> None:
    """Compare all tensors; one whose gradient is zero throughout is judged against the largest gradient of all."""
    assert analytic.keys() == numeric.keys()
    largest = max(np.abs(gradient).max() for gradient in numeric.values())
    assert largest > 0, "a gradient of zeros proves nothing"
    errors = {}
    for key, right in numeric.items():
        zero = np.abs(right).max() < 1e-9 * largest
        errors[key] = error(analytic[key] / largest, np.zeros(right.shape)) if zero else error(analytic[key], right)
    within = [table.add(f"{name} ({kernel_set})", key, worst, LIMITS[klass]) for key, worst in errors.items()]
    assert all(within), f"{name}: errors {errors}, allowed {LIMITS[klass]}"
    record("gradients", len(errors), max(errors.values()), klass)


def rng_of(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


# --- one layer ---------------------------------------------------------------------------------------------------

class Case(NamedTuple):
    """A layer, its data, and what the reference forward pass says about them."""

    layer: Layer
    x: np.ndarray
    upstream: np.ndarray
    out: np.ndarray
    numeric: Gradients

    def check(self, name: str, kernel_set: str, klass: str, table: Any) -> None:
        """Compare the gradients of the kernel set in use, and its output."""
        layer = copy.deepcopy(self.layer)
        out = layer.forward(self.x.copy(), training=True)
        analytic = {"input": layer.backward(self.upstream.copy())}
        analytic |= {f"{layer.name}/{key}": gradient for key, gradient in layer.grads.items()}
        assert error(out, self.out) < 1e-12, "not the function that was differentiated"
        judge(name, kernel_set, klass, table, analytic, self.numeric)


def prepared(make: Callable[[], Layer], shape: tuple[int, ...]) -> Layer:
    """Return a built layer that computes in float64 and draws one and the same mask."""
    layer = make().astype("float64")
    if not layer.built:
        layer.build(shape)
    layer.step = 3
    return layer


def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-3, 4, shape).astype(np.float64)


def fractions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Return numbers between 1 and 3 in size, of which float32 would lose half the bits."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(1, 3, shape)


def lattice_case(name: str, klass: str, make: Callable[[], Layer], shape: tuple[int, ...], n: int) -> Case:
    """Return a layer with numbers drawn at will if it is linear, else on a lattice half a unit off each kink.

    Before a ReLU the sums are whole numbers and a half (the bias is, or the input itself). Four steps of one entry
    change a sum by at most 4/32 * 3 < 1/2. In a pool all inputs differ by at least 1.
    """
    rng, layer = rng_of(name), prepared(make, shape)
    draw, half = (fractions, 0.0) if klass == "linear" else (integers, 0.5)
    for key, array in layer.params.items():
        array[...] = draw(rng, array.shape) + (2 + half if key == "bias" else 0)   # 2: most ReLUs are active
    for key, array in layer.state.items():
        array[...] = rng.uniform(0.5, 2, array.shape) if key == "moving_variance" else draw(rng, array.shape)
    x = draw(rng, (n, *shape)) + (0 if layer.params else half)
    if isinstance(layer, MaxPooling2D):
        x = rng.permuted(np.arange(x.size).reshape(n, -1), axis=1).reshape(x.shape) - x.size / 2
    with complex_step.reference_kernels():
        out = layer.forward(x.copy(), training=True)
        upstream = fractions(rng, out.shape)
        arrays = {"input": x} | {f"{layer.name}/{key}": array for key, array in layer.params.items()}
        numeric = {key: differences(lambda: layer.forward(x.copy(), training=True), array, upstream, STEPS[klass])
                   for key, array in arrays.items()}
    return Case(layer, x, upstream, out, numeric)


def differences(function: Callable[[], np.ndarray], array: np.ndarray, upstream: np.ndarray, step: float,
                ) -> np.ndarray:
    """Return the gradient of sum(upstream * function()) in ``array``, which the function reads.

    Fails where the function is not straight within four steps. Outputs are subtracted before they are summed: those
    that do not change add no rounding error.
    """
    found = np.zeros(array.shape)
    for index in np.ndindex(array.shape):
        start, at = array[index], {}
        for t in (-4, -1, 0, 1, 4):
            array[index] = start + t * step
            at[t] = function()
        array[index] = start
        assert np.abs(at[4] + at[-4] - 2 * at[0]).max() < 1e-12 * max(1, np.abs(at[0]).max()), "a kink or a tie"
        found[index] = np.sum(upstream * (at[1] - at[-1])) / (2 * step)
    return found


def windows(count: int, kind: str) -> list[tuple[dict[str, Any], tuple[int, ...], int]]:
    """Return random (options, input shape, batch size) for windows of a kind, of every proportion."""
    rng, found = rng_of(kind), []
    while len(found) < count:
        size, window, strides = (rng.integers(low, high, 2).tolist() for low, high in ((1, 9), (1, 6), (1, 5)))
        padding = ("valid", "same")[len(found) % 2]
        if padding == "same" or (window[0] <= size[0] and window[1] <= size[1]):
            options = {"kernel_size" if kind == "conv" else "pool_size": tuple(window), "strides": tuple(strides),
                       "padding": padding}
            found.append((options, (*size, int(rng.integers(1, 4))), int(rng.integers(1, 4))))
    return found


def random_cases(kind: str, count: int, layer: type[Layer], **more: Any) -> dict[str, Any]:
    """Return random windows for a layer, under names such as ``pool (2,3) (1,1) same of (3,5,8,2)``."""
    cases = {}
    for options, shape, n in windows(count, "pool" if issubclass(layer, Pooling2D) else "conv"):
        name = f"{kind} {' '.join(map(str, options.values()))} of {(n, *shape)}".replace(", ", ",")
        cases[name] = functools.partial(layer, **options, **more), shape, n
    return cases


LATTICE: dict[str, dict[str, Any]] = {
    "linear": {
        **random_cases("conv", 40, Conv2D, filters=3),
        "conv kernel as image, no bias": (lambda: Conv2D(4, (3, 5), use_bias=False), (3, 5, 2), 1),
        "conv im2col": (lambda: Conv2D(2, (4, 3), strides=(1, 2), padding="same", algorithm="im2col"), (5, 6, 3), 3),
        "dense": (lambda: Dense(4), (7,), 3),
        "dense, one of everything": (lambda: Dense(1), (1,), 1),
        "dense, no bias": (lambda: Dense(13, use_bias=False), (29,), 5),
        **random_cases("average pool", 20, AveragePooling2D),
        "global average pool": (GlobalAveragePooling2D, (4, 7, 3), 2),
        "flatten": (Flatten, (2, 3, 4), 3),
        "input": (lambda: Input((2, 3, 1)), (2, 3, 1), 1),
        "linear": (lambda: Activation("linear"), (3, 4), 3),
        "dropout rank 2": (lambda: Dropout(0.4), (17,), 3),
        "dropout rank 4": (lambda: Dropout(0.25), (3, 5, 2), 5),
        "dropout of one image": (lambda: Dropout(0.5), (5, 3, 2), 1),
        "dropout rate 0": (lambda: Dropout(0.0), (3, 2), 2),
        "batch norm frozen, rank 2": (lambda: BatchNormalization(trainable=False), (5,), 3),
        "batch norm frozen, rank 4": (lambda: BatchNormalization(trainable=False, epsilon=0.1), (3, 2, 4), 1),
    },
    "piecewise linear": {
        **random_cases("pool", 40, MaxPooling2D),
        **random_cases("conv relu", 12, Conv2D, filters=2, activation="relu"),
        "dense relu": (lambda: Dense(6, activation="relu"), (5,), 3),
        "leaky relu rank 2": (lambda: LeakyReLU(0.75), (7,), 1),
        "leaky relu rank 4": (lambda: LeakyReLU(0.1), (3, 4, 2), 3),
        "relu rank 2": (lambda: Activation("relu"), (7,), 1),
        "relu rank 4": (lambda: Activation("relu"), (3, 4, 2), 3),
    }}


@functools.cache
def lattice(name: str, klass: str) -> Case:
    return lattice_case(name, klass, *LATTICE[klass][name])


@pytest.mark.parametrize("name", LATTICE["linear"])
def test_linear(name, kernel_set, gradient_table):
    lattice(name, "linear").check(name, kernel_set, "linear", gradient_table)


@pytest.mark.parametrize("name", LATTICE["piecewise linear"])
def test_piecewise_linear(name, kernel_set, gradient_table):
    lattice(name, "piecewise linear").check(name, kernel_set, "piecewise linear", gradient_table)
