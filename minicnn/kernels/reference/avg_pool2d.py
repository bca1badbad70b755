"""Average-pooling: the mean of the pixels in each window; padding does not count."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.geometry import Padding, Pair, output_size
from minicnn.kernels.reference.windows import crop, pad, pixels_under


def avg_pool2d(x: np.ndarray, pool: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """Return the mean of each window, summed in float64.

    ``out[n, i, j, c] = mean over p, q of x[n, i*SH + p - top, j*SW + q - left, c]`` over the pixels inside the image.

    Parameters
    ----------
    x : (N, H, W, C) array
    pool : (PH, PW)
        Size of the window.
    stride : (SH, SW)
    padding : (top, bottom, left, right)

    Returns
    -------
    (N, OH, OW, C) array
        0 where a window lies wholly in the padding.
    """
    N, H, W, C = x.shape
    OH, OW = output_size((H, W), pool, stride, padding)
    padded = pad(x, padding)  # (N, top + H + bottom, left + W + right, C)
    total = np.zeros((N, OH, OW, C), np.promote_types(x.dtype, np.float64))
    for p in range(pool[0]):
        for q in range(pool[1]):
            total += padded[pixels_under(p, q, stride, OH, OW)]
    return (total / _pixels_inside((H, W), pool, stride, padding)).astype(x.dtype)


def avg_pool2d_backward(dout: np.ndarray, x_shape: tuple[int, ...], pool: Pair, stride: Pair,
                        padding: Padding) -> np.ndarray:
    """Give each pixel of a window an equal share of its gradient; in several windows it collects several shares.

    Parameters
    ----------
    dout : (N, OH, OW, C) array
    x_shape : (N, H, W, C)
    pool, stride, padding
        As in the forward pass.

    Returns
    -------
    (N, H, W, C) array
    """
    N, H, W, C = x_shape
    OH, OW = output_size((H, W), pool, stride, padding)
    check_fit("avg_pool2d_backward", "dout (N, OH, OW, C)", dout, N=N, OH=OH, OW=OW, C=C)
    share = dout / _pixels_inside((H, W), pool, stride, padding).astype(dout.dtype)  # (N, OH, OW, C)
    dpadded = pad(np.zeros(x_shape, dout.dtype), padding)  # (N, top + H + bottom, left + W + right, C)
    for p in range(pool[0]):
        for q in range(pool[1]):
            dpadded[pixels_under(p, q, stride, OH, OW)] += share
    return np.ascontiguousarray(crop(dpadded, padding))  # (N, H, W, C)


def _pixels_inside(size: Pair, pool: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """Return how many pixels of the image each window covers, at least 1: (1, OH, OW, 1)."""
    OH, OW = output_size(size, pool, stride, padding)
    inside = pad(np.ones((1, *size, 1)), padding)  # (1, top + H + bottom, left + W + right, 1)
    count = np.zeros((1, OH, OW, 1))
    for p in range(pool[0]):
        for q in range(pool[1]):
            count += inside[pixels_under(p, q, stride, OH, OW)]
    return np.maximum(count, 1)
