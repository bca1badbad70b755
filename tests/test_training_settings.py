"""Compile again, freeze layers, change the learning rate: what goes on, and what starts anew."""

from __future__ import annotations

import numpy as np
import pytest

from minicnn import optimizers
from minicnn.callbacks import Callback, LearningRateScheduler
from minicnn.layers import BatchNormalization
from networks import compiled, draw_images, small_cnn, small_dense


def test_compiling_again_starts_the_optimizer_anew_and_keeps_the_weights(kernel_set, data):
    model = compiled(optimizer="adam")
    model.fit(*data, epochs=2, verbose=0)
    weights, first = model.get_weights(), model.optimizer
    compiled(model, optimizer="adam")
    assert model.optimizer is not first
    assert model.optimizer.iterations == 0
    for array, before in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(array, before)
    fresh = small_dense()
    fresh.set_weights(weights)
    compiled(fresh, optimizer="adam").train_on_batch(*data)
    model.train_on_batch(*data)
    assert model.weights_sha256() == fresh.weights_sha256()


@pytest.mark.usefixtures("reference_kernels")
def test_compiling_with_the_optimizer_in_use_goes_on_with_it(data):
    optimizer = optimizers.SGD(0.1, momentum=0.9)
    once, twice = compiled(optimizer=optimizers.SGD(0.1, momentum=0.9)), compiled(optimizer=optimizer)
    for model in (once, twice):
        model.train_on_batch(*data)
    compiled(twice, optimizer=optimizer, metrics=())
    for model in (once, twice):
        model.train_on_batch(*data)
    assert once.weights_sha256() == twice.weights_sha256()
    assert optimizer.iterations == 2


def test_frozen_layers_stay_and_those_before_them_still_learn(kernel_set, rng):
    x, y = draw_images(rng, 10)
    model = compiled(small_cnn(), "adam")
    frozen = [model.layers[1], model.layers[2], model.layers[11]]                # BN, Conv2D, Dense
    for layer in frozen:
        layer.trainable = False
    before = {name: array.copy() for name, array in model.named_weights().items()}
    model.fit(x, y, epochs=2, batch_size=5, verbose=0)
    stayed = {layer.name for layer in frozen}
    for name, array in model.named_weights().items():
        if name.split("/")[0] in stayed:
            np.testing.assert_array_equal(array, before[name], name)
    for name in ("conv2d/kernel", "conv2d_2/kernel", "dense_1/kernel", "batch_normalization_1/moving_mean"):
        assert not np.array_equal(model.named_weights()[name], before[name]), name
    assert not any(name.split("/")[0] in stayed for name in model.optimizer.slots)


def test_frozen_first_layers_do_not_change_what_the_others_learn(kernel_set, rng):
    """The way back may end early; the gradients of the layers it reaches are the same."""
    x, y = draw_images(rng, 6)
    free, frozen = small_cnn(), small_cnn()
    for model in (free, frozen):
        compiled(model)
        for layer in model.layers[:5]:
            layer.trainable = not isinstance(layer, BatchNormalization)          # equal forward passes
    for layer in frozen.layers[:5]:
        layer.trainable = False
    free.train_on_batch(x, y)
    frozen.train_on_batch(x, y)
    for one, other in zip(free.layers[6:], frozen.layers[6:], strict=True):
        for key, array in one.weights.items():
            np.testing.assert_array_equal(other.weights[key], array)
    assert not np.array_equal(free.layers[0].params["kernel"], frozen.layers[0].params["kernel"])


@pytest.mark.usefixtures("reference_kernels")
def test_a_frozen_batch_normalization_uses_its_moving_averages(rng):
    layer = BatchNormalization(input_shape=(3,), trainable=False)
    layer.build((3,))
    x = (5 + rng.standard_normal((8, 3))).astype(np.float32)
    np.testing.assert_array_equal(layer.forward(x, training=True), layer.forward(x))
    assert layer.forward(x, training=True).mean() > 4
    layer.trainable = True
    assert abs(layer.forward(x, training=True).mean()) < 1e-5


def test_a_layer_of_a_trained_model_still_gives_its_input_gradient(kernel_set, data):
    """Training skips the gradient of the first layer's input; whoever calls the layer alone gets it."""
    model = compiled()
    model.train_on_batch(*data)
    layer = model.layers[0]
    out = layer.forward(data[0], training=True)
    assert layer.backward(np.ones_like(out)).shape == data[0].shape


def test_the_learning_rate_can_be_assigned_in_the_middle_of_an_epoch(kernel_set, data):
    class Stop(Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 1:
                self.model.optimizer.learning_rate = 0.0

    whole, first_only = compiled(), compiled()
    whole.fit(*data, batch_size=4, shuffle=False, verbose=0, callbacks=[Stop()])
    first_only.train_on_batch(data[0][:4], data[1][:4])
    assert whole.optimizer.learning_rate == 0
    assert whole.weights_sha256() == first_only.weights_sha256()


@pytest.mark.usefixtures("reference_kernels")
def test_the_learning_rate_scheduler(data):
    asked = []

    def schedule(epoch, rate):
        asked.append((epoch, rate))
        return rate / 2

    model = compiled(optimizer=optimizers.SGD(0.8))
    history = model.fit(*data, epochs=5, initial_epoch=2, verbose=0, callbacks=[LearningRateScheduler(schedule)])
    assert asked == [(2, 0.8), (3, 0.4), (4, 0.2)]
    assert history.history["learning_rate"] == [0.4, 0.2, 0.1]
    assert model.optimizer.learning_rate == 0.1
