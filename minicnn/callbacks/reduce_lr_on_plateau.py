"""ReduceLROnPlateau: smaller steps when training no longer gets better."""

from __future__ import annotations

from minicnn.arguments import real_number, whole_number
from minicnn.callbacks.base import Logs, announce
from minicnn.callbacks.monitor import Monitor


class ReduceLROnPlateau(Monitor):
    """Multiply the learning rate by ``factor`` after ``patience`` epochs without improvement.

    The learning rate that was in force in an epoch is logged as ``learning_rate``.

    Parameters
    ----------
    monitor, mode, min_delta
        See Monitor; ``min_delta`` is 1e-4 unless given.
    factor : float
        In [0, 1).
    patience : int
        Epochs without improvement before the learning rate is reduced.
    verbose : int
        1 says so.
    cooldown : int
        Epochs after a reduction in which nothing is counted.
    min_lr : float
        The learning rate gets no smaller than this.

    Attributes
    ----------
    wait, cooldown_counter : int
        Epochs without improvement so far; epochs of the cooldown that are left.
    """

    counters = ("wait", "cooldown_counter")
    decisive = (*Monitor.decisive, "factor", "patience", "cooldown", "min_lr")

    def __init__(self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10, verbose: int = 0,
                 mode: str = "auto", min_delta: float = 1e-4, cooldown: int = 0, min_lr: float = 0.0) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = real_number("ReduceLROnPlateau: factor", factor, 0, below=1)
        self.patience = whole_number("ReduceLROnPlateau: patience", patience, least=0)
        self.verbose = verbose
        self.cooldown = whole_number("ReduceLROnPlateau: cooldown", cooldown, least=0)
        self.min_lr = real_number("ReduceLROnPlateau: min_lr", min_lr)
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Forget the training before."""
        self.best = None
        self.wait = self.cooldown_counter = 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Log the learning rate; reduce it if it is time."""
        logs = {} if logs is None else logs
        logs["learning_rate"] = self.model.optimizer.learning_rate
        current = self.current(logs, "the learning rate stays")
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_improvement(current, self.best):
            self.best = current
            self.wait = 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def in_cooldown(self) -> bool:
        """Tell whether a reduction was so recent that nothing is counted."""
        return self.cooldown_counter > 0

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        if optimizer.learning_rate <= self.min_lr:
            return
        optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
        self.cooldown_counter = self.cooldown
        self.wait = 0
        if self.verbose:
            announce(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {optimizer.learning_rate}.")
