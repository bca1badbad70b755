"""History: what every epoch ended with."""

from __future__ import annotations

import numpy as np

from minicnn.callbacks.base import Callback, Logs, State

_PREFIX = "history/"


class History(Callback):
    """What every epoch ended with; ``fit`` makes one and returns it, or returns yours.

    Attributes
    ----------
    history : dict of str to list of float
        One list per logged name: loss, accuracy, val_loss, val_accuracy, learning_rate, ...
    epoch : list of int
        The epochs recorded, of the last training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin a new list of epochs; as in Keras, the lists of a history that is used again grow on."""
        self.epoch = []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Append the epoch's logs."""
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def get_state(self) -> State:
        """See Callback."""
        return {"epoch": np.array(self.epoch, np.int64)} | {
            _PREFIX + name: np.array(values, np.float64) for name, values in self.history.items()}

    def set_state(self, state: State) -> None:
        """See Callback."""
        self.epoch = [int(epoch) for epoch in state["epoch"]]
        self.history = {name.removeprefix(_PREFIX): values.tolist() for name, values in state.items()
                        if name.startswith(_PREFIX)}
