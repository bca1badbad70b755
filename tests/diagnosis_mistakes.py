"""Mistakes in backward passes other than Conv2D's; see ``diagnosis_cases.py``. Importing it adds them to ``CASES``."""

from __future__ import annotations

import numpy as np

from diagnosis_cases import (
    batch_norm,
    case,
    dense,
    dense_with,
    dz_of,
    on_features,
    on_images,
    pool,
    pool_dx,
    scaled,
    won,
)
from minicnn import kernels
from minicnn.layers import Activation, BatchNormalization, Dense, Dropout, MaxPooling2D
from minicnn.streams import stream_key
from own_layers import Cube, LeakyReLU, Scale

# --- Dense -------------------------------------------------------------------------------------------------------

@case(Dense, dense(), "kernel", "ratio")
def dw_averaged(layer, dout, dx):
    scaled(layer, "kernel", 1 / len(dout))
    return dx


@case(Dense, dense(square=True), "kernel", "axes")
def dw_transposed(layer, dout, dx):
    layer.grads["kernel"] = layer.grads["kernel"].T.copy()
    return dx


@case(Dense, dense(square=True), "input", "axes")
def dx_without_transposing_the_kernel(layer, dout, dx):
    return dout @ layer.params["kernel"]


@case(Dense, dense("relu"), "bias", "remainder")
def db_of_the_last_image(layer, dout, dx):
    layer.grads["bias"] = dz_of(layer, dout)[-1]
    return dx


@case(Dense, dense("softmax"), "input", "missing term", "factor")
def diagonal_softmax(layer, dout, dx):
    out = layer.kept("out")
    return dense_with(layer, dout * out * (1 - out))


@case(Dense, dense("relu"), "kernel", "mask")
def mask_turned_round(layer, dout, dx):
    return dense_with(layer, np.where(layer.kept("out") > 0, 0, dout))


@case(Dense, dense("tanh"), "input", "geometry", "axes")
def dx_one_image_on(layer, dout, dx):
    return np.roll(dx, 1, axis=0)


@case(Dense, dense(), "kernel", "remainder")
def dw_without_the_last_feature(layer, dout, dx):
    layer.grads["kernel"][-1] = 0
    return dx


@case(Dense, dense("sigmoid"), "kernel", "factor")
def half_the_derivative_of_sigmoid(layer, dout, dx):
    return dense_with(layer, dout * layer.kept("out"))


@case(Dense, dense(), "bias", "shape")
def db_with_an_axis_of_one(layer, dout, dx):
    layer.grads["bias"] = dout.sum(axis=0, keepdims=True)
    return dx


# --- MaxPooling2D ------------------------------------------------------------------------------------------------

@case(MaxPooling2D, pool((1, 1)), "input", "overlap")
def overwritten(layer, dout, dx):
    return pool_dx(layer, dout, lambda p, q: won(layer, p, q), assign=True)


@case(MaxPooling2D, pool(), "input", "mask")
def gradient_to_the_whole_window(layer, dout, dx):
    return pool_dx(layer, dout, lambda p, q: np.ones(dout.shape, bool))


@case(MaxPooling2D, pool(), "input", "factor", "mask")
def shared_as_in_average_pooling(layer, dout, dx):
    return pool_dx(layer, dout, lambda p, q: np.ones(dout.shape, bool)) / np.prod(layer.pool_size)


@case(MaxPooling2D, pool(), "input", "axes")
def winner_read_column_by_column(layer, dout, dx):
    rows = layer.pool_size[0]
    return pool_dx(layer, dout, lambda p, q: layer.kept("winner") == q * rows + p)


@case(MaxPooling2D, pool(padding="same"), "input", "remainder")
def last_row_of_windows_skipped(layer, dout, dx):
    last = layer.output_shape[0] - 1
    return pool_dx(layer, dout, lambda p, q: won(layer, p, q), skip=lambda i, j, p, q: i == last)


@case(MaxPooling2D, pool(), "input", "geometry")
def strides_exchanged(layer, dout, dx):
    return pool_dx(layer, dout, lambda p, q: won(layer, p, q), stride=layer.strides[::-1])


@case(MaxPooling2D, pool((1, 1), "same"), "input", "border", "geometry")
def padding_forgotten(layer, dout, dx):
    return pool_dx(layer, dout, lambda p, q: won(layer, p, q), before=(0, 0))


@case(MaxPooling2D, pool(), "input", "mask")
def gradient_to_the_first_pixel(layer, dout, dx):
    return pool_dx(layer, dout, lambda p, q: np.full(dout.shape, p == q == 0))


@case(MaxPooling2D, pool((2, 1)), "input", "mask")
def winners_of_the_first_image(layer, dout, dx):
    return pool_dx(layer, dout, lambda p, q: won(layer, p, q)[:1].repeat(len(dout), axis=0))


@case(MaxPooling2D, pool(), "input", "ratio")
def divided_by_the_window(layer, dout, dx):
    return dx / np.prod(layer.pool_size)


# --- BatchNormalization ------------------------------------------------------------------------------------------

def normalized(layer, dout, mean=1.0, variance=1.0, direct=1.0, axis=(0, 1, 2)):
    """Return dx with its terms weighted; for images."""
    x = layer.kept("x")
    deviation = np.sqrt(x.var(axis=(0, 1, 2)) + layer.epsilon)
    x_hat = (x - x.mean(axis=(0, 1, 2))) / deviation
    return layer.params["gamma"] / deviation * (
        direct * dout - mean * dout.mean(axis=axis, keepdims=True)
        - variance * x_hat * (dout * x_hat).mean(axis=axis, keepdims=True))


@case(BatchNormalization, batch_norm(), "input", "missing term")
def no_term_through_the_mean(layer, dout, dx):
    return normalized(layer, dout, mean=0)


@case(BatchNormalization, batch_norm(), "input", "missing term")
def no_term_through_the_variance(layer, dout, dx):
    return normalized(layer, dout, variance=0)


@case(BatchNormalization, batch_norm(), "input", "missing term")
def statistics_as_constants(layer, dout, dx):
    return normalized(layer, dout, mean=0, variance=0)


@case(BatchNormalization, batch_norm(), "input", "missing term")
def variance_term_halved(layer, dout, dx):
    return normalized(layer, dout, variance=0.5)


@case(BatchNormalization, batch_norm(), "input", "missing term")
def statistics_of_the_batch_axis_only(layer, dout, dx):
    return normalized(layer, dout, axis=0)


@case(BatchNormalization, batch_norm(), "input", "missing term")
def one_less_counted(layer, dout, dx):
    M = dout.size / dout.shape[-1]
    return normalized(layer, dout, mean=M / (M - 1), variance=M / (M - 1))


@case(BatchNormalization, batch_norm(), "input", "factor")
def gamma_forgotten(layer, dout, dx):
    return dx / layer.params["gamma"]


@case(BatchNormalization, batch_norm(images=False), "input", "factor")
def divided_by_the_variance(layer, dout, dx):
    return dx / np.sqrt(layer.kept("x").var(axis=0) + layer.epsilon)


@case(BatchNormalization, batch_norm(), "gamma", "swapped")
def gamma_and_beta_exchanged(layer, dout, dx):
    layer.grads = {"gamma": layer.grads["beta"], "beta": layer.grads["gamma"]}
    return dx


@case(BatchNormalization, batch_norm(), "gamma", "factor", "missing term")
def dgamma_of_the_plain_input(layer, dout, dx):
    layer.grads["gamma"] = (dout * layer.kept("x")).sum(axis=(0, 1, 2))
    return dx


@case(BatchNormalization, batch_norm(), "gamma", "remainder")
def dgamma_of_the_first_image(layer, dout, dx):
    x = layer.kept("x")
    x_hat = (x - x.mean(axis=(0, 1, 2))) / np.sqrt(x.var(axis=(0, 1, 2)) + layer.epsilon)
    layer.grads["gamma"] = (dout * x_hat)[0].sum(axis=(0, 1))
    return dx


@case(BatchNormalization, batch_norm(images=False), "beta", "ratio")
def dbeta_averaged(layer, dout, dx):
    scaled(layer, "beta", 1 / len(dout))
    return dx


# --- Dropout -----------------------------------------------------------------------------------------------------

@case(Dropout, on_images(0.3), "input", "ratio")
def scale_forgotten(layer, dout, dx):
    return dx * (1 - layer.rate)


@case(Dropout, on_features(0.4), "input", "ratio")
def scaled_twice(layer, dout, dx):
    return dx / (1 - layer.rate)


@case(Dropout, on_images(0.25), "input", "ratio")
def scaled_by_the_rate(layer, dout, dx):
    return dx * (1 - layer.rate) / layer.rate


@case(Dropout, on_images(0.5), "input", "mask")
def mask_forgotten(layer, dout, dx):
    return dout / (1 - layer.rate)


@case(Dropout, on_features(0.3), "input", "mask")
def neither_mask_nor_scale(layer, dout, dx):
    return dout


@case(Dropout, on_images(0.3), "input", "mask")
def mask_of_another_step(layer, dout, dx):
    return kernels.dropout_backward(dout, layer.rate, stream_key(layer.seed, "dropout", layer.index, 77))


@case(Dropout, on_features(0.5), "input", "mask")
def mask_redrawn(layer, dout, dx):
    layer.calls = getattr(layer, "calls", 0) + 1
    return dout * (np.random.default_rng(layer.calls).random(dout.shape) > layer.rate) / (1 - layer.rate)


@case(Dropout, on_images(0.5), "input", "mask")
def dropped_and_kept_exchanged(layer, dout, dx):
    return np.where(dx == 0, dout / (1 - layer.rate), 0)


@case(Dropout, on_images(0.4), "input", "mask")
def mask_of_the_first_image(layer, dout, dx):
    return np.where(dx[:1] == 0, 0, dout / (1 - layer.rate))


# --- Activation --------------------------------------------------------------------------------------------------

@case(Activation, on_images("relu"), "input", "mask")
def relu_lets_all_through(layer, dout, dx):
    return dout


@case(Activation, on_features("relu"), "input", "mask")
def relu_of_the_gradient(layer, dout, dx):
    return np.maximum(dout, 0)


@case(Activation, on_images("tanh"), "input", "factor")
def tanh_without_the_square(layer, dout, dx):
    return dout * (1 - layer.kept("out"))


@case(Activation, on_features("sigmoid"), "input", "factor")
def sigmoid_with_a_plus(layer, dout, dx):
    return dout * layer.kept("out") * (1 + layer.kept("out"))


@case(Activation, on_features("sigmoid"), "input", "sign")
def sigmoid_with_a_minus(layer, dout, dx):
    return dout * layer.kept("out") * (layer.kept("out") - 1)


@case(Activation, on_features("softmax"), "input", "missing term")
def softmax_without_the_sum(layer, dout, dx):
    return dout * layer.kept("out")


@case(Activation, on_features("softmax"), "input", "missing term")
def softmax_summed_over_the_images(layer, dout, dx):
    out = layer.kept("out")
    return out * (dout - np.sum(dout * out, axis=0))


# --- layers that the diagnosis does not know --------------------------------------------------------------------

@case(LeakyReLU, on_images(), "input", "mask")
def slope_of_the_negative_side(layer, dout, dx):
    return np.where(layer.kept("x") > 0, dout, 0.2 * dout)


@case(LeakyReLU, on_images(), "input", "mask")
def nothing_on_the_negative_side(layer, dout, dx):
    return np.where(layer.kept("x") > 0, dout, 0)


@case(Scale, on_images(), "factor", "ratio")
def averaged(layer, dout, dx):
    scaled(layer, "factor", 1 / len(dout))
    return dx


@case(Scale, on_images(), "input", "factor")
def factor_left_out(layer, dout, dx):
    return dout


@case(Scale, on_images(), "input", "border", "remainder")
def first_row_left_out(layer, dout, dx):
    dx[:, 0] = 0
    return dx


@case(Cube, on_features(), "input", "ratio")
def three_forgotten(layer, dout, dx):
    return dx / 3


@case(Cube, on_features(), "input", "factor")
def power_of_one(layer, dout, dx):
    return 3 * layer.kept("x") * dout
