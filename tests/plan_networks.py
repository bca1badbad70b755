"""Random networks for the plan, in all orders of layers, and the comparison of a fused model with its unfused twin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicnn import Sequential
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, Layer, MaxPooling2D
from minicnn.optimizers import SGD, Adam
from networks import CLASSES, compiled, draw_images, draw_weights
from own_layers import LeakyReLU

IMAGE = (7, 6, 2)
SMALL_IMAGE = (6, 4, 2)


class Promoting(Layer):
    """A reader's layer that forgets about dtypes: all it returns is float64."""

    def forward(self, x, training=False):
        self.keep(training, shape=np.shape(x))
        return np.asarray(x, np.float64) * 1.5

    def backward(self, dout):
        self.grads = {}
        return np.asarray(dout, np.float64) * 1.5


OWN: tuple[Callable[..., Layer], ...] = (LeakyReLU, Promoting)


def draw_network(seed: int, dtype: str = "float64", image: tuple[int, ...] = IMAGE) -> Sequential:
    """Return a network that follows from the seed: what usually follows a convolution, and what seldom does."""
    drawn = _Drawn(seed, dtype, image)
    model, rng = drawn.model, drawn.rng
    if drawn.maybe(0.3):
        drawn.add([BatchNormalization, lambda **base: Dropout(0.2, **base)][rng.integers(2)])
    for _ in range(rng.integers(1, 5)):
        drawn.add_convolution()
        drawn.add_between()
    drawn.add(Flatten)
    if drawn.maybe(0.3):
        drawn.add_between()
    for _ in range(rng.integers(0, 2)):
        drawn.add(Dense, int(rng.integers(3, 7)), activation=drawn.activation(), use_bias=drawn.maybe(0.7))
        drawn.add_between()
    drawn.add(Dense, CLASSES, activation=str(rng.choice(["softmax", "softmax", "linear"])))
    if model.layers[-1].activation.name == "linear":
        drawn.add(Activation, "softmax")
    draw_weights(model, rng)
    return model


class _Drawn:
    """A network that grows by chance."""

    def __init__(self, seed: int, dtype: str, image: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.model = Sequential([Input(image)], seed=seed)

    def maybe(self, chance: float) -> bool:
        return bool(self.rng.random() < chance)

    def add(self, kind: Callable[..., Layer], *arguments, **options) -> None:
        self.model.add(kind(*arguments, dtype=self.dtype, trainable=self.maybe(0.85), **options))

    def activation(self) -> str:
        return str(self.rng.choice(["relu", "relu", "relu", "linear", "linear", "linear", "sigmoid", "tanh"]))

    def add_convolution(self) -> None:
        H, W = self.model.output_shape[1:3]
        kernel = [(3, 3), (2, 3), (1, 1), (5, 5)][self.rng.integers(4)]
        strides = (1, 1) if self.maybe(0.8) else (2, 1)
        fits = kernel[0] + 2 <= H and kernel[1] + 2 <= W
        algorithms = ["auto", "auto", "auto", "direct", "direct", "im2col"]
        if kernel[0] == kernel[1] > 1 and strides == (1, 1):
            algorithms += ["winograd"] * 3
        self.add(Conv2D, int(self.rng.integers(2, 5)), kernel, strides=strides, activation=self.activation(),
                 padding="valid" if fits and self.maybe(0.3) else "same", use_bias=self.maybe(0.8),
                 algorithm=str(self.rng.choice(algorithms)))

    def add_between(self) -> None:
        if self.maybe(0.3):
            self.add(Activation, str(self.rng.choice(["relu", "relu", "relu", "tanh"])))
        wanted = [part for part, chance in ((self._add_norm, 0.6), (self._add_pool, 0.6), (self._add_dropout, 0.5),
                                            (self._add_own, 0.15)) if self.maybe(chance)]
        if self.maybe(0.25):
            self.rng.shuffle(wanted)
        for add in wanted:
            add()

    def _add_norm(self) -> None:
        self.add(BatchNormalization, momentum=0.8)

    def _add_pool(self) -> None:
        shape = self.model.output_shape[1:]
        if len(shape) < 3 or min(shape[:2]) < 3:
            return
        if self.maybe(0.8):
            self.add(MaxPooling2D, 2, padding=str(self.rng.choice(["valid", "same"])))
        else:
            self.add(MaxPooling2D, (2, 3), strides=(1, 2), padding="same")

    def _add_dropout(self) -> None:
        self.add(Dropout, float(self.rng.choice([0.0, 0.3])), seed=7 if self.maybe(0.3) else None)

    def _add_own(self) -> None:
        self.add(OWN[self.rng.integers(len(OWN))])


def draw_data(rng: np.random.Generator, n: int, image: tuple[int, ...] = IMAGE) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs around zero, and classes."""
    return rng.standard_normal((n, *image)), rng.integers(0, CLASSES, n)


def fusible(image: tuple[int, ...] = SMALL_IMAGE, channels: int = 3, **options) -> Sequential:
    """Return the structure of the recipe ``cnn``, small; all of its layers can be fused."""
    return compiled(Sequential([
        Input(image), Conv2D(channels, 3, padding="same", activation="relu"), BatchNormalization(),
        Conv2D(channels, 3, padding="same", activation="relu", **options), BatchNormalization(), MaxPooling2D(),
        Dropout(0.25), Conv2D(channels, (2, 1), padding="same", activation="relu"), Dropout(0.2), Flatten(),
        Dense(7, activation="relu"), BatchNormalization(), Dropout(0.5), Dense(CLASSES, activation="softmax")],
        seed=3), "adam")


def draw_small(n: int, image: tuple[int, ...] = SMALL_IMAGE) -> tuple[np.ndarray, np.ndarray]:
    """Return n images that follow from their number, and classes."""
    return draw_images(np.random.default_rng(n), n, image)


def twins(make: Callable[[], Sequential], optimizer: str = "sgd") -> tuple[Sequential, Sequential]:
    """Return a fused model and its unfused twin."""
    models = []
    for fuse in (True, False):
        model = make()
        model.compile(SGD(0.05, momentum=0.9) if optimizer == "sgd" else Adam(0.01),
                      "sparse_categorical_crossentropy", metrics=["accuracy"], fuse=fuse)
        models.append(model)
    return models[0], models[1]


def gradients(model: Sequential) -> dict[str, np.ndarray]:
    """Return all gradients after ``loss_and_gradients``; every layer must have assigned its own."""
    found = {f"{layer.name}/{key}": layer.grads[key] for layer in model.layers for key in layer.params}
    return found | {"input": model.input_gradient}


def compare(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], limit: float, part: float = 1e-3) -> None:
    """Demand agreement relative to the largest number of each array, or to that part of the largest of all."""
    assert ours.keys() == theirs.keys()
    largest = max(np.abs(array).max() for array in theirs.values())
    for name, expected in theirs.items():
        actual = ours[name]
        assert actual.shape == expected.shape, name
        assert actual.dtype == expected.dtype, name
        off = np.abs(actual - expected).max() / (max(np.abs(expected).max(), part * largest) or 1)
        assert off <= limit, f"{name} is off by {off:.1e}"
