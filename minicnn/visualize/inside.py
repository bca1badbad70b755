"""What the convolutional layers of a network have learned, and what they make of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike, NDArray

from minicnn.errors import ArgumentError, ShapeError, StateError
from minicnn.layers import Conv2D
from minicnn.visualize.drawing import GREY, SIGNED, TITLE, WIDTH, Picture, bare, counted, show

COLUMNS, CELL = 16, 0.46    # of maps or filters in a row; inches of each
FULL = 0.995                # of the values lie within the scale: a single peak must not leave all else pale
WEAK = 0.1                  # of the largest or usual: below it a map shows nothing, a filter is nearly unused


def feature_maps(model: Any, image: ArrayLike, title: str | None = None, of: str = "an image") -> Figure:
    """Draw what each convolutional layer makes of one image: all its feature maps, in the layer's own scale.

    Parameters
    ----------
    model : Sequential
        Built, with at least one ``Conv2D``.
    image : ndarray, shape (H, W) or (H, W, C)
        As the model takes it: scaled as its training images were, without the batch axis.
    title : str, optional
        Default: how many of the maps respond: differ somewhere from their median by a tenth of the layer's largest
        value.
    of : str
        What it shows, for the title: ``"a 7"``.

    Returns
    -------
    matplotlib.figure.Figure
        Blue is above zero, orange below; the deeper, the further from zero.

    Raises
    ------
    ArgumentError
        If the network has no convolutional layer.
    ShapeError
        If the image is not one the network takes.
    """
    found = _convolutions("feature_maps", model)
    x = _batch_of_one(model, image)                                 # (1, H, W, C)
    maps: list[NDArray] = []
    out = x
    for layer in model.layers[:model.layers.index(found[-1]) + 1]:  # one by one: a plan would fuse them
        out = layer.forward(out)
        if layer in found:
            maps.append(np.moveaxis(out[0], -1, 0))                 # (F, OH, OW)
    responding = [_responding(one) for one in maps]
    heads = [f"{layer.name}: {len(one)} maps of {one.shape[1]}x{one.shape[2]}, {count} respond"
             for layer, one, count in zip(found, maps, responding)]
    figure = _page(heads, maps, "Blue: above zero; orange: below.", x[0].mean(axis=-1))
    figure.suptitle(title or f"{sum(responding)} of {counted(sum(map(len, maps)), 'feature map')} respond to {of}",
                    fontsize=TITLE)
    return figure


def filters(model: Any, title: str | None = None) -> Figure:
    """Draw the kernels of each convolutional layer; of several input channels, the one with the largest weights.

    Parameters
    ----------
    model : Sequential
        Built, with at least one ``Conv2D``.
    title : str, optional
        Default: how many filters are in use.

    Returns
    -------
    matplotlib.figure.Figure
        Blue weighs positive, orange negative, white nothing; each layer in its own scale.

    Raises
    ------
    ArgumentError
        If the network has no convolutional layer.
    """
    found = _convolutions("filters", model)
    kernels = [np.moveaxis(layer.params["kernel"], -1, 0) for layer in found]       # (F, KH, KW, C)
    heads = [_filters_head(layer.name, kernel) for layer, kernel in zip(found, kernels)]
    figure = _page(heads, [_strongest_channel(kernel) for kernel in kernels],
                   "Blue: positive weights; orange: negative; white: none.")
    norms = [np.sqrt((kernel.astype(np.float64) ** 2).sum(axis=(1, 2, 3))) for kernel in kernels]
    weak = sum(int((norm < WEAK * np.median(norm)).sum()) for norm in norms)
    finding = f"{weak} nearly unused" if weak else "none lies idle"
    what = f"{counted(sum(map(len, kernels)), 'filter')} in {counted(len(found), 'layer')}"
    figure.suptitle(title or f"{what}; {finding}", fontsize=TITLE)
    return figure


def _convolutions(caller: str, model: Any) -> list[Conv2D]:
    """Return the convolutional layers of a built network."""
    found = [layer for layer in model.layers if isinstance(layer, Conv2D)]
    if not found:
        raise ArgumentError(f"{caller} got a network without a Conv2D layer; there is nothing of the kind to draw.")
    if not model.built:
        raise StateError(f"{caller} got a network that is not built yet, and so has no filters. Give its first layer "
                         "an input_shape, or train it.")
    return found


def _batch_of_one(model: Any, image: ArrayLike) -> NDArray:
    """Return an image as a batch (1, H, W, C) the model takes."""
    x = np.asarray(image)
    expected = model.input_shape[1:]
    if x.shape == expected[:2] and expected[2:] == (1,):
        x = x[..., None]
    if x.shape != expected:
        raise ShapeError(f"feature_maps got an image of shape {x.shape}; expected {expected}, that of one of the "
                         "model's inputs, scaled as they are.")
    return x[None]


def _responding(maps: NDArray) -> int:
    """Count the maps (F, OH, OW) that show more than a background."""
    background = np.median(maps, axis=(1, 2), keepdims=True)
    contrast = np.abs(maps - background).max(axis=(1, 2))
    return int((contrast > WEAK * np.abs(maps).max()).sum())


def _filters_head(layer: str, kernel: NDArray) -> str:
    F, KH, KW, C = kernel.shape
    return f"{layer}: {F} filters of {KH}x{KW}" + (f", each on the strongest of its {C} inputs" if C > 1 else "")


def _strongest_channel(kernel: NDArray) -> NDArray:
    """Return of every filter (KH, KW, C) the channel with the largest weights: (F, KH, KW)."""
    strongest = (kernel ** 2).sum(axis=(1, 2)).argmax(axis=-1)      # (F)
    return kernel[np.arange(len(kernel)), :, :, strongest]


def _page(heads: Sequence[str], stacks: Sequence[NDArray], legend: str, image: NDArray | None = None) -> Picture:
    """Draw each stack of small pictures (F, H, W) under its head, below an image if there is one."""
    heights = [CELL * -(-len(stack) // COLUMNS) + 0.34 for stack in stacks]
    first = [] if image is None else [1.1]
    figure = Picture(figsize=(WIDTH, sum(first) + sum(heights) + 0.7), layout="constrained")
    blocks = list(figure.subfigures(len(first) + len(stacks), 1, height_ratios=[*first, *heights], squeeze=False)[:, 0])
    if image is not None:
        show(blocks.pop(0).subplots(), image, image)
    for block, head, stack in zip(blocks, heads, stacks):
        block.suptitle(head, fontsize=10)
        _small_pictures(block, stack)
    figure.supxlabel(f"{legend} Each layer has a scale of its own.", fontsize=8, color=GREY)
    return figure


def _small_pictures(block: SubFigure, stack: NDArray) -> None:
    """Draw a stack (F, H, W) in rows, all on one scale with white at zero."""
    largest = float(np.quantile(np.abs(stack), FULL)) or float(np.abs(stack).max()) or 1.0
    grid = block.add_gridspec(-(-len(stack) // COLUMNS), COLUMNS)
    for k, one in enumerate(stack):
        ax = block.add_subplot(grid[divmod(k, COLUMNS)])
        ax.imshow(one, cmap=SIGNED, vmin=-largest, vmax=largest)
        bare(ax)
