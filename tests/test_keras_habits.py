"""What scripts written for Keras take for granted: names, spellings, orders of calls."""

from __future__ import annotations

import random
import re
from operator import attrgetter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import minicnn as keras
from minicnn import initializers, losses, metrics, optimizers, utils
from minicnn.errors import ArgumentError, ShapeError, StateError, UnsupportedError
from minicnn.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D, MaxPooling2D
from networks import CLASSES, SPARSE, compiled, draw_images, small_dense

pytestmark = pytest.mark.usefixtures("reference_kernels")

IMAGE = (7, 6, 1)


@pytest.fixture
def images(rng):
    return draw_images(rng, 12, IMAGE)


# --- names -------------------------------------------------------------------------------------------------------

NAMES = {
    "": "Input Sequential",
    "activations": "linear relu sigmoid softmax tanh get",
    "backend": "backend clear_session epsilon floatx image_data_format",
    "callbacks": "CSVLogger Callback EarlyStopping History LambdaCallback LearningRateScheduler ModelCheckpoint "
                 "ReduceLROnPlateau TerminateOnNaN",
    "datasets": "mnist",
    "initializers": "Constant GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Ones RandomNormal "
                    "RandomUniform TruncatedNormal Zeros get",
    "layers": "Activation AveragePooling2D AvgPool2D BatchNormalization Conv2D Convolution2D Dense Dropout Flatten "
              "GlobalAveragePooling2D GlobalAvgPool2D Input InputLayer Layer LeakyReLU MaxPool2D MaxPooling2D",
    "losses": "CategoricalCrossentropy SparseCategoricalCrossentropy categorical_crossentropy "
              "sparse_categorical_crossentropy get",
    "metrics": "CategoricalAccuracy SparseCategoricalAccuracy categorical_accuracy sparse_categorical_accuracy",
    "models": "Sequential load_model save_model",
    "optimizers": "Adam RMSprop SGD get",
    "preprocessing.image": "ImageDataGenerator",
    "utils": "normalize set_random_seed to_categorical",
}


@pytest.mark.parametrize("module", NAMES)
def test_the_names_are_where_keras_has_them(module):
    place = attrgetter(module)(keras) if module else keras
    for name in NAMES[module].split():
        assert callable(getattr(place, name)) or name == "mnist", name
    assert callable(keras.datasets.mnist.load_data)


@pytest.mark.needs("keras")
@pytest.mark.parametrize("module", [module for module in NAMES if module])
def test_keras_has_them_too(module):
    import importlib
    legacy = "src.legacy." if module == "preprocessing.image" else ""            # where Keras 3 put it
    theirs = importlib.import_module(f"keras.{legacy}{module}")
    assert [name for name in NAMES[module].split() if not hasattr(theirs, name)] == []


def test_the_page_lists_them_all():
    page = (Path(__file__).parents[1] / "docs" / "keras.md").read_text(encoding="utf-8")
    for module, names in NAMES.items():
        row, = [line for line in page.splitlines() if line.startswith(f"| `{f'minicnn.{module}'.rstrip('.')}` |")]
        assert [name for name in names.split() if f"`{name}`" not in row] == []


def test_the_page_lists_what_a_model_can_do():
    page = (Path(__file__).parents[1] / "docs" / "keras.md").read_text(encoding="utf-8")
    listed = re.findall(r"`(\w+)`", re.search(r"^Of `Sequential`: (.*?)\.", page, re.MULTILINE | re.DOTALL).group(1))
    assert len(listed) > 20
    assert [name for name in listed if not hasattr(compiled(), name)] == []


def test_the_backend_says_what_is_so():
    assert keras.backend.image_data_format() == "channels_last"
    assert keras.backend.floatx() == Dense(1).dtype == "float32"
    assert keras.backend.backend() == "numpy"
    assert keras.backend.epsilon() == losses.EPSILON
    assert keras.backend.clear_session() is None


# --- building ----------------------------------------------------------------------------------------------------

def test_shapes_and_sizes_in_all_their_forms(images):
    model = keras.Sequential(name="mine")
    model.add(Conv2D(filters=2, kernel_size=(3, 3), padding="Same", activation="relu", input_shape=list(IMAGE)))
    model.add(Conv2D(2, 3, padding="SAME", activation=keras.activations.relu))
    model.add(MaxPool2D(2, 2))
    model.add(MaxPooling2D(pool_size=(2, 1), strides=(1, 1)))
    model.add(Flatten(data_format="channels_last"))
    model.add(Dropout(0.25))
    model.add(Dense(CLASSES, activation="softmax"))
    assert model.output_shape == (None, CLASSES)
    assert model.predict(images[0], verbose=0).shape == (12, CLASSES)
    assert Dense(3, input_dim=4).declared_input_shape == (4,)
    assert keras.Sequential([Dense(3, input_dim=4)]).built
    with pytest.raises(ShapeError, match="'4'"):
        Dense(3, input_dim="4")


def test_layers_can_be_added_after_a_summary_and_taken_off_again(capsys):
    model = keras.Sequential([keras.Input((4,)), Dense(5)])
    model.summary()
    model.add(Dense(3))
    model.add(Dense(7))
    model.summary()
    assert capsys.readouterr().out.count("Total params") == 2
    assert model.pop().units == 7
    assert model.output_shape == (None, 3)
    model.add(Dense(2, activation="softmax"))
    compiled(model).fit(*draw_images(np.random.default_rng(0), 5, (4,), 2), verbose=0)
    with pytest.raises(StateError, match="pop was called on a model without layers"):
        keras.Sequential().pop()


def test_a_layer_gives_and_takes_its_weights(rng):
    model = small_dense()
    kernel, bias = model.layers[0].get_weights()
    kernel[...] = 0
    assert model.layers[0].params["kernel"].any()                                # a copy was given
    model.layers[0].set_weights([kernel + 1, bias + 2])
    assert (model.layers[0].params["kernel"] == 1).all()
    assert (model.layers[0].params["bias"] == 2).all()
    with pytest.raises(ShapeError, match=r"got the shape \(5,\) for kernel; expected \(4, 5\)"):
        model.layers[0].set_weights([bias, bias])
    with pytest.raises(ShapeError, match="got 1 arrays; expected 2: kernel, bias"):
        model.layers[0].set_weights([kernel])
    assert (model.layers[0].params["bias"] == 2).all()


def test_a_model_can_be_frozen(data):
    model = compiled()
    assert model.trainable
    model.trainable = False
    before = model.weights_sha256()
    model.fit(*data, verbose=0)
    assert model.weights_sha256() == before
    model.trainable = True
    model.fit(*data, verbose=0)
    assert model.weights_sha256() != before


# --- compiling ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("optimizer", "kind"), [
    ("adam", optimizers.Adam), ("Adam", optimizers.Adam), ("SGD", optimizers.SGD), ("rmsprop", optimizers.RMSprop),
    (optimizers.Adam(learning_rate=0.01), optimizers.Adam), (optimizers.RMSprop, optimizers.RMSprop),
    (optimizers.SGD(0.1, momentum=0.9, decay=0.0), optimizers.SGD)])
def test_optimizers_by_name_by_class_and_as_objects(optimizer, kind):
    assert type(compiled(optimizer=optimizer).optimizer) is kind


def test_what_an_optimizer_cannot_do_is_refused_by_name():
    with pytest.raises(UnsupportedError, match=r"decay=0\.01"):
        optimizers.SGD(0.1, decay=0.01)
    with pytest.raises(ArgumentError, match=r"'adadelta' is no optimizer\. .*Known: adam, rmsprop, sgd"):
        compiled(optimizer="adadelta")


@pytest.mark.parametrize("loss", [
    "categorical_crossentropy", "CategoricalCrossentropy", losses.categorical_crossentropy,
    losses.CategoricalCrossentropy, losses.CategoricalCrossentropy()])
def test_losses_by_every_name(loss, data):
    x, y = data
    model = compiled(loss=loss)
    assert type(model.loss) is losses.CategoricalCrossentropy
    expected = compiled().evaluate(x, y)
    assert model.evaluate(x, utils.to_categorical(y, CLASSES)) == pytest.approx(expected)
    assert type(losses.get(losses.sparse_categorical_crossentropy)) is losses.SparseCategoricalCrossentropy
    with pytest.raises(ArgumentError, match=r"'mse' is no loss\. Known: categorical_crossentropy, sparse_"):
        compiled(loss="mse")


def test_a_loss_as_a_function_gives_one_number_a_sample(rng):
    y, z = rng.integers(0, 4, 6), rng.standard_normal((6, 4))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    one_hot = utils.to_categorical(y, 4)
    expected = -np.log(p[np.arange(6), y])
    np.testing.assert_allclose(losses.sparse_categorical_crossentropy(y, p), expected)
    np.testing.assert_allclose(losses.sparse_categorical_crossentropy(y, z, from_logits=True), expected)
    np.testing.assert_allclose(losses.categorical_crossentropy(one_hot, p), expected)
    smoothed = losses.categorical_crossentropy(one_hot, z, from_logits=True, label_smoothing=0.3)
    np.testing.assert_allclose(smoothed, 0.7 * expected - 0.3 * np.log(p).mean(axis=1))


METRICS = {
    "accuracy": ["accuracy"], "acc": ["acc"], "Accuracy": ["Accuracy"], "a string": "accuracy",
    "function": [metrics.sparse_categorical_accuracy], "object": [metrics.SparseCategoricalAccuracy()],
    "class": [metrics.SparseCategoricalAccuracy], "own name": [metrics.SparseCategoricalAccuracy(name="hit")],
    "two": ["sparse_categorical_accuracy", "acc"],
}
LOGGED = {"a string": ["accuracy"], "own name": ["hit"], "two": ["sparse_categorical_accuracy", "acc"],
          **{key: ["sparse_categorical_accuracy"] for key in ("function", "object", "class")}}


@pytest.mark.parametrize("what", METRICS)
def test_metrics_are_logged_under_the_name_they_are_given(what, data, tmp_path):
    model = small_dense()
    model.compile("sgd", SPARSE, metrics=METRICS[what])
    names = LOGGED.get(what, [what])
    history = model.fit(*data, validation_split=0.4, verbose=0).history
    assert list(history) == ["loss", *names, "val_loss", *(f"val_{name}" for name in names)]
    assert model.metrics_names == ["loss", *names]
    values = model.evaluate(*data)
    assert isinstance(values, list)
    assert values[1:] == [np.mean(model.predict(data[0]).argmax(axis=1) == data[1])] * len(names)
    model.save(tmp_path / "m.safetensors")
    assert keras.models.load_model(tmp_path / "m.safetensors").metrics == model.metrics


def test_a_metric_object_goes_on_from_batch_to_batch(data):
    metric, y = metrics.CategoricalAccuracy(), np.eye(3)[[0, 1, 1, 2, 2]]
    assert metric.result() == 0
    assert metric(y[:1], np.eye(3)[[0]]) == 1
    metric.update_state(y[1:], np.eye(3)[[0, 1, 2, 1]])
    assert metric.result() == 3 / 5
    metric.reset_state()
    assert metric.result() == 0
    assert metric.name == "categorical_accuracy"


def test_compiling_several_times(data):
    model = compiled()
    model.fit(*data, verbose=0)
    model.compile(loss="categorical_crossentropy", optimizer=keras.optimizers.Adam(learning_rate=1e-3))
    history = model.fit(data[0], utils.to_categorical(data[1]), epochs=2, verbose=0)
    assert list(history.history) == ["loss"]
    assert isinstance(model.evaluate(data[0], utils.to_categorical(data[1]), verbose=0), float)
    compiled(model)
    assert "val_accuracy" in model.fit(*data, validation_data=list(data), verbose=False).history


# --- initializers ------------------------------------------------------------------------------------------------

def spread(initializer, shape=(60, 70)):
    values = initializers.get(initializer)(shape, np.random.default_rng(1))
    assert values.shape == shape
    return values.mean(), values.std(), np.abs(values).max()


@pytest.mark.parametrize(("spellings", "deviation", "most"), [
    (["glorot_normal", "GlorotNormal", initializers.GlorotNormal, initializers.GlorotNormal()], (2 / 130)**0.5, 2.28),
    (["lecun_normal", initializers.LecunNormal()], 60**-0.5, 2.28),
    (["lecun_uniform", "LecunUniform"], 60**-0.5, 3**0.5),
    (["he_normal", "HeNormal", initializers.he_normal, initializers.HeNormal()], (2 / 60)**0.5, 2.28),
    (["glorot_uniform", "GlorotUniform", initializers.GlorotUniform()], (2 / 130)**0.5, 3**0.5),
    (["random_normal", "normal", "RandomNormal", initializers.RandomNormal()], 0.05, 6),
    (["truncated_normal", initializers.TruncatedNormal()], 0.05 * 0.87962566, 2.28),
    (["random_uniform", "uniform", "RandomUniform", initializers.RandomUniform()], 0.05 / 3**0.5, 3**0.5),
    ([initializers.RandomUniform(-2, 2)], 2 / 3**0.5, 3**0.5)])
def test_initializers_in_all_their_spellings(spellings, deviation, most):
    """Mean, deviation, and the largest value in deviations."""
    found = [spread(spelling) for spelling in spellings]
    assert len(set(found)) == 1
    mean, std, largest = found[0]
    assert abs(mean) < 0.05 * deviation
    assert std == pytest.approx(deviation, rel=0.03)
    assert largest <= most * deviation


def test_initializers_with_settings_and_seeds(rng, tmp_path):
    one, other = (Dense(5, kernel_initializer=initializers.HeNormal(seed=7), input_shape=(4,)) for _ in range(2))
    model = keras.Sequential([one, Dense(4), Dense(5, kernel_initializer=initializers.HeNormal(seed=7))])
    np.testing.assert_array_equal(model.layers[0].params["kernel"], model.layers[2].params["kernel"])
    assert other.config()["kernel_initializer"] == "he_normal"
    layer = Dense(3, bias_initializer=initializers.Constant(0.1), kernel_initializer="zero", input_shape=(4,))
    whole = keras.Sequential([layer])
    assert layer.params["bias"].tolist() == [np.float32(0.1)] * 3
    assert not layer.params["kernel"].any()
    whole.save(tmp_path / "m.safetensors")
    assert keras.models.load_model(tmp_path / "m.safetensors").weights_sha256() == whole.weights_sha256()
    assert spread(initializers.RandomNormal(mean=3.0, stddev=0.1))[0] == pytest.approx(3, abs=0.01)
    for wrong in (lambda: initializers.RandomNormal(stddev=-1), lambda: initializers.RandomUniform(1, 0),
                  lambda: initializers.HeNormal(seed=-1), lambda: initializers.get("he_normla")):
        with pytest.raises(ArgumentError):
            wrong()


# --- training and after ------------------------------------------------------------------------------------------

def test_pandas_and_lists_are_data(rng, data):
    x, y = pd.DataFrame(data[0]), pd.Series(data[1], name="label")
    twins = compiled(), compiled()
    twins[0].fit(x, y, epochs=2, verbose=0, validation_split=0.3)
    twins[1].fit(data[0].tolist(), data[1].tolist(), epochs=2, verbose=0, validation_split=0.3)
    assert twins[0].weights_sha256() == twins[1].weights_sha256()
    predicted = twins[0].predict(x)
    assert type(predicted) is np.ndarray
    assert np.argmax(predicted, axis=1).shape == (11,)
    np.testing.assert_array_equal(twins[0].predict_on_batch(data[0]), predicted)


def test_models_are_saved_by_either_name(data, tmp_path):
    model = compiled()
    keras.models.save_model(model, tmp_path / "m.safetensors")
    assert keras.models.load_model(tmp_path / "m.safetensors").weights_sha256() == model.weights_sha256()
    with pytest.raises(ArgumentError, match="overwrite=False"):
        keras.models.save_model(model, tmp_path / "m.safetensors", overwrite=False)


# --- utils -------------------------------------------------------------------------------------------------------

@pytest.mark.usefixtures("_seeds_come_back")
def test_a_random_seed_is_for_everything():
    """As in Keras: models made later, and what a script draws itself from random and numpy.random."""
    drawn = []
    for seed in (3, 4, 3):
        utils.set_random_seed(seed)
        drawn.append((small_dense(seed=None).weights_sha256(), random.random(), np.random.random()))  # noqa: NPY002
    assert drawn[0] == drawn[2]
    assert all(one != other for one, other in zip(drawn[0], drawn[1], strict=True))
    with pytest.raises(ArgumentError, match=r"less than 2\*\*32"):
        utils.set_random_seed(1 << 32)


@pytest.fixture
def _seeds_come_back(monkeypatch):
    monkeypatch.setattr(utils, "_default_seed", utils._default_seed)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


def test_rows_are_divided_by_their_norms(rng):
    x = rng.standard_normal((3, 4, 5))
    x[1, 2] = 0
    np.testing.assert_allclose(np.linalg.norm(utils.normalize(x), axis=-1), np.where(x.any(axis=-1), 1, 0))
    np.testing.assert_allclose(np.abs(utils.normalize(x, axis=1, order=1)).sum(axis=1), 1)
    np.testing.assert_allclose(utils.normalize([3.0, 4.0]), [0.6, 0.8])
