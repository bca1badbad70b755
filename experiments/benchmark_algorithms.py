"""One convolution by each algorithm that can do it: what ``algorithm="auto"`` rests on.

Everything else being equal, the number of input channels, the size of the image and the kernel decide; the rows go
along these, on both sides of where ``auto`` changes its mind.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import machine
from benchmark_processes import by_turns, medians
from benchmark_worker import timed
from minicnn.errors import ArgumentError
from minicnn.kernels.fast import memory
from minicnn.kernels.geometry import window_padding

conv2d: Any = importlib.import_module("minicnn.kernels.fast.conv2d")  # in its package, the name is the function

ALGORITHMS = ("winograd", "direct", "im2col")
BATCH, CALLS = 32, 5
SIDE, CHANNELS, FILTERS = 28, 32, 32  # where a row does not say otherwise


class Case(NamedTuple):
    """A convolution of square images with "same" padding."""

    kernel: int
    channels: int = CHANNELS
    filters: int = FILTERS
    side: int = SIDE
    stride: int = 1
    first: bool = False  # of a network: nobody wants the gradient of its input


def cases() -> Iterator[Case]:
    """Return the rows: along channels, along the image's side, and what Winograd's algorithm cannot do."""
    for kernel in (3, 5):
        for channels in (1, 3):
            yield Case(kernel, channels=channels, first=True)
        for channels in (1, 3, 4, 8, 16, 32, 64):
            yield Case(kernel, channels=channels)
        for side in (1, 2, 3, 5, 7, 14):
            yield Case(kernel, side=side)
        for side in (2, 5):
            yield Case(kernel, channels=128, filters=128, side=side)
        yield Case(kernel, filters=4)
    yield Case(1)
    yield Case(3, stride=2)
    yield Case(7)


def measure(repeats: int) -> dict[str, Any]:
    """Time every row; return them as they go into the file."""
    return {"kind": "algorithms", "machine": machine.machine(), "versions": machine.versions(), "repeats": repeats,
            "batch_size": BATCH, "rows": [row(case, repeats) for case in cases()]}


def row(case: Case, repeats: int) -> dict[str, Any]:
    """Return the times of forward and backward together, by algorithm, and what ``auto`` takes."""
    print(f"{title(case)} ...", flush=True)
    ways = {algorithm: way for algorithm in ALGORITHMS if (way := Way(case, algorithm)).possible()}
    times = by_turns(ways, "train", CALLS, repeats)
    return {**case._asdict(), "title": title(case), "auto": Way(case, "auto").geometry().algorithm,
            "saved": saved(case) if "winograd" in ways else None, "milliseconds": times, "medians": medians(times)}


def title(case: Case) -> str:
    """Name a row."""
    stride = f", stride {case.stride}" if case.stride > 1 else ""
    return (f"{case.kernel}x{case.kernel}, {case.channels} to {case.filters} channels, {case.side}x{case.side}{stride}"
            + ", first layer" * case.first)


def saved(case: Case) -> float:
    """Return how many times as many multiplications the definition has as Winograd's tiles of 4x4 outputs."""
    tiles = (-(-case.side // 4)) ** 2
    return round(case.side**2 * case.kernel**2 / (tiles * (case.kernel + 3) ** 2), 2)


class Way:
    """A case by one algorithm; answers like a side of a comparison."""

    def __init__(self, case: Case, algorithm: str) -> None:
        self.need_dx = not case.first
        self.stride = (case.stride, case.stride)
        self.padding = window_padding((case.side,) * 2, (case.kernel,) * 2, self.stride, "same")
        self.algorithm = algorithm
        rng = np.random.default_rng(0)
        side = -(-case.side // case.stride)
        self.x, self.w, self.dout = (
            self._drawn(rng, *shape) for shape in ((BATCH, case.side, case.side, case.channels),
                                                   (case.kernel, case.kernel, case.channels, case.filters),
                                                   (BATCH, side, side, case.filters)))

    def geometry(self) -> Any:
        """Return the shapes, with the algorithm in use."""
        return conv2d.geometry(self.x.shape, self.w.shape, self.stride, self.padding, self.algorithm)

    def possible(self) -> bool:
        """Return whether the algorithm can do it."""
        try:
            self.geometry()
        except ArgumentError:
            return False
        return True

    def ask(self, do: str, work: str, calls: int) -> list[float]:
        """Return the milliseconds of calls of ``train``."""
        return timed(getattr(self, work), calls)

    def train(self) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Return out, dx and dw."""
        out = conv2d.conv2d(self.x, self.w, None, self.stride, self.padding, self.algorithm)
        return out, *conv2d.conv2d_backward(self.dout, self.x, self.w, self.stride, self.padding, self.algorithm,
                                            self.need_dx)[:2]

    @staticmethod
    def _drawn(rng: np.random.Generator, *shape: int) -> np.ndarray:
        array = memory.empty(shape, np.dtype(np.float32))
        rng.standard_normal(dtype=np.float32, out=array)
        return array
