"""Average-pooling on whole numbers, without tolerance: a third of the geometries of max-pooling, both kernel sets.

What is divided is a multiple of what it is divided by, so that nothing is rounded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import exact
import naive_jit
from exact import Arrays, Operation, integers
from proof import record
from test_exact_max_pool2d import GEOMETRIES as ALL_GEOMETRIES
from test_exact_max_pool2d import Geometry, set_constants

GEOMETRIES = ALL_GEOMETRIES[::3]
PIXELS = 60 * 60  # divisible by the number of pixels in any window up to 5 x 5, whole or cut off at the border


def problem(geometry: Geometry) -> tuple[Arrays, Arrays]:
    """Return whole-number inputs and what the definition makes of them."""
    image, pool, stride, padding = geometry
    assert max(pool) <= 5
    assert pool[0] * pool[1] * exact.LIMIT * PIXELS < exact.EXACT_BELOW
    rng = np.random.default_rng([*image, *pool, *stride])
    x = integers(rng, *image) * PIXELS
    out = naive_jit.avg_pool2d(x, pool, stride, padding)
    dout = integers(rng, *out.shape) * naive_jit.pixels_inside(image[1:3], pool, stride, padding)[:, :, None]
    dx = naive_jit.avg_pool2d_backward(dout, x.shape, pool, stride, padding)
    return {"x": x, "dout": dout}, {"out": out, "dx": dx}


def run(geometry: Geometry, kernels: Any, arrays: Arrays) -> Arrays:
    """Call forward and backward."""
    return {"out": kernels.avg_pool2d(arrays["x"], *geometry[1:]),
            "dx": kernels.avg_pool2d_backward(arrays["dout"], *geometry)}


OPERATIONS = [Operation(problem, run, set_constants)]


@pytest.mark.parametrize("geometries", exact.groups("geometries", GEOMETRIES))
def test_avg_pool2d(geometries, threads, monkeypatch):
    exact.sweep(OPERATIONS[0], geometries, (), threads, monkeypatch)
    record("pooling geometries", len(geometries))
