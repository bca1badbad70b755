"""Sizes are run-time arguments of the kernels: the exact sweeps compile some specialisations, not one for each size."""

from __future__ import annotations

import pytest

import exact
import test_exact_conv2d
import test_exact_dense
import test_exact_max_pool2d
from minicnn.kernels import fast

SWEEPS = (test_exact_conv2d, test_exact_dense, test_exact_max_pool2d)
MOST = 100
EACH = 4  # two dtypes, and for some kernels whole vectors of channels and partial ones
EVERY = 30  # geometry of a sweep; in a run of the suite the sweeps have run before, and all they compiled counts
ELSEWHERE = {"activations", "affine_warp", "batch_norm", "dropout", "optimizers", "softmax_cross_entropy",
             "stroke_distance", "winograd", "winograd_transforms"}  # kernels that no sweep calls


def specialisations() -> dict[tuple[str, str], int]:
    """Count the signatures of each kernel the sweeps may call: compiled in this process, or found compiled on disk."""
    counts = {}
    for module in exact.modules(fast):
        file = module.__name__.rsplit(".", 1)[1]
        for name, value in vars(module).items():
            if file not in ELSEWHERE and hasattr(value, "signatures") and value.py_func.__module__ == module.__name__:
                counts[file, name] = len(value.signatures)
    return counts


@pytest.mark.no_jit_excluded("nothing is compiled")
def test_the_sweeps_compile_few_specialisations(threads, monkeypatch):
    for module in SWEEPS:
        for operation in module.OPERATIONS:
            exact.sweep(operation, module.GEOMETRIES[::EVERY], (), threads, monkeypatch)
    counts = specialisations()
    # float32 and float64: what was counted is what ran. Functions within a kernel found on disk have no signature.
    assert {file for (file, _), count in counts.items() if count >= 2} >= {
        "direct", "im2col", "dense", "max_pool2d", "sums"}
    assert max(counts.values()) <= EACH, counts
    assert sum(counts.values()) <= MOST, counts
