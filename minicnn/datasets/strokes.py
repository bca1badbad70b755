"""Handwritten digits that need no download: drawn by the library, in the form of MNIST.

Every image begins as one of the skeletons in :mod:`minicnn.datasets.skeletons` and is then written by an imagined hand:
its control points wander, strokes begin too early or stop too late, the whole leans, turns, stretches and bends, a
pen of some width draws it, and it is framed as MNIST's images are. These are not MNIST and never called so, but a
network trained on them reads MNIST's digits.

Image ``i`` of a split depends on the seed and on ``i`` alone: not on how many are drawn, nor on the threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from minicnn import kernels
from minicnn.datasets.splines import Templates, templates
from minicnn.errors import ArgumentError
from minicnn.streams import generator

SIZE = 28  # rows and columns of an image
BOX = 20  # the digit itself fits in a square of this many pixels
BLOCK = 1000  # images drawn at once; a multiple of 10, so that every block holds each digit equally often

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
        Row of :func:`minicnn.datasets.splines.templates`.
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
    radius = np.minimum(radius, _widest_pen(points[:kept], drawn[:kept]))
    distance = kernels.stroke_distance(_fitted(points[:kept], radius), drawn[:kept], (BOX, BOX))
    distance += variation.grain * _normal(rng, BOX, BOX)[:kept]
    box = np.clip((radius - distance) / soft + 0.5, 0, 1)
    return centred(np.rint(255 * box).astype(np.uint8))


def _widest_pen(points: np.ndarray, drawn: np.ndarray, share: float = 0.22) -> np.ndarray:
    """Return the radius (N, 1, 1) in pixels of the widest pen that does not blot a digit's loops into one blob.

    What a digit's line is longer than its box must find room inside: radius * (length - longer side) <= share * area.
    A bar has nothing inside and no limit that matters.
    """
    extent = points.max(1) - points.min(1)  # (N, 2)
    longer = extent.max(1)
    length = (np.hypot(*np.diff(points, axis=1).transpose(2, 0, 1)) * drawn).sum(1)
    area = extent.prod(1) + 0.02 * longer ** 2
    limit = share * area / np.maximum(length - longer, 0.01 * longer) * BOX / longer
    return np.maximum(limit, 0.8)[:, None, None].astype(np.float32)


def _fitted(points: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Scale points so that the ink, a pen's radius around them, just fits the box; return pixels."""
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)  # (N, 1, 2)
    scale = (BOX - 2 * radius) / (high - low).max(-1, keepdims=True)
    return (points - (low + high) / 2) * scale + np.float32(BOX / 2)


def centred(box: np.ndarray) -> np.ndarray:
    """Place boxes (N, 20, 20) in images (N, 28, 28), their centre of mass within half a pixel of (14, 14)."""
    mass = box.sum((1, 2), dtype=np.float64)
    place = np.arange(BOX)
    top = np.rint(SIZE / 2 - box.sum(2, dtype=np.float64) @ place / mass).astype(int).clip(0, SIZE - BOX)
    left = np.rint(SIZE / 2 - box.sum(1, dtype=np.float64) @ place / mass).astype(int).clip(0, SIZE - BOX)
    images = np.zeros((len(box), SIZE, SIZE), np.uint8)
    n = np.arange(len(box))[:, None, None]
    images[n, (top[:, None] + place)[:, :, None], (left[:, None] + place)[:, None, :]] = box
    return images
