"""Counters that threads share while they run compiled code: each thread takes the next chunk's number from them.

Entering a kernel from Python costs some ten microseconds, more if it is told much, and only one thread at a time can.
So a kernel is entered once on each thread, and takes chunk after chunk itself:

    chunk = take(counter, seat)
    while chunk < chunks:
        ...
        chunk = take(counter, seat)

Each seat has a part of the chunks, always the same part of the batch, and takes from the others' only when its own is
done. So what a thread has written it reads again itself, from its own cache: a number that another core has written
takes several times as long to read.
"""

from __future__ import annotations

import functools
import threading
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from minicnn.kernels.fast.compile import inner
from minicnn.kernels.fast.vector_type import lowered

APART = 8  # numbers between two seats' counters: a cache line


def new_counter(chunks: int, seats: int = 1) -> np.ndarray:
    """Return counters for so many chunks: of each seat the number of its next chunk, and where its part ends."""
    return _at_the_start(chunks, seats).copy()


@functools.lru_cache(256)
def _at_the_start(chunks: int, seats: int) -> np.ndarray:
    counter = np.zeros((seats, APART), np.int64)
    for seat in range(seats):
        counter[seat, :2] = seat * chunks // seats, (seat + 1) * chunks // seats
    return counter.reshape(-1)


def _type_count(counter: Any, place: Any) -> Any:
    fits = isinstance(counter, types.Array) and counter.ndim == 1 and counter.dtype == types.int64
    return types.int64 if fits and isinstance(place, types.Integer) else None


def _emit_count(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    numbers = context.make_array(sig.args[0])(context, builder, values[0]).data
    place = context.cast(builder, values[1], sig.args[1], types.intp)
    return builder.atomic_rmw("add", builder.gep(numbers, [place]), ir.Constant(ir.IntType(64), 1), "seq_cst")


@lowered(_type_count, _emit_count)
def count(counter, place):
    """Return the number at a place, and count on there: no two calls get the same one."""
    with _lock:
        counter[place] += 1
        return int(counter[place]) - 1


@inner(inline="always")
def take(counter, seat):
    """Return the number of a chunk that nobody has had, of this seat's if there is one; the end when all are taken."""
    for k in range(0, counter.size, APART):
        place = (APART * seat + k) % counter.size
        if counter[place] < counter[place + 1]:
            chunk = count(counter, place)
            if chunk < counter[place + 1]:
                return chunk
    return counter[counter.size - APART + 1]


_lock = threading.Lock()  # without the compiler
