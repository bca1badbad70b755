"""The same networks in Keras (on its PyTorch backend) and here, with the same weights."""

from __future__ import annotations

import pytest

from minicnn import layers, losses, optimizers
from minicnn.models import Sequential
from networks import CLASSES, IMAGE, draw_weights

NEEDS_KERAS = [
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
