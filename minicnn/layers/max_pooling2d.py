"""MaxPooling2D: of every small window only the largest value goes on."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.arguments import padding_name, pair
from minicnn.errors import ShapeError
from minicnn.kernels.geometry import Padding, output_size, window_padding
from minicnn.layers.base import Layer, Shape


class MaxPooling2D(Layer):
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

    input_rank = 3
    unsupported = {"data_format": (None, "channels_last")}

    def __init__(self, pool_size: int | tuple[int, int] = (2, 2), strides: int | tuple[int, int] | None = None,
                 padding: str = "valid", **base: Any) -> None:
        super().__init__(**base)
        self.pool_size = pair("MaxPooling2D: pool_size", pool_size)
        self.strides = self.pool_size if strides is None else pair("MaxPooling2D: strides", strides)
        self.padding = padding_name("MaxPooling2D: padding", padding)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """See Layer."""
        H, W, C = input_shape
        OH, OW = output_size((H, W), self.pool_size, self.strides, self._padding_around((H, W)))
        if OH < 1 or OW < 1:
            raise ShapeError(f"{self} got images of {H}x{W} for a pool of {self.pool_size[0]}x{self.pool_size[1]}; "
                             f"the pool must fit into the image. Use padding='same' or fewer pooling layers.")
        return OH, OW, C

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the maxima (N, OH, OW, C) of ``x`` (N, H, W, C)."""
        x = self.check_input(x)
        out, winner = kernels.max_pool2d(x, self.pool_size, self.strides, self._padding_around(x.shape[1:3]))
        self.keep(training, x_shape=x.shape, winner=winner)     # winner (N, OH, OW, C): position in its window
        return out

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx (N, H, W, C) from ``dout`` (N, OH, OW, C)."""
        x_shape, winner = self.kept("x_shape", "winner")
        self.grads = {}
        return kernels.max_pool2d_backward(self.check_gradient(dout), winner, x_shape, self.pool_size, self.strides,
                                           self._padding_around(x_shape[1:3]))

    def config(self) -> dict[str, Any]:
        """See Layer."""
        return super().config() | {"pool_size": list(self.pool_size), "strides": list(self.strides),
                                   "padding": self.padding}

    def _padding_around(self, size: tuple[int, int]) -> Padding:
        return window_padding(size, self.pool_size, self.strides, self.padding)
