"""Max-pooling on whole numbers, without tolerance: hundreds of geometries, both kernel sets, winners and gradient.

Few different values, so ties are everywhere and the first of them must win.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import exact
import naive_jit
from exact import Arrays, Operation, around, integers, near
from minicnn.kernels.fast import memory, parallel
from minicnn.kernels.geometry import Padding, Pair, window_padding
from proof import record


class Geometry(NamedTuple):
    """Image (N, H, W, C), pool (PH, PW), stride (rows, columns), padding (top, bottom, left, right)."""

    image: tuple[int, int, int, int]
    pool: Pair
    stride: Pair
    padding: Padding


def corners() -> Iterator[Geometry]:
    """Every combination of sizes of one, strides and paddings; the other sizes are drawn."""
    rng = np.random.default_rng(1)
    for ones, thin, pace, edge in itertools.product(
            itertools.product((True, False), repeat=2), ("", "OH", "OW", "both"),
            ("one", "tiles", "rows", "beyond the pool"), ("valid", "same", "beyond the pool")):
        N, C = (1 if one else int(rng.integers(2, 6)) for one in ones)
        PH, PW = (int(size) for size in rng.permutation(5)[:2] + 1)
        stride = {"one": (1, 1), "tiles": (PH, PW), "rows": (2, 1), "beyond the pool": (PH + 1, PW + 2)}[pace]
        H, W = PH + 4 + int(rng.integers(0, 2)), PW + 5 + int(rng.integers(0, 3))
        padding = (PH, PH + 1, PW + 2, PW) if edge == "beyond the pool" else (0, 0, 0, 0)
        if thin in ("OH", "both"):
            H, stride = PH, (stride[0] + sum(padding[:2]), stride[1])
        if thin in ("OW", "both"):
            W, stride = PW, (stride[0], stride[1] + sum(padding[2:]))
        if edge == "same" and not thin:
            padding = window_padding((H, W), (PH, PW), stride, "same")
        yield Geometry((N, H, W, C), (PH, PW), stride, padding)


def around_constants() -> Iterator[Geometry]:
    """Images around the number of chunks, channels around vectors, whole arrays around the size that gets chunks."""
    lanes = sorted({size for vector in exact.VECTORS for size in around(vector)})
    for (N, C), stride in itertools.product([(N, 2) for N in around(exact.POOL_CHUNKS)] + [(3, C) for C in lanes],
                                            [(2, 3), (1, 2)]):
        yield Geometry((N, 5, 6, C), (2, 3), stride, (1, 0, 0, 1))
    for size in around(parallel.SMALL):
        factor = max(f for f in range(1, 200) if size % f == 0)
        yield Geometry((factor, 1, size // factor, 1), (1, 2), (1, 3), (0, 0, 0, 0))
        yield Geometry((3, size // 9, 3, 1), (3, 2), (2, 1), (0, 0, 1, 0))  # a little less, in three images


def drawn(count: int, seed: int) -> Iterator[Geometry]:
    rng = np.random.default_rng(seed)
    while count:
        N, H, W, C, PH, PW, SH, SW = (int(n) for n in rng.integers(1, (5, 13, 13, 7, 6, 6, 6, 6)))
        stride = (PH, PW) if count % 2 else (SH, SW)
        each = tuple(int(zeros) for zeros in rng.integers(0, (PH + 2, PH + 2, PW + 2, PW + 2)))
        padding = ((0, 0, 0, 0), window_padding((H, W), (PH, PW), stride, "same"), each)[count % 3]
        square = (H == W) + (PH == PW)
        if not square and H + sum(padding[:2]) >= PH and W + sum(padding[2:]) >= PW:
            count -= 1
            yield Geometry((N, H, W, C), (PH, PW), stride, padding)


THOROUGH = set(around_constants())
GEOMETRIES = exact.part([*corners(), *around_constants(), *drawn(250, seed=2)], without_jit=11)


def problem(geometry: Geometry) -> tuple[Arrays, Arrays]:
    """Return whole-number inputs and what the definition makes of them."""
    image, pool, stride, padding = geometry
    exact.assert_exact(pool[0] * pool[1])
    rng = np.random.default_rng([*image, *pool, *stride])
    x = integers(rng, *image)
    out, winner = naive_jit.max_pool2d(x, pool, stride, padding)
    dout = integers(rng, *out.shape)
    dx = naive_jit.max_pool2d_backward(dout, winner, x.shape, pool, stride, padding)
    return {"x": x, "dout": dout, "winner": winner}, {"out": out, "winner": winner, "dx": dx}


def set_constants(geometry: Geometry, relation: int, monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    """Let the geometry lie just below, at, just above, or beyond twice each constant of the kernels."""
    size = int(np.prod(geometry.image))
    monkeypatch.setattr(parallel, "SMALL", near(size, relation))
    monkeypatch.setattr(memory, "SMALL", max(8, near(size * np.dtype(dtype).itemsize, relation)))


def run(geometry: Geometry, kernels: Any, arrays: Arrays) -> Arrays:
    """Call forward, and backward with the right winners."""
    out, winner = kernels.max_pool2d(arrays["x"], *geometry[1:])
    dx = kernels.max_pool2d_backward(arrays["dout"], arrays["winner"], *geometry)
    return {"out": out, "winner": winner, "dx": dx}


OPERATIONS = [Operation(problem, run, set_constants)]


@pytest.mark.parametrize("geometries", exact.groups("geometries", GEOMETRIES))
def test_max_pool2d(geometries, threads, monkeypatch):
    exact.sweep(OPERATIONS[0], geometries, THOROUGH, threads, monkeypatch)
    record("pooling geometries", len(geometries))


def test_the_geometries_include_what_goes_wrong():
    """Each kind is more than one in twenty; sizes around the constants are there by construction."""
    N, H, W, C, PH, PW, SH, SW, top, bottom, left, right = np.array([sum(g, ()) for g in GEOMETRIES]).T
    OH, OW = (H + top + bottom - PH) // SH + 1, (W + left + right - PW) // SW + 1
    kinds = {
        "N = 1": N == 1, "C = 1": C == 1, "OH = 1": OH == 1, "OW = 1": OW == 1, "H != W": H != W,
        "PH != PW": PH != PW, "SH != SW": SH != SW, "overlapping": (SH < PH) & (SW < PW),
        "stride above pool": (SH > PH) | (SW > PW), "tiles": (SH == PH) & (SW == PW),
        "padding >= pool": (np.maximum(top, bottom) >= PH) & (np.maximum(left, right) >= PW),
        "uneven padding": (top != bottom) & (left != right), "rows left over": (H + top + bottom - PH) % SH > 0,
        "columns left over": (W + left + right - PW) % SW > 0}
    assert [kind for kind, which in kinds.items() if np.mean(which) < 0.05] == []
