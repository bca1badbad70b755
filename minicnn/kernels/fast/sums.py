"""Sums over a batch in a fixed order: float64 sums within a chunk, then chunk after chunk."""

from __future__ import annotations

import numpy as np

from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.memory import empty
from minicnn.kernels.fast.parallel import share

SMALLEST = 1 << 11  # elements that are worth a chunk


def add_partials(partials: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Add arrays in order, ((P, S) -> (S,)): each element on its own, so they may be shared among threads."""
    if partials.dtype != dtype:  # few numbers, added in float64
        return partials.sum(axis=0).astype(dtype)
    total = empty(partials.shape[1], dtype)
    step = max(SMALLEST, -(-total.size // 16))
    share(_add_partials, -(-total.size // step), partials, total, step)
    return total


@jit
def sum_rows(rows, start, stop, total):
    """total (C,) float64 = sum of rows[start:stop] (M, C). Eight rows at a time: total is read once for all of them."""
    C = rows.shape[1]
    for c in range(C):
        total[c] = 0
    eights = start + (stop - start) // 8 * 8
    for m in range(start, eights, 8):
        for c in range(C):
            total[c] += (((np.float64(rows[m, c]) + np.float64(rows[m + 1, c]))
                          + (np.float64(rows[m + 2, c]) + np.float64(rows[m + 3, c])))
                         + ((np.float64(rows[m + 4, c]) + np.float64(rows[m + 5, c]))
                            + (np.float64(rows[m + 6, c]) + np.float64(rows[m + 7, c]))))
    for m in range(eights, stop):
        for c in range(C):
            total[c] += np.float64(rows[m, c])


@jit
def _add_partials(seat, crew, counter, partials, total, step):
    invite(seat, crew)
    start = take(counter, seat) * step
    while start < total.size:
        stop = min(start + step, total.size)
        for k in range(start, stop):
            total[k] = 0
        for chunk in range(partials.shape[0]):
            for k in range(start, stop):
                total[k] += partials[chunk, k]
        start = take(counter, seat) * step
    dismiss(seat, crew)
