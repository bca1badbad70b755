"""A process in which compiled kernels check every index: what runs there, and what it found.

It compiles with NUMBA_BOUNDSCHECK=1 into a cache of its own, since the key of the cache leaves that out; so it always
begins without a compiled kernel, and what it compiles can be counted. Nothing is optimised: that takes half the time
and changes no index.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import exact
import test_exact_conv2d
import test_exact_dense
import test_exact_max_pool2d
from kernel_calls import targets_like
from minicnn.kernels import fast
from minicnn.kernels.fast.compile import jit
from minicnn.kernels.fast.product import product
from minicnn.kernels.geometry import window_padding
from minicnn.kernels.threads import set_threads
from plan_networks import draw_small, fusible

ROOT = Path(__file__).resolve().parents[1]
SWEEPS = (test_exact_conv2d, test_exact_dense, test_exact_max_pool2d)
EVERY = 40  # geometry of a sweep
WIDTHS = (3, 16, 37)  # channels or classes: less than a vector, one, and two and a part
FUSED = ("direct", "winograd")


@functools.cache
def found() -> dict[str, Any]:
    """Run the process, once, and return the results of the functions below by their name."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([sys.executable, __file__], cwd=folder, capture_output=True, text=True, check=False,
                              env=os.environ | {"PYTHONPATH": path, "NUMBA_BOUNDSCHECK": "1", "NUMBA_OPT": "0",
                                                "MINICNN_CACHE_DIR": folder})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- the exact sweeps --------------------------------------------------------------------------------------------

def geometries() -> dict[str, int]:
    """Judge a part of each exact sweep; return how many geometries, all in float32."""
    exact.DTYPES, exact.SETS = (np.float32,), ("fast",)
    counts = {}
    for module in SWEEPS:
        some = module.GEOMETRIES[::EVERY]
        for operation in module.OPERATIONS:
            with pytest.MonkeyPatch.context() as monkeypatch:
                exact.sweep(operation, some, (), set_threads, monkeypatch)
        counts[module.__name__] = len(some)
    return counts


def specialisations() -> dict[str, int]:
    """Return how often each kernel has been compiled, such as {"dense._finish": 1}; those not at all are left out.

    Here functions within a kernel count as well: in a process that finds a kernel compiled on disk they do not.
    """
    return {f"{module.__name__.rsplit('.', 1)[1]}.{name}": len(value.signatures)
            for module in exact.modules(fast) for name, value in vars(module).items()
            if getattr(value, "signatures", ()) and value.py_func.__module__ == module.__name__}


# --- every kernel, and fused blocks ------------------------------------------------------------------------------

def every_kernel() -> list[str]:
    """Call each kernel of the fast set; return their names."""
    called: set[str] = set()

    class Recorded:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            called.add(name)
            return getattr(fast, name)

    kernels, rng = Recorded(), np.random.default_rng(1)
    for width in WIDTHS:
        for group in (_convolutions, _layers, _activations, _updates):
            group(kernels, lambda *shape: rng.standard_normal(shape).astype(np.float32), width)
    targets = targets_like(rng, 5, 7, "smoothed", np.float32)
    _, probabilities = kernels.softmax_cross_entropy(rng.standard_normal((5, 7)).astype(np.float32), targets)
    kernels.softmax_cross_entropy_backward(probabilities, targets, np.ones(5, np.float32))
    images, matrices = rng.random((3, 7, 9, 2), np.float32), rng.standard_normal((3, 2, 3)).astype(np.float32)
    for fill_mode in ("nearest", "constant", "reflect", "wrap"):
        kernels.affine_warp(images, 30 * matrices, fill_mode)
    kernels.all_finite(rng.random(37, np.float32))
    kernels.stroke_distance(9 * rng.random((3, 6, 2), np.float32) - 1, rng.random((3, 5)) < 0.8, (5, 7))
    return sorted(called)


def _convolutions(kernels: Any, draw: Callable[..., np.ndarray], width: int) -> None:
    for algorithm, size in (("direct", 3), ("winograd", 3), ("winograd", 5), ("im2col", 3)):
        x, w, b = draw(3, 7, 9, width), draw(size, size, width, 21), draw(21)
        padding = window_padding((7, 9), (size, size), (1, 1), "same")
        out = kernels.conv2d(x, w, b, (1, 1), padding, algorithm=algorithm)
        kernels.conv2d_backward(out, x, w, (1, 1), padding, algorithm=algorithm)


def _layers(kernels: Any, draw: Callable[..., np.ndarray], width: int) -> None:
    x, w, gamma = draw(5, 11), draw(11, width), draw(width)
    kernels.dense_backward(kernels.dense(x, w, gamma), x, w)
    image, places = draw(3, 5, 6, width), ((2, 3), (2, 1), (0, 1, 1, 1))
    out, winner = kernels.max_pool2d(image, *places)
    kernels.max_pool2d_backward(out, winner, image.shape, *places)
    kernels.avg_pool2d_backward(kernels.avg_pool2d(image, *places), image.shape, *places)
    for x in (image, draw(6, width)):
        out, mean, variance = kernels.batch_norm(x, gamma, gamma, 1e-3)
        kernels.batch_norm_backward(out, x, gamma, mean, variance, 1e-3)
        out = kernels.batch_norm_inference(x, gamma, gamma, mean, variance, 1e-3)
        kernels.batch_norm_inference_backward(out, x, gamma, mean, variance, 1e-3)
        kernels.dropout_backward(kernels.dropout(x, 0.3, 5), 0.3, 5)


def _activations(kernels: Any, draw: Callable[..., np.ndarray], width: int) -> None:
    for name in ("relu", "sigmoid", "tanh", "softmax"):
        x = draw(5, width)
        getattr(kernels, f"{name}_backward")(x, getattr(kernels, name)(x))
    kernels.leaky_relu_backward(x, kernels.leaky_relu(x, 0.3), 0.3)


def _updates(kernels: Any, draw: Callable[..., np.ndarray], width: int) -> None:
    param, grad, (m, v, more) = draw(3, width), draw(3, width), np.zeros((3, 3, width), np.float32)
    kernels.adam_update(param, grad, m, v, 1e-3, 0.9, 0.9, 1e-7, 3)
    for velocity in (None, m):
        kernels.sgd_update(param, grad, velocity, 0.1, 0.9 if velocity is m else 0.0, True)
        for average in (None, more):
            kernels.rmsprop_update(param, grad, v, average, velocity, 0.1, 0.9, 0.3, 1e-7)


def fused_blocks() -> list[str]:
    """Train a network of fused blocks for a step with each algorithm, and use it; return the algorithms."""
    images, classes = draw_small(3)
    for algorithm in FUSED:
        model = fusible(algorithm=algorithm)
        assert any(block.link.layers for block in model.plan().blocks), "nothing is fused"
        model.fit(images, classes, batch_size=3, epochs=1, verbose=0)
        model.predict(images, verbose=0)
    return list(FUSED)


# --- indices that are wrong --------------------------------------------------------------------------------------

@jit
def beyond(array, index):
    """Read an entry that need not be there. Compiled without the check this reads whatever lies in memory."""
    return array[index]


def planted() -> dict[str, str]:
    """Read and write beyond a view, but within its base; return what became of each try."""
    numbers = np.arange(200, dtype=np.float32)
    finish = importlib.import_module("minicnn.kernels.fast.dense")._finish
    tries = {"entry": lambda: beyond(numbers[:4], 5),
             "bias": lambda: finish(np.zeros(6, np.float32), 0, 3, 2, 3, numbers[:2], 0, False),
             "product, right": lambda: _product(numbers, {})}
    for operand, size in (("A", 6), ("B", 48), ("C", 32)):
        tries[f"{operand} too short"] = lambda operand=operand, size=size: _product(numbers, {operand: size - 1})
        tries[f"{operand} too early"] = lambda operand=operand: _product(numbers, {}, {operand: -1})
    return {name: _outcome(attempt) for name, attempt in tries.items()}


def _product(numbers: np.ndarray, sizes: dict[str, int], starts: dict[str, int] | None = None) -> None:
    """Multiply A (2, 3) by B (3, 16), the arrays as long as ``sizes`` says."""
    a, b, c = (numbers.copy()[50:][:sizes.get(name, size)] for name, size in (("A", 6), ("B", 48), ("C", 32)))
    at = {"A": 0, "B": 0, "C": 0} | (starts or {})
    product(a, at["A"], 3, 1, 0, b, at["B"], 16, 0, c, at["C"], 16, 0, 2, 16, 3, 1, 0)


def _outcome(attempt: Callable[[], Any]) -> str:
    try:
        attempt()
    except IndexError:
        return "refused"
    return "done"


if __name__ == "__main__":
    counted = geometries(), specialisations()  # before others call kernels
    print(json.dumps({"geometries": counted[0], "specialisations": counted[1], "every_kernel": every_kernel(),
                      "fused_blocks": fused_blocks(), "planted": planted()}))
