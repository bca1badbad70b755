"""The Layer contract: what the model, the gradient check and saving may expect of every layer.

A layer of one's own is one file with this class as base: ``build`` creates parameters, ``forward`` computes and keeps
what ``backward`` needs, ``backward`` assigns ``grads`` and returns the gradient of its input.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from minicnn import initializers
from minicnn.errors import ArgumentError, DataError, ShapeError, StateError, refuse_unsupported
from minicnn.streams import generator

Shape = tuple[int, ...]
MOST_BYTES = 2**35  # of one weight: more is a slip of the keyboard, and would be tried
Given = Callable[[str, Shape, str], np.ndarray]  # key, shape and dtype of a weight to the array it is to be


class Layer:
    """Base of all layers.

    Parameters
    ----------
    name : str, optional
        Unique within a model; by default the class name in lower case, numbered by the model.
    dtype : {"float32", "float64"}
        Of parameters and arithmetic, float32 unless given. Inputs are converted to it.
    input_shape : tuple of int, optional
        Shape of one input without the batch axis. On the first layer of a model it builds the model at once. For
        vectors ``input_dim=D`` says the same as ``input_shape=(D,)``.
    trainable : bool
        False freezes the parameters (and makes BatchNormalization use its moving averages).

    Attributes
    ----------
    params, grads, state : dict of str to ndarray
        Trainable parameters, their gradients after ``backward`` (same keys), and what is learned otherwise.
    input_shape, output_shape : tuple of int or None
        Without the batch axis; None before ``build``.
    seed, index : int
        The model's seed and the layer's place in it; initial weights and dropout masks follow from them.
    step : int or None
        Training step, set by the model. None: the layer counts its own training forwards.
    needs_input_gradient : bool
        The model clears it on its first layer, whose ``backward`` may then return None.
    """

    # Keras' arguments that are refused, each with the values that change nothing (the default first).
    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {}
    # The rank of one input; None accepts any.
    input_rank: ClassVar[int | None] = None

    def __init__(self, name: str | None = None, dtype: str | None = None, input_shape: Shape | None = None,
                 trainable: bool = True, **unsupported: Any) -> None:
        if (dim := unsupported.pop("input_dim", None)) is not None:
            input_shape = (dim,)
        refuse_unsupported(type(self).__name__, unsupported, self.unsupported)
        if dtype not in (None, "float32", "float64"):
            raise ArgumentError(f"{type(self).__name__} got dtype={dtype!r}; expected 'float32' or 'float64'.")
        self.name = name or snake_case(type(self).__name__)
        self.has_default_name = name is None
        self.dtype = dtype or "float32"
        self.trainable = bool(trainable)
        self.declared_input_shape = None if input_shape is None else self.check_shape(input_shape)
        self.input_shape: Shape | None = None
        self.output_shape: Shape | None = None
        self.params: dict[str, np.ndarray] = {}
        self.grads: dict[str, np.ndarray] = {}
        self.state: dict[str, np.ndarray] = {}
        self.seed = 0
        self.index = 0
        self.step: int | None = None
        self.needs_input_gradient = True
        self.given: Given | None = None  # makes the weights in place of their initializers, while a file is loaded
        self._training_forwards = 0
        self._kept: dict[str, Any] | None = None
        self._rows = self._kept_rows = 0

    # -- to be written by each layer ---------------------------------------------------------------------------------

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one output for the shape of one input; raise ShapeError if it does not fit."""
        return input_shape

    def build(self, input_shape: Shape) -> None:
        """Settle the shapes, once. Layers with parameters extend this and create them with ``add_param``.

        Parameters
        ----------
        input_shape : tuple of int
            Without the batch axis.

        Raises
        ------
        ShapeError
            If the layer cannot take such an input.
        StateError
            If it is built already.
        """
        if self.built:
            raise StateError(f"{self} is already built for inputs of shape {self.input_shape}; use a new layer.")
        shape = self.check_shape(input_shape)
        self.output_shape = self.compute_output_shape(shape)
        self.input_shape = shape

    def forward(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Compute the output of a batch; when training, keep what ``backward`` needs."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, dout: np.ndarray) -> np.ndarray:
        """Assign ``grads`` and return the gradient of the input of the last training forward."""
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments, in types JSON knows: ``type(layer)(**layer.config())`` is its twin."""
        shape = self.input_shape or self.declared_input_shape
        return {"name": self.name, "dtype": self.dtype, "trainable": self.trainable,
                "input_shape": None if shape is None else list(shape)}

    # -- tools for writing them --------------------------------------------------------------------------------------

    def add_param(self, key: str, shape: Shape, initializer: str | initializers.Initializer) -> None:
        """Create a trainable parameter; its values follow from the seed, the layer's index and ``key``."""
        self.params[key] = self._initial(key, shape, initializer)

    def add_state(self, key: str, shape: Shape, initializer: str | initializers.Initializer) -> None:
        """Create an array that is saved but not trained."""
        self.state[key] = self._initial(key, shape, initializer)

    def check_input(self, x: np.ndarray) -> np.ndarray:
        """Return ``x`` in the layer's dtype after comparing its shape; build the layer if it is not built yet."""
        x = np.asarray(x)
        if not self.built:
            self.build_whole(x.shape[1:])
        self.check_batch_shape(x.shape)
        self._rows = len(x)
        return x.astype(self.dtype, copy=False)

    def check_batch_shape(self, shape: Shape) -> None:
        """Raise ShapeError unless ``shape`` is that of a batch of inputs, with at least one."""
        if shape[1:] != self.input_shape or not shape or shape[0] == 0:
            expected = ", ".join(["N", *map(str, self.input_shape or ())])
            hint = "The batch is empty: give at least one." if 0 in shape else self._shape_hint(shape)
            raise ShapeError(f"{self} got an input of shape {shape}; expected ({expected}). {hint}")

    def check_gradient(self, dout: np.ndarray) -> np.ndarray:
        """Return ``dout`` in the layer's dtype after comparing its shape with the last training forward's output."""
        dout = np.asarray(dout)
        expected = (self._kept_rows, *(self.output_shape or ()))
        if dout.shape != expected:
            raise ShapeError(f"{self} got a gradient of shape {dout.shape} in backward; expected {expected}, the shape "
                             f"of its output. Correct what the layer after it returns.")
        return dout.astype(self.dtype, copy=False)

    def keep(self, training: bool, **arrays: Any) -> None:
        """Keep arrays for ``backward`` if training."""
        if training:
            self._kept, self._kept_rows = arrays, self._rows

    def kept(self, *names: str) -> Any:
        """Return what the last training forward kept: one value, or a list for several names.

        Raises
        ------
        StateError
            If there was no training forward.
        """
        if self._kept is None:
            raise StateError(f"{self}: backward was called before a training forward. "
                             f"Call forward(x, training=True) first.")
        values = [self._kept[name] for name in names]
        return values[0] if len(values) == 1 else values

    def release(self) -> None:
        """Drop what was kept for ``backward``, so that its memory can be used again."""
        self._kept = None

    def next_step(self) -> int:
        """Return the number of this training forward: the model's step, or the layer's own count."""
        if self.step is not None:
            return self.step
        self._training_forwards += 1
        return self._training_forwards - 1

    # -- what every layer can do -------------------------------------------------------------------------------------

    def build_whole(self, input_shape: Shape) -> None:
        """Build, or leave the layer as it was: an initializer that fails must not leave it half built."""
        built = self.built
        try:
            self.build(input_shape)
        except BaseException:
            if not built:
                self.unbuild()
            raise

    def backward_checked(self, dout: np.ndarray, need_dx: bool) -> Any:
        """Call ``backward`` and return its result in the layer's dtype, or None unless ``need_dx``.

        Raises
        ------
        ShapeError
            If the gradient is not of the input's shape; the layers before would fail without saying why.
        """
        rows = len(dout)
        try:
            self.needs_input_gradient = need_dx
            dx = self.backward(dout)
        finally:
            self.needs_input_gradient = True  # for whoever calls the layer alone
        if not need_dx:
            return None
        expected = (rows, *(self.input_shape or ()))
        if np.shape(dx) != expected:
            raise ShapeError(f"The backward of {self} returned the shape {np.shape(dx)}; expected {expected}, the "
                             f"shape of its input.")
        return np.asarray(dx, dtype=self.dtype)

    def unbuild(self) -> None:
        """Forget shapes and weights."""
        self.input_shape = self.output_shape = None
        self.params, self.state, self.grads = {}, {}, {}
        self.release()

    @property
    def built(self) -> bool:
        """Whether shapes and parameters are settled."""
        return self.output_shape is not None

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """Parameters, then state: Keras' order."""
        return self.params | self.state

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of the weights, in Keras' order."""
        return [array.copy() for array in self.weights.values()]

    def set_weights(self, weights: Sequence[np.ndarray]) -> None:
        """Set the weights, in the order of ``get_weights``; ShapeError if one does not fit, and nothing is changed."""
        arrays = iter(check_weights(self.weights, weights))
        for own in (self.params, self.state):
            for key in own:
                own[key] = np.array(next(arrays), dtype=self.dtype, order="C")

    def count_params(self) -> int:
        """Return the number of trainable and other weights."""
        return sum(array.size for array in self.weights.values())

    def astype(self, dtype: str) -> Layer:
        """Convert parameters and state in place and compute in ``dtype`` from now on; return the layer."""
        self.dtype = str(np.dtype(dtype))
        self.params = {key: array.astype(dtype) for key, array in self.params.items()}
        self.state = {key: array.astype(dtype) for key, array in self.state.items()}
        self.grads = {}
        self.release()
        return self

    def __call__(self, x: np.ndarray, training: bool = False) -> np.ndarray:
        """Same as ``forward``."""
        return self.forward(x, training)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.name!r}"

    def _initial(self, key: str, shape: Shape, initializer: str | initializers.Initializer) -> np.ndarray:
        if self.given is not None:
            return self.given(key, shape, self.dtype)
        if (size := math.prod(shape) * np.dtype(self.dtype).itemsize) > MOST_BYTES:
            raise ShapeError(f"{self}: {key} of shape {shape} would take {size:.3g} bytes; expected at most "
                             f"{MOST_BYTES:.3g}. Take fewer units or filters, or smaller images.")
        rng = generator(self.seed, "initializer", self.index, key)
        values = np.ascontiguousarray(initializers.get(initializer)(shape, rng), dtype=self.dtype)
        if values.shape != shape:
            raise ShapeError(f"{self}: the initializer of {key} returned the shape {values.shape}; expected {shape}.")
        return values

    def check_shape(self, shape: Any) -> Shape:
        """Return the shape of one input as a tuple, or raise ShapeError if the layer cannot take it."""
        if not isinstance(shape, (tuple, list)) or not all(isinstance(size, (int, np.integer)) for size in shape):
            raise ShapeError(f"{self} got the input shape {shape!r}; expected a tuple of whole numbers without the "
                             f"batch axis, such as (28, 28, 1).")
        if not all(size > 0 for size in shape):
            raise ShapeError(f"{self} got the input shape {tuple(shape)}; every size must be at least 1.")
        if self.input_rank is not None and len(shape) != self.input_rank:
            axes = {1: "(D)", 3: "(H, W, C)"}[self.input_rank]
            raise ShapeError(f"{self} got one input of shape {tuple(shape)}; expected {axes}. "
                             f"{self._shape_hint((0, *shape))}")
        return tuple(int(size) for size in shape)

    def _shape_hint(self, shape: Shape) -> str:
        """Say what to do about a batch of the wrong shape."""
        target = self.input_shape
        if self.input_rank == 3 and len(shape) == 3 and (target is None or (*shape[1:], 1) == target):
            return "The channel axis is missing: use x[..., None]."
        if self.input_rank == 3 and len(shape) == 3 and target == shape:
            return "The batch axis is missing: use x[None]."
        if self.input_rank == 1 and len(shape) > 2:
            return "Put a Flatten layer before this one, or use x.reshape(len(x), -1)."
        if target is not None and shape == target:
            return "The batch axis is missing: use x[None]."
        return "Reshape the data, or build the model for this shape."


def snake_case(name: str) -> str:
    """Turn a class name into Keras' layer name: ``MaxPooling2D`` becomes ``max_pooling2d``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def check_weights(named: Mapping[str, np.ndarray], weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return new weights as arrays, if each can take the place of the one with a name.

    Raises
    ------
    ShapeError, DataError
        If their number, a shape, or a type is wrong.
    """
    if len(weights) != len(named):
        raise ShapeError(f"set_weights got {len(weights)} arrays; expected {len(named)}: {', '.join(named)}.")
    arrays = [np.asarray(new) for new in weights]
    for (name, old), new in zip(named.items(), arrays):
        if new.shape != old.shape:
            raise ShapeError(f"set_weights got the shape {new.shape} for {name}; expected {old.shape}.")
        if new.dtype.kind not in "fiub":
            raise DataError(f"set_weights got the type {new.dtype} for {name}; expected real numbers.")
    return arrays
