"""CSVLogger: the logs of every epoch as a line of a table."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from minicnn.callbacks.base import Callback, Logs, State


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
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        super().__init__()
        self.filename = Path(filename)
        self.separator = separator
        self.append = bool(append)
        self.keys: list[str] | None = None
        self._file: IO[str] | None = None
        self._head = True

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Open the file."""
        self.keys = None
        self._head = not (self.append and self.filename.exists() and self.filename.stat().st_size)
        self._open("a" if self.append else "w")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Write a line; before the first one the head."""
        logs = logs or {}
        if self.keys is None:
            self.keys = _columns(logs)
            if self._head:
                self._write(["epoch", *self.keys])
        self._write([epoch, *(_cell(logs.get(key, "NA")) for key in self.keys)])

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def get_state(self) -> State:
        """See Callback: all that is in the file, so that a resumed training drops the lines it will write again."""
        text = self.filename.read_bytes().decode() if self.filename.exists() else ""
        return {"text": text, "keys": "\n".join(self.keys or [])}

    def set_state(self, state: State) -> None:
        """See Callback."""
        self.filename.write_bytes(state["text"].encode())
        self.keys = state["keys"].split("\n") if state["keys"] else None
        self._head = not state["text"]
        self._open("a")

    def _open(self, mode: str) -> None:
        self.on_train_end()
        self._file = open(self.filename, mode, newline="", encoding="utf-8")  # noqa: SIM115 - closed in on_train_end

    def _write(self, row: list[Any]) -> None:
        assert self._file is not None
        csv.writer(self._file, delimiter=self.separator).writerow(row)
        self._file.flush()


def _columns(logs: Logs) -> list[str]:
    keys = sorted(logs)
    return keys if any(key.startswith("val_") for key in keys) else keys + [f"val_{key}" for key in keys]


def _cell(value: Any) -> Any:
    """Word a value; several in one cell as ``"[1, 2]"``."""
    if isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", True):
        return f'"[{", ".join(map(str, value))}]"'
    return value
