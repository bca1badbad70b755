"""A training without a network: callbacks are told what a given sequence of logs would make ``fit`` tell them."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.callbacks import Callback

Logs = dict[str, float]


class Rate:
    """An optimizer's learning rate."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate


class Recording:
    """Stands for a model of either library: its weights are the number of the epoch, its files are names.

    Attributes
    ----------
    saved : list of str
        Files, in their order; weights alone have ``(weights)`` behind the name.
    restored : list of ndarray
        What ``set_weights`` was given.
    rates : list of float
        The learning rate after each epoch.
    epochs : int
        Epochs gone through.
    """

    metrics: list[Any] = []

    def __init__(self, learning_rate: float = 1.0) -> None:
        self.optimizer = Rate(learning_rate)
        self.stop_training = False
        self.epochs = 0
        self.saved: list[str] = []
        self.restored: list[np.ndarray] = []
        self.rates: list[float] = []

    def get_weights(self) -> list[np.ndarray]:
        return [np.full(2, self.epochs), np.array(float(self.epochs))]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.restored += list(weights)

    def save(self, path: str, overwrite: bool = True) -> None:
        self.saved.append(path)

    def save_weights(self, path: str, overwrite: bool = True) -> None:
        self.saved.append(f"{path} (weights)")




def drive(callback: Any, logs: list[Logs], batches: int = 0, also: Callback | None = None, begin: int = 0,
          state: dict[str, Any] | None = None, learning_rate: float = 1.0) -> Recording:
    """Tell a callback, of either library, what happens in a training whose epochs end with ``logs``.

    Parameters
    ----------
    callback : Callback
    logs : list of dict
        One an epoch; a value None is not logged.
    batches : int
        Batches an epoch; each is told the epoch's logs.
    also : Callback, optional
        Called after it.
    begin, state
        The first epoch, and what the callback is to remember of those before.
    learning_rate : float
        At the beginning.
    """
    model = Recording(learning_rate)
    listening = [callback] if also is None else [callback, also]
    for one in listening:
        one.set_model(model)
        one.set_params({"epochs": len(logs), "steps": batches, "verbose": 0})
        one.on_train_begin({})
    if state is not None:
        callback.set_state(state)
    for epoch in range(begin, len(logs)):
        own = {name: value for name, value in logs[epoch].items() if value is not None}
        for one in listening:
            one.on_epoch_begin(epoch, {})
        for batch in range(batches):
            for one in listening:
                one.on_train_batch_begin(batch, {})
                one.on_train_batch_end(batch, dict(own))
        model.epochs = epoch + 1
        for one in listening:
            one.on_epoch_end(epoch, own)
        model.rates.append(model.optimizer.learning_rate)
        if model.stop_training:
            break
    for one in listening:
        one.on_train_end({})
    return model
