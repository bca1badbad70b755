"""See reference. The trick: blocks of a fixed size, so that the order of a row's sums never depends on its batch."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import run

ROWS = 64  # images of one product; a smaller rest is filled up with zeros
COLUMNS = 128  # outputs of one product
MIN_WORK = 1 << 20  # multiplications in a block of dw that are worth a chunk


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """See reference."""
    check_fit("dense", "x (N, D), w (D, K), b (K)", x, w, b)
    out = _product(contiguous(x), contiguous(w))
    if b is not None:
        _add_bias(out, contiguous(b))
    return out


def dense_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, need_dx: bool = True,
                   ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """See reference."""
    check_fit("dense_backward", "dout (N, K), x (N, D), w (D, K)", dout, x, w)
    dout, x, w = contiguous(dout), contiguous(x), contiguous(w)
    dx = _product(dout, w.T) if need_dx else None
    dw, db = empty(w.shape, w.dtype), empty(w.shape[1], w.dtype)
    _column_sums(dout, db)
    rows = max(16, MIN_WORK // max(1, dout.size))  # rows of dw in a chunk: the sum over the batch stays whole

    def task(chunk: int) -> None:
        part = slice(chunk * rows, (chunk + 1) * rows)
        with np.errstate(all="ignore"):
            np.matmul(x[:, part].T, dout, out=dw[part])

    run(task, -(-w.shape[0] // rows))
    return dx, dw, db


def _product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return x @ w, (N, D) @ (D, K), from blocks of ROWS rows and COLUMNS columns."""
    N, K = x.shape[0], w.shape[1]
    out = empty((N, K), x.dtype)
    column_blocks = -(-K // COLUMNS)

    def task(chunk: int) -> None:
        n, k = chunk // column_blocks * ROWS, chunk % column_blocks * COLUMNS
        block = out[n:n + ROWS, k:k + COLUMNS]
        rows = x[n:n + ROWS]
        with np.errstate(all="ignore"):
            if rows.shape[0] == ROWS:
                np.matmul(rows, w[:, k:k + COLUMNS], out=block)
                return
            filled, product = empty((ROWS, x.shape[1]), x.dtype), empty((ROWS, block.shape[1]), x.dtype)
            filled[:rows.shape[0]] = rows
            filled[rows.shape[0]:] = 0
            np.matmul(filled, w[:, k:k + COLUMNS], out=product)
            block[...] = product[:rows.shape[0]]

    run(task, -(-N // ROWS) * column_blocks)
    return out


@jit
def _add_bias(rows, b):
    for m in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            rows[m, k] += b[k]


@jit
def _column_sums(rows, total):
    total[:] = 0
    for m in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            total[k] += rows[m, k]
