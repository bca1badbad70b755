"""LearningRateScheduler: a learning rate for every epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from minicnn.callbacks.base import Callback, Logs, announce


class LearningRateScheduler(Callback):
    """Set the learning rate at the beginning of every epoch; it is logged as ``learning_rate``.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate)`` or ``schedule(epoch)`` returns the new rate; epochs count from 0.
    verbose : int
        1 prints each new rate.
    """

    decisive = ("schedule",)    # by its name: nobody can compare functions

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose
        self._takes_rate = _takes_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Ask the schedule."""
        optimizer = self.model.optimizer
        known = (epoch, optimizer.learning_rate) if self._takes_rate else (epoch,)
        optimizer.learning_rate = self.schedule(*known)
        if self.verbose:
            announce(f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to "
                     f"{optimizer.learning_rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Log the rate that was in force."""
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


def _takes_two(function: Callable[..., float]) -> bool:
    """Tell whether a function takes two positional arguments; one that does not say is taken to."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C
        return True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)
