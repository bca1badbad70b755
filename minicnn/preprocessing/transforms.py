"""Random affine transforms of images: what is drawn, and what it makes of a pixel's place.

A transform is a rotation about the middle, then a shift, then a zoom. Drawn are numbers from [0, 1), ``CHANCES`` an
image, whatever is switched on: so the same image gets the same angle with and without a zoom.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.arguments import real_number, whole_number
from minicnn.errors import ArgumentError

# What a transform consists of, named as in Keras: degrees; pixels along rows and columns; factors along them.
NEUTRAL = {"theta": 0.0, "tx": 0.0, "ty": 0.0, "zx": 1.0, "zy": 1.0}
CHANCES = 7  # rotation; shift along rows, its sign; shift along columns, its sign; two factors


class Shift:
    """How far images are moved along one axis."""

    def __init__(self, what: str, value: Any) -> None:
        self.choices: np.ndarray | None = None
        self.reach = 0.0
        if np.ndim(value) == 1:
            self.choices = np.asarray(value)
            if self.choices.dtype.kind not in "fiu" or not self.choices.size or not np.isfinite(self.choices).all():
                raise ArgumentError(f"{what} is {value!r}; expected a sequence of numbers.")
            largest = float(np.abs(self.choices).max())
        elif isinstance(value, (int, np.integer)):
            largest = whole_number(what, value, 0)
            self.choices = np.arange(max(largest, 1))
        else:
            largest = self.reach = real_number(what, value)
        self.fraction = largest < 1

    def drawn(self, chance: np.ndarray, sign: np.ndarray, size: int) -> np.ndarray:
        """Return pixels (N) from two numbers in [0, 1) each; ``size`` is that of the axis."""
        if self.choices is None:
            shift = (2 * chance - 1) * self.reach
        else:
            shift = self.choices[(chance * len(self.choices)).astype(np.intp)] * np.where(sign < 0.5, -1.0, 1.0)
        return shift * size if self.fraction else shift


def matrices(transforms: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return what the warp is told: where in the image a pixel of the result comes from.

    With C the middle ``((H - 1) / 2, (W - 1) / 2)``: position = C + rotation (shift + zoom (pixel - C)).

    Parameters
    ----------
    transforms : (N, 5) array
        Columns as in ``NEUTRAL``.
    size : (H, W)

    Returns
    -------
    (N, 2, 3) array
        From output (row, column, 1) to input (row, column).
    """
    theta, tx, ty, zx, zy = transforms.T  # (N,) each
    cos, sin = np.cos(np.deg2rad(theta)), np.sin(np.deg2rad(theta))
    row, column = (size[0] - 1) / 2, (size[1] - 1) / 2
    out = np.empty((len(transforms), 2, 3))
    for k, (along, across) in enumerate(((cos, -sin), (sin, cos))):
        out[:, k, 0], out[:, k, 1] = along * zx, across * zy
        middle = (row, column)[k] - out[:, k, 0] * row - out[:, k, 1] * column
        out[:, k, 2] = along * tx + across * ty + middle
    return out


def zoom_factors(value: Any) -> tuple[float, float]:
    """Return the lowest and the highest factor."""
    if np.ndim(value) == 0:
        reach = real_number("zoom_range", value)
        if reach < 1:
            return 1 - reach, 1 + reach
    elif len(value) == 2:
        low, high = (real_number("zoom_range", factor) for factor in value)
        if min(low, high) > 0:
            return low, high
    raise ArgumentError(f"zoom_range is {value!r}; expected a number of at least 0 and less than 1, or two factors "
                        f"such as (0.9, 1.1): a factor of 0 would leave one point of an image. Choose a smaller range.")
