"""A model as a file: its architecture as JSON, its weights, and how it is compiled, in the container of ``saving.py``.

Layers come from the dictionary the caller passes. Nothing is imported because a file names it.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minicnn import initializers, losses, metrics, optimizers, saving
from minicnn.errors import ArgumentError, FileFormatError, MinicnnError
from minicnn.layers import Layer

# What a layer gets from its model or its use, not from its constructor.
_NOT_CONFIG = {"seed", "index", "step", "has_default_name", "needs_input_gradient", "skip_activation",
               "declared_input_shape", "_training_forwards", "_rows", "_kept_rows"}


def write(path: str | os.PathLike[str], model: Any) -> None:
    """Write a built Sequential to a file; see ``Sequential.save``."""
    for layer in model.layers:
        _check_config(layer)
    arrays = {f"weights/{name}": array for name, array in model.named_weights().items()}
    for name, slots in (model.optimizer.slots if model.optimizer else {}).items():
        arrays |= {f"optimizer/{name}/{slot}": array for slot, array in slots.items()}
    saving.write(path, arrays, {"architecture": _architecture(model), "training": _training(model)})


def read(path: str | os.PathLike[str], make: Callable[..., Any], known: Mapping[str, type[Layer]],
         compiled: bool) -> Any:
    """Read a Sequential from a file; see ``load_model``.

    Parameters
    ----------
    path : path-like
    make : callable
        ``make(name=, seed=)`` returns an empty Sequential.
    known : mapping of str to class
        The layers a file may have.
    compiled : bool
        Whether to compile it as it was saved.
    """
    arrays, description = saving.read(path)
    try:
        model = _rebuild(description["architecture"], make, known)
        _assign(model, {name.removeprefix("weights/"): array for name, array in arrays.items()
                        if name.startswith("weights/")})
        if compiled and description["training"] is not None:
            _compile_as_saved(model, description["training"], arrays)
    except (KeyError, TypeError, AttributeError, MinicnnError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise FileFormatError(f"{os.fspath(path)} holds no model this minicnn can build: {reason}") from error
    return model


def _check_config(layer: Layer) -> None:
    """Make a twin from the layer's config and refuse a layer whose twin would be another."""
    try:
        twin = type(layer)(**_arguments(json.loads(json.dumps(layer.config()))))
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{layer} cannot be saved: its config() does not make its twin ({error}). Return every "
                            f"argument of the constructor from config(), in types JSON knows.") from error
    for name, value in vars(twin).items():
        own = getattr(layer, name)
        if name not in _NOT_CONFIG and isinstance(value, (bool, int, float, str, tuple)) and value != own:
            raise ArgumentError(f"{layer} cannot be saved: {name} is {own!r}, but {value!r} in a layer made from its "
                                f"config(). Return every argument of the constructor from config().")


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn a config from JSON into arguments. Initializers of one's own become zeros: the weights follow anyway."""
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in config.items()}
    for key, value in arguments.items():
        if key.endswith("_initializer") and value not in initializers.INITIALIZERS:
            arguments[key] = "zeros"
    return arguments


def _architecture(model: Any) -> dict[str, Any]:
    return {"class": "Sequential", "name": model.name, "seed": model.seed,
            "layers": [{"class": type(layer).__name__, "config": layer.config()} for layer in model.layers]}


def _training(model: Any) -> dict[str, Any] | None:
    if model.optimizer is None or model.loss is None:
        return None
    for own, known in ((model.optimizer, optimizers.OPTIMIZERS), (model.loss, losses.LOSSES)):
        if known.get(own.name) is not type(own):
            warnings.warn(f"{type(own).__name__} is a class of your own: the file keeps the network and its weights, "
                          f"not how it is compiled. Compile it again after loading.", UserWarning, stacklevel=4)
            return None
    names = [name for name, metric in model.metrics if name == "accuracy" or metrics.METRICS.get(name) is metric]
    return {"optimizer": {"name": model.optimizer.name, "config": model.optimizer.config(),
                          "iterations": model.optimizer.iterations},
            "updates": model.updates,
            "loss": {"name": model.loss.name, "config": model.loss.config()}, "metrics": names, "fuse": model.fuse}


def _rebuild(architecture: Mapping[str, Any], make: Callable[..., Any], known: Mapping[str, type[Layer]]) -> Any:
    model = make(name=architecture["name"], seed=architecture["seed"])
    for entry in architecture["layers"]:
        if entry["class"] not in known:
            raise FileFormatError(f"it has a layer of the class {entry['class']!r}, which is unknown. If it is your "
                                  f"own, pass load_model(path, custom_layers={{{entry['class']!r}: YourClass}}).")
        model.add(known[entry["class"]](**_arguments(entry["config"])))
    return model


def _assign(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    own = model.named_weights()
    if own.keys() != arrays.keys():
        raise FileFormatError(f"its weights do not fit its architecture: missing {sorted(own.keys() - arrays.keys())}, "
                              f"surplus {sorted(arrays.keys() - own.keys())}.")
    for name, array in own.items():
        found = arrays[name]
        if found.shape != array.shape or found.dtype != array.dtype:
            raise FileFormatError(f"the weight {name} is {found.dtype} {found.shape}; expected {array.dtype} "
                                  f"{array.shape}.")
        array[...] = found


def _compile_as_saved(model: Any, training: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    saved = training["optimizer"]
    optimizer = type(optimizers.get(saved["name"]))(**saved["config"])
    loss = type(losses.get(training["loss"]["name"]))(**training["loss"]["config"])
    optimizer.iterations, model.updates = int(saved["iterations"]), int(training["updates"])
    for name, array in arrays.items():
        if name.startswith("optimizer/"):
            weight, slot = name.removeprefix("optimizer/").rsplit("/", 1)
            optimizer.slots.setdefault(weight, {})[slot] = array
    model.compile(optimizer=optimizer, loss=loss, metrics=training["metrics"],
                  fuse=training.get("fuse", True))
