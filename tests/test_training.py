"""What fit, evaluate and predict mean: which rows, in which batches, with which weights, said in which words."""

from __future__ import annotations

import itertools
import re
import warnings

import numpy as np
import pytest

from minicnn import optimizers
from minicnn.callbacks import Callback, History, LearningRateScheduler
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input
from minicnn.losses import SparseCategoricalCrossentropy
from minicnn.models import Sequential
from minicnn.utils import to_categorical
from networks import CLASSES, draw_images, error, small_cnn, small_dense

SPARSE = "sparse_categorical_crossentropy"


@pytest.fixture
def data(rng) -> tuple[np.ndarray, np.ndarray]:
    return draw_images(rng, 11, (4,))


def compiled(model: Sequential | None = None, optimizer="sgd", loss=SPARSE, metrics=("accuracy",)) -> Sequential:
    model = model or small_dense()
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


class Rows(Flatten):
    """Writes down the first number of every sample that comes by in training."""

    def __init__(self, **base) -> None:
        super().__init__(**base)
        self.batches: list[list[int]] = []

    def forward(self, x, training=False):
        if training:
            self.batches.append(np.rint(100 * x[:, 0]).astype(int).tolist())
        return super().forward(x, training)


def numbered(n: int) -> tuple[Sequential, Rows, np.ndarray, np.ndarray]:
    """Return a network that records its rows, and n rows numbered 0, 1, ..."""
    rows = Rows(input_shape=(2,))
    x = np.stack([np.arange(n) / 100, np.ones(n)], axis=1).astype(np.float32)
    return compiled(Sequential([rows, Dense(2, activation="softmax")])), rows, x, np.arange(n) % 2


def cross_entropy(model: Sequential, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the loss of each sample from the predictions, by the definition."""
    return -np.log(model.predict(x).astype(np.float64)[np.arange(len(y)), y])


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


# --- losses, weights and metrics ---------------------------------------------------------------------------------

@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_evaluate_is_the_mean_over_all_samples(kernel_set, batch_size, data):
    model, (x, y) = compiled(), data
    loss, accuracy = model.evaluate(x, y, batch_size=batch_size)
    assert loss == pytest.approx(cross_entropy(model, x, y).mean(), rel=1e-5)
    assert accuracy == pytest.approx((model.predict(x).argmax(axis=1) == y).mean())


def test_sample_weights(kernel_set, data, rng):
    """The weighted losses are divided by the number of samples, as in Keras, not by the sum of the weights."""
    model, (x, y) = compiled(), data
    weight = rng.uniform(0, 3, 11)
    expected = (weight * cross_entropy(model, x, y)).mean()
    assert model.evaluate(x, y, batch_size=4, sample_weight=weight)[0] == pytest.approx(expected, rel=1e-5)
    assert model.test_on_batch(x, y, weight)[0] == pytest.approx(expected, rel=1e-5)
    assert model.loss_and_gradients(x, y, weight) == pytest.approx(expected, rel=1e-5)
    assert model.train_on_batch(x, y, weight)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weights(kernel_set, one_hot, data):
    x, labels = data
    model = compiled(loss="categorical_crossentropy" if one_hot else SPARSE, optimizer=optimizers.SGD(0.0))
    y = to_categorical(labels, CLASSES) if one_hot else labels
    class_weight = {0: 0.5, 2: 4.0}                                              # class 1 weighs 1
    factor = np.array([0.5, 1.0, 4.0])[labels]
    losses = cross_entropy(model, x, labels)
    fitted = model.fit(x, y, batch_size=4, class_weight=class_weight, verbose=0).history["loss"][0]
    assert fitted == pytest.approx((factor * losses).mean(), rel=1e-5)
    assert model.train_on_batch(x, y, class_weight=class_weight)[0] == pytest.approx((factor * losses).mean(), rel=1e-5)
    weight = np.linspace(0.5, 2, 11)
    both = model.train_on_batch(x, y, sample_weight=weight, class_weight=class_weight)[0]
    assert both == pytest.approx((weight * factor * losses).mean(), rel=1e-5)


def test_a_weight_of_zero_takes_a_sample_out(kernel_set, data):
    """But it stays in the divisor: twice the loss of the half that counts."""
    x, y = data[0][:10], data[1][:10]
    weight = np.repeat([1.0, 0.0], 5)
    half, masked = compiled(), compiled()
    assert masked.loss_and_gradients(x, y, weight) == pytest.approx(half.loss_and_gradients(x[:5], y[:5]) / 2, rel=1e-5)
    for ours, expected in zip(masked.layers, half.layers, strict=True):
        for key, gradient in expected.grads.items():
            assert error(2 * ours.grads[key], gradient) < 1e-5
    assert not masked.input_gradient[5:].any()


@pytest.mark.usefixtures("reference_kernels")
def test_metrics_may_be_functions(data):
    def confidence(y_true, y_pred):
        return y_pred.max(axis=1)

    x, y = data
    model = compiled(metrics=["accuracy", confidence])
    result = model.evaluate(x, y, batch_size=4, return_dict=True)
    assert list(result) == ["loss", "accuracy", "confidence"]
    assert result["confidence"] == pytest.approx(model.predict(x).max(axis=1).mean(), rel=1e-5)
    history = model.fit(x, y, verbose=0, validation_split=0.2).history
    assert list(history) == ["loss", "accuracy", "confidence", "val_loss", "val_accuracy", "val_confidence"]


@pytest.mark.usefixtures("reference_kernels")
def test_forms_of_the_results(data):
    x, y = data
    bare = compiled(metrics=())
    for call in (bare.evaluate, bare.train_on_batch, bare.test_on_batch):
        assert isinstance(call(x, y), float)
        assert list(call(x, y, return_dict=True)) == ["loss"]
    full = compiled()
    for call in (full.evaluate, full.train_on_batch, full.test_on_batch):
        result = call(x, y)
        assert isinstance(result, list)
        assert len(result) == 2
        assert list(call(x, y, return_dict=True)) == ["loss", "accuracy"]
    history = full.fit(x, y, epochs=2, validation_data=(x, y), verbose=0)
    assert isinstance(history, History)
    assert {name: len(values) for name, values in history.history.items()} == {
        "loss": 2, "accuracy": 2, "val_loss": 2, "val_accuracy": 2}
    assert all(type(value) is float for values in history.history.values() for value in values)


def test_train_on_batch_returns_the_loss_before_its_update(kernel_set, data):
    model = compiled(optimizer=optimizers.SGD(0.5))
    before = model.test_on_batch(*data)
    assert model.train_on_batch(*data) == before
    assert model.test_on_batch(*data)[0] < before[0]


def test_training_learns(kernel_set, rng):
    """A network that does not see the classes' brightness after some epochs is not being trained."""
    x, y = draw_images(rng, 60, (4,))
    model = compiled(optimizer=optimizers.Adam(0.03))
    history = model.fit(x, y, epochs=12, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["accuracy"][-1] > 0.6


# --- the loss and the softmax ------------------------------------------------------------------------------------

def extreme(dtype: str = "float32") -> tuple[Sequential, np.ndarray, np.ndarray]:
    """Return a network whose logits are its inputs, and logits of ±1e4."""
    model = compiled(Sequential([Dense(3, activation="softmax", input_shape=(3,), dtype=dtype)]))
    model.set_weights([np.eye(3), np.zeros(3)])
    return model, np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [0, -1e4, -1e4]], dtype), np.array([1, 2, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand_give_the_exact_loss_and_gradient(kernel_set, dtype):
    model, x, y = extreme(dtype)
    assert model.loss_and_gradients(x, y) == pytest.approx((2e4 + np.log(2) + 0) / 3, rel=1e-6)
    probabilities = np.array([[1, 0, 0], [0, 0.5, 0.5], [1, 0, 0]])
    gradient = (probabilities - np.eye(3)[y]) / 3                                # kernel: the identity
    np.testing.assert_allclose(model.input_gradient, gradient, rtol=1e-6, atol=0)
    np.testing.assert_allclose(model.layers[0].grads["bias"], gradient.sum(axis=0), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.predict(x), probabilities, rtol=1e-6, atol=0)
    assert model.evaluate(x, y) == pytest.approx([(2e4 + np.log(2)) / 3, 1 / 3], rel=1e-6)


def test_three_ways_to_end_a_network_agree(kernel_set, data):
    """Softmax in the last layer, softmax as a layer of its own, and logits with from_logits=True."""
    x, y = data
    fused = compiled(Sequential([Input((4,)), Dense(CLASSES, activation="softmax")]))
    apart = compiled(Sequential([Input((4,)), Dense(CLASSES), Activation("softmax")]))
    logits = compiled(Sequential([Input((4,)), Dense(CLASSES)]), loss=SparseCategoricalCrossentropy(from_logits=True))
    results = [(model.loss_and_gradients(x, y), model.layers[0].grads["kernel"].tobytes(),
                model.input_gradient.tobytes(), model.evaluate(x, y)) for model in (fused, apart, logits)]
    assert results[0] == results[1] == results[2]
    np.testing.assert_array_equal(fused.predict(x), apart.predict(x))
    assert error(logits.predict(x), fused.predict(x)) > 0.1                      # predict returns logits there


def test_a_softmax_the_loss_cannot_fuse_gives_the_same_numbers(kernel_set, data):
    """A layer behind the softmax keeps it out of the loss's sight; then the loss works on probabilities."""
    x, y = data
    fused = compiled(Sequential([Input((4,)), Dense(CLASSES, activation="softmax", dtype="float64")]))
    hidden = compiled(Sequential([Input((4,)), Dense(CLASSES, activation="softmax", dtype="float64"),
                                  Activation("linear", dtype="float64")]))
    assert hidden.loss_and_gradients(x, y) == pytest.approx(fused.loss_and_gradients(x, y), rel=1e-12)
    for key, gradient in fused.layers[0].grads.items():
        assert error(hidden.layers[0].grads[key], gradient) < 1e-12
    assert error(hidden.input_gradient, fused.input_gradient) < 1e-12


def test_forward_gives_probabilities_again_after_a_step_and_after_an_error(kernel_set, data):
    """The model turns the last softmax off for the loss; it must be back whatever happens meanwhile."""
    x, y = data
    model = compiled()

    class Broken(Dense):
        def backward(self, dout):
            raise RuntimeError("broken")

    model.train_on_batch(x, y)
    np.testing.assert_allclose(model(x, training=True).sum(axis=1), 1, rtol=1e-5)
    broken = compiled(Sequential([Input((4,)), Broken(3, activation="softmax")]))
    with pytest.raises(RuntimeError, match="broken"):
        broken.train_on_batch(x, y)
    np.testing.assert_allclose(broken(x).sum(axis=1), 1, rtol=1e-5)


# --- compile, freeze, learning rate ------------------------------------------------------------------------------

def test_compiling_again_starts_the_optimizer_anew_and_keeps_the_weights(kernel_set, data):
    model = compiled(optimizer="adam")
    model.fit(*data, epochs=2, verbose=0)
    weights, first = model.get_weights(), model.optimizer
    compiled(model, optimizer="adam")
    assert model.optimizer is not first
    assert model.optimizer.iterations == 0
    for array, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(array, before)
    fresh = small_dense()
    fresh.set_weights(weights)
    compiled(fresh, optimizer="adam").train_on_batch(*data)
    model.train_on_batch(*data)
    assert model.weights_sha256() == fresh.weights_sha256()


@pytest.mark.usefixtures("reference_kernels")
def test_compiling_with_the_optimizer_in_use_goes_on_with_it(data):
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    once, twice = compiled(optimizer=optimizers.SGD(0.1, momentum=0.9)), compiled(optimizer=optimizer)
    for model in (once, twice):
        model.train_on_batch(*data)
    compiled(twice, optimizer=optimizer, metrics=())
    for model in (once, twice):
        model.train_on_batch(*data)
    assert once.weights_sha256() == twice.weights_sha256()
    assert optimizer.iterations == 2


def test_frozen_layers_stay_and_those_before_them_still_learn(kernel_set, rng):
    x, y = draw_images(rng, 10)
    model = compiled(small_cnn(), "adam")
    frozen = [model.layers[1], model.layers[2], model.layers[11]]                # BN, Conv2D, Dense
    for layer in frozen:
        layer.trainable = False
    before = {name: array.copy() for name, array in model.named_weights().items()}
    model.fit(x, y, epochs=2, batch_size=5, verbose=0)
    stayed = {layer.name for layer in frozen}
    for name, array in model.named_weights().items():
        if name.split("/")[0] in stayed:
            np.testing.assert_array_equal(array, before[name], name)
    for name in ("conv2d/kernel", "conv2d_2/kernel", "dense_1/kernel", "batch_normalization_1/moving_mean"):
        assert not np.array_equal(model.named_weights()[name], before[name]), name
    assert not any(name.split("/")[0] in stayed for name in model.optimizer.slots)


def test_frozen_first_layers_do_not_change_what_the_others_learn(kernel_set, rng):
    """The way back may end early; the gradients of the layers it reaches are the same."""
    x, y = draw_images(rng, 6)
    free, frozen = small_cnn(), small_cnn()
    for model in (free, frozen):
        compiled(model)
        for layer in model.layers[:5]:
            layer.trainable = not isinstance(layer, BatchNormalization)          # equal forward passes
    for layer in frozen.layers[:5]:
        layer.trainable = False
    free.train_on_batch(x, y)
    frozen.train_on_batch(x, y)
    for one, other in zip(free.layers[6:], frozen.layers[6:], strict=True):
        for key, array in one.weights.items():
            np.testing.assert_array_equal(other.weights[key], array)
    assert not np.array_equal(free.layers[0].params["kernel"], frozen.layers[0].params["kernel"])


@pytest.mark.usefixtures("reference_kernels")
def test_a_frozen_batch_normalization_uses_its_moving_averages(rng):
    layer = BatchNormalization(input_shape=(3,), trainable=False)
    layer.build((3,))
    x = (5 + rng.standard_normal((8, 3))).astype(np.float32)
    np.testing.assert_array_equal(layer.forward(x, training=True), layer.forward(x))
    assert layer.forward(x, training=True).mean() > 4
    layer.trainable = True
    assert abs(layer.forward(x, training=True).mean()) < 1e-5


def test_a_layer_of_a_trained_model_still_gives_its_input_gradient(kernel_set, data):
    """Training skips the gradient of the first layer's input; whoever calls the layer alone gets it."""
    model = compiled()
    model.train_on_batch(*data)
    layer = model.layers[0]
    out = layer.forward(data[0], training=True)
    assert layer.backward(np.ones_like(out)).shape == data[0].shape


def test_the_learning_rate_can_be_assigned_in_the_middle_of_an_epoch(kernel_set, data):
    class Stop(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                self.model.optimizer.learning_rate = 0.0

    whole, first_only = compiled(), compiled()
    whole.fit(*data, batch_size=4, shuffle=False, verbose=0, callbacks=[Stop()])
    first_only.train_on_batch(data[0][:4], data[1][:4])
    assert whole.optimizer.learning_rate == 0
    assert whole.weights_sha256() == first_only.weights_sha256()


@pytest.mark.usefixtures("reference_kernels")
def test_the_learning_rate_scheduler(data):
    asked = []

    def schedule(epoch, rate):
        asked.append((epoch, rate))
        return rate / 2

    model = compiled(optimizer=optimizers.SGD(0.8))
    history = model.fit(*data, epochs=5, initial_epoch=2, verbose=0, callbacks=[LearningRateScheduler(schedule)])
    assert asked == [(2, 0.8), (3, 0.4), (4, 0.2)]
    assert history.history["learning_rate"] == [0.4, 0.2, 0.1]
    assert model.optimizer.learning_rate == 0.1


# --- callbacks ---------------------------------------------------------------------------------------------------

def recorder(calls: list, name: str) -> Callback:
    class Recorder(Callback):
        pass

    def method(event):
        return lambda self, *arguments: calls.append((name, event, *arguments[:-1]))

    for event in vars(Callback):
        if event.startswith("on_"):
            setattr(Recorder, event, method(event))
    return Recorder()


@pytest.mark.usefixtures("reference_kernels")
def test_the_order_of_the_calls(data):
    calls: list[tuple] = []
    compiled().fit(*data, epochs=2, batch_size=6, validation_split=0.2, verbose=0, callbacks=[recorder(calls, "a")])
    batches = [(event, batch) for batch in range(2) for event in ("on_train_batch_begin", "on_train_batch_end")]
    epochs = [[("on_epoch_begin", epoch), *batches, ("on_test_begin",), ("on_test_end",), ("on_epoch_end", epoch)]
              for epoch in range(2)]
    assert [call[1:] for call in calls] == [("on_train_begin",), *epochs[0], *epochs[1], ("on_train_end",)]


@pytest.mark.usefixtures("reference_kernels")
def test_callbacks_are_called_in_the_order_given_and_before_the_history(data):
    calls: list[tuple] = []

    class Adds(Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["mine"] = 10.0 + epoch

    history = compiled().fit(*data, epochs=2, verbose=0, callbacks=[recorder(calls, "a"), recorder(calls, "b"), Adds()])
    assert [call[0] for call in calls] == ["a", "b"] * (len(calls) // 2)
    assert history.history["mine"] == [10.0, 11.0]


@pytest.mark.usefixtures("reference_kernels")
def test_what_callbacks_are_told(data):
    told = {}

    class Listener(Callback):
        def on_train_begin(self, logs=None):
            told.update(self.params, model=self.model)

    model = compiled()
    model.fit(*data, epochs=3, batch_size=4, verbose=0, callbacks=Listener())
    assert told == {"epochs": 3, "steps": 3, "images": 11, "verbose": 0, "model": model}


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize(("event", "epochs", "updates"), [("on_train_batch_end", 1, 1), ("on_epoch_end", 1, 3),
                                                          ("on_epoch_begin", 1, 1)])
def test_stop_training(event, epochs, updates, data):
    class Stop(Callback):
        pass

    setattr(Stop, event, lambda self, number, logs=None: setattr(self.model, "stop_training", True))
    model = compiled()
    history = model.fit(*data, batch_size=4, epochs=4, verbose=0, callbacks=[Stop()])
    assert len(history.epoch) == epochs
    assert model.optimizer.iterations == updates
    assert len(model.fit(*data, epochs=2, verbose=0).epoch) == 2                 # the next fit is not stopped


@pytest.mark.usefixtures("reference_kernels")
def test_an_interruption_ends_training_in_order(data):
    calls: list[tuple] = []

    class Interrupt(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data, epochs=5, verbose=0, callbacks=[recorder(calls, "a"), Interrupt()])
    assert calls[-1][1] == "on_train_end"
    assert model.history.epoch == [0]
    model.fit(*data, verbose=0)


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


# --- what is printed ---------------------------------------------------------------------------------------------

LINE = r"Epoch {0}/2 - \d+\.\d s - [\d,]+ images/s - loss \d\.\d{{4}} - accuracy \d\.\d{{4}}"


@pytest.mark.usefixtures("reference_kernels")
def test_verbose_0_prints_nothing(data, capsys):
    model = compiled(small_cnn())
    x, y = draw_images(np.random.default_rng(0), 6)
    model.fit(x, y, epochs=2, validation_split=0.4, verbose=0)
    model.evaluate(x, y)
    model.predict(x)
    model.train_on_batch(x, y)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("verbose", [2, "auto"])
def test_one_plain_line_an_epoch_where_the_output_is_no_terminal(verbose, data, capsys):
    compiled().fit(*data, epochs=2, verbose=verbose)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(LINE.format(number), line), line
    assert err == ""
    compiled().fit(*data, verbose=verbose, validation_split=0.2)
    assert re.search(r"accuracy \d\.\d{4} - val_loss \d\.\d{4} - val_accuracy \d\.\d{4}$", capsys.readouterr().out)


@pytest.mark.usefixtures("reference_kernels")
def test_the_line_says_what_the_history_says(data, capsys):
    history = compiled().fit(*data, verbose=2, callbacks=[LearningRateScheduler(lambda epoch, rate: 0.005)])
    line = capsys.readouterr().out
    assert f"loss {history.history['loss'][0]:.4f} - accuracy {history.history['accuracy'][0]:.4f}" in line
    assert "learning_rate 0.005" in line


@pytest.mark.usefixtures("reference_kernels")
def test_the_bar_shows_loss_accuracy_and_images_per_second(data, capsys, monkeypatch):
    from tqdm import auto
    bar = auto.tqdm
    monkeypatch.setattr(auto, "tqdm", lambda **options: bar(**options | {"mininterval": 0}))     # draw every batch
    compiled().fit(*data, epochs=2, batch_size=4, verbose=1)
    out, err = capsys.readouterr()
    drawn = [part for part in re.split(r"[\r\n]", out) if "%|" in part]
    assert drawn
    assert any(re.search(r"loss \d\.\d{4} - accuracy \d\.\d{4}", part) for part in drawn)
    assert any("images/s" in part for part in drawn)
    assert all(part.startswith("Epoch ") for part in drawn)
    assert err == ""


@pytest.mark.usefixtures("reference_kernels")
def test_an_interrupted_bar_is_closed(data, capsys):
    class Interrupt(Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compiled().fit(*data, verbose=1, callbacks=[Interrupt()])
    from tqdm import tqdm
    assert not getattr(tqdm, "_instances", None)
    capsys.readouterr()


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize(("highest", "warned"), [(1.0, False), (1.5, False), (1.51, True), (255, True)])
def test_inputs_above_one_and_a_half_are_warned_about_once(highest, warned, rng):
    x, y = draw_images(rng, 5, (4,))
    x[2, 3] = highest
    model = compiled()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(x, y, epochs=2, batch_size=2, verbose=0)
        model.fit(x, y, verbose=0)
    assert len(caught) == warned
    if warned:
        assert f"reach {highest:g}" in str(caught[0].message)
        assert "/ 255" in str(caught[0].message)
        assert caught[0].filename == __file__


@pytest.mark.usefixtures("reference_kernels")
def test_unsettled_moving_averages_are_mentioned_once(capsys):
    x, y = draw_images(np.random.default_rng(0), 6)
    model = compiled(small_cnn())
    model.fit(x, y, verbose=0, validation_split=0.4)
    assert capsys.readouterr().out == ""
    model.fit(x, y, epochs=2, verbose=2)
    assert "settled" not in capsys.readouterr().out                              # no validation, nothing to say
    model.fit(x, y, epochs=2, verbose=2, validation_data=(x, y))
    model.fit(x, y, verbose=2, validation_data=(x, y))
    out = capsys.readouterr().out
    assert out.count("have not settled") == 1
    assert "after 4 updates" in out


@pytest.mark.usefixtures("reference_kernels")
@pytest.mark.parametrize("case", ["no batch normalization", "500 updates"])
def test_settled_moving_averages_are_not_mentioned(case, data, capsys):
    model = compiled(small_dense() if case == "no batch normalization" else Sequential(
        [BatchNormalization(input_shape=(4,)), Dense(CLASSES, activation="softmax")]))
    if case == "500 updates":
        model.updates = 499                                         # the epoch's one update makes it 500
    model.fit(*data, verbose=2, validation_data=data)
    assert "settled" not in capsys.readouterr().out
