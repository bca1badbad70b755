"""The fast kernels, in Numba on several threads: the names and signatures of ``reference``, which read first."""

from minicnn.kernels.fast import blocks as blocks  # for plans; no kernel, hence not in __all__
from minicnn.kernels.fast.activations import (
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
from minicnn.kernels.fast.affine_warp import affine_warp
from minicnn.kernels.fast.avg_pool2d import avg_pool2d, avg_pool2d_backward
from minicnn.kernels.fast.batch_norm import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_inference_backward,
)
from minicnn.kernels.fast.conv2d import conv2d, conv2d_backward
from minicnn.kernels.fast.dense import dense, dense_backward
from minicnn.kernels.fast.dropout import dropout, dropout_backward
from minicnn.kernels.fast.finite import all_finite
from minicnn.kernels.fast.max_pool2d import max_pool2d, max_pool2d_backward
from minicnn.kernels.fast.optimizers import adam_update, rmsprop_update, sgd_update
from minicnn.kernels.fast.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_backward
from minicnn.kernels.fast.stroke_distance import stroke_distance

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
