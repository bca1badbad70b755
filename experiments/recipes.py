"""The recipes: everything that decides how a network is trained, in one value each.

A recipe is data, so that a run can be repeated from its name and a seed, and a result file says all of it. The scripts
beside this file know nothing about any network; a new recipe is one entry at the end of this page.

Five of them follow networks that many people have trained on digits. Where those leave something open, this page
decides, and a comment says so; nothing was ever chosen by looking at test images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from minicnn.callbacks import EarlyStopping, LearningRateScheduler, ModelCheckpoint, ReduceLROnPlateau
from minicnn.errors import ArgumentError, suggest
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential
from minicnn.optimizers import Adam
from minicnn.preprocessing.image import ImageDataGenerator

Shape = tuple[int, ...]
CHECKPOINT = "checkpoint.safetensors"


class LinearDecay(LearningRateScheduler):
    """Lower the learning rate by the same amount after each epoch, so that the epoch after the last had rate 0."""

    def __init__(self) -> None:
        super().__init__(self._next)

    def _next(self, epoch: int, rate: float) -> float:
        left = self.params["epochs"] - epoch
        return rate * left / (left + 1) if epoch > 0 else rate


class Setting:
    """A class and the arguments to make one with: an optimizer, a callback, an augmentation.

    Each call makes a new one, for an optimizer belongs to one model and a callback to one training.
    """

    def __init__(self, kind: Callable[..., Any], /, **arguments: Any) -> None:
        self.kind, self.arguments = kind, MappingProxyType(arguments)

    def __call__(self, **more: Any) -> Any:
        """Make one; ``more`` takes precedence."""
        return self.kind(**{**self.arguments, **more})

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps."""
        return {"class": self.kind.__name__, **self.arguments}


ADAM = Setting(Adam, learning_rate=1e-3)
DECAY = Setting(LinearDecay)
PLATEAU = Setting(ReduceLROnPlateau, monitor="val_accuracy", patience=3, factor=0.5, min_lr=1e-5)
BEST = Setting(ModelCheckpoint, filepath=CHECKPOINT, monitor="val_accuracy", save_best_only=True)
MOVED = Setting(ImageDataGenerator, rotation_range=10, zoom_range=0.1, width_shift_range=0.1, height_shift_range=0.1)


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes
    ----------
    epochs, batch_size : int
    seconds_per_epoch : float
        On two cores of 2024, for the help text only.
    callbacks : tuple of Setting
        A ``filepath`` among their arguments is a name in the run's folder.
    augmentation : Setting or None
        How training images are moved, anew in every epoch.
    optimizer : Setting
    loss : str
        With ``categorical_crossentropy`` the labels become one-hot rows.
    validation : float
        Share of the training images, the last ones, that is held out: for callbacks to watch, never trained on.
    reported : float or None
        Accuracy in per cent that others report of this network trained in about this way.
    """

    epochs: int
    batch_size: int
    seconds_per_epoch: float
    callbacks: tuple[Setting, ...]
    augmentation: Setting | None = None
    optimizer: Setting = ADAM
    loss: str = "sparse_categorical_crossentropy"
    validation: float = 1 / 12
    reported: float | None = None

    def describe(self) -> str:
        """Say in a few words how: ``Adam, ReduceLROnPlateau, ModelCheckpoint, on moved images``."""
        names = [setting.kind.__name__ for setting in (self.optimizer, *self.callbacks)]
        return ", ".join(names) + ("" if self.augmentation is None else ", on images moved anew in each epoch")

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps, besides epochs and batch size, which the command line may change."""
        return {"optimizer": self.optimizer.record(), "loss": self.loss,
                "callbacks": [setting.record() for setting in self.callbacks],
                "augmentation": None if self.augmentation is None else self.augmentation.record(),
                "validation": self.validation}


@dataclass(frozen=True)
class Recipe:
    """A network and how to train it.

    Attributes
    ----------
    name, title : str
        What it is called on the command line; what it is, in a few words.
    network : callable
        ``network(input_shape, classes, seed)`` returns a built, not yet compiled Sequential.
    parameters : int
        Trainable parameters for 28x28x1 inputs and ten classes.
    training : Training
    full : Training or None
        What ``--full`` asks for, where that is another.
    data : str
        The default of ``--data``.
    """

    name: str
    title: str
    network: Callable[[Shape, int, int], Sequential]
    parameters: int
    training: Training
    full: Training | None = None
    data: str = "mnist"

    def trained(self, full: bool) -> Training:
        """Return how it is trained, with or without ``--full``."""
        return self.full if full and self.full is not None else self.training


def cnn(input_shape: Shape, classes: int, seed: int) -> Sequential:
    """Two blocks of two convolutions, each with batch normalization, then a hidden dense layer."""
    return Sequential([
        Input(input_shape),
        Conv2D(32, 5, padding="same", activation="relu"),
        BatchNormalization(),
        Conv2D(32, 5, padding="same", activation="relu"),
        BatchNormalization(),
        MaxPooling2D(2),
        Dropout(0.25),
        Conv2D(64, 3, padding="same", activation="relu"),
        BatchNormalization(),
        Conv2D(64, 3, padding="same", activation="relu"),
        BatchNormalization(),
        MaxPooling2D(2),
        Dropout(0.25),
        Flatten(),
        Dense(256, activation="relu"),
        BatchNormalization(),
        Dropout(0.5),
        Dense(classes, activation="softmax"),
    ], name="cnn", seed=seed)


def kaggle_cnn(input_shape: Shape, classes: int, seed: int) -> Sequential:
    """Two blocks of two convolutions, then a hidden dense layer, with dropout and without batch normalization."""
    return Sequential([
        Input(input_shape),
        Conv2D(32, 5, padding="same", activation="relu"),
        Conv2D(32, 5, padding="same", activation="relu"),
        MaxPooling2D(2),
        Dropout(0.25),
        Conv2D(64, 3, padding="same", activation="relu"),
        Conv2D(64, 3, padding="same", activation="relu"),
        MaxPooling2D(2),
        Dropout(0.25),
        Flatten(),
        Dense(256, activation="relu"),
        Dropout(0.5),
        Dense(classes, activation="softmax"),
    ], name="kaggle_cnn", seed=seed)


def explore_cnn(input_shape: Shape, classes: int, seed: int) -> Sequential:
    """Three small convolutions with pooling between them, then dense layers."""
    return Sequential([
        Input(input_shape),
        Conv2D(32, 3, activation="relu"),
        MaxPooling2D(2),
        Conv2D(64, 3, activation="relu"),
        MaxPooling2D(2),
        Conv2D(64, 3, activation="relu"),
        Flatten(),
        Dense(64, activation="relu"),
        Dense(classes, activation="softmax"),
    ], name="explore_cnn", seed=seed)


def simple_cnn(input_shape: Shape, classes: int, seed: int) -> Sequential:
    """One convolution, then a hidden dense layer."""
    return Sequential([
        Input(input_shape),
        Conv2D(28, 3, activation="relu"),
        MaxPooling2D(2),
        Flatten(),
        Dense(128, activation="relu"),
        Dropout(0.2),
        Dense(classes, activation="softmax"),
    ], name="simple_cnn", seed=seed)


def dense(input_shape: Shape, classes: int, seed: int) -> Sequential:
    """Three hidden layers of ReLU units on the bare pixels."""
    return Sequential([
        Input(input_shape),
        Flatten(),
        Dense(512, activation="relu"),
        Dense(256, activation="relu"),
        Dense(128, activation="relu"),
        Dense(classes, activation="softmax"),
    ], name="dense", seed=seed)


RECIPES = {recipe.name: recipe for recipe in (
    # Ours: the network whole, optimizer and batch size; the schedule of the full training is the usual one.
    Recipe("cnn", "two blocks of two convolutions with batch normalization, then 256 dense units", cnn, 888_426,
           Training(epochs=3, batch_size=128, seconds_per_epoch=13, callbacks=(DECAY,)),
           Training(epochs=30, batch_size=128, seconds_per_epoch=14, callbacks=(PLATEAU, BEST), augmentation=MOVED,
                    reported=99.5)),
    # Open there, chosen here: optimizer and schedule; the last twelfth held out.
    Recipe("kaggle_cnn", "two blocks of two convolutions with dropout, then 256 dense units", kaggle_cnn, 887_530,
           Training(epochs=30, batch_size=86, seconds_per_epoch=14, callbacks=(PLATEAU, BEST), augmentation=MOVED,
                    reported=98.0)),
    # Open there, chosen here: 64 units in the hidden dense layer, batch size, what early stopping watches and how long
    # it waits, and smaller steps before it gives up.
    Recipe("explore_cnn", "three convolutions of 3x3, stopped early; from a CSV file", explore_cnn, 93_322,
           Training(epochs=30, batch_size=64, seconds_per_epoch=2.5, loss="categorical_crossentropy", reported=98.0,
                    callbacks=(PLATEAU, Setting(EarlyStopping, monitor="val_accuracy", patience=8,
                                                restore_best_weights=True))), data="csv"),
    # Open there, chosen here: batch size and schedule.
    Recipe("simple_cnn", "one convolution of 28 filters, then 128 dense units", simple_cnn, 607_394,
           Training(epochs=10, batch_size=64, seconds_per_epoch=1.5, callbacks=(DECAY,), reported=98.39)),
    # Open there, chosen here: the sizes of the layers, batch size, schedule and epochs.
    Recipe("dense", "dense layers of 512, 256 and 128 units on the bare pixels; from a CSV file", dense, 567_434,
           Training(epochs=20, batch_size=128, seconds_per_epoch=0.7, callbacks=(DECAY,), reported=85.0), data="csv"),
)}


def find(name: str) -> Recipe:
    """Return the recipe of that name.

    Raises
    ------
    ArgumentError
        If there is none; the message suggests the nearest.
    """
    if name not in RECIPES:
        raise ArgumentError(f"there is no recipe {name!r}. {suggest(name, RECIPES)}")
    return RECIPES[name]


def table() -> str:
    """List the recipes for a help text: parameters, epochs and expected minutes."""
    lines = [f"  {'':<12}{'parameters':>10}{'epochs':>8}{'minutes':>9}{'--full':>8}{'minutes':>9}"]
    for recipe in RECIPES.values():
        full = "".rjust(17) if recipe.full is None else _length(recipe.full, (8, 9))
        lines.append(f"  {recipe.name:<12}{recipe.parameters:>10,}{_length(recipe.training, (8, 9))}{full}   "
                     f"{recipe.title}")
    return "\n".join(lines)


def _length(training: Training, widths: tuple[int, int]) -> str:
    minutes = max(1, round(training.epochs * training.seconds_per_epoch / 60))
    return f"{training.epochs:>{widths[0]}}{minutes:>{widths[1]}}"
