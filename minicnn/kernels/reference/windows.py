"""What convolution and pooling share: the padded image, and the pixels that lie under one entry of the window.

A window of KH x KW entries visits OH x OW places. Seen from the window, its entry (p, q) meets, over all places, the
pixels in rows p, p + SH, p + 2*SH, ... and columns q, q + SW, ...: a strided slice of the image. All windowed kernels
here are therefore loops over the few (p, q), never over pixels.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.geometry import Padding, Pair

Slices = tuple[slice, slice, slice]


def pixels_under(p: int, q: int, stride: Pair, OH: int, OW: int) -> Slices:
    """Return the index of the (N, OH, OW, C) pixels that window entry (p, q) meets in a padded image."""
    SH, SW = stride
    return slice(None), slice(p, p + SH * (OH - 1) + 1, SH), slice(q, q + SW * (OW - 1) + 1, SW)


def pad(x: np.ndarray, padding: Padding, value: float = 0.0) -> np.ndarray:
    """Return x (N, H, W, C) with a border of ``value``: (N, top + H + bottom, left + W + right, C)."""
    top, bottom, left, right = padding
    N, H, W, C = x.shape
    padded = np.full((N, top + H + bottom, left + W + right, C), value, x.dtype)
    crop(padded, padding)[...] = x  # like np.pad, which takes ten times as long for a small image
    return padded


def crop(padded: np.ndarray, padding: Padding) -> np.ndarray:
    """Return the image inside the border: the inverse of ``pad``, a view."""
    top, bottom, left, right = padding
    _, PH, PW, _ = padded.shape
    return padded[:, top:PH - bottom, left:PW - right]
