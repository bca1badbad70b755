"""Callbacks: what else happens during training, called at its beginning and end and around epochs and batches."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from minicnn.errors import ArgumentError

Logs = dict[str, float]


class Callback:
    """Base of all callbacks; override what you need.

    Attributes
    ----------
    model : Sequential
        Being trained; ``model.stop_training = True`` ends training after the batch or epoch it is set in.
    params : dict
        ``epochs``, ``steps`` (batches an epoch) and ``images`` (None if unknown), ``verbose``.
    """

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Receive the model."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Receive the parameters of this training."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch (counted from 0)."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation; ``logs`` may be added to."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a training batch (counted from 0)."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a training batch; ``logs`` are the means of the epoch so far."""

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation or validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation or validation."""


class CallbackList:
    """Several callbacks, called in order."""

    def __init__(self, callbacks: Sequence[Callback], model: Any, params: dict[str, Any]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ArgumentError(f"callbacks holds {callback!r}; expected objects of minicnn.callbacks.Callback.")
            callback.set_model(model)
            callback.set_params(params)
        self.callbacks = list(callbacks)

    def call(self, event: str, *arguments: Any) -> None:
        """Call the method named ``event`` of each."""
        for callback in self.callbacks:
            getattr(callback, event)(*arguments)


class History(Callback):
    """What every epoch ended with; ``fit`` returns it.

    Attributes
    ----------
    history : dict of str to list of float
        One list per logged name: loss, accuracy, val_loss, val_accuracy, ...
    epoch : list of int
        The epochs recorded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the epoch's logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class LearningRateScheduler(Callback):
    """Set the learning rate at the beginning of every epoch.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate)`` or ``schedule(epoch)`` returns the new rate; epochs count from 0.
    verbose : int
        1 prints each new rate.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        super().__init__()
        self.schedule = schedule
        self.verbose = verbose
        parameters = inspect.signature(schedule).parameters.values()
        self._takes_rate = len(parameters) > 1 or any(p.kind is p.VAR_POSITIONAL for p in parameters)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Ask the schedule."""
        optimizer = self.model.optimizer
        known = (epoch, optimizer.learning_rate) if self._takes_rate else (epoch,)
        optimizer.learning_rate = self.schedule(*known)
        if self.verbose:
            print(f"Epoch {epoch + 1}: the learning rate is {optimizer.learning_rate:g}", flush=True)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Log the rate that was in force."""
        if logs is not None:
            logs["learning_rate"] = self.model.optimizer.learning_rate


class ProgressBar(Callback):
    """Show loss, metrics and images per second: a bar on a terminal or in a notebook, and one line an epoch.

    Parameters
    ----------
    verbose : {"auto", 1, 2}
        ``auto`` decides as above, 1 always draws the bar, 2 prints lines only.
    """

    FORMAT = "{desc} {percentage:3.0f}%|{bar}| {remaining} left, {rate_noinv_fmt}{postfix}"  # fits 80 columns

    def __init__(self, verbose: str | int = "auto") -> None:
        super().__init__()
        notebook = "ipykernel" in sys.modules
        self.draws_bar = verbose == 1 or (verbose == "auto" and (getattr(sys.stdout, "isatty", bool)() or notebook))
        self.bar: Any = None
        self.images = 0
        self.seconds = 0.0
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Open the bar."""
        self.images = 0
        self.started = time.perf_counter()
        self.title = f"Epoch {epoch + 1}/{self.params['epochs']}"
        if self.draws_bar:
            from tqdm.auto import tqdm
            self.bar = tqdm(total=self.params.get("images"), desc=self.title, unit=" images", file=sys.stdout,
                            dynamic_ncols=True, mininterval=0.2, leave=False, bar_format=self.FORMAT)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance the bar."""
        done = self.model.images_seen
        if self.bar is not None:
            self.bar.set_postfix_str(_words(logs), refresh=False)
            self.bar.update(done - self.images)
        self.images = done
        self.seconds = time.perf_counter() - self.started     # so that the time of validation does not count

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Replace the bar by the line, which a narrow terminal does not cut."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        rate = self.images / max(self.seconds, 1e-9)
        print(f"{self.title} - {self.seconds:.1f} s - {rate:,.0f} images/s - {_words(logs)}", flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close a bar left open by an interruption."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _words(logs: Logs | None) -> str:
    """Word the logs: ``loss 0.1234 - accuracy 0.9876``."""
    return " - ".join(f"{name} {value:.4f}" if name != "learning_rate" else f"{name} {value:.2g}"
                      for name, value in (logs or {}).items())
