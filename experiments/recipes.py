"""The recipes: everything that decides how a network is trained, in one value each.

A recipe is data, so that a run can be repeated from its name and a seed. The scripts beside this file know nothing
about any network; a new recipe is one entry at the end of this page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from minicnn.callbacks import Callback, LearningRateScheduler
from minicnn.errors import ArgumentError, suggest
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential
from minicnn.optimizers import Adam, Optimizer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Recipe:
    """How to train one network.

    Attributes
    ----------
    name, title : str
        What it is called on the command line; what it is, in a few words.
    network : callable
        ``network(input_shape, classes, seed)`` returns a built, not yet compiled Sequential.
    parameters : int
        Trainable parameters for 28x28x1 inputs and ten classes.
    optimizer : callable
        Returns a new optimizer; an optimizer belongs to one model.
    callbacks : callable
        ``callbacks(epochs)`` returns new callbacks for a training of so many epochs.
    epochs, quick_epochs : int
        The full training (``--full``), and what fits five minutes on two cores.
    batch_size : int
    seconds_per_epoch : float
        On two cores of 2024, for the help text only.
    data : str
        The default of ``--data``.
    """

    name: str
    title: str
    network: Callable[[Shape, int, int], Sequential]
    parameters: int
    optimizer: Callable[[], Optimizer]
    callbacks: Callable[[int], list[Callback]]
    epochs: int
    quick_epochs: int
    batch_size: int
    seconds_per_epoch: float
    data: str = "mnist"


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


def linear_decay(epochs: int) -> list[Callback]:
    """Lower the learning rate by the same amount after each epoch, so that the epoch after the last had rate 0."""
    return [LearningRateScheduler(lambda epoch, rate: rate * (epochs - epoch) / (epochs - epoch + 1)
                                  if epoch > 0 else rate)]


RECIPES = {recipe.name: recipe for recipe in (
    Recipe("cnn", "two blocks of two convolutions with batch normalization, then 256 dense units", cnn,
           parameters=888_426, optimizer=Adam, callbacks=linear_decay, epochs=30, quick_epochs=3, batch_size=128,
           seconds_per_epoch=90),
    Recipe("dense", "dense layers of 512, 256 and 128 units on the bare pixels", dense,
           parameters=567_434, optimizer=Adam, callbacks=linear_decay, epochs=20, quick_epochs=20, batch_size=128,
           seconds_per_epoch=2),
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
    lines = [f"  {'':<8}{'parameters':>10}{'epochs':>8}{'minutes':>9}{'--full':>9}{'minutes':>9}"]
    for recipe in RECIPES.values():
        minutes = [max(1, round(epochs * recipe.seconds_per_epoch / 60))
                   for epochs in (recipe.quick_epochs, recipe.epochs)]
        lines.append(f"  {recipe.name:<8}{recipe.parameters:>10,}{recipe.quick_epochs:>8}{minutes[0]:>9}"
                     f"{recipe.epochs:>9}{minutes[1]:>9}   {recipe.title}")
    return "\n".join(lines)
