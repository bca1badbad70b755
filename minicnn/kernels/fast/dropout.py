"""See reference. The trick: hash and apply in one pass. Numbers of 32 bits are multiplied in 64, then cut."""

from __future__ import annotations

import math

import numpy as np

from minicnn.kernels.fast.compile import inner, jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import run_batch


def dropout(x: np.ndarray, rate: float, key: int) -> np.ndarray:
    """See reference."""
    x = contiguous(x)
    out = empty(x.shape, x.dtype)
    rows = x.shape[0], math.prod(x.shape[1:])  # -1 would not do for a batch of none
    images, result = x.reshape(rows), out.reshape(rows)
    low, high, threshold = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32), np.uint64(round(rate * 2**32))
    scale = x.dtype.type(1 / (1 - rate))
    run_batch(lambda start, stop: _dropout(images, low, high, threshold, scale, result, start, stop),
              x.shape[0], x.size)
    return out


def dropout_backward(dout: np.ndarray, rate: float, key: int) -> np.ndarray:
    """See reference."""
    return dropout(dout, rate, key)


@jit
def _dropout(x, low, high, threshold, scale, out, start, stop):
    """x (N, D) -> out (N, D), images start..stop."""
    for n in range(start, stop):
        a = _mix(np.uint32(np.uint64(low) + np.uint64(n) * np.uint64(0x9E3779B9)))
        b = _mix(np.uint32(high ^ _mix(a)))
        _drop(x[n], a, b, threshold, scale, out[n])


@jit
def _drop(image, a, b, threshold, scale, out):
    for i in range(image.size):
        bits = _mix(np.uint32(_mix(np.uint32(np.uint64(i) + np.uint64(a))) ^ b))
        out[i] = image[i] * scale if np.uint64(bits) >= threshold else image.dtype.type(0)


@inner
def _mix(x):
    x ^= x >> np.uint32(16)
    x = np.uint32(np.uint64(x) * np.uint64(0x7FEB352D))
    x ^= x >> np.uint32(15)
    x = np.uint32(np.uint64(x) * np.uint64(0x846CA68B))
    return x ^ (x >> np.uint32(16))
