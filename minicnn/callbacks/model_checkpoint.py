"""ModelCheckpoint: save the model while it is trained."""

from __future__ import annotations

import os
from pathlib import Path

from minicnn.arguments import real_number, whole_number
from minicnn.callbacks.base import Logs, announce
from minicnn.callbacks.monitor import Monitor
from minicnn.errors import ArgumentError, suggest
from minicnn.files import checked, make_folder
from minicnn.model_file import check_name


class ModelCheckpoint(Monitor):
    """Save the model, or its weights, after every epoch, or every so many batches; or only when it is the best.

    Parameters
    ----------
    filepath : path-like
        May hold ``{epoch}`` (from 1), ``{batch}`` (from 1, if saved by batches) and any logged name, formatted as
        Python does: ``"best-{epoch:02d}-{val_loss:.2f}.safetensors"``. Its folder is made if there is none. For the
        ending see ``Sequential.save``.
    monitor, mode
        See Monitor.
    verbose : int
        1 says what is saved.
    save_best_only : bool
        Save when the monitored value gets better. If it is not logged, always.
    save_weights_only : bool
        ``model.save_weights`` in place of ``model.save``.
    save_freq : "epoch" or int
        After every epoch, or after so many batches (counted through from epoch to epoch).
    initial_value_threshold : float, optional
        With ``save_best_only``, the first model to be saved must be better than this.

    Attributes
    ----------
    best : float or None
        As in Keras it is not forgotten between two trainings.

    Raises
    ------
    ArgumentError
        If ``filepath`` holds a name that is not logged, when a file is to be named.
    UnwritableFileError
        From ``fit``: if the disk is full. The file that was there is still there.
    """

    counters = ("batches_seen", "last_batch")
    decisive = (*Monitor.decisive, "save_best_only", "save_weights_only", "save_freq")

    def __init__(self, filepath: str | os.PathLike[str], monitor: str = "val_loss", verbose: int = 0,
                 save_best_only: bool = False, save_weights_only: bool = False, mode: str = "auto",
                 save_freq: str | int = "epoch", initial_value_threshold: float | None = None) -> None:
        if initial_value_threshold is not None:
            real_number("ModelCheckpoint: initial_value_threshold", initial_value_threshold, -float("inf"))
        super().__init__(monitor, mode, best=initial_value_threshold)
        checked("ModelCheckpoint", filepath)
        self.filepath = os.fspath(filepath)
        check_name("ModelCheckpoint", self.filepath, warn=False)
        self.verbose = verbose
        self.save_best_only = bool(save_best_only)
        self.save_weights_only = bool(save_weights_only)
        self.save_freq = save_freq if save_freq == "epoch" else whole_number("ModelCheckpoint: save_freq", save_freq)
        self.batches_seen = 0    # since the last file
        self.last_batch = -1
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Note which epoch the coming batches belong to."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save, if it is by batches and time."""
        if not isinstance(self.save_freq, int):
            return
        self.batches_seen += batch + 1 if batch <= self.last_batch else batch - self.last_batch
        self.last_batch = batch
        if self.batches_seen >= self.save_freq:
            self.batches_seen = 0
            self._save(self._epoch, logs or {}, batch)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save, if it is by epochs."""
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _save(self, epoch: int, logs: Logs, batch: int | None = None) -> None:
        path = self._path(epoch, logs, batch)
        if not self._is_due(epoch, logs, path):
            return
        make_folder(Path(path).parent)
        if self.save_weights_only:
            self.model.save_weights(path, overwrite=True)
        else:
            self.model.save(path, overwrite=True)
        self._say(f"Epoch {epoch + 1}: finished saving model to {path}")

    def _path(self, epoch: int, logs: Logs, batch: int | None) -> str:
        numbers = {"epoch": epoch + 1} | ({} if batch is None else {"batch": batch + 1})
        try:
            return self.filepath.format(**numbers | logs)
        except KeyError as error:
            name = error.args[0]
            raise ArgumentError(f"ModelCheckpoint: filepath is {self.filepath!r}, but {name!r} is not logged. "
                                f"{suggest(name, [*numbers, *logs])}") from None

    def _is_due(self, epoch: int, logs: Logs, path: str) -> bool:
        """Tell whether the model is to be saved; remember the best value."""
        words = f"saving model to {path}"
        if self.save_best_only:
            current = self.current(logs, "the model is saved every time", depth=2)
            if current is not None:
                before = "None" if self.best is None else f"{self.best:.5f}"
                if not self.is_improvement(current, self.best):
                    self._say(f"Epoch {epoch + 1}: {self.monitor} did not improve from {before}")
                    return False
                self.best = current
                words = f"{self.monitor} improved from {before} to {current:.5f}, {words}"
        self._say(f"Epoch {epoch + 1}: {words}")
        return True

    def _say(self, text: str) -> None:
        if self.verbose:
            announce(text)
