"""Initial weights, by Keras' names: a function takes a shape and a random generator and returns the numbers.

``fan_in`` is the number of inputs one output sums over, ``fan_out`` the reverse; for a convolution kernel
``(KH, KW, C, F)`` they are ``KH*KW*C`` and ``KH*KW*F``.

References
----------
Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks", eq. 16.
He et al. (2015), "Delving deep into rectifiers", eq. 10.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minicnn.arguments import by_name

Shape = tuple[int, ...]
Initializer = Callable[[Shape, np.random.Generator], np.ndarray]

# The standard deviation of a normal distribution cut off at two standard deviations, as Keras corrects for it.
_TRUNCATED_DEVIATION = 0.87962566103423978


def glorot_uniform(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Uniform in ±sqrt(6 / (fan_in + fan_out)): keeps the variance about equal in both directions."""
    fan_in, fan_out = fans(shape)
    limit = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape)


def he_uniform(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Uniform in ±sqrt(6 / fan_in): keeps the variance through ReLU layers."""
    limit = math.sqrt(6 / fans(shape)[0])
    return rng.uniform(-limit, limit, shape)


def he_normal(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 2 / fan_in, values beyond two standard deviations drawn again."""
    z = rng.standard_normal(shape)
    while (outside := np.abs(z) > 2).any():
        z[outside] = rng.standard_normal(outside.sum())
    return z * (math.sqrt(2 / fans(shape)[0]) / _TRUNCATED_DEVIATION)


def zeros(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """All zeros."""
    return np.zeros(shape)


def ones(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """All ones."""
    return np.ones(shape)


INITIALIZERS: dict[str, Initializer] = {f.__name__: f for f in (glorot_uniform, he_normal, he_uniform, ones, zeros)}


def fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a dense ``(D, K)`` or convolution ``(KH, KW, C, F)`` kernel."""
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    receptive = math.prod(shape[:-2])
    return receptive * shape[-2], receptive * shape[-1]


def get(identifier: str | Initializer) -> Initializer:
    """Return the initializer of a name, or the function itself.

    Raises
    ------
    ArgumentError
        For an unknown name.
    """
    if callable(identifier):
        return identifier
    return by_name("initializer", identifier, INITIALIZERS)


def name_of(initializer: Initializer) -> str:
    """Return the name a configuration stores; a function of one's own is stored by its bare name, never imported."""
    return getattr(initializer, "__name__", type(initializer).__name__)
