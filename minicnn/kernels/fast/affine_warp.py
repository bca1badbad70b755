"""See reference. The trick: the four neighbours of a position are found once for all channels."""

from __future__ import annotations

import math

import numpy as np

from minicnn.kernels.checks import check_warp
from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import run_batch

NEAREST, CONSTANT, REFLECT, WRAP = range(4)  # here, for compiled code is kept by a hash of this folder
MODES = {"nearest": NEAREST, "constant": CONSTANT, "reflect": REFLECT, "wrap": WRAP}


def affine_warp(x: np.ndarray, matrices: np.ndarray, fill_mode: str = "nearest", cval: float = 0.0) -> np.ndarray:
    """See reference."""
    check_warp(x, matrices, fill_mode)
    x = contiguous(x)
    out = empty(x.shape, x.dtype)
    transforms = contiguous(np.asarray(matrices, np.float64))
    mode, value = MODES[fill_mode], x.dtype.type(cval)
    run_batch(lambda start, stop: _warp(x, transforms, mode, value, out, start, stop), x.shape[0], x.size)
    return out


@jit
def _warp(x, matrices, mode, cval, out, start, stop):
    """x (N, H, W, C), matrices (N, 2, 3) -> out (N, H, W, C), images start..stop."""
    _, H, W, _ = x.shape
    for n in range(start, stop):
        matrix = matrices[n]
        for i in range(H):
            for j in range(W):
                row = matrix[0, 2] + matrix[0, 0] * i + matrix[0, 1] * j
                column = matrix[1, 2] + matrix[1, 0] * i + matrix[1, 1] * j
                if mode == CONSTANT and not (0 <= row <= H - 1 and 0 <= column <= W - 1):
                    out[n, i, j, :] = cval
                    continue
                above, below, down = _sides(row, H, mode)
                left, right, across = _sides(column, W, mode)
                _mean_of_four(x[n, above, left], x[n, above, right], x[n, below, left], x[n, below, right],
                              x.dtype.type(down), x.dtype.type(across), out[n, i, j])


@jit
def _mean_of_four(upper_left, upper_right, lower_left, lower_right, down, across, out):
    for c in range(out.size):
        upper = upper_left[c] * (1 - across) + upper_right[c] * across
        lower = lower_left[c] * (1 - across) + lower_right[c] * across
        out[c] = upper * (1 - down) + lower * down


@jit
def _sides(position, size, mode):
    """Return the pixels before and after a position along one axis, and the weight of the one after."""
    if mode == WRAP and (position < 0 or position > size - 1):
        if size == 1:
            position = 0.0
        elif position < 0:
            position += (size - 1) * (math.floor(-position / (size - 1)) + 1)
        else:
            position -= (size - 1) * math.floor(position / (size - 1))
    if mode != REFLECT:
        position = min(max(position, 0.0), size - 1.0)
    before = math.floor(position)
    weight = position - before
    if mode == REFLECT:
        return _reflect(before, size), _reflect(before + 1, size), weight
    return before, min(before + 1, size - 1), weight


@jit
def _reflect(index, size):
    index %= 2 * size
    return min(index, 2 * size - 1 - index)
