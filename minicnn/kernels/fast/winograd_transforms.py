r"""The small matrices of Winograd's convolution, as arithmetic on vectors.

Four outputs of a convolution with a kernel of r numbers need 4 r multiplications; with ``alpha = r + 3`` products of
sums they need only alpha. In matrices, for one dimension,

.. math:: y = A^T \left[ (G\,w) \odot (B^T x) \right]

where x has alpha numbers, w has r and y has 4. In two dimensions each matrix is applied to the columns and then to the
rows. The gradients use the same matrices transposed: :math:`dx = B[(G w) \odot (A\,dy)]` and
:math:`dw = G^T[(B^T x) \odot (A\,dy)]`.

The numbers come from evaluating polynomials at 0, 1, -1, 2, -2 (and 1/2, -1/2 for r = 5) and infinity; so most are sums
and differences that several lines share. Written out, a transform is a few additions; as a matrix product it would cost
more than it saves.

References
----------
Lavin, Gray: Fast algorithms for convolutional neural networks, 2015, arXiv:1509.09308.
Barabasz et al.: Error analysis and improving the accuracy of Winograd convolution, 2018, arXiv:1803.10986 (the points).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.typing.templates import signature

from minicnn.kernels.fast.compile import inner
from minicnn.kernels.fast.simd import LANES, _emit_load, _type_load, load, store
from minicnn.kernels.fast.vector_type import lowered

OUTPUTS = 4  # of one tile, in each dimension
POINTS = {3: (0, 1, -1, 2, -2), 5: (0, 1, -1, 2, -2, 0.5, -0.5)}  # for each kernel size; infinity comes last


def matrices(kernel_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A^T (4, alpha), G (alpha, r) and B^T (alpha, alpha) in float64, made from the points.

    A^T evaluates the powers of a polynomial's product, G the kernel divided by what is left of the others, and B^T is
    the inverse of the evaluation, transposed: Toom's and Cook's multiplication of polynomials, transposed.
    """
    points = np.array(POINTS[kernel_size], dtype=np.float64)
    alpha = kernel_size + OUTPUTS - 1
    others = np.array([np.prod([p - q for q in points if q != p]) for p in points])  # (alpha - 1)

    def evaluation(powers: int) -> np.ndarray:
        at_infinity = np.zeros((1, powers))
        at_infinity[0, -1] = 1
        return np.vstack([points[:, None] ** np.arange(powers), at_infinity])  # (alpha, powers)

    G = evaluation(kernel_size) / np.append(others, 1.0)[:, None]
    BT = np.linalg.inv(evaluation(alpha)).T * np.append(others, 1.0)[:, None]
    return evaluation(OUTPUTS).T, G, BT


# --- r = 3: alpha = 6 --------------------------------------------------------------------------------------------

@inner
def input_6(d0, d1, d2, d3, d4, d5):
    """Return B^T d."""
    p, q = d4 - 4 * d2, d3 - 4 * d1
    r, s = d4 - d2, 2 * (d3 - d1)
    return 4 * d0 - 5 * d2 + d4, p + q, p - q, r + s, r - s, 4 * d1 - 5 * d3 + d5


@inner
def output_6(m0, m1, m2, m3, m4, m5):
    """Return A^T m."""
    p, q, r, s = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return m0 + p + r, q + 2 * s, p + 4 * r, q + 8 * s + m5


@inner
def output_6_transposed(d0, d1, d2, d3):
    """Return A d."""
    p, q = d0 + d2, d1 + d3
    r, s = d0 + 4 * d2, 2 * d1 + 8 * d3
    return d0, p + q, p - q, r + s, r - s, d3


@inner
def input_6_transposed(m0, m1, m2, m3, m4, m5):
    """Return B m."""
    p, q, r, s = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return 4 * m0, 4 * m5 - 4 * q - 2 * s, -5 * m0 - 4 * p - r, q + 2 * s - 5 * m5, m0 + p + r, m5


# --- r = 5: alpha = 8 --------------------------------------------------------------------------------------------

@inner
def input_8(d0, d1, d2, d3, d4, d5, d6, d7):
    """Return B^T d."""
    t0, t7 = (d6 - d0) + 5.25 * (d2 - d4), (d7 - d1) + 5.25 * (d3 - d5)
    p, q = d2 - 4.25 * d4 + d6, d1 - 4.25 * d3 + d5
    r, s = 0.25 * d2 - 1.25 * d4 + d6, 0.5 * d1 - 2.5 * d3 + 2 * d5
    u, v = 4 * d2 - 5 * d4 + d6, 2 * d1 - 2.5 * d3 + 0.5 * d5
    return t0, p + q, p - q, r + s, r - s, u + v, u - v, t7


@inner
def output_8(m0, m1, m2, m3, m4, m5, m6, m7):
    """Return A^T m."""
    p, q, r, s, u, v = m1 + m2, m1 - m2, m3 + m4, m3 - m4, m5 + m6, m5 - m6
    return m0 + p + r + u, q + 2 * s + 0.5 * v, p + 4 * r + 0.25 * u, q + 8 * s + 0.125 * v + m7


@inner
def output_8_transposed(d0, d1, d2, d3):
    """Return A d."""
    p, q = d0 + d2, d1 + d3
    r, s = d0 + 4 * d2, 2 * d1 + 8 * d3
    u, v = d0 + 0.25 * d2, 0.5 * d1 + 0.125 * d3
    return d0, p + q, p - q, r + s, r - s, u + v, u - v, d3


@inner
def input_8_transposed(m0, m1, m2, m3, m4, m5, m6, m7):
    """Return B m."""
    p, q, r, s, u, v = m1 + m2, m1 - m2, m3 + m4, m3 - m4, m5 + m6, m5 - m6
    return (-1 * m0, q + 0.5 * s + 2 * v - m7, 5.25 * m0 + p + 0.25 * r + 4 * u, 5.25 * m7 - 4.25 * q - 2.5 * (s + v),
            -5.25 * m0 - 4.25 * p - 1.25 * r - 5 * u, q + 2 * s + 0.5 * v - 5.25 * m7, m0 + p + r + u, m7)


# --- what a transform reads --------------------------------------------------------------------------------------

def _type_rows(rows: Any, array: Any, index: Any, step: Any) -> Any:
    vector = _type_load(array, index)
    fits = vector is not None and isinstance(rows, types.IntegerLiteral) and isinstance(step, types.Integer)
    return types.containers.UniTuple(vector, rows.literal_value) if fits else None


def _emit_rows(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    index, step = (context.cast(builder, values[at], sig.args[at], types.intp) for at in (2, 3))
    one = signature(sig.return_type.dtype, sig.args[1], types.intp)
    return context.make_tuple(builder, sig.return_type, [
        _emit_load(context, builder, one, [values[1], builder.add(index, builder.mul(step, ir.Constant(step.type, k)))])
        for k in range(sig.return_type.count)])


@lowered(_type_rows, _emit_rows)
def load_rows(rows, array, index, step):
    """Return the vectors at index, index + step, ..., as many as ``rows``, a literal: a call costs nothing."""
    return tuple(load(array, index + k * step) for k in range(rows))


# --- along an axis of an array -----------------------------------------------------------------------------------
#
# Each takes `tiles` tiles of `count` numbers a place (a multiple of 16): from source[s + tile * s_tile + k * s_step],
# k = 0, 1, ..., to target[t + tile * t_tile + k * t_step].

@inner
def transform_input(alpha, source, s, s_step, s_tile, target, t, t_step, t_tile, tiles, count):
    """Apply B^T: alpha places to alpha places."""
    for tile in range(tiles):
        for c in range(0, count, LANES):
            a, b = s + tile * s_tile + c, t + tile * t_tile + c
            if alpha == 8:
                d0, d1, d2, d3, d4, d5, d6, d7 = input_8(*load_rows(8, source, a, s_step))
                store(target, b + 6 * t_step, d6)
                store(target, b + 7 * t_step, d7)
            else:
                d0, d1, d2, d3, d4, d5 = input_6(*load_rows(6, source, a, s_step))
            store(target, b, d0)
            store(target, b + t_step, d1)
            store(target, b + 2 * t_step, d2)
            store(target, b + 3 * t_step, d3)
            store(target, b + 4 * t_step, d4)
            store(target, b + 5 * t_step, d5)


@inner
def transform_output(alpha, source, s, s_step, s_tile, target, t, t_step, t_tile, tiles, count):
    """Apply A^T: alpha places to 4."""
    for tile in range(tiles):
        for c in range(0, count, LANES):
            a, b = s + tile * s_tile + c, t + tile * t_tile + c
            if alpha == 8:
                d0, d1, d2, d3 = output_8(*load_rows(8, source, a, s_step))
            else:
                d0, d1, d2, d3 = output_6(*load_rows(6, source, a, s_step))
            store(target, b, d0)
            store(target, b + t_step, d1)
            store(target, b + 2 * t_step, d2)
            store(target, b + 3 * t_step, d3)


@inner
def transform_output_gradient(alpha, source, s, s_step, s_tile, target, t, t_step, t_tile, tiles, count):
    """Apply A: 4 places to alpha."""
    for tile in range(tiles):
        for c in range(0, count, LANES):
            a, b = s + tile * s_tile + c, t + tile * t_tile + c
            y0, y1, y2, y3 = (load(source, a), load(source, a + s_step), load(source, a + 2 * s_step),
                              load(source, a + 3 * s_step))
            if alpha == 8:
                d0, d1, d2, d3, d4, d5, d6, d7 = output_8_transposed(y0, y1, y2, y3)
                store(target, b + 6 * t_step, d6)
                store(target, b + 7 * t_step, d7)
            else:
                d0, d1, d2, d3, d4, d5 = output_6_transposed(y0, y1, y2, y3)
            store(target, b, d0)
            store(target, b + t_step, d1)
            store(target, b + 2 * t_step, d2)
            store(target, b + 3 * t_step, d3)
            store(target, b + 4 * t_step, d4)
            store(target, b + 5 * t_step, d5)


@inner
def add_input_gradient(alpha, source, s, s_step, s_tile, target, t, t_step, t_tile, tiles, count):
    """Apply B, alpha places to alpha. Neighbours overlap: the first alpha - 4 are added to what the last tile left."""
    for tile in range(tiles):
        for c in range(0, count, LANES):
            a, b = s + tile * s_tile + c, t + tile * t_tile + c
            if alpha == 8:
                d0, d1, d2, d3, d4, d5, d6, d7 = input_8_transposed(*load_rows(8, source, a, s_step))
                d2 = d2 + load(target, b + 2 * t_step)
                d3 = d3 + load(target, b + 3 * t_step)
                store(target, b + 6 * t_step, d6)
                store(target, b + 7 * t_step, d7)
            else:
                d0, d1, d2, d3, d4, d5 = input_6_transposed(*load_rows(6, source, a, s_step))
            store(target, b, d0 + load(target, b))
            store(target, b + t_step, d1 + load(target, b + t_step))
            store(target, b + 2 * t_step, d2)
            store(target, b + 3 * t_step, d3)
            store(target, b + 4 * t_step, d4)
            store(target, b + 5 * t_step, d5)
