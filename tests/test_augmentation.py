"""Augmentation: the images are SciPy's for the transform drawn, what is drawn is what Keras' arguments say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minicnn import utils
from minicnn.preprocessing.image import ImageDataGenerator
from minicnn.preprocessing.transforms import CHANCES, Shift
from moved_images import ALL, expected, images, passes, same

SIZES = [(5, 9, 7, 3), (4, 6, 11, 1), (3, 1, 4, 2)]


# --- the images --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["nearest", "constant", "reflect", "wrap"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_each_image_is_scipys_for_the_transform_drawn(kernel_set, rng, shape, mode):
    x, y = images(rng, shape), np.arange(shape[0])
    datagen = ImageDataGenerator(**ALL, fill_mode=mode, cval=0.4, rescale=1 / 3)
    flow = datagen.flow(x, y, batch_size=2, seed=5)
    transforms = [flow.transforms()]
    for k, (batch, rows) in enumerate(itertools.islice(flow, 2 * len(flow))):
        if k == len(flow):
            transforms.append(flow.transforms())
        for image, n in zip(batch, rows, strict=True):
            wanted = expected(x[n], transforms[-1][n], mode, 0.4) / 3
            np.testing.assert_allclose(image, wanted, rtol=0, atol=1e-5)
    assert not np.isclose(transforms[0], transforms[1]).any()


@pytest.mark.needs("keras")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("reference_kernels")
def test_the_image_is_that_of_keras_but_for_its_exchanged_axes(rng):
    from keras.src.legacy.preprocessing.image import apply_affine_transform
    x = images(rng, (9, 9, 2))
    transform = {"theta": 25.0, "tx": 1.5, "ty": -2.25, "zx": 0.8, "zy": 1.3}
    ours = ImageDataGenerator(fill_mode="reflect").apply_transform(x, transform)
    theirs = apply_affine_transform(x.swapaxes(0, 1), **transform, row_axis=0, col_axis=1, channel_axis=2,
                                    fill_mode="reflect").swapaxes(0, 1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("reference_kernels")
def test_shifts_go_where_their_names_say():
    """A positive shift fetches from below, or from the right: the picture moves up, or to the left."""
    x = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    datagen = ImageDataGenerator(fill_mode="constant", cval=99)
    assert datagen.apply_transform(x, {"tx": 1})[..., 0].tolist() == [[4, 5, 6, 7], [8, 9, 10, 11], [99] * 4]
    assert datagen.apply_transform(x, {"ty": -2})[..., 0].tolist() == [[99, 99, 0, 1], [99, 99, 4, 5], [99, 99, 8, 9]]
    turned = ImageDataGenerator().apply_transform(x, {"theta": 180})
    np.testing.assert_allclose(turned, x[::-1, ::-1], atol=1e-5)  # about the middle, though it is not square


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.int32])
def test_without_ranges_images_pass_in_float32_times_rescale(rng, dtype):
    x = rng.integers(0, 256, (5, 4, 3, 2)).astype(dtype)
    before = x.copy()
    (batch,) = itertools.islice(ImageDataGenerator(rescale=1 / 255).flow(x, batch_size=9, shuffle=False), 1)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, x.astype(np.float32) * np.float32(1 / 255))
    np.testing.assert_array_equal(x, before)


# --- what is drawn -----------------------------------------------------------------------------------------------

def drawn(rng, size=(20, 40), n=20000, **options):
    """Return many transforms: theta, tx, ty, zx, zy."""
    return ImageDataGenerator(**options).transforms(rng.random((n, CHANCES)), size).T


def is_even(values, low, high):
    """Whether numbers fill an interval evenly: range, mean and deviation, to a fiftieth of its length."""
    length = high - low
    found = values.min(), values.max(), values.mean(), values.std()
    wanted = low, high, (low + high) / 2, length / np.sqrt(12)
    return low <= values.min() <= values.max() <= high and np.allclose(found, wanted, rtol=0, atol=length / 50)


def test_what_is_not_asked_for_stays(rng):
    np.testing.assert_array_equal(drawn(rng, n=9), np.array([0, 0, 0, 1, 1])[:, None] * np.ones(9))


def test_ranges_are_filled_evenly_and_independently(rng):
    theta, tx, ty, zx, zy = found = drawn(rng, rotation_range=30, height_shift_range=0.1, width_shift_range=0.2,
                                          zoom_range=0.25)
    assert is_even(theta, -30, 30)
    assert is_even(tx, -2, 2)  # a tenth of 20 rows
    assert is_even(ty, -8, 8)  # a fifth of 40 columns
    assert is_even(zx, 0.75, 1.25)
    assert is_even(zy, 0.75, 1.25)
    assert np.abs(np.corrcoef(found) - np.eye(5)).max() < 0.05


@pytest.mark.parametrize(("value", "pixels"), [
    (3, {-2, -1, 0, 1, 2}), (np.int64(2), {-1, 0, 1}), (1, {0}), (0, {0}), ([4, 7], {-7, -4, 4, 7}),
    (np.array([5.5]), {-5.5, 5.5}), ((0.25, 0.5), {-20, -10, 10, 20}), ([-3, 2], {-3, -2, 2, 3})], ids=str)
def test_whole_numbers_and_sequences_are_drawn_from(rng, value, pixels):
    _, tx, ty, _, _ = drawn(rng, n=2000, width_shift_range=value)
    assert set(ty.tolist()) == pixels
    assert not tx.any()
    counts = [np.isclose(np.abs(ty), size).mean() for size in {abs(pixel) for pixel in pixels}]
    assert np.allclose(counts, 1 / len(counts), atol=0.05)


def test_a_float_of_one_or_more_is_in_pixels(rng):
    assert is_even(drawn(rng, height_shift_range=3.0)[1], -3, 3)
    assert is_even(drawn(rng, height_shift_range=1.0)[1], -1, 1)


@pytest.mark.parametrize("zoom", [(0.5, 0.7), [0.7, 0.5], np.array([0.5, 0.7])])
def test_a_zoom_may_have_two_ends(rng, zoom):
    zx, zy = drawn(rng, zoom_range=zoom)[3:]
    assert is_even(zx, 0.5, 0.7)
    assert is_even(zy, 0.5, 0.7)


# --- the seed ----------------------------------------------------------------------------------------------------

def test_the_seed_decides_the_bits_and_the_threads_do_not(kernel_set, threads, rng):
    x, y = images(rng, (65, 24, 22, 1)), np.arange(65)  # large enough to be shared among threads
    found = []
    for number, seed in ((1, 3), (3, 3), (1, 4)):
        threads(number)
        found.append(passes(ImageDataGenerator(**ALL).flow(x, y, batch_size=65, seed=seed), 1))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.usefixtures("reference_kernels")
def test_without_a_seed_that_of_the_library_counts(rng, monkeypatch):
    monkeypatch.setattr(utils, "_default_seed", 0)
    x, y = images(rng), np.arange(7)
    chosen = passes(ImageDataGenerator(**ALL).flow(x, y, seed=12))
    utils.set_random_seed(12)
    assert same(passes(ImageDataGenerator(**ALL).flow(x, y)), chosen)


@pytest.mark.usefixtures("reference_kernels")
def test_an_image_gets_the_same_transform_in_whatever_batch(rng):
    x, y = images(rng), np.arange(7)
    flows = [ImageDataGenerator(**ALL).flow(x, y, size, shuffle, seed=2)
             for size, shuffle in ((3, True), (5, True), (1, False))]
    for _ in range(2):
        by_number = [{n: image.tobytes() for batch, rows in passes(flow, 1) for image, n in zip(batch, rows)}
                     for flow in flows]
        assert by_number[0] == by_number[1] == by_number[2]
        assert len(by_number[0]) == 7


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("done", [0, 2, 3, 7])
def test_a_flow_goes_on_where_another_stood(rng, done):
    x, y = images(rng), np.arange(7)
    first, second = (ImageDataGenerator(**ALL).flow(x, y, batch_size=3, seed=8) for _ in range(2))
    for _ in range(done):
        next(first)
    second.epoch, second.position = first.epoch, first.position
    assert (first.epoch, first.position) == divmod(done, 3)
    assert same(passes(first), passes(second))


def test_a_drawn_place_is_always_inside_the_sequence():
    """The largest number below 1 must not become one place too many."""
    shift = Shift("width_shift_range", list(range(1, 4)))
    last = np.array([np.nextafter(1, 0)])
    assert shift.drawn(last, last, 10).tolist() == [3]
