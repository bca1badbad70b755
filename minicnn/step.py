"""One training step: forward, loss, backward, update.

This is the heart of the library: ``Steps._gradients`` and ``Steps._train_step``. What a network is stands in
``models.py``; doing this step many times over data stands in ``training.py``.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from minicnn import finite, losses, metrics, optimizers
from minicnn.batches import Batch, as_arrays
from minicnn.errors import DataError, StateError, refuse_unsupported
from minicnn.layers import ActivatedLayer, Layer
from minicnn.plan import Plan, why_unfused

Method = TypeVar("Method", bound=Callable[..., Any])


def one_at_a_time(method: Method) -> Method:
    """Let one thread at a time into such methods of a model; one that is in may call further ones."""
    @functools.wraps(method)
    def locked(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return cast(Method, locked)


class Steps:
    """``compile`` and what it makes possible: the gradients of a batch, one update, one evaluation.

    Attributes
    ----------
    optimizer, loss : Optimizer, CrossEntropy
        As given to ``compile``.
    input_gradient : ndarray
        Gradient of the loss with respect to the input, after ``loss_and_gradients``.
    updates : int
        Training steps this model has made, by whatever optimizer.
    fuse : bool
        Whether neighbouring layers may run as one block; see ``plan``.
    """

    layers: list[Layer]
    seed: int

    def __init__(self) -> None:
        self.optimizer: Any = None
        self.loss: Any = None
        self.metrics: list[tuple[str, metrics.Metric]] = []
        self.input_gradient: np.ndarray | None = None
        self.updates = 0
        self.fuse = True
        self._plan: Plan | None = None
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy takes over: all but the lock, and the plan, which is one of these very layers."""
        return self.__dict__ | {"_plan": None, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Become a copy."""
        self.__dict__.update(state)
        self._lock = threading.RLock()

    # What models.py provides.
    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:  # noqa: D102
        raise NotImplementedError

    def backward(self, dout: np.ndarray, need_dx: bool = True) -> np.ndarray | None:  # noqa: D102
        raise NotImplementedError

    @property
    def built(self) -> bool:  # noqa: D102
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:  # noqa: D102
        raise NotImplementedError

    def _build_for(self, x: np.ndarray) -> None:
        raise NotImplementedError

    def _require_built(self, call: str) -> None:
        raise NotImplementedError

    # -- compile -----------------------------------------------------------------------------------------------------

    def compile(self, optimizer: str | optimizers.Optimizer = "rmsprop", loss: str | losses.CrossEntropy | None = None,
                metrics: Sequence[Any] | str | None = None, fuse: bool = True, **unsupported: Any) -> None:
        """Choose how to train.

        Parameters
        ----------
        optimizer : str or Optimizer
        loss : str or CrossEntropy
        metrics : list of str, MeanMetric or callable, optional
            ``accuracy``, see ``minicnn/metrics.py``, or functions ``(y_true, y_pred) -> (N,)``.
        fuse : bool
            Whether neighbouring layers may run as one block, which is faster; see ``plan``.
        """
        refuse_unsupported("compile", unsupported, {
            "loss_weights": (None,), "weighted_metrics": (None, []), "run_eagerly": (False, True, None),
            "steps_per_execution": (1,), "jit_compile": ("auto", False, True), "auto_scale_loss": (True, False)})
        new_optimizer = optimizers.get(optimizer)
        new_loss = None if loss is None else losses.get(loss)
        new_metrics = self._named_metrics(metrics, new_loss)
        new_optimizer.belong_to(self)
        self.optimizer, self.loss, self.metrics, self.fuse = new_optimizer, new_loss, new_metrics, bool(fuse)
        if new_loss is not None and new_loss.from_logits and self._ends_in_softmax():
            warnings.warn(f"The loss has from_logits=True, but the last layer ({self.layers[-1]}) ends in a softmax. "
                          f"Use one of the two.", UserWarning, stacklevel=2)

    @staticmethod
    def _named_metrics(chosen: Any, loss: losses.CrossEntropy | None) -> list[tuple[str, metrics.Metric]]:
        chosen = [chosen] if isinstance(chosen, str) or callable(chosen) else chosen or []
        sparse = not isinstance(loss, losses.CategoricalCrossentropy)
        return [metrics.get(metric, sparse) for metric in chosen]

    @property
    def metrics_names(self) -> list[str]:
        """Names of what ``evaluate`` returns, in its order."""
        return ["loss", *(name for name, _ in self.metrics)]

    # -- the plan ----------------------------------------------------------------------------------------------------

    @one_at_a_time
    def plan(self) -> Plan:
        """Return which layers run together; ``print(model.plan())`` explains it. See ``minicnn/plan.py``."""
        self._require_built("plan")
        plan = self._current_plan() or Plan(self.layers, why_unfused(self.layers, self.fuse))
        end = self._left_to_loss()[0] if self.loss is not None else None
        plan.left_to_loss = "" if end is None else end.name
        return plan

    def _current_plan(self) -> Plan | None:
        """Return the plan to run by, made anew when the layers have changed; None: each layer by itself."""
        if why_unfused(self.layers, self.fuse):
            self._plan = None
        elif self._plan is None or not self._plan.is_of(self.layers):
            self._plan = Plan(self.layers)
        return self._plan

    # -- one step ----------------------------------------------------------------------------------------------------

    @one_at_a_time
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
        batch = self._checked(Batch(x, y, sample_weight))
        loss, _, self.input_gradient = self._gradients(batch, need_dx=True)
        return loss

    def _gradients(self, batch: Batch, need_dx: bool) -> tuple[float, np.ndarray, np.ndarray | None]:
        """Forward, loss, backward. Return the loss, the probabilities (N, K) and the gradient of the input."""
        for layer in self.layers:
            layer.step = self.optimizer.iterations
            layer.grads = {}  # of the step before; their memory is for this one's
        network = self._current_plan() or self
        end, from_logits = self._left_to_loss()
        try:
            if end is not None:
                end.skip_activation = True
            targets = self._targets(batch)                                          # (N, K)
            predicted = network.forward(batch.x, training=True)                     # (N, K)
            sample_losses, probabilities = self.loss.forward(targets, predicted, from_logits)
            weights = self._weights(batch, predicted.dtype)                         # (N)
            dpredicted = self.loss.backward(targets, predicted, probabilities, weights, from_logits)
            dx = network.backward(dpredicted, need_dx)
        finally:
            if end is not None:
                end.skip_activation = False
        return float(np.dot(sample_losses, weights)), probabilities, dx

    @one_at_a_time
    def _train_step(self, batch: Batch) -> tuple[float, np.ndarray]:
        """Make one update from one batch. Return the loss and the probabilities (N, K) before the update.

        Raises
        ------
        TrainingError
            If the loss or a gradient is not finite; the model is then as it was before.
        """
        before = finite.Kept(self.layers)
        loss, probabilities, _ = self._gradients(batch, need_dx=False)
        trained = [layer for layer in self.layers if layer.trainable]
        gradients = _by_name(trained, "grads")
        try:
            if not (math.isfinite(loss) and finite.all_finite(gradients.values())):
                before.put_back()
                raise finite.error(self.layers, batch.x, loss, gradients, self.optimizer.iterations + 1)
            self.optimizer.apply(_by_name(trained, "params"), gradients)
        finally:
            for layer in self.layers:
                layer.release()
        self.updates += 1
        return loss, probabilities

    @one_at_a_time
    def _test_step(self, batch: Batch) -> tuple[float, np.ndarray]:
        """Return the loss and the probabilities (N, K) of one batch."""
        end, from_logits = self._left_to_loss()
        try:
            if end is not None:
                end.skip_activation = True
            targets = self._targets(batch)
            predicted = self.forward(batch.x)
            sample_losses, probabilities = self.loss.forward(targets, predicted, from_logits)
        finally:
            if end is not None:
                end.skip_activation = False
        return float(np.dot(sample_losses, self._weights(batch, predicted.dtype))), probabilities

    def _left_to_loss(self) -> tuple[Any, bool]:
        """Return the layer whose softmax is left to the loss, which computes both at once; and whether it gets logits.

        The layer is None if there is none. A step tells it to skip its activation in a ``try`` of its own, without a
        context manager: Ctrl-C may come at the beginning of any function, one that would put it back included.
        """
        fused = self._ends_in_softmax() and not self.loss.from_logits
        return self.layers[-1] if fused else None, fused or self.loss.from_logits

    @contextlib.contextmanager
    def _logits_for_loss(self) -> Iterator[bool]:
        """Leave a last softmax to the loss; yield whether predictions are logits."""
        end, from_logits = self._left_to_loss()
        try:
            if end is not None:
                end.skip_activation = True
            yield from_logits
        finally:
            if end is not None:
                end.skip_activation = False

    def _ends_in_softmax(self) -> bool:
        last = self.layers[-1] if self.layers else None
        return isinstance(last, ActivatedLayer) and last.activation.name == "softmax"

    def _targets(self, batch: Batch) -> np.ndarray:
        last = self.layers[-1]
        return self.loss.targets(batch.y, self._classes(batch.x), last.dtype)

    def _classes(self, x: np.ndarray) -> int:
        """Return the number of outputs K, also of a model that is not built yet."""
        shape = self.layers[-1].output_shape or self.compute_output_shape(x.shape[1:])
        if len(shape) != 1:
            raise StateError(f"The network's output has the shape {shape}; the loss expects one number a class, (K,). "
                             f"End the network with Flatten and Dense(classes).")
        return shape[0]

    @staticmethod
    def _weights(batch: Batch, dtype: Any) -> np.ndarray:
        """Return the factor of each sample's loss in the mean (N): 1/N, times the sample's weight if it has one."""
        N = len(batch.x)
        weights = np.ones(N) if batch.weight is None else batch.weight
        return (weights / N).astype(dtype)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _checked(self, batch: Batch) -> Batch:
        """Return a batch as arrays the network and the loss can take; whatever they cannot take is refused here."""
        if batch.y is None:
            raise DataError("There are no labels; expected y beside x, or batches (x, y) from the iterator.")
        batch = as_arrays(*batch, dtype=self.layers[0].dtype)
        if self.built:
            self.layers[0].check_batch_shape(batch.x.shape)
        self.loss.check(batch.y, self._classes(batch.x))
        self._build_for(batch.x)
        return batch

    def _logs(self, batch: Batch, loss: float, probabilities: np.ndarray) -> dict[str, float]:
        assert batch.y is not None
        return {"loss": loss} | {name: float(np.mean(metric(batch.y, probabilities))) for name, metric in self.metrics}

    def _require_compiled(self, call: str) -> None:
        if not self.layers:
            raise StateError(f"{call} was called on a model without layers; add some first.")
        if self.optimizer is None or self.loss is None:
            raise StateError(f"{call} was called before the model was compiled with a loss. Call model.compile("
                             f"optimizer='adam', loss='sparse_categorical_crossentropy', metrics=['accuracy']) first.")


def _by_name(layers: Iterable[Layer], attribute: str) -> dict[str, np.ndarray]:
    """Return all params or grads of layers under names such as ``conv2d/kernel``."""
    return {f"{layer.name}/{key}": array for layer in layers for key, array in getattr(layer, attribute).items()}
