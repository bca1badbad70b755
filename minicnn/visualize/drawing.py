"""What the pictures share: the kind of figure, the colours, how an image is shown and how numbers are worded.

Figures are as wide as the text of a printed page (``WIDTH``), so that a label of 8 points is one of 8 points there.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from minicnn.errors import ShapeError

# Of Okabe and Ito, whose colours colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#5F5F5F"
FRAME = "#CCCCCC"
ERRORS = LinearSegmentedColormap.from_list("errors", ["#FFF4EC", "#F4A26B", "#D55E00", "#8A3000"])
SIGNED = LinearSegmentedColormap.from_list("signed", ["#6B2A00", "#D55E00", "#F8D9C4", "#FFFFFF", "#C2DDED", "#0072B2",
                                                      "#003352"])
WIDTH = 7.6     # inches
TITLE = 12      # points


class Picture(Figure):
    """A figure that notebooks display without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def grey_images(x: ArrayLike) -> NDArray:
    """Drop a channel axis of one: (N, H, W).

    Raises
    ------
    ShapeError
        If ``x`` is no list of grey images.
    """
    x = np.asarray(x)
    images = x[..., 0] if x.ndim == 4 and x.shape[-1] == 1 else x
    if images.ndim != 3 or not images.size:
        raise ShapeError(f"got images of shape {x.shape}; expected (N, H, W) or (N, H, W, 1), N at least 1.")
    return images


def predictions(caller: str, x: ArrayLike, y: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray, ...]:
    """Return images (N, H, W), labels (N), probabilities (N, K) and the likeliest classes (N).

    Raises
    ------
    ShapeError
        If they do not belong together.
    """
    images, labels, shares = grey_images(x), np.asarray(y), np.asarray(probabilities)
    if shares.ndim != 2 or labels.ndim != 1 or not len(images) == len(labels) == len(shares):
        raise ShapeError(f"{caller} got {len(images)} images, labels of shape {labels.shape} and probabilities of "
                         f"shape {shares.shape}; expected N, (N,) and (N, K).")
    return images, labels, shares, shares.argmax(axis=1)


def show(ax: Axes, image: NDArray, images: NDArray) -> None:
    """Draw one image, ink dark on white paper, on the value range of the whole set."""
    high = 255 if images.dtype == np.uint8 else max(1.0, float(images.max()))
    ax.imshow(image, cmap="gray_r", vmin=min(0.0, float(images.min())), vmax=high)
    bare(ax)


def bare(ax: Axes) -> None:
    """Leave a thin frame of the axes."""
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_color(FRAME)


def mark(ax: Axes) -> None:
    """Frame an image whose label is disputed."""
    for side in ax.spines.values():
        side.set(color=BLUE, linewidth=2.5)


def name(label: int | np.integer, names: Sequence[str] | None) -> str:
    """Return what a class is called."""
    return str(names[int(label)] if names is not None else label)


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun: ``1 mistake``, ``1,204 mistakes``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def times(count: int) -> str:
    """Write how often: ``never``, ``once``, ``twice``, ``7 times``."""
    return ("never", "once", "twice")[count] if count < 3 else f"{count:,} times"


def percent(share: float) -> str:
    """Write a probability; what would round to 100 % or 0 % without being it says so."""
    return ">99 %" if 0.995 <= share < 1 else "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"
