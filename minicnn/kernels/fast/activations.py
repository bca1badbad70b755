"""See reference. The trick: one pass over the memory, in slices on several threads."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minicnn.kernels.checks import check_classes, check_fit
from minicnn.kernels.fast.compile import FASTMATH_ORDERED, jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import run_batch, run_elementwise


def relu(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    check_fit("relu", "x (...), out (...)", x, out)
    return _each(_relu, x, out)


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """See reference."""
    check_fit("relu_backward", "dout (...), out (...)", dout, out)
    return _each_pair(_relu_backward, dout, out)


def leaky_relu(x: np.ndarray, slope: float, out: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    check_fit("leaky_relu", "x (...), out (...)", x, out)
    factor = x.dtype.type(slope)
    return _each(lambda source, target: _leaky_relu(source, factor, target), x, out)


def leaky_relu_backward(dout: np.ndarray, out: np.ndarray, slope: float) -> np.ndarray:
    """See reference."""
    check_fit("leaky_relu_backward", "dout (...), out (...)", dout, out)
    factor = dout.dtype.type(slope)
    return _each_pair(lambda d, value, dx: _leaky_relu_backward(d, value, factor, dx), dout, out)


def sigmoid(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    check_fit("sigmoid", "x (...), out (...)", x, out)
    return _each(_sigmoid, x, out)


def sigmoid_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """See reference."""
    check_fit("sigmoid_backward", "dout (...), out (...)", dout, out)
    return _each_pair(_sigmoid_backward, dout, out)


def tanh(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    check_fit("tanh", "x (...), out (...)", x, out)
    return _each(_tanh, x, out)


def tanh_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """See reference."""
    check_fit("tanh_backward", "dout (...), out (...)", dout, out)
    return _each_pair(_tanh_backward, dout, out)


def softmax(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """See reference."""
    check_fit("softmax", "x (...), out (...)", x, out)
    check_classes("softmax", x)
    K = x.shape[-1]
    source, target = _source_and_target(x, out)
    rows, result = source.reshape(-1, K), target.reshape(-1, K)
    run_batch(lambda start, stop: _softmax(rows, result, start, stop), rows.shape[0], rows.size)
    return _delivered(target, out)


def softmax_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """See reference."""
    check_fit("softmax_backward", "dout (...), out (...)", dout, out)
    dx = empty(dout.shape, dout.dtype)
    drows, rows, result = (a.reshape(-1, dout.shape[-1]) for a in (contiguous(dout), contiguous(out), dx))
    run_batch(lambda start, stop: _softmax_backward(drows, rows, result, start, stop), rows.shape[0], rows.size)
    return dx


def _each(kernel: Callable, x: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    source, target = _source_and_target(x, out)
    flat, result = source.reshape(-1), target.reshape(-1)
    run_elementwise(lambda start, stop: kernel(flat[start:stop], result[start:stop]), flat.size)
    return _delivered(target, out)


def _each_pair(kernel: Callable, dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    dx = empty(dout.shape, dout.dtype)
    gradient, value, result = contiguous(dout).reshape(-1), contiguous(out).reshape(-1), dx.reshape(-1)
    run_elementwise(lambda start, stop: kernel(gradient[start:stop], value[start:stop], result[start:stop]), dx.size)
    return dx


def _source_and_target(x: np.ndarray, out: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return what to read and what to write, both contiguous: ``out`` itself where it is."""
    source = contiguous(x)
    return source, out if out is not None and out.flags.c_contiguous else empty(x.shape, x.dtype)


def _delivered(target: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    if out is None or out is target:
        return target
    out[...] = target
    return out


@jit
def _relu(x, out):
    for k in range(x.size):
        out[k] = x.dtype.type(0) if x[k] <= 0 else x[k]  # <= is false for NaN, which therefore stays


@jit
def _relu_backward(dout, out, dx):
    for k in range(dx.size):
        dx[k] = dout[k] if out[k] > 0 else dout.dtype.type(0)


@jit
def _leaky_relu(x, slope, out):
    for k in range(x.size):
        out[k] = x[k] if x[k] > 0 else slope * x[k]


@jit
def _leaky_relu_backward(dout, out, slope, dx):
    for k in range(dx.size):
        dx[k] = dout[k] if out[k] > 0 else slope * dout[k]


@jit
def _sigmoid(x, out):
    for k in range(x.size):
        e = math.exp(-abs(x[k]))
        out[k] = (1 if x[k] >= 0 else e) / (1 + e)


@jit
def _sigmoid_backward(dout, out, dx):
    for k in range(dx.size):
        dx[k] = dout[k] * (out[k] * (1 - out[k]))


@jit
def _tanh(x, out):
    for k in range(x.size):
        out[k] = math.tanh(x[k])


@jit
def _tanh_backward(dout, out, dx):
    for k in range(dx.size):
        dx[k] = dout[k] * (1 - out[k] * out[k])


@jit(fastmath=FASTMATH_ORDERED)  # a row's sum in one order, wherever in memory the row lies
def _softmax(x, out, start, stop):
    """x (M, K) -> out (M, K), rows start..stop."""
    K = x.shape[1]
    for m in range(start, stop):
        largest = x[m, 0]
        for k in range(1, K):
            if not x[m, k] <= largest:  # NaN too: the row becomes NaN
                largest = x[m, k]
        total = 0.0
        for k in range(K):
            out[m, k] = math.exp(x[m, k] - largest)
            total += out[m, k]
        for k in range(K):
            out[m, k] /= total


@jit(fastmath=FASTMATH_ORDERED)  # a row's sum in one order, wherever in memory the row lies
def _softmax_backward(dout, out, dx, start, stop):
    for m in range(start, stop):
        total = 0.0
        for k in range(out.shape[1]):
            total += dout[m, k] * out[m, k]
        for k in range(out.shape[1]):
            dx[m, k] = out[m, k] * (dout[m, k] - total)
