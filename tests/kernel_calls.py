"""How the kernel tests call a kernel: every call also checks what holds for all of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

SETS = ("reference", "fast")
DTYPES = (np.float32, np.float64)


@pytest.fixture(params=SETS)
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    """The two kernel sets, one after the other, imported directly."""
    return importlib.import_module(f"minicnn.kernels.{request.param}")


TINY = {"parallel": {"SMALL": 0, "ELEMENTWISE_CHUNK": 64}, "batch_norm": {"ELEMENTWISE_CHUNK": 64},
        "dense": {"SMALL": 0, "MOVED": 0, "STRIPE": 16, "SUMMED": 7, "BLOCK": (8, 16)}, "im2col": {"TILE_BYTES": 1000},
        "optimizers": {"CHUNK": 64}, "finite": {"CHUNK": 64}, "sums": {"SMALLEST": 8}, "fused": {"CHUNK": 64},
        "conv2d": {"CHUNK_PIXELS": 8}}


@pytest.fixture
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make small arrays go through the pool, in many chunks."""
    for module, values in TINY.items():
        for name, value in values.items():
            monkeypatch.setattr(importlib.import_module(f"minicnn.kernels.fast.{module}"), name, value)


def call(kernel: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call a kernel twice and return the first result.

    Inputs keep their values; results are fresh, C-contiguous, of the inputs' dtype, equal bit for bit between the two
    calls, and the first is still there after the second.
    """
    arrays = [arg for arg in args if isinstance(arg, np.ndarray)]
    before = [array.copy() for array in arrays]
    first = kernel(*args, **options)
    kept = [None if result is None else result.copy() for result in _tuple(first)]
    second = kernel(*args, **options)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy, "an input was modified")
    for one, other, copy in zip(_tuple(first), _tuple(second), kept, strict=True):
        if one is None:
            assert other is None
            continue
        assert one.tobytes() == copy.tobytes(), "the second call changed the first result"
        assert one.tobytes() == other.tobytes(), "the second call gave another result"
        assert one.flags.c_contiguous
        assert not any(np.shares_memory(one, array) for array in (*arrays, other))
    return first


def _tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def equal(actual: np.ndarray, expected: np.ndarray, dtype: Any) -> None:
    """Assert equal values, shapes and dtype: ``expected`` (integers, or exact floats) is converted, ``actual`` not."""
    np.testing.assert_array_equal(actual, expected.astype(dtype), strict=True)


def close(actual: np.ndarray, expected: np.ndarray, dtype: Any, ulps: float) -> None:
    """Assert the dtype, the shape, and an error of at most that many rounding units of the largest entry."""
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    scale = np.abs(expected).max(initial=0)
    error = np.abs(actual.astype(np.float64) - expected).max(initial=0) / (scale or 1)
    assert error <= ulps * np.finfo(dtype).eps, f"error {error / np.finfo(dtype).eps:.1f} units, allowed {ulps}"


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, scale: float = 1.0, around: float = 0.0,
         ) -> np.ndarray:
    """Return normal deviates."""
    return (around + scale * rng.standard_normal(shape)).astype(dtype)


def targets_like(rng: np.random.Generator, N: int, K: int, kind: str, dtype: Any) -> np.ndarray:
    """Return N rows of targets for K classes."""
    one_hot = np.eye(K)[rng.integers(0, K, N)]
    return {"one-hot": one_hot, "smoothed": 0.9 * one_hot + 0.1 / K,
            "any sum": rng.uniform(0, 1, (N, K)) * rng.integers(0, 3, (N, 1))}[kind].astype(dtype)


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "channels first": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -1, 0)), 0, -1),
    "reversed": lambda a: np.flip(np.ascontiguousarray(np.flip(a))),
    "strided": lambda a: _every_second(a),
    "read-only": lambda a: _read_only(a),
}


def _every_second(a: np.ndarray) -> np.ndarray:
    """Return a view on every second entry of each axis; what lies between would spoil any sum."""
    around = np.full([2 * size + 1 for size in a.shape], np.nan if a.dtype.kind == "f" else 99, a.dtype)
    view = around[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def _read_only(a: np.ndarray) -> np.ndarray:
    a = a.copy()
    a.flags.writeable = False
    return a
