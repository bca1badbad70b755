"""What is shown of a training: a bar, or lines."""

from __future__ import annotations

import sys
import time
from typing import Any

from minicnn.callbacks.base import Callback, Logs


def display(verbose: str | int) -> Callback:
    """Return the callback that shows what ``fit`` does: 2 asks for Keras' lines, ``auto`` and 1 for the bar."""
    return EpochLines() if verbose == 2 else ProgressBar(verbose)


class ProgressBar(Callback):
    """Show loss, metrics and images per second: a bar on a terminal or in a notebook, and one line an epoch.

    Parameters
    ----------
    verbose : {"auto", 1}
        ``auto`` draws the bar where it can be seen, 1 always.
    """

    FORMAT = "{desc} {percentage:3.0f}%|{bar}| {remaining} left, {rate_noinv_fmt}{postfix}"  # fits 80 columns

    def __init__(self, verbose: str | int = "auto") -> None:
        super().__init__()
        notebook = "ipykernel" in sys.modules
        self.draws_bar = verbose == 1 or (verbose == "auto" and (getattr(sys.stdout, "isatty", bool)() or notebook))
        self.bar: Any = None
        self.images = self.earlier = 0  # done in this epoch; of these, before it was interrupted
        self.seconds = 0.0
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Open the bar."""
        self.images = self.earlier = 0
        self.started = time.perf_counter()
        self.title = f"Epoch {epoch + 1}/{self.params['epochs']}"
        if self.draws_bar:
            from tqdm.auto import tqdm
            self.bar = tqdm(total=self.params.get("images"), desc=self.title, unit=" images", file=sys.stdout,
                            dynamic_ncols=True, mininterval=0.2, leave=False, bar_format=self.FORMAT)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """In an epoch that is resumed, begin where it was interrupted."""
        if batch and not self.images:
            self.images = self.earlier = self.model.images_seen
            if self.bar is not None:
                self.bar.update(self.images)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Advance the bar."""
        done = self.model.images_seen
        if self.bar is not None:
            self.bar.set_postfix_str(_words(logs), refresh=False)
            self.bar.update(done - self.images)
        self.images = done
        self.seconds = time.perf_counter() - self.started     # so that the time of validation does not count

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Replace the bar by the line, which a narrow terminal does not cut."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        rate = (self.images - self.earlier) / max(self.seconds, 1e-9)
        print(f"{self.title} - {self.seconds:.1f} s - {rate:,.0f} images/s - {_words(logs)}", flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Close a bar left open by an interruption."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def _words(logs: Logs | None) -> str:
    """Word the logs: ``loss 0.1234 - accuracy 0.9876``."""
    return " - ".join(f"{name} {value:.4f}" if name != "learning_rate" else f"{name} {value:.2g}"
                      for name, value in (logs or {}).items())


class EpochLines(Callback):
    """Keras' lines of ``verbose=2``: steps, seconds, seconds a step, the logs in alphabetical order.

    ``469/469 - 3s - 7ms/step - accuracy: 0.9781 - loss: 0.0712 - val_accuracy: 0.9832 - val_loss: 0.0536``, one for
    each epoch, evaluation outside of ``fit``, and prediction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps = self.earlier = 0    # done; of these, before the epoch was interrupted
        self.started = 0.0
        self._training = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Note that evaluations to come are validations, which have no line of their own."""
        self._training = True

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Say which epoch it is, if there are several."""
        self._begin()
        if self.params["epochs"] > 1:
            print(f"Epoch {epoch + 1}/{self.params['epochs']}", flush=True)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """In an epoch that is resumed, begin where it was interrupted."""
        if not self.steps:
            self.steps = self.earlier = batch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Count."""
        self.steps = batch + 1

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Print the line."""
        self._line(logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Start the clock, outside of ``fit``."""
        if not self._training:
            self._begin()

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Count, outside of ``fit``."""
        if not self._training:
            self.steps = batch + 1

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Print the line, outside of ``fit``."""
        if not self._training:
            self._line(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Start the clock."""
        self._begin()

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Count."""
        self.steps = batch + 1

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Print the line."""
        self._line(None)

    def _begin(self) -> None:
        self.steps = self.earlier = 0
        self.started = time.perf_counter()

    def _line(self, logs: Logs | None) -> None:
        total = self.params["steps"] or self.steps
        done = max(1, (self.steps or total) - self.earlier)    # since the clock was started
        seconds = time.perf_counter() - self.started
        ordered = sorted((logs or {}).items(), key=lambda item: (item[0] == "learning_rate", item[0]))
        values = [f"{name}: {_number(value)}" for name, value in ordered]
        print(" - ".join([f"{total}/{total}", f"{seconds:.0f}s", f"{_step_time(seconds / done)}/step", *values]),
              flush=True)


def _number(value: float) -> str:
    return f"{value:.4f}" if value > 1e-3 else f"{value:.4e}"


def _step_time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.0f}s"
    return f"{seconds * 1e3:.0f}ms" if seconds >= 1e-3 else f"{seconds * 1e6:.0f}us"
