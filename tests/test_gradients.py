"""Every gradient of every layer, loss and some networks against central differences in float64, under both kernel sets.

``python -m pytest -m gradient`` runs this file alone and prints the table of errors.
"""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.gradcheck import check_gradients, check_layer, check_model
from minicnn.layers import (
    LAYERS,
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    LeakyReLU,
    MaxPooling2D,
)
from minicnn.losses import CategoricalCrossentropy, SparseCategoricalCrossentropy
from minicnn.models import Sequential

pytestmark = pytest.mark.gradient

LINEAR, SMOOTH, NETWORK = 1e-10, 1e-8, 1e-7


def judge(report, name, kernel_set, table, limit):
    """Add the rows to the table; the test owns the limit, not the report."""
    for row in report.rows:
        table.add(f"{name} ({kernel_set})", row.what, row.error, limit)
    assert report.ok, str(report)
    assert all(row.error <= limit for row in report.rows), str(report)
    assert all(row.checked >= min(np.prod(row.shape), 201) * 0.95 for row in report.rows), str(report)


LINEAR_LAYERS = {
    "conv valid 3x2": (lambda: Conv2D(3, (3, 2)), (5, 4, 2)),
    "conv same 2x5": (lambda: Conv2D(2, (2, 5), padding="same"), (4, 7, 3)),
    "conv valid strides 2x3": (lambda: Conv2D(3, (3, 2), strides=(2, 3)), (8, 6, 2)),
    "conv same strides 3x2": (lambda: Conv2D(2, (2, 3), strides=(3, 2), padding="same"), (7, 5, 2)),
    "conv stride above kernel": (lambda: Conv2D(2, (1, 2), strides=(3, 4)), (7, 7, 1)),
    "conv kernel as image": (lambda: Conv2D(4, (3, 5)), (3, 5, 2)),
    "conv 5x5 one channel": (lambda: Conv2D(3, 5, padding="same"), (6, 7, 1)),
    "conv im2col, no bias": (lambda: Conv2D(3, (3, 3), padding="same", use_bias=False, algorithm="im2col"), (4, 5, 2)),
    "dense": (lambda: Dense(4), (7,)),
    "dense, no bias": (lambda: Dense(1, use_bias=False), (5,)),
    "dense, large": (lambda: Dense(13), (29,)),
    "flatten": (Flatten, (2, 3, 4)),
    "input": (lambda: Input((2, 3, 1)), (2, 3, 1)),
    "linear": (lambda: Activation("linear"), (3, 4)),
    "dropout 2D": (lambda: Dropout(0.4), (7,)),
    "dropout 4D": (lambda: Dropout(0.25), (3, 5, 2)),
    "dropout rate 0": (lambda: Dropout(0.0), (3, 2)),
    "average pool 2x3": (lambda: AveragePooling2D((2, 3)), (5, 6, 2)),
    "average pool overlapping, padded": (lambda: AveragePooling2D(3, strides=(2, 1), padding="same"), (6, 4, 1)),
    "global average pool": (GlobalAveragePooling2D, (3, 4, 2)),
    "batch norm frozen": (lambda: BatchNormalization(trainable=False), (3, 2, 4)),
}

OTHER_LAYERS = {
    "conv relu": (lambda: Conv2D(3, (2, 3), padding="same", activation="relu"), (5, 4, 2)),
    "conv sigmoid strides 2x1": (lambda: Conv2D(2, (3, 2), strides=(2, 1), activation="sigmoid"), (6, 5, 2)),
    "conv tanh": (lambda: Conv2D(2, (2, 1), activation="tanh"), (3, 4, 1)),
    "dense relu": (lambda: Dense(6, activation="relu"), (5,)),
    "dense tanh": (lambda: Dense(3, activation="tanh"), (5,)),
    "dense softmax": (lambda: Dense(4, activation="softmax"), (5,)),
    "relu": (lambda: Activation("relu"), (3, 4, 2)),
    "leaky relu": (lambda: LeakyReLU(), (3, 4, 2)),
    "sigmoid": (lambda: Activation("sigmoid"), (3, 4)),
    "tanh": (lambda: Activation("tanh"), (3, 4)),
    "softmax 2D": (lambda: Activation("softmax"), (6,)),
    "softmax 4D": (lambda: Activation("softmax"), (2, 3, 4)),
    "pool 2x3": (lambda: MaxPooling2D((2, 3)), (4, 6, 2)),
    "pool overlapping": (lambda: MaxPooling2D((3, 2), strides=(1, 1)), (5, 4, 2)),
    "pool overlapping 3x3 strides 2x1": (lambda: MaxPooling2D(3, strides=(2, 1)), (7, 5, 1)),
    "pool same, padded": (lambda: MaxPooling2D((3, 2), strides=(2, 2), padding="same"), (5, 7, 2)),
    "pool with gaps": (lambda: MaxPooling2D((1, 2), strides=(2, 3)), (5, 8, 1)),
    "batch norm 2D": (BatchNormalization, (6,)),
    "batch norm 4D": (BatchNormalization, (3, 4, 2)),
    "batch norm epsilon 0.1": (lambda: BatchNormalization(epsilon=0.1, momentum=0.9), (2, 1, 3)),
}


@pytest.mark.parametrize("name", LINEAR_LAYERS)
def test_linear_layer(name, kernel_set, gradient_table):
    make, shape = LINEAR_LAYERS[name]
    judge(check_layer(make(), shape, batch_size=3), name, kernel_set, gradient_table, LINEAR)


@pytest.mark.parametrize("name", OTHER_LAYERS)
def test_other_layer(name, kernel_set, gradient_table):
    make, shape = OTHER_LAYERS[name]
    judge(check_layer(make(), shape, batch_size=5), name, kernel_set, gradient_table, SMOOTH)


def test_every_layer_is_here():
    made = {type(make()).__name__ for make, _ in [*LINEAR_LAYERS.values(), *OTHER_LAYERS.values()]}
    assert made == set(LAYERS)


def test_batch_norm_far_from_zero(kernel_set, gradient_table):
    """A mean of 500 deviations: x ± h must be exact, and the variance as well."""
    x = 250 + 0.5 * np.random.default_rng(5).standard_normal((5, 2, 3, 2))
    judge(check_layer(BatchNormalization(), x=x, nudge=0), "batch norm far from zero", kernel_set, gradient_table,
          SMOOTH)


# --- losses ------------------------------------------------------------------------------------------------------

N, K = 5, 4
LABELS = np.array([1, 3, 0, 3, 2])
DISTRIBUTIONS = np.random.default_rng(8).dirichlet(np.ones(K), N)
LOSSES = {
    "sparse": (SparseCategoricalCrossentropy(), LABELS),
    "sparse from logits": (SparseCategoricalCrossentropy(from_logits=True), LABELS),
    "categorical": (CategoricalCrossentropy(), DISTRIBUTIONS),
    "categorical from logits": (CategoricalCrossentropy(from_logits=True), DISTRIBUTIONS),
    "smoothed": (CategoricalCrossentropy(label_smoothing=0.1), np.eye(K)[LABELS]),
    "smoothed from logits": (CategoricalCrossentropy(from_logits=True, label_smoothing=0.2), np.eye(K)[LABELS]),
}


@pytest.mark.parametrize("weights", [np.ones(N) / N, np.array([0.3, 2.0, 0.0, 1.1, 0.7])], ids=["mean", "weighted"])
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name, weights, kernel_set, gradient_table):
    """The gradient of sum(weights * losses) in the predictions; probabilities here need not sum to 1."""
    loss, y = LOSSES[name]
    rng = np.random.default_rng(9)
    predicted = 2 * rng.standard_normal((N, K)) if loss.from_logits else rng.uniform(0.1, 0.9, (N, K))
    targets = loss.targets(y, K, np.float64)

    def value(predicted):
        return np.sum(weights * loss.forward(targets, predicted, loss.from_logits)[0])

    _, probabilities = loss.forward(targets, predicted, loss.from_logits)
    gradient = loss.backward(targets, predicted, probabilities, weights, loss.from_logits)
    judge(check_gradients(value, {"predicted": predicted}, {"predicted": gradient}), f"loss {name}", kernel_set,
          gradient_table, SMOOTH)


# --- whole networks ----------------------------------------------------------------------------------------------

def dense_network():
    """The block structure of the `dense` recipe."""
    return [Input((3, 4, 1)), Flatten(), Dense(9, activation="relu"), Dense(7, activation="relu"),
            Dense(5, activation="relu"), Dense(4, activation="softmax")]


def cnn_network():
    """The block structure of the `cnn` recipe."""
    return [Input((6, 8, 1)),
            Conv2D(3, (3, 5), padding="same", activation="relu"), BatchNormalization(),
            Conv2D(3, (5, 3), padding="same", activation="relu"), BatchNormalization(), MaxPooling2D(2), Dropout(0.25),
            Conv2D(3, (3, 2), padding="same", activation="relu"), BatchNormalization(),
            Conv2D(3, 3, padding="same", activation="relu"), BatchNormalization(), MaxPooling2D((1, 2)), Dropout(0.25),
            Flatten(), Dense(6, activation="relu"), BatchNormalization(), Dropout(0.5), Dense(4, activation="softmax")]


def smooth_network():
    return [Input((5, 4, 2)), Conv2D(3, (2, 3), strides=(2, 1), activation="tanh"), BatchNormalization(), Flatten(),
            Dense(5, activation="sigmoid"), Dense(4)]


def test_block_structures_are_those_of_the_recipes(request, monkeypatch):
    monkeypatch.syspath_prepend(str(request.config.rootpath))
    from experiments import recipes

    for name, own in (("cnn", cnn_network), ("dense", dense_network)):
        theirs = recipes.RECIPES[name].network((28, 28, 1), 10, 0)
        assert [type(layer) for layer in Sequential(own()).layers] == [type(layer) for layer in theirs.layers]


@pytest.mark.parametrize(("name", "layers", "loss", "y"), [
    ("dense network, sparse", dense_network, "sparse_categorical_crossentropy", LABELS),
    ("dense network, smoothed", dense_network, CategoricalCrossentropy(label_smoothing=0.1), np.eye(K)[LABELS]),
    ("smooth network, logits", smooth_network, SparseCategoricalCrossentropy(from_logits=True), LABELS),
    ("smooth network, categorical logits", smooth_network, CategoricalCrossentropy(from_logits=True), DISTRIBUTIONS),
    ("smooth network, outputs", smooth_network, None, None)])
def test_network(name, layers, loss, y, kernel_set, gradient_table):
    model = Sequential(layers(), seed=3)
    if loss is not None:
        model.compile("adam", loss=loss)
    x = np.random.default_rng(2).standard_normal((N, *model.layers[0].input_shape))
    judge(check_model(model, x, y), name, kernel_set, gradient_table, NETWORK)


@pytest.mark.no_jit_excluded("some 20,000 forward passes of 17 layers")
def test_cnn(kernel_set, gradient_table):
    """On a blank background, with one bright patch an image: where MNIST's kinks and ties are."""
    model = Sequential(cnn_network(), seed=1)
    model.compile("adam", loss="sparse_categorical_crossentropy")
    x = np.zeros((N, 6, 8, 1), np.float32)
    for image, (row, column) in zip(x, [(1, 2), (3, 4), (0, 5), (2, 1), (3, 3)]):
        image[row:row + 3, column:column + 2] = 0.9
    judge(check_model(model, x, LABELS), "cnn", kernel_set, gradient_table, NETWORK)
