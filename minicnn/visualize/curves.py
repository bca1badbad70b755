"""How a training went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from minicnn.errors import ArgumentError
from minicnn.statistics import wilson_interval
from minicnn.visualize.drawing import BLUE, GREEN, GREY, ORANGE, TITLE, WIDTH, Picture, counted

History = Mapping[str, Sequence[float]]
MANY = 30       # epochs; beyond, markers would hide the lines
FAR = 2         # times the range of the later epochs


def training_curves(history: History, title: str | None = None, validation_images: int | None = None,
                    kept: int | None = None) -> Figure:
    """Draw loss and accuracy against the epoch, training and validation together, and the learning rate below.

    Parameters
    ----------
    history : mapping of str to sequence of float
        ``History.history``: ``loss``, ``accuracy``, and where there are any ``val_loss``, ``val_accuracy``,
        ``learning_rate``; one entry an epoch.
    title : str, optional
        Default: the accuracy reached, and the best epoch where that was another.
    validation_images : int, optional
        How many there are; the title then has the 95 % interval of the validation accuracy.
    kept : int, optional
        The epoch whose weights were kept, counted from 1, where it is not the last; a line marks it.

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
    has_rate = "learning_rate" in history
    figure = Picture(figsize=(WIDTH, 5.6 if has_rate else 4.2), layout="constrained")
    grid = figure.add_gridspec(1 + has_rate, len(panels), height_ratios=(3, 1.2)[:1 + has_rate])
    axes = [figure.add_subplot(grid[0, k]) for k in range(len(panels))]
    for ax, (key, label, scale) in zip(axes, panels):
        _quantity(ax, history, key, label, scale)
    if has_rate:
        axes.append(figure.add_subplot(grid[1, :]))
        _learning_rate(axes[-1], history["learning_rate"])
    if kept is not None:
        for ax in axes:
            ax.axvline(kept, color=GREY, linestyle=":", linewidth=1.2)
        axes[0].annotate("kept", (kept, 1), xycoords=("data", "axes fraction"), ha="right", va="top", fontsize=8,
                         color=GREY, rotation=90)
    figure.suptitle(title or _finding(history, validation_images, kept), fontsize=TITLE)
    figure.supxlabel("Training values are means over the epoch, while the weights still change and any dropout is "
                     "on; validation follows the epoch.", fontsize=8, color=GREY)
    return figure


def _quantity(ax: Axes, history: History, key: str, label: str, scale: float) -> None:
    """Draw one quantity; its validation twin beside it where there is one."""
    lines = [(key, "training", BLUE, "-", "o"), (f"val_{key}", "validation", ORANGE, "--", "s")]
    present = [(scale * np.asarray(history[line[0]], dtype=float), *line[1:]) for line in lines if line[0] in history]
    low, high = _range([line[0] for line in present])
    for values, text, colour, dash, marker in present:
        if not low <= values[0] <= high:
            text += f" (epoch 1, off the scale: {values[0]:{'.1f' if scale > 1 else '.3g'}})"
        ax.plot(_epochs(values), values, dash, color=colour, marker=marker,
                markersize=4.5 if len(values) <= MANY else 0, label=text)
    cut = bool(np.isfinite(low))
    ax.margins(y=0.1)
    if cut:
        ax.set_ylim(low, high)
    _frame(ax, len(history[key]))
    if len(present) > 1 or cut:    # above the lines: inside it would lie on some of them
        ax.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 0.99), borderaxespad=0,
                  ncols=1 if cut else 2)
    ax.set_title(label, fontsize=11, pad=6 if len(present) == 1 and not cut else 34 if cut else 20)


def _range(lines: Sequence[NDArray]) -> tuple[float, float]:
    """Return the range of the epochs after the first if that is so far off that they would lie on one line.

    Infinite where the first may be drawn with the others.
    """
    everything = -np.inf, np.inf
    later = np.concatenate([values[1:] for values in lines])
    later = later[np.isfinite(later)]
    if len(lines[0]) < 4 or not later.size or later.min() == later.max():
        return everything
    low, high = later.min(), later.max()
    room = high - low
    far = any(not low - FAR * room <= values[0] <= high + FAR * room for values in lines)
    return (float(low - 0.1 * room), float(high + 0.1 * room)) if far else everything


def _learning_rate(ax: Axes, rates: Sequence[float]) -> None:
    """Draw the learning rate as steps, for it is constant through an epoch."""
    values = np.asarray(rates, dtype=float)
    ax.step(_epochs(values), values, where="mid", color=GREEN)
    if len(values) <= MANY:
        ax.plot(_epochs(values), values, color=GREEN, linestyle="", marker="D", markersize=3.5)
    first, last = f"{values[0]:.3g}", f"{values[-1]:.3g}"
    changes = f"from {first} to {last}" if values.min() < values.max() else f"{first} throughout"
    ax.set_title(f"Learning rate: {changes}", fontsize=11)
    if values.min() > 0 and values.max() > 20 * values.min():
        ax.set_yscale("log")
    else:
        ax.set_ylim(0, 1.15 * values.max() if values.max() > 0 else 1)
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _frame(ax, len(values))


def _frame(ax: Axes, epochs: int) -> None:
    ax.set(xlabel="Epoch", xlim=(0.5, epochs + 0.5) if epochs <= 10 else (0.1, epochs + 0.9))    # no epoch 0
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.grid(color="#E5E5E5")
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _epochs(values: NDArray) -> NDArray:
    return np.arange(1, len(values) + 1)


def _finding(history: History, images: int | None, kept: int | None) -> str:
    epochs = len(history["loss"])
    key = "val_accuracy" if "val_accuracy" in history else "accuracy"
    if key not in history:
        return f"Loss {history['loss'][-1]:.4f} after {counted(epochs, 'epoch')}"
    values = list(history[key])
    at, best = (epochs if kept is None else kept) - 1, int(np.argmax(values))
    when = f"after {counted(epochs, 'epoch')}" if at == epochs - 1 else f"in epoch {at + 1} of {epochs}, which was kept"
    notes = []
    if images is not None and key.startswith("val"):
        low, high = wilson_interval(round(values[at] * images), images)
        notes.append(f"95 % interval {100 * low:.2f} to {100 * high:.2f} on {counted(images, 'image')}")
    if values[best] > values[at]:
        notes.append(f"best: {100 * values[best]:.2f} % in epoch {best + 1}")
    kind = "Validation" if key.startswith("val") else "Training"
    return f"{kind} accuracy {100 * values[at]:.2f} % {when}" + (f"\n({'; '.join(notes)})" if notes else "")
