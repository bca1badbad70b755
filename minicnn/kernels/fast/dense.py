"""See reference. The trick: the micro-kernel of ``product.py``, whose sums never depend on the batch a row is in.

All three products are cut into blocks that stay in the cache and that threads take one after the other. The one for dx
needs the kernel transposed: copying it costs less than reading it across.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.fast.borrowed import borrowed
from minicnn.kernels.fast.compile import ONE, ZERO, inner, jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.memory import FRESH, Allocator, contiguous, empty, padded
from minicnn.kernels.fast.parallel import seats, share
from minicnn.kernels.fast.product import WIDE, product
from minicnn.kernels.fast.simd import LANES, broadcast, load, load_first, maximum, store_first, transpose
from minicnn.kernels.fast.sums import sum_rows
from minicnn.kernels.fast.vector_type import round_up

BLOCK = (64, 64)  # rows and columns of the result that are computed at a time; columns in whole vectors
VECTOR = (1, WIDE)  # the same of a single row: nothing is read twice, so what counts is to read much at once
SUMMED = 1024  # products added one after the other: the last of very many would lose digits
SMALL = 1 << 18  # multiplications that are done before a second thread wakes up
MOVED = 1 << 15  # numbers that are transposed before it does
STRIPE = 64  # rows transposed at a time: four cache lines of each row of the result


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """See reference."""
    return multiply(contiguous(x), contiguous(w), b)


def dense_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, need_dx: bool = True,
                   ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """See reference."""
    check_fit("dense_backward", "dout (N, K), x (N, D), w (D, K)", dout, x, w)
    dout = contiguous(dout)
    db = np.empty(w.shape[1])
    sum_rows(dout, 0, len(dout), db)
    return (*dense_gradients(dout, contiguous(x), contiguous(w), need_dx), db.astype(w.dtype))


def dense_gradients(dout: np.ndarray, x: np.ndarray, w: np.ndarray, need_dx: bool,
                    ) -> tuple[np.ndarray | None, np.ndarray]:
    """Return dx (N, D) and dw (D, K); all arrays C-contiguous."""
    (N, D), K = x.shape, w.shape[1]
    dx = _product(dout, _transposed(w), (N, K, D), K, 1) if need_dx else None
    return dx, _product(x, _spread(dout), (D, N, K), 1, D)  # x.T @ dout


def multiply(x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None, relu: bool = False) -> np.ndarray:
    """Return x @ w + b, (N, D) @ (D, K), through ReLU if asked for; x and w C-contiguous."""
    call, out = multiplication(x, w, b, relu)
    call()
    return out


def multiplication(x: np.ndarray, w: np.ndarray, b: np.ndarray | None, relu: bool,
                   allocator: Allocator = FRESH,
                   ) -> tuple[Callable[[], None], np.ndarray]:
    """Return a call that does the same, each time anew, and the array it writes to."""
    check_fit("dense", "x (N, D), w (D, K), b (K)", x, w, b)
    w, K = _spread(w), w.shape[1]
    bias = padded(b, w.shape[1], w.dtype) if b is not None or relu else None
    return _arranged(x, w, (*x.shape, K), x.shape[1], 1, allocator, bias, relu)


def reads_itself(w: np.ndarray) -> bool:
    """Tell whether ``multiplication`` reads w itself, no copy: it sees then whatever becomes of it."""
    return w.flags.carray and w.shape[1] == round_up(w.shape[1])


def _product(a: np.ndarray, b: np.ndarray, sizes: tuple[int, int, int], a_row: int, a_step: int) -> np.ndarray:
    """Return A @ B; see ``_arranged``."""
    call, out = _arranged(a, b, sizes, a_row, a_step)
    call()
    return out


def _arranged(a: np.ndarray, b: np.ndarray, sizes: tuple[int, int, int], a_row: int, a_step: int,
              allocator: Allocator = FRESH, bias: np.ndarray | None = None, relu: bool = False,
              ) -> tuple[Callable[[], None], np.ndarray]:
    """Return a call that computes A @ B, (M, K) @ (K, N), and the array it writes to.

    ``A[m, k]`` is number ``m * a_row + k * a_step`` of a, and b is B, spread. With a ``bias``, that is added to each
    row; with ``relu`` it must be there.
    """
    M, K, N = sizes
    out = allocator.result((M, N), b.dtype)
    rows, columns = BLOCK if M > 1 else VECTOR
    blocks = -(-M // rows) * -(-N // columns)
    parts = allocator.work((seats(blocks), rows * round_up(columns)), b.dtype)
    call = functools.partial(
        share, _multiply, blocks, a.reshape(-1), a_row, a_step, b.reshape(-1), b.shape[1], out.reshape(-1), M, N, K,
        rows, columns, SUMMED, parts, np.empty(0, b.dtype) if bias is None else bias, relu,
        small=M * N * K <= SMALL, rooms=len(parts))
    return call, out


def _spread(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix with columns of zeros up to a multiple of 16."""
    rows, columns = matrix.shape
    if columns == round_up(columns):
        return matrix
    spread = np.zeros((rows, round_up(columns)), matrix.dtype)
    spread[:, :columns] = matrix
    return spread


def _transposed(matrix: np.ndarray) -> np.ndarray:
    """Return a copy of a matrix with rows and columns exchanged, spread."""
    rows, columns = matrix.shape
    out = empty((columns, round_up(rows)), matrix.dtype)
    out[:, rows:] = 0
    share(_transpose, -(-rows // STRIPE), matrix.reshape(-1), rows, columns, out.reshape(-1), STRIPE,
          small=matrix.size <= MOVED)
    return out


@jit
def _multiply(seat, crew, counter, a, a_row, a_step, b, b_row, c, M, N, K, rows, columns, summed, parts, bias, relu):
    """C (M, N) = A (M, K) @ B (K, b_row), block after block taken from ``counter``; ``parts``: room for one a seat."""
    invite(seat, crew)
    a, b, c, part, bias = borrowed((a, b, c, parts[seat], bias))
    across = -(-N // columns)
    block = take(counter, seat)
    while block < -(-M // rows) * across:
        m, n = block // across * rows, block % across * columns
        height, width = min(rows, M - m), min(columns, N - n)
        wide = -(-width // LANES) * LANES
        for k in range(0, max(K, 1), summed):
            first = k == 0
            if first and wide == width:
                product(a, m * a_row, a_row, a_step, ZERO, b, n, b_row, ZERO, c, m * N + n, N, ZERO,
                        height, wide, min(K, summed), ONE, ZERO)
                continue
            product(a, m * a_row + k * a_step, a_row, a_step, ZERO, b, k * b_row + n, b_row, ZERO, part, ZERO, wide,
                    ZERO, height, wide, min(K - k, summed), ONE, ZERO)
            for i in range(height):
                for j in range(width):
                    at = (m + i) * N + n + j
                    c[at] = part[i * wide + j] if first else c[at] + part[i * wide + j]
        if bias.size:
            _finish(c, m * N + n, N, height, width, bias, n, relu)
        block = take(counter, seat)
    dismiss(seat, crew)


@jit
def _transpose(seat, crew, counter, matrix, M, N, out, stripe):
    """out (N, M rounded up) = matrix (M, N) transposed, some rows of the matrix at a time."""
    invite(seat, crew)
    row, block = -(-M // LANES) * LANES, take(counter, seat)
    while block * stripe < M:
        top = block * stripe
        bottom = min(top + stripe, M)
        for n in range(0, N, LANES):
            for m in range(top, bottom, LANES):
                if m + LANES <= bottom and n + LANES <= N:
                    transpose(matrix, m * N + n, N, out, n * row + m, row)
                    continue
                for i in range(m, min(m + LANES, bottom)):
                    for j in range(n, min(n + LANES, N)):
                        out[j * row + i] = matrix[i * N + j]
        block = take(counter, seat)
    dismiss(seat, crew)


@inner
def _finish(c, start, row, height, width, bias, n, relu):
    """Add the bias to a block of C, and cut off below zero, while it is in the cache."""
    zero = broadcast(bias, 0)
    for i in range(height):
        for j in range(0, width, LANES):
            at = start + i * row + j
            v = load_first(c, at, width - j) + load(bias, n + j)
            store_first(c, at, maximum(v, zero) if relu else v, width - j)
