"""Processes of the sides, seen from the benchmark: start one, ask it, let them take turns."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

import minicnn
from minicnn.errors import MinicnnError

WORKER = Path(__file__).with_name("benchmark_worker.py")
PAUSE = 0.05  # seconds before a turn: threads that wait for work by spinning, such as OpenMP's, go to sleep meanwhile


class MissingError(MinicnnError):
    """A library is not installed."""


class Process:
    """A side in a process of its own. Used as ``with Process("torch", 2) as side: side.ask("about")``.

    Parameters
    ----------
    name : str
        A key of ``benchmark_peers.SIDES``.
    threads : int
    python : str, optional
        The interpreter; the library may be installed in an environment of its own.
    settings : dict, optional
        Environment variables.
    """

    def __init__(self, name: str, threads: int, python: str | None = None,
                 settings: Mapping[str, str] | None = None) -> None:
        path = os.pathsep.join(filter(None, (str(Path(minicnn.__file__).parents[1]), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "KERAS_BACKEND": "tensorflow",
                       **(settings or {})}
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        self._process = subprocess.Popen([python or sys.executable, str(WORKER), name, str(threads)], text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
                                         encoding="utf-8", env=environment)
        try:
            greeting = self._read()
        except BaseException:
            self.close()
            raise
        if "missing" in greeting:
            self.close()
            raise MissingError(greeting["missing"])

    def ask(self, do: str, **request: Any) -> Any:
        """Send a request and wait for the answer.

        Raises
        ------
        MinicnnError
            If the process ends instead; the message has its last words.
        """
        stream = cast(TextIO, self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # it has ended; reading says why
            stream.write(json.dumps({"do": do, **request}) + "\n")
            stream.flush()
        return self._read()["answer"]

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                cast(TextIO, stream).close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = cast(TextIO, self._process.stdout).readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            words = self._errors.read().strip().splitlines()[-5:]
            raise MinicnnError(f"the process of {self.name} ended with status {self._process.returncode}. It said:\n"
                               + "\n".join(words))
        return dict(json.loads(line))


def by_turns(sides: Mapping[str, Any], work: str, calls: int, repeats: int) -> dict[str, list[float]]:
    """Time all sides, one after the other and in changing order; return every time in milliseconds.

    So a machine that is busy for a while slows all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats):
        for name in turned(list(sides), turn):
            time.sleep(PAUSE)
            times[name] += sides[name].ask("time", work=work, calls=calls)
    return times


def turned(names: Sequence[str], turn: int) -> list[str]:
    """Return the names with another one first each time."""
    start = turn % len(names)
    return [*names[start:], *names[:start]]


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the median of each side's times."""
    return {name: round(statistics.median(values), 4) for name, values in times.items()}
