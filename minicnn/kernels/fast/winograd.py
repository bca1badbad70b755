"""Convolution by Winograd's algorithm: 3x3 and 5x5 kernels, stride 1. See ``winograd_transforms`` for the formula.

The output is cut into tiles of 4x4 pixels. A tile's input, alpha x alpha pixels (6x6 or 8x8, overlapping its
neighbours), is transformed; so is the kernel, once for all. Then each of the alpha² positions of a tile is a matrix
product over the channels, (tiles, C) @ (C, F), and the results are transformed back. That takes 36 multiplications for
the 144 of 3x3 kernels and 64 for the 400 of 5x5.

The trick: a *strip* is a row of tiles. A group of a few strips at a time, enough tiles for the products, is transformed
along the image's columns; then, for each row of positions, along the rows, multiplied, and transformed back. So what
the products read and write stays in the first-level cache, and the strips of a group in the second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicnn.kernels.fast.borrowed import borrowed
from minicnn.kernels.fast.compile import ONE, ZERO, inner, jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.product import product
from minicnn.kernels.fast.rows import (
    clear,
    gradient_rows,
)
from minicnn.kernels.fast.simd import LANES, prefetch
from minicnn.kernels.fast.vector_type import round_up
from minicnn.kernels.fast.winograd_strips import finish_strip, read_strips, write_strip
from minicnn.kernels.fast.winograd_transforms import (
    OUTPUTS,
    add_input_gradient,
    transform_input,
    transform_output,
    transform_output_gradient,
)
from minicnn.kernels.fast.winograd_weights import kernel_matrix, transformed_kernel
from minicnn.kernels.geometry import Padding, Pair

TILES = 28  # of one group, about: enough rows for the products, few enough for the first-level cache


class Plan(NamedTuple):
    """Sizes; P is alpha * alpha positions, CP and FP are C and F rounded up to a multiple of 16."""

    H: int
    W: int
    C: int
    OH: int
    OW: int
    F: int
    top: int
    left: int
    alpha: int
    strips: int  # of an image
    tiles: int   # of a strip
    group: int   # strips at a time
    CP: int
    FP: int


def plan(x_shape: tuple[int, ...], w_shape: tuple[int, ...], out_size: Pair, stride: Pair, padding: Padding) -> Plan:
    """Return the sizes for one convolution; the stride is 1."""
    _, H, W, C = x_shape
    OH, OW = out_size
    tiles = -(-OW // OUTPUTS)
    return Plan(H, W, C, OH, OW, w_shape[3], padding[0], padding[2], w_shape[0] + OUTPUTS - 1, -(-OH // OUTPUTS), tiles,
                max(1, TILES // tiles), round_up(C), round_up(w_shape[3]))


def kernel(p: Plan, w: np.ndarray) -> np.ndarray:
    """Return U (P, CP, FP), flat; for the channels added there are zeros."""
    return transformed_kernel(w, (p.CP, p.FP), False)


def turned_kernel(p: Plan, w: np.ndarray) -> np.ndarray:
    """Return U with its channels the other way round, (P, FP, CP), and behind it the matrix that makes dw of dU."""
    matrix = kernel_matrix(w.shape[0], w.dtype)
    U = transformed_kernel(w, (p.FP, p.CP), True, matrix.size)
    U[-matrix.size:] = matrix
    return U


def gradient_size(p: Plan) -> int:
    """Return the numbers of dw (r, r, CP, FP)."""
    return (p.alpha - OUTPUTS + 1) ** 2 * p.CP * p.FP


def kernel_gradient(p: Plan, dw: np.ndarray, w_shape: tuple[int, ...]) -> np.ndarray:
    """Return dw in the shape of w."""
    r, _, C, F = w_shape
    return dw.reshape(r, r, p.CP, p.FP)[:, :, :C, :F]


def units(p: Plan) -> int:
    """Return into how many parts an image can be cut for ``forward``: strips."""
    return p.strips


def workspace_size(p: Plan) -> int:
    """Return how many numbers forward and backward need for themselves."""
    return sum(_parts(p.alpha, p.strips, p.tiles, p.group, p.W, p.C, p.CP, p.FP))


@inner
def _parts(alpha, strips, tiles, group, W, C, CP, FP):
    """Sizes of: image, columns of the input, V, columns of the output, M, rows of output, input gradient, mask, dU."""
    edge = alpha - OUTPUTS
    line, line_out = (tiles * OUTPUTS + edge) * CP + LANES, tiles * OUTPUTS * FP + LANES
    return ((strips * OUTPUTS + edge) * line, group * alpha * line, alpha * (group * tiles * CP + LANES),
            group * alpha * line_out, alpha * (group * tiles * FP + LANES), OUTPUTS * line_out,
            alpha * line, _round_up(W * C), alpha * alpha * CP * FP)


@inner(inline="always")
def _round_up(size):
    return -(-size // LANES) * LANES


@jit
def forward(seat, crew, counter, bounds, p, source, U, target, all_work, all_sums, all_totals):
    """Write to the target: strips bounds[chunk] ... bounds[chunk + 1] of each chunk, counted through all images.

    If it measures, chunks are whole images, ``all_sums`` (chunks, 3 FP) is room and ``all_totals`` (chunks, 2 FP)
    float64 what batch norm needs.
    """
    invite(seat, crew)
    source, U, target, all_sums, all_totals = borrowed((source, U, target, all_sums, all_totals))
    image, columns, V, columns_out, M, result, _, mask, _ = _cut(p, borrowed(all_work[seat]))
    line, line_out, plane, plane_out = _pitches(p)
    clear(image, ZERO, image.size)
    size_in, size_out = _sizes(p, source)
    size_out = size_out // 4 if target.pool else size_out
    half, size = p.alpha // 2, p.CP * p.FP
    chunk = take(counter, seat)
    while chunk < bounds.size - 1:
        start, stop, place = bounds[chunk], bounds[chunk + 1], chunk if target.measure else 0
        sums, totals = all_sums[place], all_totals[place]
        for s0 in range(start, stop, p.group):
            count = min(p.group, stop - s0)
            read_strips(p, source, s0, count, start, image, line, mask, columns)
            for r in range(p.alpha):
                _transform_rows(p, columns, r, count, line, V, plane)
                for s in range(0, p.alpha, half):
                    part, at = 2 * r + s // half, (r * p.alpha + s) * size
                    _prefetch_part(source.x, s0 + p.group + 1, p.group, size_in, p.strips, part, 2 * p.alpha)
                    _prefetch_part(target.out, s0, p.group, size_out, p.strips, part, 2 * p.alpha)
                    product(V, s * plane, p.CP, ONE, plane, U, at, p.FP, size, M, s * plane_out, p.FP, plane_out,
                            count * p.tiles, p.FP, p.CP, half, ZERO)
                for g in range(count):
                    transform_output(p.alpha, M, g * p.tiles * p.FP, plane_out, p.FP,
                                     columns_out, (g * p.alpha + r) * line_out, p.FP, OUTPUTS * p.FP, p.tiles, p.FP)
            for g in range(count):
                write_strip(p, columns_out, g * p.alpha * line_out, line_out, result, target, s0 + g, s0 + g == start,
                            sums, totals)
        chunk = take(counter, seat)
    dismiss(seat, crew)


@jit
def backward(seat, crew, counter, bounds, p, source, gradient, U_turned, need_dx, all_dw, all_db, dx, all_work,
             all_sums, all_totals):
    """Gradients of the images of each chunk: dw (r, r, CP, FP) and db (FP) float64 of a chunk, dx flat.

    U_turned comes from ``turned_kernel``; ``all_sums`` (chunks, 2 CP + FP) is room, ``all_totals`` (chunks, 2 CP)
    float64 what the batch norm of the input needs.
    """
    invite(seat, crew)
    source, gradient, U_turned, dx = borrowed((source, gradient, U_turned, dx))
    all_dw, all_db, all_sums, all_totals = borrowed((all_dw, all_db, all_sums, all_totals))
    image, columns, V, columns_out, D, z, finished, mask, dU = _cut(p, borrowed(all_work[seat]))
    line, line_out, plane, plane_out = _pitches(p)
    clear(image, ZERO, image.size)
    clear(z, ZERO, z.size)
    size_in, size_out = _sizes(p, source)
    size_dout = size_out // 4 if gradient.pool else size_out
    size_out = 0 if gradient.pool == 2 else size_out  # not read
    half, size, P, R = p.alpha // 2, p.CP * p.FP, p.alpha * p.alpha, (p.alpha - OUTPUTS + 1) ** 2
    chunk = take(counter, seat)
    while chunk < bounds.size - 1:
        start, stop, sums, totals = bounds[chunk], bounds[chunk + 1], all_sums[chunk], all_totals[chunk]
        db, row_sums = all_db[chunk], sums[2 * p.CP:]
        clear(dU, ZERO, dU.size)
        for s0 in range(start * p.strips, stop * p.strips, p.group):
            count = min(p.group, stop * p.strips - s0)
            T = count * p.tiles
            read_strips(p, source, s0, count, start * p.strips, image, line, mask, columns)
            _read_gradients(p, gradient, s0, count, z, line_out, row_sums, db, columns_out)
            for r in range(p.alpha):
                _transform_rows(p, columns, r, count, line, V, plane)
                for g in range(count):
                    transform_output_gradient(p.alpha, columns_out, (g * p.alpha + r) * line_out, p.FP, OUTPUTS * p.FP,
                                              D, g * p.tiles * p.FP, plane_out, p.FP, p.tiles, p.FP)
                for s in range(0, p.alpha, half):
                    part, at = 2 * r + s // half, (r * p.alpha + s) * size
                    _prefetch_part(source.x, s0 + p.group + 1, p.group, size_in, p.strips, part, 2 * p.alpha)
                    _prefetch_part(gradient.out, s0 + p.group, p.group, size_out, p.strips, part, 2 * p.alpha)
                    product(V, s * plane, ONE, p.CP, plane, D, s * plane_out, p.FP, plane_out, dU, at, p.FP, size,
                            p.CP, p.FP, T, half, ONE)
                    _prefetch_part(gradient.dout, s0 + p.group, p.group, size_dout, p.strips, part, 2 * p.alpha)
                    if need_dx:  # into the place of V, which is done
                        _prefetch_part(dx, s0, p.group, p.H * p.W * p.C, p.strips, part, 2 * p.alpha)
                        product(D, s * plane_out, p.FP, ONE, plane_out, U_turned, at, p.CP, size,
                                V, s * plane, p.CP, plane, T, p.CP, p.FP, half, ZERO)
                if need_dx:
                    _add_rows(p, V, plane, r, count, columns, line)
            if need_dx:
                for g in range(count):
                    finish_strip(p, columns, g * p.alpha * line, s0 + g, finished, line, source, mask, dx, sums, totals)
        product(U_turned, P * size, ONE, R, ZERO, dU, ZERO, size, ZERO, all_dw[chunk], ZERO, size, ZERO,
                R, size, P, ONE, ZERO)  # dw = G^T dU G
        chunk = take(counter, seat)
    dismiss(seat, crew)


@inner(inline="always")
def _sizes(p, source):
    """Numbers of one image that is read and of one that is written."""
    return source.height * source.width * p.C, p.OH * p.OW * p.F


@inner
def _prefetch_part(array, strip, group, size, strips, part, parts):
    """Ask for one of several parts of a group of strips, so that memory is busy while the products are computed.

    ``size`` numbers an image, ``strips`` strips in it.
    """
    numbers = size * group // strips
    begin, step = strip * size // strips, -(-numbers // (parts * LANES)) * LANES
    for k in range(begin + part * step, begin + (part + 1) * step, LANES):
        prefetch(array, k)


@inner(inline="always")
def _pitches(p):
    """Numbers from one row to the next of the input's columns and the output's, and of one plane of V and of M.

    16 more than there are: rows and planes would otherwise lie a power of two apart, all in one set of the cache.
    """
    return ((p.tiles * OUTPUTS + p.alpha - OUTPUTS) * p.CP + LANES, p.tiles * OUTPUTS * p.FP + LANES,
            p.group * p.tiles * p.CP + LANES, p.group * p.tiles * p.FP + LANES)


@inner(inline="always")
def _cut(p, work):
    """Cut the workspace into its parts."""
    a, b, c, d, e, f, g, h, i = _parts(p.alpha, p.strips, p.tiles, p.group, p.W, p.C, p.CP, p.FP)
    b, c, d = a + b, a + b + c, a + b + c + d
    e, f = d + e, d + e + f
    g, h, i = f + g, f + g + h, f + g + h + i
    return work[:a], work[a:b], work[b:c], work[c:d], work[d:e], work[e:f], work[f:g], work[g:h], work[h:i]


@inner
def _read_gradients(p, gradient, s0, count, z, line_out, row_sums, db, columns_out):
    """The same of the gradient of the result."""
    for g in range(count):
        n, strip = (s0 + g) // p.strips, (s0 + g) % p.strips
        gradient_rows(gradient, p.OH, p.OW, p.F, n, OUTPUTS * strip, z, p.FP, line_out, row_sums, db)
        transform_output_gradient(p.alpha, z, ZERO, line_out, ZERO,
                                  columns_out, g * p.alpha * line_out, line_out, ZERO, ONE, line_out - LANES)


@inner(inline="always")
def _transform_rows(p, columns, r, count, line, V, plane):
    """Transform row r of each strip along the row: alpha planes of tiles."""
    for g in range(count):
        transform_input(p.alpha, columns, (g * p.alpha + r) * line, p.CP, OUTPUTS * p.CP,
                        V, g * p.tiles * p.CP, plane, p.CP, p.tiles, p.CP)


@inner
def _add_rows(p, V, plane, r, count, columns, line):
    """The way back of ``_transform_rows``."""
    for g in range(count):
        row = (g * p.alpha + r) * line
        clear(columns, row, line)
        add_input_gradient(p.alpha, V, g * p.tiles * p.CP, plane, p.CP,
                           columns, row, p.CP, OUTPUTS * p.CP, p.tiles, p.CP)
