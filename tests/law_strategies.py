"""What the laws are tried on: drawn geometries and arrays, and the decorator that makes a property of a law.

A law is an equation that must hold between results of a kernel, whatever its input: no second implementation is
needed to see it broken. Hypothesis draws the geometry, which therefore shrinks when a law fails; the entries of the
arrays follow from a drawn seed. Whole numbers, small enough for float32, make sums and products exact.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minicnn.kernels.threads
from minicnn.kernels import fast, reference
from proof import record

NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
NO_JIT_EXAMPLES = 20  # of each law for the fast kernels, which are then Python loops
TOLERANCE = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}
DTYPES = (np.float64, np.float32)

# Limits of the fast kernels at which drawn arrays already make several chunks, blocks and tiles.
CUTS = {"parallel": {"SMALL": 0, "ELEMENTWISE_CHUNK": 8}, "batch_norm": {"ELEMENTWISE_CHUNK": 8},
        "dense": {"SMALL": 0, "MOVED": 0, "STRIPE": 16, "SUMMED": 7, "BLOCK": (8, 16)},
        "im2col": {"TILE_BYTES": 1000, "PARTIAL_ENTRIES": 0}, "conv2d": {"PARTIAL_ENTRIES": 0},
        "fused": {"CHUNK": 8}}

Law = Callable[[ModuleType, Any], None]


def law(strategy: st.SearchStrategy) -> Callable[[Law], Callable[[ModuleType], None]]:
    """Turn ``check(kernels, case)`` into a test for each kernel set, with as many examples as the profile wants.

    A law is recorded, with its examples, once both sets have obeyed it. Without the compiler the fast kernels get the
    first ``NO_JIT_EXAMPLES`` examples only.
    """
    def decorate(check: Law) -> Callable[[ModuleType], None]:
        examples, broken = 0, False
        obeyed: dict[ModuleType, int] = {}

        @functools.wraps(check)
        def once(kernels: ModuleType, case: Any) -> None:
            nonlocal examples, broken
            if examples >= _enough(kernels) and not broken:  # what failed must fail again while it shrinks
                return
            try:
                check(kernels, case)
            except Exception:
                broken = True
                raise
            examples += 1

        tried = given(case=strategy)(once)
        wanted = tried._hypothesis_internal_use_settings.max_examples

        @pytest.mark.parametrize("kernels", [reference, fast], ids=["reference", "fast"])
        @functools.wraps(tried)
        def test(kernels: ModuleType) -> None:
            nonlocal examples, broken
            examples, broken = 0, False
            with small_pieces():
                tried(kernels)
            assert examples >= min(wanted, _enough(kernels)), f"only {examples} examples were tried"
            obeyed[kernels] = examples
            if len(obeyed) == 2:
                record("laws", sum(obeyed.values()))

        return test

    return decorate


@contextlib.contextmanager
def small_pieces(threads: int = 1) -> Iterator[None]:
    """Make the fast kernels cut small arrays into several pieces, and work on so many threads."""
    with pytest.MonkeyPatch.context() as patch:
        for module, limits in CUTS.items():
            for name, value in limits.items():
                patch.setattr(importlib.import_module(f"minicnn.kernels.fast.{module}"), name, value)
        patch.setattr(minicnn.kernels.threads, "_threads", threads)
        yield


def _enough(kernels: ModuleType) -> float:
    return NO_JIT_EXAMPLES if NO_JIT and kernels is fast else float("inf")


# --- cases -------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Case:
    """Numbers to try a law on."""

    seed: int
    dtype: Any
    rng: np.random.Generator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rng", np.random.default_rng(self.seed))

    def integers(self, *shape: int, low: int = -4, high: int = 4) -> np.ndarray:
        """Return whole numbers from low to high."""
        return self.rng.integers(low, high, shape, endpoint=True).astype(self.dtype)

    def normal(self, *shape: int) -> np.ndarray:
        """Return normal deviates."""
        return self.rng.standard_normal(shape).astype(self.dtype)

    def distinct(self, *shape: int) -> np.ndarray:
        """Return whole numbers of which no two are equal."""
        size = int(np.prod(shape))
        return (self.rng.permutation(size) - size // 2).astype(self.dtype).reshape(shape)

    def below(self, limit: int) -> int:
        """Return one whole number, at least 0 and smaller than the limit."""
        return int(self.rng.integers(limit))

    def flags(self, count: int) -> list[bool]:
        """Return that many coin tosses."""
        return [bool(toss) for toss in self.rng.integers(2, size=count)]


class Axis(NamedTuple):
    """One axis of a window operation."""

    window: int
    stride: int
    before: int  # zeros in front of the image
    after: int
    size: int  # of the image

    @property
    def places(self) -> int:
        """How often the window fits."""
        return (self.before + self.size + self.after - self.window) // self.stride + 1


def _axes(most: int) -> Iterable[Axis]:
    """Yield axes whose window, stride and padding are at most so large, the simplest first.

    Strides may exceed the window, padding may exceed it too, and some pixels at the end may be in no window.
    """
    for before, after, stride, window in product(range(most), range(most), range(1, most), range(1, most + 1)):
        for places, rest in product(range(1, 4), range(stride)):
            size = (places - 1) * stride + window + rest - before - after
            if size >= 1:
                yield Axis(window, stride, before, after, size)


AXES = list(_axes(4))
TILED = [axis for axis in AXES if (axis.places - 1) * axis.stride + axis.window
         == axis.before + axis.size + axis.after]  # the last window ends where the padded image ends
VALID = [axis for axis in AXES if axis.before == axis.after == 0]
SIZES = list(product((2, 1, 3), (2, 1, 3), (2, 3, 1, 5)))  # N, C, F


@dataclass(frozen=True)
class Windows(Case):
    """A convolution (C channels to F filters) or a pooling (C channels) of N images."""

    sizes: tuple[int, int, int]
    rows: Axis
    columns: Axis

    @property
    def window(self) -> tuple[int, int]:
        """(KH, KW), or (PH, PW)."""
        return self.rows.window, self.columns.window

    @property
    def geometry(self) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
        """Stride and padding, the last arguments of the kernels."""
        return ((self.rows.stride, self.columns.stride),
                (self.rows.before, self.rows.after, self.columns.before, self.columns.after))

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return self.sizes[0], self.rows.size, self.columns.size, self.sizes[1]

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        """(KH, KW, C, F)."""
        return *self.window, *self.sizes[1:]

    @property
    def out_shape(self) -> tuple[int, int, int, int]:
        """(N, OH, OW, F) of a convolution."""
        return self.sizes[0], self.rows.places, self.columns.places, self.sizes[2]

    @property
    def pooled_shape(self) -> tuple[int, int, int, int]:
        """(N, OH, OW, C) of a pooling."""
        return *self.out_shape[:3], self.sizes[1]


@dataclass(frozen=True)
class Rows(Case):
    """Arrays (N, ...) without windows, and sizes for what else is needed."""

    sizes: tuple[int, ...]


SEEDS = st.integers(0, 2**32 - 1)


def windows(axes: list[Axis] = AXES) -> st.SearchStrategy:
    """Return a strategy for convolutions and poolings along such axes."""
    return st.builds(Windows, SEEDS, st.sampled_from(DTYPES), st.sampled_from(SIZES), st.sampled_from(axes),
                     st.sampled_from(axes))


def rows(*limits: tuple[int, int]) -> st.SearchStrategy:
    """Return a strategy for sizes between the limits (first, last)."""
    sizes = st.tuples(*(st.integers(*limit) for limit in limits))
    return st.builds(Rows, SEEDS, st.sampled_from(DTYPES), sizes)


# --- comparisons -------------------------------------------------------------------------------------------------

def inner(a: np.ndarray, b: np.ndarray) -> float:
    """Return the inner product; of whole numbers, exactly."""
    assert a.shape == b.shape, f"inner product of {a.shape} and {b.shape}"
    return float(np.sum(a.astype(np.float64) * b))


def equal(actual: np.ndarray, expected: np.ndarray) -> None:
    """Assert equal values, shapes and dtype."""
    np.testing.assert_array_equal(actual, expected, strict=True)


def near(actual: Any, expected: Any, scale: float | None = None, dtype: Any = None) -> None:
    """Assert equality up to rounding in the dtype (of ``actual`` unless given), measured by the largest entry."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    scale = max(np.abs(expected).max(initial=0), np.abs(actual).max(initial=0)) if scale is None else scale
    error = np.abs(actual.astype(np.float64) - expected).max(initial=0)
    limit = TOLERANCE[np.dtype(actual.dtype if dtype is None else dtype)] * scale
    assert error <= limit, f"error {error:.3g}, allowed {limit:.3g}"


def same(kernels: ModuleType, actual: np.ndarray, expected: np.ndarray) -> None:
    """Assert that an image's result is that of another batch: to the bit for fast; reference may round otherwise."""
    assert actual.dtype == expected.dtype
    if kernels is fast:
        assert actual.shape == expected.shape
        assert actual.tobytes() == expected.tobytes(), f"error {np.abs(actual - expected).max():.3g}, allowed none"
    else:
        near(actual, expected)
