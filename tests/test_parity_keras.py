"""Agreement with Keras (on its PyTorch backend): defaults, weights, updates, losses, and what fit and evaluate mean.

Nothing random is compared but its distribution; everything else starts from Keras' weights.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from minicnn import initializers, layers, losses, optimizers
from minicnn.callbacks import Callback
from minicnn.models import Sequential
from minicnn.utils import to_categorical
from networks import CLASSES, IMAGE, draw_images, draw_weights, error

pytestmark = [
    pytest.mark.needs("keras"),
    # Keras 3 on PyTorch tensors; NumPy 2 asks for an argument their __array__ lacks.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")]


def convolutional(library) -> list:
    """Return the structure of the recipe ``cnn`` without dropout, in small, in layers of either library."""
    return [library.Conv2D(3, (5, 3), padding="same", activation="relu"), library.BatchNormalization(),
            library.Conv2D(4, (2, 3), strides=(1, 2), activation="relu", use_bias=False),
            library.BatchNormalization(), library.MaxPooling2D((2, 1)), library.Flatten(),
            library.Dense(6, activation="relu"), library.BatchNormalization(momentum=0.8),
            library.Dense(CLASSES, activation="softmax")]


def pair_of_models(rng, make=convolutional, shape=IMAGE, **compiled):
    """Return the same network twice with equal weights, none of them zero or one.

    Keyword arguments are those of ``compile``; functions among them are called with the library for its own object.
    """
    import keras
    theirs = keras.Sequential([keras.Input(shape), *make(keras.layers)])
    ours = Sequential([layers.Input(shape), *make(layers)])
    # Biases around zero: if every ReLU before a BatchNormalization were active, its bias would have no gradient.
    draw_weights(ours, rng)
    theirs.set_weights(ours.get_weights())
    ours.set_weights(theirs.get_weights())
    if compiled:
        for model, library in ((theirs, keras), (ours, OURS)):
            model.compile(**{key: value(library) if callable(value) else value for key, value in compiled.items()})
    return ours, theirs


class OURS:
    """This library with Keras' module names."""

    layers, losses, optimizers = layers, losses, optimizers


def dense(library) -> list:
    return [library.Dense(5, activation="tanh"), library.Dense(CLASSES, activation="softmax")]


COMPILED = {"optimizer": lambda library: library.optimizers.SGD(0.1), "loss": "sparse_categorical_crossentropy",
            "metrics": ["accuracy"]}
STILL = COMPILED | {"optimizer": lambda library: library.optimizers.SGD(0.0)}     # weights stay: order cannot matter


def close(ours: dict[str, float], theirs: dict[str, float], rel: float = 1e-5) -> None:
    """Assert the same names with about the same values."""
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert ours[name] == pytest.approx(value, rel=rel, abs=1e-6), name


# --- defaults ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [
    lambda library: library.Conv2D(3, 2),
    lambda library: library.Conv2D(3, (4, 5), strides=(2, 1), padding="SAME"),
    lambda library: library.Dense(3),
    lambda library: library.MaxPooling2D(),
    lambda library: library.MaxPooling2D((3, 2)),
    lambda library: library.MaxPool2D((3, 2), strides=1),
    lambda library: library.BatchNormalization(),
    lambda library: library.Dropout(0.3),
    lambda library: library.Flatten(),
    lambda library: library.Activation("relu")])
def test_the_defaults_of_layers(make):
    import keras
    keras.backend.clear_session()                       # Keras numbers names per process, we per model
    ours, theirs = make(layers).config(), make(keras.layers).get_config()
    shared = (ours.keys() & theirs.keys()) - {"dtype"}
    assert shared >= {"name", "trainable"}
    # What only we have, or state elsewhere; everything else must be an argument of Keras.
    assert ours.keys() - theirs.keys() <= {"input_shape", "algorithm"}
    for key in shared:
        value, expected = ours[key], theirs[key]
        if isinstance(expected, dict):                  # an initializer, as class name
            value, expected = value.replace("_", ""), expected["class_name"].lower()
        assert (tuple(value) if isinstance(value, list) else value) == expected, key


@pytest.mark.parametrize("layer", ["Conv2D", "Dense", "MaxPooling2D", "BatchNormalization", "Dropout"])
def test_the_order_of_positional_arguments(layer):
    """Keras' positional calls mean the same here, as far as the arguments are supported."""
    import inspect

    import keras
    theirs = [name for name in inspect.signature(getattr(keras.layers, layer)).parameters if name != "kwargs"]
    ours_class = getattr(layers, layer)
    ours = [name for name in inspect.signature(ours_class).parameters
            if name not in ("base", "algorithm")]
    assert ours == [name for name in theirs if name in ours]
    skipped = [name for name in theirs[:len(ours)] if name not in ours]
    assert all(name in ours_class.unsupported for name in skipped)
    refused = [name for name in theirs if re.search("regularizer|constraint|groups|dilation|data_format|center", name)]
    assert all(name in ours_class.unsupported for name in refused)


@pytest.mark.parametrize(("name", "spelling"), [("Adam", "adam"), ("SGD", "sgd"), ("RMSprop", "rmsprop")])
def test_the_defaults_of_optimizers(name, spelling):
    import keras
    ours = getattr(optimizers, name)().config()
    theirs = getattr(keras.optimizers, name)().get_config()
    for key, value in ours.items():
        assert value == pytest.approx(theirs.pop(key), rel=1e-6), key
    # What Keras has beyond that is refused here unless it says what happens anyway.
    shared = theirs.keys() & optimizers.Optimizer.unsupported.keys()
    assert shared >= {"weight_decay", "clipnorm", "use_ema"}
    for key in shared:
        getattr(optimizers, name)(**{key: theirs[key]})
    assert type(optimizers.get(spelling)).__name__ == type(keras.optimizers.get(spelling)).__name__ == name


@pytest.mark.parametrize("name", ["CategoricalCrossentropy", "SparseCategoricalCrossentropy"])
def test_the_defaults_of_losses(name):
    import keras
    theirs = getattr(keras.losses, name)().get_config()
    ours = getattr(losses, name)()
    assert ours.config().items() <= theirs.items()
    assert ours.name == theirs["name"]


# --- initial weights ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(40, 90), (3, 5, 12, 20)], ids=["dense", "conv"])
@pytest.mark.parametrize("name", ["glorot_uniform", "he_normal", "he_uniform"])
def test_initializers_draw_from_the_same_distribution(name, shape):
    """Mean, deviation, extremes and nine quantiles of ten tensors; 36,000 samples determine each to about 1 %."""
    import keras
    class_name = {"glorot_uniform": "GlorotUniform", "he_normal": "HeNormal", "he_uniform": "HeUniform"}[name]
    theirs = np.array([getattr(keras.initializers, class_name)(seed=seed)(shape).numpy() for seed in range(10)])
    ours = np.array([initializers.get(name)(shape, np.random.default_rng(seed)) for seed in range(10)])
    deviation = theirs.std()
    assert ours.std() == pytest.approx(deviation, rel=0.02)
    assert abs(ours.mean() - theirs.mean()) < 0.02 * deviation
    assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=2e-3)
    quantiles = np.linspace(0.1, 0.9, 9)
    np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.04 * deviation)


@pytest.mark.parametrize("name", ["zeros", "ones"])
def test_constant_initializers(name):
    import keras
    np.testing.assert_array_equal(initializers.get(name)((3, 2), np.random.default_rng(0)),
                                  keras.initializers.get(name)((3, 2)).numpy())


# --- weights and predictions -------------------------------------------------------------------------------------

def test_weights_have_the_same_order_and_shapes(rng):
    ours, theirs = pair_of_models(rng)
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs.get_weights()]
    names = [variable.path.split("/", 1)[1] for variable in theirs.weights]
    assert [re.sub(r"_\d+/", "/", name) for name in ours.named_weights()] == [
        re.sub(r"_\d+/", "/", name) for name in names]
    for ours_w, theirs_w in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(ours_w, theirs_w, strict=True)


def test_weights_go_back_to_keras(kernel_set, rng):
    ours, theirs = pair_of_models(rng)
    fresh = Sequential([layers.Input(IMAGE), *convolutional(layers)], seed=5)
    theirs.set_weights(fresh.get_weights())
    x, _ = draw_images(rng, 4)
    assert error(fresh(x), theirs.predict(x, verbose=0)) < 1e-5
    assert error(ours(x), theirs.predict(x, verbose=0)) > 1e-2


def test_predictions_and_evaluation(kernel_set, rng):
    ours, theirs = pair_of_models(rng, **COMPILED)
    x, y = draw_images(rng, 21)
    expected = theirs.predict(x, batch_size=8, verbose=0)
    assert error(ours.predict(x, batch_size=8), expected) < 1e-5
    assert error(ours.predict(x, batch_size=5), expected) < 1e-5
    close(ours.evaluate(x, y, batch_size=8, return_dict=True),
          theirs.evaluate(x, y, batch_size=8, verbose=0, return_dict=True))
    loss, accuracy = ours.evaluate(x, y, batch_size=8)
    assert [loss, accuracy] == pytest.approx(theirs.evaluate(x, y, batch_size=8, verbose=0), rel=1e-5)


def test_evaluation_without_metrics_is_one_number(rng):
    ours, theirs = pair_of_models(rng, dense, (4,), optimizer="sgd", loss="sparse_categorical_crossentropy")
    x, y = draw_images(rng, 9, (4,))
    expected = theirs.evaluate(x, y, verbose=0)
    assert isinstance(expected, float)
    result = ours.evaluate(x, y)
    assert isinstance(result, float)
    assert result == pytest.approx(expected, rel=1e-5)
    assert ours.test_on_batch(x, y) == pytest.approx(float(theirs.test_on_batch(x, y)), rel=1e-5)


@pytest.mark.parametrize("frozen", [(), (0,), (1, 8)], ids=["all trained", "one frozen", "two frozen"])
def test_summary_counts_the_same(frozen, rng):
    ours, theirs = pair_of_models(rng)
    for index in frozen:
        ours.layers[index].trainable = theirs.layers[index].trainable = False
    printed: dict[str, list[str]] = {"ours": [], "theirs": []}
    ours.summary(print_fn=printed["ours"].append)
    theirs.summary(print_fn=lambda line, **_: printed["theirs"].append(line))
    counts = {}
    for whose, lines in printed.items():
        text = "\n".join(lines)
        rows = re.findall(r"\((None, [\d, ]+)\)\s*│\s*([\d,]+)\s*│", text)
        totals = re.findall(r"(Total|Trainable|Non-trainable) params: ([\d,]+) \(([\d.]+ \w+)\)", text)
        assert len(rows) == 9
        assert len(totals) == 3
        counts[whose] = rows + totals
    assert counts["ours"] == counts["theirs"]
    assert ours.count_params() == theirs.count_params()


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
