"""Laws of average-pooling, which is linear, and of the leaky ReLU.

A mean of whole numbers, times the pixels it is taken over, is a whole number again once it is rounded: all is exact.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

import naive
from law_strategies import VALID, Rows, Windows, equal, inner, law, rows, windows


def counts(case: Windows) -> np.ndarray:
    """Return how many pixels each window covers, at least 1: (OH, OW, 1)."""
    return np.maximum(naive.pixels_inside(case.x_shape[1:3], case.window, *case.geometry), 1)[:, :, None]


def sums(kernels: ModuleType, case: Windows, x: np.ndarray) -> np.ndarray:
    """Return the sum in each window, by way of its mean."""
    return np.rint(kernels.avg_pool2d(x, case.window, *case.geometry) * counts(case))


@law(windows())
def test_backward_is_the_adjoint_of_forward(kernels: ModuleType, case: Windows) -> None:
    """<counts * pool(x), g> = <x, backward(counts * g)> for any x and g: no gradient is lost or doubled."""
    x, g = case.integers(*case.x_shape), case.integers(*case.pooled_shape)
    dx = kernels.avg_pool2d_backward((g * counts(case)).astype(case.dtype), x.shape, case.window, *case.geometry)
    assert inner(sums(kernels, case, x).astype(case.dtype), g) == inner(x, dx)


@law(windows())
def test_a_mean_lies_between_the_smallest_and_the_largest(kernels: ModuleType, case: Windows) -> None:
    """It is the maximum of x, and minus that of -x, at most; of a constant image it is the constant."""
    x = case.integers(*case.x_shape)
    out = kernels.avg_pool2d(x, case.window, *case.geometry)
    (largest, winner), (least, _) = (kernels.max_pool2d(a, case.window, *case.geometry) for a in (x, -x))
    seen = winner >= 0
    assert (out[seen] <= largest[seen]).all()
    assert (out[seen] >= -least[seen]).all()
    assert not out[~seen].any()
    equal(kernels.avg_pool2d(np.full_like(x, 3), case.window, *case.geometry),
          np.where(seen, 3, 0).astype(case.dtype))


@law(windows())
def test_linear(kernels: ModuleType, case: Windows) -> None:
    x, y = case.integers(*case.x_shape), case.integers(*case.x_shape)
    equal(sums(kernels, case, 3 * x - y), 3 * sums(kernels, case, x) - sums(kernels, case, y))


@law(windows(VALID))
def test_a_window_as_large_as_the_image_is_numpys_mean(kernels: ModuleType, case: Windows) -> None:
    x = case.integers(*case.x_shape)
    out = kernels.avg_pool2d(x, x.shape[1:3], (1, 1), (0, 0, 0, 0))
    equal(out, x.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(case.dtype))


@law(windows())
def test_images_and_channels_do_not_see_each_other(kernels: ModuleType, case: Windows) -> None:
    x, cut = case.integers(*case.x_shape), case.below(case.sizes[0])
    out = kernels.avg_pool2d(x, case.window, *case.geometry)
    for part in (slice(cut), slice(cut, None)):
        if x[part].size:
            equal(kernels.avg_pool2d(x[part], case.window, *case.geometry), out[part])
    equal(kernels.avg_pool2d(x[..., ::-1], case.window, *case.geometry), out[..., ::-1])


@law(rows((1, 5), (1, 40)))
def test_leaky_relu(kernels: ModuleType, case: Rows) -> None:
    """Its two halves; <f(x), g> = <x, backward(g)>; homogeneous; with the slope 0 it is ReLU, with 1 nothing."""
    x, g, slope = case.integers(*case.sizes), case.integers(*case.sizes), 0.25
    out = kernels.leaky_relu(x, slope)
    equal(out, np.maximum(x, 0) + np.minimum(x, 0) / 4)
    assert inner(out, g) == inner(x, kernels.leaky_relu_backward(g, out, slope))
    equal(kernels.leaky_relu(3 * x, slope), 3 * out)
    equal(kernels.leaky_relu(x, 0.0), kernels.relu(x))
    equal(kernels.leaky_relu(x, 1.0), x)
