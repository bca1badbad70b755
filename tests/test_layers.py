"""The layers: Keras' names, defaults and meanings, shapes, the contract of forward and backward, refusals by name."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from minicnn import initializers, layers
from minicnn.errors import ArgumentError, ShapeError, StateError, UnsupportedError
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
    Layer,
    LeakyReLU,
    MaxPooling2D,
)

# One example of every layer: (layer, shape of one input, shape of one output).
EXAMPLES = {
    "Activation": (lambda: Activation("sigmoid"), (3, 4), (3, 4)),
    "AveragePooling2D": (lambda: AveragePooling2D((3, 2), strides=(1, 2), padding="same"), (5, 4, 2), (5, 2, 2)),
    "BatchNormalization": (lambda: BatchNormalization(), (5, 4, 3), (5, 4, 3)),
    "Conv2D": (lambda: Conv2D(4, (3, 2), strides=(2, 1), padding="same", activation="relu"), (5, 6, 2), (3, 6, 4)),
    "Dense": (lambda: Dense(3, activation="tanh"), (7,), (3,)),
    "Dropout": (lambda: Dropout(0.4), (5, 4), (5, 4)),
    "Flatten": (lambda: Flatten(), (2, 3, 4), (24,)),
    "GlobalAveragePooling2D": (lambda: GlobalAveragePooling2D(), (3, 4, 5), (5,)),
    "Input": (lambda: Input((2, 3, 1)), (2, 3, 1), (2, 3, 1)),
    "LeakyReLU": (lambda: LeakyReLU(0.2), (5, 4, 3), (5, 4, 3)),
    "MaxPooling2D": (lambda: MaxPooling2D((2, 3), strides=(1, 2), padding="same"), (5, 4, 2), (5, 2, 2)),
}


def test_every_layer_has_an_example_here():
    assert EXAMPLES.keys() == LAYERS.keys()


@pytest.fixture(params=sorted(EXAMPLES))
def example(request):
    make, input_shape, output_shape = EXAMPLES[request.param]
    return make(), input_shape, output_shape


def test_shapes_and_dtypes(example, kernel_set, rng):
    layer, input_shape, output_shape = example
    for dtype in ("float32", "float64"):
        twin = copy.deepcopy(layer).astype(dtype)
        x = rng.standard_normal((3, *input_shape)).astype(dtype)
        out = twin.forward(x, training=True)
        assert out.shape == (3, *output_shape)
        assert out.dtype == dtype
        assert twin.input_shape == input_shape
        assert twin.output_shape == output_shape
        dx = twin.backward(rng.standard_normal(out.shape).astype(dtype))
        assert dx.shape == x.shape
        assert dx.dtype == dtype
        assert twin.grads.keys() == twin.params.keys()
        for key, gradient in twin.grads.items():
            assert gradient.shape == twin.params[key].shape
            assert gradient.dtype == dtype


def test_input_is_not_modified_and_outputs_are_not_reused(example, kernel_set, rng):
    layer, input_shape, _ = example
    x = rng.standard_normal((3, *input_shape)).astype(np.float32)
    before = x.copy()
    out = layer.forward(x, training=True)
    kept_out = out.copy()
    dout = rng.standard_normal(out.shape).astype(np.float32)
    kept_dout = dout.copy()
    dx = layer.backward(dout)
    kept_dx = dx.copy()
    layer.forward(x * 2, training=True)
    layer.backward(dout * 3)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(dout, kept_dout)
    np.testing.assert_array_equal(out, kept_out)
    np.testing.assert_array_equal(dx, kept_dx)


def test_backward_assigns_and_does_not_accumulate(example, kernel_set, rng):
    layer, input_shape, _ = example
    out = layer.forward(rng.standard_normal((3, *input_shape)), training=True)
    dout = rng.standard_normal(out.shape).astype(np.float32)
    first_dx = layer.backward(dout)
    first = {key: gradient.copy() for key, gradient in layer.grads.items()}
    second_dx = layer.backward(dout)
    np.testing.assert_array_equal(first_dx, second_dx)
    for key, gradient in layer.grads.items():
        np.testing.assert_array_equal(gradient, first[key])


def test_backward_before_a_training_forward_says_so(example, kernel_set, rng):
    layer, input_shape, output_shape = example
    with pytest.raises(StateError, match=r"forward\(x, training=True\)"):
        layer.backward(np.ones((1, *output_shape), np.float32))
    layer.forward(rng.standard_normal((2, *input_shape)))
    with pytest.raises(StateError, match="before a training forward"):
        layer.backward(np.ones((2, *output_shape), np.float32))


def test_config_is_json_and_makes_a_twin(example, kernel_set, rng):
    layer, input_shape, _ = example
    x = rng.standard_normal((3, *input_shape)).astype(np.float32)
    out = layer.forward(x)
    config = json.loads(json.dumps(layer.config()))
    twin = type(layer)(**config)
    np.testing.assert_array_equal(twin.forward(x), out)
    assert twin.config() == layer.config()


def test_wrong_shapes_are_refused_and_leave_the_layer_usable(example, kernel_set, rng):
    layer, input_shape, output_shape = example
    layer.forward(rng.standard_normal((2, *input_shape)))
    with pytest.raises(ShapeError, match=r"got an input of shape \(2, .*expected \(N, "):
        layer.forward(rng.standard_normal((2, *input_shape[:-1], input_shape[-1] + 1)))
    assert layer.forward(rng.standard_normal((4, *input_shape))).shape == (4, *output_shape)


def test_building_twice_is_refused():
    layer = Dense(3)
    layer.build((4,))
    with pytest.raises(StateError, match="already built"):
        layer.build((5,))


def test_initial_weights_follow_from_seed_and_index():
    def kernel(seed, index):
        layer = Dense(5)
        layer.seed, layer.index = seed, index
        layer.build((4,))
        return layer.params["kernel"]

    np.testing.assert_array_equal(kernel(1, 2), kernel(1, 2))
    assert not np.array_equal(kernel(1, 2), kernel(2, 2))
    assert not np.array_equal(kernel(1, 2), kernel(1, 3))


def test_keras_spellings():
    for other, name in (("MaxPool2D", MaxPooling2D), ("AvgPool2D", AveragePooling2D), ("Convolution2D", Conv2D),
                        ("GlobalAvgPool2D", GlobalAveragePooling2D), ("InputLayer", Input)):
        assert getattr(layers, other) is name
    assert Conv2D(2, 3).kernel_size == (3, 3)
    assert Conv2D(2, (3, 5), padding="Same").padding == "same"
    assert MaxPooling2D(2, 2).strides == (2, 2)
    assert MaxPooling2D((3, 2)).strides == (3, 2)
    assert AveragePooling2D(2, 1, "Same").padding == "same"
    with pytest.warns(DeprecationWarning, match="alpha is called negative_slope now") as caught:
        assert LeakyReLU(alpha=0.1).negative_slope == 0.1
    assert caught[0].filename == __file__
    assert Conv2D(2, 3, data_format="channels_last", groups=1, dilation_rate=(1, 1)).filters == 2
    assert BatchNormalization(center=True, scale=True).momentum == 0.99


@pytest.mark.parametrize(("make", "named"), [
    (lambda: Conv2D(2, 3, groups=2), "groups=2"),
    (lambda: Conv2D(2, 3, dilation_rate=(2, 2)), "dilation_rate"),
    (lambda: Conv2D(2, 3, data_format="channels_first"), "channels_first"),
    (lambda: Conv2D(2, 3, kernel_regularizer="l2"), "kernel_regularizer"),
    (lambda: Dense(2, kernel_constraint="max_norm"), "kernel_constraint"),
    (lambda: Dense(2, bias_regularizer="l1"), "bias_regularizer"),
    (lambda: BatchNormalization(scale=False), "scale=False"),
    (lambda: Dropout(0.5, noise_shape=(1, 2)), "noise_shape"),
    (lambda: Flatten(data_format="channels_first"), "channels_first"),
    (lambda: MaxPooling2D(data_format="channels_first"), "channels_first"),
    (lambda: AveragePooling2D(data_format="channels_first"), "channels_first"),
    (lambda: GlobalAveragePooling2D(keepdims=True), "keepdims=True"),
])
def test_unsupported_keras_arguments_are_refused_by_name(make, named):
    with pytest.raises(UnsupportedError, match=named):
        make()


def test_a_misspelt_argument_is_a_type_error():
    with pytest.raises(TypeError, match="'filter_size'"):
        Conv2D(2, 3, filter_size=3)


@pytest.mark.parametrize(("make", "words"), [
    (lambda: Dense(0), "units is 0"),
    (lambda: Dense(2.5), "units is 2.5"),
    (lambda: Conv2D(-1, 3), "filters is -1"),
    (lambda: Conv2D(2, (3,)), "kernel_size"),
    (lambda: Conv2D(2, 3, strides=0), "strides is 0"),
    (lambda: Conv2D(2, 3, padding="full"), "'valid' or 'same'"),
    (lambda: Conv2D(2, 3, algorithm="im2colo"), "Did you mean 'im2col'"),
    (lambda: Dropout(1.0), "rate .* is 1.0"),
    (lambda: Dropout(-0.1), "rate .* is -0.1"),
    (lambda: BatchNormalization(axis=1), "axis=1"),
    (lambda: BatchNormalization(momentum=1.5), "momentum is 1.5"),
    (lambda: BatchNormalization(epsilon=0), "epsilon is 0"),
    (lambda: Dense(2, activation="rleu"), "Did you mean 'relu'"),
    (lambda: Dense(2, kernel_initializer="glorot"), "glorot_uniform"),
    (lambda: Dense(2, dtype="float16"), "float16"),
    (lambda: AveragePooling2D(0), "AveragePooling2D: pool_size is 0"),
    (lambda: LeakyReLU(-0.1), "negative_slope is -0.1"),
    (lambda: Input(), "no shape"),
])
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()


@pytest.mark.parametrize("shape", [(28, 0, 1), (28, -1, 1)])
def test_input_shapes_must_be_positive(shape):
    with pytest.raises(ShapeError, match="at least 1"):
        Input(shape)


def test_input_shape_must_be_a_tuple_of_numbers():
    with pytest.raises(ShapeError, match="tuple of whole numbers"):
        Dense(3, input_shape=("28",))
    with pytest.raises(ShapeError, match="tuple of whole numbers"):
        Input(784)


def test_dropout_mask_in_backward_is_that_of_forward(kernel_set, rng):
    layer = Dropout(0.4)
    x = rng.uniform(1, 2, (6, 5, 7)).astype(np.float32)
    out = layer.forward(x, training=True)
    dx = layer.backward(np.ones_like(x))
    np.testing.assert_array_equal(out != 0, dx != 0)
    np.testing.assert_allclose(out[out != 0], (x / 0.6)[out != 0], rtol=1e-6)
    assert 0.3 < (out == 0).mean() < 0.5


def test_dropout_draws_a_new_mask_each_step_unless_frozen(kernel_set):
    layer = Dropout(0.5)
    x = np.ones((4, 50), np.float32)
    assert not np.array_equal(layer.forward(x, training=True), layer.forward(x, training=True))
    layer.step = 7
    np.testing.assert_array_equal(layer.forward(x, training=True), layer.forward(x, training=True))


def test_dropout_does_nothing_outside_training_and_at_rate_zero(kernel_set, rng):
    x = rng.standard_normal((4, 5)).astype(np.float32)
    np.testing.assert_array_equal(Dropout(0.9).forward(x), x)
    layer = Dropout(0)
    np.testing.assert_array_equal(layer.forward(x, training=True), x)
    np.testing.assert_array_equal(layer.backward(x), x)


def test_batch_normalization_moves_its_averages_with_the_biased_variance(kernel_set, rng):
    layer = BatchNormalization(momentum=0.9)
    x = rng.normal(3, 2, (5, 4, 3, 2))
    layer.astype("float64")
    layer.forward(x, training=True)
    np.testing.assert_allclose(layer.state["moving_mean"], 0.1 * x.mean((0, 1, 2)))
    np.testing.assert_allclose(layer.state["moving_variance"], 0.9 + 0.1 * x.var((0, 1, 2)))
    moved = {key: array.copy() for key, array in layer.state.items()}
    layer.forward(x)
    for key, array in layer.state.items():
        np.testing.assert_array_equal(array, moved[key])


def test_frozen_batch_normalization_uses_its_moving_averages(kernel_set, rng):
    layer = BatchNormalization(trainable=False)
    x = rng.normal(3, 2, (5, 4)).astype(np.float32)
    np.testing.assert_allclose(layer.forward(x, training=True), x / np.sqrt(1.001), rtol=1e-6)
    np.testing.assert_array_equal(layer.state["moving_mean"], np.zeros(4))
    np.testing.assert_allclose(layer.backward(x), x / np.sqrt(1.001), rtol=1e-6)


def test_a_layer_of_ones_own_needs_only_forward_and_backward(rng):
    class Double(Layer):
        def forward(self, x, training=False):
            self.keep(training)
            return 2 * self.check_input(x)

        def backward(self, dout):
            self.kept()
            return 2 * dout

    layer = Double()
    x = rng.standard_normal((3, 2)).astype(np.float32)
    np.testing.assert_array_equal(layer(x, training=True), 2 * x)
    assert layer.name == "double"
    assert layer.output_shape == (2,)


def test_a_layer_without_forward_or_backward_says_so():
    class Unfinished(Layer):
        pass

    with pytest.raises(NotImplementedError, match=r"^Unfinished has no forward$"):
        Unfinished()(np.ones((2, 3)))
    with pytest.raises(NotImplementedError, match=r"^Unfinished has no backward$"):
        Unfinished().backward(np.ones((2, 3)))


@pytest.mark.parametrize(("name", "deviation"), [
    ("glorot_uniform", np.sqrt(2 / (400 + 300))), ("he_normal", np.sqrt(2 / 400)), ("he_uniform", np.sqrt(2 / 400))])
def test_initializers_have_the_variance_of_their_papers(name, deviation, rng):
    sample = initializers.get(name)((400, 300), rng)
    assert abs(sample.mean()) < 4 * deviation / np.sqrt(sample.size)
    np.testing.assert_allclose(sample.std(), deviation, rtol=0.01)


def test_initializer_fans_of_a_convolution():
    assert initializers.fans((5, 3, 2, 7)) == (30, 105)
    assert initializers.fans((4, 6)) == (4, 6)
    assert initializers.fans((7,)) == (7, 7)    # a bias drawn at random


def test_he_normal_is_cut_off_at_two_deviations(rng):
    sample = initializers.he_normal((100, 1000), rng)
    limit = 2 * np.sqrt(2 / 100) / 0.87962566103423978
    assert 0.99 * limit < np.abs(sample).max() <= limit


def test_backward_refuses_a_gradient_that_is_not_of_the_outputs_shape(example, kernel_set, rng):
    layer, input_shape, output_shape = example
    layer.forward(rng.standard_normal((3, *input_shape)), training=True)
    layer.forward(rng.standard_normal((2, *input_shape)))    # inference in between changes nothing
    for shape in ((2, *output_shape), (3, *output_shape[:-1], output_shape[-1] + 500), (3,)):
        with pytest.raises(ShapeError, match=r"got a gradient of shape .*; expected \(3, "):
            layer.backward(np.ones(shape, np.float32))
    layer.backward(np.ones((3, *output_shape)))


def test_a_failing_initializer_leaves_no_half_built_layer():
    calls = []

    def fails_once(shape, rng):
        calls.append(shape)
        if len(calls) == 1:
            raise MemoryError
        return np.ones(shape)

    layer = Dense(2, kernel_initializer=fails_once)
    with pytest.raises(MemoryError):
        layer(np.ones((1, 3)))
    assert not layer.built
    np.testing.assert_array_equal(layer(np.ones((1, 3))), [[3, 3]])
    with pytest.raises(ShapeError, match=r"initializer of kernel returned the shape \(1,\); expected \(3, 2\)"):
        Dense(2, kernel_initializer=lambda shape, rng: np.ones(1))(np.ones((1, 3)))


def test_every_argument_of_keras_is_accepted_at_its_default():
    assert Conv2D(2, 3, dtype=None, dilation_rate=[1, 1], lora_rank=None, quantization_config=None).dtype == "float32"
    assert Dense(2, lora_alpha=None, quantization_config=None).units == 2
    assert BatchNormalization(renorm_clipping=None, renorm_momentum=0.99).momentum == 0.99
    assert Input((3,), dtype=None).output_shape == (3,)
