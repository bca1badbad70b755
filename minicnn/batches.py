"""Data on its way into a network: checked once, then cut into batches."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, NamedTuple, cast

import numpy as np

from minicnn.arguments import real_number, whole_number
from minicnn.errors import ArgumentError, DataError, ShapeError

# Inputs above this are taken for pixels that were not scaled to [0, 1].
SCALED_LIMIT = 1.5


class Batch(NamedTuple):
    """Inputs (N, ...), labels (N, ...) or None, sample weights (N) or None."""

    x: np.ndarray
    y: np.ndarray | None = None
    weight: np.ndarray | None = None


class ArrayBatches:
    """Arrays as batches; each pass over this object is one pass over the data.

    Parameters
    ----------
    x, y, weight : ndarray or None
        As in Batch.
    batch_size : int
        The last batch of a pass may be smaller.
    shuffled_by : callable, optional
        Returns the random generator of a pass from its number; None keeps the order.
    numbered_by : callable, optional
        Returns the number of the coming pass.

    Attributes
    ----------
    number, position : int
        Of the pass that goes on; of the batch in it that comes next.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray | None = None, weight: np.ndarray | None = None,
                 batch_size: int = 32, shuffled_by: Callable[[int], np.random.Generator] | None = None,
                 numbered_by: Callable[[], int] = lambda: 0) -> None:
        self.x, self.y, self.weight = x, y, weight
        self.batch_size = whole_number("batch_size", batch_size)
        self.shuffled_by, self.numbered_by = shuffled_by, numbered_by
        self.number = self.position = 0
        self._resumed = False

    @property
    def images(self) -> int:
        """How many there are."""
        return len(self.x)

    def __len__(self) -> int:
        return -(-len(self.x) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        if not self._resumed:
            self.number, self.position = self.numbered_by(), 0
        self._resumed = False
        order = None if self.shuffled_by is None else self.shuffled_by(self.number).permutation(len(self.x))
        for start in range(self.position * self.batch_size, len(self.x), self.batch_size):
            stop = start + self.batch_size
            rows: Any = slice(start, stop) if order is None else order[start:stop]
            self.position += 1
            yield rows_of(Batch(self.x, self.y, self.weight), rows)

    def get_state(self) -> dict[str, Any]:
        """Return where the pass stands."""
        return {"number": self.number, "position": self.position}

    def set_state(self, state: dict[str, Any]) -> None:
        """Let the next pass over this object be the rest of that one; if there is no rest, a new one."""
        self.number, self.position = int(state["number"]), int(state["position"])
        self._resumed = self.position < len(self)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these data, and their order, from others."""
        return {"images": self.images, "batch_size": self.batch_size, "shuffled": self.shuffled_by is not None,
                "x": self.x, "y": self.y, "weight": self.weight}


class IteratorBatches:
    """A user's own iterable of ``x``, ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)`` batches."""

    def __init__(self, iterable: Any) -> None:
        if not isinstance(iterable, Iterable) or isinstance(iterable, (str, bytes, dict)):
            raise DataError(f"The data is {_brief(iterable)}; expected an array, or an iterable of batches (x, y).")
        self.iterable = iterable

    @property
    def resumable(self) -> bool:
        """Whether it is an iterator that says where it stands and can be put there, like those of ``flow``."""
        return all(hasattr(self.iterable, name) for name in ("__next__", "get_state", "set_state"))

    def get_state(self) -> dict[str, Any]:
        """Return where the iterable stands; nothing if it does not say."""
        return cast(Any, self.iterable).get_state() if self.resumable else {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the iterable where it stood."""
        if self.resumable:
            cast(Any, self.iterable).set_state(state)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these data from others, as far as the iterable says it."""
        own = self.iterable.fingerprint() if hasattr(self.iterable, "fingerprint") else {}
        return {"iterator": type(self.iterable).__name__, "batches": length(self), **own}

    @property
    def images(self) -> int | None:
        """How many one pass has, if the iterable says so: as ``n``, like ``ImageDataGenerator.flow``; or else None."""
        n = getattr(self.iterable, "n", None)
        return n if isinstance(n, int) else None

    def __len__(self) -> int:
        if not isinstance(self.iterable, Sized):
            raise TypeError("this iterable has no length")
        return len(self.iterable)

    def __iter__(self) -> Iterator[Batch]:
        items = iter(self.iterable)
        if items is self.iterable and isinstance(items, Sized):
            items = itertools.islice(items, len(items))  # like Keras' flows: it never ends, but a pass does
        for item in items:
            parts: Any = item if isinstance(item, (tuple, list)) else (item,)
            if not 1 <= len(parts) <= 3:
                raise DataError(f"The iterator of batches gave {len(parts)} things at once; expected (x, y) or "
                                f"(x, y, sample_weight).")
            yield Batch(*[None if part is None else np.asarray(part) for part in parts])  # type: ignore[arg-type]


def length(batches: ArrayBatches | IteratorBatches) -> int | None:
    """Return the number of batches in one pass, or None where nobody knows."""
    try:
        return len(batches)
    except TypeError:
        return None


class Epochs:
    """Batches epoch by epoch: whole passes, or ``steps`` batches at a time from passes joined end to end."""

    def __init__(self, batches: ArrayBatches | IteratorBatches, steps: int | None, what: str = "steps") -> None:
        steps = None if steps is None else whole_number(what, steps)
        self.batches = batches
        self.steps = steps if steps is not None else length(batches)
        self._endless = None if steps is None else self._joined_passes()

    def next_epoch(self, done: int = 0) -> Iterator[Batch]:
        """Return the batches of the coming epoch; of one that is resumed, those after the first ``done``."""
        if done and self.steps is not None and done >= self.steps:
            return iter(())
        if self._endless is None and not done:
            return iter(self.batches)
        passes = iter(self.batches) if self._endless is None else self._endless
        return itertools.islice(passes, None if self.steps is None else self.steps - done)

    def get_state(self, done: int) -> dict[str, Any]:
        """Return where the data stand when ``done`` batches of an epoch are; nothing where a new pass begins."""
        new_pass = isinstance(self.batches, ArrayBatches) and self._endless is None and not done
        return {} if new_pass else self.batches.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Let the coming epoch go on from there."""
        if state:
            self.batches.set_state(state)

    def _joined_passes(self) -> Iterator[Batch]:
        while True:
            empty = True
            for batch in self.batches:
                empty = False
                yield batch
            if empty:
                return


def is_array(data: Any) -> bool:
    """Whether data is an array, or nested lists of numbers, rather than an iterator of batches."""
    return isinstance(data, (np.ndarray, list)) or hasattr(data, "__array__")


def as_arrays(x: Any, y: Any = None, sample_weight: Any = None, dtype: str = "float32") -> Batch:
    """Return data as arrays after the checks every training, evaluation and prediction makes.

    Parameters
    ----------
    x, y, sample_weight : array_like or None
        As in Batch.
    dtype : str
        What the network computes in: numbers must be finite in it.

    Raises
    ------
    ShapeError
        If the lengths differ or ``x`` is no array of numbers.
    DataError
        If something is no array of numbers, is empty, or has NaN or infinite values; the message names the rows.
    """
    x = _numbers("x", x)
    if x.ndim == 0 or x.size == 0:
        raise DataError(f"x has the shape {x.shape}, which is empty; expected at least one sample.")
    check_finite(x, "x", dtype)
    y = None if y is None else _numbers("y", y)
    weight = None if sample_weight is None else _numbers("sample_weight", sample_weight)
    for name, array in (("y", y), ("sample_weight", weight)):
        if array is not None and (array.ndim == 0 or len(array) != len(x)):
            raise ShapeError(f"x has {len(x)} rows and {name} has the shape {array.shape}; expected as many rows.")
    if weight is not None:
        if weight.ndim != 1:
            raise ShapeError(f"sample_weight has the shape {weight.shape}; expected ({len(x)},), a number a sample.")
        check_finite(weight, "sample_weight", dtype)
    if y is not None:
        check_finite(y, "y", dtype)
    return Batch(x, y, weight)


def _numbers(name: str, data: Any) -> np.ndarray:
    try:
        array = np.asarray(data)
    except ValueError as error:
        raise DataError(f"{name} is no array: its rows differ in length. Expected the same shape for each.") from error
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} has the type {array.dtype}; expected an array of numbers.")
    return array


def _brief(data: Any) -> str:
    return repr(data) if data is None or isinstance(data, (int, float)) else f"a {type(data).__name__}"


def check_finite(x: np.ndarray, name: str, dtype: str = "float64") -> None:
    """Raise DataError naming the rows of ``x`` whose values are NaN or infinite once converted to ``dtype``."""
    largest = np.finfo(dtype).max
    if x.dtype.kind != "f" or not x.size or (x.min() >= -largest and x.max() <= largest):  # False for NaN
        return
    rows = np.flatnonzero(~(np.abs(x) <= largest).all(axis=tuple(range(1, x.ndim))))
    shown = ", ".join(map(str, rows[:10].tolist())) + (", ..." if len(rows) > 10 else "")
    raise DataError(f"{name} has NaN or infinite values in {len(rows)} row{'s' if len(rows) > 1 else ''} ({shown}); "
                    f"expected numbers finite in {dtype}. Remove or repair those rows.")


def warn_if_not_scaled(x: np.ndarray) -> None:
    """Warn when inputs look like pixels from 0 to 255."""
    if x.max() > SCALED_LIMIT:
        warnings.warn(f"The inputs reach {x.max():g}; networks learn best from numbers in [0, 1]. For pixels from 0 "
                      f"to 255 use x.astype('float32') / 255.", UserWarning, stacklevel=5)


def weights_of_classes(y: np.ndarray, class_weight: Any, classes: int, sparse_labels: bool) -> np.ndarray:
    """Return the weight of each sample's class (N); classes not named weigh 1.

    Raises
    ------
    ArgumentError
        If ``class_weight`` is no dict from class numbers below ``classes`` to finite numbers.
    """
    if not isinstance(class_weight, dict):
        raise ArgumentError(f"class_weight is {class_weight!r}; expected a dict such as {{0: 1.0, 1: 2.5}}.")
    for label, weight in class_weight.items():
        real_number(f"class_weight[{label!r}]", weight)
        if whole_number("A key of class_weight", label, least=0) >= classes:
            raise ArgumentError(f"class_weight has the class {label}; expected those of the network, classes 0 to "
                                f"{classes - 1}.")
    labels = y.reshape(-1) if sparse_labels else y.argmax(axis=1)
    weights = np.ones(len(labels))
    for label, weight in class_weight.items():
        weights[labels == label] = weight
    return weights


def split_last(batch: Batch, fraction: float) -> tuple[Batch, Batch]:
    """Split off the *last* rows for validation, before any shuffling, as Keras does.

    Raises
    ------
    ArgumentError
        If the fraction is not inside (0, 1) or one part would be empty.
    """
    fraction = real_number("validation_split", fraction, 0, below=1)
    at = int(len(batch.x) * (1 - fraction))
    if at == 0 or at == len(batch.x):
        raise ArgumentError(f"validation_split={fraction} of {len(batch.x)} rows leaves {at} to train on and "
                            f"{len(batch.x) - at} to validate on; both need at least one.")
    return rows_of(batch, slice(0, at)), rows_of(batch, slice(at, None))


def rows_of(batch: Batch, rows: Any) -> Batch:
    """Return some rows of inputs, labels and weights."""
    x, y, weight = batch
    return Batch(x[rows], None if y is None else y[rows], None if weight is None else weight[rows])
