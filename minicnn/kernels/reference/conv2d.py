"""Convolution: im2col, one matrix product, col2im.

Write the pixels under each window as one row of a matrix, and a convolution is a product with the kernel, seen as a
matrix too. Its gradients are the two transposed products.

References
----------
Chellapilla, Puri, Simard: High performance convolutional neural networks for document processing, 2006.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.geometry import Padding, Pair, output_size
from minicnn.kernels.reference.windows import crop, pad, pixels_under

BLOCK_ENTRIES = 2**21  # the column matrix holds KH * KW times as many numbers as x: 8 MB of it at a time is enough


def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Padding,
           algorithm: str = "auto") -> np.ndarray:
    """Convolve images with a kernel (cross-correlation, as everywhere in deep learning).

    ``out[n, i, j, f] = b[f] + sum over p, q, c of x[n, i*SH + p - top, j*SW + q - left, c] * w[p, q, c, f]``,
    where x is zero outside the image.

    Parameters
    ----------
    x : (N, H, W, C) array
    w : (KH, KW, C, F) array
    b : (F,) array or None
    stride : (SH, SW)
    padding : (top, bottom, left, right)
    algorithm : str
        Read by the fast set only; here there is one algorithm, im2col.

    Returns
    -------
    (N, OH, OW, F) array
    """
    check_fit("conv2d", "x (N, H, W, C), w (KH, KW, C, F), b (F)", x, w, b)
    N, H, W, _ = x.shape
    KH, KW, C, F = w.shape
    OH, OW = output_size((H, W), (KH, KW), stride, padding)
    w_matrix = w.reshape(KH * KW * C, F)  # (KH*KW*C, F)
    out = np.empty((N, OH, OW, F), x.dtype)
    for block in _blocks(N, OH * OW * KH * KW * C):
        columns = im2col(x[block], (KH, KW), stride, padding)  # (N*OH*OW, KH*KW*C)
        out[block] = (columns @ w_matrix).reshape(-1, OH, OW, F)  # (N, OH, OW, F)
    if b is not None:
        out += b
    return out


def conv2d_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, stride: Pair, padding: Padding,
                    algorithm: str = "auto", need_dx: bool = True,
                    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return the gradients of a convolution.

    With ``out = columns @ w_matrix + b``: ``dw_matrix = columns.T @ dout``, ``dcolumns = dout @ w_matrix.T``, and db
    is the sum of dout over images and pixels.

    Parameters
    ----------
    dout : (N, OH, OW, F) array
        Gradient of the loss with respect to ``out``.
    x, w, stride, padding, algorithm
        As in the forward pass.
    need_dx : bool
        False in the first layer, where nobody asks for the gradient of the images.

    Returns
    -------
    dx : (N, H, W, C) array or None
    dw : (KH, KW, C, F) array
    db : (F,) array
    """
    OH, OW = output_size(x.shape[1:3], w.shape[:2], stride, padding)
    check_fit("conv2d_backward", "dout (N, OH, OW, F), x (N, H, W, C), w (KH, KW, C, F)", dout, x, w, OH=OH, OW=OW)
    N, KH, KW, C, F = len(x), *w.shape
    w_matrix = w.reshape(KH * KW * C, F)  # (KH*KW*C, F)
    dw_matrix = np.zeros_like(w_matrix, order="C")
    db = np.zeros(F, w.dtype)
    dx = np.empty(x.shape, x.dtype) if need_dx else None
    for block in _blocks(N, OH * OW * KH * KW * C):
        drows = dout[block].reshape(-1, F)  # (N*OH*OW, F)
        columns = im2col(x[block], (KH, KW), stride, padding)  # (N*OH*OW, KH*KW*C)
        dw_matrix += columns.T @ drows
        db += drows.sum(axis=0, dtype=np.float64)  # in float32 the last of many pixels would count for little
        if dx is not None:
            dx[block] = col2im(drows @ w_matrix.T, dx[block].shape, (KH, KW), stride, padding)
    return dx, dw_matrix.reshape(KH, KW, C, F), db


def im2col(x: np.ndarray, window: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """Lay the pixels under each window out as a row: (N, H, W, C) -> (N*OH*OW, KH*KW*C)."""
    N, H, W, C = x.shape
    KH, KW = window
    OH, OW = output_size((H, W), window, stride, padding)
    padded = pad(x, padding)  # (N, top + H + bottom, left + W + right, C)
    columns = np.empty((N, OH, OW, KH, KW, C), x.dtype)
    for p in range(KH):
        for q in range(KW):
            columns[:, :, :, p, q] = padded[pixels_under(p, q, stride, OH, OW)]  # (N, OH, OW, C)
    return columns.reshape(N * OH * OW, KH * KW * C)


def col2im(columns: np.ndarray, x_shape: tuple[int, ...], window: Pair, stride: Pair, padding: Padding) -> np.ndarray:
    """Add each row back to the pixels it came from, the transpose of im2col: (N*OH*OW, KH*KW*C) -> (N, H, W, C)."""
    N, H, W, C = x_shape
    KH, KW = window
    OH, OW = output_size((H, W), window, stride, padding)
    columns = columns.reshape(N, OH, OW, KH, KW, C)
    padded = pad(np.zeros(x_shape, columns.dtype), padding)  # (N, top + H + bottom, left + W + right, C)
    for p in range(KH):
        for q in range(KW):
            padded[pixels_under(p, q, stride, OH, OW)] += columns[:, :, :, p, q]  # (N, OH, OW, C)
    return crop(padded, padding)  # (N, H, W, C)


def _blocks(N: int, entries_per_image: int) -> Iterator[slice]:
    """Cut a batch into blocks of images whose column matrix stays below BLOCK_ENTRIES (one image at least)."""
    step = max(1, BLOCK_ENTRIES // max(1, entries_per_image))
    for start in range(0, N, step):
        yield slice(start, start + step)
