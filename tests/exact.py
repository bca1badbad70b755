"""The exact sweeps' common part: hundreds of geometries, each judged bit for bit under every condition that may matter.

A sum of products of small whole numbers below 2**24 has no rounding in float32, whatever its order. So both kernel
sets must give just what the int64 loops of naive.py give; only the sign of a zero is left open (``-0.0 == 0.0``).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

from kernel_calls import DTYPES, LAYOUTS, SETS
from minicnn.kernels import fast, reference
from minicnn.kernels.fast import memory, parallel

Arrays = dict[str, np.ndarray]


def _pool_chunks() -> int:
    """Count the slices into which a batch of any size is cut for pooling."""
    slices: list[tuple[int, int]] = []
    parallel.run_batch(lambda *images: slices.append(images), 1 << 20, parallel.SMALL + 1)
    return len(slices)


NO_JIT = bool(numba.config.DISABLE_JIT)
LIMIT = 4  # of the whole numbers drawn
EXACT_BELOW = 1 << 24  # float32 counts without gaps up to here
GARBAGE = 999  # in integer arrays that nobody has written yet; NaN in others
CHUNKS = len(parallel.chunk_bounds(1 << 20)) - 1  # of a batch of any size
POOL_CHUNKS = _pool_chunks()
VECTORS = sorted({memory.ALIGNMENT // np.dtype(dtype).itemsize for dtype in DTYPES})  # numbers in the widest vector
RELATIONS = 5  # four ways in which a geometry can lie near a constant, and the constants as they are


def around(constant: int) -> list[int]:
    """Return sizes at which a loop in steps of the constant goes wrong if it ever does."""
    return [size for size in (constant - 1, constant, constant + 1, 2 * constant + 3) if size > 0]


def near(size: int, relation: int) -> int:
    """Return the constant (>= 1) that makes ``size`` the ``relation``-th of ``around(constant)``."""
    return max(1, (size + 1, size, size - 1, (size - 3) // 2)[relation])


def part(geometries: Iterable[Any], without_jit: int) -> list[Any]:
    """Return them without repetitions; only every ``without_jit``-th if the kernels are plain Python loops."""
    return list(dict.fromkeys(geometries))[::without_jit if NO_JIT else 1]


def groups(name: str, geometries: Sequence[Any], size: int = 200) -> list[Any]:
    """Cut into as many parameters of a test as needed, nearly equal in length and named."""
    count = -(-len(geometries) // size)
    return [pytest.param(geometries[k::count], id=f"{name}-{k + 1}-of-{count}") for k in range(count)]


def integers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(-LIMIT, LIMIT + 1, shape)


def assert_exact(*summands: int) -> None:
    """Refuse a geometry whose sums of that many products (and a bias) might be rounded in float32."""
    assert (max(summands) + 1) * LIMIT**2 < EXACT_BELOW


# --- memory that holds garbage -----------------------------------------------------------------------------------

def garbage(array: np.ndarray) -> np.ndarray:
    array.fill(np.nan if array.dtype.kind == "f" else GARBAGE)
    return array


class _Numpy:
    """NumPy, except that what ``empty`` returns holds garbage."""

    def empty(self, shape: Any, dtype: Any = float) -> np.ndarray:
        return garbage(np.empty(shape, dtype))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def modules(package: Any) -> Iterator[Any]:
    for info in pkgutil.iter_modules(package.__path__):
        yield importlib.import_module(f"{package.__name__}.{info.name}")


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill every array that a kernel gets uninitialised, new or used before, small or large."""
    original = memory.empty
    for module in modules(fast):
        if getattr(module, "empty", None) is original:
            monkeypatch.setattr(module, "empty", lambda shape, dtype: garbage(original(shape, dtype)))
    for module in modules(reference):
        if hasattr(module, "np"):
            monkeypatch.setattr(module, "np", _Numpy())


# --- the judge ---------------------------------------------------------------------------------------------------

class Operation(NamedTuple):
    """What a sweep knows about convolution, pooling or dense."""

    problem: Callable[[Any], tuple[Arrays, Arrays]]  # geometry -> whole-number inputs, and the right results
    run: Callable[[Any, Any, Arrays], Arrays]  # geometry, kernels, arrays -> results
    set_constants: Callable[[Any, int, pytest.MonkeyPatch, Any], None]  # geometry, relation, monkeypatch, dtype
    sets: Collection[str] = SETS  # kernel sets in which there is something to judge


def sweep(operation: Operation, geometries: Iterable[Any], thorough: Collection[Any], threads: Callable[[int], None],
          monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge geometries, every third with three threads, each with constants in one of the relations to it.

    Those in ``thorough``, which lie near constants by themselves, are judged in all relations.
    """
    poison(monkeypatch)
    for turn, geometry in enumerate(geometries):
        threads((1, 1, 3)[turn % 3])
        inputs, expected = operation.problem(geometry)
        for relation in range(RELATIONS) if geometry in thorough else (turn % RELATIONS,):
            # Products this small are slower on several threads of BLAS.
            with monkeypatch.context() as constants, parallel.single_threaded_blas():
                _judge(operation, geometry, relation, turn // RELATIONS + relation, inputs, expected, constants)


def _judge(operation: Operation, geometry: Any, relation: int, turn: int, inputs: Arrays, expected: Arrays,
           constants: pytest.MonkeyPatch) -> None:
    """Compare results with what is expected, for both sets and types, contiguous arrays and one more layout."""
    names = list(LAYOUTS)
    for number, (set_name, dtype) in enumerate((name, dtype) for name in SETS if name in operation.sets
                                           for dtype in DTYPES):
        kernels = importlib.import_module(f"minicnn.kernels.{set_name}")
        if relation < RELATIONS - 1:
            operation.set_constants(geometry, relation, constants, dtype)
        for layout in ("contiguous", names[(turn + number) % len(names)]):
            given = {key: _laid_out(array, dtype, layout) for key, array in inputs.items()}
            where = f"{geometry}, constants {relation}, {set_name}, {np.dtype(dtype).name}, {layout}"
            results = [operation.run(geometry, kernels, given) for _ in range(2)]
            for call, result in zip(("first", "second"), results, strict=True):
                assert result.keys() == expected.keys()
                for key, actual in result.items():
                    _compare(f"{where}: {key} of the {call} call", actual, expected[key], dtype)
            for key, array in given.items():
                assert np.array_equal(array, inputs[key]), f"{where}: {key} was modified"
            _assert_fresh(where, results, given)


def _laid_out(array: np.ndarray, dtype: Any, layout: str) -> np.ndarray:
    array = array.copy() if array.dtype == np.int32 else array.astype(dtype)
    return array if layout == "contiguous" else LAYOUTS[layout](array)


def _compare(where: str, actual: np.ndarray, expected: np.ndarray, dtype: Any) -> None:
    dtype = expected.dtype if expected.dtype == np.int32 else dtype
    assert actual.dtype == dtype, f"{where} is {actual.dtype}"
    assert actual.shape == expected.shape, f"{where} has shape {actual.shape}, expected {expected.shape}"
    assert actual.flags.c_contiguous, f"{where} is not contiguous"
    if not np.array_equal(actual, expected):
        wrong = np.argwhere(actual != expected)
        first = tuple(wrong[0].tolist())
        pytest.fail(f"{where} is wrong at {len(wrong)} of {actual.size} entries; at {first} {actual[first]}, "
                    f"expected {expected[first]}")


def _assert_fresh(where: str, results: Sequence[Arrays], given: Arrays) -> None:
    for key, array in results[0].items():
        for other in (*given.values(), *results[1].values()):
            assert not np.may_share_memory(array, other), f"{where}: {key} is not an array of its own"
