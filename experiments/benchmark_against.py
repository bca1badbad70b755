"""Ours against others: every workload by turns, the first step of a new process, and the memory of a training."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import machine
from benchmark_peers import TITLES
from benchmark_processes import MissingError, Process, by_turns, medians, turned
from benchmark_workloads import CLASSES, IMAGE, NETWORKS, WORKLOADS, Network, description, random_weights
from minicnn.errors import ArgumentError, StateError

CACHE_VARIABLE = "MINICNN_CACHE_DIR"
LARGEST_DIFFERENCE = {"torch-bf16": 0.03}  # of two probabilities: bf16 has 8 bits, and gives some 0.01
USUAL_DIFFERENCE = 1e-4
ALONE = ("minicnn", "torch", "keras")  # sides whose first step and memory are measured; bf16 is PyTorch once more
FIRST_STEPS = 3  # repeats at most: they take long and vary little
MNIST_IMAGES, MEMORY_STEPS, BATCH = 60_000, 50, 128

Start = Callable[..., Any]  # Process, or a stand-in


@contextlib.contextmanager
def open_sides(names: Sequence[str], threads: int, pythons: Mapping[str, str] | None = None, start: Start = Process,
               ) -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
    """Start a process for each side; yield those that are there, and why others are not.

    Raises
    ------
    ArgumentError
        If ours would have nobody to be compared with.
    """
    missing: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        sides = {}
        for name in names:
            try:
                sides[name] = stack.enter_context(start(name, threads, (pythons or {}).get(name)))
            except MissingError as error:
                missing[name] = str(error)
                print(f"note: {TITLES[name]} is left out: {error}", file=sys.stderr)
        if len(sides) < 2:
            raise ArgumentError("none of the libraries to compare with is installed. Install them: python -m pip "
                                'install -e ".[compare]" for PyTorch, ".[benchmark]" for TensorFlow as well.')
        yield sides, missing


def build_everywhere(sides: Mapping[str, Any], network: Network, shape: tuple[int, ...], images: int,
                     ) -> dict[str, float]:
    """Make one network with the same weights on all sides; return how far each side's outputs are from ours at most.

    Raises
    ------
    StateError
        If it is so large that they cannot be the same network.
    """
    model = network(shape, CLASSES, 0)
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder, "weights.npz"))
        np.savez(weights, *random_weights(model))
        outputs = {}
        for name, side in sides.items():
            side.ask("build", layers=description(model), shape=list(shape), images=images, weights=weights)
            path = Path(folder, f"{name}.npy")
            side.ask("probabilities", path=str(path))
            outputs[name] = np.load(path)
    differences = {}
    for name, array in outputs.items():
        if name != "minicnn":
            differences[name] = float(np.abs(array - outputs["minicnn"]).max())
            if not differences[name] <= LARGEST_DIFFERENCE.get(name, USUAL_DIFFERENCE):
                raise StateError(f"{model.name} in {TITLES[name]} predicts other probabilities than ours (largest "
                                 f"difference {differences[name]:.1e}); times of different networks mean nothing. "
                                 "Bring benchmark_peers.py up to date.")
    return differences


def measure(names: Sequence[str], threads: int, repeats: int, pythons: Mapping[str, str] | None = None,
            start: Start = Process) -> dict[str, Any]:
    """Measure everything; return it as it goes into the file."""
    with open_sides(names, threads, pythons, start) as (sides, missing):
        about = {name: side.ask("about") for name, side in sides.items()}
        rows = [measure_workload(sides, workload, repeats) for workload in WORKLOADS]
    present = [name for name in ALONE if name in about]
    print("the first step of a new process, and the memory of a training ...", flush=True)
    first = first_steps(present, threads, min(repeats, FIRST_STEPS), pythons, start)
    return {
        "kind": "against", "machine": machine.machine() | {"threads": threads}, "versions": machine.versions(),
        "sides": about, "missing": missing, "repeats": repeats, "workloads": rows,
        "first_step": {"seconds": first, "medians": medians(first)},
        "peak_memory": {"steps": MEMORY_STEPS, "images": MNIST_IMAGES,
                        "megabytes": memory(present, threads, pythons, start)},
    }


def measure_workload(sides: Mapping[str, Any], workload: Any, repeats: int) -> dict[str, Any]:
    """Return one workload's times on all sides."""
    print(f"{workload.title}, {workload.work}, batches of {workload.batch_size} ...", flush=True)
    differences = build_everywhere(sides, NETWORKS[workload.network][1], IMAGE, workload.batch_size)
    times = by_turns(sides, workload.work, workload.calls, repeats)
    return {"title": workload.title, "network": workload.network, "work": workload.work,
            "batch_size": workload.batch_size, "largest_output_difference": differences, "milliseconds": times,
            "medians": medians(times)}


def first_steps(names: Sequence[str], threads: int, repeats: int, pythons: Mapping[str, str] | None = None,
                start: Start = Process) -> dict[str, list[float]]:
    """Return the seconds from the start of a process to the end of the first training step of `cnn`.

    Ours once with nothing compiled (``minicnn, cold``) and once more with what that run left.
    """
    layers = description(NETWORKS["cnn"][1](IMAGE, CLASSES, 0))

    def seconds(name: str, settings: dict[str, str]) -> float:
        begin = time.perf_counter()
        with start(name, threads, (pythons or {}).get(name), settings) as side:
            side.ask("build", layers=layers, shape=list(IMAGE), images=BATCH)
            side.ask("time", work="train", calls=1, warm_up=0)
            return round(time.perf_counter() - begin, 3)

    times: dict[str, list[float]] = {}
    for turn in range(repeats):
        for name in turned(names, turn):
            with tempfile.TemporaryDirectory() as cache:
                if name == "minicnn":
                    times.setdefault("minicnn, cold", []).append(seconds(name, {CACHE_VARIABLE: cache}))
                times.setdefault(name, []).append(seconds(name, {CACHE_VARIABLE: cache}))
    return times


def memory(names: Sequence[str], threads: int, pythons: Mapping[str, str] | None = None, start: Start = Process,
           ) -> dict[str, float]:
    """Return the peak memory, in MB, of a process that holds 60,000 images and trains `cnn` on some batches of them."""
    layers = description(NETWORKS["cnn"][1](IMAGE, CLASSES, 0))
    found = {}
    for name in names:
        with start(name, threads, (pythons or {}).get(name)) as side:
            side.ask("build", layers=layers, shape=list(IMAGE), images=MNIST_IMAGES)
            side.ask("train_through", images=MNIST_IMAGES, steps=MEMORY_STEPS, batch_size=BATCH)
            found[name] = round(side.ask("peak_memory"), 1)
    return found
