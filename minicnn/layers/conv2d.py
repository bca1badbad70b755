"""Conv2D: every output pixel is a weighted sum over a small window of the input."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import initializers, kernels
from minicnn.activations import ActivationFunction
from minicnn.arguments import padding_name, pair, whole_number
from minicnn.errors import ArgumentError, ShapeError, suggest
from minicnn.kernels.geometry import Padding, output_size, window_padding
from minicnn.layers.activated import ActivatedLayer
from minicnn.layers.base import Shape

ALGORITHMS = ("auto", "winograd", "direct", "im2col")


class Conv2D(ActivatedLayer):
    r"""Convolution (cross-correlation, as everywhere in this field) of images with F learned kernels.

    .. math:: z_{nijf} = b_f + \sum_{p,q,c} x_{n,\;i\,s_h+p-t,\;j\,s_w+q-l,\;c}\; w_{pqcf}

    with strides s, and t, l rows and columns of zeros added at the top and left. Backward is the same sum read the
    other two ways: dw sums over n, i, j; dx over all (i, j, p, q) that touch the pixel; db sums dz over n, i, j.

    Shapes: x (N, H, W, C), kernel (KH, KW, C, F), bias (F), out (N, OH, OW, F) with
    ``OH = (H + t + bottom - KH) // s_h + 1``; for ``same``, ``OH = ceil(H / s_h)``.

    Parameters
    ----------
    filters : int
        F.
    kernel_size : int or (int, int)
        (KH, KW).
    strides : int or (int, int)
    padding : {"valid", "same"}
        No zeros around the image, or as many as keep its size at stride 1 (the odd one at the bottom and right).
    activation : str or ActivationFunction, optional
        Default ``linear``.
    use_bias : bool
    kernel_initializer, bias_initializer : str or callable
        See ``minicnn/initializers.py``.
    algorithm : {"auto", "winograd", "direct", "im2col"}
        How the fast kernels compute it; ``auto`` lets them choose.
    **base
        ``name``, ``dtype``, ``input_shape``, ``trainable``, see Layer.

    References
    ----------
    Dumoulin and Visin (2016), "A guide to convolution arithmetic for deep learning".
    Chellapilla, Puri, Simard (2006), "High performance convolutional neural networks for document processing" (im2col).
    """

    input_rank = 3
    unsupported = {"data_format": (None, "channels_last"), "dilation_rate": ((1, 1), [1, 1], 1), "groups": (1,),
                   "kernel_regularizer": (None,), "bias_regularizer": (None,), "activity_regularizer": (None,),
                   "kernel_constraint": (None,), "bias_constraint": (None,), "lora_rank": (None,),
                   "lora_alpha": (None,), "quantization_config": (None,)}

    def __init__(self, filters: int, kernel_size: int | tuple[int, int], strides: int | tuple[int, int] = (1, 1),
                 padding: str = "valid", activation: str | ActivationFunction | None = None, use_bias: bool = True,
                 kernel_initializer: str | initializers.Initializer = "glorot_uniform",
                 bias_initializer: str | initializers.Initializer = "zeros", algorithm: str = "auto",
                 **base: Any) -> None:
        super().__init__(activation, **base)
        self.filters = whole_number("Conv2D: filters", filters)
        self.kernel_size = pair("Conv2D: kernel_size", kernel_size)
        self.strides = pair("Conv2D: strides", strides)
        self.padding = padding_name("Conv2D: padding", padding)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        if algorithm not in ALGORITHMS:
            raise ArgumentError(f"Conv2D got algorithm={algorithm!r}. {suggest(algorithm, ALGORITHMS)}")
        self.algorithm = algorithm

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """See Layer."""
        H, W, _ = input_shape
        OH, OW = output_size((H, W), self.kernel_size, self.strides, self.zeros_around((H, W)))
        if OH < 1 or OW < 1:
            raise ShapeError(f"{self} got images of {H}x{W} for a kernel of {self.kernel_size[0]}x"
                             f"{self.kernel_size[1]}; with padding='valid' the kernel must fit into the image. "
                             f"Use padding='same', a smaller kernel, or fewer pooling layers before it.")
        return OH, OW, self.filters

    def build(self, input_shape: Shape) -> None:
        """Create kernel (KH, KW, C, F) and bias (F)."""
        super().build(input_shape)
        self.add_param("kernel", (*self.kernel_size, input_shape[2], self.filters), self.kernel_initializer)
        if self.use_bias:
            self.add_param("bias", (self.filters,), self.bias_initializer)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the feature maps (N, OH, OW, F) of ``x`` (N, H, W, C)."""
        x = self.check_input(x)
        z = kernels.conv2d(x, self.params["kernel"], self.params.get("bias"), self.strides,
                           self.zeros_around(x.shape[1:3]), self.algorithm)    # (N, OH, OW, F)
        out = self.activate(z, out=z)
        self.keep(training, x=x, out=out)
        return out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx (N, H, W, C) from ``dout`` (N, OH, OW, F); assign the gradients of kernel and bias."""
        x, out = self.kept("x", "out")
        dz = self.activation_gradient(self.check_gradient(dout), out)           # (N, OH, OW, F)
        dx, dw, db = kernels.conv2d_backward(dz, x, self.params["kernel"], self.strides,
                                             self.zeros_around(x.shape[1:3]), self.algorithm,
                                             need_dx=self.needs_input_gradient)
        self.grads = {"kernel": dw, "bias": db} if self.use_bias else {"kernel": dw}
        return dx

    def algorithm_in_use(self) -> str:
        """Return the algorithm by which the kernels in use compute this layer, once it is built."""
        if kernels.active() == "reference" or self.input_shape is None:
            return "im2col"
        H, W, C = self.input_shape
        return kernels.blocks.geometry((1, H, W, C), self.params["kernel"].shape, self.strides,
                                       self.zeros_around((H, W)), self.algorithm).algorithm

    def config(self) -> dict[str, Any]:
        """See Layer."""
        return super().config() | {
            "filters": self.filters, "kernel_size": list(self.kernel_size), "strides": list(self.strides),
            "padding": self.padding, "use_bias": self.use_bias, "algorithm": self.algorithm,
            "kernel_initializer": initializers.name_of(self.kernel_initializer),
            "bias_initializer": initializers.name_of(self.bias_initializer)}

    def zeros_around(self, size: tuple[int, int]) -> Padding:
        """Return the rows and columns of zeros around images of a size (H, W)."""
        return window_padding(size, self.kernel_size, self.strides, self.padding)
