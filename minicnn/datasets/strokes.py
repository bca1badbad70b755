"""Handwritten digits that need no download: drawn by the library, in the form of MNIST.

Every image begins as one of the skeletons in :mod:`minicnn.datasets.skeletons` and is then written by an imagined hand:
its control points wander, strokes begin too early or stop too late, the whole leans, turns, stretches and bends, a
pen of some width draws it, and it is framed as MNIST's images are. These are not MNIST and never called so, but a
network trained on them reads MNIST's digits.

Image ``i`` of a split depends on the seed and on ``i`` alone: not on how many are drawn, nor on the threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from minicnn import kernels
from minicnn.datasets.skeletons import SKELETONS, Point, Style
from minicnn.errors import ArgumentError
from minicnn.streams import generator

SIZE = 28  # rows and columns of an image
BOX = 20  # the digit itself fits in a square of this many pixels
BLOCK = 1000  # images drawn at once; a multiple of 10, so that every block holds each digit equally often
VERTICES = 48  # of the polyline that stands for a digit's curves

Split = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Variation:
    """How much the hands differ. Lengths in units of the skeleton's box (1 = its height) unless said otherwise.

    Each number is a standard deviation around zero, or around the mean that stands before it. Chosen by comparing ink,
    stroke width and slant with those of MNIST's training images; within a third more or less they matter little: the
    share of training images that a small network reads stays within 0.2 %. The styles of writing matter most.
    """

    care: float = 0.35  # natural logarithm of a hand's carelessness, which multiplies everything up to `waves`
    jitter: float = 0.035  # of every control point
    stroke_shift: float = 0.03  # of a stroke as a whole
    stroke_growth: float = 0.10  # of a stroke about its middle, as a fraction
    stroke_turn: float = 0.10  # of a stroke about its middle, radians
    bend: float = 0.15  # sideways at top and bottom against the middle
    taper: float = 0.25  # width of the top against the bottom, as a fraction
    waist: float = 0.20  # height of the top half against the bottom half, as a fraction
    waves: float = 0.03  # height of each of three waves that warp the plane
    wave_number: float = 4.0  # their number, radians per box
    slant_mean: float = 0.12  # sideways per height, positive leans to the right
    slant: float = 0.25
    turn: float = 0.09  # of the whole, radians
    aspect: float = 0.20  # natural logarithm of width by height
    pen_mean: float = 0.25  # natural logarithm of the pen's radius in pixels
    pen: float = 0.28
    soft_mean: float = 1.05  # pixels from full ink to none
    soft: float = 0.25
    grain: float = 0.25  # roughness of the ink's edge, pixels


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


def load_data(train: int = 60000, test: int = 10000, seed: int = 0) -> tuple[Split, Split]:
    """Draw a training and a test set, in the form of Keras' ``mnist.load_data()``.

    Parameters
    ----------
    train, test : int
        How many images; 0 or more.
    seed : int
        Another seed, other images.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : uint8 arrays
        Images (N, 28, 28), white ink (255) on black (0), and labels (N,). Every ten images in a row are ten digits.

    Raises
    ------
    ArgumentError
        If a number is negative or no whole number.
    """
    for name, value in (("train", train), ("test", test), ("seed", seed)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ArgumentError(f"strokes.load_data got {name}={value!r}; expected a whole number of at least 0.")
    return draw_split(train, seed, "train"), draw_split(test, seed, "test")


def draw_split(count: int, seed: int, split: str, variation: Variation | None = None) -> Split:
    """Draw the first ``count`` images and labels of a split.

    Parameters
    ----------
    count, seed : int
    split : str
        Any name; each has its own stream of images.
    variation : Variation, optional
        How much the hands differ.

    Returns
    -------
    x, y : (count, 28, 28) and (count,) uint8 arrays
    """
    variation = variation or Variation()
    x, y = np.zeros((count, SIZE, SIZE), np.uint8), np.zeros(count, np.uint8)
    for block, start in enumerate(range(0, count, BLOCK)):
        rng = generator(seed, "strokes", split, block)
        kept = min(BLOCK, count - start)  # a block's chance is drawn whole, so that a prefix stays what it is
        points, drawn, style = write(rng, variation)
        y[start:start + kept] = templates().digit[style[:kept]]
        x[start:start + kept] = ink(rng, points, drawn, kept, variation)
    return x, y


# --- the skeletons as arrays ---------------------------------------------------------------------------------------


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


# --- the hand ------------------------------------------------------------------------------------------------------


def write(rng: np.random.Generator, variation: Variation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write one block of digits.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all chance.
    variation : Variation

    Returns
    -------
    points : (BLOCK, P, 2) float32 array
        Vertices (x, y), in units of a skeleton's box.
    drawn : (BLOCK, P - 1) bool array
    style : (BLOCK,) array
        Row of :func:`templates`.
    """
    table = templates()
    digit = rng.permuted(np.tile(np.arange(10), (BLOCK // 10, 1)), axis=1).ravel()
    style = np.searchsorted(table.cumulative, (digit + rng.random(BLOCK)).clip(1e-9, 10 - 1e-9))
    care = np.exp(variation.care * _normal(rng, 1, 1))
    controls = _wander(rng, table, style, care, variation)
    haste = rng.random((BLOCK, 1, 1), np.float32)
    points = (1 - haste) * (table.smooth[style] @ controls) + haste * (table.hasty[style] @ controls)  # (BLOCK, P, 2)
    return _stretch(rng, _bend(rng, points - 0.5, care, variation), variation), table.drawn[style], style


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal((BLOCK, *shape), np.float32)


def _turned(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotate points (N, P, 2) about the origin by angles (N, P) or (N, 1)."""
    x, y = points[..., 0], points[..., 1]
    return np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y], axis=-1)


def _wander(rng: np.random.Generator, table: Templates, style: np.ndarray, care: np.ndarray,
            variation: Variation) -> np.ndarray:
    """Move control points and whole strokes; return the controls (BLOCK, C, 2)."""
    controls, middles = table.controls[style], table.middles[style]
    K = 1 + int(table.stroke.max())
    row, stroke = np.arange(BLOCK)[:, None], table.stroke[style]  # together they pick each control's stroke
    shift = (care * variation.stroke_shift * _normal(rng, K, 2))[row, stroke]
    growth = 1 + (care * variation.stroke_growth * _normal(rng, K, 2))[row, stroke]
    angle = (care[..., 0] * variation.stroke_turn * _normal(rng, K))[row, stroke]
    moved = middles + shift + _turned((controls - middles) * growth, angle)
    return moved + care * variation.jitter * _normal(rng, controls.shape[1], 2)


def _bend(rng: np.random.Generator, points: np.ndarray, care: np.ndarray, variation: Variation) -> np.ndarray:
    """Warp the plane smoothly: bend, taper, shift the waist, add waves. Points are centred on the origin."""
    x, y = points[..., 0], points[..., 1]
    bend, taper, waist = (care * np.array([variation.bend, variation.taper, variation.waist], np.float32)
                          * _normal(rng, 1, 3)).transpose(2, 0, 1)  # (BLOCK, 1) each
    x, y = x * (1 + taper.clip(-1, 1) * y) + bend * (4 * y * y - 1) / 4, y + waist.clip(-.7, .7) * (y * y - 0.25)
    warped = np.stack([x, y], axis=-1)
    for _ in range(3):
        direction = _normal(rng, 2) * variation.wave_number / np.sqrt(2)  # (BLOCK, 2)
        phase = rng.random((BLOCK, 1), np.float32) * 2 * np.pi
        wave = np.sin(x * direction[:, :1] + y * direction[:, 1:] + phase)[..., None]  # (BLOCK, P, 1)
        warped += care * variation.waves * _normal(rng, 1, 2) * wave
    return warped


def _stretch(rng: np.random.Generator, points: np.ndarray, variation: Variation) -> np.ndarray:
    """Slant, stretch and rotate the whole."""
    chance = _normal(rng, 3)
    slant = variation.slant_mean + variation.slant * chance[:, :1]
    x = points[..., 0] * np.exp(variation.aspect * chance[:, 1:2]) - slant * points[..., 1]
    return _turned(np.stack([x, points[..., 1]], axis=-1), variation.turn * chance[:, 2:])


# --- pen and frame -------------------------------------------------------------------------------------------------


def ink(rng: np.random.Generator, points: np.ndarray, drawn: np.ndarray, kept: int, variation: Variation) -> np.ndarray:
    """Draw the first ``kept`` digits with pens of chance width and frame them as MNIST is.

    The inked digit fills a box of 20 x 20 pixels in its longer direction; the box is then placed in the 28 x 28 image
    so that the centre of mass is at its middle, to the nearest pixel (LeCun, Cortes and Burges, "The MNIST database").

    Parameters
    ----------
    rng, points, drawn, variation
        As in :func:`write`.
    kept : int

    Returns
    -------
    (kept, 28, 28) uint8 array
    """
    radius = np.exp(variation.pen_mean + variation.pen * _normal(rng, 1, 1)).clip(0.5, 4)[:kept]
    soft = (variation.soft_mean + variation.soft * _normal(rng, 1, 1)).clip(0.7, 3)[:kept]
    distance = kernels.stroke_distance(_fitted(points[:kept], radius), drawn[:kept], (BOX, BOX))
    distance += variation.grain * _normal(rng, BOX, BOX)[:kept]
    box = np.clip((radius - distance) / soft + 0.5, 0, 1)
    return _centred(np.rint(255 * box).astype(np.uint8))


def _fitted(points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Scale points so that the ink, a pen's radius around them, just fits the box; return pixels."""
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)  # (N, 1, 2)
    scale = (BOX - 2 * radius) / (high - low).max(-1, keepdims=True)
    return (points - (low + high) / 2) * scale + np.float32(BOX / 2)


def _centred(box: np.ndarray) -> np.ndarray:
    """Place boxes (N, 20, 20) in images (N, 28, 28), their centre of mass within half a pixel of (14, 14)."""
    mass = box.sum((1, 2), dtype=np.float64)
    place = np.arange(BOX)
    top = np.rint(SIZE / 2 - box.sum(2, dtype=np.float64) @ place / mass).astype(int).clip(0, SIZE - BOX)
    left = np.rint(SIZE / 2 - box.sum(1, dtype=np.float64) @ place / mass).astype(int).clip(0, SIZE - BOX)
    images = np.zeros((len(box), SIZE, SIZE), np.uint8)
    n = np.arange(len(box))[:, None, None]
    images[n, (top[:, None] + place)[:, :, None], (left[:, None] + place)[:, None, :]] = box
    return images
