"""BatchNormalization: each channel is shifted and scaled to mean 0 and variance 1 over the batch."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn import kernels
from minicnn.arguments import real_number
from minicnn.errors import ArgumentError
from minicnn.layers.base import Layer, Shape


class BatchNormalization(Layer):
    r"""Normalise each channel over the batch, then scale by gamma and shift by beta.

    .. math:: \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \qquad out = \gamma \hat x + \beta

    In training µ and σ² (biased) are those of the batch, over all axes but the last, and the moving averages follow:
    ``moving = momentum * moving + (1 - momentum) * batch``. Otherwise µ and σ² are the moving averages. With M values
    a channel, backward in training is

    .. math:: dx = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}}
              \left(dout - \frac{1}{M}\sum dout - \frac{\hat x}{M} \sum dout\,\hat x\right)

    Shapes: x (N, C) or (N, H, W, C), gamma, beta, moving_mean and moving_variance (C).

    Parameters
    ----------
    axis : int
        Only -1, the channels.
    momentum : float
        Weight of the past in the moving averages, in [0, 1).
    epsilon : float
        Added to the variance.
    **base
        ``name``, ``dtype``, ``input_shape``, ``trainable``, see Layer. With ``trainable=False`` the moving averages
        are used in training too, as in Keras.

    References
    ----------
    Ioffe and Szegedy (2015), "Batch normalization", algorithms 1 and 2.
    """

    unsupported = {"center": (True,), "scale": (True,), "beta_initializer": ("zeros",), "gamma_initializer": ("ones",),
                   "moving_mean_initializer": ("zeros",), "moving_variance_initializer": ("ones",),
                   "beta_regularizer": (None,), "gamma_regularizer": (None,), "beta_constraint": (None,),
                   "gamma_constraint": (None,), "synchronized": (False,), "renorm": (False,),
                   "renorm_clipping": (None,), "renorm_momentum": (0.99,)}

    def __init__(self, axis: int = -1, momentum: float = 0.99, epsilon: float = 1e-3, **base: Any) -> None:
        super().__init__(**base)
        if axis not in (-1, 3):
            raise ArgumentError(f"BatchNormalization got axis={axis!r}; expected -1: images are channels-last here.")
        self.momentum = real_number("BatchNormalization: momentum", momentum, 0, below=1)
        self.epsilon = real_number("BatchNormalization: epsilon", epsilon, 1e-12)

    def build(self, input_shape: Shape) -> None:
        """Create gamma, beta and the moving averages, all (C)."""
        super().build(input_shape)
        channels = (input_shape[-1],)
        self.add_param("gamma", channels, "ones")
        self.add_param("beta", channels, "zeros")
        self.add_state("moving_mean", channels, "zeros")
        self.add_state("moving_variance", channels, "ones")

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the normalised ``x`` (N, ..., C); when training, update the moving averages."""
        x = self.check_input(x)
        gamma, beta = self.params["gamma"], self.params["beta"]
        if training and self.trainable:
            out, mean, variance = kernels.batch_norm(x, gamma, beta, self.epsilon)
            self.statistics((mean, variance), training)
        else:
            mean, variance = self.statistics(None, training)
            out = kernels.batch_norm_inference(x, gamma, beta, mean, variance, self.epsilon)
        self.keep(training, x=x, mean=mean, variance=variance)
        return out

    def statistics(self, batch: tuple[np.ndarray, np.ndarray] | None, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean and variance (C) to normalize with: the batch's when training, which move the averages."""
        if not (training and self.trainable):
            return self.state["moving_mean"], self.state["moving_variance"]
        assert batch is not None
        self._move("moving_mean", batch[0])
        self._move("moving_variance", batch[1])
        return batch

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Return dx, of the shape of ``dout``; assign the gradients of gamma and beta."""
        x, mean, variance = self.kept("x", "mean", "variance")
        gradient = kernels.batch_norm_backward if self.trainable else kernels.batch_norm_inference_backward
        dx, dgamma, dbeta = gradient(self.check_gradient(dout), x, self.params["gamma"], mean, variance, self.epsilon)
        self.grads = {"gamma": dgamma, "beta": dbeta}
        return dx

    def config(self) -> dict[str, Any]:
        """See Layer."""
        return super().config() | {"momentum": self.momentum, "epsilon": self.epsilon}

    def _move(self, key: str, batch: np.ndarray) -> None:
        """Move an average towards the batch's value, computed in float64 and stored in the layer's dtype."""
        moved = self.momentum * self.state[key].astype(np.float64) + (1 - self.momentum) * batch
        self.state[key] = moved.astype(self.dtype)
