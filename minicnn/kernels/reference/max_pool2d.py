"""Max-pooling: the largest value in each window, and where it was."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.geometry import Padding, Pair, output_size
from minicnn.kernels.reference.windows import crop, pad, pixels_under


def max_pool2d(x: np.ndarray, pool: Pair, stride: Pair, padding: Padding) -> tuple[np.ndarray, np.ndarray]:
    """Return the maximum of each window and remember which entry it was.

    ``out[n, i, j, c] = max over p, q of x[n, i*SH + p - top, j*SW + q - left, c]`` over the pixels inside the image.

    Parameters
    ----------
    x : (N, H, W, C) array
    pool : (PH, PW)
        Size of the window.
    stride : (SH, SW)
    padding : (top, bottom, left, right)

    Returns
    -------
    out : (N, OH, OW, C) array
        -inf where a window lies wholly in the padding.
    winner : (N, OH, OW, C) int32 array
        ``p * PW + q`` of the first maximum, in row-major order; NaN counts as one, as in ``np.argmax``. -1 where a
        window lies wholly in the padding.
    """
    N, H, W, C = x.shape
    PH, PW = pool
    OH, OW = output_size((H, W), pool, stride, padding)
    padded = pad(x, padding)  # (N, top + H + bottom, left + W + right, C)
    inside = pad(np.ones((1, H, W, 1), bool), padding, False)  # (1, top + H + bottom, left + W + right, 1)
    out = np.full((N, OH, OW, C), -np.inf, x.dtype)
    winner = np.full((N, OH, OW, C), -1, np.int32)
    for p in range(PH):
        for q in range(PW):
            under = pixels_under(p, q, stride, OH, OW)
            pixel = padded[under]  # (N, OH, OW, C)
            better = (pixel > out) | (winner < 0) | (np.isnan(pixel) & ~np.isnan(out))  # (N, OH, OW, C)
            better &= inside[under]
            np.copyto(out, pixel, where=better)
            winner[better] = p * PW + q
    return out, winner


def max_pool2d_backward(dout: np.ndarray, winner: np.ndarray, x_shape: tuple[int, ...], pool: Pair, stride: Pair,
                        padding: Padding) -> np.ndarray:
    """Send each gradient to the pixel that won; a pixel that won in several windows collects their sum.

    Parameters
    ----------
    dout : (N, OH, OW, C) array
    winner : (N, OH, OW, C) int32 array
        From the forward pass.
    x_shape : (N, H, W, C)
    pool, stride, padding
        As in the forward pass.

    Returns
    -------
    (N, H, W, C) array
    """
    N, H, W, C = x_shape
    OH, OW = output_size((H, W), pool, stride, padding)
    check_fit("max_pool2d_backward", "dout (N, OH, OW, C), winner (N, OH, OW, C)", dout, winner, N=N, OH=OH, OW=OW, C=C)
    PH, PW = pool
    dpadded = pad(np.zeros(x_shape, dout.dtype), padding)  # (N, top + H + bottom, left + W + right, C)
    for p in range(PH):
        for q in range(PW):
            won = winner == p * PW + q  # (N, OH, OW, C)
            dpadded[pixels_under(p, q, stride, OH, OW)] += np.where(won, dout, 0)
    return np.ascontiguousarray(crop(dpadded, padding))  # (N, H, W, C)
