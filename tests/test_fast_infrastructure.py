"""The ground of the fast kernels: the compile cache, threads, memory, and the promise of equal bits."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minicnn
from minicnn.errors import ArgumentError
from minicnn.kernels import fast
from minicnn.kernels.fast import compile as compiling
from minicnn.kernels.fast import memory, parallel
from minicnn.kernels.threads import get_threads, set_threads

NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
needs_jit = pytest.mark.no_jit_excluded("is about what the compiler leaves behind")


# --- the compile cache -------------------------------------------------------------------------------------------

CALLEE = """
from minicnn.kernels.fast.compile import jit

@jit
def callee(x):
    return x + {summand}
"""
CALLER = """
from minicnn.kernels.fast.callee import callee
from minicnn.kernels.fast.compile import jit

@jit
def caller(x):
    return callee(x)
"""
PROGRAM = """
from minicnn.kernels.fast import compile
from minicnn.kernels.fast.caller import caller
before = compile.cold()
value = caller(1)
hits = sum(caller.stats.cache_hits.values()) if hasattr(caller, "stats") else "none"
print(value, "hits", hits, "cold", before, compile.cold())
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package with two more kernels, one calling the other from another file."""
    root = tmp_path / "tree"
    shutil.copytree(Path(minicnn.__file__).parent, root / "minicnn", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "minicnn/__init__.py").write_text("")  # imports faster
    folder = root / "minicnn/kernels/fast"
    (folder / "__init__.py").write_text("")
    (folder / "callee.py").write_text(CALLEE.format(summand=1))
    (folder / "caller.py").write_text(CALLER)
    return root


def start(tree: Path, cache: Path | None, program: str = PROGRAM, **changes: str | None) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error"}
    if cache is not None:
        env["MINICNN_CACHE_DIR"] = str(cache)
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return subprocess.Popen([sys.executable, "-c", program], env=env, cwd=tree, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert errors == ""
    return output.strip()


def run(*args: Any, **changes: Any) -> str:
    return finish(start(*args, **changes))


@needs_jit
def test_edit_of_a_callee_in_another_file_takes_effect(tree: Path, tmp_path: Path) -> None:
    cache, callee = tmp_path / "cache", tree / "minicnn/kernels/fast/callee.py"
    assert run(tree, cache) == "2 hits 0 cold True False"
    assert run(tree, cache) == "2 hits 1 cold False False"
    callee.write_text(CALLEE.format(summand=5))
    assert run(tree, cache) == "6 hits 0 cold True False"
    assert run(tree, cache) == "6 hits 1 cold False False"
    callee.write_text(CALLEE.format(summand=1))
    assert run(tree, cache) == "2 hits 1 cold False False"  # the first folder is still there
    assert len(list((cache / "numba").iterdir())) == 2


@needs_jit
def test_compiled_code_goes_to_our_folder_and_user_functions_to_theirs(tree: Path, tmp_path: Path) -> None:
    cache, theirs = tmp_path / "cache", tmp_path / "theirs"
    (tree / "own.py").write_text("import numba\n@numba.njit(cache=True)\ndef own(x):\n    return x + 1\n")
    before = sorted((tree / "minicnn").rglob("*"))
    run(tree, cache, PROGRAM + "from own import own\nown(1)\n", NUMBA_CACHE_DIR=str(theirs),
        NUMBA_CACHE_LOCATOR_CLASSES=None)
    assert sorted((tree / "minicnn").rglob("*")) == before  # nothing is written into the package
    ours = {path.name.split("-")[0] for path in cache.rglob("*.nbi")}
    assert ours == {"caller.caller"} | ({"callee.callee"} & ours)
    assert [path.name.split("-")[0] for path in theirs.rglob("*.nbi")] == ["own.own"]


@needs_jit
def test_a_damaged_cache_is_compiled_anew(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(tree, cache)
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert run(tree, cache).startswith("2 hits 0")
    assert run(tree, cache) == "2 hits 1 cold False False"


@needs_jit
def test_a_folder_that_cannot_be_made_is_no_error(tree: Path, tmp_path: Path) -> None:
    obstacle = tmp_path / "a file"
    obstacle.write_text("")
    assert run(tree, obstacle / "cache") == "2 hits 0 cold True False"


@needs_jit
@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="file modes do not bind this user")
def test_a_read_only_folder_is_no_error(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o555)
    assert run(tree, cache) == "2 hits 0 cold True False"


def test_a_missing_home_is_no_error(tree: Path, tmp_path: Path) -> None:
    homeless = {"HOME": None, "XDG_CACHE_HOME": str(tmp_path / "unused"), "LOCALAPPDATA": None,
                "MINICNN_CACHE_DIR": None}
    assert run(tree, None, **homeless).startswith("2 ")
    no_home = "import pathlib\ndef home(): raise RuntimeError\npathlib.Path.home = home\n"
    output = run(tree, None, no_home + PROGRAM, **(homeless | {"XDG_CACHE_HOME": None}))
    assert output.startswith("2 hits none" if NO_JIT else "2 hits 0 cold True False")


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MINICNN_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    key = compiling.source_hash()[:20]
    for platform, place in (("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")):
        monkeypatch.setattr(sys, "platform", platform)
        assert compiling._find_cache_folder() == tmp_path / place / "minicnn" / "numba" / key
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert compiling._find_cache_folder() == tmp_path / "xdg" / "minicnn" / "numba" / key
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "own"))
    assert compiling._find_cache_folder() == tmp_path / "own" / "numba" / key


@needs_jit
def test_processes_that_compile_at_once(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = [start(tree, cache) for _ in range(3)]
    assert all(finish(process).startswith("2 ") for process in processes)
    assert run(tree, cache) == "2 hits 1 cold False False"


def test_old_folders_go_and_the_newest_stay(tmp_path: Path) -> None:
    for age in range(8):
        folder = tmp_path / f"age {age}"
        folder.mkdir()
        (folder / "kernel.nbc").write_text("")
        os.utime(folder, (1e9 - age, 1e9 - age))
    compiling.remove_old_folders(tmp_path / "age 7")  # ours, although it is the oldest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["age 0", "age 1", "age 2", "age 7"]


def test_import_compiles_nothing(tmp_path: Path) -> None:
    program = """
import numba, minicnn.kernels.fast
from numba.core.dispatcher import Dispatcher
import sys
kernels = [value for name, module in list(sys.modules.items()) if name.startswith("minicnn.kernels.fast")
           for value in vars(module).values() if isinstance(value, Dispatcher)]
print(len(kernels) > 20, sum(len(kernel.signatures) for kernel in kernels))
"""
    root = Path(minicnn.__file__).parent.parent
    assert run(root, tmp_path, program, NUMBA_DISABLE_JIT="0") == "True 0"
    assert not list(tmp_path.iterdir())


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
    x, w = integers(rng, (9, 6, 5, 3)), integers(rng, (3, 2, 3, 4))
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


def blas_threads() -> list[int]:
    """Return the threads of NumPy's BLAS (a BLAS that others load later is not ours to limit)."""
    from threadpoolctl import threadpool_info
    with parallel.single_threaded_blas():  # makes the controller
        ours = {info["filepath"] for info in parallel._blas._controller.info()}
    return [info["num_threads"] for info in threadpool_info() if info["filepath"] in ours]


def test_blas_has_one_thread_inside_and_its_own_number_afterwards(threads: Callable) -> None:
    threads(2)
    before, inside = blas_threads(), []
    with parallel.single_threaded_blas():
        parallel.run(lambda chunk: inside.extend(blas_threads()), 3)
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


def test_thread_settings(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (0, -1, 1.5, True, "2"):
        with pytest.raises(ArgumentError, match="set_threads got"):
            set_threads(wrong)  # type: ignore[arg-type]
    set_threads(3)
    assert get_threads() == 3
    set_threads(None)
    monkeypatch.setenv("MINICNN_THREADS", "5")
    assert get_threads() == 5
    for wrong in ("0", "-2", "two", "1.5"):
        monkeypatch.setenv("MINICNN_THREADS", wrong)
        with pytest.raises(ArgumentError, match="MINICNN_THREADS is"):
            get_threads()
    monkeypatch.delenv("MINICNN_THREADS")
    assert get_threads() >= 1


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


# --- the same bits for every number of threads -------------------------------------------------------------------

def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(np.float32)


def floats(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _conv(rng: np.random.Generator, N: int, stride: tuple[int, int]) -> tuple[np.ndarray, ...]:
    x, w = floats(rng, (N, 7, 6, 3)), floats(rng, (3, 2, 3, 5))
    return x, w, floats(rng, fast.conv2d(x, w, None, stride, (1, 0, 1, 1)).shape)


def _optimizer(update: Callable, slots: int, *numbers: Any) -> Callable:
    def call(rng: np.random.Generator, N: int) -> tuple[np.ndarray, ...]:
        arrays = [np.abs(floats(rng, (N, 23))) for _ in range(2 + slots)]
        update(*arrays, *numbers)
        return tuple(arrays)
    return call


def _statistics(kernel: Callable) -> Callable:
    def call(rng: np.random.Generator, N: int) -> Any:
        x, gamma = floats(rng, (N, 5, 3, 4)), floats(rng, (4,))
        return kernel(floats(rng, x.shape), x, gamma, floats(rng, (4,)), np.abs(floats(rng, (4,))), 1e-3)
    return call


def _conv_backward(rng: np.random.Generator, N: int, stride: tuple[int, int], need_dx: bool) -> Any:
    x, w, dout = _conv(rng, N, stride)
    return fast.conv2d_backward(dout, x, w, stride, (1, 0, 1, 1), need_dx=need_dx)


def _pool(rng: np.random.Generator, N: int) -> Any:
    geometry = (3, 2), (2, 1), (1, 0, 0, 1)
    x = floats(rng, (N, 7, 6, 3))
    out, winner = fast.max_pool2d(x, *geometry)
    return out, winner, fast.max_pool2d_backward(floats(rng, out.shape), winner, x.shape, *geometry)


def _cross_entropy(rng: np.random.Generator, N: int) -> Any:
    targets = np.abs(floats(rng, (N, 6)))
    losses, probabilities = fast.softmax_cross_entropy(floats(rng, (N, 6)), targets)
    return losses, probabilities, fast.softmax_cross_entropy_backward(probabilities, targets, losses)


CALLS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "conv2d": lambda rng, N: fast.conv2d(*_conv(rng, N, (2, 1))[:2], floats(rng, (5,)), (2, 1), (1, 0, 1, 1)),
    "conv2d_backward, stride 1": lambda rng, N: _conv_backward(rng, N, (1, 1), True),
    "conv2d_backward, stride 2 1": lambda rng, N: _conv_backward(rng, N, (2, 1), True),
    "conv2d_backward, first layer": lambda rng, N: _conv_backward(rng, N, (1, 1), False),
    "dense": lambda rng, N: fast.dense(floats(rng, (N, 33)), floats(rng, (33, 7)), floats(rng, (7,))),
    "dense_backward": lambda rng, N: fast.dense_backward(floats(rng, (N, 7)), floats(rng, (N, 33)),
                                                         floats(rng, (33, 7))),
    "max_pool2d": _pool,
    "batch_norm": lambda rng, N: fast.batch_norm(floats(rng, (N, 5, 3, 4)), floats(rng, (4,)), floats(rng, (4,)), 1e-3),
    "batch_norm_backward": _statistics(fast.batch_norm_backward),
    "batch_norm_inference_backward": _statistics(fast.batch_norm_inference_backward),
    "softmax": lambda rng, N: fast.softmax(floats(rng, (N, 6))),
    "softmax_backward": lambda rng, N: fast.softmax_backward(floats(rng, (N, 6)), floats(rng, (N, 6))),
    "softmax_cross_entropy": _cross_entropy,
    "activations": lambda rng, N: [f(floats(rng, (N, 9, 3))) for f in (fast.relu, fast.sigmoid, fast.tanh)],
    "activations, backward": lambda rng, N: [f(floats(rng, (N, 9, 3)), floats(rng, (N, 9, 3))) for f in (
        fast.relu_backward, fast.sigmoid_backward, fast.tanh_backward)],
    "dropout": lambda rng, N: [f(floats(rng, (N, 9, 3)), 0.3, 12345678901234567890) for f in (
        fast.dropout, fast.dropout_backward)],
    "adam": _optimizer(fast.adam_update, 2, 1e-3, 0.9, 0.999, 1e-7, 3),
    "sgd": _optimizer(fast.sgd_update, 1, 1e-2, 0.9, True),
    "rmsprop": _optimizer(fast.rmsprop_update, 3, 1e-2, 0.9, 0.5, 1.0),
    "affine_warp": lambda rng, N: fast.affine_warp(floats(rng, (N, 5, 4, 2)), floats(rng, (N, 2, 3)), "reflect"),
}


@pytest.fixture
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small arrays go through the pool, in many chunks."""
    for name, value in (("SMALL", 0), ("ELEMENTWISE_CHUNK", 64)):
        for module in ("parallel", "batch_norm"):
            monkeypatch.setattr(importlib.import_module(f"minicnn.kernels.fast.{module}"), name, value, raising=False)
    for name, value in (("MIN_WORK", 0), ("ROWS", 8), ("COLUMNS", 4)):
        monkeypatch.setattr(importlib.import_module("minicnn.kernels.fast.dense"), name, value)
    monkeypatch.setattr(importlib.import_module("minicnn.kernels.fast.conv2d"), "TILE_BYTES", 1000)


def bits(result: Any) -> list[bytes]:
    return [array.tobytes() for array in (result if isinstance(result, (tuple, list)) else [result])
            if array is not None]


def test_all_kernels_are_called() -> None:
    import inspect
    text = inspect.getsource(sys.modules[__name__])
    missing = [name for name in fast.__all__ if f"fast.{name}" not in text and name != "stroke_distance"]  # no sums
    assert not missing


@pytest.mark.parametrize("N", [2, 37])  # fewer images than threads, and a number nothing divides
@pytest.mark.parametrize("name", CALLS)
def test_same_bits_for_every_number_of_threads(name: str, N: int, threads: Callable, tiny_chunks: None,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    results, chunks = [], []
    original = parallel._run_on_pool
    monkeypatch.setattr(parallel, "_run_on_pool", lambda *args: [chunks.append(args[1]), original(*args)])
    for number in (1, 2, 3):
        threads(number)
        results.append(bits(CALLS[name](np.random.default_rng(7), N)))
    assert results[0] == results[1] == results[2]
    assert N == 2 or max(chunks) > 1, "the pool was not used"


# --- one image predicts the same bits alone as in a batch --------------------------------------------------------

def _dense_like_the_recipes(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(3)
    return fast.dense(x.reshape(len(x), -1), floats(rng, (x[0].size, 10)), floats(rng, (10,)))


def _wide_dense(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(4)
    return fast.dense(x.reshape(len(x), -1), floats(rng, (x[0].size, 137)), None)


def _convolution(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(5)
    return fast.conv2d(x, floats(rng, (3, 2, x.shape[3], 7)), floats(rng, (7,)), (2, 1), (1, 1, 0, 1))


def _normalization(x: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(6)
    C = x.shape[-1]
    return fast.batch_norm_inference(x, floats(rng, (C,)), floats(rng, (C,)), floats(rng, (C,)),
                                     np.abs(floats(rng, (C,))), 1e-3)


PREDICTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "dense": _dense_like_the_recipes,
    "wide dense": _wide_dense,
    "conv2d": _convolution,
    "batch_norm_inference": _normalization,
    "max_pool2d": lambda x: fast.max_pool2d(x, (2, 3), (2, 2), (0, 1, 1, 0))[0],
    "relu": fast.relu,
    "sigmoid": fast.sigmoid,
    "tanh": fast.tanh,
    "softmax": fast.softmax,
}


@pytest.mark.parametrize("name", PREDICTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_image_predicts_the_same_alone_as_in_a_batch(name: str, dtype: Any, threads: Callable) -> None:
    threads(2)
    x = np.random.default_rng(1).standard_normal((70 if not NO_JIT else 5, 7, 6, 3)).astype(dtype)
    predict = PREDICTIONS[name]
    together = predict(x)
    for n in range(len(x)):
        assert predict(x[n:n + 1]).tobytes() == together[n:n + 1].tobytes(), f"image {n}"
    assert predict(x[1:4]).tobytes() == together[1:4].tobytes()
    backwards = predict(x[::-1])
    assert backwards[::-1].tobytes() == together.tobytes()
