"""See reference. The trick: the channels innermost, so that comparisons are vector instructions without a branch."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import run_batch
from minicnn.kernels.geometry import Padding, Pair, output_size


def max_pool2d(x: np.ndarray, pool: Pair, stride: Pair, padding: Padding) -> tuple[np.ndarray, np.ndarray]:
    """See reference."""
    x = contiguous(x)
    N, H, W, C = x.shape
    shape = (N, *output_size((H, W), pool, stride, padding), C)
    out, winner = empty(shape, x.dtype), empty(shape, np.int32)
    geometry = (*pool, *stride, padding[0], padding[2])
    run_batch(lambda start, stop: _max_pool(x, *geometry, out, winner, start, stop), N, x.size)
    return out, winner


def max_pool2d_backward(dout: np.ndarray, winner: np.ndarray, x_shape: tuple[int, ...], pool: Pair, stride: Pair,
                        padding: Padding) -> np.ndarray:
    """See reference."""
    N, H, W, C = x_shape
    OH, OW = output_size((H, W), pool, stride, padding)
    check_fit("max_pool2d_backward", "dout (N, OH, OW, C), winner (N, OH, OW, C)", dout, winner, N=N, OH=OH, OW=OW, C=C)
    dout, winner = contiguous(dout), contiguous(winner)
    dx = empty(x_shape, dout.dtype)
    geometry = (*pool, *stride, padding[0], padding[2])
    run_batch(lambda start, stop: _max_pool_backward(dout, winner, *geometry, dx, start, stop), N, dx.size)
    return dx


@jit
def _max_pool(x, PH, PW, SH, SW, top, left, out, winner, start, stop):
    """x (N, H, W, C) -> out, winner (N, OH, OW, C), images start..stop."""
    _, H, W, _ = x.shape
    for n in range(start, stop):
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                best, where = out[n, i, j], winner[n, i, j]
                best[:] = -np.inf
                where[:] = -1
                for p in range(PH):
                    r = i * SH - top + p
                    if r < 0 or r >= H:
                        continue
                    for q in range(PW):
                        s = j * SW - left + q
                        if s >= 0 and s < W:
                            _keep_larger(x[n, r, s], np.int32(p * PW + q), best, where)


@jit
def _keep_larger(pixel, position, best, where):
    """Replace best (C,) where the pixel (C,) is larger, the first inside the image, or the first NaN."""
    for c in range(best.size):
        value, old, at = pixel[c], best[c], where[c]
        # not <=: larger or NaN; old == old: not yet NaN
        better = (at < 0) | ((not value <= old) & (old == old))
        best[c] = value if better else old
        where[c] = position if better else at


@jit
def _max_pool_backward(dout, winner, PH, PW, SH, SW, top, left, dx, start, stop):
    """dout, winner (N, OH, OW, C) -> dx (N, H, W, C), images start..stop."""
    _, H, W, _ = dx.shape
    for n in range(start, stop):
        dx[n] = 0
        for i in range(dout.shape[1]):
            for j in range(dout.shape[2]):
                for p in range(PH):
                    r = i * SH - top + p
                    if r < 0 or r >= H:
                        continue
                    for q in range(PW):
                        s = j * SW - left + q
                        if s >= 0 and s < W:
                            _add_to_winner(dout[n, i, j], winner[n, i, j], np.int32(p * PW + q), dx[n, r, s])


@jit
def _add_to_winner(gradient, where, position, dpixel):
    for c in range(dpixel.size):
        dpixel[c] += gradient[c] if where[c] == position else gradient.dtype.type(0)
