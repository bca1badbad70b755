"""See reference. The trick: a finite number times 0 is 0, NaN and infinity times 0 are NaN, and NaN stays in a sum.

Compiled without any of fastmath's flags: some of them let the compiler assume that there is no NaN.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.memory import contiguous
from minicnn.kernels.fast.parallel import share
from minicnn.kernels.fast.simd import LANES, broadcast, load, load_first, total

CHUNK = 1 << 15  # numbers that a thread takes at a time


def all_finite(x: np.ndarray) -> bool:
    """See reference."""
    if x.dtype not in (np.float32, np.float64):  # a layer of the reader's own
        return bool(np.isfinite(x).all())
    flat = contiguous(x).reshape(-1)
    sums = np.zeros(-(-flat.size // CHUNK), x.dtype)
    share(_sums_of_zeros, sums.size, CHUNK, flat, sums)
    return not sums.any()  # NaN counts as true


@jit(fastmath=set())
def _sums_of_zeros(seat, crew, counter, size, x, sums):
    """sums[chunk] = the sum of all numbers of a chunk times 0."""
    invite(seat, crew)
    chunk = take(counter, seat)
    while chunk < sums.size:
        start, stop = chunk * size, min(chunk * size + size, x.size)
        zeros = broadcast(x, 0)
        for k in range(start, stop - LANES + 1, LANES):
            zeros = zeros + load(x, k) * 0
        last = stop - (stop - start) % LANES
        sums[chunk] = total(zeros + load_first(x, last, stop - last) * 0)
        chunk = take(counter, seat)
    dismiss(seat, crew)
