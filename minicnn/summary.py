"""The table ``model.summary()`` prints, drawn as Keras draws it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicnn.layers import Layer

_BOX = {"top": "┏━┳┓", "head": "┃", "under": "┡━╇┩", "body": "│", "between": "├─┼┤", "bottom": "└─┴┘"}
_ASCII = {"top": "+-++", "head": "|", "under": "+=++", "body": "|", "between": "+-++", "bottom": "+-++"}


def summary_table(name: str, layers: Sequence[Layer], encoding: str) -> str:
    """Return the table of a model's layers.

    Parameters
    ----------
    name : str
        The model's.
    layers : sequence of Layer
    encoding : str
        Of the output; box characters are used in the Unicode ones only.

    Returns
    -------
    str
        Several lines, with exact parameter counts.
    """
    rows = [(f"{layer.name} ({type(layer).__name__})",
             "?" if layer.output_shape is None else f"({', '.join(map(str, (None, *layer.output_shape)))})",
             f"{layer.count_params():,}" if layer.built else "?") for layer in layers]
    head = ("Layer (type)", "Output Shape", "Param #")
    widths = [max(len(row[column]) for row in [head, *rows]) + 2 for column in range(3)]
    box = _BOX if encoding.lower().startswith("utf") else _ASCII
    lines = [f'Model: "{name}"', _rule(box["top"], widths), _row(box["head"], head, widths),
             _rule(box["under"], widths)]
    for i, row in enumerate(rows):
        lines += [_rule(box["between"], widths)] if i else []
        lines.append(_row(box["body"], row, widths))
    text = "\n".join([*lines, _rule(box["bottom"], widths), *_totals(layers)])
    return text.encode(encoding, "replace").decode(encoding)  # a model may have a name the terminal cannot show


def _totals(layers: Sequence[Layer]) -> list[str]:
    trainable = [array for layer in layers if layer.trainable for array in layer.params.values()]
    frozen = [array for layer in layers for array in
              (layer.state if layer.trainable else layer.weights).values()]
    return [f" {title} params: {sum(a.size for a in arrays):,} ({_bytes(arrays)})"
            for title, arrays in (("Total", trainable + frozen), ("Trainable", trainable), ("Non-trainable", frozen))]


def _bytes(arrays: Sequence[np.ndarray]) -> str:
    size = float(sum(array.nbytes for array in arrays))
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.2f} {unit}"
        size /= 1024
    return f"{size:.2f} GB"


def _rule(characters: str, widths: Sequence[int]) -> str:
    left, line, cross, right = tuple(characters)
    return left + cross.join(line * width for width in widths) + right


def _row(bar: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    first, second, count = (f" {cell} " for cell in cells)
    return f"{bar}{first:<{widths[0]}}{bar}{second:<{widths[1]}}{bar}{count:>{widths[2]}}{bar}"
