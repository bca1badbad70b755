"""What the data look like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from minicnn.visualize.drawing import GREY, TITLE, WIDTH, Picture, counted, grey_images, name, show


def sample_grid(x: NDArray, y: NDArray, per_class: int = 10, title: str | None = None, of: str = "images",
                names: Sequence[str] | None = None) -> Figure:
    """Draw the first images of each class, a row per class.

    Parameters
    ----------
    x : ndarray, shape (N, H, W) or (N, H, W, 1)
        Images, of any numeric type; black is the smallest value, as in the files.
    y : ndarray of int, shape (N,)
        Labels.
    per_class : int
        Images in a row.
    title : str, optional
        Default: how many images there are, and how evenly they are spread over the classes.
    of : str
        What they are, for the title: ``"MNIST training images"``.
    names : sequence of str, optional
        What to call the classes; default their numbers.

    Returns
    -------
    matplotlib.figure.Figure
    """
    images, labels = grey_images(x), np.asarray(y)
    classes, counts = np.unique(labels, return_counts=True)
    cell = (WIDTH - 1.2) / per_class
    figure = Picture(figsize=(WIDTH, cell * len(classes) + 0.7), layout="constrained")
    axes = figure.subplots(len(classes), per_class, squeeze=False)
    for row, (label, count) in enumerate(zip(classes, counts)):
        rows = np.flatnonzero(labels == label)[:per_class]
        for column, ax in enumerate(axes[row]):
            if column < len(rows):
                show(ax, images[rows[column]], images)
            else:
                ax.set_axis_off()
        axes[row, 0].set_ylabel(f"{name(label, names)}", rotation=0, ha="right", va="center", fontsize=15, labelpad=10)
        axes[row, -1].annotate(f"{count:,}", (1.12, 0.5), xycoords="axes fraction", va="center", color=GREY, fontsize=9)
    figure.suptitle(title or f"{len(labels):,} {of} of {len(classes)} classes{_balance(classes, counts, names)}",
                    fontsize=TITLE)
    return figure


def first_images(x: NDArray, limit: int = 60, columns: int = 10, title: str | None = None, of: str = "images",
                 captions: Sequence[str] | None = None) -> Figure:
    """Draw the first images, whatever they show, in rows; the number of the first one stands before each row.

    Parameters
    ----------
    x : ndarray, shape (N, H, W) or (N, H, W, 1)
    limit : int
        Draw at most so many.
    columns : int
        Images in a row.
    title, of : str, optional
        As for :func:`sample_grid`.
    captions : sequence of str, optional
        What to write below each image, two short lines at most, in place of the numbers.

    Returns
    -------
    matplotlib.figure.Figure
    """
    images = grey_images(x)
    drawn = images[:limit]
    rows = -(-len(drawn) // columns)
    height = (WIDTH - 0.7) / columns + (0.5 if captions else 0)
    figure = Picture(figsize=(WIDTH, height * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for n, ax in enumerate(axes.ravel()):
        if n < len(drawn):
            show(ax, drawn[n], images)
            ax.set_xlabel(captions[n] if captions else "", fontsize=9)
        else:
            ax.set_axis_off()
        if n % columns == 0 and not captions:
            ax.set_ylabel(str(n), rotation=0, ha="right", va="center", color=GREY, fontsize=9, labelpad=8)
    which = f"the first {len(drawn)} of them" if len(drawn) < len(images) else "all of them"
    figure.suptitle(title or f"{len(images):,} {of}; {which}", fontsize=TITLE)
    return figure


def mean_images(x: NDArray, y: NDArray, title: str | None = None, of: str = "images",
                names: Sequence[str] | None = None) -> Figure:
    """Draw the mean of the images of each class: where all of a class have ink, and where they differ.

    Parameters
    ----------
    x : ndarray, shape (N, H, W) or (N, H, W, 1)
    y : ndarray of int, shape (N,)
        Labels.
    title, of, names : str, str, sequence of str, optional
        As for :func:`sample_grid`; by default the title names the two classes whose means differ least.

    Returns
    -------
    matplotlib.figure.Figure
    """
    images, labels = grey_images(x), np.asarray(y)
    classes, counts = np.unique(labels, return_counts=True)
    means = np.stack([images[labels == label].mean(axis=0, dtype=np.float64) for label in classes])  # (K, H, W)
    columns = min(5, len(classes))
    rows = -(-len(classes) // columns)
    figure = Picture(figsize=(WIDTH, (WIDTH / 5 + 0.5) * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, mean, label, count in zip(axes, means, classes, counts):
        show(ax, mean, images)
        ax.set_title(name(label, names), fontsize=15, pad=4)
        ax.set_xlabel(counted(int(count), "image"), fontsize=9, color=GREY)
    for ax in axes[len(classes):]:
        ax.set_axis_off()
    figure.suptitle(title or f"The mean of each class of {len(labels):,} {of}{_alike(means, classes, names)}",
                    fontsize=TITLE)
    return figure


def _alike(means: NDArray, classes: NDArray, names: Sequence[str] | None) -> str:
    """Name the two classes whose means (K, H, W) are nearest to each other."""
    if len(classes) < 2:
        return ""
    flat = means.reshape(len(means), -1)
    distance = np.linalg.norm(flat[:, None] - flat, axis=-1)  # (K, K)
    np.fill_diagonal(distance, np.inf)
    i, j = divmod(int(distance.argmin()), len(classes))
    return f";\nmost alike on average: {name(classes[i], names)} and {name(classes[j], names)}"


def _balance(classes: NDArray, counts: NDArray, names: Sequence[str] | None) -> str:
    """Word how evenly the classes are represented."""
    least, most = counts.argmin(), counts.argmax()
    if counts[least] == counts[most]:
        return f", {counts[most]:,} of each"
    return (f";\nrarest: {name(classes[least], names)} ({counts[least]:,}), commonest: {name(classes[most], names)} "
            f"({counts[most]:,})")
