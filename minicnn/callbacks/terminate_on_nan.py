"""TerminateOnNaN: end a training whose loss is no number any more."""

from __future__ import annotations

import math

from minicnn.callbacks.base import Callback, Logs, announce
from minicnn.errors import TrainingError


class TerminateOnNaN(Callback):
    """End training after the batch that makes the loss NaN or infinite.

    Parameters
    ----------
    raise_error : bool
        Raise an error in place of ending training quietly.

    Raises
    ------
    TrainingError
        If asked for.
    """

    def __init__(self, raise_error: bool = False) -> None:
        super().__init__()
        self.raise_error = bool(raise_error)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Look at the loss."""
        loss = (logs or {}).get("loss")
        if loss is None or math.isfinite(loss):
            return
        if self.raise_error:
            raise TrainingError(f"The loss became {loss} in batch {batch}; expected a finite number. Try a smaller "
                                f"learning rate, and look for large numbers in the data.")
        announce(f"Batch {batch}: Invalid loss, terminating training")
        self.model.stop_training = True
