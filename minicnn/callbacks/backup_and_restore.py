"""BackupAndRestore: a training that is interrupted goes on as if it had not been."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minicnn import checkpoint
from minicnn.arguments import whole_number
from minicnn.batches import IteratorBatches
from minicnn.callbacks.base import Logs, announce
from minicnn.callbacks.monitor import Monitor
from minicnn.errors import ArgumentError, FileFormatError, refuse_unsupported
from minicnn.files import checked, make_folder


class BackupAndRestore(Monitor):
    """Save all of a training in a folder, and go on from there if the process ends before it does.

    The same script, started again, goes on: weights, optimizer, learning rate, the state of all callbacks, history and
    place in the data are those of the last checkpoint, and everything that follows is the same to the last bit. That is
    so for arrays and for ``ImageDataGenerator.flow``. Of another iterator nobody knows where it stands: such a training
    is saved, and goes on, at the ends of epochs.

    A checkpoint is one file, checksummed, which takes its name when it is on the disk whole. The last two are kept and
    the best; of damaged ones a warning says so, and the one before is used.

    Parameters
    ----------
    backup_dir : path-like
        A folder for this training alone; it is made if there is none.
    save_freq : "epoch" or int
        At the end of every epoch, or after so many batches as well.
    delete_checkpoint : bool
        Remove the checkpoints when training has come to its end. If not, ``fit`` with more epochs goes on from them.
    monitor, mode
        Which value says what the best epoch is (see Monitor); without validation the loss.
    note : mapping, optional
        Kept in the checkpoints, in types JSON knows, for whoever resumes.

    Attributes
    ----------
    resumed : pathlib.Path or None
        The checkpoint from which this training goes on.

    Raises
    ------
    ArgumentError
        If the note holds something else. From ``fit``: if configuration or data are not those of the checkpoint; the
        message lists the differences. More epochs are none.
    FileFormatError
        From ``fit``: if no checkpoint can be read, or if the last does not fit the network.
    UnwritableFileError
        From ``fit``: if the disk is full. The checkpoints that were there are still there.
    """

    called_last = True      # so that it finds every callback's state after the same event
    counters = ("unsaved",)
    decisive = ()

    def __init__(self, backup_dir: str | os.PathLike[str], save_freq: str | int = "epoch",
                 delete_checkpoint: bool = True, monitor: str = "val_loss", mode: str = "auto",
                 note: Mapping[str, Any] | None = None, **unsupported: Any) -> None:
        refuse_unsupported("BackupAndRestore", unsupported, {"double_checkpoint": (True, False)})
        super().__init__(monitor, mode)
        self.backup_dir = checked("BackupAndRestore", backup_dir)
        if not os.fspath(backup_dir):
            raise ArgumentError("BackupAndRestore: backup_dir is empty; expected the path of a folder.")
        self.save_freq = save_freq if save_freq == "epoch" else whole_number("BackupAndRestore: save_freq", save_freq)
        self.delete_checkpoint = bool(delete_checkpoint)
        self.note = _plain(note)
        self.unsaved = 0        # batches since the last checkpoint
        self.resumed: Path | None = None
        self._last: Path | None = None
        self._found: checkpoint.Saved | None = None
        self._again: checkpoint.Saved | None = None
        self._configuration: dict[str, Any] = {}
        self._asked = self._raised = False

    def interrupt(self) -> bool:
        """Ask for a checkpoint at the end of the batch that runs, and KeyboardInterrupt there; for signal handlers.

        Asked in a validation, or where the data cannot be resumed in an epoch, it is at the end of the epoch.

        Returns
        -------
        bool
            Whether it will be so; not if nothing is trained, or if it was asked for before and has not happened yet.
        """
        if self.model is None or self.model.fitting is None or (self._asked and not self._raised):
            return False
        self._asked = True
        return True

    def prepare(self) -> None:
        """Read the last checkpoint, and refuse to go on from that of another training."""
        self._configuration = checkpoint.configuration(self.model)
        self._found = checkpoint.newest(self.backup_dir)
        if self._found is not None:
            self._refuse_another(self._found)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Go on from the last checkpoint; if there is none, write the first."""
        self.best, self.unsaved, self.resumed, self._last, self._again = None, 0, None, None, None
        self._asked = self._raised = False
        make_folder(self.backup_dir)
        checkpoint.remove(self.backup_dir, all_of_them=False)
        if self.save_freq != "epoch" and not self._resumable():
            warnings.warn("BackupAndRestore: the data come from an iterator that does not say where it stands; this "
                          "training is saved, and goes on, at the ends of epochs only. Arrays and "
                          "ImageDataGenerator.flow go on anywhere.", UserWarning, stacklevel=5)
        found, self._found = self._found, None
        if found is not None:
            self._resume(found)
        elif self.model.built:
            self._save()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """In an epoch that was interrupted, undo what other callbacks did at its beginning a second time."""
        if self._again is not None:
            checkpoint.give_back(self.model, self._again.arrays, self._again.description)
            self._again = None

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Save, if it is time or asked for."""
        self.unsaved += 1
        if (self._asked or (self.save_freq != "epoch" and self.unsaved >= int(self.save_freq))) and self._resumable():
            self._save()
            self._interrupt_if_asked()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Save; remember whether it is the best."""
        logs = logs or {}
        value = float(logs[self.monitor] if self.monitor in logs else logs.get("loss", math.nan))
        best = math.isfinite(value) and self.is_improvement(value, self.best)
        if best:
            self.best = value
        self._save(best)
        self._interrupt_if_asked()

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Remove the checkpoints, if training has come to its end and they are not wanted."""
        if not self.model.fitting.finished:
            return
        if self.delete_checkpoint:
            checkpoint.remove(self.backup_dir, all_of_them=True)
        self._interrupt_if_asked()

    def _interrupt_if_asked(self) -> None:
        if self._asked and not self._raised:
            self._raised = True
            raise KeyboardInterrupt

    def _resumable(self) -> bool:
        batches = self.model.fitting.plan.batches
        return not isinstance(batches, IteratorBatches) or batches.resumable

    def _save(self, best: bool = False) -> None:
        self.unsaved = 0
        arrays, description = checkpoint.capture(self.model)
        description |= {"configuration": self._configuration, "versions": checkpoint.versions(), "note": self.note}
        self._last = checkpoint.write(self.backup_dir, arrays, description, self._last, best)

    def _refuse_another(self, saved: checkpoint.Saved) -> None:
        for damage in saved.damaged:
            warnings.warn(f"{damage} Training goes on from {saved.path} instead.", UserWarning, stacklevel=6)
        different = checkpoint.differences(saved.description["configuration"], self._configuration)
        if different:
            raise ArgumentError(f"The training in {self.backup_dir} cannot go on, for this one is another: "
                                f"{'; '.join(different)}. Give what it had, or another folder to train anew.")
        others = checkpoint.differences(saved.description["versions"], checkpoint.versions())
        if others:
            warnings.warn(f"The training in {self.backup_dir} goes on with other versions, and perhaps other bits: "
                          f"{'; '.join(others)}.", UserWarning, stacklevel=6)

    def _resume(self, saved: checkpoint.Saved) -> None:
        try:
            checkpoint.give_back(self.model, saved.arrays, saved.description)
        except FileFormatError as error:
            raise FileFormatError(f"{saved.path}: {error}") from None
        fitting = self.model.fitting
        self.resumed = self._last = saved.path
        self._again = saved if fitting.batch else None
        if self.params.get("verbose"):
            place = f"after batch {fitting.batch} of" if fitting.batch else "before"
            announce(f"Training was complete after epoch {fitting.epoch}, by {saved.path}." if fitting.complete else
                     f"Training goes on {place} epoch {fitting.epoch + 1}, from {saved.path}.")


def _plain(note: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a note as it will be read again."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(note or {}), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"BackupAndRestore: note is {note!r} ({error}); expected a dict of types JSON knows: "
                            f"texts, finite numbers, lists, dicts. Convert what is none.") from None
    return plain
