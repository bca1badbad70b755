"""The images a network got wrong."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from minicnn.visualize.drawing import TITLE, WIDTH, Picture, counted, mark, name, percent, predictions, show

COLUMNS = 6


def mistakes(x: ArrayLike, y: ArrayLike, probabilities: ArrayLike, limit: int = 36, title: str | None = None,
             of: str = "images", names: Sequence[str] | None = None, disputed: Collection[int] = ()) -> Figure:
    """Draw the images a network got wrong, those it was surest about first.

    Parameters
    ----------
    x : ndarray, shape (N, H, W) or (N, H, W, 1)
        All images, right and wrong.
    y : ndarray of int, shape (N,)
        True labels.
    probabilities : ndarray, shape (N, K)
        What ``model.predict`` returned.
    limit : int
        Draw at most so many.
    title, of, names : str, str, sequence of str, optional
        As for :func:`confusion_matrix`.
    disputed : collection of int
        Numbers of images whose labels are doubtful, such as :data:`minicnn.datasets.mnist.DISPUTED`: these are framed.

    Returns
    -------
    matplotlib.figure.Figure
    """
    images, labels, shares, taken = predictions("mistakes", x, y, probabilities)
    wrong = np.flatnonzero(taken != labels)
    wrong = wrong[np.argsort(-shares[wrong, taken[wrong]], kind="stable")]
    drawn = wrong[:limit]
    rows = max(1, -(-len(drawn) // COLUMNS))
    figure = Picture(figsize=(WIDTH, 1.68 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax, n in zip(axes, drawn):
        show(ax, images[n], images)
        true, predicted = name(labels[n], names), name(taken[n], names)
        ax.set_title(f"{true} taken for {predicted}", fontsize=9, pad=3)
        ax.set_xlabel(f"{predicted}: {percent(shares[n, taken[n]])}   {true}: {percent(shares[n, labels[n]])}\n"
                      f"no. {n}{', disputed' if int(n) in disputed else ''}", fontsize=8, labelpad=2)
        if int(n) in disputed:
            mark(ax)
    for ax in axes[len(drawn):]:
        ax.set_axis_off()
    found = sum(int(n) in disputed for n in drawn)
    figure.suptitle(title or _finding(len(wrong), len(labels), len(drawn), of, found), fontsize=TITLE)
    return figure


def _finding(wrong: int, total: int, drawn: int, of: str, disputed: int) -> str:
    if not wrong:
        return f"No mistake among {total:,} {of}"
    which = "; the surest mistakes first" if drawn == wrong else f"; the {drawn} the network was surest about"
    text = f"{wrong:,} of {total:,} {of} wrong ({100 * wrong / total:.2f} %){which if wrong > 1 else ''}"
    return text + (f"\nframed: {counted(disputed, 'image')} whose label human reviewers dispute" if disputed else "")
