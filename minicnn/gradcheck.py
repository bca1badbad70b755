"""Is the gradient right? Compares backward with differences of forward, for any layer or model.

The gradient of a scalar f with respect to one number x is compared with (f(x + h) - f(x - h)) / 2h, in float64, on a
copy that computes in float64; the layer or model given stays as it is. For a layer, f is the sum of its outputs times
random numbers (were they all ones, a softmax or a batch normalization would pass with a backward of zeros); for a
model it is its loss under random sample weights. Dropout drops, with its mask held, and batch normalization uses
the batch's statistics.

A tensor of up to 200 entries is compared whole; of a larger one 200 entries are drawn, and one random direction sees
all the others. The error of a tensor is max|analytic - numeric| / max|numeric|, or, if the tensor's gradient is zero
throughout (as that of a bias before a batch normalization is), relative to the largest gradient of all. It may be

- 1e-10 where f is affine, as in Dense, Conv2D, Flatten (a difference with step 1 is exact there),
- 1e-8 for other layers,
- 1e-7 for whole models.

ReLU and max-pooling have kinks, where a difference means nothing. A point nearer than four steps to one is moved, and
if that does not help skipped and counted; that is judged by the differences alone, never by the gradient they are to
judge. More than 5 % skipped in a tensor is "NOT CHECKED", which is a failure.

Under the table stands what a refused gradient looks like: a sign, a transposed kernel; see ``minicnn/diagnosis.py``.

``python -m minicnn.gradcheck MODEL`` checks a saved model.

References
----------
Griewank and Walther (2008), "Evaluating derivatives", chapter 3.
Goodfellow, Bengio, Courville (2016), "Deep Learning", section 11.5.
"""

from __future__ import annotations

import argparse
import copy
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minicnn import kernels
from minicnn._gradcheck_compare import ENTRIES, NETWORK_LIMIT, Tensor, compare, examine
from minicnn._gradcheck_contract import first_breach
from minicnn._gradcheck_explain import explain_layer, explain_model
from minicnn._gradcheck_network import Alone, Network
from minicnn._gradcheck_points import drawn, moved, prepare
from minicnn._gradcheck_report import GradientReport, GradientRow
from minicnn.arguments import real_number, whole_number
from minicnn.errors import ArgumentError, MinicnnError, StateError
from minicnn.kernels.threads import get_threads, set_threads
from minicnn.layers.base import Layer
from minicnn.models import Sequential, load_model
from minicnn.streams import generator

__all__ = ["GradientReport", "GradientRow", "check_gradients", "check_layer", "check_model"]

Gradients = dict[str, Any]
LARGE = 100_000  # parameters; the command draws fewer entries of a model with more


def check_layer(layer: Layer, input_shape: Sequence[int] | None = None, *, batch_size: int = 5,
                x: np.ndarray | None = None, seed: int = 0, limit: float | None = None,
                nudge: float = 0.1) -> GradientReport:
    """Compare a layer's gradients, of its input and of every parameter, with central differences.

    Parameters
    ----------
    layer : Layer
        Built or not; it is copied.
    input_shape : sequence of int, optional
        Of one input, without the batch axis. Not needed for a built layer, or with ``x``.
    batch_size : int
        Inputs to draw.
    x : numpy.ndarray, optional
        Inputs (N, ...), moved by ``nudge``. Default: drawn from the standard normal distribution.
    seed : int
        Decides inputs, upstream gradient, entries and directions.
    limit : float, optional
        Largest allowed error. Default: 1e-10 for tensors the output is affine in, 1e-8 for others.
    nudge : float
        Inputs ``x``, and weights that are exactly zero, are moved by random amounts up to this, weights that are all
        equal by that part of themselves: away from kinks, ties and the ones that hide a forgotten factor. Single
        entries are moved by a tenth of it where needed. 0 leaves all where they are.

    Returns
    -------
    GradientReport
        True if all gradients are right; prints as a table.

    Raises
    ------
    ShapeError
        If the layer cannot take such inputs.
    ArgumentError
        If ``layer`` is none, or another argument makes no sense.
    DataError
        If ``x`` is empty or has NaN. What the layer itself raises is a row of the report.

    Examples
    --------
    >>> from minicnn.layers import Dense
    >>> check_layer(Dense(3), (4,)).ok
    True
    """
    _require("check_layer", layer, Layer)
    nudge = real_number("check_layer: nudge", nudge)
    limit = None if limit is None else real_number("check_layer: limit", limit)
    rng = generator(seed, "gradcheck", "data")
    x = drawn(layer, input_shape, batch_size, rng) if x is None else moved(x, nudge, rng)
    twin = copy.deepcopy(layer).astype("float64")
    if not twin.built:
        twin.build(x.shape[1:])
    twin.check_input(x)
    prepare([twin], nudge, rng)
    if hasattr(twin, "skip_activation"):
        twin.skip_activation = False
    title = f"{layer}, input {x.shape}, {kernels.active()} kernels"
    fresh = copy.deepcopy(twin)
    breach = first_breach([twin], x[::-1] / 2, named=False)  # another batch first: nothing of it may be left over
    if breach:
        return GradientReport(title, [breach])
    alone = Alone(twin, x, rng)
    first = copy.deepcopy(alone.gradients_of(fresh))
    arrays = {"input": x} | twin.params
    tensors = _tensors(arrays, dict.fromkeys(arrays, alone.value), alone.gradients)
    rows = compare(tensors, limit, seed, nudge)
    return explain_layer(title, rows, tensors, twin, x, alone.upstream, alone.origin, first)


def check_model(model: Sequential, x: np.ndarray, y: np.ndarray | None = None, *, seed: int = 0,
                limit: float = NETWORK_LIMIT, nudge: float = 0.1, entries: int = ENTRIES) -> GradientReport:
    """Compare all gradients of a model, and of its input, with central differences.

    Parameters
    ----------
    model : Sequential
        Built or not; it is copied.
    x : numpy.ndarray
        A few inputs (N, ...); three to five are best: every further one brings more kinks.
    y : numpy.ndarray, optional
        Their labels; the model must be compiled with a loss. Without them f is the sum of the outputs times random
        numbers, as in ``check_layer``.
    seed : int
        Decides sample weights, entries, directions and what is moved.
    limit : float
        Largest allowed error.
    nudge : float
        Inputs and weights are moved by random amounts up to this, as in ``check_layer``: on a blank background every
        ReLU sits on its kink and every pool in a tie. 0 leaves all where they are.
    entries : int
        Tensors up to this size are checked whole; of larger ones as many entries are drawn, and one direction.

    Returns
    -------
    GradientReport

    Raises
    ------
    ArgumentError, ShapeError, DataError, StateError
        If ``model`` is none, cannot take ``x`` and ``y``, or has no loss. What a layer itself raises is a row of the
        report.
    """
    _require("check_model", model, Sequential)
    limit, nudge = real_number("check_model: limit", limit), real_number("check_model: nudge", nudge)
    entries = whole_number("check_model: entries", entries)
    if not model.layers:
        raise StateError("The model has no layers; add some first.")
    rng = generator(seed, "gradcheck", "data")
    x = moved(x, nudge, rng)
    twin = copy.deepcopy(model)
    for layer in twin.layers:
        layer.astype("float64")
    if not twin.built:
        twin.build((None, *x.shape[1:]))
    twin.layers[0].check_input(x)
    prepare(twin.layers, nudge, rng)
    title = f"model {model.name!r}, input {x.shape}, {kernels.active()} kernels"
    breach = first_breach(twin.layers, x, named=True)
    if breach:
        return GradientReport(title, [breach])
    network = Network(twin, x, None if y is None else np.asarray(y), rng)
    arrays, functions = {"input": x}, {"input": network.starting_at(0)}
    for index, layer in enumerate(twin.layers):
        arrays |= {f"{layer.name}/{key}": array for key, array in layer.params.items()}
        functions |= {f"{layer.name}/{key}": network.starting_at(index) for key in layer.params}
    tensors = _tensors(arrays, functions, network.gradients)
    return explain_model(title, compare(tensors, limit, seed, nudge, entries), tensors, network, check_layer)


def check_gradients(function: Callable[..., float], arrays: Mapping[str, np.ndarray],
                    gradients: Mapping[str, np.ndarray], *, seed: int = 0,
                    limit: float | None = None) -> GradientReport:
    """Compare the gradients of any scalar function of arrays, such as a loss, with central differences.

    Parameters
    ----------
    function : callable
        ``function(**arrays)`` returns the scalar.
    arrays : mapping of str to ndarray
        Where to differentiate. They are copied as float64.
    gradients : mapping of str to ndarray
        What is to be checked, float64.
    seed, limit
        See ``check_layer``.

    Returns
    -------
    GradientReport
    """
    inside = {key: np.array(array, np.float64) for key, array in arrays.items()}
    functions = dict.fromkeys(inside, lambda: float(function(**inside)))
    tensors = _tensors(inside, functions, lambda: dict(gradients))
    title = f"{getattr(function, '__name__', 'function')}, {kernels.active()} kernels"
    return explain_layer(title, compare(tensors, limit, seed, nudge=0), tensors)


def _require(call: str, given: object, kind: type) -> None:
    """Raise what is the caller's fault, or the environment's, and not a layer's."""
    get_threads()
    if isinstance(given, kind):
        return
    what, hint = repr(given), ""
    if isinstance(given, type):
        what, hint = f"the class {given.__name__}", f" Write {given.__name__}(...)."
    elif isinstance(given, (Layer, Sequential)):
        hint = f" Call check_{'layer' if isinstance(given, Layer) else 'model'}."
    raise ArgumentError(f"{call} got {what}; expected a {kind.__name__} object.{hint}")


def _tensors(arrays: Mapping[str, np.ndarray], functions: Mapping[str, Callable[[], float]],
             gradients: Callable[[], Gradients]) -> list[Tensor]:
    """Run backward twice and judge the form of what it gave."""
    first = {key: copy.deepcopy(value) for key, value in gradients().items()}
    second = gradients()
    tensors = []
    for key, array in arrays.items():
        missing = "backward returned None" if key == "input" else "missing from layer.grads"
        fault = examine(array, first.get(key), second.get(key), missing)
        gradient = functools.partial(lambda key: gradients()[key], key)
        tensors.append(Tensor(key, array, functions[key], gradient, None if fault else first[key], fault,
                              (first.get(key), second.get(key))))
    for key in first.keys() - arrays.keys():
        tensors.append(_surplus(key, np.shape(first[key])))
    return tensors


def _surplus(key: str, shape: tuple[int, ...]) -> Tensor:
    zeros = np.zeros(shape)
    fault = "no such parameter: the keys of layer.grads must be those of layer.params"
    return Tensor(key, zeros, lambda: 0.0, lambda: zeros, fault=fault)


def _draw(model: Sequential, batch_size: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return inputs and labels that a model can take; no labels if it has no loss."""
    rng = generator(seed, "gradcheck", "draw")
    x = rng.standard_normal((batch_size, *(model.layers[0].input_shape or ())))
    loss = model.loss
    if loss is None:
        return x, None
    classes = (model.layers[-1].output_shape or (1,))[-1]
    if loss.name == "categorical_crossentropy":
        y = rng.uniform(0.1, 1, (batch_size, classes))
        return x, y / y.sum(axis=1, keepdims=True)
    return x, rng.integers(0, classes, batch_size)


def _entries(parameters: int) -> int:
    """Return how many entries a tensor the command draws: in a large model every one costs many forward passes."""
    return ENTRIES if parameters <= LARGE else ENTRIES // 4


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m minicnn.gradcheck", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Check every gradient of a saved model against central differences, on data drawn from a seed.",
        epilog="about a minute of one core for a model of the recipe cnn, two with --entries 200; a bar shows how far\n"
               "it is, tensor by tensor\n\n"
               "exit status: 0 all gradients are right, 1 some are refused, 2 it cannot be checked\n\n"
               "examples:\n"
               "  python -m minicnn.gradcheck runs/cnn-1/model.safetensors\n"
               "  python -m minicnn.gradcheck model.safetensors --kernels reference --seed 7\n"
               "  python -m minicnn.gradcheck runs/cnn-1/model.safetensors --entries 200\n")
    parser.add_argument("model", metavar="MODEL", help="a model file, as written by model.save")
    parser.add_argument("--seed", type=int, default=0, help="decides the data and the entries compared (default 0)")
    parser.add_argument("--kernels", choices=kernels.SETS, help="kernel set (default: MINICNN_KERNELS, else fast)")
    parser.add_argument("--threads", type=int, help="number of threads (default: MINICNN_THREADS, else all cores)")
    parser.add_argument("--entries", type=int, metavar="N",
                        help=f"check tensors of up to N entries whole, N drawn entries and a random direction of "
                             f"larger ones (default {ENTRIES}, or {_entries(LARGE + 1)} in models of more than "
                             f"{LARGE:,} parameters)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Check a saved model; return the exit status."""
    arguments = _arguments(argv)
    try:
        if arguments.kernels:
            kernels.use(arguments.kernels)
        if arguments.threads is not None:
            set_threads(arguments.threads)
        model = load_model(arguments.model)
        entries = _entries(model.count_params()) if arguments.entries is None else arguments.entries
        report = check_model(model, *_draw(model, 3, arguments.seed), seed=arguments.seed, entries=entries)
    except (MinicnnError, OSError) as error:
        print(f"{arguments.model}: not checked. {error}", file=sys.stderr)
        return 2
    print(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
