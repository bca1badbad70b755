"""Images on which a network learns at once, and a recipe that is interrupted: for the tests of the scripts."""

from __future__ import annotations

import dataclasses

import numpy as np
from matplotlib.figure import Figure

import folder
import pictures
import recipes
from minicnn.callbacks import Callback
from mnist_files import fill

SAVE_FIGURE = folder.save_figure    # also where a fixture has put another in its place
SIZE = (12, 10)  # of the images: small, and not square


def toy_images(count, seed=0):
    """Ten random patterns under noise; a network learns them in an epoch or two."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).integers(0, 200, (10, *SIZE))
    y = (np.arange(count) % 10).astype(np.uint8)
    return (patterns[y] + rng.integers(0, 56, (count, *SIZE))).astype(np.uint8), y


def toy_folder(place):
    """Write a folder of four IDX files, 96 training and 40 test images."""
    return fill(place, [*toy_images(96), *toy_images(40, seed=1)])


def figure(number=1):
    """Return a picture that is drawn at once."""
    drawn = Figure(figsize=(1, 1))
    drawn.suptitle("a picture")
    drawn.add_subplot().plot([0, number])
    return drawn


def draw_few(monkeypatch):
    """Let two pictures of a run be drawn, quickly, and none of the others."""
    monkeypatch.setattr(folder, "save_figure", SAVE_FIGURE)
    monkeypatch.setattr(pictures, "PICTURES", {name: dataclasses.replace(entry, draw=lambda material: figure())
                                               for name, entry in [*pictures.PICTURES.items()][:2]})


class Interrupting(Callback):
    """Press Ctrl-C in the second batch of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, 1):
            raise KeyboardInterrupt


def press_in_epoch(epoch, monkeypatch):
    """Make the recipe ``dense`` press Ctrl-C in its training."""
    recipe = recipes.find("dense")
    training = dataclasses.replace(recipe.training, callbacks=(recipes.Setting(Interrupting, epoch=epoch),))
    monkeypatch.setitem(recipes.RECIPES, "dense", dataclasses.replace(recipe, training=training))
