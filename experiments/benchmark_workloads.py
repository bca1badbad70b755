"""What is timed: the networks, and what is done with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import recipes
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, Layer, MaxPooling2D
from minicnn.models import Sequential

Shape = tuple[int, ...]
Network = Callable[[Shape, int, int], Sequential]
IMAGE = (28, 28, 1)
CLASSES = 10


def conv_pairs(input_shape: Shape, classes: int, seed: int) -> Sequential:
    """Two pairs of convolutions, 5x5 and 3x3, with dropout and without batch normalization."""
    def pair(filters: int, size: int) -> list[Layer]:
        return [Conv2D(filters, size, padding="same", activation="relu"),
                Conv2D(filters, size, padding="same", activation="relu"), MaxPooling2D(2), Dropout(0.25)]

    return Sequential([Input(input_shape), *pair(32, 5), *pair(64, 3), Flatten(), Dense(256, activation="relu"),
                       Dropout(0.5), Dense(classes, activation="softmax")], name="conv_pairs", seed=seed)


def three_convs(input_shape: Shape, classes: int, seed: int) -> Sequential:
    """Three 3x3 convolutions without padding."""
    return Sequential([
        Input(input_shape), Conv2D(32, 3, activation="relu"), MaxPooling2D(2), Conv2D(64, 3, activation="relu"),
        MaxPooling2D(2), Conv2D(64, 3, activation="relu"), Flatten(), Dense(64, activation="relu"),
        Dense(classes, activation="softmax")], name="three_convs", seed=seed)


def one_conv(input_shape: Shape, classes: int, seed: int) -> Sequential:
    """One 3x3 convolution and a hidden dense layer."""
    return Sequential([
        Input(input_shape), Conv2D(28, 3, activation="relu"), MaxPooling2D(2), Flatten(),
        Dense(128, activation="relu"), Dropout(0.2), Dense(classes, activation="softmax")], name="one_conv", seed=seed)


NETWORKS: dict[str, tuple[str, Network]] = {
    "cnn": ("`cnn`, two conv pairs with batch normalization", recipes.cnn),
    "conv_pairs": ("two conv pairs without it", conv_pairs),
    "three_convs": ("three 3x3 convolutions", three_convs),
    "one_conv": ("one convolution, Dense 128", one_conv),
    "dense": ("`dense`, no convolution", recipes.dense),
}


def scaled_cnn(filters: int) -> Network:
    """Return the `cnn` recipe with ``filters`` and twice as many in place of 32 and 64."""
    def block(F: int, size: int) -> list[Layer]:
        layers: list[Layer] = []
        for _ in range(2):
            layers += [Conv2D(F, size, padding="same", activation="relu"), BatchNormalization()]
        return [*layers, MaxPooling2D(2), Dropout(0.25)]

    def network(input_shape: Shape, classes: int, seed: int) -> Sequential:
        return Sequential([Input(input_shape), *block(filters, 5), *block(2 * filters, 3), Flatten(),
                           Dense(256, activation="relu"), BatchNormalization(), Dropout(0.5),
                           Dense(classes, activation="softmax")], name="scaled_cnn", seed=seed)
    return network


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes
    ----------
    title : str
    network : str
        A key of NETWORKS.
    work : {"train", "infer", "predict", "epoch"}
        A training step; the outputs of a batch as fast as they can be had; ``model.predict`` as a user calls it; all
        images once, in batches of 128, each turned, zoomed and shifted at random.
    batch_size : int
    calls : int
        Timed in a row, after one that is not: the caches then hold the one's own data.
    """

    title: str
    network: str
    work: str
    batch_size: int = 128
    calls: int = 5


WORK = {"train": "training step", "infer": "inference", "predict": "`predict`", "epoch": "epoch, images moved"}
# A further kind of work is an entry in WORK, a method of that name of each side in benchmark_peers.py, and lines here.
WORKLOADS = (
    *(Workload(title, name, work) for name, (title, _) in NETWORKS.items() for work in ("train", "infer")),
    Workload("`cnn`, one image", "cnn", "predict", batch_size=1, calls=50),
    Workload("`cnn`", "cnn", "train", batch_size=1024, calls=2),
    Workload("`cnn`", "cnn", "infer", batch_size=1024, calls=2),
    Workload("`cnn`", "cnn", "epoch", batch_size=1280, calls=1),
)


def description(model: Sequential) -> list[dict[str, Any]]:
    """Return a network's layers as every side can build them: class and arguments."""
    return [{"class": type(layer).__name__, "config": layer.config()} for layer in model.layers]


def random_weights(model: Sequential) -> list[np.ndarray]:
    """Return weights for all sides: the kernels as initialised, everything else random as well.

    Otherwise a batch normalization that was translated wrongly would do the same as the right one.
    """
    rng = np.random.default_rng(1)
    return [array if array.ndim > 1 else rng.uniform(0.5, 1.5, array.shape).astype(array.dtype)
            for array in model.get_weights()]
