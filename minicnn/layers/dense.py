"""Dense: every output is a weighted sum of all inputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import initializers, kernels
from minicnn.activations import ActivationFunction
from minicnn.arguments import whole_number
from minicnn.layers.activated import ActivatedLayer
from minicnn.layers.base import Shape


class Dense(ActivatedLayer):
    r"""Fully connected layer, ``out = activation(x @ kernel + bias)``.

    Shapes: x (N, D), kernel (D, K), bias (K), out (N, K). With z the argument of the activation, backward is

    .. math:: dx = dz\,W^T \qquad dW = x^T dz \qquad db = \textstyle\sum_n dz_n

    Parameters
    ----------
    units : int
        K, the number of outputs.
    activation : str or ActivationFunction, optional
        Default ``linear``.
    use_bias : bool
    kernel_initializer, bias_initializer : str or callable
        See ``minicnn/initializers.py``.
    **base
        ``name``, ``dtype``, ``input_shape``, ``trainable``, see Layer.

    References
    ----------
    Goodfellow, Bengio, Courville (2016), "Deep Learning", section 6.5, algorithms 6.3 and 6.4.
    """

    input_rank = 1
    unsupported = {"kernel_regularizer": (None,), "bias_regularizer": (None,), "activity_regularizer": (None,),
                   "kernel_constraint": (None,), "bias_constraint": (None,), "lora_rank": (None,),
                   "lora_alpha": (None,), "quantization_config": (None,)}

    def __init__(self, units: int, activation: str | ActivationFunction | None = None, use_bias: bool = True,
                 kernel_initializer: str | initializers.Initializer = "glorot_uniform",
                 bias_initializer: str | initializers.Initializer = "zeros", **base: Any) -> None:
        super().__init__(activation, **base)
        self.units = whole_number("Dense: units", units)
        self.use_bias = bool(use_bias)
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """See Layer."""
        return (self.units,)

    def build(self, input_shape: Shape) -> None:
        """Create kernel (D, K) and bias (K)."""
        super().build(input_shape)
        self.add_param("kernel", (input_shape[0], self.units), self.kernel_initializer)
        if self.use_bias:
            self.add_param("bias", (self.units,), self.bias_initializer)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the outputs (N, K) of ``x`` (N, D)."""
        x = self.check_input(x)
        z = kernels.dense(x, self.params["kernel"], self.params.get("bias"))    # (N, K)
        out = self.activate(z, out=z)
        self.keep(training, x=x, out=out)
        return out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx (N, D) from ``dout`` (N, K); assign the gradients of kernel and bias."""
        x, out = self.kept("x", "out")
        dz = self.activation_gradient(self.check_gradient(dout), out)           # (N, K)
        dx, dw, db = kernels.dense_backward(dz, x, self.params["kernel"], need_dx=self.needs_input_gradient)
        self.grads = {"kernel": dw, "bias": db} if self.use_bias else {"kernel": dw}
        return dx

    def config(self) -> dict[str, Any]:
        """See Layer."""
        return super().config() | {
            "units": self.units, "use_bias": self.use_bias,
            "kernel_initializer": initializers.name_of(self.kernel_initializer),
            "bias_initializer": initializers.name_of(self.bias_initializer)}
