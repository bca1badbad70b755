"""What the parity sweep judges: random layers and small networks in float32, with random parameters and data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from conftest import NO_JIT
from minicnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    Layer,
    LeakyReLU,
    MaxPooling2D,
)
from minicnn.models import Sequential
from torch_layers import built


class Task(NamedTuple):
    """Layers in float32 with their data; ``targets`` (N, K) if cross-entropy follows, ``upstream`` then being (N,)."""

    layers: list[Layer]
    x: np.ndarray
    upstream: np.ndarray
    targets: np.ndarray | None = None


def window(rng: np.random.Generator, size: Sequence[int], name: str, largest: int) -> dict[str, Any]:
    """Return a random window that fits into an image of a size."""
    return {name: tuple(int(rng.integers(1, min(largest, side) + 1)) for side in size),
            "strides": tuple(rng.integers(1, 4, 2).tolist()), "padding": str(rng.choice(["valid", "same"]))}


def image(rng: np.random.Generator, large: bool) -> tuple[int, ...]:
    """Return (H, W, C)."""
    return (*rng.integers(10, 29, 2).tolist(), int(rng.integers(8, 33))) if large else (
        *rng.integers(2, 11, 2).tolist(), int(rng.integers(1, 6)))


def conv2d(rng: np.random.Generator, large: bool, algorithm: str = "im2col") -> tuple[list[Layer], tuple[int, ...]]:
    shape = image(rng, large)
    geometry = window(rng, shape[:2], "kernel_size", 5)
    if algorithm == "winograd":
        side = 5 if rng.integers(2) and min(shape[:2]) >= 5 else 3
        geometry |= {"kernel_size": side, "strides": 1} | ({"padding": "same"} if min(shape[:2]) < side else {})
    return [Conv2D(int(rng.integers(1, 33 if large else 7)), **geometry, use_bias=bool(rng.integers(4)),
                   activation=str(rng.choice(["linear", "linear", "relu", "tanh"])), algorithm=algorithm)], shape


def max_pooling2d(rng: np.random.Generator, large: bool) -> tuple[list[Layer], tuple[int, ...]]:
    shape = image(rng, large)
    return [MaxPooling2D(**window(rng, shape[:2], "pool_size", 4))], shape


def average_pooling2d(rng: np.random.Generator, large: bool) -> tuple[list[Layer], tuple[int, ...]]:
    """Return one without padding: on PyTorch, other than on TensorFlow, Keras counts padding where it is uneven."""
    shape = image(rng, large)
    options = window(rng, shape[:2], "pool_size", 4) | {"padding": "valid"}
    return [AveragePooling2D(**options) if rng.integers(4) else GlobalAveragePooling2D()], shape


def leaky_relu(rng: np.random.Generator, large: bool) -> tuple[list[Layer], tuple[int, ...]]:
    return [LeakyReLU(float(rng.choice([0.01, 0.3])))], image(rng, large)


def dense(rng: np.random.Generator, large: bool) -> tuple[list[Layer], tuple[int, ...]]:
    D, K = rng.integers(1, 500 if large else 60, 2).tolist()
    return [Dense(K, activation=str(rng.choice(["linear", "relu", "sigmoid", "softmax"])),
                  use_bias=bool(rng.integers(4)))], (D,)


def batch_normalization(rng: np.random.Generator, large: bool) -> tuple[list[Layer], tuple[int, ...]]:
    shape = image(rng, large) if rng.integers(3) else (int(rng.integers(1, 300 if large else 30)),)
    return [BatchNormalization(epsilon=float(rng.choice([1e-5, 1e-3, 0.1])))], shape


def activation(rng: np.random.Generator, large: bool) -> tuple[list[Layer], tuple[int, ...]]:
    shape = image(rng, large) if rng.integers(2) else (int(rng.integers(2, 300 if large else 30)),)
    return [Activation(str(rng.choice(["relu", "sigmoid", "tanh", "softmax"])))], shape


LAYERS: dict[str, tuple[Callable[..., tuple[list[Layer], tuple[int, ...]]], int]] = {
    "Conv2D": (conv2d, 100), "MaxPooling2D": (max_pooling2d, 40), "Dense": (dense, 40),
    "BatchNormalization": (batch_normalization, 30), "Activation": (activation, 20),
    "AveragePooling2D": (average_pooling2d, 30), "LeakyReLU": (leaky_relu, 10)}
# Those of the fast kernels alone.
ALGORITHMS: dict[str, tuple[Callable[..., tuple[list[Layer], tuple[int, ...]]], int]] = {
    f"Conv2D, {algorithm}": (functools.partial(conv2d, algorithm=algorithm), 20 if NO_JIT else 100)
    for algorithm in ("direct", "winograd")}
NETWORKS = 30
NETWORKS_WITH_WINOGRAD = 3 if NO_JIT else 20
CLASSES = 4


def network_layers(rng: np.random.Generator) -> tuple[list[Layer], tuple[int, ...]]:
    """Return a few blocks of convolution, normalization and pooling, then dense layers; always a nonlinearity between.

    Without one, batch normalization would take out the bias before it, whose gradient is zero and its error relative
    to nothing.
    """
    size = rng.integers(6, 12, 2).tolist()
    layers: list[Layer] = []
    for _ in range(rng.integers(0, 4)):
        F, strides = int(rng.integers(2, 7)), tuple(rng.integers(1, 3, 2).tolist())
        layers.append(Conv2D(F, tuple(rng.integers(1, 6, 2).tolist()), strides=strides, padding="same",
                             activation=str(rng.choice(["relu", "tanh", "sigmoid"])), algorithm="im2col"))
        if rng.integers(3):
            layers.append(BatchNormalization(momentum=0.9))
        if rng.integers(2):
            layers.append(MaxPooling2D(tuple(rng.integers(1, 4, 2).tolist()), strides=(1, 2), padding="same"))
    layers.append(Flatten())
    for _ in range(rng.integers(0, 3)):
        layers.append(Dense(int(rng.integers(3, 12)), activation=str(rng.choice(["relu", "tanh", "sigmoid"]))))
        if rng.integers(2):
            layers.append(BatchNormalization())
    return [*layers, Dense(CLASSES)], (*size, int(rng.integers(1, 4)))


def network_with_winograd(rng: np.random.Generator) -> tuple[list[Layer], tuple[int, ...]]:
    """Return such layers, large enough for ``auto`` to choose Winograd's algorithm."""
    size = (4 * rng.integers(2, 4, 2)).tolist()
    layers: list[Layer] = []
    for _ in range(rng.integers(1, 4)):
        layers.append(Conv2D(int(rng.integers(16, 25)), int(rng.choice([3, 5])), padding="same",
                             activation=str(rng.choice(["relu", "tanh"]))))
        if rng.integers(2):
            layers.append(BatchNormalization())
    return [*layers, MaxPooling2D(2), Flatten(), Dense(CLASSES)], (*size, int(rng.integers(16, 20)))


def task_of(kind: str, rng: np.random.Generator, large: bool) -> Task:
    """Return random layers of a kind with random parameters and data."""
    layers, shape = NETWORK_KINDS[kind](rng) if kind in NETWORK_KINDS else (LAYERS | ALGORITHMS)[kind][0](rng, large)
    output_shape = shape
    for layer in Sequential(layers).layers:                                     # which gives them names of their own
        built(layer, output_shape, rng)
        output_shape = layer.output_shape
    n = int(rng.integers(4, 12))
    x = rng.standard_normal((n, *shape)).astype(np.float32)
    if kind in NETWORK_KINDS:
        targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, n)]
        return Task(layers, x, rng.uniform(0.5, 1.5, n).astype(np.float32), targets)
    return Task(layers, x, rng.standard_normal((n, *output_shape)).astype(np.float32))


NETWORK_KINDS = {"network": network_layers, "network with Winograd": network_with_winograd}
