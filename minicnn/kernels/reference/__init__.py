"""The reference kernels: plain NumPy, one file per operation, forward above backward. Read these first."""

from minicnn.kernels.reference.activations import (
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from minicnn.kernels.reference.affine_warp import affine_warp
from minicnn.kernels.reference.avg_pool2d import avg_pool2d, avg_pool2d_backward
from minicnn.kernels.reference.batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from minicnn.kernels.reference.conv2d import conv2d, conv2d_backward
from minicnn.kernels.reference.dense import dense, dense_backward
from minicnn.kernels.reference.dropout import dropout, dropout_backward
from minicnn.kernels.reference.finite import all_finite
from minicnn.kernels.reference.max_pool2d import max_pool2d, max_pool2d_backward
from minicnn.kernels.reference.optimizers import adam_update, rmsprop_update, sgd_update
from minicnn.kernels.reference.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_backward
from minicnn.kernels.reference.stroke_distance import stroke_distance

__all__ = [
    "adam_update",
    "affine_warp",
    "all_finite",
    "avg_pool2d",
    "avg_pool2d_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_inference_backward",
    "conv2d",
    "conv2d_backward",
    "dense",
    "dense_backward",
    "dropout",
    "dropout_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "relu",
    "relu_backward",
    "rmsprop_update",
    "sgd_update",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "stroke_distance",
    "tanh",
    "tanh_backward",
]
