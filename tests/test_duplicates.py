"""Rows that are there twice are found, and no others."""

from __future__ import annotations

import numpy as np

from minicnn.datasets.duplicates import occurring, repeated


def images(rng, n=9):
    return rng.integers(0, 256, (n, 4, 3), dtype=np.uint8)


def test_rows_that_are_there_more_than_once(rng):
    x = images(rng)
    assert repeated(x) == []
    x[[4, 8]], x[5] = x[1], x[0]
    assert repeated(x) == [[0, 5], [1, 4, 8]]
    x[8, 3, 2] ^= 1  # a single bit
    assert repeated(x) == [[0, 5], [1, 4]]
    assert repeated(x.astype(np.float32).transpose(0, 2, 1)) == [[0, 5], [1, 4]]
    x[8] = x[1, ::-1]  # the same pixels in other places
    assert repeated(x) == [[0, 5], [1, 4]]


def test_rows_that_another_set_has_too(rng):
    x, others = images(rng), images(rng, 5)
    assert occurring(others, x).tolist() == []
    others[1], others[4], x[8] = x[3], x[0], x[3]
    assert occurring(others, x).tolist() == [1, 4]
    assert occurring(x, others).tolist() == [0, 3, 8]
    assert occurring(others, x.reshape(9, 3, 4)).tolist() == []  # the same bytes, another image
    assert occurring(others, x.view(np.int8)).tolist() == []
