"""Laws of max-pooling. It selects, so that everything is exact."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from law_strategies import AXES, TILED, VALID, Windows, equal, inner, law, rows, same, windows

Index = tuple[np.ndarray, ...]


def winning_pixels(case: Windows, winner: np.ndarray) -> tuple[Index, Index]:
    """Return the places (n, i, j, c) that have a winner, and the pixels (n, row, column, c) that won them."""
    (row_stride, column_stride), (top, _, left, _) = case.geometry
    places = np.nonzero(winner >= 0)
    n, i, j, c = places
    p, q = np.divmod(winner[places], case.window[1])
    assert (p < case.window[0]).all()
    row, column = i * row_stride + p - top, j * column_stride + q - left
    assert min(row.min(initial=0), column.min(initial=0)) >= 0, "a winner outside the image"
    return places, (n, row, column, c)


@law(windows())
def test_each_gradient_lands_on_a_maximum_of_its_window(kernels: ModuleType, case: Windows) -> None:
    """Ties are frequent here; a single gradient arrives whole, at one pixel of its window that has its value."""
    x, g = case.integers(*case.x_shape, low=-2, high=2), case.integers(*case.pooled_shape, low=1)
    out, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    places, pixels = winning_pixels(case, winner)
    equal(x[pixels], out[places])
    assert (out[winner < 0] == -np.inf).all()
    if not len(places[0]):
        return
    chosen = case.below(len(places[0]))
    single, expected = np.zeros_like(g), np.zeros_like(x)
    place, pixel = (tuple(axis[chosen] for axis in index) for index in (places, pixels))
    single[place] = expected[pixel] = g[place]
    equal(kernels.max_pool2d_backward(single, winner, x.shape, case.window, *case.geometry), expected)


@law(windows())
def test_gradients_are_adjoint_on_the_active_set(kernels: ModuleType, case: Windows) -> None:
    """With the winners held, pooling is linear: <pool(d), g> = <d, dx> for any d. No gradient is lost or doubled."""
    x, d, g = case.integers(*case.x_shape), case.integers(*case.x_shape), case.integers(*case.pooled_shape)
    _, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    dx = kernels.max_pool2d_backward(g, winner, x.shape, case.window, *case.geometry)
    places, pixels = winning_pixels(case, winner)
    pooled = np.zeros_like(g)
    pooled[places] = d[pixels]
    assert inner(pooled, g) == inner(d, dx)
    equal(dx.sum(axis=(1, 2)), np.where(winner >= 0, g, 0).sum(axis=(1, 2)))


@law(windows())
def test_the_gradient_is_a_subgradient(kernels: ModuleType, case: Windows) -> None:
    """sum of g * pool(y) >= sum of g * pool(x) + <dx, y - x> for g >= 0: a maximum is convex."""
    x, y, g = case.integers(*case.x_shape), case.integers(*case.x_shape), case.integers(*case.pooled_shape, low=0)
    out, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    other, _ = kernels.max_pool2d(y, case.window, *case.geometry)
    dx = kernels.max_pool2d_backward(g, winner, x.shape, case.window, *case.geometry)
    seen = winner >= 0
    assert inner(g[seen], other[seen]) >= inner(g[seen], out[seen]) + inner(dx, y - x)


@law(windows())
def test_of_equal_pixels_the_first_wins(kernels: ModuleType, case: Windows) -> None:
    """As if each pixel were smaller, by less than any difference, the later it comes in the image."""
    x = case.integers(*case.x_shape, low=-2, high=2)
    later = np.arange(x[0, ..., 0].size).reshape(*x.shape[1:3], 1)
    _, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    equal(winner, kernels.max_pool2d((later.size * x - later).astype(case.dtype), case.window, *case.geometry)[1])


@law(windows())
def test_monotone_and_equivariant_to_scale_and_shift(kernels: ModuleType, case: Windows) -> None:
    x, more = case.integers(*case.x_shape), case.integers(*case.x_shape, low=0)
    out, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    assert (kernels.max_pool2d(x + more, case.window, *case.geometry)[0] >= out).all()
    moved, same_winner = kernels.max_pool2d(3 * x - 2, case.window, *case.geometry)
    equal(moved, 3 * out - 2)
    equal(same_winner, winner)


@law(windows())
def test_a_window_of_one_pixel_changes_nothing(kernels: ModuleType, case: Windows) -> None:
    x = case.normal(*case.x_shape)
    out, winner = kernels.max_pool2d(x, (1, 1), (1, 1), (0, 0, 0, 0))
    equal(out, x)
    assert not winner.any()
    equal(kernels.max_pool2d_backward(x, winner, x.shape, (1, 1), (1, 1), (0, 0, 0, 0)), x)


@law(rows((1, 3), (1, 3), (1, 3), (1, 3), (1, 3)))
def test_pooling_twice_is_pooling_once(kernels: ModuleType, case) -> None:
    """Windows a side by side, then b of those, are windows a*b side by side: forward and backward."""
    a0, a1, b0, b1, C = case.sizes
    first, second, both = (a0, a1), (b0, b1), (a0 * b0, a1 * b1)
    x, none = case.distinct(2, 2 * both[0], both[1], C), (0, 0, 0, 0)
    middle, middle_winner = kernels.max_pool2d(x, first, first, none)
    out, winner = kernels.max_pool2d(middle, second, second, none)
    whole, whole_winner = kernels.max_pool2d(x, both, both, none)
    equal(out, whole)
    g = case.integers(*out.shape)
    dmiddle = kernels.max_pool2d_backward(g, winner, middle.shape, second, second, none)
    equal(kernels.max_pool2d_backward(dmiddle, middle_winner, x.shape, first, first, none),
          kernels.max_pool2d_backward(g, whole_winner, x.shape, both, both, none))


@law(windows())
def test_padding_never_wins(kernels: ModuleType, case: Windows) -> None:
    """Padding acts like a frame of pixels smaller than all of the image, not like zeros."""
    x, g = case.integers(*case.x_shape, low=-9, high=-1), case.integers(*case.pooled_shape)
    stride, padding = case.geometry
    top, bottom, left, right = padding
    framed = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=-np.inf)
    out, winner = kernels.max_pool2d(x, case.window, stride, padding)
    framed_out, framed_winner = kernels.max_pool2d(framed, case.window, stride, (0, 0, 0, 0))
    equal(out, framed_out)
    dx = kernels.max_pool2d_backward(g, winner, x.shape, case.window, stride, padding)
    framed_dx = kernels.max_pool2d_backward(g, framed_winner, framed.shape, case.window, stride, (0, 0, 0, 0))
    equal(dx, framed_dx[:, top:framed.shape[1] - bottom, left:framed.shape[2] - right])


@law(windows())
def test_a_stride_skips_places(kernels: ModuleType, case: Windows) -> None:
    x = case.integers(*case.x_shape)
    stride, padding = case.geometry
    every = np.s_[:, ::stride[0], ::stride[1]]
    for actual, expected in zip(kernels.max_pool2d(x, case.window, stride, padding),
                                kernels.max_pool2d(x, case.window, (1, 1), padding), strict=True):
        equal(actual, expected[every])


@law(windows())
def test_images_do_not_see_each_other(kernels: ModuleType, case: Windows) -> None:
    x, g, cut = case.normal(*case.x_shape), case.normal(*case.pooled_shape), case.below(case.sizes[0])
    out, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    dx = kernels.max_pool2d_backward(g, winner, x.shape, case.window, *case.geometry)
    for part in (slice(cut), slice(cut, None)):
        if x[part].size:
            for actual, expected in zip(kernels.max_pool2d(x[part], case.window, *case.geometry), (out, winner),
                                        strict=True):
                equal(actual, expected[part])
            same(kernels, kernels.max_pool2d_backward(g[part], winner[part], x[part].shape, case.window,
                                                      *case.geometry), dx[part])


@law(windows(VALID))
def test_translation(kernels: ModuleType, case: Windows) -> None:
    """Without the first s*t pixels (s: stride), the output is without its first t places; gradients accordingly."""
    x, g = case.integers(*case.x_shape), case.integers(*case.pooled_shape)
    t, u = case.below(case.rows.places), case.below(case.columns.places)
    at, place = np.s_[:, t * case.rows.stride:, u * case.columns.stride:], np.s_[:, t:, u:]
    out, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    late_out, late_winner = kernels.max_pool2d(x[at], case.window, *case.geometry)
    equal(late_out, out[place])
    equal(late_winner, winner[place])
    late, expected = np.zeros_like(g), np.zeros_like(x)
    late[place] = g[place]
    expected[at] = kernels.max_pool2d_backward(g[place], late_winner, x[at].shape, case.window, *case.geometry)
    equal(kernels.max_pool2d_backward(late, winner, x.shape, case.window, *case.geometry), expected)


@law(windows(AXES))
def test_channels_stand_alone(kernels: ModuleType, case: Windows) -> None:
    x, g, c = case.integers(*case.x_shape), case.integers(*case.pooled_shape), case.rng.permutation(case.sizes[1])
    c = c[:1 + case.below(len(c))]  # some of the channels, in any order
    out, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    dx = kernels.max_pool2d_backward(g, winner, x.shape, case.window, *case.geometry)
    chosen, chosen_winner = kernels.max_pool2d(x[..., c], case.window, *case.geometry)
    equal(chosen, out[..., c])
    equal(chosen_winner, winner[..., c])
    equal(kernels.max_pool2d_backward(g[..., c], winner[..., c], x[..., c].shape, case.window, *case.geometry),
          dx[..., c])


@law(windows(TILED))
def test_flipped_and_turned_images(kernels: ModuleType, case: Windows) -> None:
    """Without ties, flipping along either axis and swapping the axes move winners and gradients along."""
    x, g = case.distinct(*case.x_shape), case.integers(*case.pooled_shape)
    (rows_stride, columns_stride), (top, bottom, left, right) = case.geometry
    out, winner = kernels.max_pool2d(x, case.window, *case.geometry)
    dx = kernels.max_pool2d_backward(g, winner, x.shape, case.window, *case.geometry)
    stride = rows_stride, columns_stride
    for move, geometry in (
            (lambda a: a[:, ::-1], (case.window, stride, (bottom, top, left, right))),
            (lambda a: a[:, :, ::-1], (case.window, stride, (top, bottom, right, left))),
            (lambda a: a.swapaxes(1, 2), (case.window[::-1], stride[::-1], (left, right, top, bottom)))):
        moved_out, moved_winner = kernels.max_pool2d(move(x), *geometry)
        equal(moved_out, move(out))
        equal(kernels.max_pool2d_backward(move(g), moved_winner, move(x).shape, *geometry), move(dx))
