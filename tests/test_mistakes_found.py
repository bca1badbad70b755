"""Tests that the catalogue of mistakes asked for: each was missing, and a mistake went unnoticed."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import optimizers
from minicnn.callbacks import Callback
from minicnn.kernels.geometry import same_padding
from minicnn.layers import BatchNormalization, Dense, Dropout, Input
from minicnn.models import Sequential
from minicnn.streams import stream_key
from networks import draw_images, error, numbered
from test_layers import EXAMPLES


@pytest.mark.parametrize(("size", "window", "stride"), [(7, 1, 4), (10, 2, 5), (9, 3, 5), (4, 1, 4)])
def test_same_padding_is_never_negative(size, window, stride):
    """A stride larger than the kernel leaves pixels out; the padding is then 0."""
    assert (-(-size // stride) - 1) * stride + window <= size
    assert same_padding(size, window, stride) == (0, 0)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_backward_belongs_to_the_last_training_forward(name, kernel_set, rng):
    make, input_shape, output_shape = EXAMPLES[name]
    used, fresh = make(), make()
    used.step = fresh.step = 3
    first, second = (rng.standard_normal((3, *input_shape)).astype(np.float32) for _ in range(2))
    dout = rng.standard_normal((3, *output_shape)).astype(np.float32)
    used.forward(first, training=True)
    for layer in (used, fresh):
        layer.forward(second, training=True)
    used.forward(first)                                                         # a prediction changes nothing
    np.testing.assert_array_equal(used.backward(dout), fresh.backward(dout))
    for key, gradient in fresh.grads.items():
        np.testing.assert_array_equal(used.grads[key], gradient)


def test_dropout_follows_its_own_seed(kernel_set):
    """Dropout(seed=...) has that seed's masks in a model of any seed, and others without it."""
    def masks(own: int | None, model: int) -> bytes:
        layer = Dropout(0.5, seed=own)
        layer.seed, layer.step = model, 0
        return layer.forward(np.ones((3, 40), np.float32), training=True).tobytes()

    assert masks(7, 1) == masks(7, 2) == masks(None, 7)
    assert len({masks(7, 1), masks(8, 1), masks(None, 1), masks(None, 2), masks(0, 1)}) == 5


def test_paths_that_read_alike_have_streams_of_their_own():
    paths = [(1, "a", 1), (1, "a1"), ("1a1",), (1, 1), (11,), ("11",), ("1", "1"), (1, "1"), ("1", 1), (111,), (1, 11),
             (11, 1), ("i1",), ("si1",), ("", 11), (11, ""), ("a", "b"), ("asb",), ("ab",)]
    assert len({stream_key(*path) for path in paths}) == len(paths)


# --- what an optimizer remembers ---------------------------------------------------------------------------------

def sgd_steps(gradients, rate, momentum, nesterov):
    """Yield the changes of a weight by the formula, one gradient after the other."""
    velocity = 0.0
    for gradient in gradients:
        velocity = momentum * velocity - rate * gradient
        yield momentum * velocity - rate * gradient if nesterov else velocity


def adam_steps(gradients, rate, beta_1, beta_2, epsilon):
    m = v = 0.0
    for step, gradient in enumerate(gradients, start=1):
        m, v = beta_1 * m + (1 - beta_1) * gradient, beta_2 * v + (1 - beta_2) * gradient**2
        alpha = rate * np.sqrt(1 - beta_2**step) / (1 - beta_1**step)
        yield -alpha * m / (np.sqrt(v) + epsilon)


def rmsprop_steps(gradients, rate, rho, momentum, epsilon):
    v = velocity = 0.0
    for gradient in gradients:
        v = rho * v + (1 - rho) * gradient**2
        velocity = momentum * velocity + rate * gradient / np.sqrt(v + epsilon)
        yield -velocity


@pytest.mark.parametrize(("make", "formula"), [
    (lambda: optimizers.SGD(0.1, momentum=0.8), lambda g: sgd_steps(g, 0.1, 0.8, False)),
    (lambda: optimizers.SGD(0.1, momentum=0.8, nesterov=True), lambda g: sgd_steps(g, 0.1, 0.8, True)),
    (lambda: optimizers.Adam(0.1, 0.8, 0.9, 1e-3), lambda g: adam_steps(g, 0.1, 0.8, 0.9, 1e-3)),
    (lambda: optimizers.RMSprop(0.1, 0.8, 0.7, 1e-3), lambda g: rmsprop_steps(g, 0.1, 0.8, 0.7, 1e-3))])
def test_an_optimizer_steps_as_its_formula_says(make, formula, kernel_set, rng):
    """Several weights, two of one shape, for several steps: each has a memory of its own, and all count alike."""
    shapes = {"a/kernel": (3, 2), "b/kernel": (3, 2), "b/bias": (2,)}
    weights = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    expected = {name: weight.copy() for name, weight in weights.items()}
    gradients = [{name: rng.standard_normal(shape) for name, shape in shapes.items()} for _ in range(4)]
    changes = {name: formula([gradient[name] for gradient in gradients]) for name in shapes}
    optimizer = make()
    for gradient in gradients:
        optimizer.apply(weights, gradient)
        for name in shapes:
            expected[name] += next(changes[name])
            assert error(weights[name], expected[name]) < 1e-12, name
    assert optimizer.iterations == 4


# --- what training sees and reports ------------------------------------------------------------------------------

@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_labels_and_weights_stay_with_their_rows_within_a_batch(batch_size, kernel_set):
    model, rows, x, _ = numbered(9)
    y, seen, losses = np.arange(9) % 2, [], []

    def note_labels(y_true, y_pred):
        seen.append(y_true.tolist())
        return np.zeros(len(y_true))

    class NoteLosses(Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(logs["loss"] * self.model.images_seen - sum(losses))  # logs are means over the epoch so far

    weight = 1.0 + np.arange(9)
    model.compile(optimizers.SGD(0.0), "sparse_categorical_crossentropy", metrics=[note_labels])
    model.fit(x, y, batch_size=batch_size, sample_weight=weight, verbose=0, callbacks=NoteLosses())
    assert rows.batches != [sorted(batch) for batch in rows.batches] or batch_size == 1
    assert seen == [y[batch].tolist() for batch in rows.batches]
    by_row = -weight * np.log(model.predict(x)[np.arange(9), y])
    assert losses == pytest.approx([by_row[batch].sum() for batch in rows.batches], rel=1e-5)


def test_the_loss_of_training_is_that_of_the_training_forward(kernel_set, rng):
    """Of the weights before the update, with dropout on and the batch's own statistics: not that of an evaluation."""
    model = Sequential([Input((6,)), BatchNormalization(), Dropout(0.5), Dense(3, activation="softmax")], seed=2)
    model.compile(optimizers.SGD(0.5), "sparse_categorical_crossentropy")
    x, y = draw_images(rng, 8, (6,))
    for _ in range(3):
        for layer in model.layers:
            layer.step = model.optimizer.iterations
        probabilities = model.forward(x, training=True)
        expected = -np.log(probabilities[np.arange(8), y]).mean()
        assert model.train_on_batch(x, y) == pytest.approx(expected, rel=1e-5)
        assert model.test_on_batch(x, y) != pytest.approx(expected, rel=1e-3)
