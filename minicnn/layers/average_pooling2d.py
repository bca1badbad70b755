"""AveragePooling2D: of every small window only the mean goes on."""

from __future__ import annotations

import numpy as np

from minicnn import kernels
from minicnn.layers.pooling2d import Pooling2D


class AveragePooling2D(Pooling2D):
    r"""Mean of each window, channel by channel.

    .. math:: out_{nijc} = \frac{1}{|P_{ij}|} \sum_{(p,q) \in P_{ij}} x_{n,\;i\,s_h+p-t,\;j\,s_w+q-l,\;c}

    where :math:`P_{ij}` are the entries of the window inside the image: padding does not count. Each pixel gets an
    equal share of the gradient. Shapes: x (N, H, W, C), out (N, OH, OW, C). No parameters.

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
    LeCun et al. (1998), "Gradient-based learning applied to document recognition", section II.B (subsampling).
    """

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the means (N, OH, OW, C) of ``x`` (N, H, W, C)."""
        x = self.check_input(x)
        self.keep(training, x_shape=x.shape)
        return kernels.avg_pool2d(x, self.pool_size, self.strides, self.padding_around(x.shape[1:3]))

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx (N, H, W, C) from ``dout`` (N, OH, OW, C)."""
        x_shape = self.kept("x_shape")
        self.grads = {}
        return kernels.avg_pool2d_backward(self.check_gradient(dout), x_shape, self.pool_size, self.strides,
                                           self.padding_around(x_shape[1:3]))
