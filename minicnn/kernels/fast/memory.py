"""Aligned arrays whose memory is used again.

A training step makes the same large arrays again and again. Fresh memory from the system costs a page fault for every
4 KiB, and starts 16 bytes past a cache line, so that every vector access touches two lines. ``empty`` takes a block
that was given back instead, and begins it at a cache line. A block comes back when the last array that views it is
gone, never earlier: what a user still holds is never overwritten.
"""

from __future__ import annotations

import collections
import math
import os
import threading
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

ALIGNMENT = 64  # bytes of a cache line, and of an AVX-512 vector
SMALL = 1 << 14  # bytes; smaller arrays come from NumPy's own allocator
LIMIT = 1 << 30  # bytes kept for use again; blocks that come back beyond this push out those not used for longest


def empty(shape: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Return an uninitialised C-contiguous array that starts at a multiple of 64 bytes.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : dtype

    Returns
    -------
    numpy.ndarray
        Freely usable: it, and all views of it, keep the memory as long as they live.
    """
    shape = (shape,) if isinstance(shape, int) else shape
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    raw = _aligned(size) if size < SMALL else np.asarray(_Lease(_take(_block_size(size))))
    return np.ndarray(shape, dtype, raw)


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Like :func:`empty`, filled with zeros."""
    array = empty(shape, dtype)
    array.fill(0)
    return array


def contiguous(x: np.ndarray) -> np.ndarray:
    """Return x, or a copy, as the one array type each kernel is compiled for: C-contiguous, aligned, writable.

    A read-only array is seen through a writable alias, since Numba compiles once more for read-only ones; callers only
    read from it.
    """
    flags = x.flags
    if flags.carray:  # all of it
        return x
    if not (flags.c_contiguous and flags.aligned):
        copy = empty(x.shape, x.dtype)
        copy[...] = x
        return copy
    return np.asarray(_WritableAlias(x))


def padded(vector: np.ndarray | None, size: int, dtype: np.dtype) -> np.ndarray:
    """Return a vector with zeros up to ``size``; all zeros for None; to be read only, it may be the vector itself."""
    if vector is not None and len(vector) == size and vector.dtype == dtype:
        return contiguous(vector)
    out = np.zeros(size, dtype)
    if vector is not None:
        out[:len(vector)] = vector
    return out


class Allocator:
    """Where the arrays of a call come from: each has memory of its own."""

    def result(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Return an uninitialised array for what the call writes."""
        return empty(shape, dtype)

    def work(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Return one that only the call itself needs."""
        return empty(shape, dtype)


FRESH = Allocator()


class InTurns(Allocator):
    """The same for calls that are always made one after the other, each of which reads what the one before wrote.

    Two pieces of memory in turns are then enough for all results, and one for all work; they stay in the cache.
    """

    def __init__(self) -> None:
        self._pieces = collections.deque([np.empty(0, np.uint8)] * 2)
        self._work = np.empty(0, np.uint8)

    def result(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """See Allocator. What it holds is there until the call after the next one."""
        self._pieces.rotate()
        self._pieces[0] = _grown(self._pieces[0], shape, dtype)
        return np.ndarray(shape, dtype, self._pieces[0])

    def work(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """See Allocator."""
        self._work = _grown(self._work, shape, dtype)
        return np.ndarray(shape, dtype, self._work)


def _grown(piece: np.ndarray, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Return a piece of memory that is large enough; calls that have the old one keep it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return piece if piece.size >= size else empty(size, np.uint8)


def free_bytes() -> int:
    """Return how much memory waits to be used again."""
    with _lock:
        _collect()
        return _free_bytes


def release() -> None:
    """Give all memory that is not in use back to the system."""
    global _free_bytes
    with _lock:
        _collect()
        _free.clear()
        _free_bytes = 0


class _WritableAlias:
    """The memory of a read-only array, which it keeps alive, described as writable."""

    __slots__ = ("__array_interface__", "_array")

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


class _Lease:
    """Lends a block to arrays. NumPy keeps it as their base, so it dies with the last of them."""

    __slots__ = ("__array_interface__", "__weakref__")

    def __init__(self, block: np.ndarray) -> None:
        self.__array_interface__: dict[str, Any] = block.__array_interface__
        loan = _Loan(self, _ended.append)
        loan.block = block
        _lent[id(loan)] = loan


class _Loan(weakref.ref):
    """Keeps a block while its lease lives, and is put among the ended loans when that dies.

    By a function written in C: what Python raises in a ``__del__`` of ours is printed and lost, and Ctrl-C with it.
    """

    __slots__ = ("block",)

    block: np.ndarray


def _aligned(size: int) -> np.ndarray:
    """Return so many new bytes, from a cache line on."""
    raw = np.empty(size + ALIGNMENT, np.uint8)
    offset = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[offset:offset + size]


def _block_size(size: int) -> int:
    """Round up so that nearly equal sizes share blocks: eight steps per doubling."""
    step = max(1 << (size.bit_length() - 4), ALIGNMENT)
    return -(-size // step) * step


def _take(size: int) -> np.ndarray:
    global _free_bytes
    with _lock:
        _collect()
        blocks = _free.get(size)
        if blocks:
            _free_bytes -= size
            block = blocks.pop()
            if not blocks:
                _free.pop(size, None)  # a signal handler may have been here
            return block
    return _aligned(size)


def _collect() -> None:
    """Take back the blocks of all loans that have ended; the lock is held."""
    global _free_bytes
    while _ended:
        loan = _ended.popleft()
        _lent.pop(id(loan), None)
        blocks = _free.pop(loan.block.size, [])
        blocks.append(loan.block)
        _free[loan.block.size] = blocks  # last in order: used most recently
        _free_bytes += loan.block.size
    while _free_bytes > LIMIT and _free:
        size, blocks = next(iter(_free.items()))
        if blocks:
            blocks.pop()
            _free_bytes -= size
        if not blocks:
            del _free[size]


_lent: dict[int, _Loan] = {}  # by the identity of the loan
_ended: collections.deque[Any] = collections.deque()
_free: dict[int, list[np.ndarray]] = {}  # block size -> blocks
_free_bytes = 0
_lock = threading.RLock()  # re-entrant: a signal handler may compute, too


def _after_fork() -> None:
    """Give a forked child a lock of its own: another thread of the parent's may have held this one."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
