"""Convolution as in reference. The trick: im2col for a tile of output rows at a time, small enough for the L2 cache.

BLAS multiplies the column matrices. ``conv2d.py`` takes it where ``algorithm="im2col"`` asks for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import chunk_bounds, run
from minicnn.kernels.fast.rows import copy
from minicnn.kernels.fast.sums import add_partials, sum_rows
from minicnn.kernels.geometry import Padding, Pair, output_size

TILE_BYTES = 3 << 18  # of a tile's column matrix: with its kernel and output within 1 MiB of L2 cache
PARTIAL_ENTRIES = 1 << 22  # of all chunks' kernel gradients together

Chunk = Callable[[int, int, int], None]  # chunk, first image, last image + 1


def conv2d(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, stride: Pair, padding: Padding) -> np.ndarray:
    """See reference; the arrays are known to fit."""
    N, H, W, _ = x.shape
    KH, KW, C, F = w.shape
    OH, OW = output_size((H, W), (KH, KW), stride, padding)
    x, w_matrix = contiguous(x), contiguous(w).reshape(KH * KW * C, F)
    bias = None if b is None else contiguous(b)
    out = empty((N, OH, OW, F), x.dtype)
    columns_of = _Columns(x, (KH, KW), stride, padding, (OH, OW))
    chunks = list(itertools.pairwise(chunk_bounds(N)))

    def task(chunk: int) -> None:
        buffer = columns_of.buffer()
        with np.errstate(all="ignore"):
            for n in range(*chunks[chunk]):
                for first, last in columns_of.tiles:
                    tile = out[n, first:last].reshape(-1, F)
                    np.matmul(columns_of(n, first, last, buffer), w_matrix, out=tile)
                    if bias is not None:
                        tile += bias

    run(task, len(chunks), blas=True)
    return out


def conv2d_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, stride: Pair, padding: Padding, need_dx: bool,
                    ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """See reference. With stride 1, one column matrix, that of dout, serves both dx and dw."""
    OH, OW = output_size(x.shape[1:3], w.shape[:2], stride, padding)
    dout, x, w = contiguous(dout), contiguous(x), contiguous(w)
    chunks = list(itertools.pairwise(chunk_bounds(x.shape[0], max(2, min(16, PARTIAL_ENTRIES // max(1, w.size))))))
    dw_partials = empty((len(chunks), *w.shape), x.dtype)
    db_partials = empty((len(chunks), w.shape[3]), np.float64)
    dx = empty(x.shape, x.dtype) if need_dx else None
    from_dout = tuple(stride) == (1, 1)
    if dx is not None and from_dout:
        gradients = _gradients_from_dout(dout, x, w, padding, dx, dw_partials)
    else:
        gradients = _gradients_from_x(dout, x, w, stride, padding, dx, dw_partials)
    drows = dout.reshape(-1, w.shape[3])  # (N*OH*OW, F)

    def task(chunk: int) -> None:
        start, stop = chunks[chunk]
        sum_rows(drows, start * OH * OW, stop * OH * OW, db_partials[chunk])
        with np.errstate(all="ignore"):
            gradients(chunk, start, stop)

    run(task, len(chunks), blas=True)
    dw = add_partials(dw_partials.reshape(len(chunks), w.size), x.dtype)
    if dx is not None and from_dout:
        KH, KW, C, F = w.shape
        dw = dw.reshape(C, KH, KW, F)[:, ::-1, ::-1].transpose(1, 2, 0, 3)  # (KH, KW, C, F)
    return dx, contiguous(dw.reshape(w.shape)), add_partials(db_partials, x.dtype)


def _gradients_from_x(dout: np.ndarray, x: np.ndarray, w: np.ndarray, stride: Pair, padding: Padding,
                      dx: np.ndarray | None, dw_partials: np.ndarray) -> Chunk:
    """For any stride, as in reference: ``dw = columns.T @ drows``, ``dx = col2im(drows @ w_matrix.T)``."""
    KH, KW, C, F = w.shape
    OH, OW = dout.shape[1:3]
    w_matrix = w.reshape(KH * KW * C, F)
    columns_of = _Columns(x, (KH, KW), stride, padding, (OH, OW))

    def gradients(chunk: int, start: int, stop: int) -> None:
        buffer = columns_of.buffer()
        dw = dw_partials[chunk].reshape(w_matrix.shape)
        tile_dw = empty(w_matrix.shape, x.dtype)
        dw.fill(0)
        for n in range(start, stop):
            if dx is not None:
                dx[n] = 0
            for first, last in columns_of.tiles:
                drows = dout[n, first:last].reshape(-1, F)  # (rows*OW, F)
                columns = columns_of(n, first, last, buffer)  # (rows*OW, KH*KW*C)
                np.matmul(columns.T, drows, out=tile_dw)
                _add(dw, tile_dw)
                if dx is not None:
                    np.matmul(drows, w_matrix.T, out=columns)
                    _col2im(columns, first, last, OW, KH, KW, *stride, *padding[::2], dx[n])

    return gradients


def _gradients_from_dout(dout: np.ndarray, x: np.ndarray, w: np.ndarray, padding: Padding, dx: np.ndarray,
                         dw_partials: np.ndarray) -> Chunk:
    """For stride 1: dx is dout convolved with the turned kernel, and ``dw[c] = x[..., c] @ columns of dout``."""
    KH, KW, C, F = w.shape
    H, W = x.shape[1:3]
    turned = contiguous(w[::-1, ::-1].transpose(0, 1, 3, 2)).reshape(KH * KW * F, C)
    top, bottom, left, right = padding
    margins = (KH - 1 - top, KH - 1 - bottom, KW - 1 - left, KW - 1 - right)
    columns_of = _Columns(dout, (KH, KW), (1, 1), margins, (H, W))

    def gradients(chunk: int, start: int, stop: int) -> None:
        buffer = columns_of.buffer()
        dw = dw_partials[chunk].reshape(C, KH * KW * F)
        tile_dw = empty(dw.shape, x.dtype)
        dw.fill(0)
        for n in range(start, stop):
            for first, last in columns_of.tiles:
                columns = columns_of(n, first, last, buffer)  # (rows*W, KH*KW*F)
                np.matmul(columns, turned, out=dx[n, first:last].reshape(-1, C))
                np.matmul(x[n, first:last].reshape(-1, C).T, columns, out=tile_dw)
                _add(dw, tile_dw)

    return gradients


class _Columns:
    """Column matrices of an array of images, one tile of output rows at a time."""

    def __init__(self, x: np.ndarray, window: Pair, stride: Pair, padding: Padding, out_size: Pair) -> None:
        self._x, self._OW, self._width = x, out_size[1], window[0] * window[1] * x.shape[3]
        self._geometry = (out_size[1], *window, *stride, padding[0], padding[2])
        rows = max(1, TILE_BYTES // (self._OW * self._width * x.itemsize))
        parts = -(-out_size[0] // rows)
        self.tiles = [(out_size[0] * k // parts, out_size[0] * (k + 1) // parts) for k in range(parts)]

    def buffer(self) -> np.ndarray:
        """Return room for the largest tile."""
        return empty((max(last - first for first, last in self.tiles) * self._OW, self._width), self._x.dtype)

    def __call__(self, n: int, first: int, last: int, buffer: np.ndarray) -> np.ndarray:
        """Fill the buffer from image n and return its part (rows*OW, KH*KW*C)."""
        columns = buffer[:(last - first) * self._OW]
        _im2col(self._x, n, first, last, *self._geometry, columns)
        return columns


@jit
def _im2col(x, n, first, last, OW, KH, KW, SH, SW, top, left, columns):
    """x (N, H, W, C), image n, output rows first..last -> columns ((last - first) * OW, KH*KW*C)."""
    _, H, W, C = x.shape
    pixels = x.reshape(-1)
    for i in range(first, last):
        for j in range(OW):
            s = j * SW - left  # input column under q = 0
            begin = min(max(-s, 0), KW) * C  # entries of a kernel row that lie left of the image,
            end = max(min(W - s, KW) * C, begin)  # and up to its right edge
            for p in range(KH):
                r = i * SH - top + p
                target = columns[(i - first) * OW + j, p * KW * C:(p + 1) * KW * C]
                if r < 0 or r >= H:
                    target[:] = 0
                    continue
                start = ((n * H + r) * W + s) * C
                target[:begin] = 0
                copy(pixels, start + begin, target, begin, end - begin)
                target[end:] = 0


@jit
def _col2im(columns, first, last, OW, KH, KW, SH, SW, top, left, dx):
    """columns ((last - first) * OW, KH*KW*C), added to dx (H, W, C)."""
    H, W, C = dx.shape
    for i in range(first, last):
        for j in range(OW):
            s = j * SW - left
            q0, q1 = min(max(-s, 0), KW), min(W - s, KW)  # kernel columns inside the image
            for p in range(KH):
                r = i * SH - top + p
                if r < 0 or r >= H or q1 <= q0:
                    continue
                source = columns[(i - first) * OW + j, (p * KW + q0) * C:(p * KW + q1) * C]
                target = dx[r].reshape(-1)[(s + q0) * C:(s + q1) * C]
                for t in range(target.size):
                    target[t] += source[t]


@jit
def _add(total, summand):
    for k in range(total.shape[0]):
        for f in range(total.shape[1]):
            total[k, f] += summand[k, f]
