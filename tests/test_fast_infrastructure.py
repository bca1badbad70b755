"""The ground of the fast kernels: chunks on threads, and memory that is used again."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minicnn
from fast_processes import run
from minicnn.errors import ArgumentError
from minicnn.kernels import fast
from minicnn.kernels.fast import memory, parallel
from minicnn.kernels.threads import get_threads, set_threads

NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")

# --- threads -----------------------------------------------------------------------------------------------------

def test_every_chunk_runs_once_and_the_caller_takes_part(threads: Callable) -> None:
    for number in (1, 2, 3):
        threads(number)
        names: dict[int, str] = {}
        done = []

        def task(chunk: int, done: list = done, names: dict = names) -> None:
            done.append(chunk)
            names[chunk] = threading.current_thread().name
            time.sleep(0.002)

        parallel.run(task, 20)
        assert sorted(done) == list(range(20))
        assert threading.current_thread().name in names.values()
        assert len(set(names.values())) == number


def test_no_chunks_and_one_chunk(threads: Callable) -> None:
    threads(2)
    done: list[str] = []
    parallel.run(lambda chunk: done.append("never"), 0)
    assert done == []
    parallel.run(lambda chunk: done.append(threading.current_thread().name), 1)
    assert done == [threading.current_thread().name]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_exceptions_reach_the_caller_and_the_pool_survives(threads: Callable, number: int) -> None:
    threads(number)
    for bad in (0, 7, 19):
        def task(chunk: int, bad: int = bad) -> None:
            if chunk == bad:
                raise LookupError(f"chunk {chunk}")

        with pytest.raises(LookupError, match=f"chunk {bad}"):
            parallel.run(task, 20)
    done: list[int] = []
    parallel.run(done.append, 20)
    assert sorted(done) == list(range(20))


def test_an_exception_of_a_helper_alone_reaches_the_caller(threads: Callable) -> None:
    threads(2)
    caller, both, raised, done = threading.get_ident(), threading.Barrier(2), threading.Event(), []

    def task(chunk: int) -> None:
        both.wait(60)  # or the caller, on a busy machine, finds nothing left to do
        if threading.get_ident() != caller:
            raised.set()
            raise LookupError(f"chunk {chunk}")
        assert raised.wait(60)
        done.append(chunk)

    with pytest.raises(LookupError, match=r"chunk \d"):
        parallel.run(task, 2)
    assert len(done) == 1


def test_nobody_works_on_after_an_exception(threads: Callable) -> None:
    threads(3)
    caller, running, begun = threading.get_ident(), [], threading.Event()

    def task(chunk: int) -> None:
        if threading.get_ident() == caller:
            begun.wait()
            raise LookupError
        running.append(chunk)
        begun.set()
        time.sleep(0.05)
        running.remove(chunk)

    with pytest.raises(LookupError):
        parallel.run(task, 50)
    assert begun.is_set()
    assert running == []


def test_nested_calls_run_in_the_same_thread(threads: Callable) -> None:
    threads(2)
    wrong, count = [], []

    def outer(chunk: int) -> None:
        here = threading.get_ident()

        def inner(chunk: int) -> None:
            count.append(chunk)
            if threading.get_ident() != here:
                wrong.append(chunk)

        parallel.run(inner, 5)

    parallel.run(outer, 6)
    assert len(count) == 30
    assert not wrong


def test_two_python_threads_at_once(threads: Callable, rng: np.random.Generator) -> None:
    threads(2)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((9, 6, 5, 3), (3, 2, 3, 4)))
    right = fast.conv2d(x, w, None, (1, 1), (0, 0, 0, 0))
    wrong = []

    def train() -> None:
        for _ in range(3 if NO_JIT else 50):
            if fast.conv2d(x, w, None, (1, 1), (0, 0, 0, 0)).tobytes() != right.tobytes():
                wrong.append(1)

    users = [threading.Thread(target=train) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong


@pytest.fixture
def blas_threads() -> Callable[[], list[int]]:
    """Return a function that tells the threads of each BLAS known now; one that others load later is not ours."""
    from threadpoolctl import threadpool_info
    with parallel.single_threaded_blas():  # makes the controller
        ours = {info["filepath"] for info in parallel._blas._controller.info()}
    assert ours
    return lambda: [info["num_threads"] for info in threadpool_info() if info["filepath"] in ours]


def test_blas_has_one_thread_inside_and_its_own_number_afterwards(threads: Callable, blas_threads: Callable) -> None:
    threads(2)
    before, inside = blas_threads(), []
    with parallel.single_threaded_blas():
        parallel.run(lambda chunk: inside.extend(blas_threads()), 3, blas=True)
        inside.extend(blas_threads())  # the end of the inner call must not restore too early
    assert set(inside) <= {1}
    assert blas_threads() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_its_own_threads(tmp_path: Path) -> None:
    program = """
import os, threading, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of fork in a process with threads
from minicnn.kernels.fast import parallel
from minicnn.kernels.threads import set_threads
set_threads(2)
import time
def names():
    found = set()
    def task(chunk):
        found.add(threading.current_thread().name)
        time.sleep(0.005)
    parallel.run(task, 8)
    return len(found)
assert names() == 2
child = []
def fork(chunk):  # fork while the pool is busy and its lock is held
    if chunk == 0:
        child.append(os.fork())
        if child[0] == 0:
            os._exit(40 + names())
parallel.run(fork, 4)
print(os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]), names())
"""
    root = Path(minicnn.__file__).parent.parent
    assert run(root, tmp_path, program, PYTHONWARNINGS=None) == "42 2"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_memory_while_another_thread_was_taking_some(tmp_path: Path) -> None:
    program = """
import os, threading, warnings
warnings.simplefilter("ignore")
import numpy as np
from minicnn.kernels.fast import memory
taken, done = threading.Event(), threading.Event()
def hold():
    with memory._lock:
        taken.set()
        done.wait()
threading.Thread(target=hold, daemon=True).start()
taken.wait()
child = os.fork()
if child == 0:
    worker = threading.Thread(target=lambda: memory.empty(1 << 20, np.uint8), daemon=True)
    worker.start()
    worker.join(20)
    os._exit(7 if worker.is_alive() else 3)
done.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    root = Path(minicnn.__file__).parent.parent
    assert run(root, tmp_path, program, PYTHONWARNINGS=None) == "3"


def test_a_forked_child_gives_blas_its_threads_back(blas_threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a child forked from within a kernel does first: nobody there will leave the block the parent is in."""
    before = blas_threads()
    monkeypatch.setattr(parallel, "_pool", parallel._pool)
    monkeypatch.setattr(parallel, "_blas", parallel._blas)
    pool, blas = parallel._pool, parallel._blas
    blas.enter()
    assert set(blas_threads()) == {1}
    parallel._after_fork()
    assert blas_threads() == before
    assert parallel._pool is not pool
    assert parallel._blas is not blas
    blas.leave()
    assert blas_threads() == before


def test_thread_settings(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (0, -1, 1.5, True, "2", np.True_, np.float32(2), 1025, 10**20):
        with pytest.raises(ArgumentError, match="set_threads got"):
            set_threads(wrong)  # type: ignore[arg-type]
    set_threads(3)
    assert get_threads() == 3
    set_threads(np.int64(2))  # type: ignore[arg-type]
    assert get_threads() == 2
    assert type(get_threads()) is int
    set_threads(None)
    monkeypatch.setenv("MINICNN_THREADS", "5")
    assert get_threads() == 5
    for wrong in ("0", "-2", "two", "1.5", "\N{ARABIC-INDIC DIGIT THREE}", "1025", "9" * 20, "9" * 5000):
        monkeypatch.setenv("MINICNN_THREADS", wrong)
        with pytest.raises(ArgumentError, match="MINICNN_THREADS is"):
            get_threads()
    monkeypatch.delenv("MINICNN_THREADS")
    assert get_threads() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)    # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert get_threads() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert get_threads() == 1


# --- memory ------------------------------------------------------------------------------------------------------

@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    gc.collect()
    memory.release()
    yield
    memory.release()


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_arrays_are_aligned_and_usable(pool: None) -> None:
    for shape in ((), (0, 3), 1, (7,), (3, 5, 2), (301, 17, 3), (1 << 16) + 1):
        for dtype in (np.float32, np.float64, np.int32, np.uint8):
            array = memory.empty(shape, dtype)
            assert array.shape == np.empty(shape).shape
            assert array.dtype == dtype
            assert array.flags.c_contiguous
            assert array.flags.writeable
            assert array.size == 0 or address(array) % 64 == 0
            array[...] = 3
            assert (memory.zeros(shape, dtype) == 0).all()
            assert (array == 3).all()


def test_memory_comes_back_and_is_used_again(pool: None) -> None:
    array = memory.empty((100, 100), np.float32)
    where = address(array)
    assert memory.free_bytes() == 0
    del array
    assert memory.free_bytes() >= 40_000
    again = memory.empty((99, 101), np.float32)  # nearly the same size
    assert address(again) == where
    assert memory.free_bytes() == 0


class Subclass(np.ndarray):
    pass


VIEWS: dict[str, Callable[[np.ndarray], Any]] = {
    "slice": lambda array: array[50:, 3:4],
    "transpose": lambda array: array.T,
    "step": lambda array: array.reshape(-1)[::2],
    "dtype": lambda array: array.view(np.int32),
    "buffer": memoryview,
    "broadcast": lambda array: np.broadcast_to(array, (2, 100, 100)),
    "subclass": lambda array: array.view(Subclass),
}


@pytest.mark.parametrize("name", VIEWS)
def test_memory_is_never_used_again_while_a_view_lives(pool: None, name: str) -> None:
    array = memory.empty((100, 100), np.float32)
    array.fill(1)
    where, view = address(array), VIEWS[name](array)
    del array
    gc.collect()
    others = [memory.empty((100, 100), np.float32) for _ in range(3)]
    assert where not in [address(other) for other in others]
    for other in others:
        other.fill(7)
    assert not (np.asarray(view) == 7).any()
    del view, other, others
    gc.collect()
    assert memory.free_bytes() >= 4 * 40_000


def test_the_pool_is_bounded_and_forgets_the_oldest(pool: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "LIMIT", 1_000_000)
    old = [memory.empty(50_000, np.float32) for _ in range(4)]
    new = [memory.empty(100_000, np.float32) for _ in range(2)]
    del old
    assert 800_000 <= memory.free_bytes() <= 1_000_000
    places = {address(array) for array in new}
    del new
    assert memory.free_bytes() <= 1_000_000
    assert {address(array) for array in [memory.empty(100_000, np.float32) for _ in range(2)]} == places


def test_small_arrays_do_not_enter_the_pool(pool: None) -> None:
    memory.empty(100, np.float32)
    assert memory.free_bytes() == 0


def test_memory_from_many_threads(pool: None) -> None:
    wrong = []

    def use(value: int) -> None:
        for _ in range(200):
            array = memory.empty(5000, np.float32)
            array.fill(value)
            if (array != value).any():
                wrong.append(value)

    users = [threading.Thread(target=use, args=(value,)) for value in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not wrong


def test_read_only_arrays_look_writable_and_are_not_copied() -> None:
    array = np.arange(5.0)
    assert memory.contiguous(array) is array
    array.flags.writeable = False
    alias = memory.contiguous(array)
    assert alias.flags.writeable
    assert address(alias) == address(array)
    del array
    gc.collect()
    assert alias.tolist() == [0, 1, 2, 3, 4]
    strided = np.arange(10.0)[::2]
    assert memory.contiguous(strided).tolist() == [0, 2, 4, 6, 8]
