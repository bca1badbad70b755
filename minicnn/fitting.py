"""Where a training stands: what ``fit`` knows of it, and what a checkpoint keeps beside model and callbacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minicnn.batches import ArrayBatches, Epochs, IteratorBatches
from minicnn.callbacks.base import CallbackList
from minicnn.metrics import Means


@dataclass
class Fitting:
    """A training that goes on.

    Attributes
    ----------
    plan, validation
        The data, and those to validate on or None.
    listeners : CallbackList
    settings : dict
        What else decides the training: arguments of ``fit``.
    epochs : int
        At which the training ends.
    epoch, batch : int
        The epoch that runs or comes next (from 0), and how many of its batches are done.
    means : Means
        Of what was logged in this epoch.
    ended : bool
        Whether a callback has ended the training.
    finished : bool
        Whether it has come to its end, and nothing has interrupted it.
    """

    plan: Epochs
    validation: ArrayBatches | IteratorBatches | None
    listeners: CallbackList
    settings: dict[str, Any]
    epochs: int
    epoch: int
    batch: int = 0
    means: Means = field(default_factory=Means)
    ended: bool = False
    finished: bool = False

    @property
    def complete(self) -> bool:
        """Whether no epoch is left to train."""
        return self.ended or self.epoch >= self.epochs

    def end_epoch(self) -> None:
        """Go on to the next epoch; called before the callbacks are told that one ended, which may save where it is."""
        self.epoch, self.batch, self.means = self.epoch + 1, 0, Means()
