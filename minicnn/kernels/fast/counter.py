"""A counter that threads share while they run compiled code: each of them takes the next chunk's number from it.

Entering a kernel from Python costs some ten microseconds, more if it is told much, and only one thread at a time can.
So a kernel is entered once on each thread, and takes chunk after chunk itself:

    chunk = take(counter)
    while chunk < chunks:
        ...
        chunk = take(counter)
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types

from minicnn.kernels.fast.vector_type import lowered


def new_counter() -> np.ndarray:
    """Return a counter at 0."""
    return np.zeros(1, np.int64)


def _type_take(counter: Any) -> Any:
    fits = isinstance(counter, types.Array) and counter.ndim == 1 and counter.dtype == types.int64
    return types.int64 if fits else None


def _emit_take(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
    number = context.make_array(sig.args[0])(context, builder, values[0]).data
    return builder.atomic_rmw("add", number, ir.Constant(ir.IntType(64), 1), "seq_cst")


@lowered(_type_take, _emit_take)
def take(counter):
    """Return the number a counter is at, and count on: no two calls get the same one."""
    with _lock:
        counter[0] += 1
        return int(counter[0]) - 1


_lock = threading.Lock()  # without the compiler
