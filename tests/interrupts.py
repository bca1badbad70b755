"""Ctrl-C at every place: trainings in this process that are interrupted wherever Python can be, one after the other.

Python looks for Ctrl-C at the beginning of a Python function and when a call of one written in C returns, and these are
the events that ``sys.setprofile`` reports. (It also does when a loop goes back, where little can be half done.)
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numba
import numpy as np

import minicnn
from minicnn import kernels, saving
from minicnn.callbacks import BackupAndRestore, CSVLogger, EarlyStopping, ModelCheckpoint
from minicnn.kernels.fast import parallel
from minicnn.kernels.threads import set_threads
from minicnn.models import Sequential
from networks import IMAGE, compiled, draw_images, small_cnn, small_dense
from resumed import digest

NO_JIT = bool(numba.config.DISABLE_JIT)  # convolutions of the fast kernels then take a second a training
PACKAGE = str(Path(minicnn.__file__).parent)
Place = tuple[CodeType, int, str]  # where in which code, and by which event
EVENTS = ("call", "c_return")


def places_of(function: Callable[[], Any]) -> list[Place]:
    """Call a function and return all places of the library that it went through, each once."""
    found: dict[Place, None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        # an exception that a profiler raises as a generator goes on is lost, in Python 3.11
        known = frame.f_code.co_filename.startswith(PACKAGE) and not frame.f_code.co_flags & inspect.CO_GENERATOR
        if event in EVENTS and known:
            found[frame.f_code, frame.f_lasti, event] = None

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return list(found)


def press_at(place: Place, function: Callable[[], Any]) -> bool:
    """Call a function, and interrupt it when it first comes to a place; return whether that was lost on the way.

    It need not come there again: whether a helper is awake, or memory there to be used again, is the moment's affair.
    """
    pressed = False

    def press(frame: FrameType, event: str, _: Any) -> None:
        nonlocal pressed
        if (frame.f_code, frame.f_lasti, event) == place:
            pressed = True
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(press)
    try:
        function()
    except KeyboardInterrupt:
        return False
    finally:
        sys.setprofile(None)
    return pressed


class Training:
    """A training with all that writes, in a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        self.x, self.y = draw_images(np.random.default_rng(1), 10, (4,) if NO_JIT else IMAGE)

    def fit(self, model: Sequential | None = None) -> Sequential:
        """Train from the last checkpoint on."""
        model = model or network()
        model.fit(self.x, self.y, batch_size=4, epochs=2, verbose=0, validation_split=0.2, callbacks=[
            CSVLogger(self.place / "log.csv"), ModelCheckpoint(self.place / "model.safetensors"),
            EarlyStopping(restore_best_weights=True), BackupAndRestore(self.place / "backup", save_freq=1)])
        return model

    def outcome(self, model: Sequential) -> Any:
        """Return all that has to be the same afterwards."""
        assert model.history is not None
        return digest(model), [*model.history.history.items()], (self.place / "log.csv").read_bytes()


def network() -> Sequential:
    """Return the network, compiled."""
    return compiled(small_dense(seed=3) if NO_JIT else small_cnn(seed=3), "adam")


def faults_after(model: Sequential, training: Training) -> Iterator[str]:
    """Say what is wrong after an interruption: with files, locks, threads, or the model."""
    if [*training.place.rglob("*.part")]:
        yield "half a file is left"
    for path in training.place.rglob("*.safetensors"):
        saving.read(path)
    free: list[bool] = []

    def ask() -> None:
        free.append(model._lock.acquire(blocking=False))
        if free[0]:
            model._lock.release()
    asking = threading.Thread(target=ask)
    asking.start()
    asking.join()
    if not free[0]:
        yield "the model's lock is held"
        return
    if parallel._pool.holder:
        yield "the threads are taken"
    if model.fitting is not None:
        yield "the training is not over"
    twin = network()
    twin.set_weights(model.get_weights())
    if not np.array_equal(model.predict(training.x, verbose=0), twin.predict(training.x, verbose=0)):
        yield "predictions are other ones"
    model.fit(training.x, training.y, batch_size=4, verbose=0)
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        yield "the next training gives weights that are not finite"


def measure(folder: Path, chosen: Callable[[list[Place]], list[Place]], talk: bool = False) -> tuple[int, list[str]]:
    """Interrupt trainings at chosen places.

    Returns
    -------
    tried : int
    faults : list of str
    """
    Training(folder / "warm").fit()    # so that what is compiled or imported once is none of these places
    whole = Training(folder / "whole")
    expected = whole.outcome(whole.fit())
    model, training = network(), Training(folder / "places")
    places = chosen(places_of(lambda: training.fit(model)))
    faults = []
    for number, place in enumerate(places):
        training, model = Training(folder / f"{number}"), network()
        where = f"{place[0].co_filename.removeprefix(PACKAGE)}, {place[0].co_qualname}, {place[1]}, {place[2]}"
        if press_at(place, lambda training=training, model=model: training.fit(model)):  # type: ignore[misc]
            faults.append(f"{where}: the interruption was lost")
        found = [*faults_after(model, training)]
        if training.outcome(training.fit()) != expected:
            found.append("the training goes on to other bits")
        faults += [f"{where}: {fault}" for fault in found]
        if talk and number % 100 == 99:
            print(f"{number + 1} of {len(places)} places, {len(faults)} faults", flush=True)
    return len(places), faults


def main() -> int:
    """Try every place; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kernels", choices=kernels.SETS, default="fast")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    kernels.use(options.kernels)
    set_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        tried, faults = measure(Path(folder), lambda places: places, talk=True)
    print("\n".join([*faults, f"{tried} places of the {options.kernels} kernels' training, {len(faults)} faults"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
