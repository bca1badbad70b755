"""The skeletons of the digits as arrays: smooth curves through hand-written points, sampled as polylines.

A spline is linear in its control points, so each style becomes a matrix, and thousands of digits with moved control
points are drawn by one matrix product each.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from minicnn.datasets.skeletons import SKELETONS, Point, Style

VERTICES = 48  # of the polyline that stands for a digit's curves


class Templates(NamedTuple):
    """All styles of all digits as arrays; S styles, at most C control points and K strokes, P vertices.

    Attributes
    ----------
    digit : (S,) array
    cumulative : (S,) array
        Running sum of the styles' shares; a style's share is its weight within its digit, so the sum ends at 10.
    controls : (S, C, 2) array
    stroke : (S, C) array
        Which stroke a control point belongs to.
    middles : (S, C, 2) array
        The middle of that stroke.
    smooth, hasty : (S, P, C) arrays
        The vertices are ``smooth @ controls``; those of a hurried hand, which cuts corners, ``hasty @ controls``.
    drawn : (S, P - 1) bool array
        False where the pen moves from one stroke to the next.
    """

    digit: np.ndarray
    cumulative: np.ndarray
    controls: np.ndarray
    stroke: np.ndarray
    middles: np.ndarray
    smooth: np.ndarray
    hasty: np.ndarray
    drawn: np.ndarray


@cache
def templates() -> Templates:
    """Turn the skeletons into arrays, once."""
    styles = [(digit, style) for digit, listed in enumerate(SKELETONS) for style in listed]
    columns = max(len(_controls(style)[0]) for _, style in styles)
    share = np.array([style.weight / sum(other.weight for other in SKELETONS[digit]) for digit, style in styles])
    rows = [_template(style, columns) for _, style in styles]
    controls, stroke, middles, smooth, hasty, drawn = (np.stack(column) for column in zip(*rows))
    digit = np.array([digit for digit, _ in styles], np.uint8)
    return Templates(digit, np.cumsum(share), controls, stroke, middles, smooth, hasty, drawn)


def _controls(style: Style) -> tuple[list[Point], list[int], list[list[int]]]:
    """Return the style's control points, the stroke of each, and the strokes' smooth pieces as lists of indices.

    A corner (a point written twice) ends one piece and begins the next; both share the control point.
    """
    points: list[Point] = []
    stroke: list[int] = []
    pieces: list[list[int]] = []
    for number, listed in enumerate(style.strokes):
        pieces.append([])
        for k, point in enumerate(listed):
            if k and point == listed[k - 1]:
                pieces.append([len(points) - 1])
                continue
            pieces[-1].append(len(points))
            points.append(point)
            stroke.append(number)
    return points, stroke, pieces


def _template(style: Style, columns: int) -> tuple[np.ndarray, ...]:
    """Return one style's controls, stroke numbers, strokes' middles, smooth and hasty bases, and drawn segments."""
    points, stroke, pieces = _controls(style)
    places = np.array(points)
    stroke_of_piece = [stroke[piece[0]] for piece in pieces]
    basis = [_catmull_rom(places[piece], count) for piece, count in zip(pieces, _shares(places, pieces))]
    smooth = np.zeros((VERTICES, columns))
    owner = np.zeros(VERTICES, int)
    row = 0
    for piece, values, number in zip(pieces, basis, stroke_of_piece):
        smooth[row:row + len(values), piece] = values
        owner[row:row + len(values)] = number
        row += len(values)
    middles = np.stack([places[np.array(stroke) == number].mean(0) for number in stroke])
    spare = ((0, columns - len(points)), (0, 0))
    return (np.pad(places, spare).astype(np.float32), np.pad(stroke, spare[0]),
            np.pad(middles, spare).astype(np.float32), smooth.astype(np.float32),
            (_blur(owner) @ smooth).astype(np.float32), owner[1:] == owner[:-1])


def _shares(places: np.ndarray, pieces: list[list[int]]) -> list[int]:
    """Divide the vertices among a style's pieces in proportion to their lengths, at least three each."""
    lengths = np.array([np.linalg.norm(np.diff(places[piece], axis=0), axis=1).sum() for piece in pieces])
    ends = np.round(np.cumsum(lengths) / lengths.sum() * (VERTICES - 3 * len(pieces))).astype(int)
    return [int(count) + 3 for count in np.diff(ends, prepend=0)]


def _catmull_rom(places: np.ndarray, count: int) -> np.ndarray:
    """Return the (count, K) matrix that takes K control points to points on their Catmull-Rom spline.

    Knots are as far apart as the square roots of the chords (the centripetal form, free of loops: Yuksel, Schaefer and
    Keyser, "Parameterization and applications of Catmull-Rom curves", 2011). They are those of the skeleton, so that
    the curve stays linear in the control points when these move.
    """
    K = len(places)
    unit = np.eye(K)
    knots = np.concatenate([[0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(places, axis=0), axis=1)))])  # (K,)
    slopes = np.diff(unit, axis=0) / np.diff(knots)[:, None]  # (K - 1, K)
    tangents = np.gradient(unit, knots, axis=0) if K > 2 else np.repeat(slopes, 2, axis=0)  # (K, K)
    t = np.linspace(0, knots[-1], count)
    k = np.clip(np.searchsorted(knots, t, side="right") - 1, 0, K - 2)
    step = np.diff(knots)[k][:, None]
    u = (t - knots[k])[:, None] / step  # (count, 1) position inside the span
    return ((1 + 2 * u) * (1 - u) ** 2 * unit[k] + u * (1 - u) ** 2 * step * tangents[k]
            + u ** 2 * (3 - 2 * u) * unit[k + 1] - u ** 2 * (1 - u) * step * tangents[k + 1])


def _blur(owner: np.ndarray, width: float = 2.5) -> np.ndarray:
    """Return the (P, P) matrix that smooths vertices with their neighbours of the same stroke."""
    apart = np.arange(VERTICES)[:, None] - np.arange(VERTICES)
    weight = np.exp(-0.5 * (apart / width) ** 2) * (owner[:, None] == owner)
    return weight / weight.sum(1, keepdims=True)
