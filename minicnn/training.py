"""Training: what happens to a network. One step is: forward, loss, backward, update; the rest is bookkeeping.

``Sequential`` in ``models.py`` says what a network is and inherits from ``Trainer`` here. A reader who wants the heart
of it finds it in ``Trainer._gradients`` and ``Trainer._train_step``.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from minicnn import kernels, losses, metrics, optimizers
from minicnn.batches import (
    ArrayBatches,
    Batch,
    Epochs,
    IteratorBatches,
    as_arrays,
    check_finite,
    is_array,
    split_last,
    warn_if_not_scaled,
    weights_of_classes,
)
from minicnn.callbacks import Callback, CallbackList, History, Logs, ProgressBar
from minicnn.errors import ArgumentError, DataError, StateError, refuse_unsupported
from minicnn.layers import ActivatedLayer, BatchNormalization, Layer
from minicnn.streams import generator

__all__ = ["History", "Trainer"]

# Moving averages with momentum 0.99 still hold 0.99^500 = 0.7 % of their start after this many updates.
SETTLED_UPDATES = 500


class Trainer:
    """``compile``, ``fit``, ``evaluate``, ``predict`` and their single-batch forms.

    Attributes
    ----------
    optimizer, loss : Optimizer, CrossEntropy
        As given to ``compile``.
    stop_training : bool
        A callback sets it to end training after the epoch.
    images_seen : int
        Images trained on in the current epoch.
    input_gradient : ndarray
        Gradient of the loss with respect to the input, after ``loss_and_gradients``.
    """

    layers: list[Layer]
    seed: int

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.loss: Any = None
        self.metrics: list[tuple[str, metrics.Metric]] = []
        self.stop_training = False
        self.images_seen = 0
        self.input_gradient: np.ndarray | None = None
        self.history: History | None = None
        self._warned: set[str] = set()

    # What models.py provides.
    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:  # noqa: D102
        raise NotImplementedError

    def backward(self, dout: np.ndarray, need_dx: bool = True) -> np.ndarray | None:  # noqa: D102
        raise NotImplementedError

    def _build_for(self, x: np.ndarray) -> None:
        raise NotImplementedError

    # -- compile -----------------------------------------------------------------------------------------------------

    def compile(self, optimizer: str | optimizers.Optimizer = "rmsprop", loss: str | losses.CrossEntropy | None = None,
                metrics: Sequence[Any] | str | None = None, **unsupported: Any) -> None:
        """Choose how to train.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or CrossEntropy
        metrics : list of str or callable, optional
            ``accuracy``, or functions ``(y_true, y_pred) -> (N,)``.
        """
        refuse_unsupported("compile", unsupported, {
            "loss_weights": (None,), "weighted_metrics": (None, []), "run_eagerly": (False, True, None),
            "steps_per_execution": (1,), "jit_compile": ("auto", False, True), "auto_scale_loss": (True, False)})
        new_optimizer = optimizers.get(optimizer)
        new_loss = None if loss is None else losses.get(loss)
        new_metrics = self._named_metrics(metrics, new_loss)
        self.optimizer, self.loss, self.metrics = new_optimizer, new_loss, new_metrics
        if new_loss is not None and new_loss.from_logits and self._ends_in_softmax():
            warnings.warn(f"The loss has from_logits=True, but the last layer ({self.layers[-1]}) ends in a softmax. "
                          f"Use one of the two.", UserWarning, stacklevel=2)

    @staticmethod
    def _named_metrics(chosen: Any, loss: losses.CrossEntropy | None) -> list[tuple[str, metrics.Metric]]:
        chosen = [chosen] if isinstance(chosen, str) or callable(chosen) else chosen or []
        sparse = not isinstance(loss, losses.CategoricalCrossentropy)
        return [metrics.get(metric, sparse) for metric in chosen]

    # -- one step ----------------------------------------------------------------------------------------------------

    def loss_and_gradients(self, x: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
        """Compute the loss of a batch and every gradient, and change no weight.

        Parameters
        ----------
        x, y, sample_weight : ndarray
            Inputs (N, ...), labels as the loss wants them, weights (N).

        Returns
        -------
        float
            ``sum(weights * losses) / N``. The gradients are in each layer's ``grads`` and in ``input_gradient``.
        """
        self._require_compiled("loss_and_gradients")
        batch = as_arrays(x, y, sample_weight)
        self._build_for(batch.x)
        loss, _, self.input_gradient = self._gradients(batch, need_dx=True)
        return loss

    def _gradients(self, batch: Batch, need_dx: bool) -> tuple[float, np.ndarray, np.ndarray | None]:
        """Forward, loss, backward. Return the loss, the probabilities (N, K) and the gradient of the input."""
        for layer in self.layers:
            layer.step = self.optimizer.iterations
        with self._logits_for_loss() as from_logits:
            targets = self._targets(batch)                                          # (N, K)
            predicted = self.forward(batch.x, training=True)                        # (N, K)
            sample_losses, probabilities = self.loss.forward(targets, predicted, from_logits)
            weights = self._weights(batch, predicted.dtype)                         # (N)
            dpredicted = self.loss.backward(targets, predicted, probabilities, weights, from_logits)
            dx = self.backward(dpredicted, need_dx)
        return float(np.dot(sample_losses, weights)), probabilities, dx

    def _train_step(self, batch: Batch) -> tuple[float, np.ndarray]:
        """Make one update from one batch. Return the loss and the probabilities (N, K) before the update."""
        loss, probabilities, _ = self._gradients(batch, need_dx=False)
        trained = [layer for layer in self.layers if layer.trainable]
        self.optimizer.apply(_by_name(trained, "params"), _by_name(trained, "grads"))
        for layer in self.layers:
            layer.release()
        return loss, probabilities

    def _test_step(self, batch: Batch) -> tuple[float, np.ndarray]:
        """Return the loss and the probabilities (N, K) of one batch."""
        with self._logits_for_loss() as from_logits:
            targets = self._targets(batch)
            predicted = self.forward(batch.x)
            sample_losses, probabilities = self.loss.forward(targets, predicted, from_logits)
        return float(np.dot(sample_losses, self._weights(batch, predicted.dtype))), probabilities

    @contextlib.contextmanager
    def _logits_for_loss(self) -> Iterator[bool]:
        """Leave a last softmax to the loss, which computes both at once; yield whether predictions are logits."""
        fused = self._ends_in_softmax() and not self.loss.from_logits
        last = self.layers[-1]
        if fused:
            last.skip_activation = True  # type: ignore[attr-defined]
        try:
            yield fused or self.loss.from_logits
        finally:
            if fused:
                last.skip_activation = False  # type: ignore[attr-defined]

    def _ends_in_softmax(self) -> bool:
        last = self.layers[-1] if self.layers else None
        return isinstance(last, ActivatedLayer) and last.activation.name == "softmax"

    def _targets(self, batch: Batch) -> np.ndarray:
        last = self.layers[-1]
        return self.loss.targets(batch.y, self._classes(), last.dtype)

    def _classes(self) -> int:
        shape = self.layers[-1].output_shape
        if shape is None or len(shape) != 1:
            raise StateError(f"The network's output has the shape {shape}; the loss expects one number a class, (K,). "
                             f"End the network with Flatten and Dense(classes).")
        return shape[0]

    @staticmethod
    def _weights(batch: Batch, dtype: Any) -> np.ndarray:
        """Return the factor of each sample's loss in the mean (N): 1/N, times the sample's weight if it has one."""
        N = len(batch.x)
        weights = np.ones(N) if batch.weight is None else batch.weight
        return (weights / N).astype(dtype)

    # -- many steps --------------------------------------------------------------------------------------------------

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1,
            verbose: str | int = "auto", callbacks: Sequence[Callback] | Callback | None = None,
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
            Nothing (0), a bar (1), a line an epoch (2); ``auto`` draws the bar where it can be seen.
        callbacks : list of Callback
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
        size = 32 if batch_size is None else batch_size
        training, validation = self._training_data(x, y, size, shuffle, validation_split, class_weight, sample_weight)
        if validation_data is not None:
            validation = self._evaluation_data(validation_data, validation_batch_size or size)
        plan = Epochs(training, steps_per_epoch)
        self.history = History()
        shown = [ProgressBar(verbose)] if verbose else []
        own = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or [])
        images = len(training.x) if isinstance(training, ArrayBatches) and steps_per_epoch is None else None
        listeners = CallbackList([*own, *shown, self.history], self, {
            "epochs": epochs, "steps": plan.steps, "images": images, "verbose": verbose})
        if verbose:
            kernels.announce_compilation()
        self.stop_training = False
        listeners.call("on_train_begin", {})
        try:
            for epoch in range(initial_epoch, epochs):
                self._run_epoch(epoch, plan, validation, validation_steps, listeners, bool(verbose))
                if self.stop_training:
                    break
        finally:
            listeners.call("on_train_end", {})
        return self.history

    def _run_epoch(self, epoch: int, plan: Epochs, validation: Any, validation_steps: int | None,
                   listeners: CallbackList, talk: bool) -> None:
        listeners.call("on_epoch_begin", epoch, {})
        means = _Means()
        self.images_seen = 0
        for number, batch in enumerate(plan.next_epoch()):
            listeners.call("on_train_batch_begin", number, {})
            batch = self._checked(batch) if isinstance(plan.batches, IteratorBatches) else batch
            loss, probabilities = self._train_step(batch)
            self.images_seen += len(batch.x)
            means.add(self._logs(batch, loss, probabilities), len(batch.x))
            listeners.call("on_train_batch_end", number, means.values())
        if not self.images_seen:
            raise DataError("The iterator of batches gave none in this epoch. Give an iterable that can be passed "
                            "through once an epoch, or one without end together with steps_per_epoch.")
        logs = means.values()
        if validation is not None:
            self._say_if_unsettled(talk)
            listeners.call("on_test_begin", {})
            values = self._evaluate(validation, validation_steps)
            listeners.call("on_test_end", values)
            logs |= {f"val_{name}": value for name, value in values.items()}
        listeners.call("on_epoch_end", epoch, logs)

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, verbose: str | int = "auto",
                 sample_weight: Any = None, steps: int | None = None, return_dict: bool = False,
                 **unsupported: Any) -> Any:
        """Return the loss on data, followed by the metrics: a number, a list, or a dict if ``return_dict``."""
        refuse_unsupported("evaluate", unsupported, {"callbacks": (None,)})
        self._require_compiled("evaluate")
        data = self._evaluation_data((x, y, sample_weight) if is_array(x) else x, batch_size or 32)
        return self._returned(self._evaluate(data, steps), return_dict)

    def _evaluate(self, batches: ArrayBatches | IteratorBatches, steps: int | None) -> Logs:
        means = _Means()
        for batch in Epochs(batches, steps).next_epoch():
            batch = self._checked(batch) if isinstance(batches, IteratorBatches) else batch
            loss, probabilities = self._test_step(batch)
            means.add(self._logs(batch, loss, probabilities), len(batch.x))
        if not means.count:
            raise DataError("The iterator gave no batches to evaluate.")
        return means.values()

    def predict(self, x: Any, batch_size: int | None = None, verbose: str | int = "auto", steps: int | None = None,
                **unsupported: Any) -> np.ndarray:
        """Return the outputs (N, K) for inputs (N, ...), batch by batch.

        Parameters
        ----------
        x : ndarray or iterable of batches
        batch_size : int
            Default 32; the result does not depend on it.
        verbose, steps
            As in Keras; nothing is printed.
        """
        refuse_unsupported("predict", unsupported, {"callbacks": (None,)})
        batches: ArrayBatches | IteratorBatches
        if is_array(x):
            checked = as_arrays(x)
            self._build_for(checked.x)
            batches = ArrayBatches(checked.x, batch_size=batch_size or 32)
        else:
            batches = IteratorBatches(x)
        outputs = [self.forward(batch.x) for batch in Epochs(batches, steps).next_epoch()]
        if not outputs:
            raise DataError("The iterator gave no batches to predict.")
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

    # -- data in, numbers out ----------------------------------------------------------------------------------------

    def _training_data(self, x: Any, y: Any, batch_size: int, shuffle: bool, validation_split: float,
                       class_weight: dict[int, float] | None, sample_weight: Any) -> tuple[Any, Any]:
        """Return batches to train on and, for a split, to validate on."""
        if not is_array(x):
            if y is not None or validation_split or sample_weight is not None or class_weight is not None:
                raise ArgumentError("x is an iterator of batches; give labels and weights in it, as (x, y, "
                                    "sample_weight), and validation_data instead of validation_split.")
            return IteratorBatches(_iterable(x)), None
        batch = self._checked(Batch(x, y, sample_weight))
        if "scale" not in self._warned:
            self._warned.add("scale")
            warn_if_not_scaled(batch.x)
        validation = None
        if validation_split:
            batch, held_out = split_last(batch, validation_split)
            validation = ArrayBatches(*held_out, batch_size=batch_size)
        batch = self._with_class_weight(batch, class_weight)
        # The step counter in the key gives every epoch its own order, also over several calls of fit.
        order = (lambda: generator(self.seed, "shuffle", self.optimizer.iterations)) if shuffle else None
        return ArrayBatches(*batch, batch_size=batch_size, shuffled_by=order), validation

    def _evaluation_data(self, data: Any, batch_size: int) -> ArrayBatches | IteratorBatches:
        if isinstance(data, (tuple, list)) and 2 <= len(data) <= 3 and is_array(data[0]):
            return ArrayBatches(*self._checked(Batch(*data)), batch_size=batch_size)
        return IteratorBatches(_iterable(data))

    def _checked(self, batch: Batch) -> Batch:
        """Return a batch as arrays the network and the loss can take."""
        if batch.y is None:
            raise DataError("There are no labels; expected y beside x, or batches (x, y) from the iterator.")
        batch = as_arrays(*batch)
        assert batch.y is not None
        self._build_for(batch.x)
        check_finite(batch.y, "y")
        self.loss.check(batch.y, self._classes())
        return batch

    def _with_class_weight(self, batch: Batch, class_weight: dict[int, float] | None) -> Batch:
        if not class_weight:
            return batch
        assert batch.y is not None
        factor = weights_of_classes(batch.y, class_weight, not isinstance(self.loss, losses.CategoricalCrossentropy))
        return batch._replace(weight=factor if batch.weight is None else batch.weight * factor)

    def _logs(self, batch: Batch, loss: float, probabilities: np.ndarray) -> Logs:
        assert batch.y is not None
        return {"loss": loss} | {name: float(np.mean(metric(batch.y, probabilities))) for name, metric in self.metrics}

    @staticmethod
    def _returned(logs: Logs, return_dict: bool) -> Any:
        values = list(logs.values())
        return logs if return_dict else values[0] if len(values) == 1 else values

    def _require_compiled(self, call: str) -> None:
        if not self.layers:
            raise StateError(f"{call} was called on a model without layers; add some first.")
        if self.optimizer is None or self.loss is None:
            raise StateError(f"{call} was called before the model was compiled with a loss. Call model.compile("
                             f"optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy']) first.")

    def _say_if_unsettled(self, talk: bool) -> None:
        unsettled = self.optimizer.iterations < SETTLED_UPDATES and "settle" not in self._warned
        if unsettled and any(isinstance(layer, BatchNormalization) for layer in self.layers):
            self._warned.add("settle")
            if talk:
                print(f"Note: BatchNormalization has made only {self.optimizer.iterations} updates; its moving averages "
                      f"have not settled, so the validation figures are still too pessimistic.", flush=True)


class _Means:
    """Means of logs over the samples of several batches."""

    def __init__(self) -> None:
        self.count = 0
        self.sums: dict[str, float] = {}

    def add(self, logs: Logs, samples: int) -> None:
        self.count += samples
        for name, value in logs.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * samples

    def values(self) -> Logs:
        return {name: total / self.count for name, total in self.sums.items()}


def _by_name(layers: Iterable[Layer], attribute: str) -> dict[str, np.ndarray]:
    """Return all params or grads of layers under names such as ``conv2d/kernel``."""
    return {f"{layer.name}/{key}": array for layer in layers for key, array in getattr(layer, attribute).items()}


def _iterable(data: Any) -> Iterable[Any]:
    if data is None or not isinstance(data, Iterable):
        raise DataError(f"The data is {data!r}; expected arrays, or an iterable of batches (x, y).")
    return data
