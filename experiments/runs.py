"""One run: build the network, train it, score it on the test images. Every script trains through this page."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import digits
import machine
from digits import Digits, scaled
from minicnn import kernels
from minicnn.callbacks import BackupAndRestore, Callback, EarlyStopping, History
from minicnn.datasets.duplicates import occurring
from minicnn.kernels.threads import get_threads
from minicnn.layers import BatchNormalization, Conv2D
from minicnn.models import Sequential
from minicnn.statistics import wilson_interval
from minicnn.training import SETTLED_UPDATES
from minicnn.utils import to_categorical
from recipes import Recipe, Training


class Recorder(History):
    """History with the seconds of every epoch that ended; it survives an interrupted ``fit``."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._begin = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Start the clock."""
        self._begin = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Append the values; the seconds include the validation."""
        super().on_epoch_end(epoch, logs)
        self.seconds.append(time.perf_counter() - self._begin)

    def get_state(self) -> dict[str, Any]:
        """Return history and seconds, those of the epoch that runs too."""
        return super().get_state() | {"seconds": np.array(self.seconds),
                                      "running": np.float64(time.perf_counter() - self._begin)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        super().set_state(state)
        self.seconds = state["seconds"].tolist()
        self._begin = time.perf_counter() - float(state["running"])


@dataclass
class Run:
    """A recipe on data with a seed: what it is told, and what came out.

    Attributes
    ----------
    recipe, digits, epochs, batch_size, seed, full
        What it is told.
    algorithm : str
        How convolutions are computed, see Conv2D.
    fuse : bool
        Whether neighbouring layers run as one block, see ``compile``.
    place : pathlib.Path or None
        A folder for checkpoints; without one there are none, which changes no result.
    model : Sequential
        Built from the recipe and the seed.
    recorder : Recorder
        History and seconds of the epochs that ended.
    backup : BackupAndRestore or None
        What saves the training, and lets it go on, if anything does.
    interrupted : bool
        Whether Ctrl-C ended the training.
    """

    recipe: Recipe
    digits: Digits
    epochs: int
    batch_size: int
    seed: int
    full: bool = False
    place: Path | None = None
    algorithm: str = "auto"
    fuse: bool = True
    model: Sequential = field(init=False)
    callbacks: list[Callback] = field(init=False, default_factory=list)
    recorder: Recorder = field(init=False, default_factory=Recorder)
    backup: BackupAndRestore | None = field(init=False, default=None)
    interrupted: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.model = self._compiled()

    @property
    def training(self) -> Training:
        """How the recipe trains."""
        return self.recipe.trained(self.full)

    @property
    def kept(self) -> int | None:
        """The epoch (from 1) whose weights were restored at the end; None if they are those of the last."""
        for callback in self.callbacks:
            if isinstance(callback, EarlyStopping) and callback.best_weights is not None:
                return callback.best_epoch + 1
        return None

    @property
    def parameters(self) -> int:
        """Trainable parameters."""
        return sum(array.size for layer in self.model.layers for array in layer.params.values())

    @property
    def too_short(self) -> bool:
        """Whether the moving averages of batch normalization, which predictions use, still hold their first values."""
        unsettled = self.model.optimizer.iterations < SETTLED_UPDATES
        return unsettled and any(isinstance(layer, BatchNormalization) for layer in self.model.layers)

    def warm_up(self) -> float:
        """Let the kernels compile: one step of a twin that is thrown away. Return the seconds it took."""
        begin = time.perf_counter()
        twin, rows = self._compiled(), slice(0, self.batch_size)
        x, y = scaled(self.digits.x_train[rows]), self._targets(self.digits.y_train[rows])
        twin.train_on_batch(*(x, y) if self.training.augmentation is None else next(self._moved(x, y)))
        twin.predict(scaled(self.digits.x_test[:2]), verbose=0)
        return time.perf_counter() - begin

    def train(self, verbose: str | int = "auto") -> None:
        """Fit; Ctrl-C ends it early and leaves a model that can be scored and saved."""
        x, y = scaled(self.digits.x_train), self._targets(self.digits.y_train)
        last = len(x) - self.digits.validation
        data: dict[str, Any] = {"x": x[:last], "y": y[:last], "batch_size": self.batch_size}
        if self.training.augmentation is not None:
            data = {"x": self._moved(x[:last], y[:last]), "validation_batch_size": self.batch_size}
        held_out = (x[last:], y[last:]) if last < len(x) else None
        self.callbacks = list(self._made_callbacks())
        try:
            self.model.fit(**data, epochs=self.epochs, verbose=verbose, validation_data=held_out,
                           callbacks=[*self.callbacks, self.recorder, *([self.backup] if self.backup else [])])
        except KeyboardInterrupt:
            self.interrupted = True

    def score(self, digits: Digits | None = None) -> Score:
        """Predict the test images, of the run's own data or of others."""
        digits = digits or self.digits
        probabilities = self.model.predict(scaled(digits.x_test), batch_size=512, verbose=0)
        return Score(digits, probabilities, len(occurring(digits.x_test, self.digits.trained)))

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps of the run, without its score."""
        return {"recipe": self.recipe.name, "full": self.full, "data": self.digits.record(), "seed": self.seed,
                "algorithm": self.algorithm, "fuse": self.fuse, "parameters": self.parameters,
                "batch_size": self.batch_size, "epochs_planned": self.epochs,
                "training": self.training.record(), "epochs": len(self.recorder.seconds), "epoch_kept": self.kept,
                "interrupted": self.interrupted,
                "seconds_per_epoch": [round(seconds, 2) for seconds in self.recorder.seconds],
                "history": self.recorder.history, "weights_sha256": self.model.weights_sha256(),
                "machine": machine.machine(), "versions": machine.versions()}

    def _compiled(self) -> Sequential:
        shape = (*self.digits.x_train.shape[1:], 1)
        model = self.recipe.network(shape, self.digits.classes, self.seed)
        for layer in model.layers if self.algorithm != "auto" else ():
            if isinstance(layer, Conv2D):
                layer.algorithm = self.algorithm
        model.compile(optimizer=self.training.optimizer(), loss=self.training.loss, metrics=["accuracy"],
                      fuse=self.fuse)
        return model

    def _made_callbacks(self) -> Iterator[Callback]:
        for setting in self.training.callbacks:
            if "filepath" not in setting.arguments:
                yield setting()
            elif self.place is not None:
                yield setting(filepath=self.place / setting.arguments["filepath"])

    def _targets(self, y: NDArray[np.uint8]) -> NDArray:
        """Return labels as the loss takes them: numbers (N,) or one-hot rows (N, K)."""
        return y if self.training.loss.startswith("sparse") else to_categorical(y, self.digits.classes)

    def _moved(self, x: NDArray[np.float32], y: NDArray) -> Iterator[Any]:
        """Return batches without end, their images moved as the recipe says."""
        assert self.training.augmentation is not None
        return self.training.augmentation().flow(x, y, batch_size=self.batch_size, seed=self.seed)


@dataclass(frozen=True)
class Score:
    """How a network did on test images.

    Attributes
    ----------
    digits : Digits
        Whose test images.
    probabilities : ndarray, shape (N, K)
    remembered : int
        How many of the test images were trained on.
    """

    digits: Digits
    probabilities: NDArray[np.float32]
    remembered: int = 0

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest class of each image."""
        return self.probabilities.argmax(axis=1)

    @property
    def correct(self) -> int:
        """How many are right."""
        return int((self.predicted == self.digits.y_test).sum())

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.digits.y_test)

    @property
    def what(self) -> str:
        """What the accuracy is an accuracy on."""
        return f"{self.digits.name} test images"

    @property
    def undisputed(self) -> tuple[int, int] | None:
        """How many are right, and of how many, where disputed labels are left out; None where none are known."""
        if not self.digits.disputed:
            return None
        right = np.delete(self.predicted == self.digits.y_test, self.digits.disputed)
        return int(right.sum()), len(right)

    def sentence(self) -> str:
        """Say the accuracy, with the interval in which it can be trusted."""
        return f"{accuracy_text(self.correct, self.total, self.what)}, {self.total - self.correct:,} wrong"

    def undisputed_sentence(self) -> str:
        """Say the accuracy on the images whose labels nobody disputes; nothing where no dispute is known."""
        if self.undisputed is None:
            return ""
        return f"Without the {len(self.digits.disputed)} whose labels are disputed: {accuracy_text(*self.undisputed)}."

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps."""
        undisputed = None if self.undisputed is None else _shares(*self.undisputed)
        return {"test_data": self.digits.name, **_shares(self.correct, self.total), "undisputed": undisputed,
                "test_images_trained_on": self.remembered}


def accuracy_text(correct: int, total: int, what: str = "images") -> str:
    """Say a share of right answers, with the interval in which it can be trusted."""
    low, high = wilson_interval(correct, total)
    return (f"{100 * correct / total:.2f} % of {total:,} {what} right "
            f"(95 % interval {100 * low:.2f} to {100 * high:.2f} %)")


def _shares(correct: int, total: int) -> dict[str, Any]:
    return {"accuracy": correct / total, "correct": correct, "total": total,
            "interval_95": list(wilson_interval(correct, total))}


def images(options: argparse.Namespace, recipe: Recipe, allow_fallback: bool = True) -> Digits:
    """Load what the command line and the recipe say."""
    data = digits.load(recipe.data if options.data is None else options.data, allow_fallback).limited(options.limit)
    return data.holding_out(recipe.trained(options.full).validation)


def planned(options: argparse.Namespace, recipe: Recipe, data: Digits, seed: int, place: Path | None = None,
            **way: Any) -> Run:
    """Make the run that the command line and the recipe say; ``way`` is how it is computed, if not as usual."""
    training = recipe.trained(options.full)
    return Run(recipe, data, options.epochs or training.epochs, options.batch_size or training.batch_size, seed,
               training is recipe.full, place, **way)


def announce(run: Run) -> None:
    """Say what is about to be trained on what, and compile the kernels meanwhile."""
    recipe, plural = run.recipe, "s" * (run.epochs != 1)
    print(f"{recipe.name}: {recipe.title}\n"
          f"  network  {run.parameters:,} trainable parameters\n"
          f"  training {run.epochs} epoch{plural} in batches of {run.batch_size}; {run.training.describe()}; seed "
          f"{run.seed}\n"
          f"  data     {run.digits.describe()}\n"
          f"  kernels  {kernels.active()}, on {get_threads()} thread{'s' * (get_threads() != 1)}", flush=True)
    for caution in run.digits.cautions():
        print(f"  beware   {caution}", flush=True)
    if kernels.active() == "fast":
        print("Preparing the kernels (compiling them, the first time, takes up to half a minute) ...", end="",
              flush=True)
        print(f" {run.warm_up():.1f} s", flush=True)
