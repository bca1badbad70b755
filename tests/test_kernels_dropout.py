"""Dropout's bits, one by one, and whether they look random."""

from __future__ import annotations

import math

import numpy as np
import pytest

import naive
from kernel_calls import DTYPES, LAYOUTS, call, draw, equal, kernels  # noqa: F401  (a fixture)

KEYS = [0, 1, 2**32, 0xDEADBEEF, 2**63 + 12345678901, 2**64 - 1]


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (5, 37), (1, 1), (18, 1)], ids=str)
def test_dropout_bits(kernels, shape, key, rate):  # noqa: F811
    rng = np.random.default_rng(11)
    for dtype in DTYPES:
        x, dout = draw(rng, shape, dtype), draw(rng, shape, dtype)
        kept = naive.dropout_kept(shape, rate, key)
        factor = dtype(1 / (1 - rate))
        equal(call(kernels.dropout, x, rate, key), np.where(kept, x * factor, 0), dtype)
        equal(call(kernels.dropout_backward, dout, rate, key), np.where(kept, dout * factor, 0), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dropout_counts_elements_not_memory(kernels, layout):  # noqa: F811
    x = draw(np.random.default_rng(12), (4, 3, 5, 2), np.float32)
    equal(call(kernels.dropout, LAYOUTS[layout](x), 0.5, 77), kernels.dropout(x, 0.5, 77), np.float32)


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_dropout_is_as_random_as_it_looks(kernels, rate):  # noqa: F811
    N, D = 40, 500
    ones = np.ones((N, D), np.float32)
    kept = kernels.dropout(ones, rate, 5) > 0
    others = {"next image": np.roll(kept, 1, axis=0), "next element": np.roll(kept, 1, axis=1),
              "next key": kernels.dropout(ones, rate, 6) > 0,
              "upper half of the key": kernels.dropout(ones, rate, 5 + 2**32) > 0}
    bound = 5 / math.sqrt(N * D)  # five deviations
    assert abs(kept.mean() - (1 - rate)) <= bound * math.sqrt(rate * (1 - rate))
    for name, other in others.items():
        assert abs(np.corrcoef(kept.ravel(), other.ravel())[0, 1]) <= bound, name
    assert (abs(kept.mean(axis=0) - (1 - rate)) <= 5 * math.sqrt(rate * (1 - rate) / N)).all()


def test_dropout_of_an_image_does_not_depend_on_the_batch(kernels):  # noqa: F811
    x = draw(np.random.default_rng(13), (9, 3, 4, 2), np.float32)
    equal(kernels.dropout(x[:2], 0.5, 3), kernels.dropout(x, 0.5, 3)[:2], np.float32)
