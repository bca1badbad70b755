"""Convolution without a column matrix: any kernel, stride and padding.

The trick: for one row of the output and one row p of the kernel, the column matrix of im2col is the image's row
itself, read KW * C numbers at a time from pixels SW * C apart. The micro-kernel takes it from there, so nothing is
copied but the image, once, into a frame of zeros. Backward reads the same frame for dw. With stride 1, dx is a
convolution again, of dz in a frame of its own with the kernel turned by 180 degrees; otherwise each row of
``dz @ w[p].T`` is added to the rows of a frame it came from.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from minicnn.kernels.fast.borrowed import borrowed
from minicnn.kernels.fast.compile import ONE, ZERO, inner, jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.product import product
from minicnn.kernels.fast.rows import begin_sums, clear, fold, gradient_rows, read_row, write_input_gradient, write_rows
from minicnn.kernels.fast.simd import LANES, prefetch
from minicnn.kernels.fast.vector_type import round_up
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
    gathers: int  # 1: dx is a convolution of dz
    above: int    # rows of zeros above dz in its frame
    before: int   # and columns
    across: int   # pixels of a row of that frame
    dframe_at: int  # where the parts of the workspace begin: frame of the image first, then that of dx
    dz_at: int
    row_at: int     # two rows of the result, or one of columns
    mask_at: int
    workspace: int  # numbers of all of it


def plan(x_shape: tuple[int, ...], w_shape: tuple[int, ...], out_size: Pair, stride: Pair, padding: Padding) -> Plan:
    """Return the sizes for one convolution."""
    _, H, W, C = x_shape
    KH, KW, _, F = w_shape
    top, bottom, left, right = padding
    # With few channels most of CP is empty, and adding columns is quicker.
    gathers = (tuple(stride) == (1, 1) and max(top, bottom) < KH and max(left, right) < KW
               and KW * round_up(C) <= 1.7 * round_up(KW * C))
    above, before, lines, across = (KH - 1 - top, KW - 1 - left, H + KH - 1, W + KW - 1) if gathers else (
        0, 0, *out_size)
    OH, OW = out_size
    height, width, CP, FP, QP = top + H + bottom, left + W + right, round_up(C), round_up(F), round_up(KW * C)
    frame = round_up(height * width * C) + LANES  # vectors may reach beyond
    sizes = (frame, frame, (lines + ROWS) * across * FP, max(2 * OW * FP, W * CP, OW * QP), round_up(W * C))
    return Plan(H, W, C, OH, OW, F, KH, KW, *stride, top, left, height, width, CP, FP, QP, gathers, above, before,
                across, *itertools.accumulate(sizes))


def kernel(p: Plan, w: np.ndarray) -> np.ndarray:
    """Return w (KH, KW, C, F) as (KH * KW * C, FP), with zeros for the filters added."""
    rows = w.reshape(-1, p.F)
    if p.F == p.FP:
        return rows
    spread = np.zeros((len(rows), p.FP), w.dtype)
    spread[:, :p.F] = rows
    return spread


def turned_kernel(p: Plan, w: np.ndarray) -> np.ndarray:
    """Return w for dx, with zeros for what is added: (KH, KW, FP, CP), turned, or each row transposed, (KH, FP, QP)."""
    if p.gathers:
        turned = np.zeros((p.KH, p.KW, p.FP, p.CP), w.dtype)
        turned[:, :, :p.F, :p.C] = w[::-1, ::-1].transpose(0, 1, 3, 2)
    else:
        turned = np.zeros((p.KH, p.FP, p.QP), w.dtype)
        turned[:, :p.F, :p.KW * p.C] = w.reshape(p.KH, p.KW * p.C, p.F).transpose(0, 2, 1)
    return turned


def gradient_size(p: Plan) -> int:
    """Return the numbers of dw (KH * KW * C, FP)."""
    return p.KH * p.KW * p.C * p.FP


def kernel_gradient(p: Plan, dw: np.ndarray, w_shape: tuple[int, ...]) -> np.ndarray:
    """Return dw in the shape of w."""
    return dw.reshape(*w_shape[:3], p.FP)[..., :p.F]


def units(p: Plan) -> int:
    """Return into how many parts an image can be cut for ``forward``: pairs of rows of the output."""
    return -(-p.OH // 2)


def workspace_size(p: Plan) -> int:
    """Return how many numbers forward and backward need for themselves."""
    return p.workspace


@jit
def forward(seat, crew, counter, bounds, p, source, w, target, all_work, all_sums, all_totals):
    """Write to the target, with w from ``kernel``; see winograd.forward, pairs of rows stand for its strips."""
    invite(seat, crew)
    source, w, target, work, all_sums, all_totals = borrowed((source, w, target, all_work[seat], all_sums, all_totals))
    frame, result, mask = work[:p.dframe_at], work[p.row_at:p.mask_at], work[p.mask_at:]
    clear(frame, ZERO, frame.size)
    line, pairs, shrink = p.OW * p.FP, -(-p.OH // 2), 4 if target.pool else 1
    chunk = take(counter, seat)
    while chunk < bounds.size - 1:
        start, stop, place = bounds[chunk], bounds[chunk + 1], chunk if target.measure else 0
        sums, totals = all_sums[place], all_totals[place]
        for pair in range(start, stop):
            n, i = pair // pairs, pair % pairs * 2
            if i == 0 or pair == start:
                for k in range(p.H):
                    read_row(source, p.H, p.W, p.C, n, k, mask, frame, ((k + p.top) * p.width + p.left) * p.C, p.C)
            rows = min(2, p.OH - i)
            _prefetch(target.out, (n * p.OH + i + 2) * p.OW * p.F // shrink, rows * p.OW * p.F // shrink)
            for r in range(rows):
                product(frame, (i + r) * p.SH * p.width * p.C, p.SW * p.C, ONE, p.width * p.C, w, ZERO, p.FP,
                        p.KW * p.C * p.FP, result, r * line, p.FP, ZERO, p.OW, p.FP, p.KW * p.C, p.KH, ZERO)
            if target.measure and pair == start:
                begin_sums(result, ZERO, p.F, target.bias, target.relu, sums)
            write_rows(target, result, rows, p.FP, line, p.OH, p.OW, p.F, n, i, sums)
            if target.measure and (i % ROWS == 0 or i >= p.OH - 2):
                fold(sums, p.FP, 2 * p.FP, totals)
        chunk = take(counter, seat)
    dismiss(seat, crew)


@jit
def backward(seat, crew, counter, bounds, p, source, gradient, w_turned, need_dx, all_dw, all_db, dx, all_work,
             all_sums, all_totals):
    """Gradients: dw (KH * KW * C, FP) and db (FP) float64 of each chunk, dx flat; see winograd.backward.

    ``w_turned`` comes from ``turned_kernel``.
    """
    invite(seat, crew)
    source, gradient, w_turned, dx, work = borrowed((source, gradient, w_turned, dx, all_work[seat]))
    all_dw, all_db, all_sums, all_totals = borrowed((all_dw, all_db, all_sums, all_totals))
    frame, dframe, dz = work[:p.dframe_at], work[p.dframe_at:p.dz_at], work[p.dz_at:p.row_at]
    row, mask = work[p.row_at:p.mask_at], work[p.mask_at:]
    clear(frame, ZERO, frame.size)
    clear(dz, ZERO, dz.size)
    line, depth, line_out = p.width * p.C, p.KW * p.C, p.across * p.FP
    part, quarter = -(-p.OW * p.F // p.KH), 4 if gradient.pool else 1  # of what the next rows need, at a time
    chunk = take(counter, seat)
    while chunk < bounds.size - 1:
        start, stop, sums, totals = bounds[chunk], bounds[chunk + 1], all_sums[chunk], all_totals[chunk]
        dw, db, row_sums = all_dw[chunk], all_db[chunk], sums[2 * p.CP:]
        clear(dw, ZERO, dw.size)
        for n in range(start, stop):
            for i in range(p.H):
                read_row(source, p.H, p.W, p.C, n, i, mask, frame, ((i + p.top) * p.width + p.left) * p.C, p.C)
            for i in range(p.OH):
                # dx needs all of dz; without it four rows are enough, and stay in the cache
                row_dz = (i + p.above) * line_out + p.before * p.FP if need_dx else i % ROWS * line_out
                if i % ROWS == 0:
                    gradient_rows(gradient, p.OH, p.OW, p.F, n, i, dz[row_dz:], p.FP, line_out, row_sums, db)
                for k in range(p.KH):
                    at = (n * p.OH + i + ROWS) * p.OW * p.F + k * part
                    if gradient.pool < 2:
                        _prefetch(gradient.out, at, part)
                    _prefetch(gradient.dout, at // quarter, part // quarter)
                product(frame, i * p.SH * line, ONE, p.SW * p.C, line, dz, row_dz, p.FP, ZERO,
                        dw, ZERO, p.FP, depth * p.FP, depth, p.FP, p.OW, p.KH, ONE)
            if need_dx and p.gathers:
                _gather(p, dz, w_turned, row, n, source, mask, dx, sums)
            elif need_dx:
                _scatter(p, dz, w_turned, row, dframe, n, source, mask, dx, sums)
            fold(sums, ZERO, 2 * p.CP, totals)
        chunk = take(counter, seat)
    dismiss(seat, crew)


@inner(inline="always")
def _gather(p, dz, w_turned, row, n, source, mask, dx, sums):
    """The rows of dx of image n, each a convolution of the frame of dz."""
    for i in range(p.H):
        product(dz, i * p.across * p.FP, p.FP, ONE, p.across * p.FP, w_turned, ZERO, p.CP, p.KW * p.FP * p.CP,
                row, ZERO, p.CP, ZERO, p.W, p.CP, p.KW * p.FP, p.KH, ZERO)
        write_input_gradient(row, ZERO, ZERO, p.CP, p.H, p.W, p.C, n, i, i + 1, source, mask, dx, sums, p.CP)


@inner
def _scatter(p, dz, w_turned, columns, dframe, n, source, mask, dx, sums):
    """The same for any stride: the gradient of each column matrix, added to where its numbers were read from."""
    line = p.width * p.C
    clear(dframe, ZERO, dframe.size)
    for i in range(p.OH):
        for k in range(p.KH):
            product(dz, i * p.across * p.FP, p.FP, ONE, ZERO, w_turned, k * p.FP * p.QP, p.QP, ZERO,
                    columns, ZERO, p.QP, ZERO, p.OW, p.QP, p.FP, ONE, ZERO)
            for j in range(p.OW):  # add each pixel's numbers to where they were read from
                at = (i * p.SH + k) * line + j * p.SW * p.C
                for depth in range(p.KW * p.C):
                    dframe[at + depth] += columns[j * p.QP + depth]
    write_input_gradient(dframe, p.top * line + p.left * p.C, line, p.C, p.H, p.W, p.C, n, ZERO, p.H,
                         source, mask, dx, sums, p.CP)


@inner(inline="always")
def _prefetch(array, start, count):
    """Ask for what is needed next, so that memory is busy while the products are computed."""
    for k in range(start, start + count, LANES):
        prefetch(array, k)
