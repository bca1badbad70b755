"""Hypotheses about gradients that are no numbers to compare: wrong shape, wrong type, NaN, different at every call."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from minicnn._diagnosis_evidence import Evidence, Explanation


def nothing_there(evidence: Evidence) -> Iterator[Explanation]:
    """No array at all."""
    given = evidence.analytic
    if isinstance(given, np.ndarray):
        return
    if given is None and evidence.what == "input":
        yield Explanation("shape", "backward returns None. Is the last line, return dx, missing?")
    elif given is None:
        yield Explanation("shape", f"backward assigns no such gradient. Does self.grads get the key {evidence.what!r}?")
    else:
        yield Explanation("shape", f"a {type(given).__name__} in place of an array of shape {evidence.numeric.shape}. "
                                  f"Is it summed over all axes?")


def wrong_dtype(evidence: Evidence) -> Iterator[Explanation]:
    """Computed in another precision than the layer's."""
    given = evidence.analytic
    if isinstance(given, np.ndarray) and given.shape == evidence.numeric.shape and given.dtype != np.float64:
        yield Explanation("shape", f"it is {given.dtype} in a layer that computes in float64. Does backward create an "
                                  f"array of a fixed dtype? Use self.dtype, or the dtype of dout.")


def wrong_shape(evidence: Evidence) -> Iterator[Explanation]:
    """Another shape: which step would lead to the right one?"""
    given, expected = evidence.analytic, evidence.numeric.shape
    if not isinstance(given, np.ndarray) or given.shape == expected:
        return
    step = _step_to(given, expected, evidence.textbook)
    found = f"its shape is {given.shape}, that of the tensor {expected}"
    if given.size < math.prod(expected) and not step:
        step = "part of it is missing: is a border cut off, or too much summed?"
    yield Explanation("shape", f"{found}: {step}" if step else f"{found}.")


def _step_to(given: np.ndarray, expected: tuple[int, ...], truth: np.ndarray | None) -> str:
    """Say which transposition, sum or reshape gives the shape; the one that gives the numbers too, if they are known.

    Without a truth the first that fits in shape.
    """
    steps = [(given.T, "its transpose would fit. Is a matrix product the wrong way round?")]
    if given.ndim == len(expected):
        steps += [(given.transpose(order), f"transpose{order} would fit. Are the axes in another order?")
                  for order in itertools.permutations(range(given.ndim)) if order != tuple(range(given.ndim))]
    for count in range(1, given.ndim + 1):
        for axes in itertools.combinations(range(given.ndim), count):
            which = axes[0] if count == 1 else axes
            steps.append((given.sum(axis=axes), f"sum(axis={which}) would fit. Is the sum over the images or pixels "
                                                f"missing?"))
    steps.append((given, "reshape would fit. Is the gradient left in the shape of a matrix product?"))
    fits = [(array, words) for array, words in steps
            if array.shape == expected or (array is given and array.size == math.prod(expected))]
    if truth is not None:
        exact = [words for array, words in fits if np.allclose(array.reshape(expected), truth)]
        fits = [(given, words) for words in exact] or fits
    return fits[0][1] if fits else ""


def not_finite(evidence: Evidence) -> Iterator[Explanation]:
    """NaN or infinity."""
    given = evidence.analytic
    if not isinstance(given, np.ndarray) or given.dtype.kind != "f" or np.isfinite(given).all():
        return
    bad = ~np.isfinite(given)
    if bad.all():
        yield Explanation("not finite", "every entry is NaN or infinite. Is something divided by zero, or an array "
                                        "from np.empty never filled?")
        return
    what = f"{bad.sum()} of {bad.size} entries are NaN or infinite"
    if given.shape == evidence.numeric.shape:
        from minicnn._diagnosis_places import place_of
        place = place_of(bad, np.ones_like(bad), evidence.axes)
        what += f", {place[0]} only" if place else ""
    yield Explanation("not finite", f"{what}. Is an array from np.empty not filled there, or a zero divided by?")


def differs_from_call_to_call(evidence: Evidence) -> Iterator[Explanation]:
    """Two equal calls of backward gave two gradients."""
    fresh, first, second = evidence.calls if len(evidence.calls) == 3 else (None, None, None)
    if (not isinstance(first, np.ndarray) or not isinstance(second, np.ndarray) or first.shape != second.shape
            or np.array_equal(first, second) or not np.isfinite([first, second]).all()):
        return
    if any(isinstance(gradient, np.ndarray) and gradient.shape == first.shape and
           np.allclose(second - first, gradient, rtol=1e-9, atol=1e-9 * np.abs(gradient).max())
           for gradient in (fresh, first, evidence.textbook)):
        words = "a second, equal backward gives the gradient once more: it is added to the last one. Assign it."
    elif evidence.textbook is not None and np.allclose(first, evidence.textbook):
        words = ("the first call is right, a second, equal one is not: something is left over from the first. Is an "
                 "array reused that is not cleared?")
    elif evidence.textbook is not None and np.allclose(second, evidence.textbook):
        words = ("the second, equal call is right, the first is not: it uses something from before. Does backward "
                 "read a value that only a later line of forward or backward sets?")
    elif np.any((first == 0) != (second == 0)):
        yield Explanation("mask", "two equal calls let different entries through: the mask is drawn anew in backward. "
                                  "Keep the one of forward, or draw it from the same key.")
        return
    else:
        words = ("two equal calls give different gradients. Is something left over from the last call, or drawn by "
                 "chance?")
    yield Explanation("accumulated", words)


HYPOTHESES = (nothing_there, differs_from_call_to_call, wrong_shape, wrong_dtype, not_finite)
