"""Chunks of a batch on threads. Who computes a chunk never shows in the result.

A kernel is a single-threaded loop over a chunk; ``run(task, chunks)`` calls ``task(0) ... task(chunks - 1)`` on a
pool of threads. The kernels that matter most take their chunks' numbers themselves, see ``counter.py``, and have help
without Python's doing, see ``crew.py``; ``share(kernel, chunks, ...)`` calls one of those. Chunk boundaries depend on
the batch only, each chunk writes its own part of the result, and sums over the batch are kept per chunk and added in
chunk order. So every number of threads gives the same bits.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
from threadpoolctl import ThreadpoolController

from minicnn.kernels.fast import cores, crew
from minicnn.kernels.fast.compile import ZERO
from minicnn.kernels.fast.counter import new_counter
from minicnn.kernels.threads import MOST, get_threads

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
    counter = _Counter(chunks)

    def work() -> None:
        try:
            while (chunk := counter.next()) is not None:
                task(chunk)
        except BaseException:
            counter.stop()
            raise

    threads, me = min(get_threads(), chunks), object()
    with single_threaded_blas() if blas else contextlib.nullcontext():
        try:
            if threads > 1 and _pool.holder.setdefault(0, me) is me:
                _share_with_helpers(work, threads - 1)
            elif chunks > 0:
                work()
        finally:
            if _pool.holder[0] is me:
                del _pool.holder[0]


def share(kernel: Callable[..., None], chunks: int, *arguments: Any, small: bool = False, rooms: int = MOST) -> None:
    """Call ``kernel(seat, crew, counter, *arguments)``, which lets as many threads help as ``get_threads()`` says.

    Parameters
    ----------
    kernel : callable
        Invites the crew, does chunks until none is left, and dismisses it; see ``crew.py`` and ``counter.py``.
    chunks : int
        How many there are: no more threads than that.
    small : bool
        Whether there is so little to do that nobody need help.
    rooms : int
        For how many seats the arguments have room: another thread may have called ``set_threads`` since they were made.

    Raises
    ------
    IndexError
        Under NUMBA_BOUNDSCHECK, if the kernel left its arrays.
    """
    helpers, me = 0 if small else min(seats(chunks), rooms) - 1, object()
    try:
        if helpers > 0 and _pool.holder.setdefault(0, me) is me:
            arguments = (new_counter(chunks, helpers + 1), *arguments)
            if numba.config.DISABLE_JIT:  # by Python's means
                left, caller = iter(range(1, helpers + 1)), threading.get_ident()
                _share_with_helpers(lambda: kernel(0 if threading.get_ident() == caller else next(left), crew.ALONE,
                                                   *arguments), helpers)
            else:  # pragma: no cover - with the compiler only
                _pool.call(kernel, helpers, arguments)
        elif chunks > 0:
            kernel(ZERO, crew.ALONE, new_counter(chunks), *arguments)
    finally:
        if _pool.holder[0] is me:
            del _pool.holder[0]


def seats(chunks: int) -> int:
    """Return how many threads may work on so many chunks: a kernel's seats are 0 to this, less one."""
    return max(1, min(get_threads(), chunks))


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
    bounds = chunk_bounds(n, 64)
    run(lambda chunk: task(bounds[chunk], bounds[chunk + 1]), len(bounds) - 1)


@functools.lru_cache(1024)
def chunk_bounds(n: int, most: int = 16) -> np.ndarray:
    """Cut ``range(n)`` into at most ``most`` slices of nearly equal length: the same ones for every thread count.

    Returns
    -------
    (chunks + 1,) int64 array
        Where they begin, and the last one ends. To be read only.
    """
    chunks = min(n, most)
    return np.arange(chunks + 1) * n // max(1, chunks)


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold BLAS at one thread. Calls may nest or overlap: the last to leave restores what the first one found."""
    _blas.enter()
    try:
        yield
    finally:
        _blas.leave()


def _share_with_helpers(work: Callable[[], Any], helpers: int) -> None:
    asked: list[_Helper] = []
    error: BaseException | None = None
    try:
        for helper in _pool.helpers(helpers):
            asked.append(helper)
            helper.begin(work)
        work()
    except BaseException as mine:
        error = mine
    while asked:  # also after Ctrl-C: nobody may write into arrays after the return
        try:
            while asked:
                error = asked[-1].wait() or error
                del asked[-1]
        except BaseException as mine:  # Ctrl-C at the beginning of wait: once more
            error = mine
    if error is not None:
        raise error


class _Helper(threading.Thread):
    """A thread that waits for work: in compiled code for kernels, and for Python's at a lock when that was recalled."""

    def __init__(self, seat: int, crew_: np.ndarray) -> None:
        super().__init__(name=f"minicnn_{seat}", daemon=True)
        self._seat, self._crew, self._place = np.int64(seat), crew_, crew.place_of(seat)
        self._error: BaseException | None = None
        self._cores: set[int] = set()  # that it may use when it is awake, while it may not use all of them
        self._handed = False  # whether it was given work that nobody has waited for yet
        self._tasks: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()  # None: kernels may come
        self._end = threading.Lock()  # held from the beginning of work to its end
        self.start()

    def run(self) -> None:
        """Do what comes, for ever."""
        while True:
            work = self._tasks.get()
            if work is None:  # pragma: no cover - with the compiler only
                cores.spread(self._cores)
                self._cores = set()
                crew.serve(self._crew, self._seat, crew.PATIENCE)
                continue
            try:
                work()
            except BaseException as error:
                self._error = error
            del work
            self._crew[self._place] = crew.ASLEEP
            self._end.release()

    def awake(self) -> bool:  # pragma: no cover - with the compiler only
        """See to it that the helper waits for kernels, or soon will; say whether it had to be woken."""
        if asleep := self._crew[self._place] in (crew.ASLEEP, crew.RECALLED):
            self._cores = self._cores or cores.keep_off(self.native_id)
            self._crew[self._place] = crew.WAITING
            self._tasks.put(None)
        return bool(asleep)

    def begin(self, work: Callable[[], Any]) -> None:
        """Have work done; ``wait`` must follow, also if this is interrupted."""
        self._end.acquire(blocking=False)  # it may be held, if this was interrupted before
        self._crew[self._place] = crew.RECALLED
        self._handed = True
        self._tasks.put(work)  # as one step with the line above: Ctrl-C comes before a function or after a call

    def wait(self) -> BaseException | None:
        """Wait for its end, if it has begun; return the exception it raised, or that came to this thread meanwhile."""
        interruption: BaseException | None = None
        while self._handed:
            try:
                with self._end:  # released at once, so that this may be interrupted and done again
                    self._handed = False
            except BaseException as mine:
                interruption = mine
        error, self._error = self._error, None
        return interruption or error


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


class _Holder(dict[int, object]):
    """Which call uses the helpers: the value of the key 0, None if there is none.

    ``holder.setdefault(0, me) is me`` takes them and notes by whom in one step, and ``if holder[0] is me: del
    holder[0]`` gives them back without a call: Ctrl-C, which can come after any call, never leaves them taken.
    """

    def __missing__(self, key: int) -> None:
        return None


class _Pool:
    """The helper threads, started when first needed and kept; the holder says whether they are busy."""

    def __init__(self) -> None:
        self.holder = _Holder()
        self._helpers: list[_Helper] = []
        self._crew = crew.new_crew(MOST)

    def helpers(self, count: int) -> list[_Helper]:
        """Return that many; fewer while the interpreter shuts down, which refuses new threads."""
        with contextlib.suppress(RuntimeError):
            while len(self._helpers) < count:
                self._helpers.append(_Helper(len(self._helpers) + 1, self._crew))
        return self._helpers[:count]

    def call(self, kernel: Callable[..., None], count: int, arguments: tuple[Any, ...],
             ) -> None:  # pragma: no cover - with the compiler only
        """Call a kernel with that many helpers, if they are awake in time."""
        if not self._helpers:
            crew.prepare()
        helpers = self.helpers(count)
        self._crew[crew.HELPERS] = len(helpers)
        if any([helper.awake() for helper in helpers]):
            crew.serve(self._crew, ZERO, crew.ARRIVAL)
        kernel(ZERO, self._crew, *arguments)
        if self._crew[crew.FAILED]:
            self._crew[crew.FAILED] = 0
            raise IndexError(f"{kernel.__name__}: an index outside an array, on a helper thread")


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
