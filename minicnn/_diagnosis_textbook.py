"""The layers' gradients straight from the formulas, as sums over every index: slow, short, and open to "what if".

They share no code with the kernels: a diagnosis must not repeat the mistake it looks for. A window is described by
its *taps*: R[i, p, r] = 1 if entry p of window i lies on pixel r, for rows, and Q[j, q, s] for columns. Then a
convolution, with Dense as the one of a 1x1 image, and max-pooling are

    out[n,i,j,f] = sum over p, q, c, r, s of R[i,p,r] Q[j,q,s] x[n,r,s,c] w[p,q,c,f]
    out[n,i,j,c] = x[n,r,s,c] with R[i,p,r] = Q[j,q,s] = 1 for the winner p, q

and every gradient is such a sum with another letter left over. Zeros around the image are taps that lie on nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from minicnn.kernels.geometry import window_padding
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten, MaxPooling2D
from minicnn.layers.base import Layer

WORK_LIMIT = 3e7    # multiplications in one gradient: above it there is no textbook, and no "what if" either
PAIRWISE = ("greedy", WORK_LIMIT)    # one product of two arrays after the other

Pair = tuple[int, int]


def taps(size: int, count: int, window: int, stride: int, before: int) -> np.ndarray:
    """Return R (count, window, size): 1 where entry p of window i lies on a pixel, i * stride + p - before."""
    i, p, r = np.ogrid[:count, :window, :size]
    return (i * stride + p - before == r).astype(np.float64)


@dataclass(frozen=True)
class Geometry:
    """How windows lie on an image.

    Attributes
    ----------
    size, count, window, stride : (rows, columns)
        Of the image, of the output, of the window, and from one window to the next.
    padding : (top, bottom, left, right)
    """

    size: Pair
    count: Pair
    window: Pair
    stride: Pair
    padding: tuple[int, int, int, int]

    @classmethod
    def of(cls, layer: Layer, x: np.ndarray, out: np.ndarray) -> Geometry:
        """Read it off a layer."""
        size, count = (x.shape[1], x.shape[2]), (out.shape[1], out.shape[2])
        if isinstance(layer, Conv2D):
            window, stride, padding = layer.kernel_size, layer.strides, layer.padding
        elif isinstance(layer, MaxPooling2D):
            window, stride, padding = layer.pool_size, layer.strides, layer.padding
        return cls(size, count, window, stride, window_padding(size, window, stride, padding))

    def taps(self) -> tuple[np.ndarray, np.ndarray]:
        """Return R (OH, KH, H) and Q (OW, KW, W)."""
        (H, W), (OH, OW), (KH, KW), (SH, SW) = self.size, self.count, self.window, self.stride
        return taps(H, OH, KH, SH, self.padding[0]), taps(W, OW, KW, SW, self.padding[2])

    @property
    def overlapping(self) -> bool:
        """Whether a pixel can lie under several windows."""
        return self.window[0] > self.stride[0] or self.window[1] > self.stride[1]


@dataclass(frozen=True)
class Linear:
    """Conv2D, or Dense with images of one pixel.

    Attributes
    ----------
    x : (N, H, W, C), w : (KH, KW, C, F), dz : (N, OH, OW, F)
        dz is the gradient of what goes into the activation.
    R, Q : taps
    """

    x: np.ndarray
    w: np.ndarray
    dz: np.ndarray
    R: np.ndarray
    Q: np.ndarray

    @classmethod
    def of(cls, layer: Layer, x: np.ndarray, dz: np.ndarray) -> Linear:
        """Read it off a layer, its input, and dz."""
        w = layer.params["kernel"]
        if isinstance(layer, Dense):
            one = np.ones((1, 1, 1))
            return cls(x[:, None, None], w[None, None], dz[:, None, None], one, one)
        return cls(x, w, dz, *Geometry.of(layer, x, dz).taps())

    @property
    def work(self) -> float:
        """Multiplications in one gradient."""
        return float(math.prod(self.dz.shape)) * math.prod(self.w.shape[:3])

    def gradient(self, what: str, kept: str = "") -> np.ndarray:
        """Return dx, dw or db (``what``: input, kernel or bias), with one letter of the sum left as a first axis."""
        if what == "bias":
            return np.einsum(f"nijf->{kept}f", self.dz)
        if what == "kernel":
            return np.einsum(f"ipr,jqs,nrsc,nijf->{kept}pqcf", self.R, self.Q, self.x, self.dz, optimize=PAIRWISE)
        return np.einsum(f"ipr,jqs,pqcf,nijf->{kept}nrsc", self.R, self.Q, self.w, self.dz, optimize=PAIRWISE)


@dataclass(frozen=True)
class Pool:
    """MaxPooling2D: ``chosen`` (N, OH, OW, PH, PW, C) is the part of each gradient that an entry of the window gets."""

    chosen: np.ndarray
    dout: np.ndarray
    R: np.ndarray
    Q: np.ndarray

    @classmethod
    def of(cls, layer: Layer, x: np.ndarray, dout: np.ndarray) -> Pool:
        """Read it off a layer, its input, and the upstream gradient."""
        R, Q = Geometry.of(layer, x, dout).taps()
        return cls(winners(windows(x, R, Q)), dout, R, Q)

    def gradient(self, kept: str = "") -> np.ndarray:
        """Return dx, with letters of the sum left as first axes."""
        return np.einsum(f"ipr,jqs,nijpqc,nijc->{kept}nrsc", self.R, self.Q, self.chosen, self.dout, optimize=PAIRWISE)


def windows(x: np.ndarray, R: np.ndarray, Q: np.ndarray) -> np.ndarray:
    """Return the pixels under every window, (N, OH, OW, PH, PW, C); -inf in the padding."""
    inside = np.einsum("ipr,jqs->ijpq", R, Q)[None, ..., None]
    return np.where(inside > 0, np.einsum("ipr,jqs,nrsc->nijpqc", R, Q, x, optimize=PAIRWISE), -np.inf)


def winners(values: np.ndarray, transposed: bool = False) -> np.ndarray:
    """Return 1 at the first maximum of each window; ``transposed`` reads the winner's number column by column."""
    N, OH, OW, PH, PW, C = values.shape
    flat = values.reshape(N, OH, OW, PH * PW, C).argmax(axis=3)                  # (N, OH, OW, C)
    p, q = (flat % PH, flat // PH) if transposed else (flat // PW, flat % PW)
    rows = np.arange(PH)[:, None, None] == p[:, :, :, None, None]
    columns = np.arange(PW)[:, None] == q[:, :, :, None, None]
    return (rows & columns).astype(np.float64)


def derivative(name: str, dout: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Return the gradient of an activation's argument from that of its output."""
    if name == "relu":
        return np.where(out > 0, dout, 0.0)
    if name == "sigmoid":
        return dout * out * (1 - out)
    if name == "tanh":
        return dout * (1 - out**2)
    if name == "softmax":
        return out * (dout - np.sum(dout * out, axis=-1, keepdims=True))
    return dout


@dataclass(frozen=True)
class Normalization:
    """BatchNormalization: what its gradients are made of.

    Attributes
    ----------
    x_hat : (..., C)
    inverse, gamma : (C)
        1 / deviation, and the scale.
    """

    x: np.ndarray
    dout: np.ndarray
    gamma: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float
    uses_batch: bool

    @classmethod
    def of(cls, layer: BatchNormalization, x: np.ndarray, dout: np.ndarray) -> Normalization:
        """Read it off a layer, its input, and the upstream gradient."""
        axes = tuple(range(x.ndim - 1))
        mean, variance = ((x.mean(axis=axes), x.var(axis=axes)) if layer.trainable
                          else (layer.state["moving_mean"], layer.state["moving_variance"]))
        return cls(x, dout, layer.params["gamma"], mean, variance, layer.epsilon, layer.trainable)

    @property
    def axes(self) -> tuple[int, ...]:
        """All axes but the channels."""
        return tuple(range(self.x.ndim - 1))

    @property
    def M(self) -> int:
        """Values in a channel."""
        return self.x.size // self.x.shape[-1]

    @property
    def inverse(self) -> np.ndarray:
        """1 / deviation (C)."""
        return 1 / np.sqrt(self.variance + self.epsilon)

    @property
    def x_hat(self) -> np.ndarray:
        """The normalised input (..., C)."""
        return (self.x - self.mean) * self.inverse

    def terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the three terms of dx: through x itself, through the mean, through the variance."""
        factor, x_hat = self.gamma * self.inverse, self.x_hat
        through_mean = factor * self.dout.mean(axis=self.axes) * np.ones_like(self.x)
        through_variance = factor * x_hat * (self.dout * x_hat).mean(axis=self.axes)
        return factor * self.dout, through_mean, through_variance

    def gradient(self, what: str) -> np.ndarray:
        """Return dx, dgamma or dbeta."""
        if what == "gamma":
            return (self.dout * self.x_hat).sum(axis=self.axes)
        if what == "beta":
            return self.dout.sum(axis=self.axes)
        direct, through_mean, through_variance = self.terms()
        return direct - through_mean - through_variance if self.uses_batch else direct


# The tensors whose gradients have a formula here.
TENSORS: dict[type[Layer], tuple[str, ...]] = {
    Conv2D: ("input", "kernel", "bias"), Dense: ("input", "kernel", "bias"),
    BatchNormalization: ("input", "gamma", "beta"),
    MaxPooling2D: ("input",), Activation: ("input",), Flatten: ("input",)}


def textbook_gradient(layer: Layer | None, what: str, x: np.ndarray | None, upstream: np.ndarray | None,
                      out: np.ndarray | None) -> np.ndarray | None:
    """Return the gradient of a layer's tensor by the formula.

    None for layers that have none here or are too large, and where a subclass has a parameter or an output of its own.
    """
    base = next((base for base in TENSORS if isinstance(layer, base)), None)
    if (layer is None or x is None or upstream is None or out is None or base is None or what not in TENSORS[base]
            or not upstream.shape == out.shape == (len(x), *base.compute_output_shape(layer, x.shape[1:]))):
        return None
    gradient = _by_formula(layer, what, x, upstream, out)
    if gradient is None:
        return None
    return gradient.reshape(x.shape if what == "input" else layer.params[what].shape)     # Dense: (N, 1, 1, D)


def _by_formula(layer: Layer, what: str, x: np.ndarray, upstream: np.ndarray, out: np.ndarray) -> np.ndarray | None:
    if isinstance(layer, (Conv2D, Dense)):
        linear = Linear.of(layer, x, derivative(layer.activation.name, upstream, out))
        return linear.gradient(what) if linear.work <= WORK_LIMIT else None
    if isinstance(layer, BatchNormalization):
        return Normalization.of(layer, x, upstream).gradient(what)
    if isinstance(layer, MaxPooling2D):
        return Pool.of(layer, x, upstream).gradient() if x.size * math.prod(layer.pool_size) <= WORK_LIMIT else None
    if isinstance(layer, Activation):
        return derivative(layer.activation.name, upstream, out)
    return upstream     # Flatten
