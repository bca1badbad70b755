"""Laws of the convolution, on whole numbers and therefore exact unless rounding is the point."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from law_strategies import TILED, VALID, Windows, equal, inner, law, near, same, windows


def arrays(case: Windows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return x, w and an upstream gradient g of whole numbers."""
    return case.integers(*case.x_shape), case.integers(*case.w_shape), case.integers(*case.out_shape)


@law(windows())
def test_gradients_are_adjoint(kernels: ModuleType, case: Windows) -> None:
    """<conv(x'), g> = <x', dx> and <conv(w'), g> = <w', dw> for any x', w': each gradient is the transposed map."""
    x, w, g = arrays(case)
    other_x, other_w, b = case.integers(*x.shape), case.integers(*w.shape), case.integers(case.sizes[2])
    dx, dw, db = kernels.conv2d_backward(g, x, w, *case.geometry)
    out = kernels.conv2d(x, w, None, *case.geometry)
    assert inner(out, g) == inner(x, dx) == inner(w, dw)
    assert inner(kernels.conv2d(other_x, w, None, *case.geometry), g) == inner(other_x, dx)
    assert inner(kernels.conv2d(x, other_w, None, *case.geometry), g) == inner(other_w, dw)
    assert inner(kernels.conv2d(x, w, b, *case.geometry) - out, g) == inner(b, db)


@law(windows())
def test_gradients_are_adjoint_to_rounding(kernels: ModuleType, case: Windows) -> None:
    """The same for numbers that round."""
    x, w, g = case.normal(*case.x_shape), case.normal(*case.w_shape), case.normal(*case.out_shape)
    dx, dw, _ = kernels.conv2d_backward(g, x, w, *case.geometry)
    out = kernels.conv2d(x, w, None, *case.geometry)
    scale = inner(np.abs(g), kernels.conv2d(np.abs(x), np.abs(w), None, *case.geometry))
    near(inner(x, dx), inner(out, g), scale, case.dtype)
    near(inner(w, dw), inner(out, g), scale, case.dtype)


@law(windows())
def test_linear_in_image_and_kernel(kernels: ModuleType, case: Windows) -> None:
    """conv(3x - x') = 3 conv(x) - conv(x'), likewise in (w, b)."""
    (x, w, _), (other_x, other_w, _) = arrays(case), arrays(case)
    b, other_b = case.integers(case.sizes[2]), case.integers(case.sizes[2])
    out = kernels.conv2d(x, w, None, *case.geometry)
    equal(kernels.conv2d(3 * x - other_x, w, None, *case.geometry),
          3 * out - kernels.conv2d(other_x, w, None, *case.geometry))
    equal(kernels.conv2d(x, 3 * w - other_w, 3 * b - other_b, *case.geometry),
          3 * (out + b) - kernels.conv2d(x, other_w, other_b, *case.geometry))


@law(windows())
def test_gradients_are_linear_in_the_upstream_gradient(kernels: ModuleType, case: Windows) -> None:
    (x, w, g), other_g = arrays(case), case.integers(*case.out_shape)
    mixed, first, second = (kernels.conv2d_backward(gradient, x, w, *case.geometry)
                            for gradient in (3 * g - other_g, g, other_g))
    for whole, one, other in zip(mixed, first, second, strict=True):
        equal(whole, 3 * one - other)


@law(windows())
def test_images_do_not_see_each_other(kernels: ModuleType, case: Windows) -> None:
    """A batch in two parts gives the parts of out and dx."""
    x, w, g = case.normal(*case.x_shape), case.normal(*case.w_shape), case.normal(*case.out_shape)
    b, cut = case.normal(case.sizes[2]), case.below(len(x))
    out = kernels.conv2d(x, w, b, *case.geometry)
    dx, _, _ = kernels.conv2d_backward(g, x, w, *case.geometry)
    for part in (slice(cut), slice(cut, None)):
        if x[part].size:
            same(kernels, kernels.conv2d(x[part], w, b, *case.geometry), out[part])
            same(kernels, kernels.conv2d_backward(g[part], x[part], w, *case.geometry)[0], dx[part])


@law(windows())
def test_kernel_gradients_of_parts_of_a_batch_add_up(kernels: ModuleType, case: Windows) -> None:
    x, w, g = arrays(case)
    cut = case.below(len(x) + 1)
    parts = [kernels.conv2d_backward(g[part], x[part], w, *case.geometry) for part in (slice(cut), slice(cut, None))
             if x[part].size]
    _, dw, db = kernels.conv2d_backward(g, x, w, *case.geometry, need_dx=False)
    equal(dw, sum(part[1] for part in parts))
    equal(db, sum(part[2] for part in parts))


@law(windows(VALID))
def test_translation(kernels: ModuleType, case: Windows) -> None:
    """Without the first s*t pixels (s: stride), the output is without its first t places; gradients accordingly."""
    x, w, g = arrays(case)
    t, u = case.below(case.rows.places), case.below(case.columns.places)
    at, place = np.s_[:, t * case.rows.stride:, u * case.columns.stride:], np.s_[:, t:, u:]
    equal(kernels.conv2d(x[at], w, None, *case.geometry), kernels.conv2d(x, w, None, *case.geometry)[place])
    late = np.zeros_like(g)
    late[place] = g[place]
    dx, dw, db = kernels.conv2d_backward(late, x, w, *case.geometry)
    near_dx, near_dw, near_db = kernels.conv2d_backward(g[place], x[at], w, *case.geometry)
    moved = np.zeros_like(x)
    moved[at] = near_dx
    for actual, expected in ((dx, moved), (dw, near_dw), (db, near_db)):
        equal(actual, expected)


@law(windows())
def test_padding_is_a_frame_of_zeros(kernels: ModuleType, case: Windows) -> None:
    x, w, g = arrays(case)
    stride, padding = case.geometry
    top, bottom, left, right = padding
    framed = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    equal(kernels.conv2d(x, w, None, stride, padding), kernels.conv2d(framed, w, None, stride, (0, 0, 0, 0)))
    dx, dw, db = kernels.conv2d_backward(g, x, w, stride, padding)
    framed_dx, framed_dw, framed_db = kernels.conv2d_backward(g, framed, w, stride, (0, 0, 0, 0))
    inside = framed_dx[:, top:framed.shape[1] - bottom, left:framed.shape[2] - right]
    for actual, expected in ((dx, inside), (dw, framed_dw), (db, framed_db)):
        equal(actual, expected)


@law(windows())
def test_a_stride_skips_places(kernels: ModuleType, case: Windows) -> None:
    """Stride s is stride 1 at every s-th place; its gradients are those of stride 1 with zeros in between."""
    x, w, g = arrays(case)
    stride, padding = case.geometry
    dense_out = kernels.conv2d(x, w, None, (1, 1), padding)
    every = np.s_[:, ::stride[0], ::stride[1]]
    equal(kernels.conv2d(x, w, None, stride, padding), dense_out[every])
    spread = np.zeros_like(dense_out)
    spread[every] = g
    for actual, expected in zip(kernels.conv2d_backward(g, x, w, stride, padding),
                                kernels.conv2d_backward(spread, x, w, (1, 1), padding), strict=True):
        equal(actual, expected)


@law(windows())
def test_the_order_of_channels_and_filters_is_free(kernels: ModuleType, case: Windows) -> None:
    x, w, g = arrays(case)
    b, c, f = case.integers(case.sizes[2]), case.rng.permutation(case.sizes[1]), case.rng.permutation(case.sizes[2])
    shuffled = w[:, :, c][..., f]
    equal(kernels.conv2d(x[..., c], shuffled, b[f], *case.geometry), kernels.conv2d(x, w, b, *case.geometry)[..., f])
    dx, dw, db = kernels.conv2d_backward(g, x, w, *case.geometry)
    for actual, expected in zip(kernels.conv2d_backward(g[..., f], x[..., c], shuffled, *case.geometry),
                                (dx[..., c], dw[:, :, c][..., f], db[f]), strict=True):
        equal(actual, expected)


@law(windows())
def test_channels_add_up_and_filters_stand_alone(kernels: ModuleType, case: Windows) -> None:
    x, w, _ = arrays(case)
    out = kernels.conv2d(x, w, None, *case.geometry)
    equal(out, sum(kernels.conv2d(x[..., c:c + 1], w[:, :, c:c + 1], None, *case.geometry)
                   for c in range(case.sizes[1])))
    f = case.below(case.sizes[2])
    equal(kernels.conv2d(x, w[..., f:f + 1], None, *case.geometry), out[..., f:f + 1])


@law(windows(TILED))
def test_flipped_images(kernels: ModuleType, case: Windows) -> None:
    """Image, kernel and padding turned around along rows, columns or both: so is everything else."""
    x, w, g = arrays(case)
    stride, (top, bottom, left, right) = case.geometry
    rows, columns = case.flags(2)
    padding = (*((bottom, top) if rows else (top, bottom)), *((right, left) if columns else (left, right)))
    r, c = slice(None, None, -1 if rows else 1), slice(None, None, -1 if columns else 1)
    equal(kernels.conv2d(x[:, r, c], w[r, c], None, stride, padding),
          kernels.conv2d(x, w, None, *case.geometry)[:, r, c])
    dx, dw, db = kernels.conv2d_backward(g, x, w, *case.geometry)
    for actual, expected in zip(kernels.conv2d_backward(g[:, r, c], x[:, r, c], w[r, c], stride, padding),
                                (dx[:, r, c], dw[r, c], db), strict=True):
        equal(actual, expected)


@law(windows())
def test_rows_and_columns_may_change_places(kernels: ModuleType, case: Windows) -> None:
    x, w, g = arrays(case)
    (rows, columns), (top, bottom, left, right) = case.geometry
    turned = (columns, rows), (left, right, top, bottom)
    turned_x, turned_w, turned_g = x.swapaxes(1, 2), w.swapaxes(0, 1), g.swapaxes(1, 2)
    equal(kernels.conv2d(turned_x, turned_w, None, *turned),
          kernels.conv2d(x, w, None, *case.geometry).swapaxes(1, 2))
    dx, dw, db = kernels.conv2d_backward(g, x, w, *case.geometry)
    for actual, expected in zip(kernels.conv2d_backward(turned_g, turned_x, turned_w, *turned),
                                (dx.swapaxes(1, 2), dw.swapaxes(0, 1), db), strict=True):
        equal(actual, expected)


@law(windows())
def test_a_single_one_in_the_kernel_moves_the_image(kernels: ModuleType, case: Windows) -> None:
    """w[p, q] = 1 from channel c to filter f: out[..., f] is x[..., c], moved, and every s-th pixel of it."""
    x, w = case.integers(*case.x_shape), np.zeros(case.w_shape, case.dtype)
    p, q, c, f = (case.below(size) for size in w.shape)
    w[p, q, c, f] = 1
    (rows, columns), (top, bottom, left, right) = case.geometry
    framed = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    moved = framed[:, p::rows, q::columns, c][:, :case.rows.places, :case.columns.places]
    expected = np.zeros(case.out_shape, case.dtype)
    expected[..., f] = moved
    equal(kernels.conv2d(x, w, None, *case.geometry), expected)
