"""The promise of equal bits: for every number of threads, and for an image alone as in a batch."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from kernel_calls import tiny_chunks  # noqa: F401  (a fixture)
from minicnn.kernels import fast
from minicnn.kernels.fast import parallel

NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")

# --- the same bits for every number of threads -------------------------------------------------------------------

def floats(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    return rng.standard_normal(shape).astype(dtype)


def _conv(rng: np.random.Generator, N: int, stride: tuple[int, int]) -> tuple[np.ndarray, ...]:
    x, w = floats(rng, (N, 7, 6, 3)), floats(rng, (3, 2, 3, 5))
    return x, w, floats(rng, fast.conv2d(x, w, None, stride, (1, 0, 1, 1)).shape)


def _optimizer(update: Callable, slots: int, *numbers: Any) -> Callable:
    def call(rng: np.random.Generator, N: int) -> tuple[np.ndarray, ...]:
        arrays = [np.abs(floats(rng, (N, 23))) for _ in range(2 + slots)]
        update(*arrays, *numbers)
        return tuple(arrays)
    return call


def _statistics(kernel: Callable) -> Callable:
    def call(rng: np.random.Generator, N: int) -> Any:
        x, gamma = floats(rng, (N, 5, 3, 4)), floats(rng, (4,))
        return kernel(floats(rng, x.shape), x, gamma, floats(rng, (4,)), np.abs(floats(rng, (4,))), 1e-3)
    return call


def _conv_backward(rng: np.random.Generator, N: int, stride: tuple[int, int], need_dx: bool) -> Any:
    x, w, dout = _conv(rng, N, stride)
    return fast.conv2d_backward(dout, x, w, stride, (1, 0, 1, 1), need_dx=need_dx)


def _pool(rng: np.random.Generator, N: int) -> Any:
    geometry = (3, 2), (2, 1), (1, 0, 0, 1)
    x = floats(rng, (N, 7, 6, 3))
    out, winner = fast.max_pool2d(x, *geometry)
    return out, winner, fast.max_pool2d_backward(floats(rng, out.shape), winner, x.shape, *geometry)


def _mean_pool(rng: np.random.Generator, N: int) -> Any:
    x, geometry = floats(rng, (N, 7, 6, 3)), ((3, 2), (2, 1), (1, 0, 0, 1))
    out = fast.avg_pool2d(x, *geometry)
    return out, fast.avg_pool2d_backward(floats(rng, out.shape), x.shape, *geometry)


def _cross_entropy(rng: np.random.Generator, N: int) -> Any:
    targets = np.abs(floats(rng, (N, 6)))
    losses, probabilities = fast.softmax_cross_entropy(floats(rng, (N, 6)), targets)
    return losses, probabilities, fast.softmax_cross_entropy_backward(probabilities, targets, losses)


CALLS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "conv2d": lambda rng, N: fast.conv2d(*_conv(rng, N, (2, 1))[:2], floats(rng, (5,)), (2, 1), (1, 0, 1, 1)),
    "conv2d_backward, stride 1": lambda rng, N: _conv_backward(rng, N, (1, 1), True),
    "conv2d_backward, stride 2 1": lambda rng, N: _conv_backward(rng, N, (2, 1), True),
    "conv2d_backward, first layer": lambda rng, N: _conv_backward(rng, N, (1, 1), False),
    "dense": lambda rng, N: fast.dense(floats(rng, (N, 33)), floats(rng, (33, 7)), floats(rng, (7,))),
    "dense_backward": lambda rng, N: fast.dense_backward(floats(rng, (N, 7)), floats(rng, (N, 33)),
                                                         floats(rng, (33, 7))),
    "max_pool2d": _pool,
    "avg_pool2d": _mean_pool,
    "batch_norm": lambda rng, N: fast.batch_norm(floats(rng, (N, 5, 3, 4)), floats(rng, (4,)), floats(rng, (4,)), 1e-3),
    "batch_norm_backward": _statistics(fast.batch_norm_backward),
    "batch_norm_inference_backward": _statistics(fast.batch_norm_inference_backward),
    "softmax": lambda rng, N: fast.softmax(floats(rng, (N, 6))),
    "softmax_backward": lambda rng, N: fast.softmax_backward(floats(rng, (N, 6)), floats(rng, (N, 6))),
    "softmax_cross_entropy": _cross_entropy,
    "activations": lambda rng, N: [f(floats(rng, (N, 9, 3))) for f in (fast.relu, fast.sigmoid, fast.tanh)],
    "activations, backward": lambda rng, N: [f(floats(rng, (N, 9, 3)), floats(rng, (N, 9, 3))) for f in (
        fast.relu_backward, fast.sigmoid_backward, fast.tanh_backward)],
    "leaky relu": lambda rng, N: [fast.leaky_relu(floats(rng, (N, 9, 3)), 0.3), fast.leaky_relu_backward(
        floats(rng, (N, 9, 3)), floats(rng, (N, 9, 3)), 0.3)],
    "dropout": lambda rng, N: [f(floats(rng, (N, 9, 3)), 0.3, 12345678901234567890) for f in (
        fast.dropout, fast.dropout_backward)],
    "adam": _optimizer(fast.adam_update, 2, 1e-3, 0.9, 0.999, 1e-7, 3),
    "sgd": _optimizer(fast.sgd_update, 1, 1e-2, 0.9, True),
    "rmsprop": _optimizer(fast.rmsprop_update, 3, 1e-2, 0.9, 0.5, 1.0),
    "all_finite": lambda rng, N: np.array([fast.all_finite(floats(rng, (N, 9))), fast.all_finite(
        floats(rng, (N, 9)) * np.float32(np.inf))]),
    "affine_warp": lambda rng, N: fast.affine_warp(floats(rng, (N, 5, 4, 2)), floats(rng, (N, 2, 3)), "reflect"),
}


def bits(result: Any) -> list[bytes]:
    return [array.tobytes() for array in (result if isinstance(result, (tuple, list)) else [result])
            if array is not None]


def test_all_kernels_are_called() -> None:
    text = inspect.getsource(sys.modules[__name__])
    missing = [name for name in fast.__all__ if f"fast.{name}" not in text and name != "stroke_distance"]  # no sums
    assert not missing


@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("N", [2, 37])  # fewer images than threads, and a number nothing divides
@pytest.mark.parametrize("name", CALLS)
def test_same_bits_for_every_number_of_threads(name: str, N: int, threads: Callable,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    results, helpers = [], []
    original = parallel._pool.helpers
    monkeypatch.setattr(parallel._pool, "helpers", lambda count: (helpers.append(count), original(count))[1])
    for number in (1, 2, 3):
        threads(number)
        results.append(bits(CALLS[name](np.random.default_rng(7), N)))
    assert results[0] == results[1] == results[2]
    assert N == 2 or max(helpers) == 2, "the pool was not used"


# --- one image predicts the same bits alone as in a batch --------------------------------------------------------

def _dense_like_the_recipes(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(3)
    return fast.dense(x.reshape(len(x), -1), floats(rng, (x[0].size, 10), x.dtype), floats(rng, (10,), x.dtype))


def _wide_dense(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(4)
    return fast.dense(x.reshape(len(x), -1), floats(rng, (x[0].size, 137), x.dtype), None)


def _convolution(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    return fast.conv2d(x, floats(rng, (3, 2, x.shape[3], 7), x.dtype), floats(rng, (7,), x.dtype), (2, 1), (1, 1, 0, 1))


def _normalization(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(6)
    C = x.shape[-1]
    gamma, beta, mean, variance = (floats(rng, (C,), x.dtype) for _ in range(4))
    return fast.batch_norm_inference(x, gamma, beta, mean, np.abs(variance), 1e-3)


PREDICTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "dense": _dense_like_the_recipes,
    "wide dense": _wide_dense,
    "conv2d": _convolution,
    "batch_norm_inference": _normalization,
    "max_pool2d": lambda x: fast.max_pool2d(x, (2, 3), (2, 2), (0, 1, 1, 0))[0],
    "relu": fast.relu,
    "sigmoid": fast.sigmoid,
    "tanh": fast.tanh,
    "softmax": fast.softmax,
}


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_image_predicts_the_same_alone_as_in_a_batch(name: str, dtype: Any, threads: Callable) -> None:
    threads(2)
    x = np.random.default_rng(1).standard_normal((70 if not NO_JIT else 5, 7, 6, 3)).astype(dtype)
    predict = PREDICTIONS[name]
    together = predict(x)
    for n in range(len(x)):
        assert predict(x[n:n + 1]).tobytes() == together[n:n + 1].tobytes(), f"image {n}"
    assert predict(x[1:4]).tobytes() == together[1:4].tobytes()
    backwards = predict(x[::-1])
    assert backwards[::-1].tobytes() == together.tobytes()
