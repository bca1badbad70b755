"""Activation functions. Their gradients are written in terms of the output, so that the input need not be kept.

Each function takes ``out=None``: an array for the result, which may be x itself.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_classes, check_fit


def relu(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return max(x, 0) for each entry; NaN stays NaN."""
    check_fit("relu", "x (...), out (...)", x, out)
    return np.maximum(x, 0, out=out, order="C")


def relu_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return dx: dout where the output is positive, else 0 (at x = 0 as well)."""
    check_fit("relu_backward", "dout (...), out (...)", dout, out)
    return np.ascontiguousarray(np.where(out > 0, dout, 0))


def leaky_relu(x: np.ndarray, slope: float, out: np.ndarray | None = None) -> np.ndarray:
    """Return x where it is positive, else slope * x (slope >= 0); NaN stays NaN."""
    check_fit("leaky_relu", "x (...), out (...)", x, out)
    return np.multiply(x, np.where(x > 0, 1, slope).astype(x.dtype), out=out, order="C")


def leaky_relu_backward(dout: np.ndarray, out: np.ndarray, slope: float) -> np.ndarray:
    """Return dx: dout where the output, and so the input, is positive, else slope * dout (at x = 0 as well)."""
    check_fit("leaky_relu_backward", "dout (...), out (...)", dout, out)
    return np.multiply(dout, np.where(out > 0, 1, slope).astype(dout.dtype), order="C")


def sigmoid(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) for each entry, written with exp(-|x|), which cannot overflow."""
    check_fit("sigmoid", "x (...), out (...)", x, out)
    e = np.exp(-np.abs(x))
    return np.divide(np.where(x >= 0, 1, e), 1 + e, out=out, order="C")


def sigmoid_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return dx = dout * out * (1 - out)."""
    check_fit("sigmoid_backward", "dout (...), out (...)", dout, out)
    return np.multiply(dout, out * (1 - out), order="C")


def tanh(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return the hyperbolic tangent of each entry."""
    check_fit("tanh", "x (...), out (...)", x, out)
    return np.tanh(x, out=out, order="C")


def tanh_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return dx = dout * (1 - out**2)."""
    check_fit("tanh_backward", "dout (...), out (...)", dout, out)
    return np.multiply(dout, 1 - out * out, order="C")


def softmax(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Return exp(x) / sum(exp(x)) over the last axis, after subtracting the largest entry: no exp can overflow.

    Parameters
    ----------
    x : (..., K) array
    out : (..., K) array or None

    Returns
    -------
    (..., K) array
        Rows that sum to 1.
    """
    check_fit("softmax", "x (...), out (...)", x, out)
    check_classes("softmax", x)
    e = np.exp(x - x.max(axis=-1, keepdims=True))  # (..., K)
    return np.divide(e, e.sum(axis=-1, keepdims=True), out=out, order="C")


def softmax_backward(dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return dx = out * (dout - sum(dout * out)), the sum over the last axis."""
    check_fit("softmax_backward", "dout (...), out (...)", dout, out)
    return np.multiply(out, dout - (dout * out).sum(axis=-1, keepdims=True), order="C")
