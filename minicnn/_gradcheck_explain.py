"""Adds to a gradient check what the refused gradients look like; see ``minicnn/diagnosis.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from minicnn._gradcheck_compare import Tensor, compare, examine
from minicnn._gradcheck_network import Loss, Network
from minicnn._gradcheck_report import WRONG, GradientReport, GradientRow
from minicnn.diagnosis import Evidence, diagnose
from minicnn.layers.base import Layer


def explain_layer(title: str, rows: list[GradientRow], tensors: list[Tensor], layer: Layer | None = None,
                  x: np.ndarray | None = None, upstream: np.ndarray | None = None,
                  out: np.ndarray | None = None, first: Mapping[str, object] = MappingProxyType({}),
                  ) -> GradientReport:
    """Return a report in which every refused row has a diagnosis.

    Parameters
    ----------
    title : str
    rows : list of GradientRow
        In the order of ``tensors``.
    tensors : list of Tensor
    layer : Layer, optional
        Built, float64; without it the diagnosis has the two gradients only.
    x, upstream, out : numpy.ndarray, optional
        Input, upstream gradient and output of the layer.
    first : mapping of str to object
        The gradients that the same call gave in a layer that had not been used before.

    Returns
    -------
    GradientReport
    """
    numeric = {row.what: row.numeric for row in rows if row.numeric is not None}
    explained = []
    for row, tensor in zip(rows, tensors):
        if row.verdict == WRONG and tensor.calls and (row.numeric is not None or tensor.fault):
            others = {what: array for what, array in numeric.items() if what != row.what}
            row = replace(row, diagnosis=diagnose(Evidence(
                row.what, tensor.calls[0], _unmoved(row, tensor), row.limit, layer, x, upstream, out, others,
                (first.get(row.what), *tensor.calls))))
        explained.append(row)
    return GradientReport(title, explained, [str(row.diagnosis) for row in explained if row.diagnosis])


def _unmoved(row: GradientRow, tensor: Tensor) -> np.ndarray:
    """Return the numeric gradient, NaN where it belongs to a point that was moved to another gradient."""
    if row.numeric is None or row.analytic is None or tensor.analytic is None:
        return np.full(row.shape, np.nan)
    return np.where(row.analytic == tensor.analytic, row.numeric, np.nan)


def explain_model(title: str, rows: list[GradientRow], tensors: list[Tensor], network: Network,
                  check: Callable[..., GradientReport]) -> GradientReport:
    """Return a report that says which layers are wrong by themselves, and what their gradients look like.

    A wrong gradient is passed on to all layers before the one that made it. So each layer is checked alone, on the
    input it has in the model.

    Parameters
    ----------
    title, rows, tensors
        As for ``explain_layer``.
    network : Network
    check : callable
        ``check_layer``.

    Returns
    -------
    GradientReport
    """
    if all(row.verdict != WRONG for row in rows):
        return GradientReport(title, rows)
    notes = []
    for layer, x in zip(network.model.layers, network.inputs):
        alone = check(layer, x=x)
        if not alone.ok:
            notes += [f"{layer.name} is wrong by itself: {note}" for note in alone.notes]
    if notes:
        return GradientReport(title, rows, [*notes, "Layers not named are right by themselves: what is wrong in their "
                                                    "gradients comes from a later layer."])
    loss = None if network.y is None else _explain_loss(network.loss_alone())
    if loss is not None:
        return GradientReport(title, [*rows, loss], [f"Every layer is right by itself: look at the loss, which is not. "
                                                     f"With respect to its {loss.diagnosis}"])
    bare = explain_layer(title, rows, tensors, None, network.x)
    return replace(bare, notes=["Every layer is right by itself: look at the loss, and at what the model hands from "
                                "layer to layer.", *bare.notes])


def _explain_loss(loss: Loss) -> GradientRow | None:
    """Return a row with a diagnosis if the gradient of the loss alone is wrong."""
    first, second = loss.gradient(), loss.gradient()
    fault = examine(loss.predictions, first, second, "the loss's backward returned None")
    tensor = Tensor("predictions", loss.predictions, loss.value, loss.gradient, None if fault else first, fault,
                    (first, second))
    row = compare([tensor], None, seed=0, nudge=0)[0]
    if row.verdict != WRONG:
        return None
    return replace(row, diagnosis=diagnose(Evidence(
        row.what, first, _unmoved(row, tensor), row.limit, x=loss.predictions, upstream=loss.weights,
        out=loss.probabilities, targets=loss.targets, logits=loss.from_logits)))
