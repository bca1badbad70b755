"""A model as a file: its architecture as JSON, its weights, and how it is compiled, in the container of ``saving.py``.

Layers come from the dictionary the caller passes. Nothing is imported because a file names it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minicnn import losses, metrics, optimizers, saving
from minicnn.errors import FileFormatError, MinicnnError
from minicnn.layers import Layer


def write(path: str | os.PathLike[str], model: Any) -> None:
    """Write a built Sequential to a file; see ``Sequential.save``."""
    arrays = {f"weights/{name}": array for name, array in model.named_weights().items()}
    for name, slots in (model.optimizer.slots if model.optimizer else {}).items():
        arrays |= {f"optimizer/{name}/{slot}": array for slot, array in slots.items()}
    saving.write(path, arrays, {"architecture": _architecture(model), "training": _training(model)})


def read(path: str | os.PathLike[str], make: Callable[..., Any], known: Mapping[str, type[Layer]]) -> Any:
    """Read a Sequential from a file; see ``load_model``.

    Parameters
    ----------
    path : path-like
    make : callable
        ``make(name=, seed=)`` returns an empty Sequential.
    known : mapping of str to class
        The layers a file may have.
    """
    arrays, description = saving.read(path)
    try:
        model = _rebuild(description["architecture"], make, known)
        _assign(model, {name.removeprefix("weights/"): array for name, array in arrays.items()
                        if name.startswith("weights/")})
        if description["training"] is not None:
            _compile_as_saved(model, description["training"], arrays)
    except (KeyError, TypeError, AttributeError, MinicnnError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise FileFormatError(f"{os.fspath(path)} holds no model this minicnn can build: {reason}") from error
    return model


def _architecture(model: Any) -> dict[str, Any]:
    return {"class": "Sequential", "name": model.name, "seed": model.seed,
            "layers": [{"class": type(layer).__name__, "config": layer.config()} for layer in model.layers]}


def _training(model: Any) -> dict[str, Any] | None:
    if model.optimizer is None or model.loss is None:
        return None
    names = [name for name, metric in model.metrics if name == "accuracy" or metrics.METRICS.get(name) is metric]
    return {"optimizer": {"name": model.optimizer.name, "config": model.optimizer.config(),
                          "iterations": model.optimizer.iterations},
            "loss": {"name": model.loss.name, "config": model.loss.config()}, "metrics": names}


def _rebuild(architecture: Mapping[str, Any], make: Callable[..., Any], known: Mapping[str, type[Layer]]) -> Any:
    model = make(name=architecture["name"], seed=architecture["seed"])
    for entry in architecture["layers"]:
        if entry["class"] not in known:
            raise FileFormatError(f"it has a layer of the class {entry['class']!r}, which is unknown. If it is your "
                                  f"own, pass load_model(path, custom_layers={{{entry['class']!r}: YourClass}}).")
        config: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value
                                  for key, value in entry["config"].items()}
        model.add(known[entry["class"]](**config))
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
    optimizer.iterations = int(saved["iterations"])
    for name, array in arrays.items():
        if name.startswith("optimizer/"):
            weight, slot = name.removeprefix("optimizer/").rsplit("/", 1)
            optimizer.slots.setdefault(weight, {})[slot] = array
    model.compile(optimizer=optimizer, loss=loss, metrics=training["metrics"])
