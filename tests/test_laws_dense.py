"""Laws of the dense layer, exact on whole numbers, and what it has in common with a convolution."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from law_strategies import Rows, equal, inner, law, near, rows, same

SIZES = rows((1, 5), (1, 7), (1, 6))  # N, D, K


def arrays(case: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return x (N, D), w (D, K), b (K,) and an upstream gradient g (N, K) of whole numbers."""
    N, D, K = case.sizes
    return case.integers(N, D), case.integers(D, K), case.integers(K), case.integers(N, K)


@law(SIZES)
def test_gradients_are_adjoint(kernels: ModuleType, case: Rows) -> None:
    """<dense(x'), g> = <x', dx>, <dense(w'), g> = <w', dw> and <b', g> = <b', db> for any x', w', b'."""
    (x, w, b, g), (other_x, other_w, _, _) = arrays(case), arrays(case)
    dx, dw, db = kernels.dense_backward(g, x, w)
    out = kernels.dense(x, w, None)
    assert inner(out, g) == inner(x, dx) == inner(w, dw)
    assert inner(kernels.dense(other_x, w, None), g) == inner(other_x, dx)
    assert inner(kernels.dense(x, other_w, None), g) == inner(other_w, dw)
    assert inner(kernels.dense(x, w, b) - out, g) == inner(b, db)


@law(SIZES)
def test_gradients_are_adjoint_to_rounding(kernels: ModuleType, case: Rows) -> None:
    N, D, K = case.sizes
    x, w, g = case.normal(N, D), case.normal(D, K), case.normal(N, K)
    dx, dw, _ = kernels.dense_backward(g, x, w)
    out = kernels.dense(x, w, None)
    scale = inner(np.abs(g), np.abs(x) @ np.abs(w))
    near(inner(x, dx), inner(out, g), scale, case.dtype)
    near(inner(w, dw), inner(out, g), scale, case.dtype)


@law(SIZES)
def test_linear(kernels: ModuleType, case: Rows) -> None:
    """In x, in (w, b), and the gradients in g."""
    (x, w, b, g), (other_x, other_w, other_b, other_g) = arrays(case), arrays(case)
    out = kernels.dense(x, w, None)
    equal(kernels.dense(3 * x - other_x, w, None), 3 * out - kernels.dense(other_x, w, None))
    equal(kernels.dense(x, 3 * w - other_w, 3 * b - other_b), 3 * (out + b) - kernels.dense(x, other_w, other_b))
    mixed, first, second = (kernels.dense_backward(gradient, x, w) for gradient in (3 * g - other_g, g, other_g))
    for whole, one, other in zip(mixed, first, second, strict=True):
        equal(whole, 3 * one - other)


@law(rows((2, 70), (1, 9), (1, 6)))
def test_rows_do_not_see_each_other(kernels: ModuleType, case: Rows) -> None:
    """A batch in two parts gives the parts of out and dx; dw and db of the parts add up."""
    N, D, K = case.sizes
    x, w, b, g, cut = case.normal(N, D), case.normal(D, K), case.normal(K), case.normal(N, K), 1 + case.below(N - 1)
    out, (dx, dw, db) = kernels.dense(x, w, b), kernels.dense_backward(g, x, w)
    sums = []
    for part in (slice(cut), slice(cut, None)):
        same(kernels, kernels.dense(x[part], w, b), out[part])
        part_dx, *others = kernels.dense_backward(g[part], x[part], w)
        same(kernels, part_dx, dx[part])
        sums.append(others)
    near(sums[0][0] + sums[1][0], dw, inner(np.abs(x).max(axis=1), np.abs(g).max(axis=1)))
    near(sums[0][1] + sums[1][1], db, np.abs(g).sum())


@law(SIZES)
def test_the_order_of_inputs_outputs_and_rows_is_free(kernels: ModuleType, case: Rows) -> None:
    x, w, b, g = arrays(case)
    n, d, k = (case.rng.permutation(size) for size in case.sizes)
    shuffled = w[d][:, k]
    equal(kernels.dense(x[n][:, d], shuffled, b[k]), kernels.dense(x, w, b)[n][:, k])
    dx, dw, db = kernels.dense_backward(g, x, w)
    for actual, expected in zip(kernels.dense_backward(g[n][:, k], x[n][:, d], shuffled),
                                (dx[n][:, d], dw[d][:, k], db[k]), strict=True):
        equal(actual, expected)


@law(SIZES)
def test_turned_around(kernels: ModuleType, case: Rows) -> None:
    """(x w)^T = w^T x^T: with the operands swapped, dx and dw change roles."""
    x, w, _, g = arrays(case)
    equal(kernels.dense(w.T, x.T, None), kernels.dense(x, w, None).T)
    dx, dw, _ = kernels.dense_backward(g, x, w)
    turned_dx, turned_dw, _ = kernels.dense_backward(g.T, w.T, x.T)
    equal(turned_dx, dw.T)
    equal(turned_dw, dx.T)


@law(rows((1, 3), (1, 4), (1, 3), (1, 3), (1, 4)))
def test_a_kernel_as_large_as_the_image_is_dense(kernels: ModuleType, case: Rows) -> None:
    """One place for the window: a convolution is then a dense layer on the flattened images, gradients included."""
    N, H, W, C, F = case.sizes
    x, w, b, g = case.integers(N, H, W, C), case.integers(H, W, C, F), case.integers(F), case.integers(N, 1, 1, F)
    flat_x, flat_w, flat_g = x.reshape(N, -1), w.reshape(-1, F), g.reshape(N, F)
    geometry = (2, 3), (0, 0, 0, 0)
    equal(kernels.conv2d(x, w, b, *geometry).reshape(N, F), kernels.dense(flat_x, flat_w, b))
    dx, dw, db = kernels.conv2d_backward(g, x, w, *geometry)
    flat_dx, flat_dw, flat_db = kernels.dense_backward(flat_g, flat_x, flat_w)
    for actual, expected in ((dx, flat_dx.reshape(x.shape)), (dw, flat_dw.reshape(w.shape)), (db, flat_db)):
        equal(actual, expected)


@law(rows((1, 3), (1, 4), (1, 3), (1, 3), (1, 4)))
def test_a_kernel_of_one_pixel_is_dense_on_each_pixel(kernels: ModuleType, case: Rows) -> None:
    N, H, W, C, F = case.sizes
    x, w, g = case.integers(N, H, W, C), case.integers(1, 1, C, F), case.integers(N, H, W, F)
    pixels, matrix, upstream = x.reshape(-1, C), w.reshape(C, F), g.reshape(-1, F)
    geometry = (1, 1), (0, 0, 0, 0)
    equal(kernels.conv2d(x, w, None, *geometry).reshape(-1, F), kernels.dense(pixels, matrix, None))
    dx, dw, db = kernels.conv2d_backward(g, x, w, *geometry)
    flat_dx, flat_dw, flat_db = kernels.dense_backward(upstream, pixels, matrix)
    for actual, expected in ((dx, flat_dx.reshape(x.shape)), (dw, flat_dw.reshape(w.shape)), (db, flat_db)):
        equal(actual, expected)
