"""See reference. The trick: infinity is larger than the size of a finite number, and than no other.

Compiled without any of fastmath's flags: some of them let the compiler assume that there is no NaN.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels.fast.compile import inner, jit
from minicnn.kernels.fast.counter import take
from minicnn.kernels.fast.crew import dismiss, invite
from minicnn.kernels.fast.memory import contiguous
from minicnn.kernels.fast.parallel import share
from minicnn.kernels.fast.simd import LANES, broadcast, load, load_first, maximum, select, total

CHUNK = 1 << 15  # numbers that a thread takes at a time


def all_finite(x: np.ndarray) -> bool:
    """See reference."""
    if x.dtype not in (np.float32, np.float64):  # a layer of the reader's own
        return bool(np.isfinite(x).all())
    flat = contiguous(x).reshape(-1)
    found = np.zeros(-(-flat.size // CHUNK), x.dtype)
    share(_count, found.size, CHUNK, flat, found)
    return not found.any()


@jit(fastmath=set())
def _count(seat, crew, counter, size, x, found):
    """found[chunk] = how many numbers of a chunk are not finite."""
    invite(seat, crew)
    chunk = take(counter, seat)
    while chunk < found.size:
        start, stop = chunk * size, min(chunk * size + size, x.size)
        last, wrong = stop - (stop - start) % LANES, broadcast(x, 0)
        for k in range(start, last, LANES):
            wrong = wrong + _wrong(load(x, k))
        found[chunk] = total(wrong + _wrong(load_first(x, last, stop - last)))
        chunk = take(counter, seat)
    dismiss(seat, crew)


@inner(fastmath=set())
def _wrong(v):
    """1 for each number that is NaN or infinite, 0 for the others."""
    zero = broadcast(v, 0)
    return select(broadcast(v, np.inf) > maximum(v, zero - v), zero, broadcast(v, 1))
