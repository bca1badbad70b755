"""The table ``model.summary()`` prints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from minicnn import kernels
from minicnn.layers import Conv2D, Layer
from minicnn.tables import printable, table


def summary_table(name: str, layers: Sequence[Layer], encoding: str, algorithms: bool = False) -> str:
    """Return the table of a model's layers.

    Parameters
    ----------
    name : str
        The model's.
    layers : sequence of Layer
    encoding : str
        Of the output; box characters are used in the Unicode ones only.
    algorithms : bool
        Whether to say how the kernels in use compute each convolution.

    Returns
    -------
    str
        Several lines, with exact parameter counts.
    """
    rows = [[f"{layer.name} ({type(layer).__name__})",
             "?" if layer.output_shape is None else f"({', '.join(map(str, (None, *layer.output_shape)))})",
             f"{layer.count_params():,}" if layer.built else "?",
             *([_algorithm(layer)] if algorithms else [])] for layer in layers]
    head = ["Layer (type)", "Output Shape", "Param #", *(["Algorithm"] if algorithms else [])]
    under = [f" Kernels: {kernels.active()}"] if algorithms else []
    return printable([f'Model: "{name}"', *table(head, rows, encoding, numbers=["Param #"]), *_totals(layers), *under],
                     encoding)


def _algorithm(layer: Layer) -> str:
    if not isinstance(layer, Conv2D):
        return ""
    return layer.algorithm_in_use() if layer.built else "?"


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
