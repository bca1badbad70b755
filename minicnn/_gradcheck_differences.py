"""Numeric derivatives that know how far they can be trusted.

The derivative of a function f along a line is read off seven points, t = 0, ±h, ±2h, ±4h. Their odd part,
``o(t) = (f(t) - f(-t)) / 2``, is fitted by ``slope t + cubic t³``; the numbers that a smooth function makes vanish,

.. math:: (4 o(h) - 2.5\\,o(2h) + 0.25\\,o(4h)) / 3h \\qquad (e(4h) - 4 e(2h)) / 2h, \\quad e(t) = (f(t) + f(-t)) / 2 - f(0)

say how much the slope may be off. A kink (ReLU) or a tie (max-pooling) within four steps that changes the slope by J
shows up in one of the two as at least 0.2 J times its effect; rounding shows up as well. So each slope comes with a
*doubt*, in units of the slope, that is measured on the function alone and needs no knowledge of the layer. A slope is
trusted where the doubt is small; the step is chosen from a ladder so that it is. An affine function (any polynomial of
degree 3 or less) passes at step 1, where there is no truncation error and next to no rounding error.

Source of the idea: Ridders (1982), "Accurate computation of F'(x) and F'(x) F''(x)", Advances in Engineering
Software 4(2): several steps, extrapolated, and an error estimate from their disagreement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Powers of two, so that x ± h is exact for float32 values of x.
STEPS = tuple(2.0**-power for power in (0, 7, 10, 13, 16, 18, 20, 22))
ROUGH_STEP = 2.0**-16
EXACT = 1e-11  # largest doubt, relative to the tensor's scale, at step 1
PILOTS = 6      # entries that try every step to find the one that suits the tensor
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

    def __call__(self, t: float) -> float:
        """Return the function's value at distance ``t``."""
        if isinstance(self.direction, tuple):
            where, values = self.direction, self.start + t
        else:
            where, values = ..., self.start + t * self.direction
        self.array[where] = values
        try:
            return self.function()
        finally:
            self.array[where] = self.start

    def slope(self, step: float) -> tuple[float, float]:
        """Return the derivative at t = 0 and the doubt about it; both NaN where the function is not finite."""
        odd, even = {}, {}
        for k in (1, 2, 4):
            above, below = self(k * step) - self.base, self(-k * step) - self.base
            odd[k], even[k] = (above - below) / 2, (above + below) / 2
        slope = (3888 * odd[1] + 6138 * odd[2] - 828 * odd[4]) / (12852 * step)  # least squares for k, k³
        bend = (4 * odd[1] - 2.5 * odd[2] + 0.25 * odd[4]) / (3 * step)
        corner = (even[4] - 4 * even[2]) / (2 * step)
        doubt = max(abs(bend), abs(corner))
        return (slope, doubt) if np.isfinite(slope) and np.isfinite(doubt) else (np.nan, np.nan)


@dataclass
class Slopes:
    """Derivatives along several lines of one tensor.

    Attributes
    ----------
    values, doubts : numpy.ndarray
        One number a line.
    trusted : numpy.ndarray of bool
    exact : bool
        Whether all of them come from step 1.
    scale : float
        What errors are relative to: the largest of the values, or, if they are zero throughout, ``largest``.
    """

    values: np.ndarray
    doubts: np.ndarray
    trusted: np.ndarray
    exact: bool
    scale: float


def rough_size(lines: list[Line]) -> float:
    """Return about how large the derivatives are, from a few of the lines and one step."""
    sizes = [abs(line.slope(ROUGH_STEP)[0]) for line in pilots(lines)]
    return float(np.nanmax(sizes)) if np.isfinite(sizes).any() else 0.0


def pilots(lines: list[Line]) -> list[Line]:
    """Return a few of the lines, spread evenly, and the last."""
    return [*lines[:-1:max(1, (len(lines) - 1) // PILOTS)], lines[-1]] if lines else []


def scale_of(values: np.ndarray, largest: float) -> float:
    """Return the largest magnitude, or ``largest`` if the values are zero beside it."""
    finite = np.abs(values[np.isfinite(values)])
    own = float(finite.max()) if finite.size else 0.0
    return own if own > ZERO * largest else largest


def find_slopes(lines: list[Line], tolerance: float, largest: float, own: float = 0.0) -> Slopes:
    """Differentiate along every line, with the largest step that can be trusted.

    Parameters
    ----------
    lines : list of Line
        Through the same tensor.
    tolerance : float
        Largest doubt that is accepted, relative to the scale.
    largest : float
        About the largest derivative in the whole network; what a tensor of zeros is compared with.
    own : float
        Scale of the tensor as far as it is known from other lines.

    Returns
    -------
    Slopes
    """
    values = np.full(len(lines), np.nan)
    doubts = np.full(len(lines), np.inf)
    steps = np.zeros(len(lines))
    trusted = np.zeros(len(lines), bool)
    scale = max(own, largest)
    for step in _steps_that_suit(pilots(lines), tolerance, largest, own):
        for i in np.flatnonzero(~trusted):
            value, doubt = lines[i].slope(step)
            if doubt < doubts[i] or np.isnan(values[i]):
                values[i], doubts[i], steps[i] = value, doubt, step
        scale = max(own, scale_of(values, largest))
        trusted = doubts <= np.where(steps == 1, EXACT, tolerance) * scale
        doubts[(steps == 1) & ~trusted] = np.inf  # not exact: any other step knows better
        if trusted.all():
            break
    scale = max(own, scale_of(values[trusted], largest))
    trusted &= doubts <= tolerance * scale
    return Slopes(values, doubts, trusted, bool(trusted.any() and (steps[trusted] == 1).all()), scale)


def _steps_that_suit(lines: list[Line], tolerance: float, largest: float, own: float) -> list[float]:
    """Return the steps worth trying: the best for these lines, then smaller ones, then larger ones."""
    counts, medians = [], []
    for step in STEPS:
        slopes = np.array([line.slope(step) for line in lines])  # (lines, 2)
        scale = max(own, scale_of(slopes[:, 0], largest))
        counts.append(int(np.sum(slopes[:, 1] <= (EXACT if step == 1 else tolerance) * scale)))
        medians.append(float(np.median(np.nan_to_num(slopes[:, 1], nan=np.inf))))
    best = max(range(len(STEPS)), key=lambda i: (counts[i], STEPS[i] == 1, -medians[i]))
    order = [best, *range(best + 1, len(STEPS)), *range(best - 1, -1, -1)]
    return [STEPS[i] for i in order if i == best or counts[i] > 0 or counts[best] == 0]
