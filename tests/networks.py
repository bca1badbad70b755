"""Small networks, data, trainings and the measure of agreement that several test files share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential

IMAGE = (8, 6, 1)
CLASSES = 3
SPARSE = "sparse_categorical_crossentropy"


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return max|actual - expected| / max|expected|, the norm of all comparisons with other libraries."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{actual.shape} instead of {expected.shape}"
    assert expected.size
    scale = np.abs(expected).max()
    return float(np.abs(actual - expected).max() / (scale or 1))


def small_cnn(input_shape: tuple[int, ...] | None = IMAGE, classes: int = CLASSES, seed: int = 0) -> Sequential:
    """Return the structure of the recipe ``cnn`` at a size that loops in Python can bear."""
    return Sequential([
        *([] if input_shape is None else [Input(input_shape)]),
        Conv2D(2, (5, 3), padding="same", activation="relu"),
        BatchNormalization(),
        Conv2D(3, (3, 5), padding="same", activation="relu"),
        BatchNormalization(),
        MaxPooling2D((2, 2)),
        Dropout(0.25),
        Conv2D(4, 3, padding="same", activation="relu"),
        BatchNormalization(),
        MaxPooling2D((2, 1)),
        Dropout(0.25),
        Flatten(),
        Dense(7, activation="relu"),
        BatchNormalization(),
        Dropout(0.5),
        Dense(classes, activation="softmax"),
    ], seed=seed)


def small_dense(seed: int = 0, inputs: int = 4, classes: int = CLASSES) -> Sequential:
    """Return the quickest network that learns something."""
    return Sequential([Input((inputs,)), Dense(5, activation="tanh"), Dense(classes, activation="softmax")], seed=seed)


def draw_images(rng: np.random.Generator, n: int, shape: tuple[int, ...] = IMAGE, classes: int = CLASSES,
                dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Return images in [0, 1) whose mean follows from their class, and the classes."""
    y = rng.integers(0, classes, n)
    brightness = ((y + 0.5) / classes).reshape(-1, *(1 for _ in shape))
    return (brightness * rng.random((n, *shape))).astype(dtype), y


def draw_weights(model: Sequential, rng: np.random.Generator) -> None:
    """Give a model weights of which none is zero or one: also biases, gamma, beta and the moving averages."""
    weights = []
    for name, array in model.named_weights().items():
        key = name.rsplit("/", 1)[1]
        if key == "kernel":
            weights.append(array)
        elif key in ("gamma", "moving_variance"):
            weights.append(rng.uniform(0.5, 1.5, array.shape))
        else:
            weights.append(rng.uniform(-0.3, 0.3, array.shape))
    model.set_weights(weights)


def compiled(model: Sequential | None = None, optimizer="sgd", loss=SPARSE, metrics=("accuracy",)) -> Sequential:
    model = model or small_dense()
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


class Rows(Flatten):
    """Writes down the first number of every sample that comes by in training."""

    def __init__(self, **base) -> None:
        super().__init__(**base)
        self.batches: list[list[int]] = []

    def forward(self, x, training=False):
        if training:
            self.batches.append(np.rint(100 * x[:, 0]).astype(int).tolist())
        return super().forward(x, training)


def numbered(n: int) -> tuple[Sequential, Rows, np.ndarray, np.ndarray]:
    """Return a network that records its rows, and n rows numbered 0, 1, ..."""
    rows = Rows(input_shape=(2,))
    x = np.stack([np.arange(n) / 100, np.ones(n)], axis=1).astype(np.float32)
    return compiled(Sequential([rows, Dense(2, activation="softmax")])), rows, x, np.arange(n) % 2


def cross_entropy(model: Sequential, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the loss of each sample from the predictions, by the definition."""
    return -np.log(model.predict(x).astype(np.float64)[np.arange(len(y)), y])


class Trained(NamedTuple):
    """What a training left behind."""

    digest: str
    history: dict[str, list[float]]
    model: Sequential


def train(seed: int = 1, n: int = 19, **options) -> Trained:
    """Train the small ``cnn``; 19 images in batches of 8 leave a ragged batch of 3."""
    model = small_cnn(seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x, y = draw_images(np.random.default_rng(4), n)
    history = model.fit(x, y, **{"batch_size": 8, "epochs": 2, "verbose": 0, "validation_split": 0.2} | options)
    return Trained(model.weights_sha256(), history.history, model)


def all_kinds(seed: int = 3, **first) -> Sequential:
    """Return a network with every kind of layer, for images of 7x6 with 2 channels."""
    return Sequential([
        Conv2D(4, (3, 2), padding="same", activation="relu", **first), BatchNormalization(), MaxPooling2D(2),
        Dropout(0.25), Flatten(), Dense(5, activation="tanh"), Dense(3), Activation("softmax")], seed=seed)
