"""What the rule of ``algorithm="auto"`` rests on: the same convolution by every algorithm that can do it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import benchmark_algorithms as algorithms
import benchmark_processes
from minicnn.kernels import reference


@pytest.fixture(autouse=True)
def _small(monkeypatch, use_kernels, threads):
    use_kernels("fast")
    monkeypatch.setattr(benchmark_processes, "PAUSE", 0)
    for name, value in {"BATCH": 2, "CALLS": 2}.items():
        monkeypatch.setattr(algorithms, name, value)


def test_every_algorithm_that_can_do_it_is_timed(monkeypatch):
    chosen = [algorithms.Case(3, 4, 5, 6), algorithms.Case(5, 1, 3, 4, first=True),
              algorithms.Case(3, 4, 5, 7, stride=2)]
    monkeypatch.setattr(algorithms, "cases", lambda: iter(chosen))
    found = algorithms.measure(3)
    json.dumps(found)
    assert [(row["title"], row["auto"], list(row["milliseconds"]), row["saved"]) for row in found["rows"]] == [
        ("3x3, 4 to 5 channels, 6x6", "winograd", ["winograd", "direct", "im2col"], 2.25),
        ("5x5, 1 to 3 channels, 4x4, first layer", "direct", ["winograd", "direct", "im2col"], 6.25),
        ("3x3, 4 to 5 channels, 7x7, stride 2", "direct", ["direct", "im2col"], None)]
    assert {len(times) for row in found["rows"] for times in row["milliseconds"].values()} == {6}


@pytest.mark.parametrize("algorithm", algorithms.ALGORITHMS)
def test_what_is_timed_is_the_convolution(algorithm):
    way: Any = algorithms.Way(algorithms.Case(3, 4, 5, 6), algorithm)
    out, dx, dw = way.train()
    x, w, dout = (array.astype(float) for array in (way.x, way.w, way.dout))
    expected = reference.conv2d(x, w, None, (1, 1), (1, 1, 1, 1))
    right = reference.conv2d_backward(dout, x, w, (1, 1), (1, 1, 1, 1))[:2]
    for found, exact in zip((out, dx, dw), (expected, *right), strict=True):
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4)


def test_the_gradient_of_an_input_nobody_wants_is_not_computed():
    assert algorithms.Way(algorithms.Case(3, 4, 5, 6, first=True), "auto").train()[1] is None


def test_the_rows_lie_on_both_sides_of_every_rule():
    """Channels, size of the image, kernel and strides: else the table could not show why the rule is as it is."""
    chosen = {(case.kernel, axis, algorithms.Way(case, "auto").geometry().algorithm)
              for case in algorithms.cases()
              for axis, usual in (("channels", 32), ("side", 28)) if getattr(case, axis) != usual}
    assert chosen == {(kernel, axis, algorithm) for kernel in (3, 5) for axis in ("channels", "side")
                      for algorithm in ("winograd", "direct")}
    others = {algorithms.Way(case, "auto").geometry().algorithm
              for case in algorithms.cases() if case.kernel not in (3, 5) or case.stride > 1}
    assert others == {"direct"}
