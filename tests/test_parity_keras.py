"""Agreement with Keras: defaults, initial weights, predictions and what evaluate means.

Nothing random is compared but its distribution; everything else starts from Keras' weights.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from keras_models import COMPILED, NEEDS_KERAS, close, convolutional, dense, pair_of_models
from minicnn import initializers, layers, losses, optimizers
from minicnn.models import Sequential
from networks import IMAGE, draw_images, error

pytestmark = NEEDS_KERAS


# --- defaults ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [
    lambda library: library.Conv2D(3, 2),
    lambda library: library.Conv2D(3, (4, 5), strides=(2, 1), padding="SAME"),
    lambda library: library.Dense(3),
    lambda library: library.MaxPooling2D(),
    lambda library: library.MaxPooling2D((3, 2)),
    lambda library: library.MaxPool2D((3, 2), strides=1),
    lambda library: library.AveragePooling2D(2),
    lambda library: library.AvgPool2D((3, 2), strides=1, padding="same"),
    lambda library: library.GlobalAvgPool2D(),
    lambda library: library.LeakyReLU(),
    lambda library: library.LeakyReLU(0.2),
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


@pytest.mark.parametrize("layer", ["Conv2D", "Dense", "MaxPooling2D", "AveragePooling2D", "BatchNormalization",
                                   "Dropout", "LeakyReLU"])
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
