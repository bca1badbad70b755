"""Initial weights, by Keras' names: a function takes a shape and a random generator and returns the numbers.

``"he_normal"``, ``he_normal``, ``"HeNormal"`` and ``HeNormal()`` are the same; what has settings is a class only.

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
from typing import Any, ClassVar

import numpy as np

from minicnn.arguments import by_name, real_number, whole_number
from minicnn.streams import generator

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
    return _cut_normal(shape, rng) * (math.sqrt(2 / fans(shape)[0]) / _TRUNCATED_DEVIATION)


def glorot_normal(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 2 / (fan_in + fan_out), values beyond two standard deviations drawn again."""
    return _cut_normal(shape, rng) * math.sqrt(2 / sum(fans(shape))) / _TRUNCATED_DEVIATION


def lecun_normal(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Normal with variance 1 / fan_in, values beyond two standard deviations drawn again."""
    return _cut_normal(shape, rng) * math.sqrt(1 / fans(shape)[0]) / _TRUNCATED_DEVIATION


def lecun_uniform(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Uniform in ±sqrt(3 / fan_in)."""
    limit = math.sqrt(3 / fans(shape)[0])
    return rng.uniform(-limit, limit, shape)


def zeros(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """All zeros."""
    return np.zeros(shape)


def ones(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """All ones."""
    return np.ones(shape)


def fans(shape: Shape) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a dense ``(D, K)`` or convolution ``(KH, KW, C, F)`` kernel."""
    if len(shape) < 2:
        size = math.prod(shape)
        return size, size
    receptive = math.prod(shape[:-2])
    return receptive * shape[-2], receptive * shape[-1]


def _cut_normal(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Standard normal, values beyond 2 drawn again."""
    z = rng.standard_normal(shape)
    while (outside := np.abs(z) > 2).any():
        z[outside] = rng.standard_normal(outside.sum())
    return z


class Drawn:
    """Base of initializers as classes.

    Parameters
    ----------
    seed : int, optional
        By default the numbers follow from the model's seed and are others for every weight. With a seed of its own an
        initializer gives the same ones to all weights of a shape.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = None if seed is None else whole_number(f"{type(self).__name__}: seed", seed, least=0)

    def __call__(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return the numbers."""
        return self.draw(shape, rng if self.seed is None else generator(self.seed, "initializer"))

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """Return the numbers, from this generator."""
        raise NotImplementedError


class RandomNormal(Drawn):
    """Normal with a mean and a standard deviation."""

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.mean = real_number(f"{type(self).__name__}: mean", mean, -math.inf)
        self.stddev = real_number(f"{type(self).__name__}: stddev", stddev)

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """See Drawn."""
        return self.mean + self.stddev * rng.standard_normal(shape)


class TruncatedNormal(RandomNormal):
    """Normal, values beyond two standard deviations drawn again."""

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """See Drawn."""
        return self.mean + self.stddev * _cut_normal(shape, rng)


class RandomUniform(Drawn):
    """Uniform between two numbers."""

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: int | None = None) -> None:
        super().__init__(seed)
        self.minval = real_number("RandomUniform: minval", minval, -math.inf)
        self.maxval = real_number("RandomUniform: maxval", maxval, self.minval)

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """See Drawn."""
        return rng.uniform(self.minval, self.maxval, shape)


class Constant(Drawn):
    """All the same number."""

    def __init__(self, value: float = 0.0) -> None:
        super().__init__()
        self.value = real_number("Constant: value", value, -math.inf)

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """See Drawn."""
        return np.full(shape, self.value)


class _OfPage(Drawn):
    """A function of this page as a class, whose file keeps the function's name."""

    function: ClassVar[Any]

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed)
        self.__name__ = type(self).function.__name__

    def draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        """See Drawn."""
        return type(self).function(shape, rng)


class GlorotNormal(_OfPage):
    """See ``glorot_normal``."""

    function = staticmethod(glorot_normal)


class GlorotUniform(_OfPage):
    """See ``glorot_uniform``."""

    function = staticmethod(glorot_uniform)


class HeNormal(_OfPage):
    """See ``he_normal``."""

    function = staticmethod(he_normal)


class HeUniform(_OfPage):
    """See ``he_uniform``."""

    function = staticmethod(he_uniform)


class LecunNormal(_OfPage):
    """See ``lecun_normal``."""

    function = staticmethod(lecun_normal)


class LecunUniform(_OfPage):
    """See ``lecun_uniform``."""

    function = staticmethod(lecun_uniform)


class Ones(_OfPage):
    """See ``ones``."""

    function = staticmethod(ones)


class Zeros(_OfPage):
    """See ``zeros``."""

    function = staticmethod(zeros)


INITIALIZERS: dict[str, Initializer] = {f.__name__: f for f in (
    glorot_normal, glorot_uniform, he_normal, he_uniform, lecun_normal, lecun_uniform, ones, zeros)}
# Keras' other spellings.
_CLASSES = (GlorotNormal, GlorotUniform, HeNormal, HeUniform, LecunNormal, LecunUniform, Ones, Zeros, Constant,
            RandomNormal, RandomUniform, TruncatedNormal)
_SPELLINGS: dict[str, Any] = {spelling.__name__: spelling for spelling in _CLASSES} | {
    "constant": Constant, "normal": RandomNormal, "one": Ones, "random_normal": RandomNormal,
    "random_uniform": RandomUniform, "truncated_normal": TruncatedNormal, "uniform": RandomUniform, "zero": Zeros}


def get(identifier: str | Initializer | type[Drawn]) -> Initializer:
    """Return the initializer of a name or class, or the function itself.

    Raises
    ------
    ArgumentError
        For an unknown name.
    """
    known: Any = _SPELLINGS.get(identifier, identifier) if isinstance(identifier, str) else identifier
    if isinstance(known, type) and issubclass(known, Drawn):
        return known()
    return known if callable(known) else by_name("initializer", known, INITIALIZERS)


def name_of(initializer: Initializer) -> str:
    """Return the name a configuration stores; a function of one's own is stored by its bare name, never imported."""
    return getattr(initializer, "__name__", type(initializer).__name__)
