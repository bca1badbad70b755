"""MaxPooling2D: of every small window only the largest value goes on."""

from __future__ import annotations

import numpy as np

from minicnn import kernels
from minicnn.layers.pooling2d import Pooling2D


class MaxPooling2D(Pooling2D):
    r"""Largest value in each window, channel by channel.

    .. math:: out_{nijc} = \max_{p,q}\; x_{n,\;i\,s_h+p-t,\;j\,s_w+q-l,\;c}

    The gradient goes to the pixel that won; among equals, to the first in row order. Padding never wins.
    Shapes: x (N, H, W, C), out (N, OH, OW, C). No parameters.

    Parameters
    ----------
    pool_size : int or (int, int)
        (PH, PW).
    strides : int or (int, int), optional
        Default: ``pool_size``. Smaller strides make windows overlap.
    padding : {"valid", "same"}
        Windows inside the image only, or ceil(H / s_h) of them.
    **base
        ``name``, ``dtype``, ``input_shape``, see Layer.

    References
    ----------
    Goodfellow, Bengio, Courville (2016), "Deep Learning", section 9.3.
    """

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the maxima (N, OH, OW, C) of ``x`` (N, H, W, C)."""
        x = self.check_input(x)
        out, winner = kernels.max_pool2d(x, self.pool_size, self.strides, self.padding_around(x.shape[1:3]))
        self.keep(training, x_shape=x.shape, winner=winner)     # winner (N, OH, OW, C): position in its window
        return out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx (N, H, W, C) from ``dout`` (N, OH, OW, C)."""
        x_shape, winner = self.kept("x_shape", "winner")
        self.grads = {}
        return kernels.max_pool2d_backward(self.check_gradient(dout), winner, x_shape, self.pool_size, self.strides,
                                           self.padding_around(x_shape[1:3]))
