"""What fit means: which rows, in which batches, from arrays and from iterators."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from minicnn import optimizers
from minicnn.callbacks import Callback
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input
from minicnn.models import Sequential
from networks import CLASSES, compiled, cross_entropy, draw_images, numbered, small_cnn

# --- building ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_way_of_building_trains_to_the_same_weights(kernel_set, dtype, rng):
    x, y = draw_images(rng, 7, (5, 4, 2))

    def layers(**first):
        return [Conv2D(2, (2, 3), activation="relu", dtype=dtype, **first), BatchNormalization(dtype=dtype),
                Flatten(dtype=dtype), Dropout(0.3, dtype=dtype), Dense(CLASSES, activation="softmax", dtype=dtype)]

    by_argument, by_input = Sequential(layers(input_shape=(5, 4, 2))), Sequential([Input((5, 4, 2)), *layers()])
    deferred, added = Sequential(layers()), Sequential()
    for layer in layers():
        added.add(layer)
    assert by_argument.built
    assert by_input.built
    assert not deferred.built
    for model in (by_argument, by_input, deferred, added):
        compiled(model).fit(x, y, batch_size=3, epochs=2, verbose=0)
    assert len({model.weights_sha256() for model in (by_argument, by_input, deferred, added)}) == 1
    assert {array.dtype for array in added.get_weights()} == {np.dtype(dtype)}
    assert added.predict(x).dtype == dtype


# --- which rows, in which batches --------------------------------------------------------------------------------

@pytest.mark.usefixtures("reference_kernels")
def test_the_last_batch_may_be_smaller():
    model, rows, x, y = numbered(7)
    model.fit(x, y, batch_size=3, shuffle=False, verbose=0)
    assert rows.batches == [[0, 1, 2], [3, 4, 5], [6]]
    assert model.optimizer.iterations == 3


@pytest.mark.usefixtures("reference_kernels")
def test_the_default_batch_size_is_32():
    model, rows, x, y = numbered(70)
    model.fit(x, y, shuffle=False, verbose=0)
    assert [len(batch) for batch in rows.batches] == [32, 32, 6]


@pytest.mark.usefixtures("reference_kernels")
def test_validation_takes_the_last_rows_before_shuffling():
    model, rows, x, y = numbered(10)
    model.fit(x, y, batch_size=4, epochs=2, validation_split=0.3, verbose=0)
    assert sorted(itertools.chain(*rows.batches)) == sorted([*range(7)] * 2)
    assert [len(batch) for batch in rows.batches] == [4, 3] * 2


def test_labels_and_weights_are_shuffled_with_their_rows(kernel_set):
    """With a learning rate of 0 and one row a batch, each batch's loss tells which label and weight it had."""
    model, rows, x, y = numbered(9)
    model.optimizer.learning_rate = 0
    weight = 1 + np.arange(9) ** 2
    losses = []

    class Losses(Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(logs["loss"] * (batch + 1) - sum(losses))              # logs are running means

    model.fit(x, y, batch_size=1, sample_weight=weight, verbose=0, callbacks=Losses())
    order = [batch[0] for batch in rows.batches]
    assert order != sorted(order)
    expected = (weight * cross_entropy(model, x, y))[order]
    assert losses == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("reference_kernels")
def test_steps_per_epoch_with_arrays_goes_on_where_the_epoch_before_ended():
    model, rows, x, y = numbered(10)
    history = model.fit(x, y, batch_size=4, steps_per_epoch=2, epochs=3, shuffle=False, verbose=0)
    first, second, rest = [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]
    assert rows.batches == [first, second, rest, first, second, rest]
    assert history.epoch == [0, 1, 2]


@pytest.mark.usefixtures("reference_kernels")
def test_an_endless_generator_with_steps_per_epoch():
    model, rows, x, y = numbered(10)
    drawn = []

    def endless():
        for k in itertools.count():
            drawn.append(k)
            yield x[k:k + 2], y[k:k + 2]

    model.fit(endless(), steps_per_epoch=2, epochs=3, verbose=0)
    assert rows.batches == [[k, k + 1] for k in range(6)]
    assert drawn == list(range(6))                                               # and none in vain


@pytest.mark.usefixtures("reference_kernels")
def test_an_iterable_is_passed_through_once_an_epoch():
    model, rows, x, y = numbered(5)

    class Batches:
        def __iter__(self):
            yield x[:3], y[:3]
            yield x[3:], y[3:], np.ones(2)

    model.fit(Batches(), epochs=2, verbose=0)
    assert rows.batches == [[0, 1, 2], [3, 4]] * 2


@pytest.mark.usefixtures("reference_kernels")
def test_initial_epoch_and_the_numbers_of_the_epochs(data):
    seen = []

    class Epochs(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)

    history = compiled().fit(*data, initial_epoch=3, epochs=5, callbacks=[Epochs()], verbose=0)
    assert history.epoch == seen == [3, 4]
    assert len(history.history["loss"]) == 2


def test_training_in_two_parts_is_training_in_one(kernel_set, rng):
    x, y = draw_images(rng, 10)
    whole, parts = (compiled(small_cnn(), "adam") for _ in range(2))
    history = whole.fit(x, y, epochs=3, batch_size=4, verbose=0)
    first = parts.fit(x, y, epochs=1, batch_size=4, verbose=0)
    second = parts.fit(x, y, initial_epoch=1, epochs=3, batch_size=4, verbose=0)
    assert parts.weights_sha256() == whole.weights_sha256()
    assert first.history["loss"] + second.history["loss"] == history.history["loss"]
    assert parts.history is second


# --- iterators ---------------------------------------------------------------------------------------------------

def test_iterators_of_batches_give_the_numbers_of_the_arrays(kernel_set, data, rng):
    """Training, validation, evaluation and prediction: arrays in order, or the same rows batch by batch."""
    x, y = data
    weight = rng.uniform(0.5, 2, 11)
    cuts = [slice(0, 4), slice(4, 8), slice(8, 11)]

    class Batches:
        def __init__(self, *arrays):
            self.arrays = arrays

        def __iter__(self):
            return iter([tuple(array[cut] for array in self.arrays) for cut in cuts])

    by_arrays, by_batches = compiled(), compiled()
    histories = [
        by_arrays.fit(x, y, sample_weight=weight, batch_size=4, epochs=2, shuffle=False, verbose=0,
                      validation_data=(x, y, weight)).history,
        by_batches.fit(Batches(x, y, weight), epochs=2, verbose=0, validation_data=Batches(x, y, weight)).history]
    assert histories[0] == histories[1]
    assert by_arrays.weights_sha256() == by_batches.weights_sha256()
    expected = by_arrays.evaluate(x, y, batch_size=4, sample_weight=weight)
    assert by_batches.evaluate(Batches(x, y, weight)) == expected
    assert by_batches.evaluate(Batches(x, y), steps=2) == by_arrays.evaluate(x[:8], y[:8], batch_size=4)
    predicted = by_arrays.predict(x, batch_size=4)
    for batches in (Batches(x), Batches(x, y), (x[cut] for cut in cuts)):
        np.testing.assert_array_equal(by_batches.predict(batches), predicted)
    np.testing.assert_array_equal(by_batches.predict(itertools.cycle(iter(Batches(x))), steps=2), predicted[:8])


@pytest.mark.usefixtures("reference_kernels")
def test_validation_steps_of_an_endless_generator(data):
    x, y = data
    model = compiled(optimizer=optimizers.SGD(0.0))
    endless = ((x[k:k + 2], y[k:k + 2]) for k in itertools.cycle([0, 2, 4, 6]))
    history = model.fit(x, y, epochs=2, verbose=0, validation_data=endless, validation_steps=2).history
    losses = cross_entropy(model, x, y)
    assert history["val_loss"] == pytest.approx([losses[:4].mean(), losses[4:8].mean()], rel=1e-5)
