"""End trainings at random moments, start them again, and compare what they end with: every bit has to be the same."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cli  # first: from here on Ctrl-C shows no traceback

# isort: split
import numpy as np

from minicnn import kernels, saving
from minicnn.callbacks import (
    BackupAndRestore,
    Callback,
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ReduceLROnPlateau,
)
from minicnn.errors import StateError
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential
from minicnn.preprocessing.image import ImageDataGenerator
from minicnn.streams import generator

# How the data come in (whole passes, passes joined end to end, moved images), and the batches between two checkpoints.
CASES = {"arrays": 1, "steps": 3, "flow": 2}
EPOCHS, BATCH_SIZE, PAUSE = 5, 8, 0.002  # seconds a batch, so that a tiny network gives time to be killed in
BEGUN = "begun"
PATIENCE = 120  # seconds that a process may take to end when it is asked to: beyond, it hangs
KILL, CTRL_C = "kill", "ctrl-c"
NAMES = {KILL: "kills", CTRL_C: "presses"}
STARTING = 2.0  # seconds that a process takes to import and build, about

EXAMPLES = """examples:
  python experiments/kills.py                          200 kills, about ten minutes
  python experiments/kills.py --kills 20 --kernels reference
  python experiments/kills.py --by ctrl-c              interrupted in place of killed, while it starts, too

A tiny network with batch normalization, dropout, Adam and five callbacks is trained in a process of its own, which is
killed (SIGKILL, or what the system has for it) after a random time, every second time in the middle of writing a
checkpoint, and started again; and so on, until it comes to its end. Weights, optimizer state, history and log file are
then compared with those of a training that nobody disturbed. Ctrl-C must end it at once, with one word, status 130, and
no half-written file."""


@dataclass
class Figures:
    """What came out.

    Attributes
    ----------
    tried, survived : int
        Kills; and those of trainings that ended with the same bits.
    writing : int
        Kills that came while a checkpoint was being written.
    ends : int
        Trainings that came to their end.
    """

    tried: int = 0
    survived: int = 0
    writing: int = 0
    ends: int = 0

    def __str__(self) -> str:
        return (f"{self.survived} of {self.tried} kills survived bit for bit, in {self.ends} trainings; {self.writing} "
                f"kills came while a checkpoint was being written")

    def presses(self) -> str:
        """Say the same of Ctrl-C."""
        return f"{self.survived} of {self.tried} presses of Ctrl-C survived bit for bit, in {self.ends} trainings"


class Slow(Callback):
    """Take time; and count the batches, as a callback of somebody's own that has to remember something."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count and wait."""
        self.batches += 1
        time.sleep(PAUSE)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the count into the history."""
        if logs is not None:
            logs["batches"] = float(self.batches)

    def get_state(self) -> dict[str, Any]:
        """Return the count."""
        return {"batches": self.batches}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.batches = state["batches"]

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Say that from now on kills count."""
        print(BEGUN, flush=True)


def build() -> Sequential:
    """Return the network, compiled."""
    model = Sequential([
        Input((9, 8, 1)), Conv2D(4, 3, activation="relu"), BatchNormalization(), MaxPooling2D((2, 1)), Dropout(0.25),
        Flatten(), Dense(8, activation="relu"), BatchNormalization(), Dropout(0.5), Dense(4, activation="softmax"),
    ], seed=5)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(place: Path, case: str) -> None:
    """Train in a folder, or go on there; leave all that came out in ``end.safetensors``."""
    rng = generator(0, "kills")
    y = rng.integers(0, 4, 110)
    x = ((y[:, None, None, None] + rng.random((110, 9, 8, 1))) / 5).astype(np.float32)
    model = build()
    held_out: Any = x[90:], y[90:]
    data: dict[str, Any] = {"x": x[:90], "y": y[:90], "batch_size": BATCH_SIZE}
    if case == "steps":
        data["steps_per_epoch"] = 7
    if case == "flow":
        moved = ImageDataGenerator(rotation_range=10, zoom_range=0.1)
        data = {"x": moved.flow(x[:90], y[:90], batch_size=BATCH_SIZE, seed=3)}
        held_out = moved.flow(x[90:], y[90:], batch_size=BATCH_SIZE, seed=4)
    history = model.fit(**data, epochs=EPOCHS, validation_data=held_out, verbose=0, callbacks=[
        Slow(), LearningRateScheduler(lambda epoch, rate: 0.9 * rate), ReduceLROnPlateau(patience=0, factor=0.5),
        EarlyStopping(patience=3, restore_best_weights=True), CSVLogger(place / "log.csv"),
        BackupAndRestore(place / "backup", save_freq=CASES[case])])
    slots = {f"{name}/{slot}": array for name, own in model.optimizer.slots.items() for slot, array in own.items()}
    series = {f"history/{name}": np.array(values) for name, values in history.history.items()}
    log = np.frombuffer((place / "log.csv").read_bytes(), np.uint8)
    saving.write(place / "end.safetensors", model.named_weights() | slots | series | {"log": log}, {
        "iterations": model.optimizer.iterations, "rate": model.optimizer.learning_rate, "names": [*history.history]})


def start(place: Path, case: str, **streams: Any) -> subprocess.Popen[str]:
    """Start a training in a process of its own."""
    place.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, __file__, "--worker", str(place), "--case", case, "--kernels",
                             kernels.active()], stdout=subprocess.PIPE, text=True, **streams)


def press_after(place: Path, case: str, seconds: float, begun: bool) -> str:
    """Train, and press Ctrl-C after so many seconds; return what is wrong with how the training ended.

    Parameters
    ----------
    place : pathlib.Path
    case : str
    seconds : float
    begun : bool
        Whether they are counted from the first epoch on, or from the start of the process.
    """
    with start(place, case, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        if begun:
            process.stdout.readline()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        try:
            _, said = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return "it hangs"
    if process.returncode not in (0, cli.INTERRUPTED, -signal.SIGINT):   # the last is Python's own, before main
        return f"status {process.returncode}: {said}"
    if is_writing(place):
        return "half a checkpoint is left"
    # what comes while llvmlite gives code back, or looks for it on disk, is printed ("Exception ignored") and lost
    return said if "Traceback" in said and begun and "Exception ignored" not in said else ""


def run_for(place: Path, case: str, seconds: float | None, aimed: bool = False) -> float | None:
    """Train; return the seconds it took to its end, or None if it was killed before.

    It is killed after ``seconds``; if that is ``aimed``, as soon after them as it writes a checkpoint.
    """
    with start(place, case) as process:
        assert process.stdout is not None
        process.stdout.readline()
        begin = time.perf_counter()
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            while aimed and process.poll() is None and not is_writing(place):
                pass
            process.kill()
            if process.wait() != 0:
                return None
            status = 0
    if status != 0:
        raise StateError(f"the training in {place} failed with status {status}; its message stands above.")
    return time.perf_counter() - begin


def is_writing(place: Path) -> bool:
    """Tell whether a checkpoint is being written; of a process that is dead, whether it was."""
    return any((place / "backup").glob(".*.part"))


def disturbed(place: Path, case: str, seconds: float, rng: np.random.Generator, most: int) -> tuple[bytes, int, int]:
    """Train, killed up to ``most`` times; return what came out, the kills, and how many of them came while writing."""
    killed = writing = 0
    while run_for(place, case, None if killed == most else seconds * rng.random() / 2, killed % 2 == 1) is None:
        killed += 1
        writing += is_writing(place)
    return (place / "end.safetensors").read_bytes(), killed, writing


def interrupted(place: Path, case: str, seconds: float, rng: np.random.Generator, most: int) -> tuple[bytes, int, int]:
    """Train, interrupted ``most`` times, every third time while it starts; return as ``disturbed`` does.

    Raises
    ------
    StateError
        If a training does not end as it should.
    """
    for number in range(most):
        begun = number % 3 < 2
        wrong = press_after(place, case, (seconds / 2 if begun else STARTING) * rng.random(), begun)
        if wrong:
            raise StateError(f"a training interrupted by Ctrl-C did not end as it should: {wrong}")
    run_for(place, case, None)
    return (place / "end.safetensors").read_bytes(), most, 0


def measure(count: int, place: Path, seed: int = 0, talk: bool = False, by: str = KILL) -> Figures:
    """End ``count`` trainings before their end, of every case by turns.

    Parameters
    ----------
    count : int
    place : pathlib.Path
        A folder to work in.
    seed : int
        Of the moments; which batch they hit depends on the machine as well.
    talk : bool
        Whether to say how far it is.
    by : {"kill", "ctrl-c"}
    """
    disturb = disturbed if by == KILL else interrupted
    rng, figures = generator(seed, "moments"), Figures()
    whole = {}
    for case in CASES:
        seconds = run_for(place / case, case, None) or 0.0
        whole[case] = (place / case / "end.safetensors").read_bytes(), seconds
    while figures.tried < count:
        case = list(CASES)[figures.ends % len(CASES)]
        expected, seconds = whole[case]
        found, killed, writing = disturb(place / f"{case}-{figures.ends}", case, seconds, rng,
                                           min(count - figures.tried, 8))
        figures.tried, figures.writing = figures.tried + killed, figures.writing + writing
        figures.survived, figures.ends = figures.survived + killed * (found == expected), figures.ends + 1
        if talk:
            same = "the same bits" if found == expected else "OTHER BITS"
            print(f"{case:<8}{killed} {NAMES[by]}, {same}; {figures.tried} of {count}", flush=True)
    return figures


def build_parser() -> cli.Parser:
    """Return the parser of this script."""
    parser = cli.Parser(description=__doc__, examples=EXAMPLES)
    parser.add_argument("--kills", type=cli.positive, default=200, metavar="N", help="how many (default: 200)")
    parser.add_argument("--seed", type=cli.seed, default=0, metavar="N", help="decides the moments (default: 0)")
    parser.add_argument("--by", choices=NAMES, default=KILL, help="how they end (default: kill)")
    parser.add_argument("--worker", metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CASES, default="arrays", help=argparse.SUPPRESS)
    cli.add_machine_options(parser)
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Kill and compare; return the exit status."""
    options = build_parser().parse_args(argv)
    cli.apply_machine_options(options)
    if options.worker is not None:
        train(Path(options.worker), options.case)
        return 0
    with tempfile.TemporaryDirectory() as place:
        figures = measure(options.kills, Path(place), options.seed, talk=True, by=options.by)
    print(f"\n{figures if options.by == KILL else figures.presses()}")
    return 0 if figures.survived == figures.tried else 1


if __name__ == "__main__":
    sys.exit(main())
