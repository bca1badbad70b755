"""Older spellings: each works, with one DeprecationWarning that names the new one; without this page none does."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn import callbacks, layers, metrics, models, optimizers, utils
from minicnn.errors import FileFormatError, UnsupportedError
from networks import CLASSES, SPARSE

pytestmark = pytest.mark.usefixtures("reference_kernels")
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def keras(monkeypatch):
    """The page as a script finds it: nothing of it has been used yet."""
    for name in [name for name in sys.modules if name.startswith("minicnn.compat")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(optimizers.Optimizer, "lr", raising=False)
    monkeypatch.delattr(minicnn, "compat", raising=False)
    yield importlib.import_module("minicnn.compat")
    for name in [name for name in sys.modules if name.startswith("minicnn.compat")]:
        del sys.modules[name]
    del optimizers.Optimizer.lr


def said(function, *arguments, **options):
    """Call a function; return its result and the words of its one DeprecationWarning, which is about this file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function(*arguments, **options)
    words = [str(warning.message) for warning in caught]
    assert [warning.category for warning in caught] == [DeprecationWarning], words
    assert caught[0].filename == __file__
    return result, words[0]


@pytest.fixture
def model(keras):
    made = keras.Sequential([keras.Input((4,)), keras.layers.Dense(CLASSES, activation="softmax")], seed=1)
    made.compile(keras.optimizers.Adam(learning_rate=0.01), SPARSE, metrics=["accuracy"])
    return made


# --- optimizers --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["Adam", "RMSprop", "SGD"])
def test_lr(keras, name):
    optimizer, words = said(getattr(keras.optimizers, name), lr=0.02, decay=0.0)
    assert words == "lr= is an older spelling; write learning_rate=."
    assert type(optimizer) is getattr(optimizers, name)
    assert optimizer.learning_rate == 0.02
    rate, words = said(lambda: optimizer.lr)
    assert (rate, words) == (0.02, "optimizer.lr is an older spelling; write optimizer.learning_rate.")
    said(lambda: setattr(optimizer, "lr", 0.5))
    assert optimizer.learning_rate == 0.5
    with pytest.raises(TypeError, match="'lr'"):
        getattr(optimizers, name)(lr=0.02)


def test_decay_and_no_epsilon(keras):
    optimizer, words = said(keras.optimizers.SGD, 0.1, decay=1e-6, momentum=0.9)
    assert "decay= is an older spelling; it is ignored, as in Keras 3" in words
    assert (optimizer.learning_rate, optimizer.momentum) == (0.1, 0.9)
    optimizer, words = said(keras.optimizers.Adam, epsilon=None)
    assert "leave epsilon out" in words
    assert optimizer.epsilon == optimizers.Adam().epsilon
    assert optimizers.get(keras.optimizers.RMSprop(0.1)).learning_rate == 0.1


# --- names of logs -----------------------------------------------------------------------------------------------

def test_acc_in_the_history(model, data):
    history = model.fit(*data, epochs=2, validation_split=0.4, verbose=0)
    for old, new in (("acc", "accuracy"), ("val_acc", "val_accuracy")):
        assert old in history.history
        values, words = said(lambda old=old: history.history[old])
        assert values == history.history[new]
        assert words == f"{old!r} is an older spelling; write {new!r}."
        history.history[old]                                                     # said once
    assert sorted(history.history) == ["accuracy", "loss", "val_accuracy", "val_loss"]
    assert model.history is history
    assert "lr" not in history.history
    with pytest.raises(KeyError, match="'lr'"):
        history.history["lr"]
    assert history.history.get("lr", 5) == 5


def test_acc_in_callbacks_of_ones_own(keras, model, data):
    seen = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["mine"] = logs.get("acc") + epoch
            seen.append(logs["acc"] == logs["accuracy"])

    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    history, words = said(model.fit, *data, epochs=3, verbose=0, callbacks=[schedule, Stop()])
    assert words == "'acc' is an older spelling; write 'accuracy'."
    assert seen == [True] * 3
    assert history.history["mine"] == [value + epoch for epoch, value in enumerate(history.history["accuracy"])]
    assert said(lambda: history.history["lr"])[0] == [0.1] * 3


@pytest.mark.parametrize("make", [
    lambda place: place.EarlyStopping(monitor="val_acc", patience=2),
    lambda place: place.ReduceLROnPlateau(monitor="val_acc"),
    lambda place: place.ModelCheckpoint("best.safetensors", monitor="val_acc", save_best_only=True)])
def test_val_acc_as_monitor(keras, model, data, make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    callback = make(keras.callbacks)
    history, words = said(model.fit, *data, validation_split=0.4, verbose=0, callbacks=[callback])
    assert words == "monitor='val_acc' is an older spelling; write monitor='val_accuracy'."
    assert callback.best == history.history["val_accuracy"][0]


def test_acc_is_no_older_spelling_where_it_is_logged(keras, model, data):
    model.compile("sgd", SPARSE, metrics=["acc"])
    stopping = keras.callbacks.EarlyStopping("val_acc")
    history = model.fit(*data, validation_split=0.4, verbose=0, callbacks=stopping)
    assert history.history["val_acc"] == [stopping.best]


# --- methods -----------------------------------------------------------------------------------------------------

def batches(data, size=4):
    while True:
        for first in range(0, 8, size):
            yield data[0][first:first + size], data[1][first:first + size]


def test_generators(keras, model, data):
    twin = models.Sequential([layers.Input((4,)), layers.Dense(CLASSES, activation="softmax")], seed=1)
    twin.compile(optimizers.Adam(0.01), SPARSE, metrics=["accuracy"])
    history, words = said(model.fit_generator, batches(data), 2, 3, 0, None, data, workers=4, max_queue_size=9,
                          use_multiprocessing=True)
    assert words == "fit_generator is an older spelling; write fit."
    expected = twin.fit(batches(data), steps_per_epoch=2, epochs=3, verbose=0, validation_data=data)
    assert history.history == expected.history
    assert model.weights_sha256() == twin.weights_sha256()
    values, words = said(model.evaluate_generator, batches(data), 2, workers=2)
    assert (values, words) == (twin.evaluate(batches(data), steps=2),
                               "evaluate_generator is an older spelling; write evaluate.")
    predicted, words = said(model.predict_generator, (x for x, _ in batches(data)), steps=2)
    np.testing.assert_array_equal(predicted, twin.predict(data[0][:8]))
    assert words == "predict_generator is an older spelling; write predict."


def test_steps_that_are_no_whole_number_are_rounded_up(model, data):
    """Keras 2's own examples wrote ``steps_per_epoch=len(x) / 32``; it went on while fewer steps were done."""
    (_, words), seen = said(model.fit, batches(data), steps_per_epoch=1.5, epochs=2, verbose=0), model.updates
    assert seen == 4
    assert words == "steps_per_epoch=1.5 is an older spelling; write steps_per_epoch=2, of math.ceil."
    _, words = said(model.fit, batches(data), steps_per_epoch=2, verbose=0, validation_data=batches(data),
                    validation_steps=np.ceil(0.5))
    assert words == "validation_steps=1.0 is an older spelling; write validation_steps=1, of math.ceil."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit_generator(batches(data), 2.5, 1, 0, validation_data=batches(data), validation_steps=1)
        values = model.evaluate_generator(batches(data), 1.5)
        predicted = model.predict_generator((x for x, _ in batches(data)), steps=8 / 4)
    assert [str(warning.message).partition(" ")[0] for warning in caught] == [
        "fit_generator", "steps_per_epoch=2.5", "evaluate_generator", "steps=1.5", "predict_generator", "steps=2.0"]
    assert {warning.filename for warning in caught} == {__file__}
    assert model.updates == 4 + 2 + 3
    assert values == model.evaluate(batches(data), steps=2)
    assert predicted.shape == (8, CLASSES)


def test_classes_and_probabilities(model, data):
    classes, words = said(model.predict_classes, data[0])
    np.testing.assert_array_equal(classes, model.predict(data[0]).argmax(axis=-1))
    assert "write predict(x).argmax(axis=-1)." in words
    probabilities, words = said(model.predict_proba, data[0], batch_size=3)
    np.testing.assert_array_equal(probabilities, model.predict(data[0]))
    assert words.endswith("write predict.")


def test_arguments_of_fit(model, data):
    history, words = said(model.fit, *data, nb_epoch=2, verbose=0)
    assert (len(history.epoch), words) == (2, "nb_epoch= is an older spelling; write epochs=.")
    _, words = said(model.fit, *data, verbose=0, workers=4, use_multiprocessing=False)
    assert words.startswith("workers, use_multiprocessing is an older spelling; leave it out: ")


def test_models_from_files_have_the_older_methods_too(keras, model, data, tmp_path):
    class Twice(layers.Layer):
        def forward(self, x, training=False):
            return 2 * self.check_input(x)

    model.save(tmp_path / "m.safetensors")
    loaded = keras.models.load_model(tmp_path / "m.safetensors")
    assert loaded.weights_sha256() == model.weights_sha256()
    said(loaded.predict_classes, data[0])
    assert type(models.load_model(tmp_path / "m.safetensors")) is models.Sequential
    keras.Sequential([Twice(input_shape=(3,))]).save(tmp_path / "own.safetensors")
    keras.load_model(tmp_path / "own.safetensors", custom_objects={"Twice": Twice})
    with pytest.raises(FileFormatError, match="'Twice'"):
        keras.load_model(tmp_path / "own.safetensors")


def test_arguments_of_callbacks(keras):
    plateau, words = said(keras.callbacks.ReduceLROnPlateau, "val_loss", epsilon=0.5)
    assert (plateau.min_delta, words) == (0.5, "epsilon= is an older spelling; write min_delta=.")
    assert isinstance(plateau, callbacks.ReduceLROnPlateau)
    checkpoint, words = said(keras.callbacks.ModelCheckpoint, "m.safetensors", period=1)
    assert checkpoint.save_freq == "epoch"
    assert "write save_freq='epoch'" in words
    with pytest.raises(UnsupportedError, match="period is not supported"):
        keras.callbacks.ModelCheckpoint("m.safetensors", period=5)


def test_the_backend(keras):
    assert said(keras.backend.image_dim_ordering) == (
        "tf", "image_dim_ordering() is an older spelling; write image_data_format(), which is 'channels_last'.")
    assert said(keras.backend.get_value, 0.25)[0] == 0.25
    assert keras.backend.image_data_format() == "channels_last"


# --- places ------------------------------------------------------------------------------------------------------

def run(text):
    names = {}
    exec(compile(text, __file__, "exec"), names)
    return names


@pytest.mark.parametrize(("line", "name", "value", "words"), [
    ("from minicnn.compat.utils import np_utils; to_categorical = np_utils.to_categorical", "to_categorical",
     utils.to_categorical, "utils.np_utils is an older spelling; write utils."),
    ("from minicnn.compat.utils.np_utils import to_categorical", "to_categorical", utils.to_categorical,
     "utils.np_utils is an older spelling; write utils."),
    ("from minicnn.compat.layers.convolutional import Conv2D, MaxPooling2D", "Conv2D", layers.Conv2D,
     "layers.convolutional is an older spelling; write layers."),
    ("from minicnn.compat.layers.core import Dense, Dropout, Flatten", "Flatten", layers.Flatten, "layers.core is an"),
    ("from minicnn.compat.layers.normalization import BatchNormalization", "BatchNormalization",
     layers.BatchNormalization, "layers.normalization is an older spelling; write layers."),
    ("from minicnn.compat.layers.advanced_activations import LeakyReLU", "LeakyReLU", layers.LeakyReLU, "write layers"),
    ("import minicnn.compat as tf; Pool = tf.keras.layers.pooling.MaxPooling2D", "Pool", layers.MaxPooling2D,
     "layers.pooling is an older spelling; write layers."),
    ("from minicnn.compat.keras.layers.convolutional import Conv2D", "Conv2D", layers.Conv2D, "write layers.")])
@pytest.mark.usefixtures("keras")
def test_older_modules(line, name, value, words):
    names, message = said(run, line)
    assert names[name] is value
    assert words in message
    run(line)                                                                    # said once


@pytest.mark.usefixtures("keras")
def test_what_has_not_changed_is_found_without_a_word():
    names = run("import minicnn.compat as tf\n"
                "from minicnn.compat import keras\n"
                "from minicnn.compat.keras.models import Sequential, save_model\n"
                "from minicnn.compat.datasets import mnist\n"
                "from minicnn.compat.datasets.mnist import load_data\n"
                "from minicnn.compat.metrics import *\n"
                "import minicnn.compat.layers as L\n"
                "relu = tf.nn.relu\n")
    assert names["keras"] is names["tf"] is sys.modules["minicnn.compat"]
    assert names["load_data"] is names["mnist"].load_data is minicnn.datasets.mnist.load_data
    assert names["SparseCategoricalAccuracy"] is metrics.SparseCategoricalAccuracy
    assert names["relu"] is minicnn.activations.relu
    assert names["L"].Dense is names["tf"].keras.layers.Dense is layers.Dense
    assert names["save_model"] is models.save_model
    assert issubclass(names["Sequential"], models.Sequential)
    assert names["tf"].keras.losses.get is minicnn.losses.get
    assert {"layers", "Sequential", "keras", "nn"} <= set(dir(names["tf"]))


@pytest.mark.parametrize(("line", "words"), [
    ("from minicnn.compat.layers import LSTM", "cannot import name 'LSTM'"),
    ("from minicnn.compat import wrappers", "cannot import name 'wrappers'"),
    ("import minicnn.compat.wrappers", r"No module named 'minicnn\.compat\.wrappers'")])
@pytest.mark.usefixtures("keras")
def test_what_is_not_there_is_an_import_error(line, words):
    with pytest.raises(ImportError, match=words):
        run(line)


def test_nothing_imports_the_page():
    code = ("import sys, minicnn.testing, minicnn.models; from minicnn.optimizers import Adam; "
            "print([name for name in sys.modules if 'compat' in name and 'minicnn' in name], hasattr(Adam(), 'lr'))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[] False\n"
