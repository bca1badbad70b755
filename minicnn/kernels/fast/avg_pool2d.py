"""See reference. The trick: the channels innermost, and only those pixels of a window visited that are in the image."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.fast.compile import FASTMATH_ORDERED, jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import run_batch
from minicnn.kernels.geometry import Padding, Pair, output_size


def avg_pool2d(x: np.ndarray, pool: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """See reference."""
    x = contiguous(x)
    N, H, W, C = x.shape
    out = empty((N, *output_size((H, W), pool, stride, padding), C), x.dtype)
    geometry = (*pool, *stride, padding[0], padding[2])
    run_batch(lambda start, stop: _avg_pool(x, *geometry, empty((C,), np.float64), out, start, stop), N, x.size)
    return out


def avg_pool2d_backward(dout: np.ndarray, x_shape: tuple[int, ...], pool: Pair, stride: Pair,
                        padding: Padding) -> np.ndarray:
    """See reference."""
    N, H, W, C = x_shape
    OH, OW = output_size((H, W), pool, stride, padding)
    check_fit("avg_pool2d_backward", "dout (N, OH, OW, C)", dout, N=N, OH=OH, OW=OW, C=C)
    dout = contiguous(dout)
    dx = empty(x_shape, dout.dtype)
    geometry = (*pool, *stride, padding[0], padding[2])
    run_batch(lambda start, stop: _avg_pool_backward(dout, *geometry, empty((C,), dout.dtype), dx, start, stop),
              N, dx.size)
    return dx


@jit(fastmath=FASTMATH_ORDERED)  # a division, not a product with 1 / count
def _avg_pool(x, PH, PW, SH, SW, top, left, total, out, start, stop):
    """x (N, H, W, C) -> out (N, OH, OW, C), images start..stop; total (C,) is room for the sums of a window."""
    _, H, W, C = x.shape
    for n in range(start, stop):
        for i in range(out.shape[1]):
            first_row, last_row = max(i * SH - top, 0), min(i * SH - top + PH, H)
            for j in range(out.shape[2]):
                first, last = max(j * SW - left, 0), min(j * SW - left + PW, W)
                count = max((last_row - first_row) * (last - first), 1)
                for c in range(C):
                    total[c] = 0
                for r in range(first_row, last_row):
                    for s in range(first, last):
                        for c in range(C):
                            total[c] += x[n, r, s, c]
                for c in range(C):
                    out[n, i, j, c] = total[c] / count


@jit(fastmath=FASTMATH_ORDERED)
def _avg_pool_backward(dout, PH, PW, SH, SW, top, left, share, dx, start, stop):
    """dout (N, OH, OW, C) -> dx (N, H, W, C), images start..stop; share (C,) is room for what a pixel gets."""
    _, H, W, C = dx.shape
    for n in range(start, stop):
        for r in range(H):
            for s in range(W):
                for c in range(C):
                    dx[n, r, s, c] = 0
        for i in range(dout.shape[1]):
            first_row, last_row = max(i * SH - top, 0), min(i * SH - top + PH, H)
            for j in range(dout.shape[2]):
                first, last = max(j * SW - left, 0), min(j * SW - left + PW, W)
                count = dout.dtype.type(max((last_row - first_row) * (last - first), 1))
                for c in range(C):
                    share[c] = dout[n, i, j, c] / count
                for r in range(first_row, last_row):
                    for s in range(first, last):
                        for c in range(C):
                            dx[n, r, s, c] += share[c]
