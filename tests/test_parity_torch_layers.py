"""Agreement with PyTorch: every layer at shapes that are nobody's default.

Every figure is ``networks.error``: max|ours - theirs| / max|theirs| over one tensor.
"""

from __future__ import annotations

import numpy as np
import pytest

from minicnn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    LeakyReLU,
    MaxPooling2D,
)
from networks import error
from torch_layers import DTYPES, LIMIT, built, check_layer, to_numpy, to_torch

pytestmark = pytest.mark.needs("torch")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("options", "image"), [
    ({"kernel_size": (3, 2)}, (6, 5, 3)),
    ({"kernel_size": (2, 5), "strides": (2, 1)}, (7, 6, 2)),
    ({"kernel_size": (4, 3), "padding": "same"}, (5, 8, 2)),                          # an odd row
    ({"kernel_size": (2, 2), "strides": (1, 3), "padding": "same"}, (6, 5, 3)),       # an odd row and column
    ({"kernel_size": (5, 4), "strides": (3, 2), "padding": "same"}, (7, 9, 1)),
    ({"kernel_size": (1, 2), "strides": (3, 3), "padding": "same"}, (8, 7, 2)),       # strides beyond the kernel
    ({"kernel_size": (6, 5)}, (6, 5, 2)),                                             # a single window
    ({"kernel_size": 3, "padding": "same", "activation": "relu"}, (4, 6, 3)),
    ({"kernel_size": (5, 5), "padding": "same", "use_bias": False}, (6, 7, 1)),
    ({"kernel_size": (3, 1), "activation": "tanh"}, (5, 3, 2))])
def test_conv2d(kernel_set, options, image, dtype, rng):
    layer = built(Conv2D(4, **options, dtype=dtype), image, rng)
    check_layer(layer, rng.standard_normal((3, *image)).astype(dtype), rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("options", "image"), [
    ({"pool_size": (2, 3)}, (7, 8, 2)),
    ({"pool_size": (3, 2), "strides": (1, 2)}, (6, 7, 2)),                            # overlapping rows
    ({"pool_size": 3, "strides": (2, 1), "padding": "same"}, (6, 5, 3)),              # overlapping both ways
    ({"pool_size": (2, 4), "padding": "same"}, (5, 7, 1)),
    ({"pool_size": (2, 1), "strides": (3, 2)}, (8, 5, 2))])                           # pixels that no window sees
@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_max_pooling2d(kernel_set, options, image, ties, dtype, rng):
    x = rng.integers(-2, 3, (3, *image)) if ties else rng.standard_normal((3, *image))
    check_layer(built(MaxPooling2D(**options, dtype=dtype), image, rng), x.astype(dtype), rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [
    lambda **base: AveragePooling2D((2, 3), **base),
    lambda **base: AveragePooling2D((3, 2), strides=(1, 2), padding="same", **base),  # an odd row and column
    lambda **base: AveragePooling2D((2, 1), strides=(3, 2), **base),                  # pixels that no window sees
    lambda **base: GlobalAveragePooling2D(**base),
    lambda **base: LeakyReLU(0.2, **base)], ids=["average", "average same", "gaps", "global", "leaky relu"])
def test_average_pooling_and_leaky_relu(kernel_set, make, dtype, rng):
    check_layer(built(make(dtype=dtype), (6, 7, 2), rng), rng.standard_normal((3, 6, 7, 2)).astype(dtype), rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 5, 3), (6,)], ids=["images", "vectors"])
def test_batch_normalization_in_training(kernel_set, shape, dtype, rng):
    layer = built(BatchNormalization(epsilon=0.02, dtype=dtype), shape, rng)
    check_layer(layer, (2 + 3 * rng.standard_normal((9, *shape))).astype(dtype), rng)


def test_moving_averages_of_batch_normalization(kernel_set, rng):
    """The means agree. PyTorch moves its variance with the unbiased estimate, times M / (M - 1); we do as Keras."""
    import torch
    layer = built(BatchNormalization(momentum=0.7, dtype="float64"), (3, 2, 4), rng)
    module = torch.nn.BatchNorm2d(4, eps=1e-3, momentum=0.3).double()
    M = 5 * 3 * 2
    variance = np.ones(4)
    for _ in range(3):
        x = 1 + 2 * rng.standard_normal((5, 3, 2, 4))
        layer.forward(x, training=True)
        before = to_numpy(module.running_var).copy()
        module(to_torch(x))
        their_batch_variance = (to_numpy(module.running_var) - 0.7 * before) / 0.3
        variance = 0.7 * variance + 0.3 * their_batch_variance * (M - 1) / M
    assert error(layer.state["moving_mean"], to_numpy(module.running_mean)) < 1e-12
    assert error(layer.state["moving_variance"], variance) < 1e-12
    assert error(layer.state["moving_variance"], to_numpy(module.running_var)) > 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("frozen", [False, True], ids=["inference", "frozen"])
def test_batch_normalization_with_moving_averages(kernel_set, frozen, dtype, rng):
    from torch.nn import functional
    layer = built(BatchNormalization(dtype=dtype, trainable=not frozen), (3, 5, 2), rng)
    layer.state = {"moving_mean": rng.standard_normal(2).astype(dtype),
                   "moving_variance": rng.uniform(0.5, 2, 2).astype(dtype)}
    x = rng.standard_normal((4, 3, 5, 2)).astype(dtype)
    inputs = to_torch(x).requires_grad_()
    gamma, beta = (to_torch(layer.params[key]).requires_grad_() for key in ("gamma", "beta"))
    theirs = functional.batch_norm(inputs, to_torch(layer.state["moving_mean"]),
                                   to_torch(layer.state["moving_variance"]), gamma, beta, eps=layer.epsilon)
    out = layer.forward(x, training=frozen)
    assert error(out, to_numpy(theirs)) < LIMIT[dtype]
    if frozen:
        dout = rng.standard_normal(x.shape).astype(dtype)
        theirs.backward(to_torch(dout))
        assert error(layer.backward(dout), to_numpy(inputs.grad)) < LIMIT[dtype]
        assert error(layer.grads["gamma"], gamma.grad.numpy()) < LIMIT[dtype]
        assert error(layer.grads["beta"], beta.grad.numpy()) < LIMIT[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["linear", "relu", "sigmoid", "tanh", "softmax"])
def test_dense(kernel_set, activation, dtype, rng):
    layer = built(Dense(4, activation=activation, use_bias=activation != "tanh", dtype=dtype), (6,), rng)
    check_layer(layer, rng.standard_normal((5, 6)).astype(dtype), rng)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "softmax"])
def test_activation(kernel_set, activation, dtype, rng):
    layer = built(Activation(activation, dtype=dtype), (5, 3, 2), rng)
    check_layer(layer, (3 * rng.standard_normal((4, 5, 3, 2))).astype(dtype), rng)


def test_relu_of_zero_has_the_gradient_zero_in_both(kernel_set, rng):
    import torch
    x, dout = np.zeros((2, 3)), rng.standard_normal((2, 3))
    inputs = to_torch(x).requires_grad_()
    torch.relu(inputs).backward(to_torch(dout))
    layer = Activation("relu", dtype="float64")
    layer.forward(x, training=True)
    np.testing.assert_array_equal(layer.backward(dout), inputs.grad.numpy())
    assert not layer.backward(dout).any()
