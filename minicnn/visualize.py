"""Pictures of data and of results: each function returns a matplotlib figure whose title states what it shows.

Nothing is shown and no global state is touched (no pyplot): ``figure.savefig("curves.png")`` writes a file, and in a
notebook a figure that ends a cell appears. Colours are those of Okabe and Ito, which colour-blind readers can tell
apart; where two lines share a panel they also differ in dash and marker.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from minicnn.errors import ArgumentError, ShapeError

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6B6B6B"
ERRORS = LinearSegmentedColormap.from_list("errors", ["#FFF4EC", "#F4A26B", "#D55E00", "#8A3000"])


class Picture(Figure):
    """A figure that notebooks display without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


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
    images, labels = _images(x), np.asarray(y)
    classes, counts = np.unique(labels, return_counts=True)
    figure = Picture(figsize=(0.72 * per_class + 1.6, 0.72 * len(classes) + 0.9), layout="constrained")
    axes = figure.subplots(len(classes), per_class, squeeze=False)
    for row, (label, count) in enumerate(zip(classes, counts)):
        rows = np.flatnonzero(labels == label)[:per_class]
        for column, ax in enumerate(axes[row]):
            if column < len(rows):
                _show(ax, images[rows[column]], images)
            else:
                ax.set_axis_off()
        axes[row, 0].set_ylabel(f"{_name(label, names)}", rotation=0, ha="right", va="center", fontsize=15, labelpad=10)
        axes[row, -1].annotate(f"{count:,}", (1.12, 0.5), xycoords="axes fraction", va="center", color=GREY, fontsize=9)
    figure.suptitle(title or f"{len(labels):,} {of} of {len(classes)} classes{_balance(classes, counts, names)}",
                    fontsize=12)
    return figure


def _balance(classes: NDArray, counts: NDArray, names: Sequence[str] | None) -> str:
    """Word how evenly the classes are represented."""
    least, most = counts.argmin(), counts.argmax()
    if counts[least] == counts[most]:
        return f", {counts[most]:,} of each"
    return (f"; rarest: {_name(classes[least], names)} ({counts[least]:,}), commonest: {_name(classes[most], names)} "
            f"({counts[most]:,})")


def training_curves(history: Mapping[str, Sequence[float]], title: str | None = None) -> Figure:
    """Draw loss and accuracy against the epoch, training and validation together.

    Parameters
    ----------
    history : mapping of str to sequence of float
        ``History.history``: ``loss``, ``accuracy``, and where there are any ``val_loss``, ``val_accuracy``,
        ``learning_rate``; one entry an epoch.
    title : str, optional
        Default: the accuracy reached, and the best epoch where that was another.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ArgumentError
        If the history holds no epoch.
    """
    if not history.get("loss"):
        raise ArgumentError("training_curves got a history without a single epoch of 'loss'; expected that of a fit "
                            "that ended at least one epoch.")
    panels = [("loss", "Loss (cross-entropy)", 1.0)]
    panels += [("accuracy", "Accuracy (%)", 100.0)] if "accuracy" in history else []
    panels += [("learning_rate", "Learning rate", 1.0)] if "learning_rate" in history else []
    figure = Picture(figsize=(4.6 * len(panels), 4.4), layout="constrained")
    for ax, (key, label, scale) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        _curve_panel(ax, history, key, label, scale)
    figure.suptitle(title or _curves_finding(history), fontsize=12)
    figure.supxlabel("Training values are means over the epoch, while the weights still change and any dropout is "
                     "on; validation follows the epoch.", fontsize=8, color=GREY)
    return figure


def confusion_matrix(matrix: NDArray, title: str | None = None, of: str = "images",
                     names: Sequence[str] | None = None) -> Figure:
    """Draw a confusion matrix with its counts, recall and precision; colour shows the mistakes only.

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
    size = max(5.0, 0.62 * K + 1.6)
    figure = Picture(figsize=(size + 0.6, size + 0.5), layout="constrained")
    ax = figure.subplots()
    ax.imshow(np.ma.masked_equal(wrong, 0), cmap=ERRORS, vmin=0, vmax=max(wrong.max(), 1))
    for i in range(K):
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor="#E3ECF2", edgecolor="none"))
        for j in range(K):
            dark = i != j and wrong[i, j] > 0.5 * wrong.max()
            ax.text(j, i, f"{matrix[i, j]:,}" if matrix[i, j] else "·", ha="center", va="center", fontsize=10,
                    color="white" if dark else "black" if matrix[i, j] else "#BBBBBB")
    _confusion_margins(ax, matrix, [_name(k, names) for k in range(K)])
    figure.suptitle(title or _confusion_finding(matrix, wrong, of, names), fontsize=12)
    return figure


def mistakes(x: NDArray, y: NDArray, probabilities: NDArray, limit: int = 40, title: str | None = None,
             of: str = "images", names: Sequence[str] | None = None) -> Figure:
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

    Returns
    -------
    matplotlib.figure.Figure
    """
    images, y, probabilities = _images(x), np.asarray(y), np.asarray(probabilities)
    if probabilities.ndim != 2 or not len(images) == len(y) == len(probabilities):
        raise ShapeError(f"mistakes got {len(images)} images, {len(y)} labels and probabilities of shape "
                         f"{probabilities.shape}; expected N, N and (N, K).")
    taken = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(taken != y)
    wrong = wrong[np.argsort(-probabilities[wrong, taken[wrong]], kind="stable")]
    drawn = wrong[:limit]
    columns = 8
    rows = max(1, -(-len(drawn) // columns))
    figure = Picture(figsize=(1.35 * columns, 1.75 * rows + 0.9), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, n in zip(axes, drawn):
        _show(ax, images[n], images)
        ax.set_title(f"{_name(y[n], names)} taken for {_name(taken[n], names)}", fontsize=9, pad=3)
        ax.set_xlabel(f"{_name(taken[n], names)}: {_percent(probabilities[n, taken[n]])}   "
                      f"{_name(y[n], names)}: {_percent(probabilities[n, y[n]])}\nno. {n}", fontsize=8, labelpad=2)
    for ax in axes[len(drawn):]:
        ax.set_axis_off()
    figure.suptitle(title or _mistakes_finding(len(wrong), len(y), len(drawn), of), fontsize=12)
    return figure


def _images(x: NDArray) -> NDArray:
    """Drop a channel axis of one; refuse what is no list of grey images."""
    x = np.asarray(x)
    images = x[..., 0] if x.ndim == 4 and x.shape[-1] == 1 else x  # (N, H, W)
    if images.ndim != 3 or not images.size:
        raise ShapeError(f"got images of shape {x.shape}; expected (N, H, W) or (N, H, W, 1), N at least 1.")
    return images


def _show(ax: Axes, image: NDArray, images: NDArray) -> None:
    """Draw one image, ink dark on white paper, on the value range of the whole set."""
    high = 255 if images.dtype == np.uint8 else max(1.0, float(images.max()))
    ax.imshow(image, cmap="gray_r", vmin=min(0.0, float(images.min())), vmax=high)
    ax.set(xticks=[], yticks=[])
    for side in ax.spines.values():
        side.set_color("#CCCCCC")


def _curve_panel(ax: Axes, history: Mapping[str, Sequence[float]], key: str, label: str, scale: float) -> None:
    """Draw one quantity; its validation twin beside it where there is one."""
    lines = [(key, "training", BLUE, "-", "o"), (f"val_{key}", "validation", ORANGE, "--", "s")]
    present = [line for line in lines if line[0] in history]
    for name, text, colour, dash, marker in present:
        values = scale * np.asarray(history[name], dtype=float)
        epochs = np.arange(1, len(values) + 1)
        ax.plot(epochs, values, dash, color=colour, marker=marker, markersize=5 if len(values) <= 30 else 0, label=text)
    ax.set(xlabel="Epoch", title=label)
    ax.margins(x=0.06, y=0.1)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if key == "learning_rate" and max(history[key]) > 20 * min(history[key]) > 0:
        ax.set_yscale("log")
    if len(present) > 1:
        ax.legend(frameon=False)
    ax.grid(color="#E5E5E5")
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _curves_finding(history: Mapping[str, Sequence[float]]) -> str:
    epochs = len(history["loss"])
    after = f"after {epochs} epoch{'s' * (epochs != 1)}"
    key = "val_accuracy" if "val_accuracy" in history else "accuracy"
    if key not in history:
        return f"Loss {history['loss'][-1]:.4f} {after}"
    values = list(history[key])
    best = int(np.argmax(values))
    note = f" (best: {100 * values[best]:.2f} % in epoch {best + 1})" if values[best] > values[-1] else ""
    return f"{'Validation' if key.startswith('val') else 'Training'} accuracy {100 * values[-1]:.2f} % {after}{note}"


def _confusion_margins(ax: Axes, matrix: NDArray, names: Sequence[str]) -> None:
    """Label the classes; write the recall of each at the right and the precision below."""
    K = len(names)
    with np.errstate(invalid="ignore"):  # a class that is absent, or never predicted: 0 / 0
        recall, precision = matrix.diagonal() / matrix.sum(1), matrix.diagonal() / matrix.sum(0)
    ax.set(xlabel="Predicted", ylabel="True", xticks=range(K), yticks=range(K), xticklabels=names, yticklabels=names)
    ax.tick_params(length=0, labelsize=12)
    ax.xaxis.set_label_position("top")
    ax.xaxis.tick_top()
    for k in range(K):
        ax.text(K - 0.35, k, _rate(recall[k]), va="center", ha="left", fontsize=9, color=GREY)
        ax.text(k, K - 0.35, _rate(precision[k]), va="top", ha="center", fontsize=9, color=GREY)
    ax.text(K - 0.35, -0.62, "found\n(recall %)", va="bottom", ha="left", fontsize=9, color=GREY)
    ax.text(-0.62, K - 0.35, "right\n(precision %)", va="top", ha="right", fontsize=9, color=GREY)
    for side in ax.spines.values():
        side.set_color("#CCCCCC")


def _confusion_finding(matrix: NDArray, wrong: NDArray, of: str, names: Sequence[str] | None) -> str:
    total, right = int(matrix.sum()), int(matrix.diagonal().sum())
    finding = f"{100 * right / max(total, 1):.2f} % of {total:,} {of} right"
    if right == total:
        return finding
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    times = "once" if wrong[i, j] == 1 else f"{wrong[i, j]:,} times"
    return f"{finding}; most frequent mistake:\n{_name(i, names)} taken for {_name(j, names)} ({times})"


def _mistakes_finding(wrong: int, total: int, drawn: int, of: str) -> str:
    if not wrong:
        return f"No mistake among {total:,} {of}"
    which = "; the surest mistakes first" if drawn == wrong else f"; the {drawn} the network was surest about"
    return f"{wrong:,} of {total:,} {of} wrong ({100 * wrong / total:.2f} %){which if wrong > 1 else ''}"


def _name(label: int | np.integer, names: Sequence[str] | None) -> str:
    return str(names[int(label)] if names is not None else label)


def _percent(share: float) -> str:
    """Write a probability; what would round to 100 % or 0 % without being it says so."""
    return ">99 %" if 0.995 <= share < 1 else "<1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _rate(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f}"
