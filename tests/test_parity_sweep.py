"""As exact as PyTorch and Keras in float32: random layers and small networks against the same computation in float64.

Agreement with another library in float32 says little: both are wrong by rounding. Here the truth is our reference set
in float64, and the measure is ||a - truth|| / ||truth|| (2-norms), of the output and of every gradient. We may err at
most 1.5 times as much as the other library, or 1e-6, whichever is larger; where Winograd's algorithm convolves, which
gives up digits for speed, 2e-5. What is recorded is our error as a share of what it may be.

Of a network, the gradient in all parameters is one vector, as it is for an update. Parts of it are small sums of large
terms, such as the gradient of a bias before a normalization; their relative error is chance, ours as well as theirs.

What magnifies a change of the input more than tenfold is drawn again: there rounding decides about a kink or a tie, or
the errors of the first layer about all others. The truth alone is asked for that.
"""

from __future__ import annotations

import copy
import functools
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import complex_step
from conftest import NO_JIT
from minicnn import kernels
from minicnn.layers import Conv2D, Flatten
from parity_tasks import ALGORITHMS, LAYERS, NETWORKS, NETWORKS_WITH_WINOGRAD, Task, task_of
from proof import record
from torch_layers import apply_in_torch, our_kernel, to_numpy, to_torch, torch_kernel

RATIO, FLOOR, WINOGRAD = 1.5, 1e-6, 2e-5
MAGNIFICATION = 10
TRUE = 1e-4                                      # a library further from the truth is wrong, or the truth is

Results = dict[str, np.ndarray]


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


@pytest.fixture
def fast_kernels(use_kernels: Callable[[str], None]) -> None:
    use_kernels("fast")


def judge(ours: Results, task: Task, truth: Results, allowed: dict[str, float]) -> dict[str, float]:
    """Return our errors as shares of those allowed, or fail."""
    shares = {name: error / allowed[name] for name, error in errors(ours, truth).items()}
    above = {name: share for name, share in shares.items() if not share <= 1}
    assert not above, f"{[layer.config() for layer in task.layers]}: errors are these multiples of the allowed: {above}"
    return shares


def compare(library: str, kind: str, count: int) -> None:
    """Judge our errors by those of the library."""
    shares: list[float] = []
    compared = 0
    # The claim is about compiled kernels: plain Python rounds every product before it adds it.
    slack = 2 if NO_JIT and kernels.active() == "fast" else 1
    for number in range(count):
        task, truth = drawn(kind, number)
        assert not by_winograd(task)
        theirs = errors(by_library(library, kind, number), truth)
        if library == "keras" and max(theirs.values()) > TRUE and keras_is_wrong(task, truth):
            continue
        assert max(theirs.values()) < TRUE, f"{kind} {number}: {library} or the truth is wrong: {theirs}"
        compared += 1
        allowed = {name: slack * max(RATIO * error, FLOOR) for name, error in theirs.items()}
        shares += judge(by_us(task), task, truth, allowed).values()
    assert compared >= 0.97 * count
    record("parity", compared, max(shares), {"torch": "PyTorch", "keras": "Keras"}[library])


def by_winograd(task: Task) -> bool:
    """Whether Winograd's algorithm is in it, under the kernel set in use."""
    return any(isinstance(layer, Conv2D) and layer.algorithm_in_use() == "winograd" for layer in task.layers)


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


@pytest.mark.usefixtures("fast_kernels", "one_thread_of_torch")
@pytest.mark.parametrize("library", LIBRARIES)
def test_direct(library):
    compare(library, "Conv2D, direct", ALGORITHMS["Conv2D, direct"][1])


@pytest.mark.usefixtures("fast_kernels")
@pytest.mark.parametrize(("kind", "count"), [("Conv2D, winograd", ALGORITHMS["Conv2D, winograd"][1]),
                                             ("network with Winograd", NETWORKS_WITH_WINOGRAD)])
def test_winograd(kind, count):
    """Held to a bound of its own, whatever the others make of it."""
    shares: list[float] = []
    for number in range(count):
        task, truth = drawn(kind, number)
        assert by_winograd(task)
        shares += judge(by_us(task), task, truth, dict.fromkeys(errors(truth, truth), WINOGRAD)).values()
    record("parity", count, max(shares), "the bound of Winograd")


@pytest.mark.parametrize("excess", [0.99, 1.01])
def test_the_limits_bite(excess):
    """An error just above what is allowed is refused; the share says how far it is from that."""
    task, truth = drawn("Dense", 0)
    shifted = {name: array * (1 + excess * FLOOR) for name, array in truth.items()}
    allowed = dict.fromkeys(errors(truth, truth), FLOOR)
    if excess > 1:
        with pytest.raises(AssertionError, match="multiples of the allowed"):
            judge(shifted, task, truth, allowed)
    else:
        assert judge(shifted, task, truth, allowed)["output"] == pytest.approx(excess, rel=1e-6)


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
