"""See reference. The trick: the micro-kernel of ``product.py``, whose sums never depend on the batch a row is in.

dx multiplies by the transposed kernel, which the micro-kernel would have to copy; BLAS reads it as it is, in blocks of
a fixed size for the same reason.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.checks import check_fit
from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.memory import contiguous, empty
from minicnn.kernels.fast.parallel import run
from minicnn.kernels.fast.product import product
from minicnn.kernels.fast.sums import sum_rows
from minicnn.kernels.fast.vector_type import round_up

ROWS = 64  # images of one product by BLAS; a smaller rest is filled up with zeros
COLUMNS = 128  # outputs of one product by BLAS
BLOCK = (32, 64)  # images and outputs of one task of the micro-kernel
SMALL = 1 << 20  # multiplications that are done before a second thread wakes up
LEAST_ROWS = 16  # of dw, in a chunk
SUMMED = 512  # images whose products are added one after the other: the last of very many would lose digits
MIN_WORK = 1 << 22  # multiplications in a block of dw that are worth a chunk


def dense(x: np.ndarray, w: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """See reference."""
    check_fit("dense", "x (N, D), w (D, K), b (K)", x, w, b)
    out = multiply(contiguous(x), contiguous(w))
    if b is not None:
        _add_bias(out, contiguous(b))
    return out


def dense_backward(dout: np.ndarray, x: np.ndarray, w: np.ndarray, need_dx: bool = True,
                   ) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """See reference."""
    check_fit("dense_backward", "dout (N, K), x (N, D), w (D, K)", dout, x, w)
    dout, x, w = contiguous(dout), contiguous(x), contiguous(w)
    dx = _blas_product(dout, w.T) if need_dx else None
    db = np.empty(w.shape[1])
    sum_rows(dout, 0, len(dout), db)
    return dx, _kernel_gradient(x, dout), db.astype(w.dtype)


def multiply(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return x @ w, (N, D) @ (D, K), both C-contiguous."""
    (N, D), K = x.shape, w.shape[1]
    w = _spread(w)
    KP = w.shape[1]
    out = empty((N, KP), x.dtype)
    rows, columns = BLOCK if N * D * K > SMALL else (max(N, 1), KP)
    across = -(-KP // columns)
    flat, weights, result = x.reshape(-1), w.reshape(-1), out.reshape(-1)

    def task(chunk: int) -> None:
        n, k = chunk // across * rows, chunk % across * columns
        product(flat, n * D, D, 1, 0, weights, k, KP, 0, result, n * KP + k, KP,
                min(rows, N - n), min(columns, KP - k), D, 1, 0)

    run(task, -(-N // rows) * across)
    return out if K == KP else contiguous(out[:, :K])


def _kernel_gradient(x: np.ndarray, dout: np.ndarray) -> np.ndarray:
    """Return x.T @ dout, (D, N) @ (N, K), both C-contiguous; the sum over the batch stays whole."""
    (N, D), K = x.shape, dout.shape[1]
    dout = _spread(dout)
    KP = dout.shape[1]
    dw = empty((D, KP), x.dtype)
    rows = max(LEAST_ROWS, MIN_WORK // max(1, dout.size))  # of dw, in a chunk
    flat, gradient, result = x.reshape(-1), dout.reshape(-1), dw.reshape(-1)

    def task(chunk: int) -> None:
        first, last = chunk * rows, min((chunk + 1) * rows, D)
        product(flat, first, 1, D, 0, gradient, 0, KP, 0, result, first * KP, KP, last - first, KP,
                min(N, SUMMED), 1, 0)
        for n in range(SUMMED, N, SUMMED):
            part = empty((last - first, KP), x.dtype)
            product(flat, n * D + first, 1, D, 0, gradient, n * KP, KP, 0, part.reshape(-1), 0, KP, last - first, KP,
                    min(SUMMED, N - n), 1, 0)
            dw[first:last] += part

    run(task, -(-D // rows))
    return dw if K == KP else contiguous(dw[:, :K])


def _spread(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix with columns of zeros up to a multiple of 16."""
    rows, columns = matrix.shape
    if columns == round_up(columns):
        return matrix
    spread = np.zeros((rows, round_up(columns)), matrix.dtype)
    spread[:, :columns] = matrix
    return spread


def _blas_product(x: np.ndarray, w: np.ndarray) -> np.ndarray:
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

    run(task, -(-N // ROWS) * column_blocks, blas=True)
    return out


@jit
def _add_bias(rows, b):
    for m in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            rows[m, k] += b[k]
