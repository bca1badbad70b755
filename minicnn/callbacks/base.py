"""The base of all callbacks, and the list that calls them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from minicnn.errors import ArgumentError

Logs = dict[str, Any]
State = dict[str, Any]


class Callback:
    """Base of all callbacks; override what you need.

    ``logs`` are the names and values logged so far: of a batch, the means of the epoch up to it; of an epoch, its loss
    and metrics, with ``val_`` in front those of the validation. What is added to an epoch's logs is seen by the
    callbacks that follow and kept in the history.

    Attributes
    ----------
    model : Sequential
        Being trained; ``model.stop_training = True`` ends training after the batch or epoch it is set in.
    params : dict
        ``epochs``, ``steps`` (batches an epoch) and ``images`` (None if unknown), ``verbose``.
    called_last : bool
        Of the class: whether it is called after all others, wherever it stands in the list.
    decisive : tuple of str
        Of the class: attributes that decide the training; one that is interrupted goes on only where they are equal.
    """

    called_last: ClassVar[bool] = False
    decisive: ClassVar[tuple[str, ...]] = ()

    def __init__(self) -> None:
        self.model: Any = None
        self.params: dict[str, Any] = {}

    def set_model(self, model: Any) -> None:
        """Receive the model."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Receive the parameters of this training."""
        self.params = params

    def get_state(self) -> State:
        """Return what must outlive an interrupted training: whole numbers, strings and arrays, by name.

        Numbers with a fraction are arrays of float64: these keep every bit, and NaN.
        """
        return {}

    def set_state(self, state: State) -> None:
        """Take back what ``get_state`` returned.

        Called after ``on_train_begin`` of the training that goes on; if that is in the middle of an epoch, once more
        after its ``on_epoch_begin``.
        """

    def prepare(self) -> None:
        """Refuse, by an error, a training that must not begin; called before ``on_train_begin`` of any callback."""

    # -- training ----------------------------------------------------------------------------------------------------

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """After the last epoch, and after an interruption; ``logs`` are those of the last epoch that ended."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Before an epoch (counted from 0)."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """After an epoch and its validation; ``logs`` may be added to."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a training batch (counted from 0)."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a training batch; ``logs`` are the means of the epoch so far."""
        self.on_batch_end(batch, logs)

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_begin``, which calls it."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of ``on_train_batch_end``, which calls it."""

    # -- evaluation (validation too) and prediction ------------------------------------------------------------------

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Before an evaluation or validation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """After an evaluation or validation, with its results."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of an evaluation or validation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of an evaluation or validation; ``logs`` are the means so far."""

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Before ``predict``."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """After ``predict``."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Before a batch of ``predict``."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """After a batch of ``predict``; ``logs["outputs"]`` (N, K) is what it gave."""


class CallbackList:
    """Several callbacks, called in order."""

    def __init__(self, callbacks: Sequence[Callback], model: Any, params: dict[str, Any]) -> None:
        for callback in callbacks:
            if not isinstance(callback, Callback):
                hint = f" Perhaps write {callback.__name__}(...)?" if isinstance(callback, type) else ""
                raise ArgumentError(f"callbacks holds {callback!r}; expected objects of minicnn.callbacks.Callback."
                                    f"{hint}")
        for callback in callbacks:
            callback.set_model(model)
            callback.set_params(params)
        self.callbacks = sorted(callbacks, key=lambda callback: callback.called_last)

    def call(self, event: str, *arguments: Any) -> None:
        """Call the method named ``event`` of each."""
        for callback in self.callbacks:
            getattr(callback, event)(*arguments)


def announce(text: str) -> None:
    """Print a line: above the progress bar, where one is drawn."""
    bars = sys.modules.get("tqdm.auto")
    if bars is None:
        print(text, flush=True)
    else:
        bars.tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
