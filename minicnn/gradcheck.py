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

ReLU and max-pooling have kinks, where a difference means nothing. A point nearer than four steps to one is skipped and
counted; that is judged by the differences alone, never by the gradient they are to judge. More than 5 % skipped in a
tensor is "NOT CHECKED", which is a failure. ``python -m minicnn.gradcheck MODEL`` checks a saved model.

References
----------
Griewank and Walther (2008), "Evaluating derivatives", chapter 3.
Goodfellow, Bengio, Courville (2016), "Deep Learning", section 11.5.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minicnn import kernels
from minicnn._gradcheck_compare import NETWORK_LIMIT, compare, examine
from minicnn._gradcheck_report import GradientReport, GradientRow
from minicnn.errors import MinicnnError, ShapeError, StateError
from minicnn.kernels.threads import set_threads
from minicnn.layers.base import Layer
from minicnn.models import Sequential, load_model
from minicnn.streams import generator

__all__ = ["GradientReport", "GradientRow", "check_gradients", "check_layer", "check_model"]

Gradients = dict[str, Any]


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
        Inputs ``x`` and parameters that are exactly zero are moved by random amounts up to this, away from kinks and
        ties; 0 leaves them where they are.

    Returns
    -------
    GradientReport
        True if all gradients are right; prints as a table.

    Raises
    ------
    ShapeError
        If the layer cannot take such inputs.

    Examples
    --------
    >>> from minicnn.layers import Dense
    >>> check_layer(Dense(3), (4,)).ok
    True
    """
    rng = generator(seed, "gradcheck", "data")
    if x is None:
        shape = layer.input_shape if input_shape is None else tuple(input_shape)
        if shape is None:
            raise ShapeError(f"check_layer does not know the input shape of {layer}: it is not built. Give "
                             f"input_shape, such as (7, 5, 2), without the batch axis.")
        x = rng.standard_normal((batch_size, *shape))
    else:
        x = _moved(x, nudge, rng)
    twin = copy.deepcopy(layer)
    _prepare([twin], nudge, rng, build=lambda: twin.built or twin.build(x.shape[1:]))
    if hasattr(twin, "skip_activation"):
        twin.skip_activation = False
    title = f"{layer}, input {x.shape}, {kernels.active()} kernels"
    out = twin.forward(x.copy(), training=True)
    if out.dtype != np.float64:
        return _refused(title, out, f"a float64 layer put out {out.dtype}: compute in the dtype of the input")
    origin = out.copy()
    upstream = rng.standard_normal(out.shape)

    def function() -> float:
        # Less the output at the start: outputs that do not change add no rounding error.
        return float(np.sum((twin.forward(x.copy(), training=True) - origin) * upstream))

    def gradients() -> Gradients:
        twin.forward(x.copy(), training=True)
        dx = twin.backward(upstream.copy())
        return {"input": dx} | {key: twin.grads.get(key) for key in twin.params}

    arrays = {"input": x} | twin.params
    return GradientReport(title, _compare(function, gradients, arrays, limit, seed))


def check_model(model: Sequential, x: np.ndarray, y: np.ndarray | None = None, *, seed: int = 0,
                limit: float = NETWORK_LIMIT, nudge: float = 0.1) -> GradientReport:
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
        Inputs and parameters that are exactly zero are moved by random amounts up to this: on a blank background
        every ReLU sits on its kink and every pool in a tie. 0 leaves them where they are.

    Returns
    -------
    GradientReport

    Raises
    ------
    ShapeError, DataError, StateError
        If the model cannot take ``x`` and ``y``, or has no loss.
    """
    rng = generator(seed, "gradcheck", "data")
    x = _moved(x, nudge, rng)
    twin = copy.deepcopy(model)
    if not twin.built:
        twin.build(x.shape[1:])
    _prepare(twin.layers, nudge, rng)
    title = f"model {model.name!r}, input {x.shape}, {kernels.active()} kernels"
    arrays = {"input": x} | {f"{layer.name}/{key}": array for layer in twin.layers
                             for key, array in layer.params.items()}
    if y is None:
        out = twin.forward(x.copy(), training=True)
        if out.dtype != np.float64:
            return _refused(title, out, f"a float64 model put out {out.dtype}: compute in the dtype of the input")
        function, backward = _through_outputs(twin, x, out.copy(), rng)
    else:
        function, backward = _through_loss(twin, x, np.asarray(y), rng)

    def gradients() -> Gradients:
        dx = backward()
        return {"input": dx} | {f"{layer.name}/{key}": layer.grads.get(key) for layer in twin.layers
                                for key in layer.params}

    return GradientReport(title, _compare(function, gradients, arrays, limit, seed))


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
    rows = _compare(lambda: float(function(**inside)), lambda: dict(gradients), inside, limit, seed)
    return GradientReport(f"{getattr(function, '__name__', 'function')}, {kernels.active()} kernels", rows)


def _through_outputs(model: Sequential, x: np.ndarray, origin: np.ndarray,
                     rng: np.random.Generator) -> tuple[Callable[[], float], Callable[[], Any]]:
    """Return f and its backward pass for a random upstream gradient."""
    upstream = rng.standard_normal(origin.shape)

    def function() -> float:
        return float(np.sum((model.forward(x.copy(), training=True) - origin) * upstream))

    def backward() -> Any:
        model.forward(x.copy(), training=True)
        return model.backward(upstream.copy())

    return function, backward


def _through_loss(model: Sequential, x: np.ndarray, y: np.ndarray,
                  rng: np.random.Generator) -> tuple[Callable[[], float], Callable[[], Any]]:
    """Return f and its backward pass for the model's loss, the samples weighted at random."""
    weights = rng.uniform(0.5, 1.5, len(x))
    value = model.loss_and_gradients(x.copy(), y, weights)
    targets = model.loss.targets(y, model.output_shape[-1], np.float64)             # (N, K)
    origin = 0.0

    def function() -> float:
        # Not loss_and_gradients: the backward pass would triple the time.
        with model._logits_for_loss() as from_logits:
            predicted = model.forward(x.copy(), training=True)                      # (N, K)
            losses = model.loss.forward(targets, predicted, from_logits)[0]         # (N)
        return float(np.dot(losses - origin, weights / len(x)))

    if not math.isclose(function(), value, rel_tol=1e-12):
        raise StateError(f"loss_and_gradients gave the loss {value!r}, the forward pass and the loss give "
                         f"{function()!r}; expected the same number. Correct loss_and_gradients.")
    with model._logits_for_loss() as from_logits:
        origin = model.loss.forward(targets, model.forward(x.copy(), training=True), from_logits)[0]

    def backward() -> Any:
        model.loss_and_gradients(x.copy(), y, weights)
        return model.input_gradient

    return function, backward


def _prepare(layers: Sequence[Layer], nudge: float, rng: np.random.Generator,
             build: Callable[[], Any] = lambda: None) -> None:
    """Make copies fit for the check: float64, chance held, gradients of inputs wanted, no parameter exactly zero."""
    for layer in layers:
        layer.astype("float64")
    build()
    for layer in layers:
        layer.step = 1
        layer.needs_input_gradient = True
        for array in layer.params.values():
            signs = rng.choice([-1.0, 1.0], array.shape)
            array[...] = np.where(array == 0, signs * rng.uniform(nudge / 2, nudge, array.shape), array)


def _moved(x: np.ndarray, nudge: float, rng: np.random.Generator) -> np.ndarray:
    x = np.array(x, np.float64)
    return x + rng.uniform(-nudge, nudge, x.shape)


def _compare(function: Callable[[], float], gradients: Callable[[], Gradients], arrays: Mapping[str, np.ndarray],
             limit: float | None, seed: int) -> list[GradientRow]:
    """Run backward twice, judge the form of what it gave, then its values."""
    first = {key: copy.deepcopy(value) for key, value in gradients().items()}
    second = gradients()
    missing = {key: "backward returned None" if key == "input" else "missing from layer.grads" for key in arrays}
    tensors = [examine(key, array, first.get(key), second.get(key), missing[key]) for key, array in arrays.items()]
    return compare(function, tensors, limit, seed)


def _refused(title: str, out: np.ndarray, note: str) -> GradientReport:
    return GradientReport(title, [GradientRow("output", out.shape, None, None, 0, 0, np.inf, NETWORK_LIMIT, None,
                                              "WRONG", note)])


def _draw(model: Sequential, batch_size: int, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return inputs and labels that a model can take; no labels if it has no loss."""
    rng = generator(seed, "gradcheck", "draw")
    x = rng.standard_normal((batch_size, *(model.input_shape or ())[1:]))
    loss = model.loss
    if loss is None:
        return x, None
    classes = (model.output_shape or (1,))[-1]
    if loss.name == "categorical_crossentropy":
        y = rng.uniform(0.1, 1, (batch_size, classes))
        return x, y / y.sum(axis=1, keepdims=True)
    return x, rng.integers(0, classes, batch_size)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m minicnn.gradcheck", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Check every gradient of a saved model against central differences, on data drawn from a seed.",
        epilog="exit status: 0 all gradients are right, 1 some are refused, 2 the file cannot be read\n\n"
               "examples:\n"
               "  python -m minicnn.gradcheck runs/cnn-1/model.safetensors\n"
               "  python -m minicnn.gradcheck model.safetensors --kernels reference --seed 7\n")
    parser.add_argument("model", metavar="MODEL", help="a model file, as written by model.save")
    parser.add_argument("--seed", type=int, default=0, help="decides the data and the entries compared (default 0)")
    parser.add_argument("--kernels", choices=kernels.SETS, help="kernel set (default: MINICNN_KERNELS, else fast)")
    parser.add_argument("--threads", type=int, help="number of threads (default: MINICNN_THREADS, else all cores)")
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
    except (MinicnnError, OSError) as error:
        print(f"{arguments.model}: {error}", file=sys.stderr)
        return 2
    report = check_model(model, *_draw(model, 3, arguments.seed), seed=arguments.seed)
    print(report)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
