"""EarlyStopping: end training when it no longer gets better."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.arguments import whole_number
from minicnn.callbacks.base import Logs, State, announce
from minicnn.callbacks.monitor import Monitor

_PREFIX = "best_weights/"


class EarlyStopping(Monitor):
    """End training after ``patience`` epochs in which the monitored value did not get better.

    Parameters
    ----------
    monitor, mode, min_delta
        See Monitor.
    patience : int
        Epochs without improvement before training ends.
    verbose : int
        1 says when it ends training and which weights it restores.
    baseline : float, optional
        Epochs that are not better than this count as without improvement, even if they are the best so far.
    restore_best_weights : bool
        At the end of training go back to the weights of the best epoch, whether training was ended early or ran out
        of epochs. An epoch is the best whatever the baseline says.
    start_from_epoch : int
        Epochs before this one (counted from 0) are not looked at.

    Attributes
    ----------
    wait : int
        Epochs without improvement so far.
    stopped_epoch : int
        The epoch after which training was ended, or 0.
    best, best_epoch
        The best value and its epoch (counted from 0).
    best_weights : list of ndarray or None
        Of that epoch, if they are to be restored.

    References
    ----------
    Prechelt (1998), "Early stopping: but when?".
    """

    counters = ("wait", "stopped_epoch", "best_epoch")
    decisive = (*Monitor.decisive, "patience", "baseline", "restore_best_weights", "start_from_epoch")

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0, patience: int = 0, verbose: int = 0,
                 mode: str = "auto", baseline: float | None = None, restore_best_weights: bool = False,
                 start_from_epoch: int = 0) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = whole_number("EarlyStopping: patience", patience, least=0)
        self.verbose = verbose
        self.baseline = baseline
        self.restore_best_weights = bool(restore_best_weights)
        self.start_from_epoch = whole_number("EarlyStopping: start_from_epoch", start_from_epoch, least=0)
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best_weights: list[Any] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget the training before."""
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = None
        self.best_weights = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Compare with the best epoch so far."""
        current = self.current(logs, "it does nothing")
        if current is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.is_improvement(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.is_improvement(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Restore the best weights, if asked for."""
        if self.stopped_epoch > 0 and self.verbose:
            announce(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                announce(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)

    def get_state(self) -> State:
        """See Callback."""
        weights = enumerate(self.best_weights or [])
        return super().get_state() | {f"{_PREFIX}{number}": array.copy() for number, array in weights}

    def set_state(self, state: State) -> None:
        """See Callback."""
        super().set_state(state)
        count = sum(name.startswith(_PREFIX) for name in state)
        self.best_weights = [np.array(state[f"{_PREFIX}{number}"]) for number in range(count)] if count else None
