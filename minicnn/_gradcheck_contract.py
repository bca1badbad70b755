"""What a layer owes its neighbours besides right numbers: it runs, and leaves alone what it is given.

An input or a ``dout`` that is overwritten spoils what another layer keeps; no difference quotient on copies shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minicnn._gradcheck_report import GradientRow, refusal
from minicnn.layers.base import Layer
from minicnn.streams import generator


def first_breach(layers: Sequence[Layer], x: np.ndarray, *, named: bool) -> GradientRow | None:
    """Run built float64 layers once forward and backward, one at a time.

    Parameters
    ----------
    layers : sequence of Layer
    x : numpy.ndarray
        Inputs of the first (N, ...).
    named : bool
        Whether the row tells which layer it is about.

    Returns
    -------
    GradientRow or None
        The first layer's breach of the contract, called ``forward`` or ``backward``. The form of ``grads`` and of the
        first layer's input gradient is judged elsewhere, with the numbers.
    """
    inputs, out = [], x
    for layer in layers:
        inputs.append(out)
        out, note = _forward(layer, out.copy())
        if note:
            return refusal(f"{layer.name}/forward" if named else "forward", inputs[-1].shape, note)
    dout = generator(0, "gradcheck", "contract").standard_normal(out.shape)
    for i in reversed(range(len(layers))):
        shape = dout.shape
        dout, note = _backward(layers[i], inputs[i], dout, is_first=i == 0)
        if note:
            return refusal(f"{layers[i].name}/backward" if named else "backward", shape, note)
    return None


def _forward(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the output and what is wrong with the call, if anything is."""
    watched = {"its input": x} | _params(layer)
    out, note = _call("forward", lambda: layer.forward(x, training=True), watched)
    if note:
        return x, note
    if not isinstance(out, np.ndarray):
        return x, f"forward returned a {type(out).__name__}, expected an array"
    if out.dtype != np.float64:
        return x, f"computing in float64 gave an output of {out.dtype}: use the dtype of the input, or self.dtype"
    expected = (len(x), *(layer.output_shape or ()))
    if out.shape != expected:
        return x, (f"forward returned an output of shape {out.shape}, expected {expected}: "
                   f"{shape_advice(layer, x.shape, out.shape)}")
    return out.copy(), ""


def shape_advice(layer: Layer, given: tuple[int, ...], returned: tuple[int, ...]) -> str:
    """Say what to do about an output of another shape than the layer's ``output_shape``.

    Parameters
    ----------
    layer : Layer
        Built.
    given, returned : tuple of int
        Shapes of the input and of the output, with the batch axis.
    """
    if returned[:1] != given[:1]:
        return "the first axis must be that of the batch"
    if type(layer).compute_output_shape is Layer.compute_output_shape:
        return (f"the layer has no compute_output_shape, so its output is taken to have the shape of its input; write "
                f"one that returns {returned[1:]} for the input shape {given[1:]}")
    return (f"make compute_output_shape, which returns {layer.compute_output_shape(given[1:])} for the input shape "
            f"{given[1:]}, and forward agree")


def _backward(layer: Layer, x: np.ndarray, dout: np.ndarray, is_first: bool) -> tuple[np.ndarray, str]:
    """Return the gradient of the input and what is wrong with the call, if anything is."""
    x = x.copy()
    layer.forward(x, training=True)
    watched = {"dout": dout, "the input of forward": x} | _params(layer)
    dx, note = _call("backward", lambda: layer.backward(dout), watched)
    if note:
        return x, note
    if not isinstance(layer.grads, dict):
        return x, f"layer.grads is a {type(layer.grads).__name__}, expected a dict with the keys of layer.params"
    if not is_first and np.shape(dx) != x.shape:
        got = f"an array of shape {np.shape(dx)}" if isinstance(dx, np.ndarray) else f"a {type(dx).__name__}"
        return x, f"backward returned {got}, expected {x.shape}, the shape of the input"
    return x if is_first else np.array(dx, np.float64), ""


def _call(name: str, function: Callable[[], object], watched: dict[str, np.ndarray]) -> tuple[Any, str]:
    """Return a call's result and, if it raised or changed one of the arrays, a note that says so."""
    before = {what: array.copy() for what, array in watched.items()}
    try:
        result = function()
    except Exception as error:  # a reader's layer may raise anything; the report says what
        return None, f"{name} raised {type(error).__name__}: {error}"
    for what, array in watched.items():
        if not np.array_equal(array, before[what], equal_nan=True):
            return None, f"{name} overwrites {what}: work on a copy"
    return result, ""


def _params(layer: Layer) -> dict[str, np.ndarray]:
    return {f"the parameter {key!r}": array for key, array in layer.params.items()}
