"""Losses, weights and metrics in training, and what becomes of the softmax that the loss contains."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import optimizers
from minicnn.callbacks import History
from minicnn.layers import Activation, Dense, Input
from minicnn.losses import SparseCategoricalCrossentropy
from minicnn.models import Sequential
from minicnn.utils import to_categorical
from networks import CLASSES, SPARSE, compiled, cross_entropy, draw_images, error

# --- losses, weights and metrics ---------------------------------------------------------------------------------

@pytest.mark.parametrize("batch_size", [1, 4, 11, 50])
def test_evaluate_is_the_mean_over_all_samples(kernel_set, batch_size, data):
    model, (x, y) = compiled(), data
    loss, accuracy = model.evaluate(x, y, batch_size=batch_size)
    assert loss == pytest.approx(cross_entropy(model, x, y).mean(), rel=1e-5)
    assert accuracy == pytest.approx((model.predict(x).argmax(axis=1) == y).mean())


def test_sample_weights(kernel_set, data, rng):
    """The weighted losses are divided by the number of samples, as in Keras, not by the sum of the weights."""
    model, (x, y) = compiled(), data
    weight = rng.uniform(0, 3, 11)
    expected = (weight * cross_entropy(model, x, y)).mean()
    assert model.evaluate(x, y, batch_size=4, sample_weight=weight)[0] == pytest.approx(expected, rel=1e-5)
    assert model.test_on_batch(x, y, weight)[0] == pytest.approx(expected, rel=1e-5)
    assert model.loss_and_gradients(x, y, weight) == pytest.approx(expected, rel=1e-5)
    assert model.train_on_batch(x, y, weight)[0] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weights(kernel_set, one_hot, data):
    x, labels = data
    model = compiled(loss="categorical_crossentropy" if one_hot else SPARSE, optimizer=optimizers.SGD(0.0))
    y = to_categorical(labels, CLASSES) if one_hot else labels
    class_weight = {0: 0.5, 2: 4.0}                                              # class 1 weighs 1
    factor = np.array([0.5, 1.0, 4.0])[labels]
    losses = cross_entropy(model, x, labels)
    fitted = model.fit(x, y, batch_size=4, class_weight=class_weight, verbose=0).history["loss"][0]
    assert fitted == pytest.approx((factor * losses).mean(), rel=1e-5)
    assert model.train_on_batch(x, y, class_weight=class_weight)[0] == pytest.approx((factor * losses).mean(), rel=1e-5)
    weight = np.linspace(0.5, 2, 11)
    both = model.train_on_batch(x, y, sample_weight=weight, class_weight=class_weight)[0]
    assert both == pytest.approx((weight * factor * losses).mean(), rel=1e-5)


def test_a_weight_of_zero_takes_a_sample_out(kernel_set, data):
    """But it stays in the divisor: twice the loss of the half that counts."""
    x, y = data[0][:10], data[1][:10]
    weight = np.repeat([1.0, 0.0], 5)
    half, masked = compiled(), compiled()
    assert masked.loss_and_gradients(x, y, weight) == pytest.approx(half.loss_and_gradients(x[:5], y[:5]) / 2, rel=1e-5)
    for ours, expected in zip(masked.layers, half.layers, strict=True):
        for key, gradient in expected.grads.items():
            assert error(2 * ours.grads[key], gradient) < 1e-5
    assert not masked.input_gradient[5:].any()


@pytest.mark.usefixtures("reference_kernels")
def test_metrics_may_be_functions(data):
    def confidence(y_true, y_pred):
        return y_pred.max(axis=1)

    x, y = data
    model = compiled(metrics=["accuracy", confidence])
    result = model.evaluate(x, y, batch_size=4, return_dict=True)
    assert list(result) == ["loss", "accuracy", "confidence"]
    assert result["confidence"] == pytest.approx(model.predict(x).max(axis=1).mean(), rel=1e-5)
    history = model.fit(x, y, verbose=0, validation_split=0.2).history
    assert list(history) == ["loss", "accuracy", "confidence", "val_loss", "val_accuracy", "val_confidence"]


@pytest.mark.usefixtures("reference_kernels")
def test_forms_of_the_results(data):
    x, y = data
    bare = compiled(metrics=())
    for call in (bare.evaluate, bare.train_on_batch, bare.test_on_batch):
        assert isinstance(call(x, y), float)
        assert list(call(x, y, return_dict=True)) == ["loss"]
    full = compiled()
    for call in (full.evaluate, full.train_on_batch, full.test_on_batch):
        result = call(x, y)
        assert isinstance(result, list)
        assert len(result) == 2
        assert list(call(x, y, return_dict=True)) == ["loss", "accuracy"]
    history = full.fit(x, y, epochs=2, validation_data=(x, y), verbose=0)
    assert isinstance(history, History)
    assert {name: len(values) for name, values in history.history.items()} == {
        "loss": 2, "accuracy": 2, "val_loss": 2, "val_accuracy": 2}
    assert all(type(value) is float for values in history.history.values() for value in values)


def test_train_on_batch_returns_the_loss_before_its_update(kernel_set, data):
    model = compiled(optimizer=optimizers.SGD(0.5))
    before = model.test_on_batch(*data)
    assert model.train_on_batch(*data) == before
    assert model.test_on_batch(*data)[0] < before[0]


def test_training_learns(kernel_set, rng):
    """A network that does not see the classes' brightness after some epochs is not being trained."""
    x, y = draw_images(rng, 60, (4,))
    model = compiled(optimizer=optimizers.Adam(0.03))
    history = model.fit(x, y, epochs=12, batch_size=16, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["accuracy"][-1] > 0.6


# --- the loss and the softmax ------------------------------------------------------------------------------------

def extreme(dtype: str = "float32") -> tuple[Sequential, np.ndarray, np.ndarray]:
    """Return a network whose logits are its inputs, and logits of ±1e4."""
    model = compiled(Sequential([Dense(3, activation="softmax", input_shape=(3,), dtype=dtype)]))
    model.set_weights([np.eye(3), np.zeros(3)])
    return model, np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [0, -1e4, -1e4]], dtype), np.array([1, 2, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_logits_of_ten_thousand_give_the_exact_loss_and_gradient(kernel_set, dtype):
    model, x, y = extreme(dtype)
    assert model.loss_and_gradients(x, y) == pytest.approx((2e4 + np.log(2) + 0) / 3, rel=1e-6)
    probabilities = np.array([[1, 0, 0], [0, 0.5, 0.5], [1, 0, 0]])
    gradient = (probabilities - np.eye(3)[y]) / 3                                # kernel: the identity
    np.testing.assert_allclose(model.input_gradient, gradient, rtol=1e-6, atol=0)
    np.testing.assert_allclose(model.layers[0].grads["bias"], gradient.sum(axis=0), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.predict(x), probabilities, rtol=1e-6, atol=0)
    assert model.evaluate(x, y) == pytest.approx([(2e4 + np.log(2)) / 3, 1 / 3], rel=1e-6)


def test_three_ways_to_end_a_network_agree(kernel_set, data):
    """Softmax in the last layer, softmax as a layer of its own, and logits with from_logits=True."""
    x, y = data
    fused = compiled(Sequential([Input((4,)), Dense(CLASSES, activation="softmax")]))
    apart = compiled(Sequential([Input((4,)), Dense(CLASSES), Activation("softmax")]))
    logits = compiled(Sequential([Input((4,)), Dense(CLASSES)]), loss=SparseCategoricalCrossentropy(from_logits=True))
    results = [(model.loss_and_gradients(x, y), model.layers[0].grads["kernel"].tobytes(),
                model.input_gradient.tobytes(), model.evaluate(x, y)) for model in (fused, apart, logits)]
    assert results[0] == results[1] == results[2]
    np.testing.assert_array_equal(fused.predict(x), apart.predict(x))
    assert error(logits.predict(x), fused.predict(x)) > 0.1                      # predict returns logits there


def test_a_softmax_the_loss_cannot_fuse_gives_the_same_numbers(kernel_set, data):
    """A layer behind the softmax keeps it out of the loss's sight; then the loss works on probabilities."""
    x, y = data
    fused = compiled(Sequential([Input((4,)), Dense(CLASSES, activation="softmax", dtype="float64")]))
    hidden = compiled(Sequential([Input((4,)), Dense(CLASSES, activation="softmax", dtype="float64"),
                                  Activation("linear", dtype="float64")]))
    assert hidden.loss_and_gradients(x, y) == pytest.approx(fused.loss_and_gradients(x, y), rel=1e-12)
    for key, gradient in fused.layers[0].grads.items():
        assert error(hidden.layers[0].grads[key], gradient) < 1e-12
    assert error(hidden.input_gradient, fused.input_gradient) < 1e-12


def test_forward_gives_probabilities_again_after_a_step_and_after_an_error(kernel_set, data):
    """The model turns the last softmax off for the loss; it must be back whatever happens meanwhile."""
    x, y = data
    model = compiled()

    class Broken(Dense):
        def backward(self, dout):
            raise RuntimeError("broken")

    model.train_on_batch(x, y)
    np.testing.assert_allclose(model(x, training=True).sum(axis=1), 1, rtol=1e-5)
    broken = compiled(Sequential([Input((4,)), Broken(3, activation="softmax")]))
    with pytest.raises(RuntimeError, match="broken"):
        broken.train_on_batch(x, y)
    np.testing.assert_allclose(broken(x).sum(axis=1), 1, rtol=1e-5)
