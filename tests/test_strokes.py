"""The drawn digits: the distance kernel against its definition, the same images every time, the frame of MNIST."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import NO_JIT
from kernel_calls import DTYPES, SETS, call, kernels  # noqa: F401  (a fixture)
from minicnn import kernels as active
from minicnn.datasets import mnist, splines, strokes
from minicnn.datasets.idx import read_idx
from minicnn.datasets.skeletons import SKELETONS, Style
from minicnn.errors import ArgumentError
from minicnn.kernels.threads import set_threads

COUNT = 20 if NO_JIT else 400


def naive_distance(points, drawn, shape):
    """The definition: the least distance to any point of any drawn segment."""
    out = np.full((len(points), *shape), np.inf)
    for n in range(len(points)):
        for i in range(shape[0]):
            for j in range(shape[1]):
                pixel = np.array([j + 0.5, i + 0.5])
                for p in np.flatnonzero(drawn[n]):
                    start, along = points[n, p], points[n, p + 1] - points[n, p]
                    length2 = along @ along
                    t = min(max((pixel - start) @ along / length2, 0), 1) if length2 else 0
                    out[n, i, j] = min(out[n, i, j], np.hypot(*(pixel - start - t * along)))
    return out


def polylines(rng, N, P, shape):
    points = rng.uniform(-2, 1 + np.array(shape[::-1]), (N, P, 2))  # some outside the image
    points[0, 1] = points[0, 0]  # a segment of no length
    drawn = rng.random((N, P - 1)) < 0.7
    drawn[:, 0] = True
    return points, drawn


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "P", "shape"), [(3, 5, (4, 9)), (2, 2, (7, 3)), (5, 4, (1, 6)), (1, 7, (5, 1))])
def test_distance_is_that_to_the_nearest_segment(kernels, rng, dtype, N, P, shape):  # noqa: F811
    points, drawn = polylines(rng, N, P, shape)
    points = points.astype(dtype)
    distance = call(kernels.stroke_distance, points, drawn, shape)
    assert distance.dtype == dtype
    np.testing.assert_allclose(distance, naive_distance(points.astype(float), drawn, shape), rtol=0,
                               atol=100 * np.finfo(dtype).eps)


def test_distance_reads_any_layout(kernels, rng):  # noqa: F811
    points, drawn = polylines(rng, 6, 5, (4, 7))
    wide = np.repeat(points, 2, axis=1)[:, ::2]
    assert not wide.flags.c_contiguous
    right = kernels.stroke_distance(points, drawn, (4, 7))
    np.testing.assert_array_equal(kernels.stroke_distance(wide, drawn[:, ::-1].copy()[:, ::-1], (4, 7)), right)


def test_distance_to_nothing_is_far(kernels):  # noqa: F811
    distance = kernels.stroke_distance(np.zeros((2, 3, 2), np.float32), np.zeros((2, 2), bool), (3, 5))
    assert np.all(distance == np.float32(1e6))


def test_no_images(kernels):  # noqa: F811
    assert kernels.stroke_distance(np.zeros((0, 3, 2)), np.zeros((0, 2), bool), (3, 5)).shape == (0, 3, 5)


def test_form_is_that_of_keras():
    (x_train, y_train), (x_test, y_test) = strokes.load_data(train=23, test=7, seed=1)
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == ((23, 28, 28), (23,), (7, 28, 28), (7,))
    assert all(array.dtype == np.uint8 for array in (x_train, y_train, x_test, y_test))
    assert strokes.load_data(train=0, test=0)[0][0].shape == (0, 28, 28)


def test_same_seed_same_images_whatever_the_threads(threads):
    set_threads(1)
    x, y = strokes.draw_split(COUNT, 5, "train")
    set_threads(3)
    again, labels = strokes.draw_split(COUNT, 5, "train")
    assert x.tobytes() == again.tobytes()
    assert y.tobytes() == labels.tobytes()


@pytest.mark.parametrize("other", [{"seed": 6}, {"split": "test"}])
def test_other_seed_or_split_other_images(other):
    x, _ = strokes.draw_split(10, 5, "train")
    changed, _ = strokes.draw_split(10, **{"seed": 5, "split": "train", **other})
    assert not any(np.array_equal(one, two) for one in x for two in changed)


def test_image_does_not_depend_on_how_many_are_drawn(monkeypatch):
    monkeypatch.setattr(strokes, "BLOCK", 10)
    x, y = strokes.draw_split(25, 2, "train")
    for count in (1, 9, 10, 13, 20):
        prefix, labels = strokes.draw_split(count, 2, "train")
        assert prefix.tobytes() == x[:count].tobytes()
        assert labels.tobytes() == y[:count].tobytes()
    assert not np.array_equal(x[:10], x[10:20])


def test_both_kernel_sets_draw_the_same():
    images = []
    before = active.active()
    try:
        for name in SETS:
            active.use(name)
            images.append(strokes.draw_split(20, 3, "train")[0].astype(int))
    finally:
        active.use(before)
    assert np.abs(images[0] - images[1]).max() <= 1  # rounding to a grey level


def test_every_ten_images_are_ten_digits():
    _, y = strokes.draw_split(COUNT, 0, "train")
    assert np.array_equal(np.sort(y.reshape(-1, 10), axis=1), np.tile(np.arange(10), (COUNT // 10, 1)))
    assert len({row.tobytes() for row in y.reshape(-1, 10)}) > 1, "the order is chance"


def test_digits_fill_the_box_and_balance_in_the_middle():
    x, _ = strokes.draw_split(COUNT, 0, "train")
    rows, columns = (x > 0).any(2), (x > 0).any(1)
    height, width = (28 - side.argmax(1) - side[:, ::-1].argmax(1) for side in (rows, columns))
    assert np.maximum(height, width).max() <= 20
    assert np.maximum(height, width).min() >= 18
    assert x.max((1, 2)).min() >= 200, "every image shows ink"
    place = np.arange(28)
    mass = x.sum((1, 2), dtype=float)
    for axis in (1, 2):
        centre = x.sum(axis, dtype=float) @ place / mass
        assert np.abs(centre - 14).max() <= 0.5 + 1e-9
        assert abs(centre.mean() - 14) < 0.15


@pytest.mark.needs("mnist")
@pytest.mark.no_jit_excluded("draws 2000 images: minutes of plain Python loops")
def test_ink_looks_like_mnist():
    real = read_idx(mnist._locate(mnist.find(), mnist.FILES[0].name))[:2000]  # in any spelling
    drawn, _ = strokes.draw_split(2000, 0, "train")
    for measure, tolerance in ((lambda x: (x / 255).sum((1, 2)), 0.12), (lambda x: (x > 127).mean((1, 2)), 0.12)):
        ours, theirs = measure(drawn), measure(real)
        assert abs(ours.mean() / theirs.mean() - 1) < tolerance
        assert abs(ours.std() / theirs.std() - 1) < 2.5 * tolerance
    rows = real.sum(2, dtype=float) @ np.arange(28) / real.sum((1, 2))
    assert np.abs(rows - 14).max() <= 0.5 + 1e-9, "the convention our frame follows"


def test_every_digit_has_styles_and_every_style_is_drawn():
    names = [[style.name for style in styles] for styles in SKELETONS]
    assert len(names) == 10
    assert all(len(set(listed)) == len(listed) >= 3 for listed in names)
    drawn = np.concatenate([strokes.write(np.random.default_rng(k), strokes.Variation())[2] for k in range(8)])
    counts = np.bincount(drawn, minlength=len(splines.templates().digit))
    assert len(counts) == sum(map(len, names))
    assert counts.min() > 0
    weights = [style.weight for style in SKELETONS[1]]
    ones = counts[splines.templates().digit == 1]
    np.testing.assert_allclose(ones / ones.sum(), np.array(weights) / sum(weights), atol=0.05)


def test_skeletons_lie_in_their_box():
    for style in (style for styles in SKELETONS for style in styles):
        assert style.weight > 0
        for stroke in style.strokes:
            assert len(set(stroke)) >= 2
            assert 0 <= min(map(min, stroke)) <= max(map(max, stroke)) <= 1
            heights = [y for line in style.strokes for _, y in line]
        assert max(heights) - min(heights) > 0.4


def test_splines_pass_through_their_points_and_stop_at_corners():
    corner = Style("tick", 1, [[(0, 0), (.2, .4), (.5, 1), (.5, 1), (1, 0)], [(.5, .2), (.9, .2)]])
    controls, stroke, middles, smooth, _, drawn = splines._template(corner, 8)
    vertices = smooth @ controls
    assert vertices.shape == (splines.VERTICES, 2)
    for point in ((0, 0), (.5, 1), (1, 0), (.5, .2), (.9, .2)):  # ends of pieces are hit exactly
        assert np.abs(vertices - point).max(1).min() < 1e-6
    assert np.hypot(*(vertices - (.2, .4)).T).min() < 0.05
    assert (~drawn).sum() == 1
    leg = vertices[:-1][np.argmax(np.abs(vertices - (.5, 1)).max(1) < 1e-6):][1:6]
    assert np.abs(leg[:, 1] - (1 - 2 * (leg[:, 0] - .5))).max() < 1e-6, "two points make a straight line"
    assert list(stroke[:6]) == [0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(middles[4], (.7, .2), atol=1e-6)


def test_wide_pens_leave_loops_open():
    turn = np.linspace(0, 2 * np.pi, 41)
    ring = np.stack([0.2 * np.cos(turn), np.sin(turn)], axis=-1)  # narrow: 4 x 20 pixels
    bar = np.stack([0 * turn, np.sin(turn / 4)], axis=-1)
    points, drawn = np.stack([ring, bar, ring * (4, 1)]), np.ones((3, 40), bool)
    narrow, straight, round_ = strokes._widest_pen(points, drawn).ravel()
    assert narrow < 1 < round_
    assert straight > 4
    assert strokes._widest_pen(points * 7, drawn).ravel() == pytest.approx([narrow, straight, round_])
    lifted = drawn.copy()
    lifted[0, 20:] = False  # half the ring has nothing to enclose
    assert strokes._widest_pen(points, lifted)[0] > 3


@pytest.mark.parametrize("bad", [{"train": -1}, {"test": 2.5}, {"seed": "x"}, {"train": True}, {"seed": -1},
                                 {"test": None}])
def test_bad_arguments_are_refused_by_name(bad):
    (name, value), = bad.items()
    with pytest.raises(ArgumentError, match=f"{name}={value!r}.*at least 0"):
        strokes.load_data(**{"train": 1, "test": 1, **bad})
