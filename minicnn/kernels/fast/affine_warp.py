"""See reference. The trick: the four neighbours of a position are found once for all channels, and of most at once."""

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
    N, H, W, C = x.shape
    mode, value, pixels, result = MODES[fill_mode], x.dtype.type(cval), x.reshape(-1), out.reshape(-1)
    run_batch(lambda start, stop: _warp(pixels, H, W, C, transforms, mode, value, result, start, stop), N, x.size)
    return out


@jit
def _warp(x, H, W, C, matrices, mode, cval, out, start, stop):
    """x (N, H, W, C), flat, matrices (N, 2, 3) -> out (N, H, W, C), flat, images start..stop."""
    for n in range(start, stop):
        row_i, row_j, row_0 = matrices[n, 0, 0], matrices[n, 0, 1], matrices[n, 0, 2]
        column_i, column_j, column_0 = matrices[n, 1, 0], matrices[n, 1, 1], matrices[n, 1, 2]
        for i in range(H):
            for j in range(W):
                row = row_0 + row_i * i + row_j * j
                column = column_0 + column_i * i + column_j * j
                target = ((n * H + i) * W + j) * C
                if 0 <= row < H - 1 and 0 <= column < W - 1:
                    above, left = int(row), int(column)
                    below, right, down, across = above + 1, left + 1, row - above, column - left
                elif mode == CONSTANT and not (0 <= row <= H - 1 and 0 <= column <= W - 1):
                    for c in range(C):
                        out[target + c] = cval
                    continue
                else:
                    above, below, down = _sides(row, H, mode)
                    left, right, across = _sides(column, W, mode)
                a, b = ((n * H + above) * W + left) * C, ((n * H + above) * W + right) * C
                d, e = ((n * H + below) * W + left) * C, ((n * H + below) * W + right) * C
                down, across = x.dtype.type(down), x.dtype.type(across)
                for c in range(C):
                    upper = x[a + c] * (1 - across) + x[b + c] * across
                    lower = x[d + c] * (1 - across) + x[e + c] * across
                    out[target + c] = upper * (1 - down) + lower * down


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
