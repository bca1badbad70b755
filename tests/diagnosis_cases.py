"""Layers with a mistake in their backward pass, each with the kind of fault that a diagnosis ought to name.

A mistake is a function of the layer, the upstream gradient and the right dx; it may change ``layer.grads`` and returns
dx. Whatever a mistake computes anew, it computes by the loops below, which share nothing with the diagnosis.

``draw`` makes the layer. The shapes and seeds that the hypotheses were written with (``DEVELOPMENT``: small images,
kernels and pools of 2x3 and 3x2) and those they are judged on (``HELD_OUT``: other seeds, larger images, kernels and
pools that do not occur there) have no size of kernel, pool or batch in common.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minicnn.layers import Conv2D, Dense, Layer, MaxPooling2D

Mistake = Callable[[Any, np.ndarray, np.ndarray], Any]


class Sizes(NamedTuple):
    """What shapes are drawn from."""

    images: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    channels: tuple[int, ...]
    windows: tuple[tuple[int, int], ...]
    squares: tuple[int, ...]
    features: tuple[int, ...]


DEVELOPMENT = Sizes((3, 4), (5, 6), (6, 7), (2, 3), ((2, 3), (3, 2)), (2, 3), (4, 5))
HELD_OUT = Sizes((5, 6), (7, 8, 9), (8, 9, 10), (2, 3, 4), ((3, 4), (4, 3), (2, 4), (4, 2)), (4,), (6, 7, 8))


class Case(NamedTuple):
    """A mistake, the tensor it spoils, the kinds of fault that name it, and how its layer is made."""

    name: str
    what: str
    kinds: tuple[str, ...]
    make: Callable[[np.random.Generator, Sizes, type], tuple[Layer, tuple[int, ...]]]
    mistake: Mistake
    base: type


CASES: list[Case] = []


def case(base: type, make: Callable[..., Any], what: str, *kinds: str) -> Callable[[Mistake], Mistake]:
    """Add the mistake below to ``CASES``."""
    def add(mistake: Mistake) -> Mistake:
        name = f"{base.__name__}: {mistake.__name__.replace('_', ' ')}"
        assert name not in {other.name for other in CASES}, name
        CASES.append(Case(name, what, kinds, make, mistake, base))
        return mistake

    return add


def draw(case: Case, sizes: Sizes, seed: int) -> tuple[Layer, tuple[int, ...], int]:
    """Return the wrong layer, the shape of one input, and a batch size."""
    rng = np.random.default_rng([seed, len(case.name), sum(map(ord, case.name))])
    layer, shape = case.make(rng, sizes, wrong(case.base, case.mistake))
    return layer, shape, int(rng.choice(sizes.images))


def wrong(base: type, mistake: Mistake) -> type:
    """Return a layer class whose backward makes a mistake."""
    class Wrong(base):
        def backward(self, dout: np.ndarray) -> Any:
            return mistake(self, dout, super().backward(dout))

    return Wrong


# --- how layers are made -----------------------------------------------------------------------------------------

def image(rng: np.random.Generator, sizes: Sizes) -> tuple[int, int, int]:
    return int(rng.choice(sizes.rows)), int(rng.choice(sizes.columns)), int(rng.choice(sizes.channels))


def conv(padding: str = "valid", strides: Any = (1, 1), activation: Any = None, square: bool = False,
         as_many: bool = False) -> Callable[..., Any]:
    """Return a maker of convolutions; ``square``: of the kernel, ``as_many``: filters as channels."""
    def make(rng: np.random.Generator, sizes: Sizes, base: type) -> Any:
        shape = image(rng, sizes)
        window = (int(rng.choice(sizes.squares)),) * 2 if square else sizes.windows[rng.integers(len(sizes.windows))]
        filters = shape[2] if as_many else int(rng.choice(sizes.channels)) + 1
        return base(filters, tuple(window), strides=strides, padding=padding, activation=activation), shape

    return make


def pool(strides: Any = None, padding: str = "valid") -> Callable[..., Any]:
    def make(rng: np.random.Generator, sizes: Sizes, base: type) -> Any:
        window = sizes.windows[rng.integers(len(sizes.windows))]
        return base(window, strides=strides, padding=padding), image(rng, sizes)

    return make


def dense(activation: Any = None, square: bool = False) -> Callable[..., Any]:
    def make(rng: np.random.Generator, sizes: Sizes, base: type) -> Any:
        features = int(rng.choice(sizes.features))
        return base(features if square else features + 1, activation=activation), (features,)

    return make


def on_images(*arguments: Any) -> Callable[..., Any]:
    """Return a maker of layers that take images of any size."""
    def make(rng: np.random.Generator, sizes: Sizes, base: type) -> Any:
        return base(*arguments), image(rng, sizes)

    return make


def on_features(*arguments: Any) -> Callable[..., Any]:
    """Return a maker of layers that take vectors."""
    def make(rng: np.random.Generator, sizes: Sizes, base: type) -> Any:
        return base(*arguments), (int(rng.choice(sizes.features)),)

    return make


def batch_norm(images: bool = True) -> Callable[..., Any]:
    """Return a maker of batch normalizations, gamma drawn, further from 1 than the check itself moves it."""
    def make(rng: np.random.Generator, sizes: Sizes, base: type) -> Any:
        layer, shape = base(), image(rng, sizes) if images else (int(rng.choice(sizes.features)),)
        layer.build(shape)
        layer.params["gamma"] = rng.uniform(0.5, 2, shape[-1]).astype(np.float32)
        return layer, shape

    return make


# --- loops -------------------------------------------------------------------------------------------------------

def padding_of(layer: Any) -> tuple[int, int]:
    """Return how many rows and columns of zeros are before the image."""
    if layer.padding == "valid":
        return 0, 0
    window = layer.kernel_size if isinstance(layer, Conv2D) else layer.pool_size
    total = [max((-(-size // stride) - 1) * stride + length - size, 0)
             for size, length, stride in zip(layer.input_shape, window, layer.strides)]
    return total[0] // 2, total[1] // 2


def places(layer: Any, stride: Any = None, before: Any = None, wrap: bool = False,
           skip: Callable[[int, int, int, int], bool] | None = None) -> Any:
    """Yield (i, j, p, q, r, s): entry (p, q) of window (i, j) lies on pixel (r, s), inside the image."""
    (H, W, _), (OH, OW, _) = layer.input_shape, layer.output_shape
    window = layer.kernel_size if isinstance(layer, Conv2D) else layer.pool_size
    stride, before = stride or layer.strides, padding_of(layer) if before is None else before
    for i, j, p, q in np.ndindex(OH, OW, *window):
        r, s = i * stride[0] + p - before[0], j * stride[1] + q - before[1]
        r, s = (r % H, s % W) if wrap else (r, s)
        if 0 <= r < H and 0 <= s < W and not (skip and skip(i, j, p, q)):
            yield i, j, p, q, r, s


def conv_dx(layer: Any, dz: np.ndarray, w: np.ndarray | None = None, **how: Any) -> np.ndarray:
    dx = np.zeros((len(dz), *layer.input_shape))
    w = layer.params["kernel"] if w is None else w
    for i, j, p, q, r, s in places(layer, **how):
        dx[:, r, s] += dz[:, i, j] @ w[p, q].T
    return dx


def conv_dw(layer: Any, dz: np.ndarray, x: np.ndarray | None = None, **how: Any) -> np.ndarray:
    dw = np.zeros(layer.params["kernel"].shape)
    x = layer.kept("x") if x is None else x
    for i, j, p, q, r, s in places(layer, **how):
        dw[p, q] += x[:, r, s].T @ dz[:, i, j]
    return dw


def pool_dx(layer: Any, dout: np.ndarray, chosen: Callable[[int, int], Any], assign: bool = False,
            **how: Any) -> np.ndarray:
    """``chosen(p, q)`` (N, OH, OW, C) says which windows send their gradient to their entry (p, q)."""
    dx = np.zeros((len(dout), *layer.input_shape))
    for i, j, p, q, r, s in places(layer, **how):
        sent = np.where(chosen(p, q)[:, i, j], dout[:, i, j], 0)
        dx[:, r, s] = np.where(sent != 0, sent, dx[:, r, s]) if assign else dx[:, r, s] + sent
    return dx


def won(layer: Any, p: int, q: int) -> np.ndarray:
    assert isinstance(layer, MaxPooling2D)
    return layer.kept("winner") == p * layer.pool_size[1] + q


def dz_of(layer: Any, dout: np.ndarray) -> np.ndarray:
    """Return the gradient of what goes into the activation."""
    return layer.activation_gradient(dout, layer.kept("out"))


def scaled(layer: Any, key: str, factor: float) -> None:
    layer.grads[key] = layer.grads[key] * factor


def dense_with(layer: Any, dz: np.ndarray) -> np.ndarray:
    """Assign a Dense layer's gradients for another dz; return dx."""
    assert isinstance(layer, Dense)
    layer.grads = {"kernel": layer.kept("x").T @ dz, "bias": dz.sum(axis=0)}
    return dz @ layer.params["kernel"].T
