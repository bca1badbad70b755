"""The reference kernels on complex numbers, and the gradients that follow from them, exact to rounding.

For an analytic function, f(x + ih) = f(x) + ih f'(x) + O(h²): with a tiny h the imaginary part over h is the
derivative, and no difference of nearly equal numbers is taken (``naive.derivative``). Piece by piece that holds for
ReLU and max-pooling as well, if they decide by the real part.

This module can stand in for a kernel set: the layers' own forward passes then compute on complex numbers. Kernels that
take complex numbers as they stand are the reference kernels themselves (the maximum inside the softmax is the complex
number with the largest real part, and which number is subtracted there does not matter). Those that take an absolute
value, compare with zero, or compute in float64 throughout are written again from their definitions; a test compares
each with the reference kernel on real numbers.

References
----------
Squire, Trapp: Using complex variables to estimate derivatives of real functions, 1998, SIAM Review 40(1).
"""

from __future__ import annotations

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import naive
from minicnn import kernels
from minicnn.kernels import reference
from minicnn.kernels.geometry import Padding, Pair, output_size
from minicnn.kernels.reference import conv2d, dense, dropout, softmax, softmax_cross_entropy, tanh
from minicnn.kernels.reference.windows import pad, pixels_under
from minicnn.layers import Layer

__all__ = ["batch_norm", "batch_norm_inference", "conv2d", "dense", "dropout", "max_pool2d", "relu", "sigmoid",
           "softmax", "softmax_cross_entropy", "tanh"]
TWINS = ("batch_norm", "batch_norm_inference", "max_pool2d", "relu", "sigmoid")   # written again below


# --- kernels that the reference set has for real numbers only ----------------------------------------------------

def relu(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """max(x, 0)."""
    return _into(out, np.where(x.real > 0, x, 0))


def sigmoid(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return _into(out, naive.sigmoid(x))


def max_pool2d(x: np.ndarray, pool: Pair, stride: Pair, padding: Padding) -> tuple[np.ndarray, None]:
    """Return the largest entry of each window; where it was, nobody asks."""
    OH, OW = output_size(x.shape[1:3], pool, stride, padding)
    padded = pad(x, padding, -np.inf)
    out = np.full((len(x), OH, OW, x.shape[3]), -np.inf, x.dtype)
    for p, q in np.ndindex(pool):
        pixel = padded[pixels_under(p, q, stride, OH, OW)]                      # (N, OH, OW, C)
        out = np.where(pixel.real > out.real, pixel, out)
    return out, None


def batch_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float,
               ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta with the statistics of the batch.

    The layer stores moving averages as real numbers, and gets the real part.
    """
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axis=axes)                                                    # (C,)
    variance = ((x - mean)**2).mean(axis=axes)                                  # (C,), not |x - mean|²
    return batch_norm_inference(x, gamma, beta, mean, variance, epsilon), mean.real, variance.real


def batch_norm_inference(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                         epsilon: float) -> np.ndarray:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta."""
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def _into(out: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    if out is None:
        return values
    out[...] = values
    return out


# --- gradients ---------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def computing_with(kernel_set: Any) -> Iterator[None]:
    """Make a module the kernel set; the one before comes back afterwards."""
    before = kernels._active
    kernels._active = kernel_set
    try:
        yield
    finally:
        kernels._active = before


def reference_kernels() -> contextlib.AbstractContextManager[None]:
    """Compute with the reference kernels."""
    return computing_with(reference)


def gradients(layers: Sequence[Layer], x: np.ndarray, upstream: np.ndarray,
              last: Callable[[np.ndarray], np.ndarray] = lambda out: out) -> dict[str, np.ndarray]:
    """Return the gradients of ``sum(upstream * last(output))`` in the input and in every parameter, every entry.

    Parameters
    ----------
    layers : sequence of Layer
        Built, float64, with ``step`` set where there is a mask to hold; they are copied.
    x : (N, ...) array
    upstream : array
        Of the shape of ``last(output)``.
    last : callable
        Takes complex numbers: a loss, for instance.

    Returns
    -------
    dict
        ``input``, and names such as ``conv2d/kernel``.
    """
    layers = [copy.deepcopy(layer).astype("complex128") for layer in layers]
    states = [{key: array.real for key, array in layer.state.items()} for layer in layers]

    def run(x: np.ndarray, start: int, stop: int | None = None) -> np.ndarray:
        for layer, state in list(zip(layers, states))[start:stop]:
            layer.state = dict(state)
            x = layer.forward(x.copy(), training=True)
        return x

    with computing_with(sys.modules[__name__]):
        found = {"input": naive.derivative(lambda x: last(run(x, 0)), x, upstream)}
        for index, layer in enumerate(layers):
            reached = run(x, 0, index)
            for key, array in layer.params.items():

                def through(moved: np.ndarray, layer: Layer = layer, key: str = key, index: int = index,
                            reached: np.ndarray = reached) -> np.ndarray:
                    layer.params[key] = moved
                    return last(run(reached, index))

                found[f"{layer.name}/{key}"] = naive.derivative(through, array.real, upstream)
                layer.params[key] = array
    return found
