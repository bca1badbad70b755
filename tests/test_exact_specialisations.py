"""Sizes are run-time arguments of the kernels: the exact sweeps compile some specialisations, not one for each size."""

from __future__ import annotations

import pytest

import bounds_pass

MOST = 40  # in float32; float64 compiles the same once more, which makes 80
EACH = 2  # for some kernels: whole vectors of channels and partial ones


@pytest.mark.no_jit_excluded("nothing is compiled")
def test_the_sweeps_compile_few_specialisations():
    """Counted where no kernel was compiled before, so that it is the same number in every run."""
    counts = bounds_pass.found()["specialisations"]
    assert {kernel.split(".")[0] for kernel in counts} >= {"direct", "im2col", "dense", "max_pool2d", "product", "sums"}
    assert max(counts.values()) <= EACH, counts
    assert sum(counts.values()) <= MOST, counts
