"""Convolution on whole numbers, without tolerance: more than a thousand geometries, both kernel sets, all gradients."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import exact
import naive
import naive_jit
from exact import Arrays, Operation, around, integers, near
from minicnn.kernels.fast import direct, memory, parallel, product, simd
from minicnn.kernels.geometry import Padding, Pair, window_padding
from proof import record

fast_module, reference_module = (importlib.import_module(f"minicnn.kernels.{name}.conv2d")
                                 for name in ("fast", "reference"))
im2col_module = importlib.import_module("minicnn.kernels.fast.im2col")
# Each of these must be exact on whole numbers; "auto" may choose one that is not.
ALGORITHMS = [name for name in fast_module.ALGORITHMS if name not in ("auto", "winograd")]


class Geometry(NamedTuple):
    """Image (N, H, W, C), kernel (KH, KW), filters, stride (rows, columns), padding (top, bottom, left, right)."""

    image: tuple[int, int, int, int]
    window: Pair
    filters: int
    stride: Pair
    padding: Padding

    @property
    def out_size(self) -> Pair:
        _, H, W, _ = self.image
        top, bottom, left, right = self.padding
        return (naive.places(H, self.window[0], self.stride[0], top, bottom),
                naive.places(W, self.window[1], self.stride[1], left, right))


def corners() -> Iterator[Geometry]:
    """Every combination of sizes of one, strides and paddings; the other sizes are drawn."""
    rng = np.random.default_rng(1)
    for ones, thin, pace, edge in itertools.product(
            itertools.product((True, False), repeat=3), ("", "OH", "OW", "both"),
            ("one", "rows", "columns", "beyond the kernel"), ("valid", "same", "beyond the kernel")):
        N, C, F = (1 if one else int(rng.integers(2, 5)) for one in ones)
        KH, KW = (int(size) for size in rng.permutation(5)[:2] + 1)
        stride = {"one": (1, 1), "rows": (2, 1), "columns": (2, 3), "beyond the kernel": (KH + 1, KW + 2)}[pace]
        H, W = KH + 4 + int(rng.integers(0, 2)), KW + 5 + int(rng.integers(0, 3))
        padding = (KH, KH + 1, KW + 2, KW) if edge == "beyond the kernel" else (0, 0, 0, 0)
        if thin in ("OH", "both"):
            H, stride = KH, (stride[0] + sum(padding[:2]), stride[1])
        if thin in ("OW", "both"):
            W, stride = KW, (stride[0], stride[1] + sum(padding[2:]))
        if edge == "same" and not thin:
            padding = window_padding((H, W), (KH, KW), stride, "same")
        yield Geometry((N, H, W, C), (KH, KW), F, stride, padding)


def around_constants() -> Iterator[Geometry]:
    """Images around the number of chunks, channels and filters around vectors, rows of pixels around both.

    For the micro-kernel, also rows of pixels around its tiles' rows and filters around their columns; and rows of out
    around those whose gradient is read together.
    """
    lanes = sorted({size for vector in (*exact.VECTORS, simd.LANES) for size in around(vector)})
    sizes = [(N, 2, 3) for N in around(exact.CHUNKS)] + [(2, C, 3) for C in lanes] + [(2, 3, F) for F in lanes]
    sizes += [(1, C, F) for C, F in zip(lanes, reversed(lanes), strict=True)]
    for (N, C, F), stride, padding in itertools.product(sizes, [(1, 1), (2, 1)], [(0, 0, 0, 0), (1, 0, 1, 2)]):
        yield Geometry((N, 4, 5, C), (3, 2), F, stride, padding)
    for W, C, stride in itertools.product(lanes, (1, 3), [(1, 1), (1, 2)]):
        yield Geometry((2, 3, W, C), (2, 3), 2, stride, (0, 1, 1, 1))
    for OW, F, stride in itertools.product(around(product.ROWS), around(product.COLUMNS), [(1, 1), (2, 3)]):
        yield Geometry((2, 4, (OW - 1) * stride[1] + 2, 2), (3, 2), F, stride, (1, 0, 0, 0))
    for OH, stride in itertools.product(around(direct.ROWS), [(1, 1), (3, 2)]):
        yield Geometry((2, (OH - 1) * stride[0] + 2, 6, 3), (2, 3), 4, stride, (0, 0, 2, 1))


def drawn(count: int, seed: int) -> Iterator[Geometry]:
    rng = np.random.default_rng(seed)
    while count:
        N, H, W, C, F = (int(size) for size in rng.integers((1, 1, 1, 1, 1), (5, 13, 13, 6, 7)))
        KH, KW, SH, SW = (int(size) for size in rng.integers(1, (7, 7, 6, 6)))
        stride = (1, 1) if count % 2 else (SH, SW)
        before = tuple(int(zeros) for zeros in rng.integers(0, (KH + 2, KH + 2, KW + 2, KW + 2)))
        padding = ((0, 0, 0, 0), window_padding((H, W), (KH, KW), stride, "same"), before, before)[count % 4]
        square = (H == W) + (KH == KW) + (SH == SW)
        if square <= 1 and H + sum(padding[:2]) >= KH and W + sum(padding[2:]) >= KW:
            count -= 1
            yield Geometry((N, H, W, C), (KH, KW), F, stride, padding)


def gathering() -> Iterator[Geometry]:
    """Stride 1 and channels enough for dx to be a convolution itself; padding that allows it, and larger one."""
    rng = np.random.default_rng(4)
    for (KH, KW), C in itertools.product([(2, 3), (3, 2), (1, 4), (4, 1), (3, 3)], (11, 16, 20)):
        for padding in ((0, 0, 0, 0), (KH - 1, 0, 0, KW - 1), (0, KH - 1, KW - 1, 0), (KH, 0, KW - 1, 1)):
            N, H, W, F = (int(size) for size in rng.integers((1, 1, 1, 1), (4, 6, 7, 6)))
            yield Geometry((N, H + KH - 1, W + KW - 1, C), (KH, KW), F, (1, 1), padding)


THOROUGH = set(around_constants())
GEOMETRIES = exact.part([*corners(), *around_constants(), *gathering(), *drawn(700, seed=2)], without_jit=11)


def test_the_algorithms_that_must_be_exact_are_among_them():
    assert {"direct", "im2col"} <= set(ALGORITHMS)


def test_both_ways_to_dx_are_taken_often():
    gathers = [direct.plan(g.image, (*g.window, g.image[3], g.filters), g.out_size, g.stride, g.padding).gathers
               for g in GEOMETRIES]
    assert 0.05 < np.mean(gathers) < 0.5


def test_the_geometries_include_what_goes_wrong():
    """Each kind is more than one in twenty; sizes around the constants are there by construction."""
    H, W, KH, KW, SH, SW, OH, OW = np.array(
        [(*g.image[1:3], *g.window, *g.stride, *g.out_size) for g in GEOMETRIES]).T
    top, bottom, left, right = np.array([g.padding for g in GEOMETRIES]).T
    N, C, F = np.array([(g.image[0], g.image[3], g.filters) for g in GEOMETRIES]).T
    kinds = {
        "N = 1": N == 1, "C = 1": C == 1, "F = 1": F == 1, "OH = 1": OH == 1, "OW = 1": OW == 1, "H != W": H != W,
        "KH != KW": KH != KW, "SH != SW": SH != SW, "stride above kernel": (SH > KH) | (SW > KW),
        "padding >= kernel": (np.maximum(top, bottom) >= KH) & (np.maximum(left, right) >= KW),
        "uneven padding": (top != bottom) & (left != right), "rows left over": (H + top + bottom - KH) % SH > 0,
        "columns left over": (W + left + right - KW) % SW > 0, "one place": OH * OW == 1}
    assert [kind for kind, which in kinds.items() if np.mean(which) < 0.05] == []


def problem(geometry: Geometry) -> tuple[Arrays, Arrays]:
    """Return whole-number inputs and what the definition makes of them."""
    (_, _, _, C), (KH, KW), F = geometry.image, geometry.window, geometry.filters
    out_shape = (geometry.image[0], *geometry.out_size, F)
    exact.assert_exact(KH * KW * C, KH * KW * F, int(np.prod(out_shape[:3])))
    rng = np.random.default_rng([*geometry.image, *geometry.window, F, *geometry.stride])
    x, w, b = integers(rng, *geometry.image), integers(rng, KH, KW, C, F), integers(rng, F)
    dout, places = integers(rng, *out_shape), (geometry.stride, geometry.padding)
    out, dx = naive_jit.conv2d(x, w, b, *places), naive_jit.conv2d_dx(dout, x.shape, w, *places)
    dw, db = naive_jit.conv2d_dw(dout, x, w.shape, *places), naive_jit.conv2d_db(dout)
    return {"x": x, "w": w, "b": b, "dout": dout}, {
        "out": out, "dx": dx, "dw": dw, "db": db, "out without b": out - b, "dw without dx": dw, "db without dx": db}


def set_constants(geometry: Geometry, relation: int, monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    """Let the geometry lie just below, at, just above, or beyond twice each constant of the kernels."""
    (N, H, W, C), (KH, KW), F, (OH, OW) = geometry.image, geometry.window, geometry.filters, geometry.out_size
    weights, itemsize = KH * KW * C * F, np.dtype(dtype).itemsize
    # A tile is cut from the rows of out, or with stride 1 from those of x in the gradients.
    row = (W * KH * KW * F if relation % 2 and geometry.stride == (1, 1) else OW * KH * KW * C) * itemsize
    rows = H if relation % 2 and geometry.stride == (1, 1) else OH
    monkeypatch.setattr(im2col_module, "TILE_BYTES", near(rows, relation) * row)
    monkeypatch.setattr(im2col_module, "PARTIAL_ENTRIES", near(N, relation) * weights)
    of_direct = direct.plan(geometry.image, (KH, KW, C, F), geometry.out_size, geometry.stride, geometry.padding)
    weights_of_direct = direct.turned_kernel(of_direct, np.zeros((KH, KW, C, F))).size  # with what is added to them
    monkeypatch.setattr(fast_module, "PARTIAL_ENTRIES", near(N, relation) * weights_of_direct)
    monkeypatch.setattr(parallel, "ELEMENTWISE_CHUNK", near(weights, relation))
    monkeypatch.setattr(parallel, "SMALL", near(weights, relation) // 2)
    monkeypatch.setattr(memory, "SMALL", max(8, near(weights * itemsize, relation)))
    monkeypatch.setattr(reference_module, "BLOCK_ENTRIES", near(N, relation) * OH * OW * KH * KW * C)


def run(algorithm: str, geometry: Geometry, kernels: Any, arrays: Arrays) -> Arrays:
    """Call forward and backward, with all and without what may be left out."""
    conv2d, conv2d_backward = (functools.partial(kernel, stride=geometry.stride, padding=geometry.padding,
                                                 algorithm=algorithm)
                               for kernel in (kernels.conv2d, kernels.conv2d_backward))
    x, w, b, dout = (arrays[key] for key in ("x", "w", "b", "dout"))
    dx, dw, db = conv2d_backward(dout, x, w)
    no_dx, dw_alone, db_alone = conv2d_backward(dout, x, w, need_dx=False)
    assert no_dx is None
    return {"out": conv2d(x, w, b), "dx": dx, "dw": dw, "db": db, "out without b": conv2d(x, w, None),
            "dw without dx": dw_alone, "db without dx": db_alone}


# The reference set has one algorithm, which is judged once.
OPERATIONS = [Operation(problem, functools.partial(run, algorithm), set_constants, exact.SETS if first else ("fast",))
              for first, algorithm in zip((True, False), ALGORITHMS, strict=True)]


# BLAS may compute with what lies behind an array and throw it away; where that is not a number, NumPy sees the flag.
@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul:RuntimeWarning")
@pytest.mark.parametrize("geometries", exact.groups("geometries", GEOMETRIES))
def test_conv2d(geometries, threads, monkeypatch):
    for operation in OPERATIONS:
        exact.sweep(operation, geometries, THOROUGH, threads, monkeypatch)
    record("conv geometries", len(geometries))
