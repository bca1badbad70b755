"""As exact as PyTorch and Keras in float32: random layers and small networks against the same computation in float64.

Agreement with another library in float32 says little: both are wrong by rounding. Here the truth is our reference set
in float64, and the measure is ||a - truth|| / ||truth|| (2-norms), of the output and of every gradient. We may err at
most 1.5 times as much as the other library, or 1e-6, whichever is larger. What is recorded is our error over theirs,
theirs counted as at least 1e-6 / 1.5: so the limit is 1.5 for all.

Of a network, the gradient in all parameters is one vector, as it is for an update. Parts of it are small sums of large
terms, such as the gradient of a bias before a normalization; their relative error is chance, ours as well as theirs.

What magnifies a change of the input more than tenfold is drawn again: there rounding decides about a kink or a tie, or
the errors of the first layer about all others. The truth alone is asked for that.
"""

from __future__ import annotations

import copy
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import complex_step
from conftest import NO_JIT
from minicnn import kernels
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten, Layer, MaxPooling2D
from minicnn.models import Sequential
from proof import record
from torch_layers import apply_in_torch, built, our_kernel, to_numpy, to_torch, torch_kernel

RATIO, FLOOR = 1.5, 1e-6
MAGNIFICATION = 10
TRUE = 1e-4                                      # a library further from the truth is wrong, or the truth is

Results = dict[str, np.ndarray]


class Task(NamedTuple):
    """Layers in float32 with their data; ``targets`` (N, K) if cross-entropy follows, ``upstream`` then being (N,)."""

    layers: list[Layer]
    x: np.ndarray
    upstream: np.ndarray
    targets: np.ndarray | None = None


# --- three ways to compute it ------------------------------------------------------------------------------------

def by_us(task: Task, dtype: str = "float32") -> Results:
    """Return the output and every gradient, by the kernel set in use."""
    layers = [copy.deepcopy(layer).astype(dtype) for layer in task.layers]
    x = out = task.x.astype(dtype)
    upstream = task.upstream.astype(dtype)
    for layer in layers:
        out = layer.forward(out, training=True)
    results = {"output": out}
    if task.targets is not None:
        targets = task.targets.astype(dtype)
        results["losses"], probabilities = kernels.softmax_cross_entropy(out, targets)
        upstream = kernels.softmax_cross_entropy_backward(probabilities, targets, upstream)
    for layer in reversed(layers):
        upstream = layer.backward(upstream)
        results |= {f"{layer.name}/{key}": gradient for key, gradient in layer.grads.items()}
    assert {str(array.dtype) for array in results.values()} == {dtype}
    assert upstream.shape == x.shape
    return results | {"input": upstream}


def by_torch(task: Task) -> Results:
    """Return what PyTorch makes of it, in our layout and under our names."""
    import torch
    out = inputs = to_torch(task.x).requires_grad_()
    leaves: dict[str, Any] = {}
    for layer in task.layers:
        params = {key: (torch_kernel(array) if key == "kernel" else to_torch(array)).requires_grad_()
                  for key, array in layer.params.items()}
        leaves |= {f"{layer.name}/{key}": tensor for key, tensor in params.items()}
        if isinstance(layer, Flatten):
            out = out.permute(0, 2, 3, 1).reshape(len(out), -1)
        else:
            out = apply_in_torch(layer, out, params)
    results = {"output": to_numpy(out)}
    if task.targets is not None:
        out = torch.nn.functional.cross_entropy(out, to_torch(task.targets), reduction="none")
        results["losses"] = to_numpy(out)
    out.backward(to_torch(task.upstream))
    return results | {"input": to_numpy(inputs.grad)} | {
        name: our_kernel(leaf.grad) if name.endswith("kernel") else leaf.grad.numpy() for name, leaf in leaves.items()}


def by_keras(task: Task) -> Results:
    """Return what Keras makes of it; its layers take our ``config()`` as it is, but for what only we have."""
    import keras
    import torch
    out = inputs = torch.from_numpy(task.x.copy()).requires_grad_()
    leaves: dict[str, Any] = {}
    for layer in task.layers:
        config = {key: value for key, value in layer.config().items() if key not in ("algorithm", "input_shape")}
        theirs = getattr(keras.layers, type(layer).__name__)(**config)
        theirs.build(tuple(out.shape))
        theirs.set_weights(list(layer.weights.values()))
        leaves |= {f"{layer.name}/{key}": getattr(theirs, key).value for key in layer.params}
        out = theirs(out, training=True)
    results = {"output": out.detach().numpy()}
    if task.targets is not None:
        out = keras.ops.categorical_crossentropy(torch.from_numpy(task.targets), out, from_logits=True)
        results["losses"] = out.detach().numpy()
    out.backward(torch.from_numpy(task.upstream))
    return results | {"input": inputs.grad.numpy()} | {name: leaf.grad.numpy() for name, leaf in leaves.items()}


@functools.cache
def by_library(library: str, kind: str, number: int) -> Results:
    return {"torch": by_torch, "keras": by_keras}[library](drawn(kind, number)[0])


# --- what is drawn -----------------------------------------------------------------------------------------------

def window(rng: np.random.Generator, size: Sequence[int], name: str, largest: int) -> dict[str, Any]:
    """Return a random window that fits into an image of a size."""
    return {name: tuple(int(rng.integers(1, min(largest, side) + 1)) for side in size),
            "strides": tuple(rng.integers(1, 4, 2).tolist()), "padding": str(rng.choice(["valid", "same"]))}


def image(rng: np.random.Generator, large: bool) -> tuple[int, ...]:
    """Return (H, W, C)."""
    return (*rng.integers(10, 29, 2).tolist(), int(rng.integers(8, 33))) if large else (
        *rng.integers(2, 11, 2).tolist(), int(rng.integers(1, 6)))


def conv2d(rng: np.random.Generator, large: bool) -> tuple[list[Layer], tuple[int, ...]]:
    shape = image(rng, large)
    return [Conv2D(int(rng.integers(1, 33 if large else 7)), **window(rng, shape[:2], "kernel_size", 5),
                   use_bias=bool(rng.integers(4)), activation=str(rng.choice(["linear", "linear", "relu", "tanh"])),
                   algorithm="im2col")], shape


def max_pooling2d(rng: np.random.Generator, large: bool) -> tuple[list[Layer], tuple[int, ...]]:
    shape = image(rng, large)
    return [MaxPooling2D(**window(rng, shape[:2], "pool_size", 4))], shape


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
    "BatchNormalization": (batch_normalization, 30), "Activation": (activation, 20)}
NETWORKS = 30
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


def task_of(kind: str, rng: np.random.Generator, large: bool) -> Task:
    """Return random layers of a kind with random parameters and data."""
    layers, shape = network_layers(rng) if kind == "network" else LAYERS[kind][0](rng, large)
    output_shape = shape
    for layer in Sequential(layers).layers:                                     # which gives them names of their own
        built(layer, output_shape, rng)
        output_shape = layer.output_shape
    n = int(rng.integers(4, 12))
    x = rng.standard_normal((n, *shape)).astype(np.float32)
    if kind == "network":
        targets = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, n)]
        return Task(layers, x, rng.uniform(0.5, 1.5, n).astype(np.float32), targets)
    return Task(layers, x, rng.standard_normal((n, *output_shape)).astype(np.float32))


@functools.cache
def drawn(kind: str, number: int) -> tuple[Task, Results]:
    """Return a random task and the truth about it."""
    rng = np.random.default_rng([zlib.crc32(kind.encode()), number])
    while True:
        task = task_of(kind, rng, large=number % 8 == 7 and not NO_JIT)
        moved = task._replace(x=task.x * (1 + FLOOR * rng.standard_normal(task.x.shape)))
        with complex_step.reference_kernels():
            truth, other = by_us(task, "float64"), by_us(moved, "float64")
        if max(errors(other, truth).values()) < MAGNIFICATION * FLOOR:
            return task, truth


# --- how far apart -----------------------------------------------------------------------------------------------

def error(actual: np.ndarray, truth: np.ndarray) -> float:
    """Return ||actual - truth|| / ||truth||."""
    assert actual.shape == truth.shape
    return float(np.linalg.norm(actual.astype(np.float64) - truth) / (np.linalg.norm(truth) or 1))


def errors(actual: Results, truth: Results) -> dict[str, float]:
    """Return the error of each tensor; of a network, the gradients of all parameters are one."""
    assert actual.keys() == truth.keys()
    if "losses" in truth:
        actual, truth = joined(actual), joined(truth)
    return {name: error(actual[name], right) for name, right in truth.items()}


def joined(results: Results) -> Results:
    """Return the results with all gradients of parameters (``conv2d/kernel``, ...) as one vector."""
    names = sorted(name for name in results if "/" in name)
    return {"parameters": np.concatenate([results[name].ravel() for name in names])} | {
        name: array for name, array in results.items() if name not in names}


# --- tests -------------------------------------------------------------------------------------------------------

LIBRARIES = [
    pytest.param("torch", marks=pytest.mark.needs("torch")),
    pytest.param("keras", marks=[
        pytest.mark.needs("keras"),
        # Keras 3 on PyTorch tensors; NumPy 2 asks for an argument their __array__ lacks.
        pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")])]


@pytest.fixture
def one_thread_of_torch() -> Iterator[None]:
    """Its sums depend on the number of threads; and for small arrays, waiting for others takes longer than the sum."""
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def compare(library: str, kind: str, count: int) -> None:
    """Judge our errors by those of the library."""
    ratios, compared = {}, 0
    for number in range(count):
        task, truth = drawn(kind, number)
        theirs = errors(by_library(library, kind, number), truth)
        if library == "keras" and max(theirs.values()) > TRUE and keras_is_wrong(task, truth):
            continue
        assert max(theirs.values()) < TRUE, f"{kind} {number}: {library} or the truth is wrong: {theirs}"
        compared += 1
        ratios |= {f"{kind} {number}, {name}": ours / max(theirs[name], FLOOR / RATIO)
                   for name, ours in errors(by_us(task), truth).items()}
    assert compared >= 0.97 * count
    above = {name: ratio for name, ratio in ratios.items() if not ratio <= RATIO}
    assert not above, f"errors above {library}'s by these factors, allowed {RATIO}: {above}"
    record("parity", compared, max(ratios.values()), {"torch": "PyTorch", "keras": "Keras"}[library])


def keras_is_wrong(task: Task, truth: Results) -> bool:
    """Whether Keras meets a fault of PyTorch in a convolution of one channel, and PyTorch otherwise finds the truth.

    Keras hands over images with channels last. With oneDNN, PyTorch 2.13 then convolves some shapes with one channel
    wrongly: images (3, 5, 1) under a kernel (2, 4) with strides (1, 3) by 75 %, each time in another way. With channels
    first, or without oneDNN, it is right.
    """
    return (any(isinstance(layer, Conv2D) for layer in task.layers) and task.x.shape[-1] == 1
            and max(errors(by_torch(task), truth).values()) < TRUE)


@pytest.mark.usefixtures("one_thread_of_torch")
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind, library, kernel_set):
    compare(library, kind, LAYERS[kind][1])


@pytest.mark.usefixtures("one_thread_of_torch")
@pytest.mark.parametrize("library", LIBRARIES)
def test_networks(library, kernel_set):
    compare(library, "network", NETWORKS)


def test_there_are_enough():
    assert sum(count for _, count in LAYERS.values()) >= 200
    assert NETWORKS >= 20


def test_a_bias_gradient_sums_many_pixels_without_losing_digits(kernel_set):
    """Added up one after the other in float32, 8,000 numbers would lose one digit and more."""
    rng = np.random.default_rng(3)
    x, w = rng.random((4, 40, 50, 1), np.float32), np.ones((1, 1, 1, 2), np.float32)
    dout = rng.random((4, 40, 50, 2), np.float32)
    _, _, db = kernels.conv2d_backward(dout, x, w, (1, 1), (0, 0, 0, 0))
    assert error(db, dout.astype(np.float64).sum(axis=(0, 1, 2))) < 1e-7
