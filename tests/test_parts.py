"""Parts of an image, which threads share when there are few images: each can be computed without the others."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from minicnn.kernels.fast import crew, direct, winograd
from minicnn.kernels.fast.compile import ZERO
from minicnn.kernels.fast.counter import new_counter
from minicnn.kernels.fast.fused import source_of, target_of

conv2d = importlib.import_module("minicnn.kernels.fast.conv2d")
N, ROWS = 2, {"direct": 2, "winograd": 4}  # of images; of the output in a part


@pytest.mark.parametrize("r", [3, 5])
@pytest.mark.parametrize("algorithm", ROWS)
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("drop", [None, (0.3, 12345)])
def test_a_part_needs_no_other(algorithm, r, pooled, drop, rng):
    """With nothing but NaN in the room a thread works in, as if another thread had done all parts before."""
    x, w = rng.standard_normal((N, 18, 7, 5), np.float32), rng.standard_normal((r, r, 5, 3), np.float32)
    b, pool = rng.standard_normal(3, np.float32), np.ones(3, np.float32) if pooled else None
    g = conv2d.geometry(x.shape, w.shape, (1, 1), (1, 2, 0, 1), algorithm)
    whole, _, _ = conv2d.convolve(g, source_of(x, drop=drop), w, b, pool=pool, training=False)
    kernel, p, _ = conv2d._algorithm(g)
    assert kernel is {"direct": direct, "winograd": winograd}[algorithm]
    weights, units, rows = kernel.kernel(p, w).reshape(-1), kernel.units(p), ROWS[algorithm] // (2 if pooled else 1)
    nothing = conv2d._no_sums(p.FP, np.dtype(np.float32))
    source = source_of(x, drop=drop)
    for part in range(N * units):
        out, work = np.full_like(whole, np.nan), np.full((1, kernel.workspace_size(p)), np.nan, np.float32)
        kernel.forward(ZERO, crew.ALONE, new_counter(1), np.array([part, part + 1]), p, source, weights,
                       target_of(out, b, scale=pool), work, nothing.rooms, nothing.totals)
        expected = np.full_like(whole, np.nan)
        place = part // units, slice(part % units * rows, (part % units + 1) * rows)
        expected[place] = whole[place]
        np.testing.assert_array_equal(out, expected)
    assert not nothing.rooms.any()
    assert not nothing.totals.any()
