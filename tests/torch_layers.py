"""Layers in PyTorch as they are here, and arrays on the way between the two.

PyTorch's images are (N, C, H, W), its convolution kernels (F, C, KH, KW), its dense kernels (K, D). It has no ``same``
padding for strides other than 1 and none for pooling: there its input is padded by hand, by TensorFlow's rule.
"""

from __future__ import annotations

import math

import numpy as np

from minicnn.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    GlobalAveragePooling2D,
    LeakyReLU,
    MaxPooling2D,
)
from networks import error

DTYPES = ("float64", "float32")
LIMIT = {"float64": 1e-12, "float32": 1e-5}      # of one layer


def to_torch(array: np.ndarray):
    """Return a copy as a tensor, images as (N, C, H, W)."""
    import torch
    array = np.moveaxis(array, -1, 1) if array.ndim == 4 else array
    return torch.from_numpy(np.array(array, order="C"))


def to_numpy(tensor) -> np.ndarray:
    """Return a tensor as an array, images as (N, H, W, C)."""
    array = tensor.detach().numpy()
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def torch_kernel(kernel: np.ndarray):
    """Return a kernel (KH, KW, C, F) as (F, C, KH, KW), or (D, K) as (K, D)."""
    import torch
    return torch.from_numpy(np.array(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T, order="C"))


def our_kernel(tensor) -> np.ndarray:
    """Undo ``torch_kernel``, for a kernel's gradient."""
    array = tensor.detach().numpy()
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def pad_as_tensorflow(x, window: tuple[int, int], strides: tuple[int, int], value: float):
    """Pad (N, C, H, W) for ``same``: ceil(size / stride) windows, the odd pixel at the bottom and right."""
    from torch.nn import functional
    sides: list[int] = []
    for size, w, s in zip(x.shape[2:], window, strides):
        total = max((math.ceil(size / s) - 1) * s + w - size, 0)
        sides = [total // 2, total - total // 2, *sides]         # PyTorch wants the last axis first
    return functional.pad(x, sides, value=value)


def apply_in_torch(layer, x, params: dict):
    """Return what PyTorch makes of the layer's formula."""
    import torch
    from torch.nn import functional
    if isinstance(layer, MaxPooling2D):
        if layer.padding == "same":
            x = pad_as_tensorflow(x, layer.pool_size, layer.strides, -math.inf)
        return functional.max_pool2d(x, layer.pool_size, layer.strides)
    if isinstance(layer, AveragePooling2D):
        return _average_pooling(layer, x)
    if isinstance(layer, GlobalAveragePooling2D):
        return x.mean(dim=(2, 3))
    if isinstance(layer, LeakyReLU):
        return functional.leaky_relu(x, layer.negative_slope)
    if isinstance(layer, BatchNormalization):
        return functional.batch_norm(x, None, None, params["gamma"], params["beta"], training=True, eps=layer.epsilon)
    if isinstance(layer, Conv2D):
        if layer.padding == "same":
            x = pad_as_tensorflow(x, layer.kernel_size, layer.strides, 0.0)
        z = functional.conv2d(x, params["kernel"], params.get("bias"), layer.strides)
    elif isinstance(layer, Dense):
        z = functional.linear(x, params["kernel"], params.get("bias"))
    else:
        z = x
    return {"linear": lambda: z, "relu": lambda: torch.relu(z), "tanh": lambda: torch.tanh(z),
            "sigmoid": lambda: torch.sigmoid(z), "softmax": lambda: torch.softmax(z, 1)}[layer.activation.name]()


def _average_pooling(layer: AveragePooling2D, x):
    """Return the mean over a zero-padded window, over the same of ones, which is the part of it that is image."""
    import torch
    from torch.nn import functional
    sums, ones = x, torch.ones_like(x)
    if layer.padding == "same":
        sums, ones = (pad_as_tensorflow(a, layer.pool_size, layer.strides, 0.0) for a in (sums, ones))
    return (functional.avg_pool2d(sums, layer.pool_size, layer.strides)
            / functional.avg_pool2d(ones, layer.pool_size, layer.strides))


def built(layer, shape: tuple[int, ...], rng: np.random.Generator):
    """Return a layer built for inputs of a shape, with random parameters."""
    layer.build(shape)
    for key, array in layer.params.items():
        layer.params[key] = rng.uniform(0.5, 1.5, array.shape).astype(layer.dtype) if key == "gamma" else (
            rng.standard_normal(array.shape) / math.sqrt(max(1, array.size / array.shape[-1]))).astype(layer.dtype)
    return layer


def check_layer(layer, x: np.ndarray, rng: np.random.Generator) -> None:
    """Compare output, every gradient and the input's gradient under a random upstream gradient."""
    inputs = to_torch(x).requires_grad_()
    params = {key: (torch_kernel(array) if key == "kernel" else to_torch(array)).requires_grad_()
              for key, array in layer.params.items()}
    out = layer.forward(x, training=True)
    their_out = apply_in_torch(layer, inputs, params)
    dout = rng.standard_normal(out.shape).astype(out.dtype)
    dx = layer.backward(dout)
    their_out.backward(to_torch(dout))
    errors = {"out": error(out, to_numpy(their_out)), "dx": error(dx, to_numpy(inputs.grad))}
    for key, tensor in params.items():
        errors[key] = error(layer.grads[key], our_kernel(tensor.grad) if key == "kernel" else tensor.grad.numpy())
    assert {str(array.dtype) for array in (out, dx, *layer.grads.values())} == {layer.dtype}
    assert max(errors.values()) < LIMIT[layer.dtype], (layer, errors)
