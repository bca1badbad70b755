"""Dense on whole numbers, without tolerance: more than a hundred sizes, both kernel sets, all gradients."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import exact
import naive_jit
from exact import Arrays, Operation, around, integers, near
from minicnn.kernels.fast import memory, simd
from proof import record

fast_module = importlib.import_module("minicnn.kernels.fast.dense")


class Sizes(NamedTuple):
    """(N, D) @ (D, K)."""

    N: int
    D: int
    K: int


def around_sums() -> Iterator[Sizes]:
    """Each size, over which one of the products sums, around the summands added one after the other."""
    for size in around(fast_module.SUMMED):
        yield from (Sizes(size, 3, 5), Sizes(3, size, 18), Sizes(2, 19, size))


def around_blocks() -> Iterator[Sizes]:
    """Rows and columns of each product's result around its blocks; and around what is transposed at a time."""
    rows, columns = fast_module.BLOCK
    for row, column in itertools.product(around(rows), around(columns)):
        yield from (Sizes(row, 4, column), Sizes(row, column, 3), Sizes(2, row, column))
    for D, K in itertools.product(around(fast_module.STRIPE), around(simd.LANES)):
        yield Sizes(3, D, K)


def all_sizes() -> Iterator[Sizes]:
    """Sizes of one, around vectors and around the constants of the products, and drawn."""
    rng = np.random.default_rng(1)
    for sizes in itertools.product((1, 5), (1, 7), (1, 3)):
        yield Sizes(*sizes)
    constants = (*exact.VECTORS, simd.LANES)
    for size in sorted({size for constant in constants for size in around(constant)}):
        yield from (Sizes(size, 5, 3), Sizes(4, size, 3), Sizes(4, 5, size), Sizes(size, size + 1, size - 1))
    yield from around_sums()
    most = (20, 40, 40) if exact.NO_JIT else (80, 150, 150)  # in plain Python the larger ones take minutes
    for _ in range(80):
        yield Sizes(*(int(size) for size in rng.integers(1, most)))
    yield from around_blocks()


THOROUGH = {*around_sums(), *around_blocks()}
GEOMETRIES = exact.part(all_sizes(), without_jit=5)


def problem(sizes: Sizes) -> tuple[Arrays, Arrays]:
    """Return whole-number inputs and what the definition makes of them."""
    N, D, K = sizes
    exact.assert_exact(*sizes)
    rng = np.random.default_rng(sizes)
    x, w, b, dout = integers(rng, N, D), integers(rng, D, K), integers(rng, K), integers(rng, N, K)
    out, (dx, dw, db) = naive_jit.dense(x, w, b), naive_jit.dense_backward(dout, x, w)
    return {"x": x, "w": w, "b": b, "dout": dout}, {
        "out": out, "dx": dx, "dw": dw, "db": db, "out without b": out - b, "dw without dx": dw, "db without dx": db}


def set_constants(sizes: Sizes, relation: int, monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    """Let the sizes lie just below, at, just above, or beyond twice the constants that are not sizes themselves."""
    N, D, K = sizes
    monkeypatch.setattr(fast_module, "SMALL", near(N * D * K, relation))
    monkeypatch.setattr(fast_module, "MOVED", near(D * K, relation))
    monkeypatch.setattr(memory, "SMALL", max(8, near(N * K * np.dtype(dtype).itemsize, relation)))


def run(_: Sizes, kernels: Any, arrays: Arrays) -> Arrays:
    """Call forward and backward, with all and without what may be left out."""
    x, w, b, dout = (arrays[key] for key in ("x", "w", "b", "dout"))
    dx, dw, db = kernels.dense_backward(dout, x, w)
    no_dx, dw_alone, db_alone = kernels.dense_backward(dout, x, w, need_dx=False)
    assert no_dx is None
    return {"out": kernels.dense(x, w, b), "dx": dx, "dw": dw, "db": db, "out without b": kernels.dense(x, w, None),
            "dw without dx": dw_alone, "db without dx": db_alone}


OPERATIONS = [Operation(problem, run, set_constants)]


@pytest.mark.parametrize("geometries", exact.groups("sizes", GEOMETRIES, 100))
def test_dense(geometries, threads, monkeypatch):
    exact.sweep(OPERATIONS[0], geometries, THOROUGH, threads, monkeypatch)
    record("dense geometries", len(geometries))
