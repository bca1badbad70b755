"""Chunks of a batch on threads. Who computes a chunk never shows in the result.

A kernel is a single-threaded loop over a chunk; ``run(task, chunks)`` calls ``task(0) ... task(chunks - 1)`` on a
pool of threads. Chunk boundaries depend on the batch only, each chunk writes its own part of the result, and sums over
the batch are kept per chunk and added in chunk order. So every number of threads gives the same bits.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from threadpoolctl import ThreadpoolController

from minicnn.kernels.threads import get_threads

SMALL = 1 << 15  # below this many elements an elementwise kernel is done before a second thread wakes up
ELEMENTWISE_CHUNK = 1 << 16  # elements of one chunk of an elementwise kernel: 256 KiB of float32


def run(task: Callable[[int], Any], chunks: int, blas: bool = False) -> None:
    """Call ``task(chunk)`` for every chunk in ``range(chunks)``, on as many threads as ``get_threads()`` says.

    The calling thread takes part. A call from inside a task, or from a second Python thread while the pool is busy,
    runs in the calling thread alone.

    Parameters
    ----------
    task : callable
        Receives the chunk's number; should spend its time in code that releases the GIL.
    chunks : int
        How many there are.
    blas : bool
        Whether the task multiplies with BLAS, which is then held at one thread, so that its products have the same bits
        too. That takes some microseconds.

    Raises
    ------
    Exception
        The first exception a task raised, after all threads have stopped; chunks not begun are left out.
    """
    threads = min(get_threads(), chunks)
    with single_threaded_blas() if blas else contextlib.nullcontext():
        if threads <= 1 or not _pool.lock.acquire(blocking=False):
            for chunk in range(chunks):
                task(chunk)
            return
        try:
            _run_on_pool(task, chunks, threads)
        finally:
            _pool.lock.release()


def run_elementwise(task: Callable[[int, int], Any], size: int) -> None:
    """Call ``task(start, stop)`` for slices of ``range(size)``; at once and here when there is little to do."""
    if size <= SMALL:
        task(0, size)
        return

    def chunk_task(chunk: int) -> None:
        start = chunk * ELEMENTWISE_CHUNK
        task(start, min(start + ELEMENTWISE_CHUNK, size))

    run(chunk_task, -(-size // ELEMENTWISE_CHUNK))


def run_batch(task: Callable[[int, int], Any], n: int, size: int) -> None:
    """Call ``task(start, stop)`` for slices of n images of ``size`` elements together, each on its own."""
    if size <= SMALL:
        task(0, n)
        return
    chunks = chunk_bounds(n, 64)
    run(lambda chunk: task(*chunks[chunk]), len(chunks))


def chunk_bounds(n: int, most: int = 16) -> list[tuple[int, int]]:
    """Cut ``range(n)`` into at most ``most`` slices of nearly equal length: the same ones for every thread count."""
    chunks = min(n, most)
    return [(n * chunk // chunks, n * (chunk + 1) // chunks) for chunk in range(chunks)]


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold BLAS at one thread. Calls may nest or overlap: the last to leave restores what the first one found."""
    _blas.enter()
    try:
        yield
    finally:
        _blas.leave()


def _run_on_pool(task: Callable[[int], Any], chunks: int, threads: int) -> None:
    counter = _Counter(chunks)

    def work() -> None:
        try:
            while (chunk := counter.next()) is not None:
                task(chunk)
        except BaseException:
            counter.stop()
            raise

    helpers: list[Future] = []
    try:
        # The pool refuses work while the interpreter shuts down; this thread then does it all.
        with contextlib.suppress(RuntimeError):
            executor = _pool.executor(threads - 1)
            helpers.extend(executor.submit(work) for _ in range(threads - 1))
        work()
    finally:
        counter.stop()
        errors = [helper.exception() for helper in helpers]  # waits: nobody may write into arrays after the return
    for error in errors:
        if error is not None:
            raise error


class _Counter:
    """Hands out the numbers 0 ... end - 1, each to one thread."""

    def __init__(self, end: int) -> None:
        self._next, self._end, self._lock = 0, end, threading.Lock()

    def next(self) -> int | None:
        with self._lock:
            if self._next >= self._end:
                return None
            self._next += 1
            return self._next - 1

    def stop(self) -> None:
        with self._lock:
            self._next = self._end


class _Pool:
    """The helper threads, started when first needed and kept. The lock says that they are busy."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._threads = 0

    def executor(self, threads: int) -> ThreadPoolExecutor:
        if self._executor is None or self._threads < threads:
            if self._executor is not None:
                self._executor.shutdown()
            self._executor, self._threads = ThreadPoolExecutor(threads, thread_name_prefix="minicnn"), threads
        return self._executor


class _Blas:
    """Counts who needs BLAS on one thread. The libraries are looked for once, at the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._controller: ThreadpoolController | None = None
        self._limit: Any = None

    def enter(self) -> None:
        with self._lock:
            if self._users == 0:
                if self._controller is None:
                    self._controller = ThreadpoolController().select(user_api="blas")
                self._limit = self._controller.limit(limits=1)
            self._users += 1

    def leave(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                limit, self._limit = self._limit, None
                limit.restore_original_limits()

    def restore(self) -> None:
        """Undo the limit in a forked child, whose other threads are gone."""
        if self._limit is not None:
            self._limit.restore_original_limits()


_pool = _Pool()
_blas = _Blas()


def _after_fork() -> None:
    """Start anew in a forked child: the pool's threads exist in the parent only, and a lock may have been held."""
    global _pool, _blas
    _blas.restore()
    _pool, _blas = _Pool(), _Blas()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
