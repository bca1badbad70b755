"""One side of a comparison, in a process of its own: reads requests from its input, a line of JSON each, and answers.

``benchmark_processes.py`` starts it. What a library prints goes to the error stream: the output is for answers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmark_peers import SIDES, Side

Request = dict[str, Any]


class Server:
    """Answers requests, each a dict with the name of a method under ``do``."""

    def __init__(self, name: str, threads: int) -> None:
        self.side: Side = SIDES[name](threads)

    def ask(self, do: str, **request: Any) -> Any:
        """Answer one request."""
        return getattr(self, f"_{do}")(**request)

    def _about(self) -> dict[str, Any]:
        return {"versions": self.side.versions(), "threads": self.side.threads(), "settings": self.side.settings}

    def _build(self, layers: list[Request], shape: list[int], images: int, weights: str | None = None) -> None:
        """Make the network, and random images and labels; the time does not depend on what is in them."""
        arrays = None
        if weights is not None:
            with np.load(weights) as file:
                arrays = [file[name] for name in file.files]
        self.side.build(layers, tuple(shape), arrays)
        rng = np.random.default_rng(0)
        self.side.load(rng.random((images, *shape), dtype=np.float32), rng.integers(0, 10, images))

    def _probabilities(self, path: str) -> None:
        np.save(path, self.side.probabilities())

    def _time(self, work: str, calls: int, warm_up: int = 1) -> list[float]:
        return timed(getattr(self.side, work), calls, warm_up)

    def _train_through(self, images: int, steps: int, batch_size: int) -> None:
        """Train on random batches of all images."""
        rng = np.random.default_rng(1)
        for _ in range(steps):
            self.side.choose(rng.integers(0, images, batch_size))
            self.side.train()

    def _peak_memory(self) -> float:
        return peak_memory()


def timed(call: Callable[[], Any], calls: int, warm_up: int = 1) -> list[float]:
    """Return the milliseconds of each of ``calls``, after ``warm_up`` others."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        call()
        times.append(round(1000 * (time.perf_counter() - begin), 4))
    return times


def peak_memory() -> float:
    """Return the most memory this process has had, in MB (10^6 bytes).

    Linux keeps two such figures; that of ``getrusage`` begins with the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def main() -> int:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def answer(value: Any) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        server = Server(sys.argv[1], int(sys.argv[2]))
    except ImportError as error:
        answer({"missing": str(error)})
        return 0
    answer({"ready": True})
    for line in sys.stdin:
        answer({"answer": server.ask(**json.loads(line))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
