"""One run: build the network, train it, score it on the test images. Every script trains through this page."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import machine
from digits import Digits, scaled
from minicnn import kernels
from minicnn.callbacks import History
from minicnn.kernels.threads import get_threads
from minicnn.layers import BatchNormalization
from minicnn.models import Sequential
from minicnn.statistics import wilson_interval
from minicnn.training import SETTLED_UPDATES
from recipes import Recipe

LOSS = "sparse_categorical_crossentropy"


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


@dataclass
class Run:
    """A recipe on data with a seed: what it is told, and what came out.

    Attributes
    ----------
    recipe, digits, epochs, batch_size, seed
        What it is told.
    model : Sequential
        Built from the recipe and the seed.
    recorder : Recorder
        History and seconds of the epochs that ended.
    interrupted : bool
        Whether Ctrl-C ended the training.
    """

    recipe: Recipe
    digits: Digits
    epochs: int
    batch_size: int
    seed: int
    model: Sequential = field(init=False)
    recorder: Recorder = field(init=False, default_factory=Recorder)
    interrupted: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.model = self._compiled()

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
        twin.train_on_batch(scaled(self.digits.x_train[rows]), self.digits.y_train[rows])
        twin.predict(scaled(self.digits.x_test[:2]), verbose=0)
        return time.perf_counter() - begin

    def train(self, verbose: str | int = "auto") -> None:
        """Fit; Ctrl-C ends it early and leaves a model that can be scored and saved."""
        x, y = scaled(self.digits.x_train), self.digits.y_train
        last = len(x) - self.digits.validation
        held_out = (x[last:], y[last:]) if last < len(x) else None
        callbacks = [*self.recipe.callbacks(self.epochs), self.recorder]
        try:
            self.model.fit(x[:last], y[:last], batch_size=self.batch_size, epochs=self.epochs, verbose=verbose,
                           validation_data=held_out, callbacks=callbacks)
        except KeyboardInterrupt:
            self.interrupted = True

    def score(self, digits: Digits | None = None) -> Score:
        """Predict the test images, of the run's own data or of others."""
        digits = digits or self.digits
        probabilities = self.model.predict(scaled(digits.x_test), batch_size=512, verbose=0)
        return Score(digits, probabilities)

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps of the run, without its score."""
        return {"recipe": self.recipe.name, "data": self.digits.record(), "seed": self.seed,
                "parameters": self.parameters, "batch_size": self.batch_size, "epochs_planned": self.epochs,
                "epochs": len(self.recorder.seconds), "interrupted": self.interrupted,
                "seconds_per_epoch": [round(seconds, 2) for seconds in self.recorder.seconds],
                "history": self.recorder.history, "weights_sha256": self.model.weights_sha256(),
                "machine": machine.machine(), "versions": machine.versions()}

    def _compiled(self) -> Sequential:
        shape = (*self.digits.x_train.shape[1:], 1)
        model = self.recipe.network(shape, self.digits.classes, self.seed)
        model.compile(optimizer=self.recipe.optimizer(), loss=LOSS, metrics=["accuracy"])
        return model


@dataclass(frozen=True)
class Score:
    """How a network did on test images.

    Attributes
    ----------
    digits : Digits
        Whose test images.
    probabilities : ndarray, shape (N, K)
    """

    digits: Digits
    probabilities: NDArray[np.float32]

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

    def sentence(self) -> str:
        """Say the accuracy, with the interval in which it can be trusted."""
        low, high = wilson_interval(self.correct, self.total)
        return (f"{100 * self.correct / self.total:.2f} % of {self.total:,} {self.what} right "
                f"(95 % interval {100 * low:.2f} to {100 * high:.2f} %), {self.total - self.correct:,} wrong")

    def record(self) -> dict[str, Any]:
        """Return what a result file keeps."""
        return {"test_data": self.digits.name, "accuracy": self.correct / self.total, "correct": self.correct,
                "total": self.total, "interval_95": list(wilson_interval(self.correct, self.total))}


def announce(run: Run) -> None:
    """Say what is about to be trained on what, and compile the kernels meanwhile."""
    recipe, plural = run.recipe, "s" * (run.epochs != 1)
    print(f"{recipe.name}: {recipe.title}\n"
          f"  network  {run.parameters:,} trainable parameters; {run.epochs} epoch{plural} in batches of "
          f"{run.batch_size}; seed {run.seed}\n"
          f"  data     {run.digits.describe()}\n"
          f"  kernels  {kernels.active()}, on {get_threads()} thread{'s' * (get_threads() != 1)}", flush=True)
    if kernels.active() == "fast":
        print("Preparing the kernels (compiling them, the first time, takes up to half a minute) ...", end="",
              flush=True)
        print(f" {run.warm_up():.1f} s", flush=True)
