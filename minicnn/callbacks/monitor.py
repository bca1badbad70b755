"""What EarlyStopping, ReduceLROnPlateau and ModelCheckpoint share: one logged value, watched for getting better."""

from __future__ import annotations

import math
import warnings
from typing import Any, ClassVar

import numpy as np

from minicnn import metrics
from minicnn.arguments import real_number
from minicnn.callbacks.base import Callback, Logs, State
from minicnn.errors import ArgumentError, suggest

MODES = ("auto", "min", "max")


class Monitor(Callback):
    """Base of callbacks that watch one logged value.

    Parameters
    ----------
    monitor : str
        Its name in the logs.
    mode : {"auto", "min", "max"}
        Whether smaller or larger is better. ``auto``: smaller for a loss, larger for the library's own metrics; for
        others it has to be said. Any other word is a warning and taken for ``auto``, as in Keras.
    min_delta : float
        A difference below it is no improvement.
    best : float, optional
        The value to improve on; the first one improves on None.

    Attributes
    ----------
    best : float or None
    """

    # The whole numbers among the attributes that a resumed training needs.
    counters: ClassVar[tuple[str, ...]] = ()
    decisive: ClassVar[tuple[str, ...]] = ("monitor", "mode", "min_delta")

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0, best: float | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        if mode not in MODES:
            warnings.warn(f"{name} got mode={mode!r}; expected one of {', '.join(MODES)}. It goes on with 'auto'.",
                          UserWarning, stacklevel=3)
            mode = "auto"
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(real_number(f"{name}: min_delta", min_delta, -math.inf))
        self.best = best
        self._direction = mode
        self._warned = False

    def set_model(self, model: Any) -> None:
        """Receive the model, and learn from it which direction is better.

        Raises
        ------
        ArgumentError
            If the direction of a metric of one's own is not said.
        """
        super().set_model(model)
        self._warned = False
        self._direction = self._direction_of(model) if self.mode == "auto" else self.mode

    def current(self, logs: Logs | None, otherwise: str, depth: int = 0) -> float | None:
        """Return the monitored value; if it is not logged, say so once a training, and what happens ``otherwise``.

        The warning is about the line that called ``fit``: ``depth`` counts the calls between an event and this one.
        """
        value = (logs or {}).get(self.monitor)
        if value is None and not self._warned:
            self._warned = True
            warnings.warn(f"{type(self).__name__} monitors {self.monitor!r}, which is not logged: {otherwise}. "
                          f"{self._advice(list(logs or {}))}", UserWarning, stacklevel=6 + depth)
        return value

    def is_improvement(self, value: float, reference: float | None) -> bool:
        """Tell whether a value is better than another by more than ``min_delta``."""
        if self._direction == "auto":
            raise self._undirected()
        if reference is None:
            return True
        if self._direction == "min":
            return bool(value + self.min_delta < reference)
        return bool(value - self.min_delta > reference)

    def get_state(self) -> State:
        """See Callback."""
        state: State = {name: int(getattr(self, name)) for name in self.counters}
        return state if self.best is None else state | {"best": np.float64(self.best)}

    def set_state(self, state: State) -> None:
        """See Callback."""
        for name in self.counters:
            setattr(self, name, int(state[name]))
        self.best = float(state["best"]) if "best" in state else None

    def _direction_of(self, model: Any) -> str:
        """Return ``min`` or ``max``, or ``auto`` for a name that the model itself does not log."""
        name = self.monitor.removeprefix("val_")
        if name == "loss":
            return "min"
        own = dict(model.metrics)
        if name not in own:
            return "auto"
        if own[name] in metrics.METRICS.values():
            return "max"
        raise self._undirected()

    def _undirected(self) -> ArgumentError:
        return ArgumentError(f"{type(self).__name__} monitors {self.monitor!r}, of which is not known whether smaller "
                             f"or larger is better. Give mode='min' or mode='max'.")

    def _advice(self, logged: list[str]) -> str:
        if self.monitor.removeprefix("val_") in logged:
            return "Give fit validation_data or validation_split."
        return suggest(self.monitor, logged)
