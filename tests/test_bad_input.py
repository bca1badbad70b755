"""Bad input: the message says what was received, what was expected and what to do, and the model stays usable."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import Sequential, losses, optimizers, utils
from minicnn.errors import ArgumentError, DataError, ShapeError, StateError, UnsupportedError
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, MaxPooling2D


@pytest.fixture
def data(rng):
    return rng.uniform(size=(12, 6, 5, 1)).astype(np.float32), rng.integers(0, 4, 12)


@pytest.fixture
def model() -> Sequential:
    network = Sequential([Conv2D(3, 3, activation="relu", input_shape=(6, 5, 1)), BatchNormalization(), Flatten(),
                          Dense(4, activation="softmax")])
    network.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    return network


def one_hot(y):
    return np.eye(4, dtype=np.float32)[y]


def with_value(x, value, *rows):
    x = x.copy()
    for row in rows:
        x[row, 2, 3, 0] = value
    return x


# What fit, evaluate and train_on_batch must refuse: (data from good data, error, words of the message).
BAD_DATA = {
    "channel axis missing": (lambda x, y: (x[..., 0], y), ShapeError, r"channel axis is missing: use x\[\.\.\., No"),
    "wrong width": (lambda x, y: (x[:, :, :4], y), ShapeError, r"\(12, 6, 4, 1\); expected \(N, 6, 5, 1\)"),
    "batch axis missing": (lambda x, y: (x[0], y[:6]), ShapeError, r"got an input of shape \(6, 5, 1\)"),
    "flat": (lambda x, y: (x.reshape(12, -1), y), ShapeError, r"got an input of shape \(12, 30\)"),
    "text": (lambda x, y: (np.full((12, 6, 5, 1), "a"), y), DataError, "expected an array of numbers"),
    "empty": (lambda x, y: (x[:0], y[:0]), DataError, r"\(0, 6, 5, 1\), which is empty"),
    "nan": (lambda x, y: (with_value(x, np.nan, 3, 7), y), DataError, r"NaN or infinite values in 2 rows \(3, 7\)"),
    "infinity": (lambda x, y: (with_value(x, -np.inf, 5), y), DataError, r"infinite values in 1 row \(5\)"),
    "fewer labels": (lambda x, y: (x, y[:-1]), ShapeError, r"x has 12 rows and y has the shape \(11,\)"),
    "no labels": (lambda x, y: (x, None), DataError, "no labels"),
    "label too large": (lambda x, y: (x, np.where(np.arange(12) == 8, 4, y)), DataError,
                        r"label 4 in row 8 is out of range; expected whole numbers from 0 to 3"),
    "label negative": (lambda x, y: (x, np.where(np.arange(12) < 2, -1, y)), DataError, r"label -1 in 2 rows \(0, 1\)"),
    "label not whole": (lambda x, y: (x, y + 0.5), DataError, "expected whole numbers"),
    "label nan": (lambda x, y: (x, np.where(np.arange(12) == 8, np.nan, y)), DataError, r"y has NaN .* \(8\)"),
    "one-hot": (lambda x, y: (x, one_hot(y)), ShapeError, "Use loss='categorical_crossentropy'"),
    "labels of rank 2": (lambda x, y: (x, np.stack([y, y], 1)), ShapeError, r"\(12, 2\); .* shape \(N,\)"),
}


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch", "test_on_batch", "loss_and_gradients"])
@pytest.mark.parametrize("case", sorted(BAD_DATA))
def test_bad_data_is_refused_and_changes_nothing(model, data, call, case):
    make, error, words = BAD_DATA[case]
    before = model.weights_sha256()
    with pytest.raises(error, match=words):
        getattr(model, call)(*make(*data))
    assert model.weights_sha256() == before
    model.fit(*data, verbose=0)


@pytest.mark.parametrize("case", ["channel axis missing", "wrong width", "batch axis missing", "flat", "text", "empty",
                                  "nan", "infinity"])
def test_predict_refuses_bad_data(model, data, case):
    make, error, words = BAD_DATA[case]
    with pytest.raises(error, match=words):
        model.predict(make(*data)[0])
    assert model.predict(data[0]).shape == (12, 4)


def test_class_numbers_with_the_loss_for_one_hot_labels(model, data):
    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ShapeError, match=r"Use loss='sparse_categorical_crossentropy', or minicnn\.utils\.to_categori"):
        model.fit(*data, verbose=0)
    with pytest.raises(ShapeError, match=r"expected \(N, 4\)"):
        model.fit(data[0], np.eye(5)[data[1]], verbose=0)
    with pytest.raises(DataError, match=r"row 1 are no probabilities"):
        model.fit(data[0], one_hot(data[1]) * np.where(np.arange(12) == 1, 2, 1)[:, None], verbose=0)
    model.fit(data[0], one_hot(data[1]), verbose=0)


def test_calls_before_compile(data):
    network = Sequential([Flatten(), Dense(4)])
    for call in ("fit", "evaluate", "train_on_batch", "test_on_batch", "loss_and_gradients"):
        with pytest.raises(StateError, match=rf"{call} was called before .* Call model\.compile\("):
            getattr(network, call)(*data)
    network.compile("adam")
    with pytest.raises(StateError, match="compiled with a loss"):
        network.fit(*data)
    with pytest.raises(StateError, match="without layers"):
        Sequential().fit(*data)
    with pytest.raises(StateError, match="predict was called on a model without layers; add some first"):
        Sequential().predict(data[0])


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"optimizer": "adma"}, ArgumentError, "Did you mean 'adam'"),
    ({"loss": "crossentropy"}, ArgumentError, "Did you mean 'categorical_crossentropy'"),
    ({"loss": "sparse_categorical_crossentropy", "metrics": ["acuracy"]}, ArgumentError, "Did you mean 'accuracy'"),
    ({"loss_weights": [1.0]}, UnsupportedError, "loss_weights"),
])
def test_compile_refuses_unknown_names_and_keeps_the_old_setting(model, data, arguments, error, words):
    with pytest.raises(error, match=words):
        model.compile(**arguments)
    model.fit(*data, verbose=0)


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"batch_size": 0}, ArgumentError, "batch_size is 0"),
    ({"batch_size": 2.5}, ArgumentError, "batch_size is 2.5"),
    ({"validation_split": 1.5}, ArgumentError, "at least 0 and less than 1"),
    ({"validation_split": 0.99}, ArgumentError, "leaves"),
    ({"steps_per_epoch": 0}, ArgumentError, "steps_per_epoch is 0"),
    ({"sample_weight": np.ones(5)}, ShapeError, "sample_weight has the shape"),
    ({"sample_weight": np.ones((12, 2))}, ShapeError, r"expected \(12,\)"),
    ({"sample_weight": np.full(12, np.nan)}, DataError, "sample_weight has NaN"),
    ({"callbacks": ["bar"]}, ArgumentError, "callbacks holds 'bar'"),
    ({"validation_freq": 2}, UnsupportedError, "validation_freq"),
    ({"epoch": 2}, TypeError, "'epoch'"),
    ({"validation_data": 5}, DataError, "expected an array"),
])
def test_fit_refuses_bad_arguments(model, data, arguments, error, words):
    before = model.weights_sha256()
    with pytest.raises(error, match=words):
        model.fit(*data, verbose=0, **arguments)
    assert model.weights_sha256() == before
    model.fit(*data, verbose=0)


def test_iterators_are_checked_batch_by_batch(model, data):
    x, y = data
    with pytest.raises(DataError, match="gave none"):
        model.fit(iter([]), verbose=0)
    with pytest.raises(DataError, match="gave 4 things"):
        model.fit(iter([(x, y, y, y)]), verbose=0)
    with pytest.raises(DataError, match=r"rows \(3, 7\)"):
        model.fit(iter([(with_value(x, np.nan, 3, 7), y)]), verbose=0)
    with pytest.raises(DataError, match="no labels"):
        model.fit(iter([x]), verbose=0)
    with pytest.raises(ArgumentError, match="iterator of batches"):
        model.fit(iter([(x, y)]), y, verbose=0)
    with pytest.raises(DataError, match="expected an array"):
        model.fit(verbose=0)
    with pytest.raises(DataError, match="no batches to predict"):
        model.predict(iter([]))
    for steps in (None, 3):
        with pytest.raises(DataError, match="The iterator gave no batches to evaluate"):
            model.evaluate(iter([]), steps=steps)
    model.fit(iter([(x, y)]), verbose=0)


def test_output_that_is_no_row_of_classes(data):
    network = Sequential([Conv2D(3, 3)])
    network.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(StateError, match="End the network with Flatten and Dense"):
        network.fit(*data, verbose=0)


def test_a_pool_larger_than_the_image():
    with pytest.raises(ShapeError, match=r"got images of 3x7 for a pool of 4x2; the pool must fit .* padding='same'"):
        Sequential([MaxPooling2D((4, 2), input_shape=(3, 7, 2))])


def test_from_logits_after_a_softmax_warns():
    network = Sequential([Dense(3, activation="softmax")])
    with pytest.warns(UserWarning, match="from_logits=True, but"):
        network.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=True))


def test_learning_rates_must_be_sensible(model):
    for wrong in (-1, float("nan"), float("inf"), "fast", None):
        with pytest.raises(ArgumentError, match="learning_rate is"):
            model.optimizer.learning_rate = wrong
    model.optimizer.learning_rate = np.float32(0.5)
    assert model.optimizer.learning_rate == 0.5


def test_to_categorical():
    np.testing.assert_array_equal(utils.to_categorical([2, 0], 4), [[0, 0, 1, 0], [1, 0, 0, 0]])
    np.testing.assert_array_equal(utils.to_categorical(np.array([[1], [0]])), [[0, 1], [1, 0]])
    assert utils.to_categorical([1]).dtype == np.float32
    with pytest.raises(DataError, match="from 0 to 3"):
        utils.to_categorical([4], 4)
    with pytest.raises(DataError, match="empty"):
        utils.to_categorical([])
    with pytest.raises(ArgumentError, match="whole number"):
        utils.set_random_seed("7")


# -- what must not go through, crash, or spoil the model ------------------------------------------------------------

@pytest.mark.parametrize(("arguments", "error", "words"), [
    ({"class_weight": {0: float("nan")}}, ArgumentError, r"class_weight\[0\] is nan"),
    ({"class_weight": {"0": 2.0}}, ArgumentError, "key of class_weight is '0'"),
    ({"class_weight": {4: 2.0}}, ArgumentError, "classes 0 to 3"),
    ({"class_weight": [1, 2, 3, 4]}, ArgumentError, "expected a dict"),
    ({"sample_weight": np.full(12, 1e39)}, DataError, "finite in float32"),
    ({"sample_weight": np.full(12, "a")}, DataError, "expected an array of numbers"),
    ({"epochs": 2.5}, ArgumentError, "epochs is 2.5"),
    ({"epochs": -1}, ArgumentError, "epochs is -1"),
    ({"initial_epoch": -2}, ArgumentError, "initial_epoch is -2"),
    ({"verbose": "loud"}, ArgumentError, "verbose is 'loud'"),
    ({"validation_split": "a"}, ArgumentError, "validation_split is 'a'"),
    ({"validation_split": 0.5, "validation_batch_size": 0}, ArgumentError, "batch_size is 0"),
    ({"validation_data": (np.ones((3, 6, 5)), np.zeros(3))}, ShapeError, "channel axis is missing"),
    ({"validation_data": (np.ones((3, 6, 5, 1)), np.full(3, 4))}, DataError, "label 4"),
])
def test_fit_checks_everything_before_the_first_step(model, data, arguments, error, words):
    before = model.weights_sha256()
    with pytest.raises(error, match=words):
        model.fit(*data, **({"verbose": 0} | arguments))
    assert model.weights_sha256() == before
    assert model.updates == 0


@pytest.mark.parametrize("x", ["abc", {"a": 1}, None, 3, 2.5])
def test_what_is_neither_an_array_nor_an_iterable_of_batches_is_named(model, x):
    for call in (model.fit, model.evaluate):
        with pytest.raises(DataError, match="expected an array, or an iterable of batches"):
            call(x, np.zeros(3))
    with pytest.raises(DataError, match="expected an array, or an iterable of batches"):
        model.predict(x)


def test_ragged_rows_and_text_labels(model, data):
    with pytest.raises(DataError, match="rows differ in length"):
        model.fit([[1, 2], [3]], [0, 1])
    with pytest.raises(DataError, match="y has the type <U"):
        model.fit(data[0], data[1].astype(str))


def test_values_that_overflow_float32_are_found_before_they_are_infinite(model, data):
    x = data[0].astype(np.float64)
    x[4, 1, 1, 0] = 1e300
    with pytest.raises(DataError, match=r"1 row \(4\); expected numbers finite in float32"):
        model.fit(x, data[1], verbose=0)
    assert np.isfinite(model.predict(data[0])).all()


def test_empty_and_nan_batches_reach_no_layer(model, data):
    for empty in (lambda: model(data[0][:0]), lambda: model.predict(iter([data[0][:0]]))):
        with pytest.raises((ShapeError, DataError), match="empty"):
            empty()
    with pytest.raises(DataError, match=r"1 row \(2\)"):
        model.predict(iter([with_value(data[0], np.nan, 2)]))


def test_iterators_are_warned_about_pixels_that_are_not_scaled(model, data):
    with pytest.warns(UserWarning, match="255"):
        model.fit(iter([(data[0] * 255, data[1])]), verbose=0)


def test_a_failed_first_call_does_not_build_the_model(data):
    network = Sequential([Flatten(), Dense(4)])
    network.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(DataError, match="label 4"):
        network.fit(data[0], np.full(12, 4), verbose=0)
    assert not network.built
    network.fit(data[0][:, :4], data[1], verbose=0)


def test_an_optimizer_serves_one_model(data):
    first, second = (Sequential([Flatten(), Dense(4)]) for _ in range(2))
    optimizer = optimizers.Adam()
    first.compile(optimizer, "sparse_categorical_crossentropy")
    first.compile(optimizer, "sparse_categorical_crossentropy")
    with pytest.raises(ArgumentError, match="belongs to another model"):
        second.compile(optimizer, "sparse_categorical_crossentropy")


@pytest.mark.parametrize("make", [
    lambda: optimizers.Adam(epsilon=-1), lambda: optimizers.Adam(beta_1="a"), lambda: optimizers.SGD(momentum=1),
    lambda: optimizers.RMSprop(epsilon="a"), lambda: optimizers.SGD(learning_rate=True)])
def test_optimizers_check_their_numbers(make):
    with pytest.raises(ArgumentError, match="expected a number"):
        make()


def test_numpy_numbers_are_numbers(model, data):
    model.fit(*data, batch_size=np.int64(5), epochs=np.int32(1), steps_per_epoch=np.int64(2), verbose=0)
    assert model.updates == 2
    assert Dropout(np.float32(0.25)).rate == 0.25


def test_steps_are_called_by_their_name(model, data):
    with pytest.raises(ArgumentError, match=r"^steps is 0"):
        model.evaluate(*data, steps=0)
