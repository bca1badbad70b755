"""The flow of moved images: its batches, its two parts, how it is trained on, and what it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minicnn.errors import ArgumentError, DataError, ShapeError, UnsupportedError
from minicnn.layers import Dense, Flatten, Input
from minicnn.models import Sequential
from minicnn.preprocessing.image import ImageDataGenerator
from moved_images import ALL, expected, images, passes, same
from networks import Rows, compiled

# --- batches -----------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("reference_kernels")
def test_each_epoch_passes_through_all_images_in_an_order_of_its_own(rng):
    x, y = images(rng, (11, 3, 4, 1)), np.arange(11)
    weight = rng.random(11)
    flow = ImageDataGenerator().flow(x, y, batch_size=4, sample_weight=weight, seed=1)
    assert (len(flow), flow.n, flow.batch_size) == (3, 11, 4)
    orders = []
    for _ in range(3):
        batches = passes(flow, 1)
        assert [len(batch) for batch, _, _ in batches] == [4, 4, 3]
        order = np.concatenate([rows for _, rows, _ in batches])
        np.testing.assert_array_equal(np.concatenate([batch for batch, _, _ in batches]), x[order])
        np.testing.assert_array_equal(np.concatenate([weights for _, _, weights in batches]), weight[order])
        orders.append(order.tolist())
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    for batch, other in zip(passes(ImageDataGenerator().flow(x, y, 4, shuffle=False), 2), [0, 4, 8, 0, 4, 8]):
        np.testing.assert_array_equal(batch[1], y[other:other + 4])


@pytest.mark.usefixtures("reference_kernels")
def test_a_batch_can_be_asked_for_by_its_number_and_begun_again(rng):
    flow = ImageDataGenerator(**ALL).flow(images(rng), np.arange(7), batch_size=3, seed=1)
    third, first = flow[2], flow[0]
    assert same([first], [next(flow)])
    next(flow)
    assert same([third], [next(flow)])
    assert not np.array_equal(flow[0][0], first[0])  # the next epoch's
    next(flow)
    flow.reset()
    assert (flow.epoch, flow.position) == (1, 0)
    for index in (3, -1):
        with pytest.raises(ArgumentError, match=f"batch {index}; expected one from 0 to 2"):
            flow[index]


@pytest.mark.usefixtures("reference_kernels")
def test_the_first_images_are_for_validation_and_transformed_as_well(rng):
    x, y = images(rng, (10, 4, 3, 1)), np.arange(10) % 2
    datagen = ImageDataGenerator(rotation_range=50, validation_split=0.39)
    first, rest = (datagen.flow(x, y, 20, shuffle=False, seed=1, subset=name) for name in ("validation", "training"))
    assert (first.n, rest.n) == (3, 7)
    for flow, part in ((first, slice(0, 3)), (rest, slice(3, 10))):
        batch, labels = flow[0]
        np.testing.assert_array_equal(labels, y[part])
        assert not np.isclose(batch, x[part]).all()
        np.testing.assert_allclose(batch, [expected(*pair) for pair in zip(x[part], flow.transforms())], atol=1e-5)


@pytest.mark.usefixtures("reference_kernels")
def test_a_subset_must_hold_the_classes_of_the_other(rng):
    x, y = images(rng), np.array([0, 0, 1, 1, 1, 0, 1])
    datagen = ImageDataGenerator(validation_split=0.3)
    with pytest.raises(ArgumentError, match=r"first 2 .* same classes"):
        datagen.flow(x, y, subset="training")
    assert datagen.flow(x, y, subset="training", ignore_class_split=True).n == 5
    assert datagen.flow(x, subset="validation").n == 2
    with pytest.raises(ArgumentError, match="0 to validate on and 7 to train on"):
        ImageDataGenerator().flow(x, y, subset="training")
    with pytest.raises(ArgumentError, match="'validation'"):
        datagen.flow(x, y, subset="valid")


# --- training ----------------------------------------------------------------------------------------------------

def recording():
    """Return a network that writes down the first pixel of every training image, times 100."""
    rows = Rows()
    return compiled(Sequential([Flatten(input_shape=(3, 2, 1)), rows, Dense(2, activation="softmax")], seed=1)), rows


def numbered_images(n):
    return np.arange(n).reshape(-1, 1, 1, 1) / 100 * np.ones((3, 2, 1)), np.arange(n) % 2


@pytest.mark.usefixtures("reference_kernels")
def test_fit_passes_through_the_flow_once_an_epoch_in_new_orders():
    model, rows = recording()
    x, y = numbered_images(7)
    history = model.fit(ImageDataGenerator().flow(x, y, batch_size=3, seed=4), epochs=3, verbose=0,
                        validation_data=(x, y))
    assert [len(batch) for batch in rows.batches] == [3, 3, 1] * 3
    orders = [tuple(itertools.chain(*rows.batches[k:k + 3])) for k in (0, 3, 6)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len(set(orders)) == 3
    assert len(history.history["val_loss"]) == 3


@pytest.mark.usefixtures("reference_kernels")
def test_steps_per_epoch_go_on_where_the_epoch_before_ended():
    model, rows = recording()
    x, y = numbered_images(7)
    flow = ImageDataGenerator().flow(x, y, batch_size=3, seed=4)
    model.fit(flow, steps_per_epoch=7 // 3, epochs=3, verbose=0)
    assert [len(batch) for batch in rows.batches] == [3, 3, 1, 3, 3, 1]
    assert (flow.epoch, flow.position) == (2, 0)
    assert sorted(itertools.chain(*rows.batches[3:])) == list(range(7))


@pytest.mark.usefixtures("reference_kernels")
def test_evaluation_and_prediction_take_one_pass(rng):
    x, y = images(rng), np.arange(7) % 3
    model = compiled(Sequential([Input((5, 6, 1)), Flatten(), Dense(3, activation="softmax")]))
    flow = ImageDataGenerator().flow(x, y, batch_size=3, shuffle=False)
    assert model.evaluate(flow) == pytest.approx(model.evaluate(x, y), rel=1e-6)
    np.testing.assert_array_equal(model.predict(flow), model.predict(x))
    assert model.fit(x, y, epochs=2, verbose=0, validation_data=flow).history["val_loss"][-1] == pytest.approx(
        model.evaluate(x, y)[0], rel=1e-6)
    assert (flow.epoch, flow.position) == (4, 0)


# --- what is refused ---------------------------------------------------------------------------------------------

def test_what_keras_authors_switch_off_may_be_written_out(rng):
    datagen = ImageDataGenerator(
        featurewise_center=False, samplewise_center=False, featurewise_std_normalization=False, zca_whitening=False,
        samplewise_std_normalization=False, horizontal_flip=False, vertical_flip=False, shear_range=0,
        brightness_range=None, data_format="channels_last", interpolation_order=1, dtype="float32", **ALL)
    datagen.fit(images(rng))
    assert datagen.flow(images(rng), save_to_dir=None).n == 7


@pytest.mark.parametrize(("name", "value"), [
    ("horizontal_flip", True), ("shear_range", 0.2), ("brightness_range", (0.5, 1)), ("zca_whitening", True),
    ("featurewise_center", True), ("data_format", "channels_first"), ("preprocessing_function", abs),
    ("interpolation_order", 3), ("dtype", "float16")])
def test_other_arguments_of_keras_are_refused_by_name(name, value):
    with pytest.raises(UnsupportedError, match=f"{name}=.*rotation_range, .* are supported"):
        ImageDataGenerator(**{name: value})


@pytest.mark.parametrize(("options", "words"), [
    ({"rotation_range": -1}, "rotation_range is -1"), ({"rotation_range": "10"}, "rotation_range"),
    ({"width_shift_range": -0.1}, "width_shift_range is -0.1"), ({"height_shift_range": True}, "height_shift_range"),
    ({"height_shift_range": -2}, "height_shift_range is -2"), ({"width_shift_range": []}, "sequence of numbers"),
    ({"width_shift_range": [1, np.nan]}, "sequence of numbers"), ({"width_shift_range": ["a"]}, "sequence"),
    ({"zoom_range": 1.5}, "zoom_range is 1.5"), ({"zoom_range": 1}, "zoom_range is 1; .*less than 1"),
    ({"zoom_range": (0, 1.1)}, r"zoom_range is \(0, 1.1\); .*a factor of 0 would leave one point"),
    ({"zoom_range": (0.9, 1, 1.1)}, "zoom_range"),
    ({"zoom_range": (-0.1, 1)}, "zoom_range"), ({"fill_mode": "nearst"}, "Did you mean 'nearest'"),
    ({"cval": "black"}, "cval"), ({"rescale": "1/255"}, "rescale"), ({"validation_split": 1}, "validation_split")])
def test_arguments_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ArgumentError, match=words):
        ImageDataGenerator(**options)


@pytest.mark.parametrize(("change", "kind", "words"), [
    ({"x": np.zeros((7, 5, 6))}, ShapeError, r"\(7, 5, 6\); expected \(N, H, W, C\)"),
    ({"x": np.full((7, 5, 6, 1), np.nan)}, DataError, "NaN"), ({"y": np.arange(6)}, ShapeError, "7 rows"),
    ({"x": [np.zeros((7, 5, 6, 1)), np.zeros((7, 2))]}, ShapeError, "two inputs"),
    ({"batch_size": 0}, ArgumentError, "batch_size"), ({"seed": -1}, ArgumentError, "seed"),
    ({"save_to_dir": "augmented"}, UnsupportedError, "save_to_dir=.*subset are supported"),
    ({"workers": 2}, TypeError, "unexpected argument 'workers'")])
def test_flow_refuses_what_it_cannot_use(change, kind, words):
    with pytest.raises(kind, match=words):
        ImageDataGenerator(**ALL).flow(**{"x": np.zeros((7, 5, 6, 1)), "y": np.arange(7)} | change)


@pytest.mark.usefixtures("reference_kernels")
def test_a_single_image_may_be_transformed(rng):
    (x,) = images(rng, (1, 5, 7, 2))
    datagen = ImageDataGenerator(**ALL)
    transform = datagen.get_random_transform(x.shape, seed=3)
    assert transform == datagen.get_random_transform(x.shape, seed=3)
    assert transform != datagen.get_random_transform(x.shape, seed=4)
    assert datagen.get_random_transform(x.shape) != datagen.get_random_transform(x.shape)
    wanted = expected(x, transform.values())
    np.testing.assert_allclose(datagen.random_transform(x, seed=3), wanted, atol=1e-5)
    with pytest.raises(ArgumentError, match=r"'shear'.*theta"):
        datagen.apply_transform(x, {"shear": 1.0})
    for call in (lambda: datagen.apply_transform(x[0], {}), lambda: datagen.fit(x)):
        with pytest.raises(ShapeError, match="expected"):
            call()
