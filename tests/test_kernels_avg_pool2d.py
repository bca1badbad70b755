"""Average-pooling: exact on small integers against the definition, and what is special about it."""

from __future__ import annotations

import numpy as np
import pytest

import naive
from kernel_calls import DTYPES, LAYOUTS, call, equal, kernels  # noqa: F401  (a fixture)
from test_kernels_exact import POOLS, Window, integers


def problem(case: Window) -> tuple[np.ndarray, ...]:
    """Return x, out, dout, dx; gradients are multiples of the pixels in their window, so that shares are whole."""
    rng, geometry = np.random.default_rng([*case.image, *case.window, *case.stride]), (case.stride, case.pad)
    x = integers(rng, *case.image)
    out = naive.avg_pool2d(x, case.window, *geometry)
    dout = integers(rng, *out.shape) * naive.pixels_inside(case.image[1:3], case.window, *geometry)[:, :, None]
    return x, out, dout, naive.avg_pool2d_backward(dout, x.shape, case.window, *geometry)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", POOLS, ids=str)
def test_avg_pool2d(kernels, case, dtype):  # noqa: F811
    x, out, dout, dx = problem(case)
    equal(call(kernels.avg_pool2d, x.astype(dtype), case.window, case.stride, case.pad), out, dtype)
    equal(call(kernels.avg_pool2d_backward, dout.astype(dtype), x.shape, case.window, case.stride, case.pad), dx, dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout(kernels, layout):  # noqa: F811
    case = Window((3, 7, 6, 5), (3, 2), 0, (2, 1), (1, 0, 0, 1))
    x, out, dout, dx = problem(case)
    view, geometry = LAYOUTS[layout], (case.window, case.stride, case.pad)
    equal(call(kernels.avg_pool2d, view(x.astype(np.float32)), *geometry), out, np.float32)
    equal(call(kernels.avg_pool2d_backward, view(dout.astype(np.float32)), x.shape, *geometry), dx, np.float32)


def test_padding_does_not_count(kernels):  # noqa: F811
    """Of an image of ones every mean is 1; a window without pixels has the mean 0 and no gradient to give."""
    x = np.ones((1, 2, 3, 1), np.float32)
    out = call(kernels.avg_pool2d, x, (2, 1), (1, 2), (3, 0, 0, 2))
    assert out[0, :, :, 0].tolist() == [[0, 0, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0]]
    dx = call(kernels.avg_pool2d_backward, np.full_like(out, 2), x.shape, (2, 1), (1, 2), (3, 0, 0, 2))
    assert dx[0, :, :, 0].tolist() == [[2 + 1, 0, 2 + 1], [1, 0, 1]]


def test_a_nan_stays_in_its_window(kernels):  # noqa: F811
    x = np.ones((2, 4, 6, 3), np.float32)
    x[1, 2, 3, 1] = np.nan
    assert np.argwhere(np.isnan(call(kernels.avg_pool2d, x, (2, 3), (2, 3), (0, 0, 0, 0)))).tolist() == [[1, 1, 1, 1]]


def test_large_windows_are_summed_in_float64(kernels):  # noqa: F811
    """Added up one after the other in float32, 5,000 numbers would lose a digit and more."""
    x = np.random.default_rng(3).random((2, 50, 100, 3), np.float32)
    out = call(kernels.avg_pool2d, x, (50, 100), (1, 1), (0, 0, 0, 0))
    np.testing.assert_allclose(out[:, 0, 0], x.mean(axis=(1, 2), dtype=np.float64), rtol=1e-7)
