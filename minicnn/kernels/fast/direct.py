"""Convolution without a column matrix: any kernel, stride and padding.

The trick: for one row of the output and one row p of the kernel, the column matrix of im2col is the image's row itself,
read KW * C numbers at a time from pixels SW * C apart. The micro-kernel takes it from there, so nothing is copied but the
image, once, into a frame of zeros. Backward reads the same frame for dw; for dx each row of
``dz @ w[p].T`` is added to the rows of a frame it came from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicnn.kernels.fast.compile import ONE, ZERO, jit
from minicnn.kernels.fast.product import product
from minicnn.kernels.fast.rows import clear, fold, gradient_rows, read_row, write_input_gradient, write_rows
from minicnn.kernels.fast.simd import LANES, prefetch
from minicnn.kernels.geometry import Padding, Pair

ROWS = 4  # of dz at a time, as gradient_rows gives them


class Plan(NamedTuple):
    """Sizes. The frame is the image with its padding, (height, width, C); FP is F rounded up to a multiple of 16."""

    H: int
    W: int
    C: int
    OH: int
    OW: int
    F: int
    KH: int
    KW: int
    SH: int
    SW: int
    top: int
    left: int
    height: int  # of the frame
    width: int
    CP: int      # C rounded up
    FP: int
    QP: int      # KW * C rounded up


def plan(x_shape: tuple[int, ...], w_shape: tuple[int, ...], out_size: Pair, stride: Pair, padding: Padding) -> Plan:
    """Return the sizes for one convolution."""
    _, H, W, C = x_shape
    KH, KW, _, F = w_shape
    top, bottom, left, right = padding
    return Plan(H, W, C, *out_size, F, KH, KW, *stride, top, left, top + H + bottom, left + W + right,
                round_up(C), round_up(F), round_up(KW * C))


def round_up(size: int) -> int:
    """Return the next multiple of 16."""
    return -(-size // LANES) * LANES


def kernel(p: Plan, w: np.ndarray) -> np.ndarray:
    """Return w (KH, KW, C, F) as (KH * KW * C, FP), with zeros for the filters added."""
    rows = w.reshape(-1, p.F)
    if p.F == p.FP:
        return rows
    spread = np.zeros((len(rows), p.FP), w.dtype)
    spread[:, :p.F] = rows
    return spread


def turned_kernel(p: Plan, w: np.ndarray) -> np.ndarray:
    """Return the rows of w transposed, (KH, FP, QP), with zeros for what is added."""
    turned = np.zeros((p.KH, p.FP, p.QP), w.dtype)
    turned[:, :p.F, :p.KW * p.C] = w.reshape(p.KH, p.KW * p.C, p.F).transpose(0, 2, 1)
    return turned


def gradient_size(p: Plan) -> int:
    """Return the numbers of dw (KH * KW * C, FP)."""
    return p.KH * p.KW * p.C * p.FP


def kernel_gradient(p: Plan, dw: np.ndarray, w_shape: tuple[int, ...]) -> np.ndarray:
    """Return dw in the shape of w."""
    return dw.reshape(*w_shape[:3], p.FP)[..., :p.F]


def workspace_size(p: Plan) -> int:
    """Return how many numbers forward and backward need for themselves."""
    return sum(_parts(p.height, p.width, p.W, p.C, p.OW, p.CP, p.FP, p.QP))


@jit
def _parts(height, width, W, C, OW, CP, FP, QP):
    """Sizes of: frame, frame of dx, rows of output, gradient of a row's columns, mask. Vectors may reach beyond."""
    frame = -(-(height * width * C) // LANES) * LANES + LANES
    return frame, frame, ROWS * OW * FP, OW * QP, -(-(W * C) // LANES) * LANES


@jit
def _cut(p, work):
    a, b, c, d, e = _parts(p.height, p.width, p.W, p.C, p.OW, p.CP, p.FP, p.QP)
    b, c, d, e = a + b, a + b + c, a + b + c + d, a + b + c + d + e
    return work[:a], work[a:b], work[b:c], work[c:d], work[d:e]


@jit
def forward(p, source, w, bias, relu, measure, out, work, sums, totals, start, stop):
    """Images start ... stop of out, flat, with w from ``kernel``. ``sums`` and ``totals`` as in winograd.forward."""
    frame, _, result, _, mask = _cut(p, work)
    clear(frame, ZERO, frame.size)
    for n in range(start, stop):
        _read_image(p, source, n, frame, mask)
        for i in range(p.OH):
            _prefetch(out, (n * p.OH + i + 1) * p.OW * p.F, p.OW * p.F)
            product(frame, i * p.SH * p.width * p.C, p.SW * p.C, ONE, p.width * p.C, w, ZERO, p.FP,
                    p.KW * p.C * p.FP,
                    result, ZERO, p.FP, p.OW, p.FP, p.KW * p.C, p.KH, ZERO)
            if measure and n == start and i == 0:
                for f in range(p.F):  # the first pixel: near enough to the mean
                    sums[f] = result[f] + bias[f]
                    if relu and sums[f] < 0:
                        sums[f] = 0
            write_rows(result, ONE, p.FP, p.OW * p.FP, p.OW, p.F, bias, relu, measure, out, (n * p.OH + i) * p.OW * p.F, sums)
        if measure:
            fold(sums, p.FP, 2 * p.FP, totals)


@jit
def backward(p, source, gradient, w_turned, need_dx, dw, db, dx, work, sums, totals, start, stop):
    """Gradients of images start ... stop: dw (KH * KW * C, FP), db (FP) float64, dx flat; w_turned from ``turned_kernel``."""
    frame, dframe, z, dcolumns, mask = _cut(p, work)
    clear(frame, ZERO, frame.size)
    clear(z, ZERO, z.size)
    clear(dw, ZERO, dw.size)
    db_sums = sums[2 * p.CP:]
    line, depth = p.width * p.C, p.KW * p.C
    for n in range(start, stop):
        _read_image(p, source, n, frame, mask)
        if need_dx:
            clear(dframe, ZERO, dframe.size)
        for i in range(p.OH):
            if i % ROWS == 0:
                gradient_rows(gradient, p.OH, p.OW, p.F, n, i, z, p.FP, p.OW * p.FP, db_sums)
            row = i % ROWS * p.OW * p.FP
            part = -(-p.OW * p.F // p.KH)
            for k in range(p.KH):
                after = (n * p.OH + i + ROWS) * p.OW * p.F + k * part
                _prefetch(gradient.out, after, part)
                _prefetch(gradient.dout, after // (4 if gradient.pool else 1), part // (4 if gradient.pool else 1))
                product(frame, (i * p.SH + k) * line, ONE, p.SW * p.C, ZERO, z, row, p.FP, ZERO,
                        dw, k * depth * p.FP, p.FP, depth, p.FP, p.OW, ONE, ONE)
                if need_dx:
                    product(z, row, p.FP, ONE, ZERO, w_turned, k * p.FP * p.QP, p.QP, ZERO,
                            dcolumns, ZERO, p.QP, p.OW, p.QP, p.FP, ONE, ZERO)
                    _add_columns(dcolumns, p.QP, p.OW, depth, dframe, (i * p.SH + k) * line, p.SW * p.C)
        fold(db_sums, ZERO, p.FP, db)
        if need_dx:
            write_input_gradient(dframe, p.top * line + p.left * p.C, line, p.C, p.H, p.W, p.C, n, ZERO, p.H,
                                 source, mask, dx, sums, p.CP)
            fold(sums, ZERO, 2 * p.CP, totals)


@jit
def _prefetch(array, start, count):
    """Ask for what is needed next, so that memory is busy while the products are computed."""
    for k in range(start, start + count, LANES):
        prefetch(array, k)


@jit
def _read_image(p, source, n, frame, mask):
    for i in range(p.H):
        read_row(source, p.H, p.W, p.C, n, i, mask, frame, ((i + p.top) * p.width + p.left) * p.C, p.C)


@jit
def _add_columns(columns, pitch, pixels, depth, frame, start, step):
    """Add each pixel's ``depth`` numbers to where they were read from."""
    for j in range(pixels):
        for k in range(depth):
            frame[start + j * step + k] += columns[j * pitch + k]
