"""The cross-entropies against their definition, from logits and from probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import losses, metrics
from minicnn.errors import ArgumentError, ShapeError
from minicnn.losses import CategoricalCrossentropy, SparseCategoricalCrossentropy
from minicnn.optimizers import SGD


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_value_is_minus_log_of_the_right_class(rng, kernel_set):
    z = rng.standard_normal((6, 5))
    y = rng.integers(0, 5, 6)
    expected = -np.log(softmax(z)[np.arange(6), y]).mean()
    one_hot = np.eye(5)[y]
    assert SparseCategoricalCrossentropy(from_logits=True)(y, z) == pytest.approx(expected, rel=1e-12)
    assert SparseCategoricalCrossentropy()(y, softmax(z)) == pytest.approx(expected, rel=1e-12)
    assert CategoricalCrossentropy(from_logits=True)(one_hot, z) == pytest.approx(expected, rel=1e-12)
    assert CategoricalCrossentropy()(one_hot, 7 * softmax(z)) == pytest.approx(expected, rel=1e-12)  # normalised first
    assert SparseCategoricalCrossentropy(from_logits=True)(y[:, None], z) == pytest.approx(expected, rel=1e-12)


def test_predictions_may_be_whole_numbers():
    assert SparseCategoricalCrossentropy()([1, 0], [[1, 3], [1, 1]]) == pytest.approx(-np.log(3 / 4 * 1 / 2) / 2)


def test_label_smoothing(rng, kernel_set):
    z = rng.standard_normal((6, 5))
    t = 0.8 * np.eye(5)[rng.integers(0, 5, 6)] + 0.2 / 5
    labels = (t - 0.04) / 0.8
    expected = -(t * np.log(softmax(z))).sum(axis=1).mean()
    assert CategoricalCrossentropy(from_logits=True, label_smoothing=0.2)(labels, z) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_targets_are_the_distributions_themselves(rng, dtype):
    """Soft labels stay soft, also where no class is likelier than the others or the sum is not 1."""
    y = np.concatenate([rng.dirichlet(np.ones(5), 7), np.full((1, 5), 0.2), rng.uniform(0, 1, (3, 5))])
    targets = CategoricalCrossentropy().targets(y, 5, dtype)
    assert targets.dtype == dtype
    np.testing.assert_array_equal(targets, y.astype(dtype))


def test_the_loss_of_a_distribution_is_its_cross_entropy(rng, kernel_set):
    z, y = rng.standard_normal((6, 5)), rng.dirichlet(np.ones(5), 6)
    expected = -(y * np.log(softmax(z))).sum(axis=1).mean()
    assert CategoricalCrossentropy(from_logits=True)(y, z) == pytest.approx(expected, rel=1e-12)
    assert CategoricalCrossentropy()(y, softmax(z)) == pytest.approx(expected, rel=1e-12)


def test_from_logits_keeps_what_clipping_would_lose(kernel_set):
    z = np.array([[50.0, 0.0], [1e4, -1e4]], dtype=np.float32)
    y = np.array([1, 1])
    assert SparseCategoricalCrossentropy(from_logits=True)(y, z) == pytest.approx((50 + 2e4) / 2)
    clipped = SparseCategoricalCrossentropy()(y, softmax(z))
    assert clipped == pytest.approx(-np.log(1e-7), rel=1e-3)


@pytest.mark.parametrize("from_logits", [True, False])
def test_gradient_is_that_of_the_weighted_sum(rng, kernel_set, from_logits):
    loss = CategoricalCrossentropy(label_smoothing=0.1)
    prediction = rng.uniform(0.1, 2, (4, 3))
    targets = loss.targets(np.eye(3)[[0, 2, 2, 1]], 3, np.float64)
    weights = rng.uniform(size=4)
    _, probabilities = loss.forward(targets, prediction, from_logits)
    gradient = loss.backward(targets, prediction, probabilities, weights, from_logits)
    h = 1e-6
    for at in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[at] = h
        up, down = (weights @ loss.forward(targets, prediction + s, from_logits)[0] for s in (step, -step))
        assert gradient[at] == pytest.approx((up - down) / (2 * h), rel=1e-7, abs=1e-9)


def test_a_clipped_probability_passes_no_gradient():
    loss = SparseCategoricalCrossentropy()
    prediction = np.array([[1.0, 1e-12]])
    targets = np.array([[0.0, 1.0]])
    _, probabilities = loss.forward(targets, prediction, False)
    np.testing.assert_array_equal(loss.backward(targets, prediction, probabilities, np.ones(1), False), [[0, 0]])


def test_names_and_arguments():
    assert isinstance(losses.get("sparse_categorical_crossentropy"), SparseCategoricalCrossentropy)
    own = CategoricalCrossentropy()
    assert losses.get(own) is own
    with pytest.raises(ArgumentError, match="Did you mean 'categorical_crossentropy'"):
        losses.get("categorical_cross_entropy")
    with pytest.raises(ArgumentError, match="label_smoothing is 1"):
        CategoricalCrossentropy(label_smoothing=1)


def test_metrics():
    p = np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    np.testing.assert_array_equal(metrics.sparse_categorical_accuracy(np.array([1, 1, 0]), p), [1, 0, 1])
    np.testing.assert_array_equal(metrics.categorical_accuracy(np.eye(2)[[1, 1, 0]], p), [1, 0, 1])
    assert metrics.get("accuracy", True)[1] is metrics.sparse_categorical_accuracy
    assert metrics.get("accuracy", False)[1] is metrics.categorical_accuracy

    def mine(y_true, y_pred):
        return y_pred[:, 0]

    assert metrics.get(mine, True) == ("mine", mine)


def test_an_optimizer_refuses_gradients_that_do_not_fit(kernel_set):
    weights = {"a": np.ones(3), "b": np.ones((2, 3))}
    optimizer = SGD(1.0)
    with pytest.raises(ShapeError, match="gradient of b has the shape nothing"):
        optimizer.apply(weights, {"a": np.ones(3)})
    with pytest.raises(ShapeError, match=r"gradient of b has the shape \(3, 2\); expected .*\(2, 3\)"):
        optimizer.apply(weights, {"a": np.ones(3), "b": np.ones((3, 2))})
    np.testing.assert_array_equal(weights["a"], 1)
    assert optimizer.iterations == 0
    optimizer.apply(weights, {"a": np.ones(3), "b": np.ones((2, 3))})
    np.testing.assert_array_equal(weights["b"], 0)
