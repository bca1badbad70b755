"""Affine warp: rotate, shift, shear or zoom images, with bilinear interpolation.

Equal to ``scipy.ndimage.affine_transform`` with ``order=1``, image by image and channel by channel.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_warp

Sides = tuple[np.ndarray, np.ndarray, np.ndarray]


def affine_warp(x: np.ndarray, matrices: np.ndarray, fill_mode: str = "nearest", cval: float = 0.0) -> np.ndarray:
    """Fetch each output pixel (i, j) from the input position ``matrices[n] @ (i, j, 1)``.

    A position between pixels takes the mean of the four around it, weighted by closeness.

    Parameters
    ----------
    x : (N, H, W, C) array
    matrices : (N, 2, 3) array
        From output (row, column, 1) to input (row, column).
    fill_mode : {"nearest", "constant", "reflect", "wrap"}
        What lies outside the image: the nearest pixel; ``cval``; the image mirrored at its edge (abc|cba); the image
        again, its last row and column falling on its first.
    cval : float
        For ``constant``: the value of each pixel whose position lies outside.

    Returns
    -------
    (N, H, W, C) array
    """
    check_warp(x, matrices, fill_mode)
    N, H, W, _ = x.shape
    matrices = matrices.astype(np.float64)[:, :, :, None, None]  # (N, 2, 3, 1, 1)
    i, j = np.arange(H)[:, None], np.arange(W)  # (H, 1), (W,)
    position = matrices[:, :, 2] + matrices[:, :, 0] * i + matrices[:, :, 1] * j  # (N, 2, H, W)
    row, column = position[:, 0], position[:, 1]  # (N, H, W)

    above, below, down = _sides(row, H, fill_mode)  # (N, H, W) each
    left, right, across = _sides(column, W, fill_mode)  # (N, H, W) each
    n = np.arange(N)[:, None, None]  # (N, 1, 1)
    down, across = down[..., None].astype(x.dtype), across[..., None].astype(x.dtype)  # (N, H, W, 1)
    upper = x[n, above, left] * (1 - across) + x[n, above, right] * across  # (N, H, W, C)
    lower = x[n, below, left] * (1 - across) + x[n, below, right] * across  # (N, H, W, C)
    out = upper * (1 - down) + lower * down  # (N, H, W, C)
    if fill_mode == "constant":
        out[(row < 0) | (row > H - 1) | (column < 0) | (column > W - 1)] = cval
    return out


def _sides(position: np.ndarray, size: int, fill_mode: str) -> Sides:
    """Return the pixels before and after each position along one axis, and the weight of the one after."""
    if fill_mode == "wrap":
        position = _wrap(position, size)
    if fill_mode != "reflect":
        position = np.clip(position, 0, size - 1)
    before = np.floor(position)
    weight = position - before
    if fill_mode == "reflect":
        return _reflect(before, size), _reflect(before + 1, size), weight
    before = before.astype(np.intp)
    return before, np.minimum(before + 1, size - 1), weight


def _wrap(position: np.ndarray, size: int) -> np.ndarray:
    """Move positions into [0, size - 1] by multiples of size - 1, the period of SciPy's ``wrap``."""
    if size == 1:
        return np.zeros_like(position)
    period = size - 1
    turns = np.where(position < 0, np.floor(-position / period) + 1, -np.floor(position / period))
    outside = (position < 0) | (position > period)
    return np.where(outside, position + period * turns, position)


def _reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Fold whole positions into the image, mirrored at its edges: period 2 * size."""
    index = np.mod(index, 2 * size)
    return np.minimum(index, 2 * size - 1 - index).astype(np.intp)
