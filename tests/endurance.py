"""Ten thousand models built and dropped, a hundred thousand training steps: what of the memory does not come back."""

from __future__ import annotations

import argparse
import gc
import sys
import time
import tracemalloc
import weakref
from pathlib import Path

import numpy as np

from minicnn import kernels
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential

STATUS = Path("/proc/self/statm")
PAGE = 4096
MOST = 2**22  # bytes that may stay: caches of Python's own, and what the system's allocator does not give back


class Growth:
    """Memory of this process, compared with what it was when it had warmed up.

    Attributes
    ----------
    resident : int
        Bytes by which the resident set has grown; 0 where the system does not tell.
    traced : int
        Bytes by which what Python and NumPy hold has grown.

    Parameters
    ----------
    trace : bool
        Whether to count these, which takes as long again as what is measured.
    """

    def __init__(self, trace: bool = True) -> None:
        gc.collect()
        if trace:
            tracemalloc.start()
        self._before = self._resident(), tracemalloc.get_traced_memory()[0]
        self.resident = self.traced = 0

    def look(self) -> None:
        """Measure."""
        gc.collect()
        self.resident = self._resident() - self._before[0]
        self.traced = tracemalloc.get_traced_memory()[0] - self._before[1]
        tracemalloc.stop()

    @staticmethod
    def _resident() -> int:
        return PAGE * int(STATUS.read_text().split()[1]) if STATUS.exists() else 0


def build(seed: int = 0) -> Sequential:
    """Return a tiny network of all that has memory of its own, compiled."""
    model = Sequential([
        Input((8, 6, 1)), Conv2D(2, 3, activation="relu"), BatchNormalization(), MaxPooling2D(2), Dropout(0.25),
        Flatten(), Dense(3, activation="softmax")], seed=seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    """Return a batch of eight images."""
    rng = np.random.default_rng(0)
    return rng.random((8, 8, 6, 1), dtype=np.float32), rng.integers(0, 3, 8)


def models(count: int, warm: int) -> tuple[Growth, int]:
    """Build and drop models; every tenth is trained by a step and predicts. Return also how many are still there."""
    x, y = data()
    growth, known = Growth(trace=False), []
    for number in range(warm + count):
        if number == warm:
            growth = Growth()
        model = build(number)
        if number % 10 == 0:
            model.train_on_batch(x, y)
            model.predict(x, verbose=0)
        known.append(weakref.ref(model))
        if len(known) == 1000:
            known = [one for one in known if one() is not None]
    del model
    growth.look()
    return growth, sum(one() is not None for one in known)


def steps(count: int, warm: int, trace: bool) -> Growth:
    """Train one network by so many steps."""
    (x, y), model = data(), build()
    for _ in range(warm):
        model.train_on_batch(x, y)
    growth = Growth(trace)
    for _ in range(count):
        model.train_on_batch(x, y)
    growth.look()
    return growth


def main() -> int:
    """Measure both, and print a line each; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--kernels", choices=kernels.SETS, default="fast")
    options = parser.parse_args()
    kernels.use(options.kernels)
    begin = time.perf_counter()
    grown, left = models(options.models, warm=options.models // 20)
    print(f"{options.models:,} models built and dropped, {left} of them still there: resident set {grown.resident:+,} "
          f"bytes, Python and NumPy {grown.traced:+,}; {time.perf_counter() - begin:.0f} s", flush=True)
    begin = time.perf_counter()
    trained = steps(options.steps, warm=options.steps // 20, trace=False)
    print(f"{options.steps:,} training steps: resident set {trained.resident:+,} bytes; "
          f"{time.perf_counter() - begin:.0f} s", flush=True)
    return 1 if left or max(grown.traced, grown.resident, trained.resident) > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
