"""One bound for every fast kernel: how far it may be from float64, ``||found - exact|| / ||exact||``.

The upstream gradients are random and every result counts, so each operation is held to it as in a smooth loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from kernel_calls import draw, targets_like, tiny_chunks  # noqa: F401  (a fixture)
from minicnn.kernels import fast, reference

BOUND = {np.float32: 2e-5, np.float64: 1e-10}
EPSILON = 1e-3
POOL = (3, 2), (2, 1), (1, 0, 0, 1)
NO_ERROR = {"all_finite"}  # a truth value

Numbers = Callable[..., np.ndarray]
Arguments = Iterator[tuple[Any, ...]]


def convolutions(numbers: Numbers, N: int, backward: bool) -> Arguments:
    """Of each algorithm, with channels and filters that fill no vector, and images that fill no tile."""
    for algorithm, r, stride in (("winograd", 3, (1, 1)), ("winograd", 5, (1, 1)), ("direct", 3, (1, 1)),
                                 ("direct", 4, (2, 1)), ("im2col", 3, (1, 1)), ("im2col", 2, (3, 2))):
        (C, F), padding = (19, 5) if r == 3 else (3, 21), (1, 0, 2, 1)
        x, w, b = numbers(N, 11, 10, C), numbers(r, r, C, F), numbers(F)
        out = reference.conv2d(x, w, b, stride, padding)
        yield (numbers(*out.shape), x, w, stride, padding, algorithm) if backward else (x, w, b, stride, padding,
                                                                                        algorithm)


def denses(numbers: Numbers, N: int, backward: bool) -> Arguments:
    """Wide and deep, and beyond one block."""
    for I, O in ((37, 23), (800, 131)):
        x, w = numbers(N, I), numbers(I, O)
        yield (numbers(N, O), x, w) if backward else (x, w, numbers(O))


def normalizations(numbers: Numbers, N: int, backward: bool) -> Arguments:
    """Over images and over rows; with a mean far from zero, where a variance in one pass would be lost."""
    for shape in ((N + 1, 5, 7, 19), (N + 1, 33)):
        x, gamma, channels = numbers(*shape, around=30), numbers(shape[-1]), tuple(range(len(shape) - 1))
        statistics = x.mean(axis=channels), x.var(axis=channels)
        yield (numbers(*shape), x, gamma, *statistics, EPSILON) if backward else (x, gamma, numbers(shape[-1]), EPSILON)


def inferences(numbers: Numbers, N: int) -> Arguments:
    x = numbers(N, 5, 7, 19, around=3)
    yield x, numbers(19), numbers(19), numbers(19), abs(numbers(19)), EPSILON


def pools(numbers: Numbers, N: int, kind: str) -> Arguments:
    x = numbers(N, 9, 8, 19)
    out, winner = reference.max_pool2d(x, *POOL)
    yield {"forward": (x, *POOL), "max": (numbers(*out.shape), winner, x.shape, *POOL),
           "mean": (numbers(*out.shape), x.shape, *POOL)}[kind]


def losses(numbers: Numbers, N: int, backward: bool) -> Arguments:
    logits, targets = numbers(N, 13), targets_like(np.random.default_rng(N), N, 13, "smoothed", float)
    rows, probabilities = reference.softmax_cross_entropy(logits, targets)
    yield (probabilities, targets, numbers(*rows.shape)) if backward else (logits, targets)


def updates(numbers: Numbers, N: int, slots: int, *settings: Any) -> Arguments:
    yield *(abs(numbers(N, 173)) + 1 for _ in range(2 + slots)), *settings


def activation(numbers: Numbers, N: int, count: int = 1, *settings: Any) -> Arguments:
    yield *(numbers(N, 9, 7, 5) for _ in range(count)), *settings


OPERATIONS: dict[str, Callable[[Numbers, int], Arguments]] = {
    "conv2d": lambda numbers, N: convolutions(numbers, N, backward=False),
    "conv2d_backward": lambda numbers, N: convolutions(numbers, N, backward=True),
    "dense": lambda numbers, N: denses(numbers, N, backward=False),
    "dense_backward": lambda numbers, N: denses(numbers, N, backward=True),
    "batch_norm": lambda numbers, N: normalizations(numbers, N, backward=False),
    "batch_norm_backward": lambda numbers, N: normalizations(numbers, N, backward=True),
    "batch_norm_inference": inferences,
    "batch_norm_inference_backward": lambda numbers, N: normalizations(numbers, N, backward=True),
    "max_pool2d": lambda numbers, N: pools(numbers, N, "forward"),
    "max_pool2d_backward": lambda numbers, N: pools(numbers, N, "max"),
    "avg_pool2d": lambda numbers, N: pools(numbers, N, "forward"),
    "avg_pool2d_backward": lambda numbers, N: pools(numbers, N, "mean"),
    "dropout": lambda numbers, N: activation(numbers, N, 1, 0.3, 2**64 - 3),
    "dropout_backward": lambda numbers, N: activation(numbers, N, 1, 0.3, 2**64 - 3),
    "softmax_cross_entropy": lambda numbers, N: losses(numbers, N, backward=False),
    "softmax_cross_entropy_backward": lambda numbers, N: losses(numbers, N, backward=True),
    "adam_update": lambda numbers, N: updates(numbers, N, 2, 1e-3, 0.9, 0.999, 0.1, 3),
    "sgd_update": lambda numbers, N: updates(numbers, N, 1, 1e-2, 0.9, True),
    "rmsprop_update": lambda numbers, N: updates(numbers, N, 3, 1e-2, 0.9, 0.5, 1.0),
    "affine_warp": lambda numbers, N: iter([(numbers(N, 9, 7, 3), np.eye(2, 3) + 0.1 * numbers(N, 2, 3), "reflect")]),
    "stroke_distance": lambda numbers, N: iter([(6 * abs(numbers(N, 6, 2)), numbers(N, 5) > -1, (9, 7))]),
    "leaky_relu": lambda numbers, N: activation(numbers, N, 1, 0.3),
    "leaky_relu_backward": lambda numbers, N: activation(numbers, N, 2, 0.3),
    **{name: activation for name in ("relu", "sigmoid", "tanh", "softmax")},
    **{f"{name}_backward": lambda numbers, N: activation(numbers, N, 2) for name in ("relu", "sigmoid", "tanh",
                                                                                    "softmax")},
}


def test_every_kernel_is_held_to_the_bound():
    assert set(OPERATIONS) | NO_ERROR == set(fast.__all__)


def results(kernel: Callable[..., Any], arguments: tuple[Any, ...], dtype: Any) -> list[np.ndarray]:
    """Call a kernel with the same numbers in that dtype; what it returns, or, of an update, what it has changed."""
    cast = [argument.astype(np.float32).astype(dtype) if isinstance(argument, np.ndarray) and argument.dtype.kind == "f"
            else argument for argument in arguments]
    returned = kernel(*cast)
    if returned is None:
        return [array for array in cast if isinstance(array, np.ndarray)]
    return [array for array in (returned if isinstance(returned, tuple) else (returned,)) if array is not None]


def close(found: list[np.ndarray], exact: list[np.ndarray], dtype: Any) -> None:
    """Assert the shapes, and errors within the bound."""
    for one, other in zip(found, exact, strict=True):
        assert one.shape == other.shape
        error = np.linalg.norm((one.astype(float) - other).ravel()) / max(np.linalg.norm(other.ravel()), 1e-30)
        assert error <= BOUND[dtype]


@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("dtype", BOUND, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("N", [1, 2, 37])
@pytest.mark.parametrize("name", OPERATIONS)
def test_error_against_float64(name, N, dtype):
    rng = np.random.default_rng(N)

    def numbers(*shape: int, around: float = 0.0) -> np.ndarray:
        return draw(rng, shape, np.float64, around=around)

    cases = 0
    for arguments in OPERATIONS[name](numbers, N):
        takes = arguments if name not in ("conv2d", "conv2d_backward") else arguments[:-1]  # reference has one way
        close(results(getattr(fast, name), arguments, dtype), results(getattr(reference, name), takes, float), dtype)
        cases += 1
    assert cases


@pytest.mark.no_jit_excluded("millions of multiplications, which are beyond plain Python loops")
@pytest.mark.parametrize("dtype", BOUND, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("algorithm", ["winograd", "direct", "im2col"])
def test_error_of_the_largest_batch(algorithm, dtype, rng):
    x, w, dout = (draw(rng, shape, np.float32) for shape in ((4096, 6, 5, 3), (3, 3, 3, 4), (4096, 6, 5, 4)))
    geometry = (1, 1), (1, 1, 1, 1)
    found = [*results(fast.conv2d, (x, w, None, *geometry, algorithm), dtype),
             *results(fast.conv2d_backward, (dout, x, w, *geometry, algorithm), dtype)]
    exact = [*results(reference.conv2d, (x, w, None, *geometry), float),
             *results(reference.conv2d_backward, (dout, x, w, *geometry), float)]
    close(found, exact, dtype)
