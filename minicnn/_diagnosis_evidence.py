"""What a diagnosis may look at, and how well an explanation fits; see ``minicnn/diagnosis.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from minicnn._diagnosis_textbook import textbook_gradient
from minicnn.layers.base import Layer

ACCEPTED = 0.9          # an explanation is worth a word if it accounts for this part of the wrong entries
AGREEMENT = 0.95        # part of the compared entries in which the textbook's gradient must equal the numeric one
SAME = 1e-4             # numbers count as equal if they differ by less than this part of the largest error
# How an explanation predicts: every number, from nothing; with a few fitted numbers; only where the errors are.
EXACT, FITTED, LOCATED = 0, 1, 2

AXES = {("input", 4): ("image", "row", "column", "channel"), ("input", 2): ("image", "feature"),
        ("predictions", 2): ("image", "class"),
        ("kernel", 4): ("kernel row", "kernel column", "input channel", "output channel"),
        ("kernel", 2): ("input", "output")}


@dataclass(frozen=True)
class Explanation:
    """One thing that a wrong gradient looks like.

    Attributes
    ----------
    kind : str
        A key of ``minicnn.diagnosis.KINDS``.
    words : str
        What is the case, and a question to put to the code.
    score : float
        Part of the wrong entries it accounts for, less the right ones that it would spoil; 1 is best.
    rank : int
        EXACT, FITTED or LOCATED: of two that fit equally well the one that predicts more is better.
    """

    kind: str
    words: str
    score: float = 1.0
    rank: int = EXACT


@dataclass
class Evidence:
    """All that a hypothesis may look at: two gradients of one tensor, and the layer.

    Attributes
    ----------
    what : str
        ``"input"`` or the parameter's name.
    analytic : Any
        What ``backward`` gave: an array, unless it is not even that.
    numeric : numpy.ndarray
        Central differences; NaN where nothing was compared.
    limit : float
        Largest error that is no error, relative to the largest number in ``numeric``.
    layer : Layer or None
        Its class, settings and parameters. None: a function that is no layer, or a whole model.
    x, upstream, out : numpy.ndarray or None
        Input, upstream gradient and output of the layer when the gradients were taken.
    others : mapping of str to ndarray
        Numeric gradients of the layer's other tensors.
    calls : tuple
        What three equal calls of ``backward`` gave: one in a fresh layer, two in one that had seen another batch.
    targets : numpy.ndarray or None
        Of a loss (N, K), whose ``x`` are then the predictions, ``out`` the probabilities, ``upstream`` the weights (N).
    logits : bool
        Whether the predictions of a loss are logits.
    """

    what: str
    analytic: Any
    numeric: np.ndarray
    limit: float = 1e-8
    layer: Layer | None = None
    x: np.ndarray | None = None
    upstream: np.ndarray | None = None
    out: np.ndarray | None = None
    others: Mapping[str, np.ndarray] = field(default_factory=dict)
    calls: tuple[Any, ...] = ()
    targets: np.ndarray | None = None
    logits: bool = False

    @cached_property
    def compared(self) -> np.ndarray:
        """Where there is a numeric gradient."""
        return np.isfinite(self.numeric)

    @cached_property
    def textbook(self) -> np.ndarray | None:
        """The layer's gradient by the formula, if the formula agrees with the numeric gradient (or nothing else is)."""
        gradient = textbook_gradient(self.layer, self.what, self.x, self.upstream, self.out)
        if gradient is None or gradient.shape != self.numeric.shape:
            return None
        scale = np.max(np.abs(gradient), initial=0.0)
        near = np.abs(gradient - self.numeric)[self.compared] <= max(10 * self.limit, 1e-6) * scale
        return gradient if near.size == 0 or near.mean() >= AGREEMENT else None

    @cached_property
    def truth(self) -> np.ndarray:
        """The numeric gradient, completed by the textbook's where that agrees with it."""
        return self.numeric if self.textbook is None else self.textbook

    @cached_property
    def known(self) -> np.ndarray:
        """Where ``truth`` is known."""
        return np.isfinite(self.truth)

    @cached_property
    def scale(self) -> float:
        """The largest true entry."""
        return float(np.max(np.abs(self.truth[self.known]), initial=0.0))

    @cached_property
    def tolerance(self) -> float:
        """Numbers that differ by less count as equal."""
        off = np.max(np.abs(self.analytic - self.truth)[self.known], initial=0.0)
        return float(max(self.limit * self.scale, SAME * off, np.finfo(float).tiny))

    @cached_property
    def wrong(self) -> np.ndarray:
        """Where the analytic gradient differs from the truth."""
        return self.known & ~(np.abs(self.analytic - np.where(self.known, self.truth, 0)) <= self.tolerance)

    @property
    def comparable(self) -> bool:
        """Whether the two gradients have one shape and numbers."""
        return (isinstance(self.analytic, np.ndarray) and self.analytic.shape == self.numeric.shape
                and bool(np.isfinite(self.analytic).all()) and bool(self.known.any()))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the tensor's axes."""
        ndim = self.numeric.ndim
        if (self.what, ndim) in AXES:
            return AXES[self.what, ndim]
        return ("channel",) if ndim == 1 else tuple(f"axis-{axis} entry" for axis in range(ndim))

    def factor(self, value: float, digits: int = 4) -> str:
        """Word a factor, with enough digits to tell it from 1 if the check does."""
        while abs(float(f"{value:.{digits}g}")) == 1 and abs(abs(value) - 1) > self.limit and digits < 17:
            digits += 1
        return f"{value:.{digits}g}"

    def score(self, predicted: np.ndarray, observed: np.ndarray | None = None, where: Any = True) -> float:
        """Return the part of the wrong entries in which two arrays agree, minus that of right entries spoilt.

        ``observed`` is the analytic gradient by default; ``where`` restricts the comparison.
        """
        observed = self.analytic if observed is None else observed
        if predicted.shape != observed.shape:
            return 0.0
        there = self.known & where
        errors = int(np.sum(self.wrong & where))
        missed = ~(np.abs(predicted[there] - observed[there]) <= self.tolerance)
        return 1 - float(missed.sum()) / errors if errors else 0.0

    def best(self, kind: str, candidates: Iterable[tuple[str, np.ndarray]], rank: int = EXACT) -> list[Explanation]:
        """Return explanations for those candidates for the analytic gradient, (words, array), that fit."""
        found = [(self.score(predicted), words) for words, predicted in candidates]
        return [Explanation(kind, words, score, rank) for score, words in found if score >= ACCEPTED]


Hypothesis = Callable[[Evidence], Iterable[Explanation]]


def listed(parts: list[str]) -> str:
    """Join words: a, b and c."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def plural(name: str) -> str:
    """Return the plural of an axis' name."""
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
