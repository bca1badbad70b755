"""The recipes: the networks they are known for, settings that a file can keep, and runs that do what these say."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

import digits
import recipes
import runs
from minicnn.callbacks import Callback, EarlyStopping
from minicnn.layers import Dense, Flatten, Input
from minicnn.models import Sequential, load_model
from minicnn.optimizers import Adam
from minicnn.preprocessing.image import ImageDataGenerator
from minicnn.utils import to_categorical

# Small networks on NumPy: nothing to compile, and the same with and without JIT.
pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=lambda recipe: recipe.name)
def test_a_recipe_tells_its_parameters_right(recipe):
    model = recipe.network((28, 28, 1), 10, 0)
    assert sum(array.size for layer in model.layers for array in layer.params.values()) == recipe.parameters
    assert recipe.trained(full=False) is recipe.training
    assert recipe.trained(full=True) is (recipe.full or recipe.training)


def test_a_recipe_is_data_that_a_result_file_can_keep():
    for recipe in recipes.RECIPES.values():
        for training in {recipe.training, recipe.trained(full=True)}:
            record = training.record()
            assert json.loads(json.dumps(record)) == record
            assert training.optimizer() is not training.optimizer()    # one belongs to one model
    full = recipes.find("cnn").full.record()
    assert full["augmentation"] == {"class": "ImageDataGenerator", "rotation_range": 10, "zoom_range": 0.1,
                                    "width_shift_range": 0.1, "height_shift_range": 0.1}
    assert full["callbacks"][0] == {"class": "ReduceLROnPlateau", "monitor": "val_accuracy", "patience": 3,
                                    "factor": 0.5, "min_lr": 1e-5}


KNOWN_FOR = {    # parameters, epochs, batch size where it is said, layers
    "kaggle_cnn": (887_530, 30, 86, "Conv2D Conv2D MaxPooling2D Dropout Conv2D Conv2D MaxPooling2D Dropout Flatten "
                                    "Dense Dropout Dense"),
    "explore_cnn": (None, None, None, "Conv2D MaxPooling2D Conv2D MaxPooling2D Conv2D Flatten Dense Dense"),
    "simple_cnn": (607_394, 10, None, "Conv2D MaxPooling2D Flatten Dense Dropout Dense"),
}


@pytest.mark.parametrize("name", KNOWN_FOR)
def test_networks_of_others_are_as_they_are_known(name):
    parameters, epochs, batch_size, layers = KNOWN_FOR[name]
    recipe = recipes.find(name)
    assert parameters in (None, recipe.parameters)
    assert epochs in (None, recipe.training.epochs)
    assert batch_size in (None, recipe.training.batch_size)
    assert " ".join(type(layer).__name__ for layer in recipe.network((28, 28, 1), 10, 0).layers) == layers


def test_cnn_has_888426_parameters_in_the_order_of_layers_it_is_known_for():
    assert recipes.find("cnn").parameters == 888_426
    model = recipes.cnn((28, 28, 1), 10, 0)
    block = ["Conv2D", "BatchNormalization"] * 2 + ["MaxPooling2D", "Dropout"]
    expected = [*block, *block, "Flatten", "Dense", "BatchNormalization", "Dropout", "Dense"]
    assert [type(layer).__name__ for layer in model.layers if type(layer).__name__ != "Input"] == expected


def test_the_learning_rate_falls_by_equal_steps():
    scheduler = recipes.LinearDecay()
    scheduler.set_params({"epochs": 4})
    rates = [0.8]
    for epoch in range(4):
        rates.append(scheduler.schedule(epoch, rates[-1]))
    np.testing.assert_allclose(rates[1:], [0.8, 0.6, 0.4, 0.2])


# --- runs --------------------------------------------------------------------------------------------------------

def toys(shape=(6, 5), train=36, test=20):
    """Return noise with labels: 33 images to train on and 3 held out."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 256, (train + test, *shape)).astype(np.uint8)
    y = (np.arange(train + test) % 10).astype(np.uint8)
    return digits.Digits("toys", x[:train], y[:train], x[train:], y[train:])


def small(shape, classes, seed):
    return Sequential([Input(shape), Flatten(), Dense(7, activation="relu"), Dense(classes, activation="softmax")],
                      seed=seed)


def recipe_of(**settings):
    training = recipes.Training(epochs=3, batch_size=8, seconds_per_epoch=1, **settings)
    return recipes.Recipe("small", "a small one", small, 0, training)


def trained(recipe, epochs=3, **more):
    run = runs.Run(recipe, toys(), epochs, 8, 4, **more)
    run.train(verbose=0)
    return run


def test_a_run_is_what_one_would_write_by_hand():
    """Moved images, one-hot labels, an optimizer and a callback with arguments, the last twelfth held out."""
    stopping = recipes.Setting(EarlyStopping, monitor="val_loss", patience=1, restore_best_weights=True)
    run = trained(recipe_of(optimizer=recipes.Setting(Adam, learning_rate=0.02), loss="categorical_crossentropy",
                            augmentation=recipes.MOVED, callbacks=(stopping,)))
    data = toys()
    x, y = data.x_train[..., None].astype(np.float32) / 255, to_categorical(data.y_train, 10)
    model = small((6, 5, 1), 10, seed=4)
    model.compile(Adam(0.02), "categorical_crossentropy", metrics=["accuracy"])
    moved = ImageDataGenerator(rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1)
    history = model.fit(moved.flow(x[:33], y[:33], batch_size=8, seed=4), epochs=3, validation_data=(x[33:], y[33:]),
                        callbacks=EarlyStopping(monitor="val_loss", patience=1, restore_best_weights=True), verbose=0)
    assert run.recorder.history == history.history
    assert run.record()["weights_sha256"] == model.weights_sha256()
    assert trained(recipe_of(callbacks=())).record()["weights_sha256"] != model.weights_sha256()


def test_the_epoch_whose_weights_were_kept_is_recorded():
    # The loss falls, so that its highest value is that of the first epoch.
    highest = recipes.Setting(EarlyStopping, monitor="loss", mode="max", patience=1, restore_best_weights=True)
    stopped, first = trained(recipe_of(callbacks=(highest,))), trained(recipe_of(callbacks=()), epochs=1)
    assert (stopped.kept, len(stopped.recorder.seconds), first.kept) == (1, 2, None)
    record = stopped.record()
    assert (record["epoch_kept"], record["epochs"], record["epochs_planned"]) == (1, 2, 3)
    assert record["weights_sha256"] == first.record()["weights_sha256"]


def test_a_checkpoint_lies_in_the_runs_folder_and_changes_nothing(tmp_path):
    recipe = recipe_of(callbacks=(recipes.BEST,))
    run = trained(recipe, place=tmp_path)
    best = load_model(tmp_path / "checkpoint.safetensors")
    x, y = digits.scaled(run.digits.x_train[33:]), run.digits.y_train[33:]
    assert best.evaluate(x, y, verbose=0)[1] == max(run.recorder.history["val_accuracy"])
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    assert trained(recipe).record()["weights_sha256"] == run.record()["weights_sha256"]


def test_only_some_recipes_have_a_long_training():
    options = argparse.Namespace(full=True, epochs=None, batch_size=None)
    for recipe in recipes.RECIPES.values():
        run = runs.planned(options, recipe, toys((28, 28), 24, 1), seed=0)
        assert run.full is (recipe.full is not None)
        assert (run.epochs, run.batch_size) == (recipe.trained(True).epochs, recipe.trained(True).batch_size)
    options.epochs, options.batch_size = 2, 5
    run = runs.planned(options, recipes.find("cnn"), toys((28, 28), 24, 1), seed=0)
    assert (run.epochs, run.batch_size, run.training.augmentation) == (2, 5, recipes.MOVED)


class Told(Callback):
    """Notes what a callback is told about the training."""

    def on_train_begin(self, logs=None):
        told.append(self.params["images"])


told = []


@pytest.mark.parametrize("augmentation", [None, recipes.MOVED], ids=["as they are", "moved"])
def test_the_progress_bar_knows_how_many_images_an_epoch_has(augmentation):
    told.clear()
    trained(recipe_of(augmentation=augmentation, callbacks=(recipes.Setting(Told),)))
    assert told == [33]


@pytest.mark.parametrize("name", ["cnn --full", "kaggle_cnn", "explore_cnn", "simple_cnn"])
def test_every_recipe_trains(name):
    """From pixels to a score, in one epoch of a few images."""
    recipe = recipes.find(name.removesuffix(" --full"))
    run = runs.Run(recipe, toys((28, 28), 24, 5), 1, 12, 0, full=name.endswith("--full"))
    run.train(verbose=0)
    assert not run.interrupted
    assert {"loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"} == set(run.recorder.history)
    assert run.score().probabilities.shape == (5, 10)
