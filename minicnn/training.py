"""Training: the step of ``step.py`` many times over data, epoch by epoch.

``Sequential`` in ``models.py`` says what a network is and inherits what happens to it from ``Trainer`` here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minicnn import kernels, losses
from minicnn.arguments import whole_number
from minicnn.batches import (
    ArrayBatches,
    Batch,
    Epochs,
    IteratorBatches,
    as_arrays,
    is_array,
    split_last,
    warn_if_not_scaled,
    weights_of_classes,
)
from minicnn.callbacks import Callback, CallbackList, History, Logs, TerminateOnNaN
from minicnn.callbacks.progress import EpochLines, display
from minicnn.errors import ArgumentError, DataError, StateError, TrainingError, refuse_unsupported
from minicnn.fitting import Fitting
from minicnn.layers import BatchNormalization
from minicnn.metrics import Means
from minicnn.step import Steps
from minicnn.streams import generator

__all__ = ["History", "Trainer"]

# Moving averages with momentum 0.99 still hold 0.99^500 = 0.7 % of their start after this many updates.
SETTLED_UPDATES = 500

Callbacks = Sequence[Callback] | Callback | None


class Trainer(Steps):
    """``fit``, ``evaluate``, ``predict`` and their single-batch forms.

    Attributes
    ----------
    stop_training, stop_evaluating, stop_predicting : bool
        A callback sets one to end training (after the batch if set there, else after the epoch), an evaluation, or a
        prediction (after the batch).
    images_seen : int
        Images trained on in the current epoch.
    fitting : Fitting or None
        Where the training stands; None when there is none.
    """

    callback_list: type[CallbackList] = CallbackList  # what calls the callbacks

    def __init__(self) -> None:
        super().__init__()
        self.stop_training = self.stop_evaluating = self.stop_predicting = False
        self.images_seen = 0
        self.fitting: Fitting | None = None
        self.history: History | None = None
        self._warned: set[str] = set()

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1,
            verbose: str | int = "auto", callbacks: Callbacks = None,
            validation_split: float = 0.0, validation_data: Any = None, shuffle: bool = True,
            class_weight: dict[int, float] | None = None, sample_weight: Any = None, initial_epoch: int = 0,
            steps_per_epoch: int | None = None, validation_steps: int | None = None,
            validation_batch_size: int | None = None, **unsupported: Any) -> History:
        """Train.

        Parameters
        ----------
        x, y : ndarray, or x alone an iterable of batches ``(x, y)`` or ``(x, y, sample_weight)``
            Inputs (N, ...) and labels.
        batch_size : int
            Default 32.
        epochs, initial_epoch : int
            Train the epochs ``initial_epoch`` up to, not including, ``epochs``.
        verbose : {"auto", 0, 1, 2}
            Nothing (0), a bar (1), Keras' lines (2); ``auto`` draws the bar where it can be seen.
        callbacks : list of Callback
            See ``minicnn/callbacks``. One that is a History is the one returned.
        validation_split : float
            Part of the data, taken from its end before shuffling, to validate on after each epoch.
        validation_data : (x, y), (x, y, sample_weight) or an iterable of batches
            Used instead of a split.
        shuffle : bool
            Draw a new order for every epoch, from the model's seed.
        class_weight : dict of int to float
            Factor of each class in the loss.
        sample_weight : ndarray, shape (N,)
            Factor of each sample in the loss.
        steps_per_epoch, validation_steps : int, optional
            Batches an epoch; needed for iterators that never end.
        validation_batch_size : int, optional
            Default ``batch_size``.

        Returns
        -------
        History
            ``.history`` with one list a name (loss, accuracy, val_loss, ...) and ``.epoch``.
        """
        refuse_unsupported("fit", unsupported, {"validation_freq": (1,)})
        self._require_compiled("fit")
        _check_verbose(verbose)
        epochs, initial_epoch = whole_number("epochs", epochs, 0), whole_number("initial_epoch", initial_epoch, 0)
        size = 32 if batch_size is None else batch_size
        validation_size = size if validation_batch_size is None else validation_batch_size
        training, validation = self._training_data(x, y, (size, validation_size), shuffle, validation_split,
                                                   class_weight, sample_weight)
        if validation_data is not None:
            validation = self._evaluation_data(validation_data, validation_size)
        plan = Epochs(training, steps_per_epoch, "steps_per_epoch")
        images = None if steps_per_epoch is not None else training.images
        listeners = self._listeners(callbacks, [display(verbose)] if verbose else [], {
            "epochs": epochs, "steps": plan.steps, "images": images, "verbose": verbose}, with_history=True)
        assert self.history is not None
        if verbose:
            kernels.announce_compilation()
        self.stop_training = False
        self.fitting = Fitting(plan, validation, listeners, {
            "steps_per_epoch": steps_per_epoch, "validation_steps": validation_steps}, epochs, initial_epoch)
        logs: Logs = {}
        try:
            for callback in listeners.callbacks:
                callback.prepare()
            listeners.call("on_train_begin", {})    # one of them may put the training, and self.fitting, elsewhere
            try:
                while not self.fitting.complete:
                    logs = self._run_epoch(self.fitting, bool(verbose))
                    self.fitting.ended = self.stop_training
                self.fitting.finished = True
            finally:
                listeners.call("on_train_end", logs)
        finally:
            self.fitting = None
        return self.history

    def _run_epoch(self, fitting: Fitting, talk: bool) -> Logs:
        epoch, listeners = fitting.epoch, fitting.listeners
        listeners.call("on_epoch_begin", epoch, {})
        self.images_seen = fitting.means.count
        stopped = self.stop_training and fitting.batch    # before it was interrupted
        for number, batch in enumerate([] if stopped else fitting.plan.next_epoch(fitting.batch), fitting.batch):
            listeners.call("on_train_batch_begin", number, {})
            if isinstance(fitting.plan.batches, IteratorBatches):
                batch = self._checked(batch)
                self._warn_if_not_scaled(batch.x)
            fitting.means.add(self._trained_on(batch, listeners), len(batch.x))
            fitting.batch, self.images_seen = number + 1, fitting.means.count
            listeners.call("on_train_batch_end", number, fitting.means.values())
            if self.stop_training:
                break
        if not fitting.means.count:
            raise DataError("The iterator of batches gave none in this epoch. Give an iterable that can be passed "
                            "through once an epoch, or one without end together with steps_per_epoch.")
        logs = fitting.means.values()
        if fitting.validation is not None:
            self._say_if_unsettled(talk)
            values = self._evaluate(Epochs(fitting.validation, fitting.settings["validation_steps"]), listeners)
            logs |= {f"val_{name}": value for name, value in values.items()}
        fitting.end_epoch()
        listeners.call("on_epoch_end", epoch, logs)
        return logs

    def _trained_on(self, batch: Batch, listeners: CallbackList) -> Logs:
        """Make a step and return its logs; NaN if it failed and TerminateOnNaN is there to end the training."""
        try:
            return self._logs(batch, *self._train_step(batch))
        except TrainingError:
            if not any(isinstance(one, TerminateOnNaN) and not one.raise_error for one in listeners.callbacks):
                raise
            return dict.fromkeys(self.metrics_names, math.nan)

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, verbose: str | int = "auto",
                 sample_weight: Any = None, steps: int | None = None, callbacks: Callbacks = None,
                 return_dict: bool = False) -> Any:
        """Return the loss on data, followed by the metrics: a number, a list, or a dict if ``return_dict``.

        Parameters
        ----------
        x, y, batch_size, sample_weight
            As in ``fit``.
        verbose : {"auto", 0, 1, 2}
            1 and 2 print Keras' line.
        steps : int, optional
            Batches to evaluate; needed for iterators that never end.
        callbacks : list of Callback
        return_dict : bool
        """
        self._require_compiled("evaluate")
        data = self._evaluation_data((x, y, sample_weight) if is_array(x) else x,
                                     32 if batch_size is None else batch_size)
        epochs = Epochs(data, steps)
        return self._returned(self._evaluate(epochs, self._once(callbacks, verbose, epochs)), return_dict)

    def _evaluate(self, epochs: Epochs, listeners: CallbackList) -> Logs:
        means = Means()
        self.stop_evaluating = False
        listeners.call("on_test_begin", {})
        for number, batch in enumerate(epochs.next_epoch()):
            listeners.call("on_test_batch_begin", number, {})
            batch = self._checked(batch) if isinstance(epochs.batches, IteratorBatches) else batch
            loss, probabilities = self._test_step(batch)
            means.add(self._logs(batch, loss, probabilities), len(batch.x))
            listeners.call("on_test_batch_end", number, means.values())
            if self.stop_evaluating:
                break
        if not means.count:
            raise DataError("The iterator gave no batches to evaluate.")
        listeners.call("on_test_end", means.values())
        return means.values()

    def predict(self, x: Any, batch_size: int | None = None, verbose: str | int = "auto", steps: int | None = None,
                callbacks: Callbacks = None) -> np.ndarray:
        """Return the outputs (N, K) for inputs (N, ...), batch by batch.

        Parameters
        ----------
        x : ndarray or iterable of batches
        batch_size : int
            Default 32; the result does not depend on it.
        verbose, steps, callbacks
            As in ``evaluate``.
        """
        if not self.layers:
            raise StateError("predict was called on a model without layers; add some first.")
        dtype = self.layers[0].dtype
        batches = ArrayBatches(as_arrays(x, dtype=dtype).x, batch_size=32 if batch_size is None else batch_size) \
            if is_array(x) else IteratorBatches(x)
        epochs = Epochs(batches, steps)
        listeners = self._once(callbacks, verbose, epochs)
        outputs = []
        self.stop_predicting = False
        listeners.call("on_predict_begin", {})
        for number, batch in enumerate(epochs.next_epoch()):
            listeners.call("on_predict_batch_begin", number, {})
            inputs = as_arrays(batch.x, dtype=dtype).x if isinstance(batches, IteratorBatches) else batch.x
            outputs.append(self.forward(inputs))
            listeners.call("on_predict_batch_end", number, {"outputs": outputs[-1]})
            if self.stop_predicting:
                break
        if not outputs:
            raise DataError("The iterator gave no batches to predict.")
        listeners.call("on_predict_end", {})
        return np.concatenate(outputs)

    def train_on_batch(self, x: Any, y: Any, sample_weight: Any = None, class_weight: dict[int, float] | None = None,
                       return_dict: bool = False) -> Any:
        """Make one update; return the loss and metrics before it, as ``evaluate`` does."""
        self._require_compiled("train_on_batch")
        batch = self._with_class_weight(self._checked(Batch(x, y, sample_weight)), class_weight)
        return self._returned(self._logs(batch, *self._train_step(batch)), return_dict)

    def test_on_batch(self, x: Any, y: Any, sample_weight: Any = None, return_dict: bool = False) -> Any:
        """Return the loss and metrics of one batch, as ``evaluate`` does."""
        self._require_compiled("test_on_batch")
        batch = self._checked(Batch(x, y, sample_weight))
        return self._returned(self._logs(batch, *self._test_step(batch)), return_dict)

    # -- callbacks ---------------------------------------------------------------------------------------------------

    def _listeners(self, callbacks: Callbacks, shown: Sequence[Callback], params: dict[str, Any],
                   with_history: bool = False) -> CallbackList:
        """Return the callbacks to call: the user's, what shows the progress, and in training the history."""
        listening = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])
        own = [callback for callback in listening if isinstance(callback, History)]
        listening += shown
        if with_history:
            self.history = own[-1] if own else History()
            listening += [] if own else [self.history]
        return self.callback_list(listening, self, params)

    def _once(self, callbacks: Callbacks, verbose: str | int, epochs: Epochs) -> CallbackList:
        """Return the callbacks of an evaluation or prediction."""
        _check_verbose(verbose)
        shown = [EpochLines()] if verbose in (1, 2) else []
        return self._listeners(callbacks, shown, {"epochs": 1, "steps": epochs.steps, "verbose": verbose})

    # -- data in, numbers out ----------------------------------------------------------------------------------------

    def _training_data(self, x: Any, y: Any, sizes: tuple[int, int], shuffle: bool, validation_split: float,
                       class_weight: dict[int, float] | None, sample_weight: Any) -> tuple[Any, Any]:
        """Return batches to train on and, for a split, to validate on; ``sizes`` are theirs."""
        if not is_array(x):
            batches = IteratorBatches(x)
            if y is not None or validation_split or sample_weight is not None or class_weight:
                raise ArgumentError("x is an iterator of batches; give labels and weights in it, as (x, y, "
                                    "sample_weight), and validation_data instead of validation_split.")
            return batches, None
        batch = self._checked(Batch(x, y, sample_weight))
        self._warn_if_not_scaled(batch.x)
        validation = None
        if validation_split:
            batch, held_out = split_last(batch, validation_split)
            validation = ArrayBatches(*held_out, batch_size=sizes[1])
        batch = self._with_class_weight(batch, class_weight)
        # The step counter in the key gives every epoch its own order, also over several calls of fit.
        order = (lambda number: generator(self.seed, "shuffle", number)) if shuffle else None
        return ArrayBatches(*batch, batch_size=sizes[0], shuffled_by=order,
                            numbered_by=lambda: self.optimizer.iterations), validation

    def _evaluation_data(self, data: Any, batch_size: int) -> ArrayBatches | IteratorBatches:
        if isinstance(data, (tuple, list)) and 2 <= len(data) <= 3 and is_array(data[0]):
            return ArrayBatches(*self._checked(Batch(*data)), batch_size=batch_size)
        return IteratorBatches(data)

    def _with_class_weight(self, batch: Batch, class_weight: dict[int, float] | None) -> Batch:
        if not class_weight:
            return batch
        assert batch.y is not None
        sparse = not isinstance(self.loss, losses.CategoricalCrossentropy)
        factor = weights_of_classes(batch.y, class_weight, self._classes(batch.x), sparse)
        return batch._replace(weight=factor if batch.weight is None else batch.weight * factor)

    def _warn_if_not_scaled(self, x: np.ndarray) -> None:
        if "scale" not in self._warned:
            self._warned.add("scale")
            warn_if_not_scaled(x)

    @staticmethod
    def _returned(logs: Logs, return_dict: bool) -> Any:
        values = list(logs.values())
        return logs if return_dict else values[0] if len(values) == 1 else values

    def _say_if_unsettled(self, talk: bool) -> None:
        unsettled = self.updates < SETTLED_UPDATES and "settle" not in self._warned
        if talk and unsettled and any(isinstance(layer, BatchNormalization) and layer.trainable
                                      for layer in self.layers):
            self._warned.add("settle")
            print(f"Note: after {self.updates} updates BatchNormalization's moving averages have not settled; the "
                  f"validation figures are still too pessimistic.", flush=True)


def _check_verbose(verbose: Any) -> None:
    if verbose not in ("auto", 0, 1, 2):
        raise ArgumentError(f"verbose is {verbose!r}; expected 'auto', 0, 1 or 2.")
