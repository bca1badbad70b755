"""Batches of a real size, where the fast set works in several chunks on several threads: equal to the reference."""

from __future__ import annotations

import importlib

import numpy as np
import pytest

from kernel_calls import DTYPES, SETS, call, close, draw, equal, targets_like

EPSILON = 1e-3


def real_size(dtype) -> dict[str, tuple]:
    """Return kernel -> its arguments, at sizes that no loop in Python would finish."""
    rng = np.random.default_rng(17)
    shape = (131, 14, 13, 32)
    x, dout = draw(rng, shape, dtype, 3, 50), draw(rng, shape, dtype)
    gamma, beta, mean = (draw(rng, (32,), dtype) for _ in range(3))
    variance = x.astype(float).var(axis=(0, 1, 2))
    pooled = (131, 7, 7, 32)
    winner = rng.integers(-1, 6, pooled).astype(np.int32)
    winner[:, :, 6] = np.where(winner[:, :, 6] < 3, 0, 3)  # of the last window, only the first column is in the image
    rows, logits = draw(rng, (5003, 60), dtype), draw(rng, (5003, 10), dtype, 4)
    w, b, targets = draw(rng, (60, 10), dtype), draw(rng, (10,), dtype), targets_like(rng, 5003, 10, "smoothed", dtype)
    small = 1 / (1 + np.exp(-dout))
    return {
        "batch_norm": (x, gamma, beta, EPSILON), "batch_norm_inference": (x, gamma, beta, mean, variance, EPSILON),
        "batch_norm_backward": (dout, x, gamma, x.mean(axis=(0, 1, 2), dtype=float), variance, EPSILON),
        "batch_norm_inference_backward": (dout, x, gamma, mean, variance, EPSILON),
        "max_pool2d": (x, (2, 3), (2, 2), (0, 0, 0, 2)),
        "max_pool2d_backward": (dout[:, :7, :7], winner, shape, (2, 3), (2, 2), (0, 0, 0, 2)),
        "avg_pool2d": (x, (2, 3), (2, 2), (0, 0, 0, 2)),
        "avg_pool2d_backward": (dout[:, :7, :7], shape, (2, 3), (2, 2), (0, 0, 0, 2)),
        "leaky_relu": (dout, 0.3), "leaky_relu_backward": (dout, x, 0.3),
        "dense": (rows, w, b), "dense_backward": (logits, rows, w),
        "dropout": (x, 0.3, 2**64 - 3), "dropout_backward": (dout, 0.3, 2**64 - 3),
        "softmax_cross_entropy": (logits, targets), "softmax_cross_entropy_backward": (logits, targets, logits[:, 0]),
        "affine_warp": (x, np.eye(2, 3, dtype=dtype) + draw(rng, (131, 2, 3), dtype, 0.3), "reflect"),
        **{name: (dout,) for name in ("relu", "sigmoid", "tanh", "softmax")},
        **{f"{name}_backward": (dout, small) for name in ("relu", "sigmoid", "tanh", "softmax")},
    }


@pytest.mark.no_jit_excluded("millions of elements, which are beyond plain Python loops")
@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_equals_reference_at_real_sizes(dtype):
    reference, fast = (importlib.import_module(f"minicnn.kernels.{name}") for name in SETS)
    for name, arguments in real_size(dtype).items():
        actual, expected = (result if isinstance(result, tuple) else (result,) for result in
                            (call(getattr(fast, name), *arguments), getattr(reference, name)(*arguments)))
        for one, other in zip(actual, expected, strict=True):
            if name.startswith(("max_pool2d", "dropout", "relu", "leaky_relu")):
                equal(one, other, other.dtype)
            else:
                close(one, other, other.dtype, ulps=16 if other.dtype == np.float32 else 300)  # sums of 24,000


@pytest.mark.no_jit_excluded("millions of elements, which are beyond plain Python loops")
@pytest.mark.parametrize("dtype", DTYPES)
def test_fast_optimizers_equal_reference_at_real_sizes(dtype):
    sets = [importlib.import_module(f"minicnn.kernels.{name}") for name in SETS]
    rng = np.random.default_rng(18)
    param, grad, first, second, third = (draw(rng, (3136, 61), dtype) for _ in range(5))
    results = []
    for kernel_set in sets:
        arrays = param.copy(), first.copy(), abs(second) + 9, third.copy()
        kernel_set.adam_update(arrays[0], grad, arrays[1], arrays[2], 0.01, 0.9, 0.99, 1e-7, 4)
        kernel_set.sgd_update(arrays[0], grad, arrays[3], 0.01, 0.9, True)
        kernel_set.rmsprop_update(arrays[0], grad, arrays[2], arrays[1], arrays[3], 0.01, 0.9, 0.5, 1e-7)
        results.append(arrays)
    for expected, actual in zip(*results, strict=True):
        close(actual, expected, dtype, ulps=8)
