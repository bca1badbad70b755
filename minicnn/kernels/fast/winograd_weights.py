"""The kernel of a convolution, transformed for Winograd's algorithm: once a step for all tiles, see ``winograd.py``.

The trick: ``U = G w G^T`` of every pair of channels is one product, of the matrix that applies G to rows and columns at
once with w as a matrix of r * r rows. Threads share its columns.
"""

from __future__ import annotations

import functools

import numpy as np

from minicnn.kernels.fast.borrowed import borrowed
from minicnn.kernels.fast.compile import ONE, ZERO, inner, jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import seats, share
from minicnn.kernels.fast.product import product
from minicnn.kernels.fast.rows import clear
from minicnn.kernels.fast.simd import LANES, load_first, store, transpose
from minicnn.kernels.fast.winograd_transforms import matrices


def transformed_kernel(w: np.ndarray, channels: tuple[int, int], turned: bool, more: int = 0) -> np.ndarray:
    """Return U (P, A, B), flat, and behind it room for more numbers.

    Parameters
    ----------
    w : (r, r, C, F) array
    channels : (A, B)
        C and F, or if ``turned`` F and C, rounded up to multiples of 16; U is zero for what was added.
    turned : bool
        Whether U has the channels the other way round.
    """
    r, _, C, F = w.shape
    A, B = channels
    matrix = kernel_matrix(r, w.dtype)
    R = r * r
    U = empty(matrix.size // R * A * B + more, w.dtype)
    rows = empty((seats(A // LANES), R * LANES * B), w.dtype)
    share(_transform, A // LANES, matrix, R, contiguous(w).reshape(-1), C, F, turned, A, B, U, rows, rooms=len(rows))
    return U


@functools.cache
def kernel_matrix(r: int, dtype: np.dtype) -> np.ndarray:
    """Return the matrix (P, r * r) that applies G to rows and columns at once, flat."""
    G = matrices(r)[1]
    return np.kron(G, G).astype(dtype).reshape(-1)


@jit
def _transform(seat, crew, counter, matrix, R, w, C, F, turned, A, B, U, rooms):
    """Sixteen rows of all planes of U (P, A, B) at a time."""
    invite(seat, crew)
    matrix, w, U, room = borrowed((matrix, w, U, rooms[seat]))
    row = LANES * B  # numbers of the sixteen rows
    block = take(counter, seat)
    while block < A // LANES:
        first = block * LANES
        clear(room, ZERO, R * row)
        for k in range(R):
            if turned:
                _take_columns(w, k * C * F, C, F, first, room, k * row, B)
            else:
                _take_rows(w, k * C * F, C, F, first, room, k * row, B)
        product(matrix, ZERO, R, ONE, ZERO, room, ZERO, row, ZERO, U, first * B, A * B, ZERO,
                matrix.size // R, row, R, ONE, ZERO)
        block = take(counter, seat)
    dismiss(seat, crew)


@inner
def _take_rows(w, start, C, F, first, room, t, B):
    """Rows first ... first + 15 of w (C, F) to room, B apart."""
    for i in range(min(LANES, C - first)):
        for f in range(0, F, LANES):
            store(room, t + i * B + f, load_first(w, start + (first + i) * F + f, F - f))


@inner
def _take_columns(w, start, C, F, first, room, t, B):
    """Columns first ... first + 15 of w (C, F) to room as rows, B apart."""
    for c in range(0, C, LANES):
        if c + LANES <= C and first + LANES <= F:
            transpose(w, start + c * F + first, F, room, t + c, B)
            continue
        for i in range(c, min(c + LANES, C)):
            for j in range(min(LANES, F - first)):
                room[t + j * B + i] = w[start + i * F + first + j]
