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

_WEIGHTS = "weights/"  # before the names of weights in a file
# Names that Keras' users give; the file is ours all the same.
_KERAS_ENDINGS = (".keras", ".h5", ".hdf5")

# What a layer gets from its model or its use, not from its constructor.
_NOT_CONFIG = {"seed", "index", "step", "has_default_name", "needs_input_gradient", "skip_activation",
               "declared_input_shape", "_training_forwards", "_rows", "_kept_rows"}


def check_name(call: str, path: str | os.PathLike[str], overwrite: bool = True, warn: bool = True) -> None:
    """Check the path a file is to be written to.

    Parameters
    ----------
    call : str
        Named in messages.
    path : path-like
    overwrite : bool
        Whether a file of that name may be replaced.
    warn : bool
        Whether to warn of an ending of Keras'.

    Raises
    ------
    ArgumentError
        If the path has an ending of another format, or the file is there and may not be replaced.
    """
    name = os.fspath(path)
    if not name.endswith((".safetensors", *_KERAS_ENDINGS)):
        raise ArgumentError(f"{call} got the path {name!r}; expected one that ends in .safetensors, the format of the "
                            f"file.")
    if not overwrite and os.path.exists(path):
        raise ArgumentError(f"{call} got overwrite=False, and {name} exists. Choose another name.")
    if warn and name.endswith(_KERAS_ENDINGS):
        ending = name[name.rindex("."):]  # without the rest, so that checkpoints do not warn about every file
        warnings.warn(f"{call} got a path that ends in {ending}. The file is one of minicnn, in the format "
                      f"safetensors, and Keras cannot read it; a name that ends in .safetensors says so.", UserWarning,
                      stacklevel=4)


def write(path: str | os.PathLike[str], model: Any) -> None:
    """Write a built Sequential to a file; see ``Sequential.save``."""
    for layer in model.layers:
        _check_config(layer)
    arrays = _weights(model)
    for name, slots in (model.optimizer.slots if model.optimizer else {}).items():
        arrays |= {f"optimizer/{name}/{slot}": array for slot, array in slots.items()}
    saving.write(path, arrays, {"architecture": _architecture(model), "training": _training(model)})


def write_weights(path: str | os.PathLike[str], model: Any) -> None:
    """Write the weights of a built Sequential to a file; see ``Weights.save_weights``."""
    saving.write(path, _weights(model), {"architecture": None})


def read_weights(path: str | os.PathLike[str], model: Any) -> None:
    """Give a built Sequential the weights of a file; see ``Weights.load_weights``."""
    arrays, _ = saving.read(path)
    try:
        _assign(model, arrays)
    except FileFormatError as error:
        raise FileFormatError(f"{os.fspath(path)} does not hold the weights of this model: {error}") from None


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
        if description["architecture"] is None:
            raise FileFormatError("it holds weights alone. Build the network and call its load_weights(path).")
        model = _rebuild(description["architecture"], make, known)
        _assign(model, arrays)
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
    kept = [kept for name, metric in model.metrics if (kept := metrics.identifier_of(name, metric)) is not None]
    return {"optimizer": {"name": model.optimizer.name, "config": model.optimizer.config(),
                          "iterations": model.optimizer.iterations},
            "updates": model.updates,
            "loss": {"name": model.loss.name, "config": model.loss.config()}, "metrics": kept, "fuse": model.fuse}


def _rebuild(architecture: Mapping[str, Any], make: Callable[..., Any], known: Mapping[str, type[Layer]]) -> Any:
    model = make(name=architecture["name"], seed=architecture["seed"])
    for entry in architecture["layers"]:
        if entry["class"] not in known:
            raise FileFormatError(f"it has a layer of the class {entry['class']!r}, which is unknown. If it is your "
                                  f"own, pass load_model(path, custom_layers={{{entry['class']!r}: YourClass}}).")
        model.add(known[entry["class"]](**_arguments(entry["config"])))
    return model


def _weights(model: Any) -> dict[str, np.ndarray]:
    return {_WEIGHTS + name: array for name, array in model.named_weights().items()}


def _assign(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Copy the weights among a file's arrays into those of a model, or raise FileFormatError and change none."""
    own = model.named_weights()
    found = {name.removeprefix(_WEIGHTS): array for name, array in arrays.items() if name.startswith(_WEIGHTS)}
    if own.keys() != found.keys():
        raise FileFormatError(f"its weights do not fit its architecture: missing {sorted(own.keys() - found.keys())}, "
                              f"surplus {sorted(found.keys() - own.keys())}.")
    for name, array in own.items():
        if found[name].shape != array.shape or found[name].dtype != array.dtype:
            raise FileFormatError(f"the weight {name} is {found[name].dtype} {found[name].shape}; expected "
                                  f"{array.dtype} {array.shape}.")
    for name, array in own.items():
        array[...] = found[name]


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
