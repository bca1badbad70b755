"""Mistakes in the backward pass of Conv2D; see ``diagnosis_cases.py``. Importing this file adds them to ``CASES``."""

from __future__ import annotations

import numpy as np

from diagnosis_cases import (
    case,
    conv,
    conv_dw,
    conv_dx,
    dz_of,
    padding_of,
    places,
    scaled,
)
from minicnn.layers import Conv2D

# --- Conv2D: dw --------------------------------------------------------------------------------------------------


@case(Conv2D, conv(), "kernel", "axes")
def dw_turned(layer, dout, dx):
    layer.grads["kernel"] = layer.grads["kernel"][::-1, ::-1]
    return dx


@case(Conv2D, conv("same"), "kernel", "axes")
def dw_rows_turned(layer, dout, dx):
    layer.grads["kernel"] = layer.grads["kernel"][::-1]
    return dx


@case(Conv2D, conv(as_many=True), "kernel", "axes")
def dw_channels_exchanged(layer, dout, dx):
    layer.grads["kernel"] = layer.grads["kernel"].transpose(0, 1, 3, 2)
    return dx


@case(Conv2D, conv(square=True), "kernel", "axes")
def dw_rows_and_columns_exchanged(layer, dout, dx):
    layer.grads["kernel"] = layer.grads["kernel"].transpose(1, 0, 2, 3)
    return dx


@case(Conv2D, conv(activation="tanh"), "kernel", "axes")
def dw_reshaped_without_transpose(layer, dout, dx):
    dw = layer.grads["kernel"]
    layer.grads["kernel"] = dw.transpose(3, 0, 1, 2).reshape(dw.shape)
    return dx


@case(Conv2D, conv(), "kernel", "axes")
def dout_reshaped_without_transpose(layer, dout, dx):
    N, OH, OW, F = dout.shape
    layer.grads["kernel"] = conv_dw(layer, dout.reshape(F, N * OH * OW).T.reshape(N, OH, OW, F))
    return dx


@case(Conv2D, conv(strides=(2, 1)), "kernel", "ratio")
def dw_averaged_over_the_batch(layer, dout, dx):
    scaled(layer, "kernel", 1 / len(dout))
    return dx


@case(Conv2D, conv(), "kernel", "ratio")
def dw_twice(layer, dout, dx):
    scaled(layer, "kernel", 2)
    return dx


@case(Conv2D, conv("same", activation="relu"), "kernel", "sign")
def dw_negative(layer, dout, dx):
    scaled(layer, "kernel", -1)
    return dx


@case(Conv2D, conv("same"), "kernel", "remainder")
def dw_without_the_last_image(layer, dout, dx):
    layer.grads["kernel"] = conv_dw(layer, dout[:-1], layer.kept("x")[:-1])
    return dx


@case(Conv2D, conv("same"), "kernel", "remainder")
def dw_without_the_last_output_row(layer, dout, dx):
    last = layer.output_shape[0] - 1
    layer.grads["kernel"] = conv_dw(layer, dout, skip=lambda i, j, p, q: i == last)
    return dx


@case(Conv2D, conv("same"), "kernel", "border", "geometry")
def dw_forgets_the_padding(layer, dout, dx):
    layer.grads["kernel"] = conv_dw(layer, dout, before=(0, 0))
    return dx


@case(Conv2D, conv("same"), "kernel", "border")
def dw_wraps_round(layer, dout, dx):
    layer.grads["kernel"] = conv_dw(layer, dout, wrap=True)
    return dx


@case(Conv2D, conv(strides=(2, 1)), "kernel", "geometry")
def dw_with_exchanged_strides(layer, dout, dx):
    layer.grads["kernel"] = conv_dw(layer, dout, stride=(1, 2))
    return dx


@case(Conv2D, conv(), "kernel", "missing term")
def dw_with_a_penalty(layer, dout, dx):
    layer.grads["kernel"] = layer.grads["kernel"] + 0.01 * layer.params["kernel"]
    return dx


@case(Conv2D, conv(), "kernel", "remainder")
def dw_last_input_channel_left_out(layer, dout, dx):
    layer.grads["kernel"][:, :, -1] = 0
    return dx


@case(Conv2D, conv(), "kernel", "shape")
def dw_of_another_shape(layer, dout, dx):
    layer.grads["kernel"] = layer.grads["kernel"].transpose(3, 0, 1, 2)
    return dx


@case(Conv2D, conv(), "kernel", "shape")
def dw_of_another_dtype(layer, dout, dx):
    layer.grads["kernel"] = layer.grads["kernel"].astype(np.float32)
    return dx


@case(Conv2D, conv(), "kernel", "accumulated")
def dw_accumulated(layer, dout, dx):
    layer.sum = getattr(layer, "sum", 0) + layer.grads["kernel"]
    layer.grads["kernel"] = layer.sum
    return dx


# --- Conv2D: db --------------------------------------------------------------------------------------------------

@case(Conv2D, conv(), "bias", "ratio")
def db_averaged_over_the_batch(layer, dout, dx):
    scaled(layer, "bias", 1 / len(dout))
    return dx


@case(Conv2D, conv(), "bias", "ratio")
def db_averaged_over_all(layer, dout, dx):
    layer.grads["bias"] = dout.mean(axis=(0, 1, 2))
    return dx


@case(Conv2D, conv(), "bias", "remainder")
def db_of_the_first_image(layer, dout, dx):
    layer.grads["bias"] = dout[0].sum(axis=(0, 1))
    return dx


@case(Conv2D, conv(), "bias", "remainder")
def db_of_the_first_row(layer, dout, dx):
    layer.grads["bias"] = dout[:, 0].sum(axis=(0, 1))
    return dx


@case(Conv2D, conv(), "bias", "zero")
def db_zero(layer, dout, dx):
    layer.grads["bias"] = np.zeros_like(layer.grads["bias"])
    return dx


@case(Conv2D, conv(), "bias", "shape")
def db_not_summed_over_images(layer, dout, dx):
    layer.grads["bias"] = dout.sum(axis=(1, 2))
    return dx


@case(Conv2D, conv(), "bias", "shape")
def db_missing(layer, dout, dx):
    del layer.grads["bias"]
    return dx


@case(Conv2D, conv(activation="sigmoid"), "bias", "factor")
def db_of_dout(layer, dout, dx):
    layer.grads["bias"] = dout.sum(axis=(0, 1, 2))
    return dx


# --- Conv2D: dx --------------------------------------------------------------------------------------------------

@case(Conv2D, conv("same"), "input", "axes")
def dx_with_the_kernel_turned(layer, dout, dx):
    return conv_dx(layer, dout, layer.params["kernel"][::-1, ::-1])


@case(Conv2D, conv(as_many=True), "input", "axes")
def dx_with_the_channels_exchanged(layer, dout, dx):
    return conv_dx(layer, dout, layer.params["kernel"].transpose(0, 1, 3, 2))


@case(Conv2D, conv(), "input", "overlap")
def dx_overwritten_by_windows(layer, dout, dx):
    dx[...] = 0
    for i, j, p, q, r, s in places(layer):
        dx[:, r, s] = dout[:, i, j] @ layer.params["kernel"][p, q].T
    return dx


@case(Conv2D, conv("same"), "input", "overlap")
def dx_overwritten_by_entries(layer, dout, dx):
    dx[...] = 0
    for i, j, p, q, r, s in sorted(places(layer), key=lambda place: place[2:4]):
        dx[:, r, s] = dout[:, i, j] @ layer.params["kernel"][p, q].T
    return dx


@case(Conv2D, conv("same"), "input", "border", "geometry")
def dx_cropped_at_the_corner(layer, dout, dx):
    return conv_dx(layer, dout, before=(0, 0))


@case(Conv2D, conv("same"), "input", "geometry", "border")
def dx_one_row_off(layer, dout, dx):
    top, left = padding_of(layer)
    return conv_dx(layer, dout, before=(top + 1, left))


@case(Conv2D, conv(), "input", "remainder")
def dx_without_the_last_output_row(layer, dout, dx):
    last = layer.output_shape[0] - 1
    return conv_dx(layer, dout, skip=lambda i, j, p, q: i == last)


@case(Conv2D, conv("same", activation="relu"), "input", "remainder")
def dx_without_the_last_kernel_column(layer, dout, dx):
    last = layer.kernel_size[1] - 1
    return conv_dx(layer, dz_of(layer, dout), skip=lambda i, j, p, q: q == last)


@case(Conv2D, conv(), "input", "remainder")
def dx_without_the_last_image(layer, dout, dx):
    dx[-1] = 0
    return dx


@case(Conv2D, conv("same"), "input", "border")
def dx_zero_on_the_border(layer, dout, dx):
    inner = np.zeros_like(dx)
    inner[:, 1:-1, 1:-1] = dx[:, 1:-1, 1:-1]
    return inner


@case(Conv2D, conv("same", strides=(2, 1)), "input", "geometry")
def dx_with_one_stride_for_both(layer, dout, dx):
    return conv_dx(layer, dout, stride=(2, 2))


@case(Conv2D, conv(activation="relu"), "input", "mask")
def dx_without_the_mask_of_relu(layer, dout, dx):
    return conv_dx(layer, dout)


@case(Conv2D, conv(activation="tanh"), "input", "factor")
def dx_without_the_derivative_of_tanh(layer, dout, dx):
    return conv_dx(layer, dout)


@case(Conv2D, conv(), "input", "shape")
def dx_not_returned(layer, dout, dx):
    return None


@case(Conv2D, conv("same"), "input", "accumulated")
def dx_in_a_buffer_not_cleared(layer, dout, dx):
    layer.buffer = getattr(layer, "buffer", 0) + dx
    return layer.buffer.copy()


@case(Conv2D, conv(), "input", "not finite")
def dx_last_row_not_filled(layer, dout, dx):
    dx[:, -1] = np.nan
    return dx
