"""Sequential: what a network is. Layers in order, a table of them, a file.

What happens to it (compile, fit, evaluate, predict) stands in ``training.py``; ``weights.py`` has its weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType
from typing import Any

import numpy as np

from minicnn import model_file
from minicnn.arguments import whole_number
from minicnn.errors import ArgumentError, ShapeError, StateError, refuse_unsupported, suggest
from minicnn.layers import LAYERS, Input, Layer
from minicnn.plan import first_trained
from minicnn.step import one_at_a_time
from minicnn.summary import summary_table
from minicnn.tables import output_encoding
from minicnn.training import Trainer
from minicnn.utils import default_seed
from minicnn.weights import Weights

Shape = tuple[int, ...]


class Sequential(Weights, Trainer):
    """A stack of layers: each takes the output of the one before.

    Parameters
    ----------
    layers : list of Layer, optional
        With ``Input(shape)`` first, or ``input_shape=`` on the first layer, the model is built at once, otherwise when
        it first sees data.
    name : str, optional
    seed : int, optional
        Initial weights, dropout masks and the order of the data follow from it. Default: see ``set_random_seed``.

    Attributes
    ----------
    layers : list of Layer
        Without ``Input``.

    Examples
    --------
    >>> model = Sequential([Input((28, 28, 1)), Flatten(), Dense(10, activation="softmax")])
    >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    """

    def __init__(self, layers: Iterable[Layer] | None = None, name: str | None = None, seed: int | None = None) -> None:
        super().__init__()
        self.name = name or "sequential"
        self.seed = default_seed() if seed is None else whole_number("Sequential: seed", seed, least=0)
        self.layers: list[Layer] = []
        self._input_shape: Shape | None = None
        if not isinstance(layers, (Iterable, NoneType)) or isinstance(layers, str):
            raise ArgumentError(f"Sequential got {layers!r}; expected a list of layers.")
        for layer in layers or []:
            self.add(layer)

    # -- layers ------------------------------------------------------------------------------------------------------

    def add(self, layer: Layer) -> None:
        """Append a layer.

        Raises
        ------
        ArgumentError
            If it is no layer, is in a model already, or has the name of another.
        ShapeError
            If it cannot take the output of the layer before; the model is as before then.
        """
        if not isinstance(layer, Layer):
            hint = f"write {layer.__name__}(...)" if isinstance(layer, type) else "import it from minicnn.layers"
            raise ArgumentError(f"Sequential.add got {layer!r}; expected a layer. Perhaps {hint}?")
        if isinstance(layer, Input):
            if self.layers or self._input_shape is not None:
                raise ArgumentError("Input must come first, and only once.")
            self._input_shape = layer.output_shape
            return
        if any(layer is other for other in self.layers) or layer.built:
            raise ArgumentError(f"{layer} is in use already; a model needs a layer of its own at each place.")
        layer.name = self._unique_name(layer)
        layer.seed, layer.index = self.seed, len(self.layers)
        shape = self._shape_after_last() if self.layers else self._input_shape or layer.declared_input_shape
        if layer.declared_input_shape not in (None, shape):
            raise ShapeError(f"{layer} has input_shape={layer.declared_input_shape}, but what comes before it gives "
                             f"{shape}. Leave input_shape out; it belongs to the first layer.")
        if shape is not None:
            layer.build_whole(shape)
        self.layers.append(layer)
        if self._input_shape is None and len(self.layers) == 1:
            self._input_shape = shape

    def pop(self) -> Layer:
        """Take the last layer off and return it.

        Raises
        ------
        StateError
            If there is none.
        """
        if not self.layers:
            raise StateError("pop was called on a model without layers.")
        return self.layers.pop()

    @property
    def trainable(self) -> bool:
        """Whether all layers are trained; setting it freezes them all, or frees them."""
        return all(layer.trainable for layer in self.layers)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = bool(value)

    def build(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Build all layers for inputs of a shape.

        Parameters
        ----------
        input_shape : tuple
            As Keras': with the batch axis, ``(None, 28, 28, 1)``.

        Raises
        ------
        ShapeError
            If a layer cannot take what comes before it; nothing is built then.
        """
        if input_shape is None:
            if not self.built:
                raise StateError("build needs the shape of the inputs, such as (None, 28, 28, 1).")
            return
        if not isinstance(input_shape, Sequence) or isinstance(input_shape, str):
            raise ShapeError(f"build got the shape {input_shape!r}; expected one with the batch axis, such as "
                             f"(None, 28, 28, 1).")
        shape: Any = tuple(input_shape)[1:]
        if self.built:
            if shape != self._input_shape:
                raise StateError(f"The model is built for inputs of shape {self._input_shape}, not {shape}; make a "
                                 f"new one.")
            return
        self.compute_output_shape(shape)  # all shapes first, so that a misfit builds nothing
        try:
            after = shape
            for layer in self.layers:
                layer.build(after)
                after = layer.output_shape
        except BaseException:
            for layer in self.layers:
                layer.unbuild()
            raise
        self._input_shape = shape

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output for the shape of one input, without the batch axis, and build nothing."""
        shape = input_shape
        for layer in self.layers:
            shape = layer.compute_output_shape(layer.check_shape(shape))
        return shape

    @property
    def built(self) -> bool:
        """Whether all shapes and weights are settled."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def input_shape(self) -> tuple[int | None, ...] | None:
        """Shape of the inputs as Keras writes it, ``(None, H, W, C)``; None before the model is built."""
        return None if self._input_shape is None else (None, *self._input_shape)

    @property
    def output_shape(self) -> tuple[int | None, ...] | None:
        """Shape of the outputs, ``(None, K)``; None before the model is built."""
        shape = self._shape_after_last() if self.layers else self._input_shape
        return None if shape is None else (None, *shape)

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """Return a layer by its name or its place."""
        if index is not None:
            if not -len(self.layers) <= index < len(self.layers):
                raise ArgumentError(f"There is no layer {index}; the model has {len(self.layers)}; "
                                    f"expected a number from {-len(self.layers)} to {len(self.layers) - 1}.")
            return self.layers[index]
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise ArgumentError(f"There is no layer {name!r}. {suggest(name, [layer.name for layer in self.layers])}")

    # -- forward and backward ----------------------------------------------------------------------------------------

    @one_at_a_time
    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the output of the last layer for a batch (N, ...)."""
        x = np.asarray(x)
        self._build_for(x)
        plan = None if training else self._current_plan()
        if plan is not None:
            return plan.forward(x, training=False)
        for layer in self.layers:
            x = layer.forward(x, training)
        return x

    @one_at_a_time
    def backward(self, dout: np.ndarray, need_dx: bool = True) -> np.ndarray | None:
        """Carry the gradient of the output back through all layers.

        Parameters
        ----------
        dout : ndarray
            Of the shape of the output of the last training forward.
        need_dx : bool
            Whether the gradient of the model's input is wanted. If not, the way back ends at the first layer with
            parameters.

        Returns
        -------
        ndarray or None
            Gradient of the input; the parameters' gradients are in each layer's ``grads``.
        """
        first = 0 if need_dx else first_trained(self.layers)
        for i in range(len(self.layers) - 1, first - 1, -1):
            dout = self.layers[i].backward_checked(dout, need_dx or i > first)
        return dout if need_dx else None

    def __call__(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Return the output for one batch as it is, without cutting it up as ``predict`` does."""
        return self.forward(x, training)

    def predict_on_batch(self, x: np.ndarray) -> np.ndarray:
        """Return the output for one batch."""
        return self.forward(x)

    # -- what one sees of it -----------------------------------------------------------------------------------------

    def summary(self, print_fn: Callable[[str], Any] | None = None, algorithms: bool = False,
                **unsupported: Any) -> None:
        """Print Keras' table: layers, output shapes, exact parameter counts; with ``algorithms`` how Conv2D does it."""
        refuse_unsupported("summary", unsupported, {
            "line_length": (None,), "positions": (None,), "expand_nested": (False, True), "show_trainable": (False,),
            "layer_range": (None,)})
        encoding = "utf-8" if print_fn else output_encoding()
        (print_fn or print)(summary_table(self.name, self.layers, encoding, algorithms))

    # -- files -------------------------------------------------------------------------------------------------------

    @one_at_a_time
    def save(self, path: str | os.PathLike[str], overwrite: bool = True) -> None:
        """Write architecture, weights, and how the model is compiled to one file.

        Parameters
        ----------
        path : path-like
            Ends in ``.safetensors``, the format of the file. Keras' endings ``.keras`` and ``.h5`` are taken with a
            warning: the file is the same, and Keras cannot read it.
        overwrite : bool
            Whether a file of that name may be replaced.

        Raises
        ------
        ArgumentError
            For another ending, for a file that is there and may not be replaced, or if a layer's ``config`` does not
            tell how to make it.
        DataError
            If a weight is NaN or infinite: the file could not be read again, and an older one is kept.
        OSError
            If the file cannot be written; an older one is kept then.
        """
        self._require_built("save")
        model_file.check_name("save", path, overwrite)
        model_file.write(path, self)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _unique_name(self, layer: Layer) -> str:
        taken = {other.name for other in self.layers}
        if layer.name not in taken:
            return layer.name
        if not layer.has_default_name:
            raise ArgumentError(f"There is a layer {layer.name!r} already; give this one another name.")
        number = 1
        while f"{layer.name}_{number}" in taken:
            number += 1
        return f"{layer.name}_{number}"

    def _shape_after_last(self) -> Shape | None:
        return self.layers[-1].output_shape

    @one_at_a_time
    def _build_for(self, x: np.ndarray) -> None:
        if not self.layers:
            raise StateError("The model has no layers; add some first.")
        if not self.built:
            self.build((None, *x.shape[1:]))

    def _require_built(self, call: str) -> None:
        if not self.built:
            raise StateError(f"{call} was called on a model whose shapes are not known yet. Give the first layer an "
                             f"input_shape, or call model.build((None, 28, 28, 1)) with your own sizes.")


def load_model(path: str | os.PathLike[str], custom_layers: Mapping[str, type[Layer]] | None = None,
               compile: bool = True, custom_objects: Mapping[str, type[Layer]] | None = None) -> Sequential:
    """Read a model that ``Sequential.save`` wrote.

    Parameters
    ----------
    path : path-like
    custom_layers, custom_objects : mapping of str to class, optional
        Classes of your own layers by name (the second is Keras' word for it). Nothing is ever imported because a file
        names it.
    compile : bool
        Whether to compile the model as it was saved.

    Returns
    -------
    Sequential
        Compiled as it was saved (metrics, losses and optimizers of your own excepted).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is damaged, is no model file, its weights do not fit its architecture, or one of them is NaN,
        infinite or a negative variance.
    """
    return model_file.read(path, Sequential, {**LAYERS, **(custom_layers or {}), **(custom_objects or {})}, compile)


def save_model(model: Sequential, path: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Same as ``model.save``."""
    model.save(path, overwrite)
