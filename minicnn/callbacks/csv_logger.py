"""CSVLogger: the logs of every epoch as a line of a table."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from typing import Any

from minicnn.callbacks.base import Callback, Logs, State
from minicnn.files import append, checked, replacing, writing


class CSVLogger(Callback):
    """Write the logs of every epoch to a CSV file, as soon as it ends.

    Columns are ``epoch`` (from 0), then the names of the first epoch's logs in alphabetical order; what is first logged
    later has no column. Without validation there are empty ``val_`` columns ("NA"), as in Keras, so that files with and
    without have the same ones.

    Parameters
    ----------
    filename : path-like
    separator : str
        Between two values.
    append : bool
        Add to a file that is there rather than replace it; the head is then not written again.

    Raises
    ------
    UnwritableFileError
        From ``fit``: if the disk is full. The file then ends with a whole line.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = checked("CSVLogger", filename)
        self.separator = separator
        self.append = bool(append)
        self.keys: list[str] | None = None
        self._head = True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begin the file."""
        self.keys = None
        self._head = not (self.append and self.filename.exists() and self.filename.stat().st_size)
        self._open("a" if self.append else "w").close()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a line; before the first one the head."""
        logs = logs or {}
        if self.keys is None:
            self.keys = _columns(logs)
            if self._head:
                self._write(["epoch", *self.keys])
        self._write([epoch, *(_cell(logs.get(key, "NA")) for key in self.keys)])

    def get_state(self) -> State:
        """See Callback: all that is in the file, so that a resumed training drops the lines it will write again."""
        text = self.filename.read_bytes().decode(errors="surrogateescape") if self.filename.is_file() else ""
        return {"text": text, "keys": "\n".join(self.keys or [])}

    def set_state(self, state: State) -> None:
        """See Callback."""
        with replacing(self.filename) as file:
            file.write(state["text"].encode(errors="surrogateescape"))
        self.keys = state["keys"].split("\n") if state["keys"] else None
        self._head = not state["text"]

    def _open(self, mode: str) -> io.FileIO:
        """Open the file, for the time of a line: nothing is left open whatever ends the training."""
        with writing(self.filename):
            return io.FileIO(self.filename, mode)

    def _write(self, row: list[Any]) -> None:
        line = io.StringIO()
        csv.writer(line, delimiter=self.separator).writerow(row)
        with self._open("a") as file:
            append(file, line.getvalue().encode())


def _columns(logs: Logs) -> list[str]:
    keys = sorted(logs)
    return keys if any(key.startswith("val_") for key in keys) else keys + [f"val_{key}" for key in keys]


def _cell(value: Any) -> Any:
    """Word a value; several in one cell as ``"[1, 2]"``."""
    if isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", True):
        return f'"[{", ".join(map(str, value))}]"'
    return value
