"""The micro-kernel on whole numbers, without tolerance: every count of rows and of summands, in parts of arrays."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numba
import numpy as np
import pytest

from exact import LIMIT, around, integers
from kernel_calls import DTYPES
from minicnn.kernels.fast import product as module
from minicnn.kernels.fast.product import product
from minicnn.kernels.fast.simd import LANES

UNTOUCHED = 999
MOST = 17 if not numba.config.DISABLE_JIT else 9  # rows


class Case(NamedTuple):
    """C (M, N) = sum over planes of A (M, K) @ B (K, N), or C += it, or a C of its own for each plane if ``apart``.

    ``a_by_columns``: A lies transposed in memory.
    """

    M: int
    N: int
    K: int
    planes: int = 1
    add: bool = False
    a_by_columns: bool = False
    apart: bool = False


def rows_and_depths():
    """All counts of rows with all depths; the other sizes take turns."""
    turns = itertools.cycle(itertools.product((1, 2, 3), (False, True), (False, True), (False, True)))
    for N in range(LANES, 6 * LANES, LANES):
        for M, K in itertools.product(range(1, MOST + 1), (0, 1, 2, 3, 7, 16, 20)):
            yield Case(M, N, K, *next(turns))


def vectors():
    """A single row, which takes many columns at a time."""
    for columns, planes in itertools.product(range(6, 18), (1, 2)):
        yield Case(1, columns * LANES, 7, planes, add=columns % 3 == 0, apart=columns % 2 == 0)


def near_constants():
    """Rows around the tile's and sizes around its columns."""
    for M, columns, planes in itertools.product(around(module.ROWS), around(module.COLUMNS), (1, 2)):
        yield Case(M, -(-columns // LANES) * LANES, 5, planes)


CASES = list(dict.fromkeys([*rows_and_depths(), *vectors(), *near_constants()]))


class Part:
    """A matrix, or several, somewhere in a larger flat array of other numbers."""

    def __init__(self, rng, planes, rows, columns, dtype, transposed=False):
        gaps = [int(gap) for gap in rng.integers(0, 20, 3)]
        first, second = (columns, rows) if transposed else (rows, columns)
        self.start, pitch = gaps[0], second + gaps[1]
        self.plane = first * pitch + gaps[2]
        size = self.start + planes * self.plane
        self.flat = np.full(size, UNTOUCHED, dtype)
        strides = (self.plane, *((1, pitch) if transposed else (pitch, 1)))
        self.row, self.step = strides[1:]
        self.matrices = np.lib.stride_tricks.as_strided(
            self.flat[self.start:], (planes, rows, columns), [stride * self.flat.itemsize for stride in strides])


def overlapping_part(rng, case, dtype):
    """Return A with planes and rows that overlap, as in a convolution: (flat, start, row, step, plane, matrices)."""
    row, step, plane = (int(stride) for stride in rng.integers(1, 6, 3))
    flat = integers(rng, 3 + case.M * row + case.K * step + case.planes * plane).astype(dtype)
    index = (3 + plane * np.arange(case.planes)[:, None, None] + row * np.arange(case.M)[:, None]
             + step * np.arange(case.K))
    return flat, 3, row, step, plane, flat[index]


def judge(rng, case, dtype, overlapping):
    assert (case.K * case.planes + 1) * LIMIT**2 < 1 << 24
    a = Part(rng, case.planes, case.M, case.K, dtype, case.a_by_columns)
    results = case.planes if case.apart else 1
    b, c = (Part(rng, planes, rows, case.N, dtype) for planes, rows in ((case.planes, case.K), (results, case.M)))
    a.matrices[...], b.matrices[...] = integers(rng, *a.matrices.shape), integers(rng, *b.matrices.shape)
    of_a = a.flat, a.start, a.row, a.step, a.plane, a.matrices
    if overlapping:
        of_a = overlapping_part(rng, case, dtype)
    before = integers(rng, results, case.M, case.N)
    c.matrices[...] = before if case.add else np.nan  # what stands there counts only if it is added to
    expected = c.flat.copy()
    at = (c.start + c.plane * np.arange(results)[:, None, None] + c.row * np.arange(case.M)[:, None]
          + np.arange(case.N))
    products = of_a[5] @ b.matrices
    expected[at] = (products if case.apart else products.sum(axis=0)) + (before if case.add else 0)
    kept = of_a[0].copy(), b.flat.copy()
    product(*of_a[:5], b.flat, b.start, b.row, b.plane, c.flat, c.start, c.row,
            c.plane if case.apart else 0, case.M, case.N, case.K, case.planes, int(case.add))
    assert np.array_equal(c.flat, expected), f"{case}, overlapping {overlapping}"
    assert np.array_equal(of_a[0], kept[0])
    assert np.array_equal(b.flat, kept[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("overlapping", [False, True])
def test_product_is_exact_and_writes_nothing_else(dtype, overlapping, rng):
    for case in CASES[::1 if not numba.config.DISABLE_JIT else 7]:
        judge(rng, case, dtype, overlapping)


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_products_of_every_kind(dtype, rng):
    """Every count of rows up to two tiles, in one vector of columns and in three: the last one is half a tile."""
    for M, N, add in itertools.product(range(1, 2 * module.ROWS + 2), (LANES, 3 * LANES), (False, True)):
        judge(rng, Case(M, N, 3, 2, add, bool(M % 2), apart=M % 3 == 0), dtype, overlapping=False)
    for case in vectors():
        judge(rng, case._replace(K=2), dtype, overlapping=False)


def test_the_sum_over_planes_is_one_sum(rng):
    """Two planes of depth K are one of depth 2 K, bit for bit: no partial sum is rounded in between."""
    a, b = rng.standard_normal((5, 14)).astype(np.float32), rng.standard_normal((14, LANES)).astype(np.float32)
    results = []
    for planes in (1, 2, 7):
        c = np.full((5, LANES), UNTOUCHED, np.float32)
        depth = 14 // planes
        product(a.reshape(-1), 0, 14, 1, depth, b.reshape(-1), 0, LANES, depth * LANES, c.reshape(-1), 0, LANES, 0,
                5, LANES, depth, planes, 0)
        results.append(c.tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_has_the_same_bits_in_a_tile_of_any_height(dtype, rng):
    """An image's bits must not depend on how many others are in its group."""
    K, most = 11, 3 * module.ROWS
    a, b = rng.standard_normal((most, K)).astype(dtype), rng.standard_normal((K, 3 * LANES)).astype(dtype)
    rows = set()
    for M in range(1, most + 1):
        c = np.zeros((M, 3 * LANES), dtype)
        product(a[-M:].reshape(-1), 0, K, 1, 0, b.reshape(-1), 0, 3 * LANES, 0, c.reshape(-1), 0, 3 * LANES, 0,
                M, 3 * LANES, K, 1, 0)
        rows.add(c[-1].tobytes())
    assert len(rows) == 1
    wide = np.zeros((1, 9 * LANES), dtype)  # a vector by itself takes more columns at a time
    product(a[-1], 0, K, 1, 0, np.tile(b, 3).reshape(-1), 0, 9 * LANES, 0, wide.reshape(-1), 0, 9 * LANES, 0,
            1, 9 * LANES, K, 1, 0)
    assert {part.tobytes() for part in np.split(wide[0], 3)} == rows
