"""A layer or a model as a scalar function of its input and parameters, and what its backward pass says about it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minicnn.errors import StateError
from minicnn.layers.base import Layer
from minicnn.losses import CrossEntropy
from minicnn.models import Sequential


class Alone:
    """A layer with its data; f is the sum of its outputs times random numbers.

    Parameters
    ----------
    layer : Layer
        Built, float64, its step held.
    x : numpy.ndarray
        Inputs (N, ...), float64; later changes of the array are seen.
    rng : numpy.random.Generator
    """

    def __init__(self, layer: Layer, x: np.ndarray, rng: np.random.Generator) -> None:
        self.layer = layer
        self.x = x
        self.origin = layer.forward(x.copy(), training=True).copy()
        self.upstream = rng.standard_normal(self.origin.shape)

    def value(self) -> float:
        """Return f, less the output at the start: outputs that do not change add no rounding error."""
        return float(np.sum((self.layer.forward(self.x.copy(), training=True) - self.origin) * self.upstream))

    def gradients(self) -> dict[str, Any]:
        """Run the layer forward and backward; return all gradients."""
        return self.gradients_of(self.layer)

    def gradients_of(self, layer: Layer) -> dict[str, Any]:
        """Do the same with another layer."""
        layer.forward(self.x.copy(), training=True)
        dx = layer.backward(self.upstream.copy())
        return layer.grads | {"input": dx}


class Loss:
    """A loss with its data; f is the sum of the samples' losses times their weights.

    Parameters
    ----------
    loss : CrossEntropy
    targets, predictions : numpy.ndarray
        (N, K), float64; later changes of the predictions are seen.
    weights : numpy.ndarray
        (N), float64.
    from_logits : bool
    """

    def __init__(self, loss: CrossEntropy, targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray,
                 from_logits: bool) -> None:
        self.loss = loss
        self.targets = targets
        self.predictions = predictions
        self.weights = weights
        self.from_logits = from_logits
        self.origin, self.probabilities = loss.forward(targets, predictions.copy(), from_logits)

    def value(self) -> float:
        """Return f, less the losses at the start."""
        losses = self.loss.forward(self.targets, self.predictions.copy(), self.from_logits)[0]
        return float(np.sum((losses - self.origin) * self.weights))

    def gradient(self) -> np.ndarray:
        """Return what backward says."""
        _, probabilities = self.loss.forward(self.targets, self.predictions.copy(), self.from_logits)
        return self.loss.backward(self.targets, self.predictions.copy(), probabilities, self.weights, self.from_logits)


class Network:
    """A model with its data.

    Parameters
    ----------
    model : Sequential
        Built, float64, layers' steps held.
    x : numpy.ndarray
        Inputs (N, ...), float64; later changes of the array are seen.
    y : numpy.ndarray or None
        Labels. With them f is the model's loss under random sample weights, without them the sum of the outputs
        times random numbers.
    rng : numpy.random.Generator

    Raises
    ------
    StateError
        If the model's own forward pass, or ``loss_and_gradients``, gives other numbers than its layers and loss.
    """

    def __init__(self, model: Sequential, x: np.ndarray, y: np.ndarray | None, rng: np.random.Generator) -> None:
        self.model = model
        self.x = x
        self.y = y
        self.weights = rng.uniform(0.5, 1.5, len(x))                                # (N)
        if y is not None:
            model.loss_and_gradients(x.copy(), y, self.weights)  # refuses what it cannot take; sets the layers' steps
            classes = (model.layers[-1].output_shape or (1,))[-1]
            self.targets = model.loss.targets(y, classes, np.float64)               # (N, K)
        self.inputs = self._inputs_of_layers()
        self.origin = self._last(self.inputs[-1])
        self.upstream = self.weights / len(x) if y is not None else rng.standard_normal(self.origin.shape)
        self._compare_with_model()

    def starting_at(self, index: int) -> Callable[[], float]:
        """Return f as a function that runs only the layers from ``index`` on, for parameters no earlier layer has."""
        def function() -> float:
            # Less the values at the start: what does not change adds no rounding error.
            return float(np.sum((self._last(self._run(self.inputs[index], index)) - self.origin) * self.upstream))

        return function

    def gradients(self) -> dict[str, Any]:
        """Run the model forward and backward; return all gradients."""
        if self.y is not None:
            self.model.loss_and_gradients(self.x.copy(), self.y, self.weights)
            dx = self.model.input_gradient
        else:
            self.model.forward(self.x.copy(), training=True)
            dx = self.model.backward(self.upstream.copy())
        return {"input": dx} | {f"{layer.name}/{key}": grad for layer in self.model.layers
                                for key, grad in layer.grads.items()}

    def loss_alone(self) -> Loss:
        """Return the loss of the network with what it gets there. Not without labels."""
        with self.model._logits_for_loss() as from_logits:
            return Loss(self.model.loss, self.targets, self.inputs[-1].copy(), self.upstream, from_logits)

    def _run(self, x: np.ndarray, index: int) -> np.ndarray:
        """Return the output of the layers from ``index`` on: logits where the loss contains the softmax."""
        if self.y is None:
            return self._through_layers(x, index)
        with self.model._logits_for_loss():
            return self._through_layers(x, index)

    def _through_layers(self, x: np.ndarray, index: int) -> np.ndarray:
        for layer in self.model.layers[index:]:
            x = layer.forward(x.copy(), training=True)
        return x

    def _last(self, out: np.ndarray) -> np.ndarray:
        """Return what f sums up: the losses of the samples (N), or the outputs."""
        if self.y is None:
            return out.copy()
        with self.model._logits_for_loss() as from_logits:
            return self.model.loss.forward(self.targets, out, from_logits)[0]

    def _inputs_of_layers(self) -> list[np.ndarray]:
        """Return the input of each layer, the first being ``x`` itself, and the output of the last."""
        inputs = [self.x]
        for index in range(len(self.model.layers)):
            only = self.model.layers[index]
            if self.y is None or index < len(self.model.layers) - 1:
                inputs.append(only.forward(inputs[-1].copy(), training=True).copy())
            else:
                inputs.append(self._run(inputs[-1], index).copy())
        return inputs

    def _compare_with_model(self) -> None:
        ours: Any
        theirs: Any
        if self.y is None:
            call, ours = "forward", self.origin
            theirs = self.model.forward(self.x.copy(), training=True)
        else:
            call, ours = "loss_and_gradients", np.sum(self.origin * self.upstream)
            theirs = self.model.loss_and_gradients(self.x.copy(), self.y, self.weights)
        off = float(np.max(np.abs(theirs - ours)))
        if not off <= 1e-12 * float(np.max(np.abs(ours))) and math.isfinite(off):
            raise StateError(f"the model's {call} differs by {off:.1e} from what its layers, one after the other, and "
                             f"its loss give; expected the same numbers. Correct {call}.")
