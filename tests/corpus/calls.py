"""Arguments of public calls: of the wrong type, negative, zero, too large."""

from __future__ import annotations

import math

import numpy as np

from corpus import Case, nothing
from corpus.doors import ZEROS, call
from minicnn import (
    Sequential,
    callbacks,
    initializers,
    kernels,
    load_model,
    losses,
    optimizers,
    set_threads,
    statistics,
    utils,
)
from minicnn.datasets import kaggle, mnist, strokes
from minicnn.datasets.idx import read_idx, write_idx
from minicnn.errors import DataError, MinicnnError, ShapeError
from minicnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    LeakyReLU,
    MaxPooling2D,
)
from minicnn.models import save_model
from minicnn.preprocessing.image import ImageDataGenerator

X = np.linspace(0, 1, 12 * 28 * 28, dtype=np.float32).reshape(12, 28, 28, 1)
Y = np.arange(12) % 10
IMAGES = np.zeros((2, 3, 3), np.uint8)


def ready():
    """Return a network for digits that can be trained."""
    network = Sequential([Input((28, 28, 1)), Flatten(), Dense(10, activation="softmax")], seed=1)
    network.compile("sgd", "sparse_categorical_crossentropy")
    return network


def fit(**arguments):
    return ready().fit(**({"x": X, "y": Y, "verbose": 0} | arguments))


COUNTS = (0, -1, 2.5, "3", None, True, [2])  # for arguments that are whole numbers of at least 1
SHARES = (-0.1, 1.0, "half", math.nan, None, True)  # for numbers from 0 and below 1
POSITIVE = (-1.0, "fast", math.nan, True)
PAIRS = (0, -2, 2.5, "3", (2,), (2, 0), (1, 2, 3), None)
TOO_LARGE = 2**62
# What takes a value, the argument's name in the message, and values it must refuse.
VALUES = {
    "Dense(units)": (Dense, "units", COUNTS),
    "Dense(units) built": (lambda value: Sequential([Input((100,)), Dense(value)]), "dense", (TOO_LARGE, 2**40, 2**70)),
    "Dense(activation)": (lambda value: Dense(3, activation=value), "activation", ("relo", 3)),
    "Dense(kernel_initializer)": (lambda value: Dense(3, kernel_initializer=value), "initializer", ("he", 3)),
    "Dense(dtype)": (lambda value: Dense(3, dtype=value), "dtype", ("float16", 32)),
    "Dense(input_shape)": (lambda value: Dense(3, input_shape=value), "shape", (28, "28", (0,), (-1,), (2.5,))),
    "Conv2D(filters)": (lambda value: Conv2D(value, 3), "filters", COUNTS),
    "Conv2D(kernel_size)": (lambda value: Conv2D(3, value), "kernel_size", PAIRS),
    "Conv2D(strides)": (lambda value: Conv2D(3, 3, strides=value), "strides", PAIRS),
    "Conv2D(padding)": (lambda value: Conv2D(3, 3, padding=value), "padding", ("full", 1, None)),
    "Conv2D(algorithm)": (lambda value: Conv2D(3, 3, algorithm=value), "algorithm", ("fft", None)),
    "Conv2D(kernel_size) built": (lambda value: Sequential([Input((28, 28, 1)), Conv2D(3, value)]), "kernel",
                                  (29, TOO_LARGE)),
    "MaxPooling2D(pool_size)": (MaxPooling2D, "pool_size", PAIRS[:-1]),
    "AveragePooling2D(strides)": (lambda value: AveragePooling2D(2, strides=value), "strides", PAIRS[:-1]),
    "Dropout(rate)": (Dropout, "rate", SHARES),
    "Dropout(seed)": (lambda value: Dropout(0.5, seed=value), "seed", (-1, 1.5, "7", True)),
    "BatchNormalization(momentum)": (lambda value: BatchNormalization(momentum=value), "momentum", SHARES),
    "BatchNormalization(epsilon)": (lambda value: BatchNormalization(epsilon=value), "epsilon", (0, *POSITIVE)),
    "BatchNormalization(axis)": (lambda value: BatchNormalization(axis=value), "axis", (1, "last")),
    "Activation": (Activation, "activation", ("relo", 3)),
    "LeakyReLU": (LeakyReLU, "negative_slope", POSITIVE),
    "Input(shape)": (Input, "Input", (None, 28, "28", (28, 0, 1), (28, -1, 1), (2.5,))),
    "Sequential(seed)": (lambda value: Sequential(seed=value), "seed", (-1, 1.5, "7", True)),
    "Sequential(layers)": (lambda value: Sequential(value), "layer", ([5], ["Dense"], [Dense], 7)),
    "get_layer(index)": (lambda value: ready().get_layer(index=value), "layer", (99, -99)),
    "get_layer(name)": (lambda value: ready().get_layer(value), "layer", ("dens", 3)),
    "build": (lambda value: Sequential([Dense(3)]).build(value), "shape", ((None, 0), (None, "a"), 28)),
    "optimizer": (lambda value: ready().compile(value), "optimizer", ("adma", 3)),
    "loss": (lambda value: ready().compile(loss=value), "loss", ("mse", 3)),
    "SGD(learning_rate)": (optimizers.SGD, "learning_rate", POSITIVE),
    "SGD(momentum)": (lambda value: optimizers.SGD(momentum=value), "momentum", SHARES),
    "Adam(beta_1)": (lambda value: optimizers.Adam(beta_1=value), "beta_1", SHARES),
    "RMSprop(epsilon)": (lambda value: optimizers.RMSprop(epsilon=value), "epsilon", POSITIVE),
    "label_smoothing": (lambda value: losses.CategoricalCrossentropy(label_smoothing=value), "smoothing", SHARES),
    "RandomNormal(stddev)": (lambda value: initializers.RandomNormal(stddev=value), "stddev", POSITIVE),
    "EarlyStopping(patience)": (lambda value: callbacks.EarlyStopping(patience=value), "patience", (-1, 2.5, "3")),
    "EarlyStopping(min_delta)": (lambda value: callbacks.EarlyStopping(min_delta=value), "min_delta", ("a", math.nan)),
    "ReduceLROnPlateau(factor)": (lambda value: callbacks.ReduceLROnPlateau(factor=value), "factor", SHARES),
    "fit(epochs)": (lambda value: fit(epochs=value), "epochs", (-1, 2.5, "3", None)),
    "fit(batch_size)": (lambda value: fit(batch_size=value), "batch_size", COUNTS[:4]),
    "fit(validation_split)": (lambda value: fit(validation_split=value), "validation_split", SHARES[:4]),
    "fit(steps_per_epoch)": (lambda value: fit(steps_per_epoch=value), "steps", (0, -1, 2.5, "3")),
    "fit(callbacks)": (lambda value: fit(callbacks=value), "callback", (["bar"], [3])),
    "fit(class_weight)": (lambda value: fit(class_weight=value), "class", ({0: -1}, {"a": 1}, {99: 1}, 3)),
    "predict(batch_size)": (lambda value: ready().predict(X, batch_size=value), "batch_size", COUNTS[:4]),
    "set_threads": (set_threads, "set_threads", (0, -1, 1.5, "2", True, 2**70)),
    "set_random_seed": (utils.set_random_seed, "seed", (-1, 1.5, "7", None)),
    "to_categorical(num_classes)": (lambda value: utils.to_categorical([0, 1], value), "num_classes",
                                    (0, -1, 2.5, "3")),
    "kernels.use": (kernels.use, "kernels", ("slow", 3, None)),
    "load_model": (load_model, "path", (None, 3, ["a"], "a\0b")),
    "save": (lambda value: ready().save(value), "path", (None, 3, "model.pt", "a\0.safetensors")),
    "save_model": (lambda value: save_model(ready(), value), "path", (None,)),
    "load_weights": (lambda value: ready().load_weights(value), "path", (None, 3)),
    "read_idx": (read_idx, "path", (None, 3, ["a"], "a\0b")),
    "write_idx(path)": (lambda value: write_idx(value, IMAGES), "path", (None, 3)),
    "kaggle.read_csv": (kaggle.read_csv, "path", (None, 3, ["a"], "a\0b")),
    "kaggle.load_data": (kaggle.load_data, "path", (3, ["a"], "a\0b")),
    "mnist.load_data": (mnist.load_data, "path", (3, ["a"], "a\0b")),
    "strokes.load_data": (lambda value: strokes.load_data(value, 10), "train", (-1, 2.5, "3")),
    "confidence": (lambda value: statistics.wilson_interval(3, 5, value), "confidence", (0, 1, -1)),
    "wilson_interval(total)": (lambda value: statistics.wilson_interval(3, value), "total", (0, -1, 2, "3")),
    "ImageDataGenerator(rotation_range)": (lambda value: ImageDataGenerator(rotation_range=value), "rotation_range",
                                           POSITIVE),
    "ImageDataGenerator(zoom_range)": (lambda value: ImageDataGenerator(zoom_range=value), "zoom",
                                       (-1, "in", (1, 2, 3))),
    "ImageDataGenerator(fill_mode)": (lambda value: ImageDataGenerator(fill_mode=value), "fill_mode", ("zeros", 0)),
    "flow(batch_size)": (lambda value: ImageDataGenerator().flow(X, Y, batch_size=value), "batch_size", COUNTS[:4]),
}
# Calls with data that make no sense: what must be said, the error.
DATA = {
    "fit of images of 27 x 28": (lambda: fit(x=X[:, 1:]), ("(12, 27, 28, 1)", "(N, 28, 28, 1)"), ShapeError),
    "fit of a label 10": (lambda: fit(y=np.where(Y == 3, 10, Y)), ("label 10 in row 3", "0 to 9"), DataError),
    "fit of a label -1": (lambda: fit(y=Y - 1), ("label -1 in 2 rows (0, 10)",), DataError),
    "fit of images without channels": (lambda: fit(x=X[..., 0]), ("(12, 28, 28)",), ShapeError),
    "fit of fewer labels": (lambda: fit(y=Y[1:]), ("12 rows", "(11,)"), ShapeError),
    "fit of a NaN": (lambda: fit(x=np.where(X[7, 0, 0] == X, np.nan, X)), ("1 row (7)",), DataError),
    "fit of 1e300": (lambda: fit(x=X.astype(np.float64) * 1e300), ("finite in float32",), DataError),
    "fit of text": (lambda: fit(x="images"), ("expected an array",), DataError),
    "fit of nothing": (lambda: fit(x=X[:0], y=Y[:0]), ("empty",), DataError),
    "predict of objects": (lambda: ready().predict(np.array([{}])), ("expected an array of numbers",), DataError),
    "predict of images of 27 x 28": (lambda: ready().predict(X[:, 1:]), ("(12, 27, 28, 1)",), ShapeError),
    "set_weights of too few": (lambda: ready().set_weights([ZEROS]), ("got 1 arrays; expected 2",), ShapeError),
    "set_weights of another shape": (lambda: ready().set_weights([ZEROS, ZEROS]), ("(3, 4)",), ShapeError),
    "to_categorical of text": (lambda: utils.to_categorical(["a"]), ("to_categorical",), DataError),
    "to_categorical of -1": (lambda: utils.to_categorical([-1, 0]), ("-1",), DataError),
    "to_categorical of 10**15": (lambda: utils.to_categorical([10**15]), ("bytes",), MinicnnError),
    "write_idx of a list": (lambda: write_idx("a", [1, 2]), ("write_idx got list",), MinicnnError),
    "write_idx of floats": (lambda: write_idx("a", ZEROS), ("float32",), MinicnnError),
    "write_csv of floats": (lambda: kaggle.write_csv("a.csv", ZEROS), ("float32",), MinicnnError),
    "write_csv of a list": (lambda: kaggle.write_csv("a.csv", [[1]]), ("list",), MinicnnError),
    "write_submission of a label 10": (lambda: kaggle.write_submission("a.csv", [1, 10]), ("label 10 for image 2",),
                                       DataError),
    "write_submission of probabilities": (lambda: kaggle.write_submission("a.csv", ZEROS), ("argmax",), DataError),
    "flow of flat images": (lambda: ImageDataGenerator().flow(ZEROS), ("(3, 4)",), ShapeError),
    "flow of fewer labels": (lambda: ImageDataGenerator().flow(X, Y[1:]), ("11",), ShapeError),
}
CASES = [
    *(Case("call", f"{name} of {value!r}", nothing, call(name, lambda function=function, value=value: function(value)),
           (word,), MinicnnError, named=False)
      for name, (function, word, values) in VALUES.items() for value in values),
    *(Case("call", name, nothing, call(name.split()[0], function), words, error, named=False)
      for name, (function, words, error) in DATA.items()),
    *(Case("call", f"{name} of a file that is not there", nothing, call(name, lambda read=read: read("nowhere.x")),
           ("nowhere.x",), FileNotFoundError, named=False)
      for name, read in (("read_idx", read_idx), ("load_model", load_model), ("kaggle.read_csv", kaggle.read_csv))),
    *(Case("call", f"{name} of a folder", nothing, call(name, lambda read=read: read(".")), ("folder",), OSError,
           named=False)
      for name, read in (("read_idx", read_idx), ("load_model", load_model), ("kaggle.read_csv", kaggle.read_csv))),
]
