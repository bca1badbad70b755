"""Convolution as loops, compiled: the first rungs of the ladder. The library has left them behind.

Both take padded images and know stride 1 only. Shapes: x (N, H, W, C) with its margins, w (KH, KW, C, F), out and dout
(N, OH, OW, F).
"""

from __future__ import annotations

import numba

compiled = numba.njit(nogil=True, error_model="numpy")  # not fastmath: sums are added in the order written here


@compiled
def sum_forward(x, w, out):  # type: ignore[no-untyped-def]
    """The definition: for every number of the output, the sum over its window."""
    N, OH, OW, F = out.shape
    KH, KW, C, _ = w.shape
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for f in range(F):
                    total = x[0, 0, 0, 0] * 0
                    for p in range(KH):
                        for q in range(KW):
                            for c in range(C):
                                total += x[n, i + p, j + q, c] * w[p, q, c, f]
                    out[n, i, j, f] = total


@compiled
def sum_backward(dout, x, w, dx, dw):  # type: ignore[no-untyped-def]
    """Read the other two ways: each number of dout goes to all it came from."""
    N, OH, OW, F = dout.shape
    KH, KW, C, _ = w.shape
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                for f in range(F):
                    slope = dout[n, i, j, f]
                    for p in range(KH):
                        for q in range(KW):
                            for c in range(C):
                                dx[n, i + p, j + q, c] += slope * w[p, q, c, f]
                                dw[p, q, c, f] += slope * x[n, i + p, j + q, c]


@compiled
def row_forward(x, w, out):  # type: ignore[no-untyped-def]
    """The same sums, filters innermost: neighbours in memory, so that the compiler can take eight or 16 at a time."""
    N, OH, OW, F = out.shape
    KH, KW, C, _ = w.shape
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                row = out[n, i, j]
                row[:] = 0
                for p in range(KH):
                    for q in range(KW):
                        for c in range(C):
                            factor, weights = x[n, i + p, j + q, c], w[p, q, c]
                            for f in range(F):
                                row[f] += factor * weights[f]


@compiled
def row_backward(dout, x, w, dx, dw):  # type: ignore[no-untyped-def]
    """w turned, (KH, KW, F, C), and dw (KH, KW, C, F): for both, the innermost loop runs along memory."""
    N, OH, OW, F = dout.shape
    KH, KW, C, _ = dw.shape
    for n in range(N):
        for i in range(OH):
            for j in range(OW):
                slopes = dout[n, i, j]
                for p in range(KH):
                    for q in range(KW):
                        pixel = dx[n, i + p, j + q]
                        for f in range(F):
                            slope, weights = slopes[f], w[p, q, f]
                            for c in range(C):
                                pixel[c] += slope * weights[c]
                        for c in range(C):
                            factor, sums = x[n, i + p, j + q, c], dw[p, q, c]
                            for f in range(F):
                                sums[f] += factor * slopes[f]
