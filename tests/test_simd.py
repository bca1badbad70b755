"""The vector type: every function, compiled and as the plain Python that defines it, on the same numbers."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.errors import TypingError

from kernel_calls import DTYPES
from minicnn.kernels.fast import simd
from minicnn.kernels.fast.compile import FASTMATH, FASTMATH_ORDERED
from minicnn.kernels.fast.simd import LANES

ROOT = Path(__file__).resolve().parents[1]
ORDERED, REORDERED = frozenset(FASTMATH_ORDERED), frozenset(FASTMATH)  # no more flags than a kernel has
COUNTS = [None, *range(LANES + 1), LANES + 5]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-45, 3.0, 1e30]


@functools.cache
def both(function, fastmath=frozenset()):
    """Return the function as it is, and compiled; without the compiler the two are the same."""
    return function, numba.njit(fastmath=set(fastmath))(function)


def numbers(rng, dtype, size=3 * LANES):
    return rng.standard_normal(size).astype(dtype)


def special_pairs(dtype):
    """Return two arrays with every pair of numbers that comparisons treat in a way of its own, padded to vectors."""
    a, b = (array.ravel() for array in np.meshgrid(SPECIAL, SPECIAL))
    room = -len(a) % LANES
    return tuple(np.concatenate([array, np.full(room, 7.0)]).astype(dtype) for array in (a, b))


def same(actual, expected):
    assert actual.dtype == expected.dtype
    assert actual.tobytes() == expected.tobytes(), (actual, expected)


# --- memory ------------------------------------------------------------------------------------------------------

def copy_at(source, i, target, k):
    simd.store(target, k, simd.load(source, i))


def copy_first(source, i, target, k, loaded, stored):
    simd.store_first(target, k, simd.load_first(source, i, loaded), stored)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("i", [0, 1, 5, 31, 32])
def test_load_and_store_sixteen_from_anywhere(dtype, i, rng):
    for function in both(copy_at):
        source, target = numbers(rng, dtype), np.full(3 * LANES, 999, dtype)
        expected = target.copy()
        expected[32 - i:][:LANES] = source[i:][:LANES]
        function(source, i, target, 32 - i)
        same(target, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", COUNTS)
def test_the_first_numbers_alone_are_read_and_written(dtype, stored, rng):
    """Zeros follow those read. The arrays end with the last number, so nothing beyond is touched."""
    for function in both(copy_first):
        for loaded in COUNTS:
            read, wrote = (LANES if count is None else min(count, LANES) for count in (loaded, stored))
            source, target = numbers(rng, dtype, 3 + read), np.full(2 + wrote, 999, dtype)
            expected = target.copy()
            expected[2:] = np.append(source[3:], np.zeros(LANES, dtype))[:wrote]
            function(source, 3, target, 2, loaded, stored)
            same(target, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_follows_the_numbers_written_stays(dtype, rng):
    for function in both(copy_first):
        for count in range(LANES + 1):
            source, target = numbers(rng, dtype), np.full(3 * LANES, 999, dtype)
            function(source, 1, target, 2, LANES, count)
            same(target[2:2 + count], source[1:1 + count])
            assert (target[:2] == 999).all()
            assert (target[2 + count:] == 999).all()


def load_kept(source, target):
    """Load, overwrite the source, store: a vector is a value, not a view."""
    v, w = simd.load(source, 0), simd.load_first(source, 0, 3)
    simd.store(source, 0, simd.broadcast(source, 5))
    simd.store(target, 0, v)
    simd.store(target, LANES, w)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_vector_keeps_its_numbers(dtype, rng):
    for function in both(load_kept):
        source, target = numbers(rng, dtype, LANES), np.empty(2 * LANES, dtype)
        before = source.copy()
        function(source, target)
        same(target[:LANES], before)
        same(target[LANES:], np.append(before[:3], np.zeros(LANES - 3, dtype)))
        assert (source == 5).all()


def prefetch_many(array, places):
    for k in range(places.size):
        simd.prefetch(array, places[k])


@pytest.mark.parametrize("dtype", DTYPES)
def test_prefetch_changes_nothing_and_may_reach_beyond(dtype, rng):
    for function in both(prefetch_many):
        array = numbers(rng, dtype)
        before = array.copy()
        function(array, np.array([0, 47, 48, -1, 1 << 40, -(1 << 40)]))
        same(array, before)
        function(np.empty(0, dtype), np.array([0, 16]))


def broadcasts(array, number, out):
    simd.store(out, 0, simd.broadcast(array, number))
    simd.store(out, LANES, simd.broadcast(simd.load(array, 0), number))
    simd.store(out, 2 * LANES, simd.broadcast(array, 3))


@pytest.mark.parametrize("dtype", DTYPES)
def test_broadcast_rounds_the_number_to_the_dtype(dtype, rng):
    for function in both(broadcasts):
        for number in (0.1, np.float32(-1 / 3), 7):
            out = np.empty(3 * LANES, dtype)
            function(numbers(rng, dtype), number, out)
            same(out, np.repeat(np.array([number, number, 3]).astype(dtype), LANES))


def transposed(source, s, s_row, target, t, t_row):
    simd.transpose(source, s, s_row, target, t, t_row)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("s", "s_row", "t", "t_row"), [(0, 16, 0, 16), (3, 19, 5, 23)])
def test_transpose_exchanges_rows_and_columns(dtype, s, s_row, t, t_row, rng):
    for function in both(transposed):
        source, target = numbers(rng, dtype, s + 15 * s_row + LANES), np.full(t + 15 * t_row + LANES, 999, dtype)
        expected = target.copy()
        for i in range(LANES):
            for j in range(LANES):
                expected[t + j * t_row + i] = source[s + i * s_row + j]
        function(source, s, s_row, target, t, t_row)
        same(target, expected)


# --- arithmetic --------------------------------------------------------------------------------------------------

def arithmetic(a, b, number, out):
    x, y = simd.load(a, 0), simd.load(b, 0)
    simd.store(out, 0, x + y)
    simd.store(out, LANES, x - y)
    simd.store(out, 2 * LANES, x * y)
    simd.store(out, 3 * LANES, x + number)
    simd.store(out, 4 * LANES, number + x)
    simd.store(out, 5 * LANES, x - number)
    simd.store(out, 6 * LANES, number - x)
    simd.store(out, 7 * LANES, x * number)
    simd.store(out, 8 * LANES, number * x)
    simd.store(out, 9 * LANES, x + 0.5)
    simd.store(out, 10 * LANES, 3 - x)
    simd.store(out, 11 * LANES, 2 * x)
    simd.store(out, 12 * LANES, x / y)
    simd.store(out, 13 * LANES, simd.sqrt(x * x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_arithmetic(dtype, rng):
    for function in both(arithmetic, REORDERED):
        a, b, number = numbers(rng, dtype, LANES), numbers(rng, dtype, LANES), dtype(0.3)
        out = np.empty(14 * LANES, dtype)
        function(a, b, number, out)
        same(out.reshape(14, LANES), np.stack([
            a + b, a - b, a * b, a + number, number + a, a - number, number - a, a * number, number * a,
            a + dtype(0.5), dtype(3) - a, dtype(2) * a, a / b, np.sqrt(a * a)]))


def multiply_add(a, b, c, out):
    simd.store(out, 0, simd.fma(simd.load(a, 0), simd.load(b, 0), simd.load(c, 0)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_fma_rounds_once_or_twice(dtype, rng):
    """In float32 both are known exactly: a product of two fits float64, and so does its sum with a small third."""
    for function in both(multiply_add):
        a, b, c = (numbers(rng, dtype, LANES) for _ in range(3))
        out = np.empty(LANES, dtype)
        function(a, b, c, out)
        twice = a * b + c
        once = (a.astype(np.float64) * b + c).astype(dtype)
        if dtype == np.float32:
            assert out.tobytes() in (once.tobytes(), twice.tobytes())
        else:
            np.testing.assert_allclose(out, twice, rtol=0, atol=2 * np.finfo(dtype).eps * np.abs(a * b).max())
        whole = [np.arange(first, first + LANES).astype(dtype) for first in (-7, 3, -100)]
        function(*whole, out)
        same(out, whole[0] * whole[1] + whole[2])


def totals(array, out):
    out[0], out[1] = simd.total(simd.load(array, 0)), simd.total(simd.load(array, 17))


@pytest.mark.parametrize("dtype", DTYPES)
def test_total_adds_halves_to_halves(dtype, rng):
    array = numbers(rng, dtype, 4 * LANES) * dtype(1e3)
    results = []
    for function in both(totals, ORDERED):
        out = np.empty(2, dtype)
        function(array, out)
        results.append(out)
    same(results[1], results[0])
    for out, k in zip(results[0], (0, 17)):
        v = array[k:k + LANES]
        while len(v) > 1:
            v = v[:len(v) // 2] + v[len(v) // 2:]
        assert out == v[0]
    assert simd.total(np.arange(LANES)) == 120


# --- comparison and choice ---------------------------------------------------------------------------------------

def compare(a, b, larger, equal, above_one):
    for k in range(0, a.size, LANES):
        x, y = simd.load(a, k), simd.load(b, k)
        simd.store(larger, k, simd.select(x > y, x, y))
        simd.store(equal, k, simd.select(x == y, simd.broadcast(a, 1), simd.broadcast(a, 0)))
        simd.store(above_one, k, simd.select(x > 1, simd.broadcast(a, 1), simd.broadcast(a, 0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fastmath", [frozenset(), REORDERED])
def test_comparison_with_nan_is_never_true(dtype, fastmath):
    for function in both(compare, fastmath):
        a, b = special_pairs(dtype)
        results = [np.empty_like(a) for _ in range(3)]
        function(a, b, *results)
        for actual, expected in zip(results, (np.where(a > b, a, b), a == b, a > 1)):
            same(actual, expected.astype(dtype))


def extremes(a, b, most, least):
    for k in range(0, a.size, LANES):
        x, y = simd.load(a, k), simd.load(b, k)
        simd.store(most, k, simd.maximum(x, y))
        simd.store(least, k, simd.minimum(x, y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fastmath", [frozenset(), REORDERED])
def test_maximum_and_minimum_give_the_first_where_one_is_nan(dtype, fastmath):
    for function in both(extremes, fastmath):
        a, b = special_pairs(dtype)
        most, least = np.empty_like(a), np.empty_like(a)
        function(a, b, most, least)
        nan = np.isnan(a) | np.isnan(b)
        for actual, numpys in ((most, np.maximum), (least, np.minimum)):
            np.testing.assert_array_equal(actual[nan], a[nan])
            np.testing.assert_array_equal(actual[~nan], numpys(a, b)[~nan])


# --- what is refused ---------------------------------------------------------------------------------------------

def load_only(array, index):
    simd.load(array, index)


def mix_dtypes(a, b):
    return simd.total(simd.load(a, 0) + simd.load(b, 0))


def store_other(a, b):
    simd.store(a, 0, simd.load(b, 0))


def select_by_vector(a, b):
    return simd.total(simd.select(simd.load(a, 0), simd.load(a, 0), simd.load(a, 0)))


def largest_with_number(a, b):
    return simd.total(simd.maximum(simd.load(a, 0), 1.0))


SINGLE, DOUBLE = np.zeros(64, np.float32), np.zeros(64, np.float64)
REFUSED = {
    "transpose to another dtype": (transposed, SINGLE, 0, 16, DOUBLE, 0, 16),
    "load from integers": (load_only, np.zeros(64, np.int32), 0),
    "load from float16": (load_only, np.zeros(64, np.float16), 0),
    "load from two dimensions": (load_only, np.zeros((4, 16), np.float32), 0),
    "load from every second": (load_only, np.zeros(64, np.float32)[::2], 0),
    "load at a float": (load_only, SINGLE, 1.5),
    "load from a number": (load_only, 3.0, 0),
    "add two dtypes": (mix_dtypes, SINGLE, DOUBLE),
    "store another dtype": (store_other, SINGLE, DOUBLE),
    "select by a vector": (select_by_vector, SINGLE, SINGLE),
    "maximum with a number": (largest_with_number, SINGLE, SINGLE),
}


@pytest.mark.no_jit_excluded("types are checked at compile time")
@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_when_compiling(case):
    function, *arguments = REFUSED[case]
    with pytest.raises(TypingError):
        numba.njit(function)(*arguments)


BOUNDS = """
import numpy as np
import test_simd
from numba import njit
array = np.arange(64, dtype=np.float32)
part, room = array[16:48], np.empty(64, np.float32)  # of 32: beyond it the memory is there, so nothing else stops it
for name, function, fine, wrong in (
        ("load", test_simd.copy_at, (part, 16, room, 0), [(part, 17, room, 0), (part, -1, room, 0)]),
        ("store", test_simd.copy_at, (room, 0, part, 16), [(room, 0, part, 17), (room, 0, part, -1)]),
        ("first", test_simd.copy_first, (part, 27, room, 0, 5, 5),
         [(part, 27, room, 0, 6, 5), (part, 27, room, 0, None, 5), (room, 0, part, 27, 6, 6),
          (room, 0, part, 17, 16, None)])):
    compiled = njit(function)
    compiled(*fine)
    for arguments in wrong:
        try:
            compiled(*arguments)
            print(name, "went beyond")
        except IndexError:
            print(name, "refused")
njit(test_simd.prefetch_many)(part, np.array([100, -100]))
"""


@pytest.mark.no_jit_excluded("plain Python has slices, which end where the array ends")
def test_bounds_are_checked_where_numba_is_asked_to(tmp_path):
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    done = subprocess.run([sys.executable, "-c", BOUNDS], cwd=tmp_path, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHONPATH": path, "NUMBA_BOUNDSCHECK": "1",
                                            "MINICNN_CACHE_DIR": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == 2 * ["load refused"] + 2 * ["store refused"] + 4 * ["first refused"]


@pytest.mark.no_jit_excluded("there is one way only")
def test_the_page_of_explanation_compiles():
    """The example of the module's docstring does what it says."""
    lines = simd.__doc__.split("::\n\n", 1)[1].split("\n\nArrays are", 1)[0]
    namespace = {"simd": simd, "jit": numba.njit}
    exec("\n".join(line[4:] for line in lines.splitlines()), namespace)
    x, out = np.arange(32, dtype=np.float32), np.empty(32, np.float32)
    namespace["scale_and_shift"](x, 2.0, 1.0, out)
    np.testing.assert_array_equal(out, 2 * x + 1)
