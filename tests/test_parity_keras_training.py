"""Agreement with Keras in training: updates, losses, what fit means, callbacks, and batch normalization."""

from __future__ import annotations

import numpy as np
import pytest

from keras_models import COMPILED, NEEDS_KERAS, STILL, close, dense, pair_of_models
from minicnn import losses, optimizers
from minicnn.callbacks import Callback
from minicnn.utils import to_categorical
from networks import CLASSES, draw_images, error

pytestmark = NEEDS_KERAS


# --- updates -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "options"), [
    ("Adam", {}), ("Adam", {"learning_rate": 0.01, "beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3}),
    ("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.8, "nesterov": True, "learning_rate": 0.1}),
    ("SGD", {"nesterov": True}),
    ("RMSprop", {}), ("RMSprop", {"momentum": 0.9, "rho": 0.8}), ("RMSprop", {"centered": True, "rho": 0.7}),
    ("RMSprop", {"centered": True, "momentum": 0.5, "epsilon": 1e-2})])
def test_ten_updates_with_fixed_gradients(kernel_set, name, options, rng):
    """The weights start at zero: what is compared is what the updates add, to which rounding would else add its own.

    The largest difference, 8e-6 with Adam's defaults, is Keras': it computes 1 - 0.999**step in float32. Against the
    formula in float64 Keras is off by 8e-6, both kernel sets by 1e-7.
    """
    import keras
    shapes = {"a/kernel": (3, 5, 2), "a/bias": (7,), "b/kernel": (4, 6)}
    weights = {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}
    scale = rng.uniform(0.01, 3, 10)
    gradients = [{key: (scale[step] * rng.standard_normal(shape)).astype(np.float32) for key, shape in shapes.items()}
                 for step in range(10)]
    variables = [keras.Variable(array) for array in weights.values()]
    theirs = getattr(keras.optimizers, name)(**options)
    ours = getattr(optimizers, name)(**options)
    for gradient in gradients:
        theirs.apply([keras.ops.convert_to_tensor(array) for array in gradient.values()], variables)
        ours.apply(weights, gradient)
        for weight, variable in zip(weights.values(), variables, strict=True):
            assert error(weight, keras.ops.convert_to_numpy(variable)) < 1e-5
    assert ours.iterations == int(theirs.iterations) == 10


def test_the_learning_rate_can_be_assigned_between_updates(kernel_set, rng):
    import keras
    weight = rng.standard_normal((4, 3)).astype(np.float32)
    variable = keras.Variable(weight)
    ours, theirs = optimizers.Adam(0.1), keras.optimizers.Adam(0.1)
    for rate in (0.1, 0.02, 0.3):
        ours.learning_rate = rate
        theirs.learning_rate = rate
        gradient = rng.standard_normal((4, 3)).astype(np.float32)
        ours.apply({"w": weight}, {"w": gradient})
        theirs.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    assert ours.learning_rate == pytest.approx(float(theirs.learning_rate))
    assert error(weight, keras.ops.convert_to_numpy(variable)) < 1e-5


# --- losses ------------------------------------------------------------------------------------------------------

def ends_in(activation):
    return lambda library: [library.Dense(5, activation="tanh"), library.Dense(CLASSES, activation=activation)]


def ends_in_a_layer(library) -> list:
    return [library.Dense(CLASSES), library.Activation("softmax")]


@pytest.mark.parametrize(("make", "options"), [
    (ends_in("softmax"), {}), (ends_in_a_layer, {}), (ends_in("sigmoid"), {}), (ends_in(None), {"from_logits": True})],
    ids=["softmax", "softmax layer", "sigmoid", "logits"])
@pytest.mark.parametrize("labels", ["sparse", "categorical", "smoothed"])
def test_losses_and_the_step_they_cause(kernel_set, make, options, labels, rng):
    def loss(library):
        if labels == "sparse":
            return library.losses.SparseCategoricalCrossentropy(**options)
        smoothing = {"label_smoothing": 0.2} if labels == "smoothed" else {}
        return library.losses.CategoricalCrossentropy(**options, **smoothing)

    ours, theirs = pair_of_models(rng, make, (4,), **COMPILED | {"loss": loss})
    x, y = draw_images(rng, 11, (4,))
    y = y if labels == "sparse" else to_categorical(y, CLASSES)
    weight = rng.uniform(0.1, 2, 11).astype(np.float32)
    close(ours.test_on_batch(x, y, return_dict=True), theirs.test_on_batch(x, y, return_dict=True))
    close(ours.test_on_batch(x, y, weight, return_dict=True), theirs.test_on_batch(x, y, weight, return_dict=True))
    close(ours.train_on_batch(x, y, weight, return_dict=True), theirs.train_on_batch(x, y, weight, return_dict=True))
    for ours_w, theirs_w in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert error(ours_w, theirs_w) < 1e-5


def test_the_loss_of_arrays(rng):
    """A loss object called with labels and predictions."""
    import keras
    p = rng.dirichlet(np.ones(4), 6).astype(np.float32)
    z = rng.standard_normal((6, 4)).astype(np.float32)
    t, y = rng.dirichlet(np.ones(4), 6).astype(np.float32), rng.integers(0, 4, 6)
    for name, labels, options in [("SparseCategoricalCrossentropy", y, {}), ("CategoricalCrossentropy", t, {}),
                                  ("CategoricalCrossentropy", t, {"label_smoothing": 0.3})]:
        for predicted, from_logits in ((p, False), (z, True)):
            ours = getattr(losses, name)(from_logits=from_logits, **options)(labels, predicted)
            theirs = getattr(keras.losses, name)(from_logits=from_logits, **options)(labels, predicted)
            assert ours == pytest.approx(float(theirs), rel=1e-5)


# --- fit ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("split", [0.25, 0.3, 0.5])
def test_validation_split_takes_the_last_rows_before_shuffling(kernel_set, split, rng):
    ours, theirs = pair_of_models(rng, dense, (4,), **STILL)
    x, y = draw_images(rng, 23, (4,))
    weight = rng.uniform(0.1, 2, 23).astype(np.float32)
    options = {"validation_split": split, "epochs": 2, "batch_size": 5, "verbose": 0, "sample_weight": weight}
    close_histories(ours.fit(x, y, **options), theirs.fit(x, y, **options))


def close_histories(ours, theirs, rel: float = 1e-5) -> None:
    assert ours.epoch == theirs.epoch
    assert ours.history.keys() == theirs.history.keys()
    for name, values in theirs.history.items():
        assert ours.history[name] == pytest.approx(values, rel=rel, abs=1e-6), name


@pytest.mark.parametrize("options", [
    {"class_weight": {0: 2.0, 2: 0.25}},
    {"validation_data": True},
    {"validation_data": True, "class_weight": {1: 3.0}},          # class weights do not touch the validation
    {"epochs": 5, "initial_epoch": 3},
    {"validation_data": True, "validation_batch_size": 4}], ids=lambda options: ", ".join(options))
def test_history(kernel_set, options, rng):
    """Training included: same order of batches, ragged last batch."""
    ours, theirs = pair_of_models(rng, dense, (4,), **COMPILED)
    x, y = draw_images(rng, 22, (4,))
    if "validation_data" in options:
        options = options | {"validation_data": draw_images(rng, 9, (4,))}
    options = {"epochs": 3, "batch_size": 5, "shuffle": False, "verbose": 0} | options
    close_histories(ours.fit(x, y, **options), theirs.fit(x, y, **options))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")     # so Keras learns where a generator ends
def test_iterators_of_batches(kernel_set, rng):
    ours, theirs = pair_of_models(rng, dense, (4,), **COMPILED)
    batches = [(*draw_images(rng, n, (4,)), rng.uniform(0.5, 2, n).astype(np.float32)) for n in (6, 3, 5, 2)]

    def endless():
        while True:
            yield from batches

    options = {"epochs": 3, "steps_per_epoch": 3, "verbose": 0, "shuffle": False}
    close_histories(ours.fit(endless(), **options), theirs.fit(endless(), **options))
    assert ours.evaluate(batch for batch in batches) == pytest.approx(
        theirs.evaluate((batch for batch in batches), verbose=0), rel=1e-5)


EVENTS = ("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_train_batch_begin",
          "on_train_batch_end", "on_test_begin", "on_test_end")


def recorder(base: type):
    """Return a callback of either library that writes down who was called when with what."""
    class Recorder(base):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[tuple] = []

    for event in EVENTS:
        if "epoch" in event or "batch" in event:
            setattr(Recorder, event, lambda self, number, logs=None, event=event: self.calls.append(
                (event, number, dict(logs or {}))))
        else:
            setattr(Recorder, event, lambda self, logs=None, event=event: self.calls.append(
                (event, None, dict(logs or {}))))
    return Recorder()


def test_callbacks_are_called_in_the_same_order_with_the_same_logs(rng):
    import keras
    ours, theirs = pair_of_models(rng, dense, (4,), **COMPILED)
    x, y = draw_images(rng, 14, (4,))
    options = {"epochs": 3, "initial_epoch": 1, "batch_size": 4, "shuffle": False, "verbose": 0,
               "validation_split": 0.3}
    ours_record, theirs_record = recorder(Callback), recorder(keras.callbacks.Callback)
    ours.fit(x, y, callbacks=[ours_record], **options)
    theirs.fit(x, y, callbacks=[theirs_record], **options)
    assert [call[:2] for call in ours_record.calls] == [call[:2] for call in theirs_record.calls]
    for (event, _, our_logs), (_, _, their_logs) in zip(ours_record.calls, theirs_record.calls, strict=True):
        if event != "on_train_end":                     # Keras repeats the last epoch's logs there
            close(our_logs, their_logs)


def test_stop_training_ends_after_the_batch(rng):
    import keras
    ours, theirs = pair_of_models(rng, dense, (4,), **COMPILED)
    x, y = draw_images(rng, 12, (4,))

    def stopper(base: type):
        class Stopper(base):
            def on_train_batch_end(self, batch, logs=None):
                self.model.stop_training = True
        return Stopper()

    options = {"epochs": 4, "batch_size": 5, "shuffle": False, "verbose": 0}
    ours_history = ours.fit(x, y, callbacks=[stopper(Callback)], **options)
    theirs_history = theirs.fit(x, y, callbacks=[stopper(keras.callbacks.Callback)], **options)
    assert len(theirs_history.epoch) == 1
    assert ours.optimizer.iterations == int(theirs.optimizer.iterations) == 1
    close_histories(ours_history, theirs_history)


def test_the_learning_rate_scheduler(rng):
    import keras

    from minicnn.callbacks import LearningRateScheduler
    ours, theirs = pair_of_models(rng, dense, (4,), **COMPILED)
    x, y = draw_images(rng, 12, (4,))
    seen: dict[str, list] = {"ours": [], "theirs": []}

    def schedule(whose):
        def rate_of(epoch, rate):
            seen[whose].append((epoch, pytest.approx(rate, rel=1e-6)))
            return float(rate) * (0.5 if epoch else 2.0)
        return rate_of

    options = {"epochs": 3, "batch_size": 5, "shuffle": False, "verbose": 0}
    close_histories(ours.fit(x, y, callbacks=[LearningRateScheduler(schedule("ours"))], **options),
                    theirs.fit(x, y, callbacks=[keras.callbacks.LearningRateScheduler(schedule("theirs"))], **options))
    assert [epoch for epoch, _ in seen["ours"]] == [epoch for epoch, _ in seen["theirs"]] == [0, 1, 2]


# --- batch normalization, and a whole training -------------------------------------------------------------------

def test_moving_averages_after_a_training_step(kernel_set, rng):
    ours, theirs = pair_of_models(rng, **STILL)
    x, y = draw_images(rng, 10)
    before = ours.get_weights()
    ours.train_on_batch(x, y)
    theirs.train_on_batch(x, y)
    moved = 0
    for name, old, new, expected in zip(ours.named_weights(), before, ours.get_weights(), theirs.get_weights()):
        assert error(new, expected) < 1e-5, name
        if "moving" in name:
            assert error(new - old, expected - old) < 1e-4, name
            moved += 1
    assert moved == 6


def test_a_frozen_layer(kernel_set, rng):
    """BatchNormalization with trainable=False uses its moving averages in training, and keeps them."""
    ours, theirs = pair_of_models(rng)
    for index in (0, 1, 3):
        ours.layers[index].trainable = theirs.layers[index].trainable = False
    for model, optimizer in ((ours, optimizers.SGD(0.1)), (theirs, None)):
        if optimizer is None:
            import keras
            optimizer = keras.optimizers.SGD(0.1)
        model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    x, y = draw_images(rng, 10)
    before = ours.get_weights()
    for _ in range(2):
        assert ours.train_on_batch(x, y) == pytest.approx(float(theirs.train_on_batch(x, y)), rel=1e-5)
    for name, old, new, expected in zip(ours.named_weights(), before, ours.get_weights(),
                                        theirs.get_weights(), strict=True):
        assert error(new, expected) < 1e-5, name
        if name.split("/")[0] in ("conv2d", "batch_normalization", "batch_normalization_1"):
            np.testing.assert_array_equal(new, old)
        elif name.endswith("kernel"):
            assert not np.array_equal(new, old)


def test_ten_steps_of_adam_follow_the_same_curve(kernel_set, rng):
    adam = COMPILED | {"optimizer": lambda library: library.optimizers.Adam(0.002)}
    ours, theirs = pair_of_models(rng, **adam)
    x, y = draw_images(rng, 40)
    options = {"epochs": 5, "batch_size": 20, "shuffle": False, "verbose": 0, "validation_data": draw_images(rng, 12)}
    ours_history, theirs_history = ours.fit(x, y, **options), theirs.fit(x, y, **options)
    assert ours.optimizer.iterations == 10
    assert theirs_history.history["loss"][-1] < 0.95 * theirs_history.history["loss"][0]
    close_histories(ours_history, theirs_history, rel=1e-4)
    for name, new, expected in zip(ours.named_weights(), ours.get_weights(), theirs.get_weights(), strict=True):
        assert error(new, expected) < 1e-4, name
