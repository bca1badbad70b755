"""Which class was taken for which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from minicnn import statistics
from minicnn.errors import ShapeError
from minicnn.visualize.drawing import (
    ERRORS,
    FRAME,
    GREY,
    TITLE,
    WIDTH,
    Picture,
    counted,
    mark,
    name,
    percent,
    predictions,
    show,
    times,
)

Names = Sequence[str] | None


def confusion_matrix(matrix: NDArray, title: str | None = None, of: str = "images", names: Names = None) -> Figure:
    """Draw a confusion matrix with its counts, and precision, recall and F1 of each class; colour shows mistakes only.

    Parameters
    ----------
    matrix : ndarray of int, shape (K, K)
        As from :func:`minicnn.statistics.confusion_matrix`: rows are the truth.
    title : str, optional
        Default: the accuracy, and the most frequent mistake.
    of : str
        What was counted, for the title: ``"MNIST test images"``.
    names : sequence of str, optional
        What to call the classes; default their numbers.

    Returns
    -------
    matplotlib.figure.Figure
    """
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ShapeError(f"confusion_matrix got an array of shape {matrix.shape}; expected (K, K). Labels first go "
                         "through minicnn.statistics.confusion_matrix.")
    K = len(matrix)
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    height = max(4.2, 0.52 * K + 1.3)
    figure = Picture(figsize=(WIDTH, height), layout=ConstrainedLayoutEngine(h_pad=0.1))
    ax = figure.subplots()
    ax.imshow(np.ma.masked_equal(wrong, 0), cmap=ERRORS, vmin=0, vmax=max(wrong.max(), 1))
    for i in range(K):
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor="#E3ECF2", edgecolor="none"))
        for j in range(K):
            dark = i != j and wrong[i, j] > 0.5 * wrong.max()
            ax.text(j, i, f"{matrix[i, j]:,}" if matrix[i, j] else "·", ha="center", va="center", fontsize=10,
                    color="white" if dark else "black" if matrix[i, j] else "#BBBBBB")
    _margins(ax, matrix, [name(k, names) for k in range(K)])
    figure.suptitle(title or _finding(matrix, wrong, of, names), fontsize=TITLE)
    return figure


def _margins(ax: Axes, matrix: NDArray, names: Sequence[str]) -> None:
    """Label the classes; write recall, precision and F1 of each at the right."""
    K = len(names)
    step = max(0.12 * K, 0.9)   # width of a column of figures, in cells
    ax.set(xticks=range(K), yticks=range(K), xticklabels=names, yticklabels=names, xlim=(-0.5, K - 0.5 + 3 * step))
    ax.set_ylabel("True", fontsize=11)
    ax.tick_params(length=0, labelsize=12)
    ax.xaxis.tick_top()
    above = ax.get_xaxis_transform()    # x in cells, y from the axes' edge
    ax.text((K - 1) / 2, 1.075, "Predicted", transform=above, ha="center", fontsize=11)
    columns = zip(("recall", "precision", "F1"), statistics.precision_recall_f1(matrix)[[1, 0, 2]])
    for place, (head, shares) in enumerate(columns):
        x = K - 0.5 + step * (place + 0.55)
        ax.text(x, 1.02, f"{head}\n%", transform=above, ha="center", fontsize=9, color=GREY)
        for k in range(K):
            ax.text(x, k, _rate(shares[k]), va="center", ha="center", fontsize=10, color=GREY)
    ax.add_patch(Rectangle((-0.5, -0.5), K, K, fill=False, edgecolor=FRAME))
    ax.spines[:].set_visible(False)


def _rate(share: float) -> str:
    """Write a share in per cent; what would round to 100 without being it does not."""
    return "–" if np.isnan(share) else f"{min(100 * share, 99.9 if share < 1 else 100):.1f}"


def _finding(matrix: NDArray, wrong: NDArray, of: str, names: Names) -> str:
    total, right = int(matrix.sum()), int(matrix.diagonal().sum())
    finding = f"{100 * right / max(total, 1):.2f} % of {total:,} {of} right"
    if right == total:
        return finding
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    return f"{finding}\nmost frequent mistake: {name(i, names)} taken for {name(j, names)} ({times(int(wrong[i, j]))})"


def confused_pairs(x: ArrayLike, y: ArrayLike, probabilities: ArrayLike, pairs: int = 5, examples: int = 4,
                   title: str | None = None, of: str = "images", names: Names = None,
                   disputed: Collection[int] = ()) -> Figure:
    """Draw the pairs of classes that are confused most, with examples of both directions, the surest first.

    Where one direction has no mistake, the images that come nearest to it are shown.

    Parameters
    ----------
    x : ndarray, shape (N, H, W) or (N, H, W, 1)
        All images, right and wrong.
    y : ndarray of int, shape (N,)
        True labels.
    probabilities : ndarray, shape (N, K)
        What ``model.predict`` returned.
    pairs, examples : int
        Draw at most so many pairs, and so many examples of each direction.
    title, of, names : str, str, sequence of str, optional
        As for :func:`confusion_matrix`.
    disputed : collection of int
        As for :func:`mistakes`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    images, labels, shares, taken = predictions("confused_pairs", x, y, probabilities)
    matrix = statistics.confusion_matrix(labels, taken, shares.shape[1])
    found = _most_confused(matrix)
    drawn = found[:pairs]
    cell = (WIDTH - 0.9) / (2 * examples)
    figure = Picture(figsize=(WIDTH, (cell + 0.62) * len(drawn) + 0.8), layout="constrained")
    blocks = figure.subfigures(max(len(drawn), 1), 2, squeeze=False)
    for row, (one, other) in zip(blocks, drawn):
        for block, true, wrong in zip(row, (one, other), (other, one)):
            chosen, note = _surest(labels, taken, shares, true, wrong)
            _examples(block, chosen[:examples], examples, images, shares[:, wrong])
            for ax, n in zip(block.axes, chosen[:examples]):
                if int(n) in disputed:
                    mark(ax)
            block.suptitle(f"{name(true, names)} taken for {name(wrong, names)}: {note}", fontsize=10)
    legend = "Below each image: how probable the network held the wrong class, and the image's number."
    legend += " Framed: its label is disputed." if len(disputed) else ""
    figure.supxlabel(legend, fontsize=8, color=GREY)
    figure.suptitle(title or _pairs_finding(matrix, found, of, names), fontsize=TITLE)
    return figure


def _surest(labels: NDArray, taken: NDArray, shares: NDArray, true: int, wrong: int) -> tuple[NDArray, str]:
    """Return the images of a class taken for another, the surest first, and how many; if none, those nearest to it."""
    chosen = np.flatnonzero((labels == true) & (taken == wrong))
    note = times(len(chosen))
    if not len(chosen):
        chosen = np.flatnonzero((labels == true) & (taken == true))
        note += "; the nearest to it" if len(chosen) else ""
    return chosen[np.argsort(-shares[chosen, wrong], kind="stable")], note


def _most_confused(matrix: NDArray) -> list[tuple[int, int]]:
    """Return the pairs of classes that are confused at all, the most frequent first."""
    both = np.triu(matrix + matrix.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")
    ones, others = np.unravel_index(order[:np.count_nonzero(both)], both.shape)
    return [(int(one), int(other)) for one, other in zip(ones, others)]


def _examples(block: SubFigure, chosen: NDArray, examples: int, images: NDArray, shares: NDArray) -> None:
    """Draw some of the chosen images side by side, each with the probability of the class it was taken for."""
    for ax, n in zip_longest(block.subplots(1, examples, squeeze=False)[0], chosen):
        if n is None:
            ax.set_axis_off()
            continue
        show(ax, images[n], images)
        ax.set_anchor("N")      # below the block's head, away from the next one's
        ax.set_xlabel(f"{percent(shares[n])}\nno. {n}", fontsize=8, labelpad=2)


def _pairs_finding(matrix: NDArray, found: list[tuple[int, int]], of: str, names: Names) -> str:
    wrong = int(matrix.sum() - matrix.diagonal().sum())
    if not found:
        return f"No mistake among {int(matrix.sum()):,} {of}"
    one, other = found[0]
    both = int(matrix[one, other] + matrix[other, one])
    return (f"{name(one, names)} and {name(other, names)} are confused most: {both:,} of "
            f"{counted(wrong, 'mistake')} on {int(matrix.sum()):,} {of}")
