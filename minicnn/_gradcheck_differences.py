r"""Numeric derivatives that know how far they can be trusted.

The derivative of f along a line is read off five points, t = 0, ±a, ±b. With central differences D and the even part
e(t) = (f(t) + f(-t)) / 2 - f(0),

.. math:: slope = \frac{b^2 D(a) - a^2 D(b)}{b^2 - a^2}, \qquad
          doubt = \max(|D(b) - D(a)|,\; |e(b) - (b/a)^2 e(a)| / 2h), \qquad a = \sqrt{3.7}\,h, \quad b = 4h

The slope is Richardson's, exact to order h^4. The doubt is small for a smooth function. A kink (ReLU) or a tie
(max-pooling) within four steps moves the doubt by at least 0.9 of what it moves the slope, and so does rounding. It is
measured on the function alone: no knowledge of the layer is needed, and the gradient to be judged has no say. A slope
is trusted where the doubt is small, and the step is chosen from a ladder so that it is. Where f is affine, the largest
step passes, with no truncation error and next to no rounding error.

No function may look affine because its period divides all the distances: sin(2πx) is the same at x, x ± 1 and x ± 2,
and round(255x)/255 follows x there. Therefore a is no fraction of b, nor a decimal or a binary one.

If no step can be trusted, the point is moved along its line a few times, to places where the gradient is just as good
a thing to check: with 100,000 ReLUs in a network some kink is near any point.

Source of the idea: Ridders (1982), "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering
Software 4(2): several steps, extrapolated, and an error estimate from their disagreement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# The first, with differences at about 1 and 2, is for affine functions.
STEPS = tuple(2.0**-power for power in (1, 12, 14, 16, 18, 20, 22, 24))
INNER, OUTER = math.sqrt(3.7), 4.0  # a and b, in steps
GRID = 2.0**-34  # distances are multiples of it, so that x ± a is exact but for rare cases (and |x| > 2**18)
ROUGH_STEP = 2.0**-16
EXACT = 1e-11   # largest doubt, relative to the tensor's scale, at the first step
PILOTS = 5      # entries that try every step to find the one that suits the tensor
MOVES = 8       # places tried for a point near a kink
ZERO = 1e-9     # a tensor whose gradient is below this part of the largest one counts as zero throughout

Function = Callable[[], float]
Direction = tuple[int, ...] | np.ndarray


class Line:
    """A function of the arrays, seen along one line through the present values of one array.

    Parameters
    ----------
    function : callable
        Without arguments; reads ``array``.
    array : numpy.ndarray
        Changed in place during an evaluation, restored after it.
    direction : tuple of int or numpy.ndarray
        The index of one entry, or an array of the shape of ``array``.
    base : float
        The function's value as things are.
    """

    def __init__(self, function: Function, array: np.ndarray, direction: Direction, base: float) -> None:
        self.function = function
        self.base = base
        self.array = array
        self.direction = direction
        self.start = array[direction] if isinstance(direction, tuple) else array.copy()
        self.place = 0.0  # where on the line the slope is taken
        self.bases = {0.0: base}
        self.known: dict[tuple[float, float], tuple[float, float]] = {}  # slopes by place and step

    @property
    def is_entry(self) -> bool:
        """Whether the line changes one entry only."""
        return isinstance(self.direction, tuple)

    def at(self, t: float, function: Callable[[], Any]) -> Any:
        """Return what a function gives at distance ``t`` from the place of the slope."""
        t += self.place
        where: Any = self.direction if isinstance(self.direction, tuple) else ...
        self.array[where] = self.start + (t if isinstance(self.direction, tuple) else t * self.direction)
        try:
            return function()
        finally:
            self.array[where] = self.start

    def move(self, place: float) -> None:
        """Take the slope somewhere else on the line."""
        self.place = place
        if place not in self.bases:
            self.base = 0.0
            self.bases[place] = self._change(0.0)
        self.base = self.bases[place]

    def _change(self, t: float) -> float:
        """Return f(t) - f(0); NaN where a layer refuses to compute, as beyond the end of its domain."""
        try:
            return self.at(t, self.function) - self.base
        except Exception:  # a reader's layer may raise anything
            return math.nan

    def slope(self, step: float) -> tuple[float, float]:
        """Return the derivative and the doubt about it; both NaN where the function is not finite."""
        if (self.place, step) not in self.known:
            self.known[self.place, step] = self._slope(step)
        return self.known[self.place, step]

    def _slope(self, step: float) -> tuple[float, float]:
        a, b = (round(k * step / GRID) * GRID for k in (INNER, OUTER))
        odd, even = {}, {}
        for t in (a, b):
            above, below = self._change(t), self._change(-t)
            odd[t], even[t] = (above - below) / (2 * t), (above + below) / 2
        slope = (b**2 * odd[a] - a**2 * odd[b]) / (b**2 - a**2)
        doubt = max(abs(odd[b] - odd[a]), abs(even[b] - (b / a)**2 * even[a]) / (2 * step))
        return (slope, doubt) if np.isfinite(slope) and np.isfinite(doubt) else (np.nan, np.nan)


@dataclass
class Slopes:
    """Derivatives along several lines of one tensor.

    Attributes
    ----------
    values, doubts, steps : numpy.ndarray
        One number a line.
    trusted : numpy.ndarray of bool
    scale : float
        What errors are relative to: the largest of the values, or, if they are zero throughout, ``largest``.
    """

    values: np.ndarray
    doubts: np.ndarray
    steps: np.ndarray
    trusted: np.ndarray
    scale: float

    @property
    def exact(self) -> bool:
        """Whether all trusted values come from the first step."""
        return bool(self.trusted.any() and (self.steps[self.trusted] == STEPS[0]).all())


def rough_size(lines: list[Line]) -> float:
    """Return about how large the derivatives are, from a few of the lines and one step."""
    sizes = [abs(line.slope(ROUGH_STEP)[0]) for line in pilots(lines)]
    return float(np.nanmax(sizes)) if np.isfinite(sizes).any() else 0.0


def pilots(lines: list[Line]) -> list[Line]:
    """Return a few of the lines, spread evenly, and the last."""
    return [*lines[:-1:max(1, (len(lines) - 1) // PILOTS)], lines[-1]]


def find_slopes(lines: list[Line], tolerance: float, largest: float, places: list[float]) -> Slopes:
    """Differentiate along every line, with a step that can be trusted.

    Parameters
    ----------
    lines : list of Line
        Through the same tensor.
    tolerance : float
        Largest doubt that is accepted, relative to the scale.
    largest : float
        About the largest derivative in the whole network; what a tensor of zeros is compared with.
    places : list of float
        Where to move points for which no step can be trusted.

    Returns
    -------
    Slopes
        The lines stay where their slope was found.
    """
    n = len(lines)
    found = Slopes(np.full(n, np.nan), np.full(n, np.inf), np.zeros(n), np.zeros(n, bool), largest)
    for place, step in _attempts(lines, tolerance, largest, places):
        for i in np.flatnonzero(~found.trusted):
            if lines[i].place != place:
                lines[i].move(place)
                found.doubts[i] = np.inf
            value, doubt = lines[i].slope(step)
            if doubt < found.doubts[i] or np.isnan(found.values[i]):
                found.values[i], found.doubts[i], found.steps[i] = value, doubt, step
        found.scale = _scale_of(found.values, largest)
        found.trusted = found.doubts <= _allowed(found.steps, tolerance) * found.scale
        found.doubts[(found.steps == STEPS[0]) & ~found.trusted] = np.inf  # not affine: any other step knows better
        if found.trusted.all():
            break
    found.scale = _scale_of(found.values[found.trusted], largest)
    found.trusted &= found.doubts <= _allowed(found.steps, tolerance) * found.scale
    return found


def _attempts(lines: list[Line], tolerance: float, largest: float, places: list[float]) -> list[tuple[float, float]]:
    """Return (place, step) in the order of trying: every step that may do where the points are, then one elsewhere."""
    some = pilots(lines)
    steps, suits = _steps_that_suit(some, tolerance, largest)
    if not suits and places:  # they all start on kinks: which step is right shows elsewhere only
        for line in some:
            line.move(places[0])
        steps = _steps_that_suit(some, tolerance, largest)[0][:2]
        for line in some:
            line.move(0.0)
    return [(0.0, step) for step in steps] + [(place, steps[0]) for place in places]


def _steps_that_suit(lines: list[Line], tolerance: float, largest: float) -> tuple[list[float], bool]:
    """Return the steps worth trying, the best for these lines first, and whether any of them was good for any line."""
    counts = []
    for step in STEPS:
        slopes = np.array([line.slope(step) for line in lines])  # (lines, 2)
        allowed = _allowed(step, tolerance) * _scale_of(slopes[:, 0], largest)
        counts.append(int(np.sum(slopes[:, 1] <= allowed)))
        small = counts[1:]
        if counts[-1] == len(lines) or (len(small) > 2 and max(small[-2:]) < max(small)):
            break  # good for all, or twice worse than before: rounding
    counts += [1] * (len(STEPS) - len(counts))  # smaller steps than one good for all: not known to be bad
    best = counts.index(max(counts))  # the largest step of the best: the extrapolation takes care of curvature
    # Smaller steps next: what fails at the best one is most often near a kink.
    order = [best, *range(best + 1, len(STEPS)), *range(best - 1, -1, -1)]
    return [STEPS[i] for i in order if i == best or counts[i] > 0 or counts[best] == 0], counts[best] > 0


def _allowed(steps: Any, tolerance: float) -> Any:
    """Return the largest doubt for each step, relative to the scale."""
    return np.where(np.equal(steps, STEPS[0]), EXACT, tolerance)


def _scale_of(values: np.ndarray, largest: float) -> float:
    """Return the largest magnitude, or ``largest`` if the values are zero beside it."""
    finite = np.abs(values[np.isfinite(values)])
    own = float(finite.max()) if finite.size else 0.0
    return own if own > ZERO * largest else largest
