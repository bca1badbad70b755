"""How the time of an image grows with the batch, the image, the channels and the threads, side by side with others."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import machine
import recipes
from benchmark_against import Start, build_everywhere, open_sides
from benchmark_processes import Process, by_turns, medians
from benchmark_workloads import IMAGE, Network, scaled_cnn

BATCHES = (1, 4, 16, 64, 128, 256, 1024)
SIZES = (14, 28, 56, 112)
CHANNELS = (8, 16, 32, 64, 128)
SIZES_BATCH = 32  # with larger ones, PyTorch would need more memory than a small machine has
WORK = ("train", "infer")
THREADS_BATCH, THREADS_CALLS = 128, 3
CALL_IMAGES = 256  # per turn: so many calls that they are about as many images


class Point(NamedTuple):
    """One place of a curve: the axis it belongs to, its value there, and what is timed."""

    axis: str
    value: int
    network: Network
    shape: tuple[int, ...]
    batch_size: int


def points() -> Iterator[Point]:
    """Return the points of all curves but that of threads."""
    for N in BATCHES:
        yield Point("batch", N, recipes.cnn, IMAGE, N)
    for size in SIZES:
        yield Point("image", size, recipes.cnn, (size, size, 1), SIZES_BATCH)
    for F in CHANNELS:
        yield Point("channels", F, scaled_cnn(F), IMAGE, SIZES_BATCH)


def measure(names: Sequence[str], threads: int, repeats: int, pythons: Mapping[str, str] | None = None,
            start: Start = Process) -> dict[str, Any]:
    """Measure all curves; return them as they go into the file."""
    with open_sides(names, threads, pythons, start) as (sides, missing):
        about = {name: side.ask("about") for name, side in sides.items()}
        found = [measured(sides, point, repeats) for point in points()]
    found += threads_measured(list(about), threads, repeats, pythons, start)
    return {"kind": "scaling", "machine": machine.machine() | {"threads": threads}, "versions": machine.versions(),
            "sides": about, "missing": missing, "repeats": repeats, "points": found}


def measured(sides: Mapping[str, Any], point: Point, repeats: int) -> dict[str, Any]:
    """Return the times of one point on all sides, and milliseconds per image."""
    print(f"{point.axis} {point.value}, batches of {point.batch_size} ...", flush=True)
    build_everywhere(sides, point.network, point.shape, point.batch_size)
    calls = max(2, min(20, CALL_IMAGES // point.batch_size))
    works = WORK if point.batch_size > 1 else ("infer",)  # PyTorch refuses to normalize over a single value
    return row(point, {work: by_turns(sides, work, calls, repeats) for work in works})


def threads_measured(names: Sequence[str], threads: int, repeats: int, pythons: Mapping[str, str] | None,
                     start: Start) -> list[dict[str, Any]]:
    """Return the points along the number of threads. All take turns: here a factor of two is what is looked for."""
    every: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        for count in thread_counts(threads):
            print(f"threads {count} ...", flush=True)
            sides, _ = stack.enter_context(open_sides(names, count, pythons, start))
            build_everywhere(sides, recipes.cnn, IMAGE, THREADS_BATCH)
            every |= {f"{name} {count}": side for name, side in sides.items()}
        times = {work: by_turns(every, work, THREADS_CALLS, repeats) for work in WORK}
    return [row(Point("threads", count, recipes.cnn, IMAGE, THREADS_BATCH),
                {work: {name: times[work][f"{name} {count}"] for name in names} for work in WORK})
            for count in thread_counts(threads)]


def thread_counts(most: int) -> list[int]:
    """Return 1, 2, 4, 8, ... and ``most``."""
    return [*(2**k for k in range(most.bit_length()) if 2**k < most), most]


def row(point: Point, times: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Return a point as it goes into the file."""
    per_image = {work: {name: round(value / point.batch_size, 5) for name, value in medians(each).items()}
                 for work, each in times.items()}
    return {"axis": point.axis, "value": point.value, "shape": list(point.shape), "batch_size": point.batch_size,
            "milliseconds": times, "per_image": per_image}


GROWTH = (("batch", 128, 1024, "batch of 1024 over 128"), ("image", 28, 56, "image of 56x56 over 28x28"),
          ("channels", 32, 128, "128 channels over 32"), ("threads", 1, 2, "two threads over one"))


def growth(result: Mapping[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """Return how many times as long an image takes at one point as at another, by side: title, work, factors."""
    at = {(point["axis"], point["value"]): point["per_image"] for point in result["points"]}
    rows = []
    for axis, low, high, title in GROWTH:
        if (axis, low) in at and (axis, high) in at:
            for work in WORK:
                few, many = at[axis, low][work], at[axis, high][work]
                rows.append((title, work, {name: many[name] / few[name] for name in few}))
    return rows
