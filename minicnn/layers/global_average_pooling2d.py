"""GlobalAveragePooling2D: of every feature map only the mean goes on."""

from __future__ import annotations

import numpy as np

from minicnn import kernels
from minicnn.layers.base import Layer, Shape


class GlobalAveragePooling2D(Layer):
    r"""Mean of each channel over the whole image: average pooling with one window.

    .. math:: out_{nc} = \frac{1}{HW} \sum_{i,j} x_{nijc}

    Each pixel gets an equal share of the gradient. Shapes: x (N, H, W, C), out (N, C). No parameters.

    Parameters
    ----------
    **base
        ``name``, ``dtype``, ``input_shape``, see Layer.

    References
    ----------
    Lin, Chen, Yan (2014), "Network in network", section 3.2.
    """

    input_rank = 3
    unsupported = {"data_format": (None, "channels_last"), "keepdims": (False,)}

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """See Layer."""
        return input_shape[2:]                                  # (C,)

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the means (N, C) of ``x`` (N, H, W, C)."""
        x = self.check_input(x)
        N, H, W, C = x.shape
        self.keep(training, x_shape=x.shape)
        return kernels.avg_pool2d(x, (H, W), (H, W), (0, 0, 0, 0)).reshape(N, C)

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx (N, H, W, C) from ``dout`` (N, C)."""
        N, H, W, C = x_shape = self.kept("x_shape")
        self.grads = {}
        dout = self.check_gradient(dout).reshape(N, 1, 1, C)
        return kernels.avg_pool2d_backward(dout, x_shape, (H, W), (H, W), (0, 0, 0, 0))
