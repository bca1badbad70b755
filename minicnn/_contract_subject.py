"""The ground of the layer contract: what a clause is, what it is tried on, and comparisons that say what differs."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from minicnn import kernels
from minicnn.errors import MinicnnError
from minicnn.kernels import threads
from minicnn.layers.base import Layer
from minicnn.streams import generator

Results = dict[str, np.ndarray]


class Finding(NamedTuple):
    """One thing that is not as it must be; without ``advice`` that of the clause is given."""

    expected: str
    found: str
    advice: str = ""


Findings = Iterator[Finding]


class Subject:
    """A layer under examination, which itself is never built, run or changed.

    Parameters
    ----------
    layer : Layer
    shape : tuple of int
        Of one input.
    x : numpy.ndarray or None
        Inputs to draw from; None: the standard normal distribution.
    seed : int
    """

    def __init__(self, layer: Layer, shape: tuple[int, ...], x: np.ndarray | None, seed: int) -> None:
        self.layer = layer
        self.shape = shape
        self.x = x
        self.seed = seed

    def fresh(self, dtype: str = "float32", step: int | None = 1) -> Layer:
        """Return a built copy that computes in ``dtype``."""
        twin = copy.deepcopy(self.layer).astype(dtype)
        if not twin.built:
            twin.build(self.shape)
        twin.step = step
        twin.needs_input_gradient = True
        if hasattr(twin, "skip_activation"):
            twin.skip_activation = False
        return twin

    def unbuilt(self) -> Layer:
        """Return a copy that is not built, made from the config if it must be."""
        layer = self.layer
        return type(layer)(**layer.config()) if layer.built else copy.deepcopy(layer)

    def inputs(self, n: int, what: str = "x", dtype: str = "float32") -> np.ndarray:
        """Return n inputs; others for another ``what``."""
        rng = generator(self.seed, "contract", what)
        if self.x is None:
            return rng.standard_normal((n, *self.shape)).astype(dtype)
        return self.x[rng.integers(0, len(self.x), n)].astype(dtype)

    def upstream(self, out: np.ndarray) -> np.ndarray:
        """Return a random gradient of an output, the same for equal shapes."""
        return generator(self.seed, "contract", "dout").standard_normal(out.shape).astype(out.dtype)

    def train(self, layer: Layer, n: int = 5, what: str = "x") -> Results:
        """Run a training forward and backward; return all they give."""
        out = layer.forward(self.inputs(n, what, layer.dtype), training=True)
        return {"out": out} | self.backward(layer, out)

    def backward(self, layer: Layer, out: np.ndarray, dout: np.ndarray | None = None) -> Results:
        """Run backward with no gradients left over from before; return what it gives."""
        layer.grads = {}
        dx = layer.backward(self.upstream(out) if dout is None else dout)
        return {"dx": dx} | grads_of(layer)

    def move_weights(self, layer: Layer) -> None:
        """Change every parameter a little, as training does."""
        rng = generator(self.seed, "contract", "weights")
        for array in layer.params.values():
            array += np.where(array == 0, 1, array) * rng.uniform(0.05, 0.1, array.shape)


class Clause(NamedTuple):
    """One promise of the contract.

    Attributes
    ----------
    name, promise : str
    advice : str
        What to do if it is broken.
    sets : tuple of str
        Kernel sets to try it under.
    needs : tuple of str
        Clauses without which this one would only repeat what they say: if one of them is broken, it is not tried.
    examine : callable
        Takes a Subject, yields what is wrong.
    """

    name: str
    promise: str
    advice: str
    sets: tuple[str, ...]
    needs: tuple[str, ...]
    examine: Callable[[Subject], Findings]


CLAUSES: list[Clause] = []


def clause(name: str, promise: str, advice: str, sets: tuple[str, ...] = kernels.SETS,
           needs: tuple[str, ...] = ("runs", "repeatable")) -> Callable[..., Callable[[Subject], Findings]]:
    """Add a generator of findings to ``CLAUSES``."""
    def add(examine: Callable[[Subject], Findings]) -> Callable[[Subject], Findings]:
        CLAUSES.append(Clause(name, promise, advice, sets, needs, examine))
        return examine
    return add


def grads_of(layer: Layer) -> Results:
    """Return the gradients under the names that messages use."""
    return {f"grads[{key!r}]": gradient for key, gradient in layer.grads.items()}


def weights_of(layer: Layer) -> Results:
    """Return the weights under the names that messages use."""
    return ({f"params[{key!r}]": array for key, array in layer.params.items()}
            | {f"state[{key!r}]": array for key, array in layer.state.items()})


def copies(results: Results) -> Results:
    """Return copies of all arrays."""
    return {key: np.array(array) for key, array in results.items()}


def difference(expected: Results, found: Results, tolerance: float | None = None) -> str:
    """Say where two sets of results differ; empty if nowhere.

    Parameters
    ----------
    expected, found : dict of str to ndarray
    tolerance : float, optional
        Largest difference, relative to the largest expected entry. None: every bit must be the same.
    """
    if expected.keys() != found.keys():
        return f"there are {', '.join(found) or 'none'}, not {', '.join(expected) or 'none'}"
    for key, array in expected.items():
        other = found[key]
        if other.shape != array.shape or other.dtype != array.dtype:
            return f"{key} is {other.dtype} {other.shape}, not {array.dtype} {array.shape}"
        apart = _apart(array, other, tolerance)
        if apart.any():
            at = tuple(map(int, np.argwhere(apart)[0]))
            return (f"{np.sum(apart)} of {array.size} entries of {key} differ, first at {at}: "
                    f"{other[at]:.9g}, not {array[at]:.9g}")
    return ""


def _apart(a: np.ndarray, b: np.ndarray, tolerance: float | None) -> np.ndarray:
    if tolerance is None:
        bits = np.dtype(f"u{a.dtype.itemsize}")
        return np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits)
    return ~(np.abs(a - b) <= tolerance * np.max(np.abs(a), initial=0))


@contextlib.contextmanager
def kernel_set(name: str) -> Iterator[None]:
    """Use a kernel set, and afterwards the one before."""
    before = kernels.active()
    kernels.use(name)
    try:
        yield
    finally:
        kernels.use(before)


@contextlib.contextmanager
def thread_count(n: int) -> Iterator[None]:
    """Use ``n`` threads, and afterwards the setting before."""
    before = threads._threads
    threads.set_threads(n)
    try:
        yield
    finally:
        threads.set_threads(before)


@contextlib.contextmanager
def known_chance() -> Iterator[Callable[[], bool]]:
    """Put the global random states aside; yield a function that tells whether those in place are still untouched."""
    def states() -> tuple[Any, ...]:
        of_numpy: Any = np.random.get_state()  # noqa: NPY002
        return of_numpy[1].tobytes(), of_numpy[2:], random.getstate()

    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(815_4711)  # noqa: NPY002
    random.seed(815_4711)
    start = states()
    try:
        yield lambda: states() == start
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


def accepted(call: Callable[[], Any]) -> str:
    """Say what came instead of one of the library's errors with a message; empty if one came."""
    try:
        call()
    except MinicnnError as error:
        return "" if str(error).strip() else f"{type(error).__name__} without a message"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def words(keys: Iterable[str]) -> str:
    """Word a set of keys for a message."""
    return ", ".join(map(repr, keys)) or "nothing"
