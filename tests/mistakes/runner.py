"""Runs mistakes against tests, in processes that make them one after the other; see ``worker.py``."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mistakes.record import ROOT, Mistake
from sharing import processes

WORKER = Path(__file__).with_name("worker.py")
# One thread each, and no compiler: what the mistakes need is small, and no kernel may get into the cache.
SETTINGS = {"NUMBA_DISABLE_JIT": "1", "MINICNN_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "MINICNN_REQUIRE": ""}


class Outcome(NamedTuple):
    """What came of one mistake: "caught", "crashed", "survived" or "no test"; by which test; and its words."""

    outcome: str
    by: str
    detail: str


class Job(NamedTuple):
    """Tests to run on a mistake, or on minicnn as it is, under one kernel set."""

    tests: Sequence[str]
    mistake: Mistake | None = None
    kernel_set: str = "reference"

    def request(self) -> str:
        """Return the line that asks a worker for it."""
        edit = {"module": "", "path": "", "source": "", "set": self.kernel_set}
        if self.mistake is not None:
            edit = {"module": self.mistake.module, "path": str(self.mistake.path), "source": self.mistake.source(),
                    "set": self.mistake.kernel_set}
        return json.dumps({**edit, "tests": list(self.tests)})


def run(jobs: Sequence[Job]) -> list[Outcome]:
    """Return the outcome of each job, in their order."""
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(len(jobs)):
        waiting.put(number)
    outcomes: dict[int, Outcome] = {}
    servers = [threading.Thread(target=_serve, args=(jobs, waiting, outcomes))
               for _ in range(min(processes(), len(jobs)))]
    for server in servers:
        server.start()
    for server in servers:
        server.join()
    return [outcomes.get(number, Outcome("crashed", "", "the worker did not start")) for number in range(len(jobs))]


def _serve(jobs: Sequence[Job], waiting: queue.SimpleQueue[int], outcomes: dict[int, Outcome]) -> None:
    """Give one worker job after job until none is waiting."""
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(
            [sys.executable, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            cwd=ROOT, env={**os.environ, **SETTINGS, "PYTEST_DEBUG_TEMPROOT": folder}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(queue.Empty):
            while True:
                number = waiting.get_nowait()
                process.stdin.write(jobs[number].request() + "\n")
                process.stdin.flush()
                outcomes[number] = Outcome(**json.loads(process.stdout.readline()))
        process.stdin.close()
